"""Statistics of judged benchmarks: pure functions, randomness as an argument.

The question is the unit: whatever is repeated under a question is averaged first. Models are compared on the same
resamples of the same questions; training seeds are a second level (``contrast``). Practice: Miller 2024 (arXiv
2411.00640). ``studies/table_statistics.py`` measures how often intervals and tests are right.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FEW_QUESTIONS = 30
"""Bootstrap intervals from fewer are too narrow (arXiv 2503.01747): three questions that agree would pass any test."""


class Interval(NamedTuple):
    low: float
    high: float


def seed_of(*parts: object) -> int:
    """A 31-bit seed (what every library takes) from any printable parts: the same on every machine."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def resamples(n: int, replicates: int, seed: int) -> NDArray[np.int64]:
    """[replicates, n] question indices drawn with replacement; depends on n, replicates and seed only."""
    return np.random.default_rng(seed).integers(0, n, size=(replicates, n))


def percentile_interval(replicates: Array | Sequence[float], n: int | None = None) -> Interval:
    """The central 95% of replicates; the k-th of B is the k / (B + 1) quantile. ``n``: questions behind each."""
    values = np.asarray(replicates, dtype=float)
    if values.size == 0:
        raise ValueError("an interval needs replicates")
    tail = 0.025
    if n is not None and n > 1:
        # A plain percentile interval is too narrow by sqrt((n - 1) / n) and by normal instead of t quantiles. Its two
        # levels are moved out to Phi(-t s), by just that (Hesterberg 2015, The American Statistician 69, "expanded
        # percentile"): 2.26% at 80 questions, 2.49% at 1,319.
        tail = 0.5 * math.erfc(t_quantile(0.975, n - 1) * math.sqrt(n / (n - 1)) / math.sqrt(2))
    ordered = np.sort(values)
    if np.isnan(ordered[-1]):  # sorted last: an interval of what is left would hide it
        return Interval(math.nan, math.nan)
    return Interval(_percentile(ordered, 100 * tail), _percentile(ordered, 100 - 100 * tail))


def _percentile(ordered: Array, percent: float) -> float:
    """``np.percentile(method="weibull")`` of sorted values, to the last digit: numpy's takes ten times as long for an
    array as short as ours, which was a tenth of the time of reading a finished run."""
    place = min(max(ordered.size * (percent / 100) + percent / 100 - 1, 0.0), ordered.size - 1.0)
    before = min(int(place), ordered.size - 2) if ordered.size > 1 else 0
    low, high = float(ordered[before]), float(ordered[min(before + 1, ordered.size - 1)])
    share = place - before
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


@dataclass(frozen=True)
class Draws:
    """One model's score under each of S training seeds, and its B bootstrap replicates over questions."""

    values: Array
    """[S]"""
    grid: Array
    """[S, B]; replicate b uses the same resample of questions in every row, and in every other model's ``Draws``."""
    trained: bool = True
    """Whether the seeds trained it; otherwise they only draw its answers anew."""

    @cached_property
    def centre(self) -> Array:
        """[B] replicates of the mean over seeds."""
        return np.asarray(self.grid.mean(axis=0))

    @property
    def seeds(self) -> int:
        return int(self.grid.shape[0])


@dataclass(frozen=True)
class SeedNoise:
    """How far seeds of one method lie apart, pooled over the methods of a column; squares of the score's unit."""

    spread: float
    """Variance of one seed's score about its method's mean, on the same questions."""
    residual: float
    """The part of it that is no seed's: answers drawn anew and the judge's noise on these questions."""
    freedom: int
    """Degrees of freedom of ``spread``."""

    @property
    def seed(self) -> float:
        # An estimate below 0 is 0, as restricted likelihood has it.
        return max(0.0, self.spread - self.residual)


def seed_noise(rows: Sequence[Draws]) -> SeedNoise | None:
    """Pool the trained rows that have several seeds, weighted by their S - 1; ``None`` where there are none.

    An analysis of variance of x[seed, question] within each method, both factors random, one value per cell (Searle,
    Casella and McCulloch, 1992, ch. 4). The seeds' mean square divided by the questions is expected to be s + r (seed,
    residual), the interaction's r. The latter is read off the bootstrap, so that it holds for refitted scores (LC) too:
    a seed's replicates vary about their mean over seeds by r (S - 1) / S.
    """
    # One error term for all methods: three seeds of one method say next to nothing of its own variance, and with one
    # each, intervals are a quarter wider and hold no more often (``studies/table_statistics.py``).
    repeated = [row for row in rows if row.trained and row.seeds > 1]
    freedom = sum(row.seeds - 1 for row in repeated)
    if not freedom:
        return None
    spread = sum(float(((row.values - row.values.mean()) ** 2).sum()) for row in repeated) / freedom
    resampled = [row for row in repeated if row.grid.shape[1] > 1]
    interactions = [float((row.grid - row.centre).var(axis=1, ddof=1).sum()) for row in resampled]
    return SeedNoise(spread, sum(interactions) / freedom, freedom)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of two; ``low`` to ``high``: 95%; ``p``: two-sided, of "it is 0"."""

    value: float
    low: float
    high: float
    error: float
    freedom: float
    """Of the standard error; infinite where it is the bootstrap's over questions alone."""
    p: float


