"""Agreement of two judges, and of one judge with itself: labels, Cohen's kappa, repeats, flips with the order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.stats import Array
from reports.judge_comparison.panel import ITEM, Number, QuestionBootstrap, Share, interval_bounds

LABELS = np.array([0.0, 0.5, 1.0])  # lost, tied, won


def verdict_labels(verdicts: Array) -> Array:
    """The label of verdicts in 0..1 as 0, 0.5 or 1: lost, tied, won; NaN stays NaN."""
    return np.asarray((1 + np.sign(verdicts - 0.5)) / 2)


def pair_agreement(table: pd.DataFrame, on: str, paired: bool, bootstrap: QuestionBootstrap) -> list[Number]:
    """Agreement (same label; for grades the same rounded grade) and Cohen's kappa (with quadratic weights for grades)
    of the two columns of ``Panel.matrix``; empty where the judges share no item."""
    a, b = (str(name) for name in table.columns)
    items = table.dropna()
    if items.empty:
        return []
    x, y = (verdict_labels(verdicts) if paired else np.round(verdicts) for verdicts in items.to_numpy(float).T)
    # Grades that nobody gave count too: quadratic weights depend on the distance between grades.
    grades = np.arange(min(x.min(), y.min()), max(x.max(), y.max()) + 1)
    questions = list(items.index.get_level_values("question"))
    agreement, _ = bootstrap.ratio((x == y).astype(float), np.ones(len(items)), questions)
    kappa = label_kappa(x, y, LABELS if paired else grades, questions, bootstrap)
    return [Number("agreement", on, a, b, "", *agreement), Number("kappa", on, a, b, "", *kappa)]


def label_kappa(x: Array, y: Array, levels: Array, questions: Sequence[str], bootstrap: QuestionBootstrap) -> Share:
    """Cohen's kappa of labels from ``levels`` (quadratic weights unless ``LABELS``); no value for one label (0/0)."""
    size = len(levels)
    cells = np.zeros((len(x), size**2))
    cells[np.arange(len(x)), np.searchsorted(levels, x) * size + np.searchsorted(levels, y)] = 1.0
    weights = 1.0 - np.eye(size) if levels is LABELS else (levels[:, None] - levels[None, :]) ** 2
    kappa = float(kappas(cells.sum(axis=0).reshape(size, size), weights))
    replicates = kappas(bootstrap.sums(cells, questions).reshape(-1, size, size), weights)
    return Share() if np.isnan(kappa) else Share(kappa, *interval_bounds(replicates, len(set(questions))), len(x))


def kappas(tables: Array, weights: Array) -> Array:
    """Cohen's kappa (1968) of tables [..., k, k]: 1 - observed / expected cost (``weights`` [k, k]); NaN: one label."""
    total = tables.sum((-1, -2), keepdims=True)
    expected = tables.sum(-1, keepdims=True) * tables.sum(-2, keepdims=True) / np.maximum(total, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1.0 - (weights * tables).sum((-1, -2)) / (weights * expected).sum((-1, -2)))


def consistency(judgments: pd.DataFrame, paired: bool, bootstrap: QuestionBootstrap) -> list[Number]:
    """One judge's agreement with itself, from its judgments on one benchmark. ``repeats differ``: pairs of the same
    order with different labels; ``flips``: of opposite orders. ``flips beyond noise``: their difference, what the order
    alone changes (Shi et al. 2024, arXiv 2406.07791)."""
    unparsed = np.asarray(judgments["verdict"].isna(), dtype=np.float64)
    shares = {"unparsed": bootstrap.mean(unparsed, list(judgments["question"]))}
    # Equal answers make the two orders one request with one ledger entry, whose single reply would count as a flip.
    valid = judgments[judgments["same"] != 1].dropna(subset=["verdict"])
    verdicts = valid["verdict"].to_numpy(float)
    label = verdict_labels(verdicts) if paired else np.round(verdicts)
    # Grades and annotation files have no order: groupby would drop NaN, and with it their repeats.
    valid = valid.assign(label=label, order=valid["model_first"].fillna(-1.0))
    # n calls of which c share a label: n (n - 1) / 2 pairs, c (c - 1) / 2 of them alike.
    counts = valid.groupby([*ITEM, "part", "order", "label"]).size()
    totals = counts.groupby([*ITEM, "part", "order"]).sum()
    equal_pairs, pairs = ((group * (group - 1) / 2).groupby("question").sum() for group in (counts, totals))
    repeats, repeats_replicates = _share_different(pairs, equal_pairs, bootstrap)
    flips = beyond_noise = Share()
    by_order = valid.groupby([*ITEM, "label", "order"]).size().unstack("order", fill_value=0)
    if {0.0, 1.0} <= set(by_order.columns):
        products = [group[0.0] * group[1.0] for group in (by_order, by_order.groupby(ITEM).sum())]
        equal_pairs, opposite_pairs = (product.groupby("question").sum() for product in products)
        flips, flips_replicates = _share_different(opposite_pairs, equal_pairs, bootstrap)
        if flips.value is not None and repeats.value is not None:
            excess = interval_bounds(flips_replicates - repeats_replicates, len(opposite_pairs))
            beyond_noise = Share(flips.value - repeats.value, *excess, min(flips.n, repeats.n))
    shares |= {"repeats differ": repeats, "flips": flips, "flips beyond noise": beyond_noise}
    on, judge = (str(judgments[name].iloc[0]) for name in ("benchmark", "judge"))
    return [Number(measure, on, judge, "", "", *share) for measure, share in shares.items()]


def _share_different(
    pairs: pd.Series[float], equal_pairs: pd.Series[float], bootstrap: QuestionBootstrap
) -> tuple[Share, Array]:
    differences = np.asarray(pairs - equal_pairs.reindex(pairs.index, fill_value=0.0), dtype=np.float64)
    return bootstrap.ratio(differences, np.asarray(pairs, dtype=np.float64), list(pairs.index))
