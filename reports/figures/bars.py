"""Horizontal bars with 95% intervals, one panel per metric: what a table shows, at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.figures.style import CLEAR, DASHED, canvas, headed, look, margins, short
from reports.tables.score_table import metric_title
from reports.tables.summary import ColumnSummary, Summary
from reports.text import clean
from results.run.record import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def bars(summary: Summary, run: Run) -> Figure:
    """Dashed: the reference row. Diamond: the paper's value, if comparable. Without a value: ``n/a`` or ``refused``."""
    names = [short(row.title) for row in summary.rows]
    figure, axes = canvas(
        2.0 + 2.15 * len(summary.columns), 1.35 + 0.27 * len(names), len(summary.columns), sharey=True
    )
    for axis, column in zip(axes, summary.columns, strict=True):
        _panel(axis, summary, column)
    if axes:
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.4, -0.6)  # the first row on top, as in the table
    reference = short(summary.title(summary.target.reference))
    note = f"Lines: 95% intervals. Dashed: {reference}. *: significantly different from it (Holm-adjusted p < 0.05)."
    if any(_papers(summary, column) for column in summary.columns):
        note += " Diamonds: the paper. Numbers: ours."
    headed(figure, summary, run, summary.target.title, note)
    # close to the width of 9-point text
    margins(figure, 0.25 + 0.075 * max(map(len, names), default=0), 0.04, 0.72, 0.48, wspace=0.08)
    return figure


def _papers(summary: Summary, column: ColumnSummary) -> dict[str, float]:
    """Published values that can be compared, by row."""
    cells = summary.column(column.metric.id)
    return {cell.row.id: cell.published.value for cell in cells if cell.published and not cell.published.why}


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
            ends = ([cell.low, cell.high], [place, place])
            axis.plot(*ends, color="white", linewidth=2.6, zorder=3)  # keeps the line readable on dark bars
            axis.plot(*ends, "|-", color="black", linewidth=1.1, markersize=5, zorder=4)
        # clear of the diamonds, whose values the numbers are not
        x = reach * 1.33 if papers else max(cell.value, cell.high or 0.0) + reach * 0.03
        axis.text(
            x, place, f"{cell.value:.{column.metric.digits}f}{'*' if cell.change.significant else ''}",
            ha="right" if papers else "left", va="center", fontsize=8, weight="bold" if cell.best else "normal",
            bbox=CLEAR, zorder=5,
        )  # fmt: skip
    axis.set_xlim(min(0.0, *(cell.low or 0.0 for cell in cells)), reach * 1.34)
    axis.set_title(f"{clean(column.metric.group)}\n{metric_title(column.metric)}", fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4))
    if column.metric.unit == "%":  # room for numbers beyond 100, but no such percentage
        axis.set_xticks([tick for tick in axis.get_xticks() if 0 <= tick <= 100])
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.tick_params(axis="y", length=0)
