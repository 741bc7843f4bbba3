"""Two figures: the agreement of every two judges as a heat map, and accuracy against cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reports.figures.scatter import front
from reports.figures.style import short
from reports.judge_comparison.compare import BenchmarkComparison, JudgeComparison
from reports.text import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE = 20
"""Ratio of the highest to the lowest cost above which the axis is logarithmic."""


def agreement_figure(comparison: JudgeComparison) -> Figure | None:
    """A panel per benchmark: kappa as colour, kappa and agreement as numbers. ``None`` without two judges."""
    parts = [part for part in comparison.benchmarks if part.agreements]
    if not parts:
        return None
    from matplotlib.figure import Figure

    names = [short(name, 26) for name in comparison.judges]
    side = 0.85 * max(len(names), 2) + 0.075 * max(map(len, names))
    figure = Figure(figsize=(len(parts) * (side + 0.4) + 0.6, side + 0.9), layout="constrained")
    for axis, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        _heat_map(axis, part, list(comparison.judges))
        axis.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(names)), names)
        title = clean(comparison.names.get(part.benchmark, part.benchmark))
        axis.set_title(f"{title}: {'' if part.paired else 'weighted '}kappa\nand share of equal verdicts", fontsize=9)
    return figure


def _heat_map(axis: Axes, part: BenchmarkComparison, judges: Sequence[str]) -> None:
    grid = np.full((len(judges), len(judges)), np.nan)
    for pair in part.agreements:
        a, b = judges.index(pair.a), judges.index(pair.b)
        kappa = np.nan if pair.kappa.value is None else pair.kappa.value
        text = f"{'-' if np.isnan(kappa) else f'{kappa:.2f}'}\n{pair.agreement.value:.0%}"
        for row, column in ((a, b), (b, a)):
            grid[row, column] = kappa
            colour = "white" if kappa > 0.55 else "black"  # legible on the dark end of the colour map
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axis.imshow(grid, cmap="Blues", vmin=0, vmax=1)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def cost_figure(comparison: JudgeComparison) -> Figure | None:
    """Accuracy against price, or against tokens where no two prices differ. ``None`` where neither differs.

    A line joins the judges that no other judge beats on both.
    """
    axes = cost_points(comparison)
    if axes is None or comparison.reference is None:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    label, points = axes
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axis = figure.subplots()
    best = front(points)
    axis.plot(*zip(*(points[name] for name in best), strict=True), color="#888888", linewidth=1, zorder=1)
    for name, (x, y) in points.items():
        interval = comparison.reference.accuracies[name].interval
        if interval is not None:
            ends = [100 * interval.low, 100 * interval.high]
            axis.plot([x, x], ends, "_-", color="#333333", linewidth=1, markersize=6, zorder=2)
        fill = "#0072b2" if name in best else "white"
        axis.plot(x, y, "o", color=fill, markeredgecolor="#0072b2", zorder=3)
        axis.annotate(short(name, 26), (x, y), xytext=(6, 5), textcoords="offset points", fontsize=8)
    costs = [x for x, _ in points.values()]
    if min(costs) > 0 and max(costs) / min(costs) > _WIDE:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # plain numbers: texts here are not mathematics
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.15)
    axis.set_xlabel(label)
    axis.set_ylabel(f"agrees with {comparison.reference.basis} (%)")
    axis.set_title("Filled: no other judge is both cheaper and better. Lines: 95% intervals.", fontsize=8, loc="left")
    axis.grid(color="#dddddd", linewidth=0.6)
    return figure


def cost_points(comparison: JudgeComparison) -> tuple[str, dict[str, tuple[float, float]]] | None:
    """(label of the cost axis, judge to (cost, accuracy in per cent)); ``None`` where no cost differs."""
    accuracies = comparison.reference.accuracies if comparison.reference else {}
    for label, known in (
        ("dollars per 1,000 calls", {name: each.dollars for name, each in comparison.judges.items()}),
        ("tokens per call", {name: each.tokens for name, each in comparison.judges.items()}),
    ):
        points = {
            name: (cost, 100 * (accuracies[name].value or 0.0))
            for name, cost in known.items()
            if cost is not None and name in accuracies
        }
        costs = [cost for cost, _ in points.values()]
        if costs and max(costs) > 1.05 * min(costs):  # judges of one price differ by a few tokens
            return label, points
    return None
