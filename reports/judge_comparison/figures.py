"""Two figures: every two judges' agreement as a heat map, and agreement against price."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from reports.judge_comparison.compare import BenchmarkPart, Comparison
from reports.text import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: Final[Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.parse_math": False,
    "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "distilbench", "figure.dpi": 100,
}  # fmt: skip
_METADATA: Final[dict[str, dict[str, None]]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
_LONGEST = 26
_WIDE = 20
"""Ratio of the highest to the lowest cost beyond which the axis is logarithmic."""
FORMATS = ("png", "svg", "pdf")


def heat_map(comparison: Comparison, formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """One panel per benchmark: kappa in colour, kappa and agreement as numbers; format to content. Empty: one judge."""
    parts = [part for part in comparison.benchmarks if part.agreements]
    if not parts:
        return {}
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        size = max(len(comparison.judges), 2)
        longest = max(len(_short(name)) for name in comparison.judges)
        side = 0.85 * size + 0.075 * longest
        figure = Figure(figsize=(len(parts) * (side + 0.4) + 0.6, side + 0.9), layout="constrained")
        axes = figure.subplots(1, len(parts), squeeze=False)[0]
        for axis, part in zip(axes, parts, strict=True):
            _heat(axis, part, list(comparison.judges), comparison.names.get(part.benchmark, part.benchmark))
        return _files(figure, formats)


def _heat(axis: Any, part: BenchmarkPart, judges: Sequence[str], name: str) -> None:
    place = {name: number for number, name in enumerate(judges)}
    grid = np.full((len(judges), len(judges)), np.nan)
    for each in part.agreements:
        for a, b in ((each.a, each.b), (each.b, each.a)):
            grid[place[a], place[b]] = np.nan if each.kappa is None else each.kappa
            kappa = "-" if each.kappa is None else f"{each.kappa:.2f}"
            dark = each.kappa is not None and each.kappa > 0.55
            axis.text(place[b], place[a], f"{kappa}\n{each.agreement:.0%}", ha="center", va="center", fontsize=8,
                      color="white" if dark else "black")  # fmt: skip
    axis.imshow(grid, cmap="Blues", vmin=0, vmax=1)
    names = [_short(name) for name in judges]
    axis.set_xticks(range(len(judges)), names, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(judges)), names)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    kind = "kappa" if part.paired else "weighted kappa"
    axis.set_title(f"{clean(name)}: {kind}\nand share of equal verdicts", fontsize=9)


def pareto(comparison: Comparison, formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """Agreement against price; where no price differs, against time. Empty where neither is known of two judges.

    A line joins the judges that no other one beats on both.
    """
    chosen = points(comparison)
    if chosen is None:
        return {}
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    what, found = chosen
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        axis = figure.subplots()
        best = front({name: (x, y) for name, (x, y, _, _) in found.items()})
        axis.plot(*zip(*(found[name][:2] for name in best), strict=True), color="#888888", linewidth=1, zorder=1)
        for name, (x, y, low, high) in found.items():
            on = name in best
            axis.plot([x, x], [low, high], "_-", color="#333333", linewidth=1, markersize=6, zorder=2)
            axis.plot(x, y, "o", color="#0072b2" if on else "white", markeredgecolor="#0072b2", zorder=3)
            axis.annotate(_short(name), (x, y), xytext=(6, 5), textcoords="offset points", fontsize=8)
        costs = [x for x, *_ in found.values()]
        if min(costs) > 0 and max(costs) / min(costs) > _WIDE:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # plain numbers: texts here are not mathematics
            axis.xaxis.set_minor_formatter(NullFormatter())
        axis.margins(x=0.15)
        absent = [_short(name) for name in comparison.judges if name not in found]
        axis.set_xlabel(what + (f"\nnot shown, not known of: {', '.join(absent)}" if absent else ""))
        measure = comparison.yardstick
        axis.set_ylabel(f"agrees with {measure.basis if measure else ''} (%)")
        axis.set_title(
            "Filled: no other judge is both cheaper and better. Lines: 95% intervals.", fontsize=8, loc="left"
        )
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        return _files(figure, formats)


def points(comparison: Comparison) -> tuple[str, dict[str, tuple[float, float, float, float]]] | None:
    """(what the horizontal axis is, judge to (cost, agreement, low, high)), per cents; ``None``: nothing to draw."""
    if comparison.yardstick is None:
        return None
    standings = comparison.yardstick.standings
    dollars = {name: f.dollars for name, f in comparison.judges.items() if f.dollars is not None and name in standings}
    seconds = {name: f.seconds for name, f in comparison.judges.items() if f.seconds is not None and name in standings}
    for what, costs in (("dollars per 1,000 calls", dollars), ("seconds per 1,000 calls, as asked", seconds)):
        if len(costs) > 1 and len(set(costs.values())) > 1:
            found = {}
            for name, cost in costs.items():
                each = standings[name]
                low, high = each.interval or (each.value, each.value)
                found[name] = (cost, 100 * each.value, 100 * low, 100 * high)
            return what, found
    return None


def front(places: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names that no other one beats: none costs no more and agrees more. By rising cost."""
    kept = []
    for name, (cost, value) in places.items():
        others = [place for other, place in places.items() if other != name]
        if not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in others):
            kept.append(name)
    return sorted(kept, key=lambda name: places[name])


def _short(name: str) -> str:
    text = clean(name)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _files(figure: Figure, formats: Sequence[str]) -> dict[str, bytes]:
    made = {}
    for kind in formats:
        out = io.BytesIO()
        figure.savefig(out, format=kind, dpi=200, metadata=_METADATA.get(kind, {}))
        made[kind] = out.getvalue()
    return made
