"""Where the variance of a trained row's value comes from: training seeds, questions, answers drawn anew, the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats import Draws, SeedNoise
from harness.types import Score


@dataclass(frozen=True)
class VarianceShares:
    """Shares that add up to 1."""

    seed: float
    """Training seeds."""
    question: float
    """Which questions were asked."""
    answer: float
    """Answers drawn anew under each seed; with one judgment per answer the judge's noise too."""
    judge: float | None = None
    """The judge's own noise; ``None`` where each answer was judged once, so that it cannot be told apart."""


def variance_shares(noise: SeedNoise | None, draws: Sequence[Draws], scores: Sequence[Score]) -> VarianceShares | None:
    """Of the mean over seeds, for the trained rows of a column together; ``None`` with one seed."""
    several = [row for row in draws if row.trained and row.seeds > 1]
    if noise is None or not several:
        return None
    seeds = float(np.mean([row.seeds for row in several]))
    rest = noise.rest / seeds
    # replicates of the mean over seeds vary by questions and by the answers to them: take the answers' part off
    question = max(0.0, float(np.mean([row.centre.var(ddof=1) for row in several])) - rest)
    whole = noise.seed / seeds + question + rest
    if whole == 0:
        return None
    judge = _judge_noise(scores)
    if judge is None:
        return VarianceShares(noise.seed / seeds / whole, question / whole, rest / whole)
    # estimated from other data than the rest, it may come out larger than the whole that it is a part of
    judge = min(rest, judge / seeds)
    return VarianceShares(noise.seed / seeds / whole, question / whole, (rest - judge) / whole, judge / whole)


def _judge_noise(scores: Sequence[Score]) -> float | None:
    """Variance that the judge's noise gives to one seed's score; ``None`` where answers were judged once."""
    noise = []
    for score in scores:
        repeats, of_one = score.detail.get("judge_repeats"), score.detail.get("judge_variance")
        if isinstance(repeats, float) and isinstance(of_one, float) and score.n:
            noise.append(of_one / repeats / score.n)
    return float(np.mean(noise)) if noise else None
