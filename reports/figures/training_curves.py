"""Training curves: the loss of every row in a panel of its own (losses of different methods share no scale), and a
panel for each quantity that methods log beside it: reward margin, divergence from the teacher's ranking, ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from reports.figures.palette import look
from reports.figures.style import headed, margins, short
from reports.tables.summary import Summary
from results.run.record import RowSpec
from results.run.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_ACROSS, _WIDE, _TALL = 4, 2.7, 1.75  # panels in a line, inches of each
_KEY = 1.9  # inches for the rows' names, beside all panels
NAMES: Mapping[str, str] = {
    "margin": "Reward margin, chosen - rejected",
    "accuracy": "Pairs in the right order (tie: half)",
    "agreement": "Rankings in the teacher's order",
    "chosen": "Reward of the chosen answer",
    "divergence": "Ranking divergence, nats",
    "kl": "KL from the teacher, nats",
    "ce": "Cross-entropy, nats",
}
"""What is logged under a name, for people; other names are printed as they are."""
LOSSES: Mapping[str, str] = {"divergence": "JSD by default", "ce": "cross-entropy"}
"""What to call a loss that is one term, by the term's name."""
PANELS = ("margin", "divergence", "agreement", "accuracy", "kl")
"""What stands beside the losses, in this order, where a method of the run has it; third parties' own logs follow."""
_TINY = 1e-6
"""Share of its size by which a curve must move to be drawn as more than a level line."""
_PLAIN = frozenset({"chosen", "ties", "ce", "policy", "preference", "ranking", "sft"})
"""Logged too, and left out: a part of the loss that is shown, or a count."""


@dataclass(frozen=True)
class _Line:
    """One quantity of one row: steps, and its mean over seeds with each seed's own."""

    row: str
    steps: tuple[int, ...]
    seeds: tuple[tuple[float, ...], ...]

    @property
    def mean(self) -> list[float]:
        return [sum(values) / len(values) for values in zip(*self.seeds, strict=True)]


def losses(summary: Summary, results: Results) -> list[RowSpec]:
    """The rows of which a training curve is known."""
    logged = {row for (row, _), training in results.trained.items() if training.curve}
    return [row for row in summary.rows if row.id in logged]


def curves(summary: Summary, results: Results) -> Figure:
    """The figure, of at least one row with a training curve."""
    from matplotlib.figure import Figure

    rows = losses(summary, results)
    by_row = {row.id: line for row in rows if (line := _line(results, row.id, "loss")) is not None}
    others = {
        name: lines
        for name in _quantities(results)
        if (lines := _lines(results, rows, name)) and any(not _same(line, by_row[line.row]) for line in lines)
    }
    whole = {row: name for name in LOSSES for row, line in by_row.items() if _same(_line(results, row, name), line)}
    count = len(by_row) + len(others)
    across, down = min(_ACROSS, count), ceil(count / _ACROSS)
    key_width = _KEY if others else 0.15
    figure = Figure(figsize=(0.45 + _WIDE * across + key_width, 1.35 + (_TALL + 0.45) * down))
    axes = figure.subplots(down, across, squeeze=False).ravel()
    shown = [row for row in rows if row.id in by_row]
    for axis, row in zip(axes, shown, strict=False):
        _draw(axis, by_row[row.id])
        what = f"loss ({LOSSES[whole[row.id]]})" if row.id in whole else "loss"
        _dress(axis, f"{short(row.title, 20)}: {what}")
    for axis, (name, lines) in zip(axes[len(by_row) :], others.items(), strict=False):
        for line in lines:
            _draw(axis, line)
        _dress(axis, NAMES.get(name, short(name)))
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[max(0, count - _ACROSS) : count]:
        axis.set_xlabel("optimiser step", fontsize=8)
    note = "Thick: mean over seeds, smoothed over a twelfth of the steps. Thin: each seed, as it was logged."
    headed(figure, summary, results.run, "training curves", note)
    if others:  # beside the panels: names inside of one would hide its lines
        figure.legend(handles=_handles(shown), loc="center right", frameon=False, fontsize=8, handlelength=3.0)
    margins(figure, 0.55, key_width, 0.85, 0.72, hspace=0.5, wspace=0.3)
    return figure


