"""A search as a picture: one panel per knob, its value against the score, with the spread over the seeds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.recipe.space import Range
from harness.text import clean
from reports.figures.style import DASHED, canvas, explain_marks, label_axes, look, set_margins, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reports.tables.search import RowSearch

_ACROSS = 4  # panels side by side
_BEST, _OWN = "#d55e00", "#222222"


def panels(search: RowSearch) -> Figure:
    knobs = list(search.space)
    across = min(len(knobs), _ACROSS)
    down = -(-len(knobs) // across)
    figure, axes = canvas(max(4.6, 0.8 + 2.9 * across), 1.35 + 2.3 * down, across, down, sharey=True)
    for axis in axes[len(knobs) :]:
        axis.set_visible(False)
    for place, (axis, knob) in enumerate(zip(axes, knobs, strict=False)):
        _panel(axis, search, knob)
        if place % across == 0:
            axis.set_ylabel("Score %")
    several, has_own = len(search.budget.seeds) > 1, search.value(search.trials[0]) is not None
    texts = {
        "Star: the best trial.": search.best is not None, "Diamond and dashed line: as in the recipe.": has_own,
        "Thin lines: from the worst to the best seed.": several,
        "Grey lines: ends of the space." : any(isinstance(domain, Range) for domain in search.space.values()),
        "Crosses: no score.": any(search.value(trial) is None for trial in search.trials),
    }  # fmt: skip
    title = f"Search: {shorten(search.title, 40)}\n{clean(str(search.budget))}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, weight="bold")
    note = textwrap.fill(explain_marks(texts), int(15 * figure.get_figwidth()))  # letters of 8 points in an inch
    figure.text(0.01, 0.06 / figure.get_figheight(), note, fontsize=8, color="#444444", ha="left", va="bottom")
    set_margins(figure, 0.65, 0.15, 0.75, 0.6 + 0.15 * (1 + note.count("\n")), wspace=0.12, hspace=0.55)
    return figure


def _panel(axis: Axes, search: RowSearch, knob: str) -> None:
    domain, colour = search.space[knob], look(search.row).colour
    values = [search.value(trial) for trial in search.trials]
    floor = min((value for value in values if value is not None), default=0.0)
    label_axes(axis, knob)
    if isinstance(domain, Range):
        _set_scale(axis, domain, [trial.values[knob] for trial in search.trials])
    else:
        axis.set_xticks(range(len(domain.values)), [shorten(str(value), 12) for value in domain.values])
        axis.set_xlim(-0.5, len(domain.values) - 0.5)
    for trial, value in zip(search.trials, values, strict=True):
        x = trial.values[knob]
        if not isinstance(domain, Range):
            if x not in domain.values:
                continue
            x = domain.values.index(x)
        elif not _fits(domain, x):
            continue  # the recipe's own value may be none that this axis has
        if value is None:
            axis.plot([x], [floor], marker="x", color="#777777", linestyle="none", zorder=3)
            continue
        seeds = list(search.cell(trial).values.values())
        axis.plot([x, x], [min(seeds), max(seeds)], color="#888888", linewidth=0.9, zorder=2)
        is_best, is_own = trial == search.best, trial.number == 0
        marker, size = ("*", 13) if is_best else ("D", 6) if is_own else ("o", 5.5)
        face = _BEST if is_best else _OWN if is_own else colour
        axis.plot([x], [value], marker=marker, markersize=size, markerfacecolor=face, markeredgecolor="#222222",
                  markeredgewidth=0.6, linestyle="none", zorder=5 if is_best else 4 if is_own else 3)  # fmt: skip
        if is_own:
            axis.axhline(value, color=_OWN, linewidth=0.7, linestyle=DASHED, zorder=1)


def _fits(domain: Range, value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and (value > 0 or not domain.log)


def _set_scale(axis: Axes, domain: Range, values: Sequence[object]) -> None:
    """An axis that holds the range, whose ends are drawn, and the recipe's own value where that lies outside."""
    inner = [float(value) for value in values if _fits(domain, value) and isinstance(value, int | float)]
    low, high = min([domain.low, *inner]), max([domain.high, *inner])
    if domain.log:
        axis.set_xscale("log")
        # plain numbers: the usual 10^x is mathematical text, which the style has off
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        margin = (high / low) ** 0.04
        axis.set_xlim(low / margin, high * margin)
    else:
        margin = 0.04 * (high - low)
        axis.set_xlim(low - margin, high + margin)
    for end in (domain.low, domain.high):
        axis.axvline(end, color="#bbbbbb", linewidth=0.8, zorder=1)