def contrast(model: Draws, other: Draws | None, n: int, noise: SeedNoise | None) -> Estimate:
    """The mean over seeds of one model, or its difference to another on the same resamples of the same n questions.

    Without ``noise`` (one seed), or where neither was trained: percentile interval and ``two_sided_p`` of the (paired)
    bootstrap over questions. Else variance = that of the bootstrap + the seed's part of each trained side / its seeds,
    with degrees of freedom after Satterthwaite (1946).
    """
    sides = [model] if other is None else [model, other]
    value = float(model.values.mean()) - (0.0 if other is None else float(other.values.mean()))
    centre = model.centre if other is None else model.centre - other.centre
    round_off = (1e-9 * max(1.0, abs(value))) ** 2  # what equal replicates vary by: round-off of their mean over seeds
    by_question = float(centre.var(ddof=1)) if centre.size > 1 else 0.0
    by_question = by_question if by_question > round_off else 0.0
    weight = sum(1 / side.seeds for side in sides if side.trained)
    if noise is None or not weight:
        return Estimate(value, *percentile_interval(centre, n), by_question**0.5, np.inf, two_sided_p(centre))
    variance = by_question + weight * noise.seed
    if variance <= round_off:
        return Estimate(value, value, value, 0.0, np.inf, two_sided_p(centre))
    seed_term = (weight * noise.spread) ** 2 / noise.freedom if noise.seed else 0.0
    error, freedom = variance**0.5, variance**2 / (seed_term + by_question**2 / max(n - 1, 1))
    reach, p = t_quantile(0.975, freedom) * error, t_test(value / error, freedom)
    if by_question == 0:
        return Estimate(value, value - reach, value + reach, error, freedom, p)
    # Stretched about the estimate, which keeps the bootstrap's skew. Without n, because t is in the reach already.
    low, high = percentile_interval(centre)
    stretch, middle = reach / (t_quantile(0.975, np.inf) * by_question**0.5), float(centre.mean())
    return Estimate(value, value + stretch * (low - middle), value + stretch * (high - middle), error, freedom, p)


# Importing scipy.special for the next three functions would take a fifth of the time of reading a finished run.
# They agree with it to 1e-11 (tests/harness/test_stats.py).


@cache
def t_quantile(level: float, freedom: float) -> float:
    """Quantile of Student's t above its median; of the normal distribution with infinite ``freedom``."""
    if math.isinf(freedom):
        return NormalDist().inv_cdf(level)
    log_height = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(math.pi * freedom)
    close = 0.0
    # 1 - cdf falls and is convex above the median, so Newton's steps come from the left and never jump over the root.
    for _ in range(200):
        density = math.exp(log_height - (freedom + 1) / 2 * math.log1p(close * close / freedom))
        step = (t_tail(close, freedom) - 1 + level) / density
        close += step
        if abs(step) <= 1e-12 * close:
            break

    def is_below(value: float) -> bool:
        """Whether the quantile is larger. Only near it does the tail have to be computed, which is slow."""
        far = abs(value - close) > 1e-9 * close
        return value < close if far else t_tail(value, freedom) > 1 - level

    # Newton's last digit depends on its path; the one of bisection does not. 200 halvings exhaust a float.
    low, high = 0.0, 1.0
    while is_below(high):
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2


def t_tail(statistic: float, freedom: float) -> float:
    """P(T > statistic) of Student's t for a statistic of at least 0: half the regularised incomplete beta function."""
    square, a, b = statistic * statistic, freedom / 2, 0.5
    x, y = freedom / (freedom + square), square / (freedom + square)  # y = 1 - x, without cancellation
    if y == 0:
        return 0.5
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(y)
    if x < (a + 1) / (a + b + 2):  # where the continued fraction converges fast; else use I_x(a, b) = 1 - I_1-x(b, a)
        return 0.5 * math.exp(log_front) * beta_fraction(x, a, b) / a
    return 0.5 * (1 - math.exp(log_front) * beta_fraction(y, b, a) / b)


def beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method."""
    tiny = 1e-300  # stands in for a zero denominator
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 500):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / (1 + term * d or tiny), 1 + term / c or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return fraction


def t_test(statistic: float, freedom: float) -> float:
    if math.isinf(freedom):
        return math.erfc(abs(statistic) / math.sqrt(2))
    return 2 * t_tail(abs(statistic), freedom)


def two_sided_p(differences: Array | Sequence[float]) -> float:
    """Bootstrap p-value of "no difference" from replicates of a paired difference (Davison & Hinkley, 1997, ch. 4)."""
    values = np.asarray(differences, dtype=float)
    tail = min(int((values <= 0).sum()), int((values >= 0).sum()))
    # The +1 correction: a finite bootstrap never says exactly 0.
    return float(min(1.0, 2 * (tail + 1) / (values.size + 1)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Step-down adjusted p-values (Holm 1979)."""
    adjusted: dict[str, float] = {}
    running = 0.0
    ranking = sorted(p_values.items(), key=lambda item: item[1])
    for rank, (name, value) in enumerate(ranking):
        running = max(running, min(1.0, (len(ranking) - rank) * value))
        adjusted[name] = running
    return adjusted


def detectable(standard_error: float, freedom: float = np.inf) -> float:
    """The smallest true difference that a two-sided 5% test finds with 80% power."""
    return (t_quantile(0.975, freedom) + t_quantile(0.8, freedom)) * standard_error
