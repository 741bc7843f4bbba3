"""Two figures: the agreement of every two judges as a heat map, and accuracy against cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from reports.figures.scatter import front
from reports.figures.style import explain_marks, shorten
from reports.judge_comparison.compare import JudgeComparison
from reports.judge_comparison.panel import Number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG_AXIS_RATIO = 20  # ratio of the highest to the lowest cost above which the axis is logarithmic


def agreement_figure(comparison: JudgeComparison) -> Figure | None:
    """A panel per benchmark: kappa as colour, kappa and agreement as numbers. ``None`` without two judges."""
    benchmarks = list(dict.fromkeys(pair.on for pair in comparison.select("agreement")))
    if not benchmarks:
        return None
    from matplotlib.figure import Figure

    names = [shorten(name, 26) for name in comparison.judges]
    panel_size = 0.85 * max(len(names), 2) + 0.075 * max(map(len, names))
    figure = Figure(figsize=(len(benchmarks) * (panel_size + 0.4) + 0.6, panel_size + 0.9), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(benchmarks), squeeze=False)[0], benchmarks, strict=True):
        _heat_map(axis, comparison, name)
        axis.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(names)), names)
        adjective = "" if comparison.paired[name] else "weighted "
        axis.set_title(f"{comparison.title(name)}: {adjective}kappa\nand share of equal verdicts", fontsize=9)
    return figure


def _heat_map(axis: Axes, comparison: JudgeComparison, benchmark: str) -> None:
    judges = list(comparison.judges)
    grid = np.full((len(judges), len(judges)), np.nan)
    agreements, kappas = (comparison.select(measure, on=benchmark) for measure in ("agreement", "kappa"))
    for pair, kappa in zip(agreements, kappas, strict=True):
        value = np.nan if kappa.value is None else kappa.value
        text = f"{'-' if np.isnan(value) else f'{value:.2f}'}\n{pair.value:.0%}"
        places = judges.index(pair.judge), judges.index(pair.other)
        for row, column in (places, places[::-1]):
            grid[row, column] = value
            colour = "white" if value > 0.55 else "black"  # legible on the dark end of the colour map
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axis.imshow(grid, cmap="Blues", vmin=0, vmax=1)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def cost_figure(comparison: JudgeComparison) -> Figure | None:
    """Accuracy against price, or tokens where no two prices differ; a line joins those that none beats on both."""
    axes = cost_points(comparison)
    if axes is None or comparison.reference is None:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    label, points, accuracies = axes
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axis = figure.subplots()
    best = front(points)
    axis.plot(*zip(*(points[name] for name in best), strict=True), color="#888888", linewidth=1, zorder=1)
    for name, (x, y) in points.items():
        share = accuracies[name]
        if share.low is not None and share.high is not None:
            interval = [100 * share.low, 100 * share.high]
            axis.plot([x, x], interval, "_-", color="#333333", linewidth=1, markersize=6, zorder=2)
        fill = "#0072b2" if name in best else "white"
        axis.plot(x, y, "o", color=fill, markeredgecolor="#0072b2", zorder=3)
        axis.annotate(shorten(name, 26), (x, y), xytext=(6, 5), textcoords="offset points", fontsize=8)
    costs = [x for x, _ in points.values()]
    if min(costs) > 0 and max(costs) / min(costs) > _LOG_AXIS_RATIO:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # plain numbers: texts here are not mathematics
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(x=0.15)
    axis.set_xlabel(label)
    axis.set_ylabel(f"agrees with {comparison.reference.basis} (%)")
    marks = {
        "Filled: no other is both cheaper and better.": True,
        "Lines: 95% intervals.": any(accuracies[name].low is not None for name in points),
    }
    axis.set_title(explain_marks(marks), fontsize=8, loc="left")
    axis.grid(color="#dddddd", linewidth=0.6)
    return figure


def cost_points(comparison: JudgeComparison) -> tuple[str, dict[str, tuple[float, float]], dict[str, Number]] | None:
    """(label of the cost axis, name to (cost, accuracy in per cent), name to accuracy); ``None`` where no cost differs.
    Both are of the same asking; where there are several, each is a point: ``main, one order``."""
    several = len(comparison.askings) > 1
    asked = {
        f"{judge}, {asking}" if several else judge: (comparison.judges[judge], calls, accuracy)
        for asking, calls in comparison.askings.items()
        for judge, accuracy in comparison.accuracies(asking).items()
        if judge in comparison.judges
    }
    accuracies = {name: accuracy for name, (_, _, accuracy) in asked.items()}
    for label, cost_by_name in (
        ("dollars for one pass", {name: profile.cost(calls) for name, (profile, calls, _) in asked.items()}),
        (
            "tokens for one pass",
            {name: profile.tokens and profile.tokens * calls for name, (profile, calls, _) in asked.items()},
        ),
    ):
        points = {
            name: (cost, 100 * (accuracies[name].value or 0.0))
            for name, cost in cost_by_name.items()
            if cost is not None
        }
        costs = [cost for cost, _ in points.values()]
        if costs and max(costs) > 1.05 * min(costs):  # judges of one price differ by a few tokens
            return label, points, accuracies
    return None


FIGURES: Final[dict[str, tuple[str, Callable[[JudgeComparison], Figure | None]]]] = {
    "judge-agreement": ("Agreement of every two judges", agreement_figure),
    "judge-cost": ("Accuracy against cost", cost_figure),
}  # file name to title and drawing
