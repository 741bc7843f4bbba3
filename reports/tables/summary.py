"""From scores to the numbers of a table: seeds combined, intervals, paired changes, tests, ties, the paper's values.

Three families of tests per column, each with Holm's correction of its own: every trained row against the reference,
the target's focus row against every other trained row, and every trained row against the best one. All are paired:
``stats.contrast`` on the same resamples of the same questions. Pure functions; a row's own numbers are made in
``reports/tables/cell.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from harness.contracts.benchmark import Metric
from harness.contracts.target import Target
from harness.errors import UserError
from harness.stats import FEW_QUESTIONS, Draws, Estimate, SeedNoise, contrast, detectable, holm, seed_noise
from harness.text import counted
from reports.tables.cell import (
    ALPHA,
    NOT_COMPARED,
    CellSummary,
    Comparison,
    SeedScores,
    same_length,
    scale,
    seed_scores,
)
from reports.tables.published import PublishedComparison, compared, published_values
from reports.tables.variance import VarianceShares, variance_shares
from results.run.record import RowSpec
from results.run.results import Results

MIN_COVERAGE = 0.98
"""Below this share of scored questions a cell is refused, unless asked (charter, section 6)."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class ColumnSummary:
    """What holds for a whole column."""

    metric: Metric
    detectable: float | None
    """Minimum detectable effect (80% power, alpha 0.05, before Holm) in the row with the largest error; ``None``: not
    known, or more than the metric's whole scale."""
    comparisons: int
    """Tests against the reference row: a family of Holm's correction."""
    best: tuple[str, ...]
    """The trained rows with the highest printed value."""
    warnings: tuple[str, ...] = ()
    focus_comparisons: int = 0
    """Tests of the focus row against the other trained rows: another family."""
    best_comparisons: int = 0
    """Tests against the best trained row: the third family."""
    shares: VarianceShares | None = None
    """Of the trained rows together."""


@dataclass(frozen=True)
class Summary:
    """Everything a table or figure of one target shows."""

    target: Target
    rows: tuple[RowSpec, ...]
    columns: tuple[ColumnSummary, ...]
    cells: Mapping[tuple[str, str], CellSummary]
    """By row id and metric id; complete."""
    min_coverage: float
    absent: tuple[str, ...] = ()
    """Rows and columns of the target that this run does not have."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """Trained row to its optimiser steps (the fewest over seeds), where its training curve is known."""

    def title(self, row: str) -> str:
        """A row's title; the id itself where the run does not have that row."""
        return next((spec.title for spec in self.rows if spec.id == row), row)


def summarise(results: Results, target: Target, min_coverage: float = MIN_COVERAGE) -> Summary:
    """Fill the target's grid. Raises UserError for a coverage outside 0..1 and for scores that cannot be paired."""
    if not 0 <= min_coverage <= 1:
        raise UserError(f"min_coverage {min_coverage!r}: a share between 0 and 1 is needed (0.98 is the default)")
    run = results.run
    rows = _in_order({row.id: row for row in run.rows}, target.rows, more=True)
    metrics = _in_order({metric.id: metric for metric in run.columns}, target.columns, target.open)
    # said under the table: a table with fewer rows than the paper's must not look whole
    absent = [name for name in target.rows if name not in {row.id for row in rows}]
    absent += [name for name in target.columns if name not in {metric.id for metric in metrics}]
    papers = published_values(run, target.published, metrics)
    columns: list[ColumnSummary] = []
    cells: dict[tuple[str, str], CellSummary] = {}
    for metric in metrics:
        scores = {row.id: seed_scores(results, row, metric, min_coverage) for row in rows}
        column = _Column(metric, scores, target)
        columns.append(column.summary())
        cells |= {(row.id, metric.id): column.cell(row.id, papers.get((row.id, metric.id))) for row in rows}
    return Summary(target, tuple(rows), tuple(columns), cells, min_coverage, tuple(absent), _steps(results))


def _steps(results: Results) -> dict[str, int]:
    steps: dict[str, int] = {}
    for (row, _), training in results.trained.items():
        if training.curve:
            steps[row] = min(len(training.curve), steps.get(row, len(training.curve)))
    return steps


def _in_order(have: Mapping[str, _T], wanted: Sequence[str], more: bool) -> list[_T]:
    first = [have[name] for name in wanted if name in have]
    return first + [item for name, item in have.items() if more and name not in wanted]


