"""A target on the page: its table, sortable, with its legend and footnotes, and its figures."""

from __future__ import annotations

import re

from harness.contracts.target import Target
from reports.figures import all_figures
from reports.page.widgets import Grid, GridCell, GridColumn, Picture, Section, figure, table
from reports.tables.summary import Summary, summarise
from reports.tables.view import CellView, TableView, build
from results.run.results import Results


def target_section(results: Results, target: Target, min_coverage: float) -> Section:
    """Table and figures of one target. Raises as ``reports.tables.summary.summarise`` does."""
    if target.layout == "settings":
        from reports.tables.hyperparameters import settings_view

        view = settings_view(target, results.run)
        return Section(view.label, table(grid_of(view)))
    summary = summarise(results, target, min_coverage)
    view = build(summary, results.run)
    html = table(grid_of(view))
    for picture in pictures(summary, results, view):
        html += figure(picture)
    return Section(view.label, html)


FIGURES = {
    "": "values with 95% intervals",
    "-length": "score against mean answer length",
    "-cost": "score against training cost",
    "-categories": "categories",
    "-training": "training curves",
}
"""What stands below a figure, by the end of its file name."""


def pictures(summary: Summary, results: Results, view: TableView) -> list[Picture]:
    """The target's figures, in the order in which they are written."""
    made = []
    for name, svg in all_figures(summary, results, ["svg"]).items():
        ending = name.removesuffix(".svg")
        kind, _, benchmark = ending.partition("-categories-")
        what = f"{FIGURES['-categories']}, {benchmark}" if benchmark else FIGURES[kind]
        made.append(Picture(f"{view.label}: {what}", svg, f"{view.title} Figure: {what}."))
    return made


def grid_of(view: TableView) -> Grid:
    """A laid-out table for the page. Cells are sorted by their value; the smallest detectable changes stay below."""
    head = GridColumn(f"{view.head} ({view.family})", numeric=False)
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
    if any(column.variance for column in view.columns):
        foot.append((GridCell("Variance"), *(GridCell(column.variance or "-") for column in view.columns)))
    notes = [("", line) for line in view.legend] + list(view.footnotes)
    return Grid(view.title, (head, *columns), tuple(rows), tuple(foot), tuple(notes))


def _cell(cell: CellView) -> GridCell:
    tone = ("good" if cell.rises else "bad") if cell.significant else ""
    change = f"{cell.change}{cell.signs}"
    below = tuple(part for part in (cell.interval, *cell.extra) if part)
    return GridCell(cell.value, change, below, number(cell.value), cell.best, tone, _marks(cell.marks))


def number(text: str) -> float | None:
    """The number that a cell prints, or ``None`` (``n/a``, ``refused:``)."""
    return float(text) if re.fullmatch(r"[-+]?\d+(\.\d+)?", text) else None


def _marks(marks: tuple[str, ...]) -> str:
    return ",".join(marks)
