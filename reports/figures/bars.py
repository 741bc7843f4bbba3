"""A table's main figure, a panel per metric with 95% intervals: horizontal bars, or curves over the target's axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.text import clean
from reports.figures.style import (
    DASHED,
    TEXT_BOX,
    add_headings,
    canvas,
    explain_marks,
    label_axes,
    look,
    point_style,
    set_margins,
    shorten,
)
from reports.tables.score_table import metric_title
from reports.tables.summary import CellSummary, ColumnSummary, Summary
from results.run.record import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHIFT: Final = 0.012  # share of the x range by which lines are moved apart, to tell their intervals apart


def bars(summary: Summary, run: Run) -> Figure:
    """Dashed: the reference row. Diamond: the paper's value, if comparable. Without a value: ``n/a`` or ``refused``."""
    names = [shorten(row.title) for row in summary.rows]
    figure, axes = canvas(
        2.0 + 2.15 * len(summary.columns), 1.35 + 0.27 * len(names), len(summary.columns), sharey=True
    )
    for axis, column in zip(axes, summary.columns, strict=True):
        _panel(axis, summary, column)
    if axes:
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.4, -0.6)  # the first row on top, as in the table
    add_headings(figure, summary, run, summary.target.title, _marks(summary))
    # close to the width of 9-point text
    set_margins(figure, 0.25 + 0.075 * max(map(len, names), default=0), 0.04, 0.72, 0.48, wspace=0.08)
    return figure


def _marks(summary: Summary) -> str:
    """What each mark means, of those that the figure has."""
    cells, reference = list(summary.cells.values()), summary.target.reference
    texts = {
        "Lines: 95% intervals.": any(cell.low is not None for cell in cells if cell.value is not None),
        f"Dashed: {shorten(summary.title(reference))}.": any(
            cell.value is not None for cell in cells if cell.row.id == reference
        ),
        "*: significantly different from it (Holm-adjusted p < 0.05).": any(c.change.significant for c in cells),
        "Bold: best.": any(cell.best for cell in cells),
        "Diamonds: the paper. Numbers: ours.": any(_papers(summary, column) for column in summary.columns),
    }
    return explain_marks(texts)


def _papers(summary: Summary, column: ColumnSummary) -> dict[str, float]:
    """Published values that can be compared, by row."""
    cells = summary.column(column.metric.id)
    return {cell.row.id: cell.paper.value for cell in cells if cell.paper and not cell.paper.reasons}


def _panel(axis: Axes, summary: Summary, column: ColumnSummary) -> None:
    from matplotlib.ticker import MaxNLocator

    cells = summary.column(column.metric.id)
    papers = _papers(summary, column)
    # room for the interval's end and the paper's diamond, so that the number beside them is not cut
    tops = [cell.high or cell.value or 0.0 for cell in cells if cell.value is not None]
    reach = max([*tops, *papers.values()], default=1.0) or 1.0
    for place, cell in enumerate(cells):
        if cell.row.id == summary.target.reference and cell.value is not None:
            axis.axvline(cell.value, color="#555555", linewidth=0.9, linestyle=DASHED, zorder=2.5)
        if (paper := papers.get(cell.row.id)) is not None:
            axis.plot(paper, place, "D", markersize=4.5, color="white", markeredgecolor="black", zorder=6)
        if cell.value is None:
            text = "refused" if cell.refused else "n/a"
            axis.text(reach * 0.02, place, text, va="center", color="#777777", style="italic", fontsize=8)
            continue
        colour = look(cell.row.id).colour
        axis.barh(place, cell.value, height=0.72, color=colour, edgecolor="#333333", linewidth=0.5, zorder=2)
        if cell.low is not None and cell.high is not None:
            line = ([cell.low, cell.high], [place, place])
            axis.plot(*line, color="white", linewidth=2.6, zorder=3)  # keeps the line readable on dark bars
            axis.plot(*line, "|-", color="black", linewidth=1.1, markersize=5, zorder=4)
        # clear of the diamonds, whose values the numbers are not
        x = reach * 1.33 if papers else max(cell.value, cell.high or 0.0) + reach * 0.03
        axis.text(
            x, place, f"{cell.value:.{column.metric.digits}f}{'*' if cell.change.significant else ''}",
            ha="right" if papers else "left", va="center", fontsize=8, weight="bold" if cell.best else "normal",
            bbox=TEXT_BOX, zorder=5,
        )  # fmt: skip
    axis.set_xlim(min(0.0, *(cell.low or 0.0 for cell in cells)), reach * 1.34)
    axis.set_title(f"{shorten(column.metric.group)}\n{metric_title(column.metric)}", fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4))
    if not tops:  # no scale without a value
        axis.set_xticks([])
    elif column.metric.unit == "%":  # room for numbers beyond 100, but no such percentage; nor a tick at the edge
        axis.set_xticks([tick for tick in axis.get_xticks() if 0 <= tick <= min(100, reach * 1.3)])
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.tick_params(axis="y", length=0)


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
        line = tuple((x, cell) for x, cell in cells if cell.value is not None)
        if line:
            # the titles of a line's points share all before the comma
            title = titles.get(series) or titles[rows[0][1]].partition(",")[0]
            lines.append(SweepCurve(series, clean(title), line))
    return lines


def sweeps(summary: Summary, run: Run) -> Figure:
    count = max(1, len(summary.columns))
    figure, axes = canvas(1.2 + 4.6 * count, 4.1, count)
    for axis, column in zip(axes, summary.columns, strict=False):
        _curves_panel(axis, summary, column, curves(summary, run, column))
    seeds = ", ".join(map(str, run.seeds))
    units = "questions" if len(run.seeds) == 1 else "seeds and questions"
    apart = "; lines set apart sideways" if len({point.series for point in summary.target.points.values()}) > 1 else ""
    reference = [summary.cells.get((summary.target.reference, column.metric.id)) for column in summary.columns]
    band = " and band" if any(cell is not None and cell.low is not None for cell in reference) else ""
    note = f"Bars{band}: 95% intervals over {units} (seeds: {seeds}){apart}."
    add_headings(figure, summary, run, summary.target.title, note)
    set_margins(figure, 0.65, 0.15, 0.82, 0.8)
    return figure


def _curves_panel(axis: Axes, summary: Summary, column: ColumnSummary, lines: list[SweepCurve]) -> None:
    label_axes(axis, f"{clean(column.metric.group)} {metric_title(column.metric)}", summary.target.axis)
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
        row_look = look(line.series)
        pen = point_style(line.series) | {"markersize": 6, "linestyle": row_look.line}
        axis.plot(x, y, color=row_look.colour, label=line.title, zorder=3, **pen)
        for place, (_, cell) in zip(x, line.points, strict=True):
            if cell.low is not None and cell.high is not None:
                interval = [cell.low, cell.high]
                axis.plot([place, place], interval, "_-", color=row_look.colour, linewidth=1.0, markersize=6, zorder=2)
    axis.set_xticks(places, [f"{place:g}" for place in places])
    if len(lines) > 1 or reference is not None:
        axis.legend(fontsize=7.5, loc="best", handlelength=3.5, edgecolor="none", framealpha=0.8)