def _same(line: _Line | None, loss: _Line) -> bool:
    """Whether a logged quantity is the whole loss: then the loss's panel bears its name."""
    return line is not None and line.seeds == loss.seeds


def _quantities(results: Results) -> list[str]:
    """Names of what is logged beside the loss, ours first."""
    logged: dict[str, None] = {}
    for training in results.trained.values():
        for record in training.curve[:1]:
            logged |= dict.fromkeys([*record.get("logs", {}), *record.get("terms", {})])
    return [*(name for name in PANELS if name in logged), *(n for n in logged if n not in PANELS and n not in _PLAIN)]


def _lines(results: Results, rows: Sequence[RowSpec], name: str) -> list[_Line]:
    return [line for row in rows if (line := _line(results, row.id, name)) is not None]


def _line(results: Results, row: str, name: str) -> _Line | None:
    """One quantity of a row over the steps that all its seeds made and logged."""
    curves = [one.curve for (own, _), one in sorted(results.trained.items()) if own == row and one.curve]
    values = [{int(record["step"]): _value(record, name) for record in curve} for curve in curves]
    known = [{step: value for step, value in one.items() if value is not None} for one in values]
    # seeds that stopped early would bend the mean where they drop out
    steps = sorted(set(known[0]).intersection(*known[1:])) if known else []
    if not steps:
        return None
    return _Line(row, tuple(steps), tuple(tuple(one[step] for step in steps) for one in known))


def _value(record: Mapping[str, object], name: str) -> float | None:
    """A finite number, or nothing."""
    places = [record, record.get("logs"), record.get("terms")]
    found = next((place[name] for place in places if isinstance(place, Mapping) and name in place), None)
    return float(found) if isinstance(found, int | float) and abs(found) < float("inf") else None


def smooth(values: Sequence[float], reach: int) -> list[float]:
    """Mean over a window of 2 reach + 1 values, as much of it as there is at the ends."""
    return [
        sum(window) / len(window)
        for place in range(len(values))
        if (window := values[max(0, place - reach) : place + reach + 1])
    ]


def _draw(axis: Axes, line: _Line) -> None:
    seen = look(line.row)
    for values in line.seeds:
        axis.plot(line.steps, values, color=seen.colour, linewidth=0.6, alpha=0.55, zorder=1)
    # a window that grows with the run: short curves keep their shape, long ones lose their noise
    thick = smooth(line.mean, len(line.steps) // 24)
    axis.plot(line.steps, thick, zorder=3, **_pen(line.row))


def _pen(row: str) -> dict[str, Any]:
    """A row's line with a dark edge, so that pale colours show on white."""
    from matplotlib.patheffects import withStroke

    seen = look(row)
    edge = withStroke(linewidth=2.8, foreground="#222222")
    return {"color": seen.colour, "linewidth": 1.6, "linestyle": seen.line, "path_effects": [edge]}


def _handles(rows: Sequence[RowSpec]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], label=short(row.title, 22), **_pen(row.id)) for row in rows]


def _dress(axis: Axes, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_title(title, fontsize=8.5, loc="left")
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.ticklabel_format(axis="y", useOffset=False)  # no text of matplotlib's own where the title stands
    low, high = axis.get_ylim()
    middle = (low + high) / 2
    if high - low < _TINY * max(1.0, abs(middle)):  # rounding alone: what is drawn is a constant
        half = max(0.1 * abs(middle), 0.01)
        axis.set_ylim(middle - half, middle + half)
    axis.grid(color="#e2e2e2", linewidth=0.5)
    axis.tick_params(labelsize=7)
