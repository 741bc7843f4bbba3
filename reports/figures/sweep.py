"""Curves: a panel per metric, a line per method, with 95% intervals. Grey line and band: the reference row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reports.figures.style import DASHED, canvas, dress, headed, look, margins, mark
from reports.tables.score_table import metric_title
from reports.tables.summary import CellSummary, ColumnSummary, Summary
from reports.text import clean
from results.run.record import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHIFT: Final = 0.012  # share of the x range by which lines are moved apart, to tell their intervals apart


@dataclass(frozen=True)
class SweepCurve:
    series: str  # row id
    title: str
    points: tuple[tuple[float, CellSummary], ...]  # rising in x; only those that have a value


def curves(summary: Summary, run: Run, column: ColumnSummary) -> list[SweepCurve]:
    """The lines of one metric, in the target's order. Rows without a value are left out of their line."""
    points = summary.target.points
    titles = {row.id: row.title for row in run.rows}
    lines = []
    for series in dict.fromkeys(point.series for point in points.values()):
        places = [(points[row.id].x, row.id) for row in summary.rows if row.id in points]
        rows = sorted(place for place in places if points[place[1]].series == series)
        cells = [(x, summary.cells[row, column.metric.id]) for x, row in rows]
        valued = tuple((x, cell) for x, cell in cells if cell.value is not None)
        if valued:
            # the titles of a line's points share all before the comma
            title = titles.get(series) or titles[rows[0][1]].partition(",")[0]
            lines.append(SweepCurve(series, clean(title), valued))
    return lines


def sweeps(summary: Summary, run: Run) -> Figure:
    count = max(1, len(summary.columns))
    figure, axes = canvas(1.2 + 4.6 * count, 4.1, count)
    for axis, column in zip(axes, summary.columns, strict=False):
        _panel(axis, summary, column, curves(summary, run, column))
    seeds = ", ".join(map(str, run.seeds))
    over = "questions" if len(run.seeds) == 1 else "seeds and questions"
    apart = "; lines set apart sideways" if len({point.series for point in summary.target.points.values()}) > 1 else ""
    note = f"Bars and band: 95% intervals over {over} (seeds: {seeds}){apart}."
    headed(figure, summary, run, summary.target.title, note)
    margins(figure, 0.65, 0.15, 0.82, 0.8)
    return figure


def _panel(axis: Axes, summary: Summary, column: ColumnSummary, lines: list[SweepCurve]) -> None:
    dress(axis, f"{clean(column.metric.group)} {metric_title(column.metric)}", summary.target.axis)
    places = sorted({x for line in lines for x, _ in line.points})
    if not places:
        axis.text(0.5, 0.5, "no score", ha="center", va="center", transform=axis.transAxes, color="#777777")
        return
    reference = summary.cells.get((summary.target.reference, column.metric.id))
    if reference is not None and reference.value is not None:
        label = clean(reference.row.title)
        axis.axhline(reference.value, color="#555555", linewidth=1.0, linestyle=DASHED, label=label, zorder=1)
        if reference.low is not None and reference.high is not None:
            axis.axhspan(reference.low, reference.high, color="#999999", alpha=0.15, linewidth=0, zorder=0)
    width = (places[-1] - places[0]) or 1.0
    for number, line in enumerate(lines):
        # lines at the same x would hide each other's intervals
        shift = (number - (len(lines) - 1) / 2) * _SHIFT * width
        x, y = [place + shift for place, _ in line.points], [cell.value or 0.0 for _, cell in line.points]
        seen = look(line.series)
        pen = mark(line.series) | {"markersize": 6, "linestyle": seen.line}
        axis.plot(x, y, color=seen.colour, label=line.title, zorder=3, **pen)
        for place, (_, cell) in zip(x, line.points, strict=True):
            if cell.low is not None and cell.high is not None:
                ends = [cell.low, cell.high]
                axis.plot([place, place], ends, "_-", color=seen.colour, linewidth=1.0, markersize=6, zorder=2)
    axis.set_xticks(places, [f"{place:g}" for place in places])
    if len(lines) > 1 or reference is not None:
        axis.legend(fontsize=7.5, loc="best", handlelength=3.5, edgecolor="none", framealpha=0.8)
