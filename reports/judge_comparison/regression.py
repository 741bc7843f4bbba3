"""Linear and logistic regression with standard errors that hold when lines of a question belong together.

The bias measurements stand on these two: least squares (with instruments, where a regressor is measured with noise) on
log-odds, and fractional logistic regression on verdicts that are only won, tied or lost. Clustered sandwich errors:
Liang & Zeger 1986; the fractional logit: Papke & Wooldridge 1996.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.stats import Array, Interval
from reports.judge_comparison.panel import Codes, cluster_sums

_STEPS = 100
_TOLERANCE = 1e-10
_EXACT = 1e-9
_RANK = 1e-8


@dataclass(frozen=True)
class Fit:
    """Coefficients by name with clustered standard errors; t distribution with clusters - 1 degrees of freedom."""

    names: tuple[str, ...]
    values: Array
    covariance: Array
    clusters: int

    def effect(self, name: str) -> tuple[float, float, Interval, float]:
        """(coefficient, standard error, 95% interval, two-sided p-value)."""
        from scipy.stats import t

        place = self.names.index(name)
        value, error = float(self.values[place]), float(np.sqrt(self.covariance[place, place]))
        reach = float(t.ppf(0.975, self.clusters - 1)) * error
        if max(abs(value), error) < _EXACT:  # without noise: rounding errors are no effect
            return 0.0, 0.0, Interval(0.0, 0.0), 1.0
        p = float(2 * t.sf(abs(value) / error, self.clusters - 1)) if error > 0 else 0.0
        return value, error, Interval(value - reach, value + reach), p


def least_squares(
    names: Sequence[str], x: Array, y: Array, codes: Codes, count: int, instruments: Array | None = None
) -> Fit | None:
    """y = x b + e with lines clustered by ``codes``; with ``instruments`` [lines, k] the method of moments z'(y - x b).

    ``None`` where the columns do not determine b.
    """
    z = x if instruments is None else instruments
    cross = z.T @ x
    if count < 2 or np.linalg.matrix_rank(cross) < x.shape[1]:
        return None
    values = _plain(np.linalg.solve(cross, z.T @ y))
    scores = cluster_sums(z * (y - x @ values)[:, None], codes, count)
    return Fit(tuple(names), values, _sandwich(_plain(np.linalg.inv(cross)), scores), count)


def logistic(names: Sequence[str], x: Array, y: Array, codes: Codes, count: int) -> Fit | None:
    """Quasi-likelihood logit of y in 0..1; ``None`` without a finite solution (a column separates the verdicts)."""
    if count < 2 or np.linalg.matrix_rank(x) < x.shape[1]:
        return None
    values = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        mean = 1 / (1 + np.exp(-np.clip(x @ values, -500, 500)))
        hessian = (x * (mean * (1 - mean))[:, None]).T @ x
        if np.linalg.cond(hessian) > 1e12:
            return None
        step = _plain(np.linalg.solve(hessian, x.T @ (y - mean)))
        values = values + step
        if np.abs(step).max() < _TOLERANCE:
            scores = cluster_sums(x * (y - mean)[:, None], codes, count)
            return Fit(tuple(names), values, _sandwich(_plain(np.linalg.inv(hessian)), scores), count)
    return None


def independent(base: Array, columns: Mapping[str, Array]) -> dict[str, Array]:
    """The columns [lines] that ``base`` [lines, k] and those before them do not determine."""
    kept: dict[str, Array] = {}
    for name, values in columns.items():
        known = np.column_stack([base, *kept.values()])
        left = values - known @ np.linalg.lstsq(known, values, rcond=None)[0]
        spread, size = (float(np.linalg.norm(each)) for each in (values - values.mean(), values))
        if np.linalg.norm(left) > _RANK * max(spread, 1e-4 * size):
            kept[name] = values
    return kept


def _plain(values: Any) -> Array:
    return np.asarray(values, dtype=np.float64)


def _sandwich(bread: Array, scores: Array) -> Array:
    count = len(scores)
    covariance: Array = bread @ (scores.T @ scores) @ bread.T * (count / (count - 1))
    return covariance
