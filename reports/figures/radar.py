"""A radar per row over the categories of a benchmark that has them (MT-Bench): where a student gained.

One small radar per trained row, each over the untrained models' outlines, because ten outlines in one cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from reports.figures.palette import look
from reports.figures.style import headed, margins, short
from reports.tables.legend import clean
from reports.tables.summary import ColumnSummary, Summary
from results.run.record import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACROSS, _CIRCLE, _GAP, _TALL = 4, 1.6, 1.0, 2.6  # panels in a line; inches of each, between two, and of a line
_LEFT, _RIGHT = 0.55, 0.65  # inches for the names beside the outermost circles
_NARROWEST = 8.5  # inches: what title and note need, however few panels there are
_FEWEST = 3  # two categories are a line, not an outline


def radars(summary: Summary, run: Run, column: ColumnSummary) -> Figure | None:
    """``None`` where the column has no categories. All panels have the same scale, from 0 or 1 to the metric's top."""
    from matplotlib.figure import Figure

    cells = {row.id: summary.cells[row.id, column.metric.id] for row in summary.rows}
    shapes = {row: cell.categories for row, cell in cells.items() if cell.value is not None and cell.categories}
    names = list(next(iter(shapes.values()), {}))
    shown = [row for row in summary.rows if row.id in shapes and not row.baseline]
    if len(names) < _FEWEST or not shown:
        return None
    under = [row for row in summary.rows if row.id in shapes and row.baseline]
    lines = ceil(len(shown) / _ACROSS)
    across = min(_ACROSS, len(shown))
    wide = _LEFT + _RIGHT + across * (_CIRCLE + _GAP) - _GAP
    figure = Figure(figsize=(max(_NARROWEST, wide), 1.2 + _TALL * lines))
    axes = figure.subplots(lines, across, squeeze=False, subplot_kw={"projection": "polar"}).ravel()
    top = max(value for shape in shapes.values() for value in shape.values())
    for axis, row in zip(axes, shown, strict=False):
        for other in under:
            _outline(axis, shapes[other.id], names, other.id, fill=False)
        _outline(axis, shapes[row.id], names, row.id, fill=True)
        _dress(axis, names, top)
        axis.set_title(short(row.title, 24), fontsize=9, weight="bold", pad=18)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    known = {"student": "dashed", "teacher": "dotted"}
    outlines = ", ".join(f"{known.get(row.id, 'grey')}: {short(row.title)}" for row in under)
    title = f"{clean(column.metric.group)} by category"
    headed(figure, summary, run, title, f"Filled: the row named above. Outlines, {outlines}." if outlines else "")
    spare = (figure.get_figwidth() - wide) / 2  # few panels stand in the middle, at their usual size
    margins(figure, _LEFT + spare, _RIGHT + spare, 0.95, 0.5, hspace=0.42, wspace=_GAP / _CIRCLE)
    return figure


def _outline(axis: Any, shape: Mapping[str, float], names: list[str], row: str, fill: bool) -> None:
    from math import tau

    turns = [tau * index / len(names) for index in range(len(names) + 1)]
    values = [shape.get(name, 0.0) for name in [*names, names[0]]]
    seen = look(row)
    if fill:
        axis.fill(turns, values, color=seen.colour, alpha=0.45)
        axis.plot(turns, values, color="#222222", linewidth=1.0)
    else:
        axis.plot(turns, values, color="#555555", linewidth=1.1, linestyle=seen.line)


def _dress(axis: Any, names: list[str], top: float) -> None:
    from math import sin, tau

    axis.set_theta_offset(tau / 4)
    axis.set_theta_direction(-1)
    turns = [tau * index / len(names) for index in range(len(names))]
    axis.set_xticks(turns, [short(name, 12) for name in names])
    axis.tick_params(axis="x", labelsize=7, pad=-4)
    for turn, label in zip(turns, axis.get_xticklabels(), strict=True):  # names stand outside of the circle
        side = sin(turn)
        label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    axis.tick_params(axis="y", labelsize=6, colors="#666666")
    axis.set_ylim(0, top)
    axis.yaxis.set_major_locator(_rings())
    axis.grid(color="#cccccc", linewidth=0.5)
    axis.spines["polar"].set_color("#aaaaaa")


def _rings() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3, integer=True)
