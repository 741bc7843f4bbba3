"""A target on the page: its table, sortable, with its legend and footnotes, and its figures."""

from __future__ import annotations

import re

from reports.figures import bar_chart
from reports.html.parts import Grid, GridCell, GridColumn, Picture, Section, figure, table
from reports.layout import CellView, TableView, build
from reports.summary import Summary, summarise
from reports.targets import Target
from results.frames import Results


def target_section(results: Results, target: Target, min_coverage: float) -> Section:
    """Table and figures of one target. Raises as ``reports.summary.summarise`` does."""
    summary = summarise(results, target, min_coverage)
    view = build(summary, results.run)
    html = table(grid_of(view))
    for picture in pictures(summary, results, view):
        html += figure(picture)
    return Section(view.label, html)


def pictures(summary: Summary, results: Results, view: TableView) -> list[Picture]:
    """The target's figures, in the order in which they are shown."""
    bars = bar_chart(summary, results.run, ["svg"])["svg"]
    said = f"Bar chart of {view.title} Its numbers are those of the table above."
    return [Picture(f"{view.label}: values with 95% intervals", bars, said)]


def grid_of(view: TableView) -> Grid:
    """A laid-out table for the page. Cells are sorted by their value; the smallest detectable changes stay below."""
    head = GridColumn(f"Method ({view.family})", numeric=False)
    columns = [GridColumn(each.title, each.group, mark=_marks(each.marks)) for each in view.columns]
    rows = [
        (
            GridCell(row.title, sort=row.title, tone="faint" if row.baseline else "", mark=_marks(row.marks)),
            *(_cell(cell) for cell in row.cells),
        )
        for row in view.rows
    ]
    foot = []
    if any(column.detectable for column in view.columns):
        foot = [(GridCell("Detectable"), *(GridCell(column.detectable or "-") for column in view.columns))]
    notes = [("", line) for line in view.legend] + list(view.footnotes)
    return Grid(view.title, (head, *columns), tuple(rows), tuple(foot), tuple(notes))


def _cell(cell: CellView) -> GridCell:
    tone = ("good" if cell.rises else "bad") if cell.significant else ""
    change = f"{cell.change}*" if cell.change and cell.significant else cell.change
    below = tuple(part for part in (cell.interval, *cell.extra) if part)
    return GridCell(cell.value, change, below, number(cell.value), cell.best, tone, _marks(cell.marks))


def number(text: str) -> float | None:
    """The number that a cell prints, or ``None`` (``n/a``, ``refused:``)."""
    return float(text) if re.fullmatch(r"[-+]?\d+(\.\d+)?", text) else None


def _marks(marks: tuple[str, ...]) -> str:
    return ",".join(marks)
