"""Horizontal bars with 95% intervals, one panel per metric: what a table shows, at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reports.figures.palette import colour
from reports.figures.style import CLEAR, headed, margins, short
from reports.tables.score_table import metric_title
from reports.tables.summary import ColumnSummary, Summary
from reports.text import clean
from results.run.record import RowSpec, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def bars(summary: Summary, run: Run) -> Figure:
    """A dashed line marks the reference row through every panel, a diamond the paper's value where it can be compared.

    Cells without a value say ``n/a`` or ``refused``.
    """
    from matplotlib.figure import Figure

    wide, tall = 2.0 + 2.15 * len(summary.columns), 1.35 + 0.27 * len(summary.rows)
    figure = Figure(figsize=(wide, tall))
    if summary.columns and summary.rows:
        axes = figure.subplots(1, len(summary.columns), sharey=True, squeeze=False)[0]
        for axis, column in zip(axes, summary.columns, strict=True):
            _panel(axis, summary, column)
        _names(axes[0], summary.rows)
    reference = short(summary.title(summary.target.reference))
    note = f"Lines: 95% intervals. Dashed: {reference}. *: significantly different from it (Holm-adjusted p < 0.05)."
    if any(_papers(summary, column) for column in summary.columns):
        note += " Diamonds: the paper. Numbers: ours."
    headed(figure, summary, run, summary.target.title, note)
    longest = max((len(short(row.title)) for row in summary.rows), default=0)
    margins(figure, 0.25 + 0.075 * longest, 0.04, 0.72, 0.48, wspace=0.08)  # close to the width of 9-point text
    return figure


def _papers(summary: Summary, column: ColumnSummary) -> dict[str, float]:
    """Published values that can be compared, by row."""
    papers = {}
    for row in summary.rows:
        paper = summary.cells[row.id, column.metric.id].published
        if paper is not None and not paper.why:
            papers[row.id] = paper.value
    return papers


def _panel(axis: Axes, summary: Summary, column: ColumnSummary) -> None:
    cells = [summary.cells[row.id, column.metric.id] for row in summary.rows]
    papers = _papers(summary, column)
    # room for the interval's end and the paper's diamond, so that the number beside them is not cut
    tops = [cell.high or cell.value or 0.0 for cell in cells if cell.value is not None]
    reach = max([*tops, *papers.values()], default=1.0) or 1.0
    reference = summary.cells.get((summary.target.reference, column.metric.id))
    if reference is not None and reference.value is not None:
        axis.axvline(reference.value, color="#555555", linewidth=0.9, linestyle=(0, (4, 3)), zorder=2.5)
    for place, cell in enumerate(cells):
        if cell.row.id in papers:
            axis.plot(papers[cell.row.id], place, "D", markersize=4.5, color="white", markeredgecolor="black", zorder=6)
        if cell.value is None:
            words = "refused" if cell.refused else "n/a"
            axis.text(reach * 0.02, place, words, va="center", color="#777777", style="italic", fontsize=8)
            continue
        axis.barh(
            place, cell.value, height=0.72, color=colour(cell.row.id), edgecolor="#333333", linewidth=0.5, zorder=2
        )
        if cell.low is not None and cell.high is not None:
            ends = ([cell.low, cell.high], [place, place])
            axis.plot(*ends, color="white", linewidth=2.6, zorder=3)  # keeps the line readable on dark bars
            axis.plot(*ends, "|-", color="black", linewidth=1.1, markersize=5, zorder=4)
        label = f"{cell.value:.{column.metric.digits}f}{'*' if cell.change.significant else ''}"
        weight = "bold" if cell.best else "normal"
        axis.text(
            reach * 1.33 if papers else max(cell.value, cell.high or 0.0) + reach * 0.03,
            place,
            label,
            ha="right" if papers else "left",  # clear of the diamonds, whose values they are not
            va="center",
            fontsize=8,
            weight=weight,
            bbox=CLEAR,
            zorder=5,
        )
    axis.set_xlim(min(0.0, *(cell.low or 0.0 for cell in cells)), reach * 1.34)
    axis.set_title(f"{clean(column.metric.group)}\n{metric_title(column.metric)}", fontsize=9)
    axis.xaxis.set_major_locator(_ticks())
    if column.metric.unit == "%":  # room for numbers beyond 100, but no such percentage
        axis.set_xticks([tick for tick in axis.get_xticks() if 0 <= tick <= 100])
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.tick_params(axis="y", length=0)


def _ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4)


def _names(axis: Axes, rows: Sequence[RowSpec]) -> None:
    axis.set_yticks(range(len(rows)), [short(row.title) for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top, as in the table
