"""The smallest change that a column of a planned run will detect, from the variances of a run or from stated ones.

The table's own test (``harness.stats.contrast``): a trained row against the reference on the same questions, before
Holm's correction. At the numbers of questions and seeds of the run that the variances come from, it is the
"Detectable" under that run's table.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.contracts.target import Target
from harness.stats import FEW_QUESTIONS, Draws, contrast, detectable, seed_noise
from reports.tables.summary import CellSummary, by_cell, same_length
from results.run.results import Results

MOST_SEEDS = 100
MOST_QUESTIONS = 1_000_000


@dataclass(frozen=True)
class Variances:
    """Of one column, in squares of the metric's unit."""

    question: float
    """Of a question's change between the two rows."""
    answers: float = 0.0
    """What answers drawn anew (by each seed) add to it, the judge's noise included."""
    own_answers: float = 0.0
    """The trained row's part of that, pooled over the rows."""
    seed: float | None = None
    """Of one training's score; ``None``: not known."""

    def detectable(self, n: int, seeds: int, rows: int, sides: int = 1) -> float:
        """With n questions, and seeds of ``rows`` trained rows: at 80% power, in the metric's unit. ``sides``: 2 where
        the reference is a trained row too."""
        by_question = (self.question + self.answers / seeds) / n
        freedom = (seeds - 1) * rows
        if self.seed is None or not freedom:  # one seed: the table's test is over questions alone
            return detectable(by_question**0.5)
        variance = by_question + sides * self.seed / seeds
        seed_term = (sides * (self.seed + self.own_answers / n) / seeds) ** 2 / freedom if self.seed else 0.0
        spread = seed_term + by_question**2 / max(n - 1, 1)
        return detectable(variance**0.5, variance**2 / spread if spread else np.inf)


def detected(variances: Sequence[Variances], n: int, seeds: int, rows: int, sides: int) -> float | None:
    """In the row with the largest error, as under a table; ``None`` where no variance is known."""
    return max((row.detectable(n, seeds, rows, sides) for row in variances), default=None)


def seeds_needed(change: float, variances: Sequence[Variances], n: int, rows: int, sides: int) -> int | None:
    """Fewest training seeds that detect ``change`` with n questions; ``None``: no number up to ``MOST_SEEDS`` does, or
    no variance is known. With one seed its variance cannot be seen: at least 2 where it is known."""
    least = 1 if any(row.seed is None for row in variances) else 2
    return _fewest(change, range(least, MOST_SEEDS + 1), lambda seeds: detected(variances, n, seeds, rows, sides))


def questions_needed(
    change: float, variances: Sequence[Variances], seeds: int, rows: int, sides: int, least: int
) -> int | None:
    """Fewest questions, from ``least`` on; ``None``: no number of questions suffices, or no variance is known."""
    return _fewest(change, range(least, MOST_QUESTIONS + 1), lambda n: detected(variances, n, seeds, rows, sides))


def _fewest(change: float, numbers: range, detects: Callable[[int], float | None]) -> int | None:
    tried = number = numbers[0]
    if detects(number) is None:
        return None
    # With questions the change falls only until the variance of seeds weighs most, whose few degrees of freedom make it
    # rise again: so the first step that suffices is looked for, and the number within it.
    while (detects(number) or 0.0) > change:
        if number == numbers[-1]:
            return None
        tried, number = number + 1, min(number + max(1, number // 8), numbers[-1])
    return bisect_left(range(number), True, tried, key=lambda between: (detects(between) or 0.0) <= change)


def pilot_variances(results: Results, target: Target) -> dict[str, list[Variances]]:
    """By metric, of every trained row that the run tests against the reference."""
    found: dict[str, list[Variances]] = {}
    scores = by_cell(results.scores)
    for metric in results.run.columns:
        places = [(row, (row.id, metric.id)) for row in results.run.rows]
        # Of any coverage. Without the tests of a whole table: nothing here needs them.
        cells = [CellSummary(row, metric, scores[place], (), 0.0) for row, place in places if place in scores]
        draws = {cell.row.id: cell.draws for cell in cells if cell.draws is not None}
        same_length(metric.id, [row_draws.grid.shape[1] for row_draws in draws.values()])
        noise, reference = seed_noise(list(draws.values())), draws.get(target.reference)
        reference_n = {cell.row.id: cell.n for cell in cells}.get(target.reference, 0)
        for cell in cells:
            n, own = min(cell.n, reference_n), cell.draws
            if own is None or reference is None or own is reference or cell.row.baseline or n < FEW_QUESTIONS:
                continue
            seeds = own.seeds
            total = n * contrast(own, reference, n, None).error ** 2
            # Estimated each by itself, a part may come out larger than the whole.
            answers = min(n * (_answer_variance(own) + _answer_variance(reference)), total * seeds)
            own_answers, seed = (noise.residual * n, noise.seed) if noise else (0.0, None)
            rows = found.setdefault(metric.id, [])
            rows.append(Variances(total - answers / seeds, answers, own_answers, seed))
    return found


def _answer_variance(draws: Draws) -> float:
    """Of a score on these questions, from one seed's answers to another's (``harness.stats.seed_noise``)."""
    return float((draws.grid - draws.centre).var(axis=1, ddof=1).sum()) / max(1, draws.seeds - 1)
