"""Agreement of two or more judges on the same items: raw, Cohen's kappa, Gwet's AC1, Krippendorff's alpha.

Raw agreement flatters where one verdict is common; kappa punishes the same; AC1 is robust to it. So all three are
given, with the confusion table that they come from (Gwet 2008, Br. J. Math. Stat. Psychol. 61; Norman et al. 2026,
arXiv 2606.19544). AC1 is always over the three labels that a judge may give, not over those that it happened to give:
one tie more or less must not move it by a step. Intervals resample questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from harness.stats import Array, Interval, percentile_interval
from reports.judge_comparison.panel import cluster_sums, clusters, draws

TIE, BASELINE, MODEL = 0, 1, 2
LABELS: Final = ("tie", "baseline", "model")
"""Names of the codes of ``labels``."""


@dataclass(frozen=True)
class Agreement:
    """Two judges on the items that both gave a verdict on. Shares and kappas in 0..1 (kappa: -1..1)."""

    a: str
    b: str
    n: int
    dropped: int
    """Items that both were asked about and one gave no verdict on."""
    agreement: float
    agreement_interval: Interval | None
    kappa: float | None
    """Cohen's; ``None`` where only one label occurs. On grades: with quadratic weights."""
    kappa_interval: Interval | None
    ac1: float | None
    """Gwet's; ``None`` on grades."""
    ac1_interval: Interval | None
    spearman: float | None
    """Of the verdicts themselves; ``None`` where one of them never varies. For two labels this is phi, no new fact."""
    pearson: float | None
    mean_a: float
    mean_b: float
    difference_error: float
    """Standard error of ``mean_a - mean_b``, items paired and independent (the official tools' formula)."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows a, columns b, in the order of ``levels``."""
    levels: tuple[str, ...]
    """``LABELS``, or every grade from the lowest to the highest that was given."""
    n_decided: int = 0
    """Items on which neither said tie."""
    agreement_decided: float | None = None
    kappa_decided: float | None = None
    identical: bool = False
    """Every verdict is the same, not its label alone."""


def labels(verdicts: Array) -> Array:
    """0 tie, 1 baseline, 2 model; NaN stays NaN. Verdicts in 0..1."""
    coded = np.where(verdicts > 0.5, MODEL, np.where(verdicts < 0.5, BASELINE, TIE)).astype(float)
    coded[np.isnan(verdicts)] = np.nan
    return coded