class _Column:
    """One metric: the draws of all its rows, and the three families of tests between them."""

    def __init__(self, metric: Metric, scores: Mapping[str, SeedScores], target: Target) -> None:
        self.metric, self.scores = metric, scores
        self.draws: dict[str, Draws] = {name: own.draws for name, own in scores.items() if own.draws is not None}
        # replicate b must mean the same resample of questions in all rows, else differences are not paired
        same_length(metric.id, [draws.grid.shape[1] for draws in self.draws.values()])
        self.trained = [name for name, own in scores.items() if not own.row.baseline]
        # pooled over all rows before any cell is made: a row's interval needs the column's noise
        self.noise: SeedNoise | None = seed_noise(list(self.draws.values()))
        self.reference = target.reference
        self.changes = self._against(target.reference)
        self.tests = self._tested(self.changes, target.reference)
        # a focus row that this run does not train has no comparisons, and no signs
        focus = target.focus if target.focus in self.trained else None
        self.focus = self._tested(self._against(focus), focus) if focus is not None else {}
        values = {name: value for name in self.trained if (value := scores[name].value) is not None}
        # two rows that print the same number are both best: bold must not depend on digits that nobody sees
        printed = {name: round(value, metric.digits) for name, value in values.items()}
        most = max(printed.values(), default=None)
        # of one row nothing is best, and a high cost is no merit
        several = len(printed) > 1 and not metric.measured
        self.best = tuple(name for name, value in printed.items() if several and value == most)
        # the test needs one row to compare with: the highest value that has replicates, ties in row order
        drawn = {name: value for name, value in values.items() if name in self.draws}
        top = max(drawn, key=lambda name: drawn[name]) if drawn else None
        self.below_best = self._tested(self._against(top), top) if top is not None else {}

    def _against(self, other: str) -> dict[str, Estimate]:
        """Each trained row minus the other one, paired; rows without draws are left out."""
        if other not in self.draws:
            return {}
        return {
            name: contrast(
                self.draws[name], self.draws[other], min(self.scores[name].n, self.scores[other].n), self.noise
            )
            for name in self.trained
            if name in self.draws and name != other
        }

    def _tested(self, changes: Mapping[str, Estimate], other: str) -> dict[str, Comparison]:
        """The changes as one family of tests. From few questions none is tested."""
        # the bootstrap's variance is that of the smaller sample, so the smaller sample must be large enough
        fewest = {name: min(self.scores[name].n, self.scores[other].n) for name in changes}
        raw = {name: change.p for name, change in changes.items() if fewest[name] >= FEW_QUESTIONS}
        # untested rows stay out of the family: each would make the correction stricter for the others
        adjusted = holm(raw)
        return {
            name: Comparison(change.value, change.low, change.high, raw.get(name), adjusted.get(name))
            for name, change in changes.items()
        }

    def cell(self, name: str, paper: PublishedComparison | None) -> CellSummary:
        """One row's cell, composed once from its own numbers, the tests and the published value."""
        own, below = self.scores[name], self.below_best.get(name, NOT_COMPARED)
        low, high = own.interval(self.noise)
        # only now: the verdict needs the interval, and that needs the column's noise
        if paper is not None:
            paper = compared(paper, own.value, (low, high), self.metric, own.n, own.notes)
        # an untested row is not called tied: nothing is known of the difference
        tied = name not in self.best and below.p is not None and not below.significant
        change, focus = self._change(name), self._focus(name)
        return CellSummary(own, low, high, own.pooled(self.noise), name in self.best, tied, change, focus, paper)

    def _change(self, name: str) -> Comparison:
        """Without replicates a change is still a change, only untested."""
        if name in self.tests or name not in self.trained or self.reference not in self.scores:
            return self.tests.get(name, NOT_COMPARED)
        value, base = self.scores[name].value, self.scores[self.reference].value
        if value is None or base is None or name == self.reference:
            return NOT_COMPARED
        return Comparison(value - base)

    def _focus(self, name: str) -> Comparison:
        """The focus row minus this one: the test is of this one minus the focus row, so its ends change places."""
        test = self.focus.get(name, NOT_COMPARED)
        if test.delta is None or test.low is None or test.high is None:
            return NOT_COMPARED
        return Comparison(-test.delta, -test.high, -test.low, test.p, test.p_holm)

    def summary(self) -> ColumnSummary:
        """What holds for the whole column."""
        scores = [score for name in self.trained for score in self.scores[name].scores.values()]
        shares = variance_shares(self.noise, list(self.draws.values()), scores)
        return ColumnSummary(
            self.metric, self._detectable(), _count(self.tests), self.best, self._warnings(), _count(self.focus),
            _count(self.below_best), shares,
        )  # fmt: skip

    def _detectable(self) -> float | None:
        tested = [self.changes[name] for name, test in self.tests.items() if test.p is not None]
        effect = max((detectable(change.error, change.freedom) for change in tested if change.error > 0), default=None)
        ends = scale(self.metric)
        # with a fraction of a degree of freedom Student's t has no useful quantile: 4,860 points of 100 say nothing
        return None if effect is None or (ends is not None and effect > ends[1] - ends[0]) else effect

    def _warnings(self) -> tuple[str, ...]:
        warnings = []
        # n = 0: measured, not asked of questions
        counts = [own.n for own in self.scores.values() if own.value is not None and own.n]
        if counts and min(counts) < FEW_QUESTIONS:
            warnings.append(
                f"only {counted(min(counts), 'question')}: intervals from so few are too narrow, and changes are not "
                "tested"
            )
        replicates = max((draws.grid.shape[1] for draws in self.draws.values()), default=0)
        tested = [name for name, test in self.tests.items() if test.p is not None]
        by_bootstrap = [name for name in tested if self.changes[name].freedom == float("inf")]
        # the p-value of a bootstrap can go no lower than 2 / (replicates + 1)
        if by_bootstrap and len(tested) * 2 / (replicates + 1) >= ALPHA:
            warnings.append(
                f"{replicates:,} bootstrap replicates are too few to find any of {counted(len(tested), 'change')} "
                "significant"
            )
        return tuple(warnings)


def _count(tests: Mapping[str, Comparison]) -> int:
    return sum(test.p is not None for test in tests.values())
