"""Points: win rate against answer length, and the first column's score against what training took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.figures.style import CLEAR, headed, key, margins, scatter, short
from reports.tables.score_table import metric_title
from reports.tables.summary import ColumnSummary, Summary
from reports.text import clean
from results.run.record import Run
from results.run.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KEY = 1.75  # inches for the names on the right
_UNITS = (("seconds", 3600.0, 1 / 20), ("minutes", 60.0, 2.0), ("hours", 1.0, float("inf")))
"""Unit of the cost axis, how many of it make an hour, and up to how many hours it is used."""
_SPREAD = 30.0
"""Costs that differ by more than this factor stand on a logarithmic axis."""


def length_columns(summary: Summary) -> list[ColumnSummary]:
    """The metrics that compare answers with a baseline's, and so have lengths."""
    return [column for column in summary.columns if _measured(summary, column)]


def lengths(summary: Summary, run: Run) -> Figure:
    """Score against mean answer length, a panel per metric that compares answers with a baseline's.

    A judge that likes long answers shows as points on a rising line.
    """
    from matplotlib.figure import Figure

    columns = length_columns(summary)
    figure = Figure(figsize=(0.9 + 3.3 * len(columns) + _KEY, 3.6))
    axes = figure.subplots(1, len(columns), squeeze=False)[0]
    for axis, column in zip(axes, columns, strict=True):
        for row in _measured(summary, column):
            cell = summary.cells[row, column.metric.id]
            if cell.lengths is not None and cell.value is not None:
                scatter(axis, row, cell.lengths[0], cell.value, (cell.low, cell.high))
                baseline = cell.lengths[1]
        axis.axvline(baseline, color="#555555", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        _dress(axis, "Mean answer length, characters", column)
    shown = {row for column in columns for row in _measured(summary, column)}
    key(figure, [row for row in summary.rows if row.id in shown], lines=False)
    note = "Lines: 95% intervals. Dashed: length of the baseline's answers."
    headed(figure, summary, run, "score and answer length", note)
    margins(figure, 0.65, _KEY, 0.62, 0.8, wspace=0.28)
    return figure


def _measured(summary: Summary, column: ColumnSummary) -> list[str]:
    """Rows whose answers were measured for this column, and scored."""
    cells = [summary.cells[row.id, column.metric.id] for row in summary.rows]
    return [cell.row.id for cell in cells if cell.lengths is not None and cell.value is not None]


def _dress(axis: Axes, below: str, column: ColumnSummary) -> None:
    axis.set_xlabel(below)
    axis.set_title(f"{clean(column.metric.group)} {metric_title(column.metric)}", fontsize=9, loc="left")
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.margins(x=0.12)


def costs(summary: Summary, results: Results) -> Figure:
    """Score of the first column against measured training cost; the Pareto front is joined."""
    from matplotlib.figure import Figure

    column, points = summary.columns[0], cost_points(summary, results)
    figure = Figure(figsize=(6.2 + _KEY, 4.0))
    axis = figure.subplots()
    most, least = max(x for x, _ in points.values()), min(x for x, _ in points.values())
    unit, factor = next((name, size) for name, size, limit in _UNITS if most < limit)
    for row in summary.rows:
        cell = summary.cells[row.id, column.metric.id]
        if row.id in points:
            scatter(axis, row.id, points[row.id][0] * factor, points[row.id][1], (cell.low, cell.high))
        elif row.baseline and cell.value is not None:
            axis.axhline(cell.value, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
            name = short(row.title)
            place = axis.get_yaxis_transform()  # left of the points, where the Pareto line does not reach
            axis.text(
                0.005, cell.value, name, transform=place, fontsize=8, ha="left", va="bottom", bbox=CLEAR, zorder=2.2
            )
    # one method that samples n times as much would squeeze all others into a corner
    if least > 0 and most / least > _SPREAD:
        axis.set_xscale("log")
    else:
        axis.set_xlim(0, most * factor * 1.1)
    best = [points[row] for row in front(points)]
    steps = [x * factor for x, _ in best], [y for _, y in best]
    axis.step(
        [*steps[0], axis.get_xlim()[1]], [*steps[1], steps[1][-1]], where="post", color="black", linewidth=1, zorder=1.5
    )
    axis.plot(*steps, linestyle="none", marker="o", markersize=13, color="none", markeredgecolor="black", zorder=2.5)
    _dress(axis, f"Measured wall time per student, {unit}", column)
    key(figure, [row for row in summary.rows if row.id in points], lines=False)
    headed(figure, summary, results.run, "score and training cost", _cost_note(results))
    margins(figure, 0.65, _KEY, 0.62, 1.1)
    return figure


def cost_points(summary: Summary, results: Results) -> dict[str, tuple[float, float]]:
    """Row to hours (mean over seeds) and score in the first column; empty without costs."""
    points: dict[str, tuple[float, float]] = {}
    for row in summary.rows if summary.columns else ():
        value = summary.cells[row.id, summary.columns[0].metric.id].value
        hours = [one.hours for (name, _), one in results.trained.items() if name == row.id and one.complete]
        if hours and value is not None:
            points[row.id] = (sum(hours) / len(hours), value)
    return points


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Rows that no other row beats in both: none costs at most as much and scores higher. By rising cost."""
    ordered = sorted(points, key=lambda row: (points[row][0], -points[row][1]))
    undominated: list[str] = []
    for row in ordered:
        if not undominated or points[row][1] > points[undominated[-1]][1]:
            undominated.append(row)
    return undominated


def _cost_note(results: Results) -> str:
    kinds = sorted({kind for one in results.trained.values() for kind in one.seconds})
    builds = ", ".join(sorted({one.torch for one in results.trained.values() if one.torch}))
    return (
        f"Lines: 95% intervals. Black line, rings: Pareto front. Wall time of the stages {', '.join(kinds)}\n"
        f"behind one student, mean over seeds; a stage that several rows share counts in full for each;\n"
        f"other work on the machine counts too. torch {builds}."
    )