def agree(
    tables: tuple[pd.DataFrame, pd.DataFrame], names: tuple[str, str], paired: bool, replicates: int, seed: int
) -> Agreement:
    """Two columns of ``Panel.matrix``, given with ``Panel.asked``.

    Raises ValueError where they share no item.
    """
    (table, asked), (a, b) = tables, names
    both = table[[a, b]].dropna()
    if both.empty:
        raise ValueError(f"{a} and {b} judged no item in common")
    x, y = both[a].to_numpy(float), both[b].to_numpy(float)
    codes = [labels(each) if paired else np.round(each) for each in (x, y)]
    levels = np.arange(3.0) if paired else np.arange(min(map(np.min, codes)), max(map(np.max, codes)) + 1)
    cells = confusion_cells(codes[0], codes[1], levels)
    table_ab = cells.sum(axis=0).reshape(len(levels), len(levels))
    codes_q, count = clusters(both.index.get_level_values("question"))
    sums = cluster_sums(cells, codes_q, count)
    boot = (draws(count, replicates, seed) @ sums).reshape(replicates, len(levels), len(levels)) if replicates else None
    weights = None if paired else quadratic(levels)
    decided = (codes[0] != TIE) & (codes[1] != TIE) if paired else np.ones(len(x), bool)
    difference = x - y
    return Agreement(
        a, b, len(x), int(asked[[a, b]].all(axis=1).sum()) - len(x),
        agreement=float(np.trace(table_ab) / table_ab.sum()),
        agreement_interval=_interval(boot, lambda c: np.trace(c, axis1=1, axis2=2) / c.sum((1, 2)), count),
        kappa=cohen(codes[0], codes[1], weighted=not paired),
        kappa_interval=_interval(boot, lambda c: kappas(c, weights), count),
        ac1=float(gwet(table_ab[None])[0]) if paired else None,
        ac1_interval=_interval(boot, gwet, count) if paired else None,
        spearman=_correlation(x, y, ranks=True),
        pearson=_correlation(x, y, ranks=False),
        mean_a=float(x.mean()),
        mean_b=float(y.mean()),
        identical=bool(np.array_equal(x, y)),
        difference_error=float(difference.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan"),
        confusion=tuple(tuple(int(value) for value in line) for line in table_ab),
        levels=LABELS if paired else tuple(f"{level:g}" for level in levels),
        n_decided=int(decided.sum()),
        agreement_decided=float((codes[0] == codes[1])[decided].mean()) if decided.any() else None,
        kappa_decided=cohen(codes[0][decided], codes[1][decided], weighted=not paired) if decided.any() else None,
    )  # fmt: skip


def cohen(x: Array, y: Array, weighted: bool) -> float | None:
    """Cohen's kappa over the labels present; ``None`` where only one occurs (it is 0/0 there)."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(np.concatenate([x, y]))) < 2:
        return None
    both = np.concatenate([x, y]).astype(int)
    every = np.arange(both.min(), both.max() + 1)  # weights count grades, those that nobody gave included
    named = {"labels": every, "weights": "quadratic"} if weighted else {}
    return float(cohen_kappa_score(x.astype(int), y.astype(int), **named))


def confusion_cells(x: Array, y: Array, levels: Array) -> Array:
    """[items, levels^2] one-hot: which cell of the confusion table each item falls into."""
    place = np.searchsorted(levels, x) * len(levels) + np.searchsorted(levels, y)
    cells = np.zeros((len(x), len(levels) ** 2))
    cells[np.arange(len(x)), place.astype(int)] = 1.0
    return cells


def quadratic(levels: Array) -> Array:
    """[k, k] squared distance between grades: the weights of weighted kappa (Cohen 1968)."""
    squared: Array = (levels[:, None] - levels[None, :]) ** 2
    return squared


def kappas(tables: Array, weights: Array | None = None) -> Array:
    """Cohen's kappa of confusion tables [..., k, k]; NaN where all items have one label.

    1 - observed / expected disagreement, disagreements weighted by ``weights`` (``None``: all alike).
    """
    size = tables.shape[-1]
    cost = 1.0 - np.eye(size) if weights is None else weights
    total = tables.sum((-1, -2), keepdims=True)
    expected = tables.sum(-1, keepdims=True) * tables.sum(-2, keepdims=True) / total
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = 1.0 - (cost * tables).sum((-1, -2)) / (cost * expected).sum((-1, -2))
    return found


def gwet(tables: Array) -> Array:
    """Gwet's AC1 of confusion tables [..., k, k], k labels to choose from.

    Chance agreement is sum(p (1 - p)) / (k - 1) with p the mean of the two judges' shares of a label.
    """
    total = tables.sum((-1, -2))
    share = (tables.sum(-1) + tables.sum(-2)) / (2 * total[..., None])
    chance = (share * (1 - share)).sum(-1) / (tables.shape[-1] - 1)
    observed = np.trace(tables, axis1=-2, axis2=-1) / total
    found: Array = (observed - chance) / (1 - chance)
    return found


def _interval(boot: Array | None, statistic: Callable[[Array], Array], count: int) -> Interval | None:
    """``count``: questions; one alone says nothing of others."""
    if boot is None or count < 2:
        return None
    values = statistic(boot)
    values = values[~np.isnan(values)]  # a resample in which only one label occurs has no kappa
    return percentile_interval(values, count) if len(values) > len(boot) / 2 else None


def _correlation(x: Array, y: Array, ranks: bool) -> float | None:
    from scipy.stats import pearsonr, spearmanr

    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float((spearmanr if ranks else pearsonr)(x, y).statistic)


@dataclass(frozen=True)
class Alpha:
    """Krippendorff's alpha of all judges together."""

    metric: str
    """``nominal`` (labels) or ``interval`` (grades)."""
    value: float | None
    interval: Interval | None
    items: int
    """Items with at least two verdicts."""


def krippendorff(table: pd.DataFrame, paired: bool, replicates: int, seed: int) -> Alpha:
    """Alpha over any number of judges, missing verdicts allowed (Krippendorff 2011): 1 - observed / expected.

    Both disagreements are mean squared distances: between verdicts on the same item, and between all verdicts. Labels
    are points at equal distance (nominal), grades lie on a line (interval).
    """
    values = table.to_numpy(float)
    kept = (~np.isnan(values)).sum(axis=1) >= 2
    values, metric = values[kept], "nominal" if paired else "interval"
    if not len(values):
        return Alpha(metric, None, None, 0)
    points = np.stack([labels(values) == code for code in range(3)], -1).astype(float) if paired else values[..., None]
    present = ~np.isnan(values)
    points = np.where(present[..., None], points, 0.0)
    codes, count = clusters(table.index.get_level_values("question")[kept])
    sums = cluster_sums(_moments(points, present), codes, count)
    value = float(_alphas(sums.sum(axis=0)[None], points.shape[-1])[0])
    boot = _alphas(draws(count, replicates, seed) @ sums, points.shape[-1]) if replicates else np.empty(0)
    boot = boot[~np.isnan(boot)]
    interval = percentile_interval(boot, count) if len(boot) > replicates / 2 > 0 and count > 1 else None
    return Alpha(metric, None if np.isnan(value) else value, interval, len(values))


def _moments(points: Array, present: Array) -> Array:
    """[items, 3 + d]: verdicts, squared distance within the item, sum of squares, sums per dimension."""
    number = present.sum(axis=1).astype(float)
    squares, sums = (points**2).sum((1, 2)), points.sum(axis=1)
    within = 2 * (number * squares - (sums**2).sum(-1)) / (number - 1)
    return np.column_stack([number, within, squares, sums])


def _alphas(moments: Array, dimensions: int) -> Array:
    number, within, squares = moments[:, 0], moments[:, 1], moments[:, 2]
    sums = moments[:, 3 : 3 + dimensions]
    between = 2 * (number * squares - (sums**2).sum(-1)) / (number - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = 1.0 - np.where(between > 1e-12, within / between, np.nan)
    return found
