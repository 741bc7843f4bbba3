"""Human agreement of judges, as in the paper's Table 5: AlpacaEval's definition.

Each item has several human annotations. One of k is taken, and compared with the mode of the other k - 1; where modes
tie, with each of them in equal parts (AlpacaEval draws one at random; this is the mean over its draws). A judge is
compared with the same modes, so that its number stands beside the humans' own; alpaca_eval compares a judge with the
mode of all k, which is the same number for k = 4 without ties and another one else. A tie counts one half against a
decision. Source: alpaca_eval 0.6 (``analyze.py``, evaluators leaderboard); paper, Appendix B.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.stats import Array, Interval, percentile_interval
from reports.judge_comparison.agreement import labels
from reports.judge_comparison.panel import ITEM, cluster_sums, draws

HUMANS = "humans"
"""The row of the humans themselves."""
_POINT = np.array([0.5, 0.0, 1.0])  # label code (tie, baseline, model) to its place on the line of verdicts


@dataclass(frozen=True)
class HumanAgreement:
    """One judge against the human majority. Shares in 0..1."""

    judge: str
    value: float
    interval: Interval | None
    items: int
    calls: int
    soft: float | None = None
    """With the judge's probabilities in place of its labels (1 - mean absolute difference): alpaca_eval's own number.
    ``None`` for humans, and for a judge that says no more than won, tied or lost."""


def human_agreement(
    humans: pd.DataFrame, calls: pd.DataFrame, replicates: int, seed: int
) -> tuple[dict[str, HumanAgreement], dict[str, Array]]:
    """Every judge, and ``humans``, against the mode of all humans but one.

    Args:
        humans: columns ``ITEM``, ``annotator``, ``verdict`` (0..1); items with fewer than two annotations cannot be
            left one out of and are passed over.
        calls: ``Panel.calls`` of one benchmark.
        replicates: resamples of the questions, the same for all judges.

    Returns:
        Judge to its agreement, and judge to its replicates (paired between judges).
    """
    votes = [(item, labels(group["verdict"].dropna().to_numpy(float))) for item, group in humans.groupby(ITEM)]
    several = {item: each for item, each in votes if len(each) >= 2}
    targets = {item: leave_one_out(each) for item, each in several.items()}
    scores: dict[str, dict[tuple[object, ...], tuple[float, float]]] = {HUMANS: {}}
    for item, each in several.items():
        own = _POINT[each.astype(int)]
        total = sum(float(closeness(own[i : i + 1], targets[item][i])[0]) for i in range(len(each)))
        scores[HUMANS][item] = (total / len(each), float("nan"))
    counts = {HUMANS: sum(map(len, several.values()))}
    for judge, group in calls.dropna(subset=["verdict"]).groupby("judge", sort=False):
        found, counts[str(judge)] = _judge(group, targets)
        scores[str(judge)] = found
    return _summaries(scores, counts, replicates, seed)


def _judge(
    calls: pd.DataFrame, targets: Mapping[tuple[object, ...], Array]
) -> tuple[dict[tuple[object, ...], tuple[float, float]], int]:
    """Item to (agreement of its labels, of its probabilities), each the mean over its calls; and how many calls."""
    found: dict[tuple[object, ...], tuple[float, float]] = {}
    count = 0
    for item, group in calls.groupby(ITEM):
        if item in targets:
            verdicts = group["verdict"].to_numpy(float)
            target = targets[item].mean(axis=0)
            hard = closeness(_POINT[labels(verdicts).astype(int)], target).mean()
            found[item] = float(hard), float(closeness(verdicts, target).mean())
            count += len(verdicts)
    return found, count


def leave_one_out(votes: Array) -> Array:
    """[k, 3] for label codes [k]: the distribution of the mode of the votes without the i-th."""
    counts = np.bincount(votes.astype(int), minlength=3)
    without = counts[None, :] - np.eye(3)[votes.astype(int)]
    modes = (without == without.max(axis=1, keepdims=True)).astype(float)
    shares: Array = modes / modes.sum(axis=1, keepdims=True)
    return shares


def closeness(verdicts: Array, target: Array) -> Array:
    """1 - |verdict - target|, in expectation over a target drawn from label shares [3]; one per verdict."""
    expected: Array = 1.0 - np.abs(verdicts[:, None] - _POINT[None, :]) @ target
    return expected


def _summaries(
    scores: Mapping[str, Mapping[tuple[object, ...], tuple[float, float]]],
    counts: Mapping[str, int], replicates: int, seed: int,
) -> tuple[dict[str, HumanAgreement], dict[str, Array]]:  # fmt: skip
    """Means over items with intervals over questions; replicate b of all judges draws the same questions."""
    everything = sorted({str(item[2]) for found in scores.values() for item in found})
    weights = draws(len(everything), replicates, seed) if everything and replicates else np.empty((0, len(everything)))
    place = {question: number for number, question in enumerate(everything)}
    summary: dict[str, HumanAgreement] = {}
    drawn: dict[str, Array] = {}
    for judge, found in scores.items():
        if not found:
            continue
        values = np.array(list(found.values()))
        codes = np.array([place[str(item[2])] for item in found])
        sums = cluster_sums(np.column_stack([values[:, 0], np.ones(len(values))]), codes, len(everything))
        above, below = (weights @ sums).T
        with np.errstate(invalid="ignore"):  # NaN: a resample without an item of this judge; replicates stay paired
            drawn[judge] = above / below
        known, several = drawn[judge][below > 0], len(set(codes))
        interval = percentile_interval(known, several) if len(known) > replicates / 2 > 0 and several > 1 else None
        hard = judge == HUMANS or np.array_equal(values[:, 0], values[:, 1])
        soft = None if hard else float(values[:, 1].mean())
        summary[judge] = HumanAgreement(judge, float(values[:, 0].mean()), interval, len(values), counts[judge], soft)
    return summary, drawn
