"""What ``studies/pocket_claims.py`` makes of its measurements: measures of margins, and their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.stats import percentile_interval, resamples, seed_of
from methods import plackett_luce

Array = NDArray[np.float64]
ALPHAS = tuple(round(step / 10, 1) for step in range(11))
"""Share of log p_sel in the calibrated reward: 0 is the log-likelihood alone, 1 the multiple-choice answer alone."""
PAPERS_ALPHA = 0.8
REPLICATES = 1000


def moments(rewards: torch.Tensor, scores: torch.Tensor, beta: float, student_beta: float) -> Array:
    """[B, n] student's and teacher's rewards -> [B, 10]: sums over a prompt's pairs, from which ``MEASURES`` follow.

    ``beta`` scales the teacher's rewards in the JSD, ``student_beta`` the student's. Columns, with d = student's
    margin and t = teacher's: JSD of the ranking distributions, 1, t d, t^2, d^2, |t d|, |t|, |d|, sign(t d), and 1 for
    t != 0.
    """
    i, j = torch.triu_indices(rewards.shape[1], rewards.shape[1], 1)
    d, t = rewards[:, i] - rewards[:, j], scores[:, i] - scores[:, j]
    ones = torch.ones_like(d)
    columns = (ones, t * d, t * t, d * d, (t * d).abs(), t.abs(), d.abs(), (t * d).sign(), (t != 0).double())
    jsd = plackett_luce.jsd(beta * scores, student_beta * rewards)
    return torch.stack([jsd, *(column.sum(1) for column in columns)], 1).numpy()


def sizes(x: Array) -> Array:
    """Pearson correlation of |t| and |d| over pairs."""
    n, product, t, d = x[..., 1], x[..., 5], x[..., 6], x[..., 7]
    spread = (x[..., 3] - t * t / n) * (x[..., 4] - d * d / n)
    return np.asarray((product - t * d / n) / np.sqrt(spread))


MEASURES: Mapping[str, Callable[[Array], Array]] = {
    "jsd": lambda x: x[..., 0],
    "correlation": lambda x: x[..., 2] / np.sqrt(x[..., 3] * x[..., 4]),
    "slope": lambda x: x[..., 2] / x[..., 3],
    "order": lambda x: x[..., 8] / x[..., 9],
    "size": sizes,
}
"""From mean ``moments`` over prompts. ``jsd``: nats. ``correlation``: of margins, both signs of every pair, so means
are 0. ``slope``: of the student's margin on the teacher's, through 0. ``order``: Kendall's tau over the pairs that the
teacher orders. ``size``: correlation of the margins' absolute values, blind to the order."""


def replicates(data: Sequence[Array], measure: Callable[[Array], Array]) -> tuple[float, Array]:
    """The mean over seeds of a measure ([prompts, columns] for each seed), and its bootstrap replicates.

    The same seeds and prompts are redrawn for every measure and method, so differences are paired.
    """
    value = float(np.mean([measure(seed_data.mean(0)) for seed_data in data]))
    draws = [
        measure(seed_data[resamples(len(seed_data), REPLICATES, seed_of("claims", seed))].mean(1))
        for seed, seed_data in enumerate(data)
    ]
    return value, over_seeds(draws, seed_of("claims-seeds"))


def over_seeds(draws: Sequence[Array], seed: int) -> Array:
    """[seeds][replicates] -> [replicates]: prompts as already resampled, and for each replicate seeds redrawn.

    Redrawing S of S seeds understates the variance of their mean by (S - 1) / S, so deviations from the mean over seeds
    are scaled by sqrt(S / (S - 1)). What prompts do to a seed counts among its deviations too: the interval is a little
    too wide, never too narrow. (The tables' own, ``harness.stats.contrast``, is for one value per question.)
    """
    grid = np.asarray(draws, dtype=float)
    count, rounds = grid.shape
    if count == 1:
        return np.asarray(grid[0])
    picks = np.random.default_rng(seed).integers(0, count, size=(rounds, count))
    seed_means = np.take_along_axis(grid.T, picks, axis=1).mean(axis=1)
    centre = grid.mean(axis=0)
    return np.asarray(centre + (seed_means - centre) * np.sqrt(count / (count - 1)))


def estimate(*pair: tuple[float, Array]) -> list[float]:
    """[value, low, high] of a measure, or of the first less the second."""
    (value, draws), *other_pairs = pair
    for other, others in other_pairs:
        value, draws = value - other, draws - others
    return [round(number, 5) for number in (value, *percentile_interval(draws))]


@dataclass(frozen=True)
class Claims:
    """All measurements: per seed the rule's table, and per row and seed the moments at every point."""

    rule: list[Array]
    steps: Mapping[str, list[int]]
    curves: Mapping[str, list[list[Array]]]
    """Row -> seed -> point -> [prompts, 10]."""

    def reward(self) -> dict[str, Any]:
        """Claim 1, as plain data."""
        width = len(ALPHAS)
        table = {
            name: [estimate(replicates(self.rule, lambda x, k=at + shift: x[..., k])) for at in range(width)]
            for name, shift in (("spearman", 0), ("regret", width))
        }
        best = replicates(self.rule, lambda x: x[..., width - 1])
        likelihood = replicates(self.rule, lambda x: x[..., 0])
        chance = estimate(replicates(self.rule, lambda x: x[..., 2 * width]))
        groups = sum(map(len, self.rule))
        extra = {"random_regret": chance, "spearman_likelihood_less_mcq": estimate(likelihood, best)}
        at = ALPHAS.index(PAPERS_ALPHA)
        for name, shift in (("spearman", 0), ("regret", width)):
            calibrated, *others = (replicates(self.rule, lambda x, k=k + shift: x[..., k]) for k in (at, 0, width - 1))
            for other, text in zip(others, ("likelihood", "mcq"), strict=True):
                extra[f"{name}_calibrated_less_{text}"] = estimate(calibrated, other)
        return {"alpha": list(ALPHAS), **table, **extra, "groups": groups}

    def training(self) -> dict[str, Any]:
        """Claims 2 and 3: every measure at every point."""
        return {
            row: {"step": self.steps[row]}
            | {
                name: [
                    estimate(replicates([seed[point] for seed in seeds], measure))
                    for point in range(len(self.steps[row]))
                ]
                for name, measure in MEASURES.items()
            }
            for row, seeds in self.curves.items()
        }

    def contrasts(self) -> dict[str, Any]:
        """What the claims compare: each row's end with its start, and the first row's end with each other's."""
        starts, ends = (
            {
                row: {name: replicates([seed[point] for seed in seeds], measure) for name, measure in MEASURES.items()}
                for row, seeds in self.curves.items()
            }
            for point in (0, -1)
        )
        first, *other_rows = self.curves
        ends_less_starts = {
            f"{row}, end less start": {name: estimate(ends[row][name], starts[row][name]) for name in MEASURES}
            for row in self.curves
        }
        return ends_less_starts | {
            f"{first} less {row}, end": {name: estimate(ends[first][name], ends[row][name]) for name in MEASURES}
            for row in other_rows
        }
