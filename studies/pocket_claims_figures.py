"""The two figures of ``studies/pocket_claims.py``, from its numbers. Lines differ by dash and marker too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STYLES = {
    "pad-ppd": ("PAD w/ PPD", "#0072b2", "-", "o"),
    "pad-vpd": ("PAD w/ VPD", "#d55e00", "--", "s"),
    "dpo": ("DPO", "#56b4e9", ":", "^"),
    "simpo": ("SimPO", "#009e73", "-.", "D"),
}
"""Row -> name, colour (Okabe and Ito's, as in the tables' figures), dash, marker."""
SPARE = ("#6b6b6b", (0, (1, 3)), "x")
PANELS = {
    "jsd": "JSD of ranking distributions (nats)",
    "correlation": "Correlation of margins",
    "size": "Correlation of margins' sizes",
    "slope": "Slope: student's on teacher's margin",
    "order": "Order agreement (Kendall's tau)",
}
LOOK: dict[str, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110}


def draw(measurements: Mapping[str, Any], folder: Path) -> None:
    """Write ``pocket-claims-reward.png`` and ``pocket-claims-training.png``."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(LOOK):
        for name, size, fill in (("reward", (7.4, 2.9), reward), ("training", (9.6, 5.2), training)):
            figure = Figure(figsize=size, layout="constrained")
            fill(figure, measurements)
            figure.savefig(folder / f"pocket-claims-{name}.png", metadata={"Software": None})


def band(axes: Any, x: Sequence[float], values: Sequence[Sequence[float]], colour: str, **line: Any) -> None:
    """A line of [value, low, high] with its interval as a band."""
    middle, low, high = zip(*values, strict=True)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, middle, color=colour, markersize=4, **line)


def reward(figure: Any, measurements: Mapping[str, Any]) -> None:
    """Agreement with the rule over alpha."""
    table = measurements["reward"]
    titles = {"spearman": "Spearman correlation with the rule, within a group", "regret": "Regret by the rule"}
    for axes, (name, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        band(axes, table["alpha"], table[name], "#0072b2", marker="o")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("alpha (0: log-likelihood alone, 1: question alone)")
        if name == "regret":
            chance = table["random_regret"][0]
            axes.axhline(chance, color="#6b6b6b", linestyle="--")
            axes.text(0, chance, "a pick at random", va="bottom", color="#6b6b6b")
            axes.set_ylim(0, 1.2 * chance)


def training(figure: Any, measurements: Mapping[str, Any]) -> None:
    """Every measure over the steps, a line per row; the last panel is the legend."""
    panels = figure.subplots(2, 3).flat
    for axes, (name, title) in zip(panels, PANELS.items(), strict=False):
        for row, measures in measurements["training"].items():
            label, colour, dash, marker = STYLES.get(row, (row, *SPARE))
            band(axes, measures["step"], measures[name], colour, linestyle=dash, marker=marker, label=label)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("training step")
    legend_axes = figure.axes[len(PANELS)]
    legend_axes.axis("off")
    legend_axes.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="center", frameon=False, title="Student trained by"
    )
