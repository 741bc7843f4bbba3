"""The text files of a table: the same on disk, on the page and where ``verify`` makes them again."""

from __future__ import annotations

from reports.formats.data import to_csv, to_json
from reports.formats.latex import latex
from reports.formats.markdown import markdown
from reports.tables.table import Table

TEXT_FORMATS = ("md", "tex", "csv", "json")


def table_texts(table: Table) -> dict[str, str]:
    """By ending: Markdown with all notes, LaTeX without."""
    return {"md": markdown(table, notes=True), "tex": latex(table), "csv": to_csv(table), "json": to_json(table)}
