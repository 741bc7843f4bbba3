"""Do two judges agree, and does one judge agree with itself: agreement, Cohen's kappa, repeats, and flips with order.

When one verdict dominates, kappa is low and raw agreement inflated, so both are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.stats import Array
from reports.judge_comparison.panel import ITEM, QuestionBootstrap, Share, interval_of

LABELS = np.array([0.0, 0.5, 1.0])
"""Lost, tied, won."""


@dataclass(frozen=True)
class PairAgreement:
    """Two judges on the items on which both gave a verdict."""

    a: str
    b: str
    agreement: Share
    """Same label; for grades the same rounded grade."""
    kappa: Share
    """Cohen's, in -1..1; with quadratic weights for grades. No value where only one label occurs (0/0)."""


@dataclass(frozen=True)
class Consistency:
    """One judge's agreement with itself on one benchmark."""

    unparsed: Share
    """Of all calls."""
    repeats_differ: Share
    """Pairs of repeats in the same order with different labels."""
    flips: Share
    """Pairs of calls in opposite orders with different labels."""
    flips_beyond_noise: Share
    """``flips`` minus ``repeats_differ``: what the order alone changes (Shi et al. 2024, arXiv 2406.07791)."""


def won(verdicts: Array) -> Array:
    """The label of verdicts in 0..1 as 0, 0.5 or 1: lost, tied, won; NaN stays NaN."""
    return np.asarray((1 + np.sign(verdicts - 0.5)) / 2)


def pair_agreement(table: pd.DataFrame, paired: bool, bootstrap: QuestionBootstrap) -> PairAgreement | None:
    """Agreement of the two columns of ``Panel.matrix``; ``None`` where the judges share no item."""
    a, b = (str(name) for name in table.columns)
    both = table.dropna()
    if both.empty:
        return None
    x, y = (won(each) if paired else np.round(each) for each in (both[a].to_numpy(float), both[b].to_numpy(float)))
    # Grades that nobody gave count too: quadratic weights depend on the distance between grades.
    grades = np.arange(min(x.min(), y.min()), max(x.max(), y.max()) + 1)
    questions = list(both.index.get_level_values("question"))
    agreement, _ = bootstrap.ratio((x == y).astype(float), np.ones(len(both)), questions)
    return PairAgreement(a, b, agreement, label_kappa(x, y, LABELS if paired else grades, questions, bootstrap))


def label_kappa(x: Array, y: Array, levels: Array, questions: Sequence[Any], bootstrap: QuestionBootstrap) -> Share:
    """Cohen's kappa of two lists of labels from ``levels``; quadratic weights unless these are ``LABELS``."""
    size = len(levels)
    cells = np.zeros((len(x), size**2))
    cells[np.arange(len(x)), np.searchsorted(levels, x) * size + np.searchsorted(levels, y)] = 1.0
    weights = 1.0 - np.eye(size) if levels is LABELS else (levels[:, None] - levels[None, :]) ** 2
    kappa = float(kappas(cells.sum(axis=0).reshape(size, size), weights))
    drawn = kappas(bootstrap.sums(cells, questions).reshape(-1, size, size), weights)
    return Share() if np.isnan(kappa) else Share(kappa, interval_of(drawn, len(set(questions))), len(x))


def kappas(tables: Array, weights: Array) -> Array:
    """Cohen's kappa of confusion tables [..., k, k]: 1 - observed / expected disagreement (Cohen 1968).

    ``weights`` [k, k]: cost of a disagreement. NaN where all items have one label.
    """
    total = tables.sum((-1, -2), keepdims=True)
    expected = tables.sum(-1, keepdims=True) * tables.sum(-2, keepdims=True) / np.maximum(total, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1.0 - (weights * tables).sum((-1, -2)) / (weights * expected).sum((-1, -2)))


def consistency(calls: pd.DataFrame, items: pd.DataFrame, paired: bool, bootstrap: QuestionBootstrap) -> Consistency:
    """From the calls of one judge on one benchmark and the items of that benchmark."""
    missing = np.asarray(calls["verdict"].isna(), dtype=np.float64)
    unparsed, _ = bootstrap.ratio(missing, np.ones(len(calls)), list(calls["question"]))
    joined = calls.merge(items, on=["benchmark", *ITEM], how="left")
    # Equal answers make the two orders one request with one ledger entry, whose single reply would count as a flip.
    valid = joined[joined["same"] != 1].dropna(subset=["verdict"])
    verdicts = valid["verdict"].to_numpy(float)
    label = won(verdicts) if paired else np.round(verdicts)
    valid = valid.assign(label=label, order=valid["model_first"].fillna(-1.0))
    # n calls of which c share a label: n (n - 1) / 2 pairs, c (c - 1) / 2 of them alike.
    counts = valid.groupby([*ITEM, "part", "order", "label"]).size()
    totals = counts.groupby([*ITEM, "part", "order"]).sum()
    alike, pairs = ((each * (each - 1) / 2).groupby("question").sum() for each in (counts, totals))
    repeats, repeats_drawn = _differ(pairs, alike, bootstrap)
    sides = valid.groupby([*ITEM, "label", "order"]).size().unstack("order", fill_value=0)
    if not {0.0, 1.0} <= set(sides.columns):
        return Consistency(unparsed, repeats, Share(), Share())
    products = [each[0.0] * each[1.0] for each in (sides, sides.groupby(ITEM).sum())]
    alike, opposite = (each.groupby("question").sum() for each in products)
    flips, flips_drawn = _differ(opposite, alike, bootstrap)
    if flips.value is None or repeats.value is None:
        return Consistency(unparsed, repeats, flips, Share())
    excess = interval_of(flips_drawn - repeats_drawn, len(opposite))
    beyond = Share(flips.value - repeats.value, excess, min(flips.n, repeats.n))
    return Consistency(unparsed, repeats, flips, beyond)


def _differ(pairs: pd.Series[float], alike: pd.Series[float], bootstrap: QuestionBootstrap) -> tuple[Share, Array]:
    """The share of pairs that are not alike; both by question."""
    different = np.asarray(pairs - alike.reindex(pairs.index, fill_value=0.0), dtype=np.float64)
    return bootstrap.ratio(different, np.asarray(pairs, dtype=np.float64), list(pairs.index))
