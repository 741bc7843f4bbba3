"""Training curves: a panel for each row's loss (losses share no scale), and one per quantity logged beside it."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from reports.figures.style import add_headings, add_legend, canvas, label_axes, look, set_margins, shorten
from reports.tables.summary import Summary
from results.run.record import RowSpec, section
from results.run.results import Results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS, _PANEL_WIDTH, _PANEL_HEIGHT = 4, 2.7, 1.75  # panels in a line, inches of a panel
_KEY = 1.9  # inches for the rows' names, beside all panels
NAMES: Mapping[str, str] = {
    "margin": "Reward margin, chosen - rejected",
    "divergence": "Ranking divergence, nats",
    "agreement": "Rankings in the teacher's order",
    "accuracy": "Pairs in the right order (tie: half)",
    "kl": "KL from the teacher, nats",
}
"""What is logged beside the loss, in the order of its panels; third parties' own logs follow under their own names."""
_FEW_POINTS = 8  # points of a curve, each of which gets a marker
_TINY = 1e-6  # share of its size by which a curve must move to be drawn as more than a level line
_NO_PANEL = frozenset({"chosen", "ties", "ce", "policy", "preference", "ranking", "sft"})
"""Logged too, and left out: a part of the loss that is shown, or a count."""


def logged_rows(summary: Summary, results: Results) -> list[RowSpec]:
    row_ids = {row for (row, _), training in results.trainings.items() if training.curve}
    return [row for row in summary.rows if row.id in row_ids]


def training_curves(summary: Summary, results: Results) -> Figure:
    rows = logged_rows(summary, results)
    frames = {row.id: frame for row in rows if not (frame := _frame(results, row.id, "loss")).empty}
    curve_rows = [row for row in rows if row.id in frames]
    panels = [(f"{shorten(row.title, 20)}: loss", {row.id: frames[row.id]}) for row in curve_rows]
    first_records = [record for training in results.trainings.values() for record in training.curve[:1]]
    quantities = dict.fromkeys(
        name for record in first_records for name in (*section(record, "logs"), *section(record, "terms"))
    )
    others = [name for name in quantities if name not in NAMES and name not in _NO_PANEL]
    for name in [*(name for name in NAMES if name in quantities), *others]:
        lines = {row.id: frame for row in curve_rows if not (frame := _frame(results, row.id, name)).empty}
        # a quantity that is the whole loss of its rows is shown already
        if any(not frame.equals(frames[row]) for row, frame in lines.items()):
            panels.append((NAMES.get(name, shorten(name)), lines))
    columns, panel_rows = min(_COLUMNS, len(panels)), ceil(len(panels) / _COLUMNS)
    right = _KEY if len(panels) > len(curve_rows) else 0.15
    figure, axes = canvas(
        0.45 + _PANEL_WIDTH * columns + right, 1.35 + (_PANEL_HEIGHT + 0.45) * panel_rows, columns, panel_rows
    )
    for axis, (title, lines) in zip(axes, panels, strict=False):
        for row, frame in lines.items():
            _draw(axis, row, frame)
        _scale(axis, title)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[max(0, len(panels) - _COLUMNS) : len(panels)]:
        axis.set_xlabel("optimiser step", fontsize=8)
    several_seeds = any(frame.shape[1] > 1 for frame in frames.values())
    thick = ["mean over seeds"] if several_seeds else []
    thick += ["smoothed over a twelfth of the steps"] if any(_window(frame) > 1 for frame in frames.values()) else []
    thin = "each seed, as it was logged" if several_seeds else "as it was logged"
    note = f"Thick: {', '.join(thick)}. Thin: {thin}." if thick else ""
    add_headings(figure, summary, results.run, "training curves", note)
    if len(panels) > len(curve_rows):  # beside the panels: names inside of one would hide its lines
        add_legend(figure, curve_rows, _pen)
    set_margins(figure, 0.55, right, 0.85, 0.72, hspace=0.5, wspace=0.3)
    return figure


def _frame(results: Results, row: str, name: str) -> pd.DataFrame:
    """One quantity of a row: a line per step that all its seeds made and logged, a column per seed."""
    import pandas as pd

    curves = {
        seed: {int(str(record["step"])): _value(record, name) for record in training.curve}
        for (trained_row, seed), training in sorted(results.trainings.items())
        if trained_row == row and training.curve
    }
    # seeds that stopped early would bend the mean where they drop out
    return pd.DataFrame(curves, dtype=float).dropna().sort_index()


def _value(record: Mapping[str, object], name: str) -> float | None:
    value = {**section(record, "terms"), **section(record, "logs"), **record}.get(name)
    return float(value) if isinstance(value, int | float) and abs(value) < float("inf") else None


def _draw(axis: Axes, row: str, frame: pd.DataFrame) -> None:
    steps = frame.index.to_numpy()
    marker = "o" if len(steps) <= _FEW_POINTS else None  # a line of one point has no length: nothing would be seen
    thin: dict[str, Any] = {"color": look(row).colour, "linewidth": 0.6, "alpha": 0.55, "markersize": 2}
    axis.plot(steps, frame.to_numpy(), zorder=1, marker=marker, **thin)
    thick = frame.mean(axis=1).rolling(_window(frame), center=True, min_periods=1).mean()
    axis.plot(steps, thick.to_numpy(), zorder=3, marker=marker, markersize=4, **_pen(row))


def _window(frame: pd.DataFrame) -> int:
    """Steps that are smoothed over: it grows with the run, so short curves keep their shape, long ones lose noise."""
    return 2 * (len(frame) // 24) + 1


def _pen(row: str) -> dict[str, Any]:
    """A row's line with a dark edge, so that pale colours show on white."""
    from matplotlib.patheffects import withStroke

    edge = withStroke(linewidth=2.8, foreground="#222222")
    return {"color": look(row).colour, "linewidth": 1.6, "linestyle": look(row).line, "path_effects": [edge]}


def _scale(axis: Axes, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    label_axes(axis, title)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.ticklabel_format(axis="y", useOffset=False)  # no text of matplotlib's own where the title stands
    low, high = axis.get_ylim()
    middle = (low + high) / 2
    if high - low < _TINY * max(1.0, abs(middle)):  # rounding alone: what is drawn is a constant
        half_range = max(0.1 * abs(middle), 0.01)
        axis.set_ylim(middle - half_range, middle + half_range)
    axis.tick_params(labelsize=7)
