"""How steady a judge is: repeats that disagree, orders that flip, replies that cannot be read.

All are shares of pairs of calls about one item; intervals resample questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.stats import Array, Interval, percentile_interval
from reports.judge_comparison.agreement import labels
from reports.judge_comparison.panel import ITEM, Codes, cluster_sums, clusters, draws


@dataclass(frozen=True)
class Share:
    """A share in 0..1 with its interval; ``None`` throughout where nothing could be counted."""

    value: float | None
    interval: Interval | None
    n: int
    """Pairs of calls, or calls."""


@dataclass(frozen=True)
class Reliability:
    """One judge on one benchmark."""

    calls: int
    unparsed: Share
    repeat_disagreement: Share
    """Pairs of repeats (same order) with different labels (rounded grades)."""
    flip: Share
    """Pairs of calls in opposite orders with different labels."""
    flip_excess: Share
    """``flip`` less ``repeat_disagreement``: what order alone does."""
    longer: Share
    """How often the longer answer wins, of decided comparisons of different length."""
    lists: Share
    """How often the one answer that has a list wins."""


def reliability(calls: pd.DataFrame, items: pd.DataFrame, paired: bool, replicates: int, seed: int) -> Reliability:
    """From the calls of one judge on one benchmark, and the features of their items."""
    codes, count = clusters(calls["question"])
    weights = draws(count, replicates, seed)
    missing = np.column_stack([np.asarray(calls["verdict"].isna(), dtype=np.float64), np.ones(len(calls))])
    joined = calls.merge(items, on=["benchmark", *ITEM], how="left")
    # Where both answers are the same, the two orders are one request: its one reply would count as a flip.
    differ = (joined["same"] != 1).to_numpy()
    repeats, flips = _pairs(calls[differ], codes[differ], count, paired)
    return Reliability(
        len(calls),
        _share(cluster_sums(missing, codes, count), weights),
        _share(repeats, weights),
        _share(flips, weights),
        _difference(flips, repeats, weights),
        _share(_wins(joined, "length", codes, count) if paired else np.zeros((count, 2)), weights),
        _share(_wins(joined, "lists", codes, count) if paired else np.zeros((count, 2)), weights),
    )


def _pairs(calls: pd.DataFrame, codes: Codes, count: int, paired: bool) -> tuple[Array, Array]:
    """([clusters, (different, pairs)] of repeats in one order, the same of opposite orders).

    Counted from how many calls of an item gave each label: of n calls n (n - 1) / 2 pairs, of which sum c (c - 1) / 2
    are alike; between orders n1 n2 pairs, of which sum c1 c2 are alike.
    """
    given = calls.assign(cluster=codes).dropna(subset=["verdict"])
    verdicts = given["verdict"].to_numpy(float)
    given = given.assign(
        label=labels(verdicts) if paired else np.round(verdicts), order=given["model_first"].fillna(-1.0)
    )
    within = given.groupby(["cluster", *ITEM, "part", "order", "label"]).size()
    same = _per_cluster(within * (within - 1) / 2, count)
    number = within.groupby(level=["cluster", *ITEM, "part", "order"]).sum()
    repeats = _per_cluster(number * (number - 1) / 2, count)
    by_order = given.groupby(["cluster", *ITEM, "label", "order"]).size().unstack("order", fill_value=0)
    if not {0.0, 1.0} <= set(by_order.columns):
        return np.column_stack([repeats - same, repeats]), np.zeros((count, 2))
    alike = _per_cluster(by_order[0.0] * by_order[1.0], count)
    sides = by_order.groupby(level=["cluster", *ITEM]).sum()
    flips = _per_cluster(sides[0.0] * sides[1.0], count)
    return np.column_stack([repeats - same, repeats]), np.column_stack([flips - alike, flips])


def _per_cluster(values: pd.Series[float], count: int) -> Array:
    """Sums of a series whose first index level is the cluster."""
    sums = values.groupby(level="cluster").sum()
    return np.asarray(sums.reindex(range(count), fill_value=0), dtype=np.float64)


def _wins(lines: pd.DataFrame, feature: str, codes: Codes, count: int) -> Array:
    """[clusters, (the answer with more of the feature wins, decided comparisons)]."""
    more = np.sign(lines[feature].to_numpy(float))
    side = np.sign(lines["verdict"].to_numpy(float) - 0.5)
    decided = (more != 0) & (side != 0) & ~np.isnan(more) & ~np.isnan(side)
    won = (more == side) & decided
    return cluster_sums(np.column_stack([won, decided]).astype(float), codes, count)


def _share(sums: Array, weights: Array) -> Share:
    total = float(sums[:, 1].sum())
    if total == 0:
        return Share(None, None, 0)
    drawn = weights @ sums
    ratio = drawn[drawn[:, 1] > 0]
    interval = percentile_interval(ratio[:, 0] / ratio[:, 1]) if len(ratio) else None
    return Share(float(sums[:, 0].sum() / total), interval, int(total))


def _difference(left: Array, right: Array, weights: Array) -> Share:
    one, two = _share(left, weights), _share(right, weights)
    if one.value is None or two.value is None:
        return Share(None, None, 0)
    a, b = weights @ left, weights @ right
    both = (a[:, 1] > 0) & (b[:, 1] > 0)
    drawn = a[both, 0] / a[both, 1] - b[both, 0] / b[both, 1]
    return Share(one.value - two.value, percentile_interval(drawn) if len(drawn) else None, min(one.n, two.n))
