"""Figures with curves: a score over alpha, over the number of responses, over iterations, with 95% intervals.

A panel per metric, a line per method with the colour, marker and dashes that it has in every figure
(``reports/figures/palette.py``), so that grey print is readable. The dashed grey line with its band is the reference
row, which does not depend on x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reports.figures.palette import look
from reports.figures.style import mark
from reports.tables.score_table import metric_title
from reports.tables.summary import CellSummary, ColumnSummary, Summary
from reports.text import clean
from results.run.record import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHIFT: Final = 0.012
"""Lines are moved apart by this share of the x range, so that their intervals can be told apart."""


@dataclass(frozen=True)
class SweepCurve:
    series: str
    """Row id."""
    title: str
    x: tuple[float, ...]
    cells: tuple[CellSummary, ...]
    """Rising in x; only those that have a value."""


def curves(summary: Summary, run: Run, column: ColumnSummary) -> list[SweepCurve]:
    """The lines of one metric, in the target's order. Rows without a value are left out of their line."""
    points = summary.target.points
    titles = {row.id: row.title for row in run.rows}
    found = []
    for series in dict.fromkeys(point.series for point in points.values()):
        own = [(points[row.id].x, row.id) for row in summary.rows if row.id in points]
        own = sorted(place for place in own if points[place[1]].series == series)
        cells = [(x, summary.cells[row, column.metric.id]) for x, row in own]
        cells = [(x, cell) for x, cell in cells if cell.value is not None]
        if cells:
            rows = [row for _, row in own]
            # the titles of a line's points share all before the comma
            title = titles.get(series) or titles[rows[0]].partition(",")[0]
            found.append(SweepCurve(series, clean(title), tuple(x for x, _ in cells), tuple(cell for _, cell in cells)))
    return found


def sweeps(summary: Summary, run: Run) -> Figure:
    """The figure. A panel without any value says so."""
    from matplotlib.figure import Figure

    count = max(1, len(summary.columns))
    figure = Figure(figsize=(1.2 + 4.6 * count, 3.9), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for axis, column in zip(axes, summary.columns, strict=False):
        _panel(axis, summary, column, curves(summary, run, column))
    figure.suptitle(_title(summary, run), x=0.01, ha="left", fontsize=10, weight="bold")
    figure.supxlabel(_note(summary, run), x=0.01, ha="left", fontsize=7.5, color="#444444")
    return figure


def _panel(axis: Axes, summary: Summary, column: ColumnSummary, lines: Sequence[SweepCurve]) -> None:
    metric = column.metric
    axis.set_title(f"{clean(metric.group)} {metric_title(metric)}", fontsize=9)
    axis.set_xlabel(summary.target.axis)
    axis.grid(color="#dddddd", linewidth=0.6)
    places = sorted({x for line in lines for x in line.x})
    if not places:
        axis.text(0.5, 0.5, "no score", ha="center", va="center", transform=axis.transAxes, color="#777777")
        return
    _reference(axis, summary, column)
    width = (places[-1] - places[0]) or 1.0
    for number, line in enumerate(lines):
        # lines at the same x would hide each other's intervals
        shift = (number - (len(lines) - 1) / 2) * _SHIFT * width
        x = [place + shift for place in line.x]
        y = [cell.value or 0.0 for cell in line.cells]
        seen = look(line.series)
        points = mark(line.series) | {"markersize": 6}
        axis.plot(x, y, color=seen.colour, linestyle=seen.line, label=line.title, zorder=3, **points)
        known = [(place, cell) for place, cell in zip(x, line.cells, strict=True) if cell.low is not None]
        for place, cell in known:
            ends = [cell.low or 0.0, cell.high or 0.0]
            axis.plot([place, place], ends, "_-", color=seen.colour, linewidth=1.0, markersize=6, zorder=2)
    axis.set_xticks(places, [f"{place:g}" for place in places])
    if len(lines) > 1 or (summary.target.reference, metric.id) in summary.cells:
        axis.legend(fontsize=7.5, loc="best", handlelength=3.5, edgecolor="none", framealpha=0.8)


def _reference(axis: Axes, summary: Summary, column: ColumnSummary) -> None:
    """The reference row: one model, whatever x is."""
    cell = summary.cells.get((summary.target.reference, column.metric.id))
    if cell is None or cell.value is None:
        return
    title = next((row.title for row in summary.rows if row.id == summary.target.reference), summary.target.reference)
    axis.axhline(cell.value, color="#555555", linewidth=1.0, linestyle=(0, (4, 3)), label=clean(title), zorder=1)
    if cell.low is not None and cell.high is not None:
        axis.axhspan(cell.low, cell.high, color="#999999", alpha=0.15, linewidth=0, zorder=0)


def _title(summary: Summary, run: Run) -> str:
    unfinished = "" if run.finished else " (UNFINISHED)"
    models = f"{clean(run.family.teacher)[:60]} teaches {clean(run.family.student)[:60]}"
    return f"{summary.target.label}: {summary.target.title}{unfinished}\n{models}"


def _note(summary: Summary, run: Run) -> str:
    seeds = ", ".join(map(str, run.seeds))
    over = "questions" if len(run.seeds) == 1 else "seeds and questions"
    apart = "; lines set apart sideways" if len({point.series for point in summary.target.points.values()}) > 1 else ""
    return f"Bars and band: 95% intervals over {over} (seeds: {seeds}){apart}."
