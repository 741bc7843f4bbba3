"""Statistics of judged benchmarks: pure functions, randomness as an argument.

The question is the unit: whatever is repeated under a question (two games, two turns, several judgments) is averaged
first. Models are compared on the same resamples of the same questions, so differences of replicates are paired.
Training seeds are a second level (``contrast``). Practice and sources: Miller 2024 (arXiv 2411.00640), Holm 1979;
``benchmarks/table_statistics.py`` measures how often intervals and tests are right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A 95% interval."""

    low: float
    high: float


def seed_of(*parts: object) -> int:
    """A 31-bit seed (what every library takes) from any printable parts: the same on every machine."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def resamples(n: int, replicates: int, seed: int) -> NDArray[np.int64]:
    """[replicates, n] question indices drawn with replacement; depends on n, replicates and seed only."""
    return np.random.default_rng(seed).integers(0, n, size=(replicates, n))


def percentile_interval(replicates: Array | Sequence[float]) -> Interval:
    """The 2.5th and 97.5th percentile of bootstrap replicates. Raises ValueError when there are none."""
    values = np.asarray(replicates, dtype=float)
    if values.size == 0:
        raise ValueError("an interval needs replicates")
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Draws:
    """One model's score under each of S training seeds, and its B bootstrap replicates over questions."""

    values: Array
    """[S]"""
    grid: Array
    """[S, B]; replicate b uses the same resample of questions in every row, and in every other model's ``Draws``."""

    @property
    def centre(self) -> Array:
        """[B] replicates of the mean over seeds: what questions alone do to it."""
        return np.asarray(self.grid.mean(axis=0))

    @property
    def seeds(self) -> int:
        """S."""
        return int(self.grid.shape[0])


class Parts(NamedTuple):
    """The variance of a mean over S seeds and n questions, by where it comes from; squares of the score's unit."""

    seed: float
    """Training seeds: falls with S alone."""
    question: float
    """Questions that are harder for every seed alike: falls with n alone."""
    rest: float
    """What differs by seed and question: answers drawn anew and the judge's noise; falls with both."""


def mean_squares(draws: Draws) -> Parts:
    """Seed, question and interaction mean squares, each divided by S n: what an analysis of variance starts from.

    For a mean of x[seed, question] the expectations are s + r, q + r and r, with s, q, r the ``Parts`` that
    ``variance_parts`` solves for (two crossed random factors, one value per cell; Searle, Casella and McCulloch, 1992,
    ch. 4). The two that belong to questions are read off the bootstrap, so they hold for refitted scores (LC) too.
    With one seed only the question's can be had, and the others are 0.
    """
    count = draws.seeds
    question = float(draws.centre.var(ddof=1)) if draws.grid.shape[1] > 1 else 0.0
    if count == 1:
        return Parts(0.0, question, 0.0)
    apart = draws.grid - draws.centre
    rest = float(apart.var(axis=1, ddof=1).sum()) / (count - 1) / count if draws.grid.shape[1] > 1 else 0.0
    return Parts(float(draws.values.var(ddof=1)) / count, question, rest)


def variance_parts(draws: Draws) -> Parts:
    """Where the variance of the mean comes from; an estimate below 0 is 0, as restricted likelihood has it."""
    seed, question, rest = mean_squares(draws)
    return Parts(max(0.0, seed - rest), max(0.0, question - rest), rest)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of two, with what is known of its error."""

    value: float
    low: float
    high: float
    """95% interval."""
    error: float
    """Standard error."""
    freedom: float
    """Degrees of freedom of the standard error; infinite where it is the bootstrap's over questions alone."""
    p: float
    """Two-sided, of "it is 0"."""


def contrast(ours: Draws, theirs: Draws | None, n: int) -> Estimate:
    """The mean over seeds of one model, or its difference to another on the same resamples of the same n questions.

    One seed each: percentile interval and ``two_sided_p`` of the bootstrap over questions. Several: variance =
    question part of the (paired) bootstrap + max(0, seed mean square - interaction), as the seeds' spread under the
    same questions holds the interaction once already. Degrees of freedom after Satterthwaite (1946). The bootstrap's
    interval is stretched about the estimate to that variance and Student's t, which keeps its skew.
    """
    sides = [ours] if theirs is None else [ours, theirs]
    value = float(ours.values.mean()) - (0.0 if theirs is None else float(theirs.values.mean()))
    centre = ours.centre if theirs is None else ours.centre - theirs.centre
    low, high = percentile_interval(centre)
    by_question = float(centre.var(ddof=1)) if centre.size > 1 else 0.0
    if all(side.seeds == 1 for side in sides):
        return Estimate(value, low, high, by_question**0.5, np.inf, two_sided_p(centre))
    squares = [(side.seeds - 1, mean_squares(side)) for side in sides if side.seeds > 1]
    more = max(0.0, sum(each.seed - each.rest for _, each in squares))
    variance = by_question + more
    if variance == 0:
        return Estimate(value, value, value, 0.0, np.inf, two_sided_p(centre))
    spread = sum(each.seed**2 / free for free, each in squares) if more else 0.0
    freedom = variance**2 / (spread + by_question**2 / max(n - 1, 1))
    error = variance**0.5
    reach = t_quantile(0.975, freedom) * error
    if by_question == 0:
        return Estimate(value, value - reach, value + reach, error, freedom, t_test(value / error, freedom))
    stretch = reach / (t_quantile(0.975, np.inf) * by_question**0.5)
    middle = float(centre.mean())
    ends = value + stretch * (low - middle), value + stretch * (high - middle)
    return Estimate(value, *ends, error, freedom, t_test(value / error, freedom))


def t_quantile(level: float, freedom: float) -> float:
    """Quantile of Student's t; of the normal distribution with infinite ``freedom``."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(level) if np.isinf(freedom) else stdtrit(freedom, level))


def t_test(statistic: float, freedom: float) -> float:
    """Two-sided p-value of an estimate over its standard error."""
    from scipy.special import ndtr, stdtr

    tail = ndtr(-abs(statistic)) if np.isinf(freedom) else stdtr(freedom, -abs(statistic))
    return float(2 * tail)


def two_sided_p(differences: Array | Sequence[float]) -> float:
    """Bootstrap p-value of "no difference" from replicates of a paired difference (Davison & Hinkley, 1997, ch. 4).

    Twice the smaller tail around zero with the +1 correction, at most 1: never exactly 0 on a finite bootstrap.
    """
    values = np.asarray(differences, dtype=float)
    tail = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return float(min(1.0, 2 * (tail + 1) / (values.size + 1)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p-values, which hold the chance of any false positive at the nominal level."""
    adjusted: dict[str, float] = {}
    running = 0.0
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    for rank, (name, value) in enumerate(ordered):
        running = max(running, min(1.0, (len(ordered) - rank) * value))
        adjusted[name] = running
    return adjusted


def detectable(standard_error: float, freedom: float = np.inf) -> float:
    """The smallest true difference that a two-sided 5% test finds with 80% power.

    (t_0.975 + t_0.8) standard errors with Student's t of these degrees of freedom: 1.960 + 0.842 for many.
    """
    return (t_quantile(0.975, freedom) + t_quantile(0.8, freedom)) * standard_error
