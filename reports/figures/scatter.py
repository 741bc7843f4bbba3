"""Points: win rate against answer length, and the first column's score against what training took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.text import clean
from reports.figures.style import (
    DASHED,
    TEXT_BOX,
    add_headings,
    add_legend,
    canvas,
    explain_marks,
    label_axes,
    point_style,
    scatter,
    set_margins,
    shorten,
)
from reports.tables.score_table import metric_title
from reports.tables.summary import ColumnSummary, Summary
from results.run.record import Run
from results.run.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KEY = 1.75  # inches for the names on the right
_UNITS = (("seconds", 3600.0, 1 / 20), ("minutes", 60.0, 2.0), ("hours", 1.0, float("inf")))
"""Unit of the cost axis, how many of it make an hour, and up to how many hours it is used."""


def length_columns(summary: Summary) -> list[ColumnSummary]:
    return [
        column
        for column in summary.columns
        if any(cell.lengths is not None and cell.value is not None for cell in summary.column(column.metric.id))
    ]


def lengths(summary: Summary, run: Run) -> Figure:
    """Score against mean answer length: a judge that likes long answers shows as points on a rising line."""
    columns = length_columns(summary)
    figure, axes = canvas(0.9 + 3.3 * len(columns) + _KEY, 3.8, len(columns))
    rows, has_intervals = set(), False
    for axis, column in zip(axes, columns, strict=True):
        for cell in summary.column(column.metric.id):
            if cell.lengths is not None and cell.value is not None:
                scatter(axis, cell.row.id, cell.lengths[0], cell.value, (cell.low, cell.high))
                baseline = cell.lengths[1]
                has_intervals |= cell.low is not None
                rows.add(cell.row.id)
        axis.axvline(baseline, color="#555555", linewidth=0.9, linestyle=DASHED, zorder=1)
        label_axes(axis, _title(column), "Mean answer length, characters")
        axis.margins(x=0.12)
    add_legend(figure, [row for row in summary.rows if row.id in rows], point_style)
    marks = {"Lines: 95% intervals.": has_intervals, "Dashed: length of the baseline's answers.": True}
    add_headings(figure, summary, run, "score and answer length", explain_marks(marks))
    set_margins(figure, 0.65, _KEY, 0.82, 0.8, wspace=0.28)
    return figure


def _title(column: ColumnSummary) -> str:
    return f"{clean(column.metric.group)} {metric_title(column.metric)}"


def costs(summary: Summary, results: Results) -> Figure:
    """Score of the first column against measured training cost; the Pareto front is joined."""
    column, points = summary.columns[0], cost_points(summary, results)
    figure, (axis,) = canvas(6.2 + _KEY, 4.0)
    highest_cost = max(x for x, _ in points.values())
    unit, factor = next((name, size) for name, size, limit in _UNITS if highest_cost < limit)
    for cell in summary.column(column.metric.id):
        if cell.row.id in points:
            x, y = points[cell.row.id]
            scatter(axis, cell.row.id, x * factor, y, (cell.low, cell.high))
        elif cell.row.baseline and cell.value is not None:
            axis.axhline(cell.value, color="#777777", linewidth=0.9, linestyle=DASHED, zorder=1)
            # left of the points, where the Pareto line does not reach
            axis.text(
                0.005, cell.value, shorten(cell.row.title), transform=axis.get_yaxis_transform(), fontsize=8, ha="left",
                va="bottom", bbox=TEXT_BOX, zorder=2.2,
            )  # fmt: skip
    axis.set_xlim(0, highest_cost * factor * 1.1)
    best = [points[row] for row in front(points)]
    xs, ys = [x * factor for x, _ in best], [y for _, y in best]
    axis.step([*xs, axis.get_xlim()[1]], [*ys, ys[-1]], where="post", color="black", linewidth=1, zorder=1.5)
    axis.plot(xs, ys, linestyle="none", marker="o", markersize=13, color="none", markeredgecolor="black", zorder=2.5)
    label_axes(axis, _title(column), f"Measured wall time per student, {unit}")
    axis.margins(x=0.12)
    add_legend(figure, [row for row in summary.rows if row.id in points], point_style)
    kinds = sorted({kind for training in results.trainings.values() for kind in training.seconds})
    builds = ", ".join(sorted({training.torch for training in results.trainings.values() if training.torch}))
    has_intervals = any(cell.low is not None for cell in summary.column(column.metric.id) if cell.row.id in points)
    marks = {
        "Lines: 95% intervals.": has_intervals,
        f"Black line, rings: Pareto front. Wall time of the stages {', '.join(kinds)}\n"
        "behind one student, mean over seeds; a stage that several rows share counts in full for each;\n"
        "other work on the machine counts too.": True,
        f"torch {builds}.": bool(builds),
    }
    add_headings(figure, summary, results.run, "score and training cost", explain_marks(marks))
    set_margins(figure, 0.65, _KEY, 0.62, 1.1)
    return figure


def cost_points(summary: Summary, results: Results) -> dict[str, tuple[float, float]]:
    """Row to hours (mean over seeds) and score in the first column; empty without costs."""
    points: dict[str, tuple[float, float]] = {}
    hours_by_row: dict[str, list[float]] = {}
    for (row, _), training in results.trainings.items():
        if training.complete:
            hours_by_row.setdefault(row, []).append(training.hours)
    for cell in summary.column(summary.columns[0].metric.id) if summary.columns else ():
        hours = hours_by_row.get(cell.row.id)
        if hours and cell.value is not None:
            points[cell.row.id] = (sum(hours) / len(hours), cell.value)
    return points


def front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Rows that no other row beats in both: none costs at most as much and scores higher. By rising cost."""
    front_rows: list[str] = []
    for row in sorted(points, key=lambda row: (points[row][0], -points[row][1])):
        if not front_rows or points[row][1] > points[front_rows[-1]][1]:
            front_rows.append(row)
    return front_rows
