"""A comparison of judges as a section of the page: its figures, and its tables, which sort."""

from __future__ import annotations

from markupsafe import Markup

from reports.figures.style import drawn, styled
from reports.judge_comparison.compare import JudgeComparison
from reports.judge_comparison.figures import FIGURES
from reports.judge_comparison.tables import comparison_tables
from reports.page.widgets import Picture, Section, figure, table


def judges_section(comparison: JudgeComparison, target: str) -> Section:
    """``target``: whose answers were judged (``table1``), for the title."""
    parts = []
    with styled():
        for title, draw in FIGURES.values():
            if (made := draw(comparison)) is not None:
                picture = Picture(title, drawn(made, "svg"), f"{title}; the tables below have the numbers.")
                parts.append(figure(picture))
    return Section(
        f"Judges compared, {target}", Markup("\n").join([*parts, *map(table, comparison_tables(comparison))])
    )
