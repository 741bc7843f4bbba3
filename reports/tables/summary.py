"""From scores to the numbers of a table: means over seeds, intervals, paired changes, tests, ties, the paper's values.
Intervals: ``stats.contrast``'s (seeds and questions) with trained rows of several seeds, else the score's own. Holm's
families per column, paired by resamples of the questions: every trained row against the reference, the focus row
against every other trained row, every trained row against the best one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from harness.contracts.benchmark import MISSING, Metric
from harness.contracts.stage import Ref
from harness.contracts.target import Target
from harness.errors import UserError, unknown_choice
from harness.stats import FEW_QUESTIONS, Draws, SeedNoise, contrast, detectable, holm, seed_noise
from harness.text import format_count
from harness.types import Score
from reports.tables.published import PublishedComparison, compare_with_paper, published_values
from results.run.lineage import CellKey, ScoreSource
from results.run.record import RowSpec, Run, section
from results.run.results import Results

ALPHA = 0.05
MIN_COVERAGE = 0.98
"""Below this share of scored questions a cell is refused, unless asked (charter, section 6)."""
CATEGORY = "category:"
T = TypeVar("T")


@dataclass(frozen=True)
class Comparison:
    """One row minus another on the same questions, in the metric's unit."""

    delta: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None  # ``None``: not tested (too few questions, or no replicates)
    p_holm: float | None = None  # after Holm's correction over its family
    error: float = 0.0
    freedom: float = np.inf

    @property
    def significant(self) -> bool:
        return self.p_holm is not None and self.p_holm < ALPHA


NOT_COMPARED = Comparison(None)


class Difference(NamedTuple):
    """One row minus another on the same questions, means over seeds, in the metric's unit, with its 95% interval."""

    change: float
    low: float | None
    high: float | None
    p: float | None
    """Two-sided p-value of this test alone; ``None``: not tested, because there are fewer than 30 questions."""
    n: int
    """Questions; of the row that has fewer."""


@dataclass(eq=False)
class CellSummary:
    """One row and metric, in the metric's unit. What needs the column's other rows is filled in after all are read."""

    row: RowSpec
    metric: Metric
    scores: Mapping[int, Score]
    missing_scores: Sequence[str]  # reasons, of the seeds without a score
    min_coverage: float
    low: float | None = None  # 95% interval, clipped to the metric's scale
    high: float | None = None
    pooled: bool = False  # the interval has the trained rows' pooled variance of seeds
    best: bool = False
    change: Comparison = NOT_COMPARED
    to_best: Comparison = NOT_COMPARED  # this row minus the best trained one
    focus: Comparison = NOT_COMPARED  # focus row minus this one
    paper: PublishedComparison | None = None
    sources: Mapping[int, ScoreSource] = field(default_factory=dict)  # by seed

    def __post_init__(self) -> None:
        self.valued_scores = [score for score in self.scores.values() if score.value is not None]
        # by seed, whatever the coverage
        self.values = {seed: score.value for seed, score in self.scores.items() if score.value is not None}
        # the seed with fewest questions bounds how precise the mean can be
        self.n = min((score.n for score in self.valued_scores), default=0)
        self.unscored = sum(score.unscored for score in self.scores.values())

    @cached_property
    def coverage(self) -> float | None:
        """Scored share of all questions of all seeds, 0..1; a partly judged question counts by that part."""
        total = sum(score.n + score.unscored for score in self.scores.values())
        return sum(score.covered_questions for score in self.scores.values()) / total if total else None

    @cached_property
    def refused(self) -> bool:
        return bool(self.values) and self.coverage is not None and self.coverage < self.min_coverage

    @property
    def reason(self) -> str:
        """Why there is no value."""
        return "refused, too few verdicts" if self.refused else "; ".join(self.notes) or "no value"

    @cached_property
    def value(self) -> float | None:
        return float(np.mean(list(self.values.values()))) if self.values and not self.refused else None

    @cached_property
    def draws(self) -> Draws | None:
        """``None`` where the row must not be compared. Raises UserError: seeds with different numbers of replicates."""
        # n = 0: measured once per seed (training time), not asked of questions, so there is nothing to resample
        if self.value is None or not self.n or not all(score.replicates for score in self.valued_scores):
            return None
        same_length(f"{self.row.id}, {self.metric.id}", [len(score.replicates) for score in self.valued_scores])
        grid = np.array([score.replicates for score in self.valued_scores])
        return Draws(np.array(list(self.values.values()), dtype=float), grid, not self.row.baseline)

    def set_interval(self, noise: SeedNoise | None) -> None:
        self.pooled = noise is not None and self.draws is not None and self.draws.trained
        # one seed of an untrained model keeps its score's own interval, which its benchmark may know better (LC)
        if self.draws is not None and (self.draws.seeds > 1 or self.pooled):
            estimate = contrast(self.draws, None, self.n, noise)
            self.low, self.high = estimate.low, estimate.high
        elif self.value is not None and len(self.valued_scores) == 1:
            self.low, self.high = self.valued_scores[0].low, self.valued_scores[0].high
        limits = scale(self.metric)
        if limits is not None and self.low is not None and self.high is not None:
            # with two seeds Student's t reaches far beyond the scale
            self.low, self.high = max(self.low, limits[0]), min(self.high, limits[1])

    @cached_property
    def made_from(self) -> frozenset[tuple[Ref, Ref]]:
        """Answers and judgments behind the value; empty where they are not known."""
        return frozenset((source.answers, source.judgments) for source in self._known_sources)

    @cached_property
    def questions(self) -> frozenset[str]:
        """Hashes of the questions behind the value; without one of them it is not known which those were."""
        return frozenset(source.questions for source in self._known_sources)

    @property
    def _known_sources(self) -> list[ScoreSource]:
        found = [self.sources[seed] for seed in self.values if seed in self.sources]
        return found if len(found) == len(self.values) else []

    @cached_property
    def notes(self) -> tuple[str, ...]:
        notes = [*self.missing_scores, *(score.note for score in self.scores.values())]
        count = len(self.scores) + len(self.missing_scores)
        # the order matters: a row that was never planned has no reason of its own to give
        if not count:
            notes = ["not in this run"]
        elif not self.values and not any(notes):
            notes = ["no score, and the run does not say why"]
        elif self.values and len(self.values) < count:
            notes.append(f"{len(self.values)} of {count} seeds")
        if self.value is not None and len(self.valued_scores) > 1 and self.draws is None and self.n:
            notes.append("no interval: these scores carry no bootstrap replicates")
        if self.refused and (reasons := self._reasons_of_missing):
            notes.append(f"most missing verdicts: {'; '.join(reasons)}")
        return tuple(dict.fromkeys(note for note in notes if note))

    @property
    def _reasons_of_missing(self) -> list[str]:
        """The two commonest, in order of the alphabet: cells with the same two share a footnote."""
        names = {name for score in self.scores.values() for name in score.detail if name.startswith(MISSING)}
        common = sorted(names, key=lambda name: (-self.total(name), name))[:2]
        return sorted(name.removeprefix(MISSING) for name in common)

    @cached_property
    def bounds(self) -> tuple[float, float] | None:
        """The value if each missing verdict were the worst, the best; a seed without any has no value, but bounds."""
        scores = list(self.scores.values())
        # a refused cell gives no bounds either: they would let the refused value be guessed
        if self.value is None or not any("lowest" in score.detail for score in scores):
            return None
        extremes = [[score.detail.get(name, score.value) for score in scores] for name in ("lowest", "highest")]
        low, high = (float(np.mean([float(end) for end in values if end is not None])) for values in extremes)
        return low, high

    def total(self, detail: str) -> int:
        return sum(int(score.detail.get(detail, 0)) for score in self.scores.values())

    @cached_property
    def lengths(self) -> tuple[float, float, float] | None:
        """Of scores against a baseline: mean answer length and the baseline's (characters), share cut short."""
        names = ("mean_length", "baseline_length", "truncated")
        details = [score.detail for score in self.scores.values()]
        full_details = [detail for detail in details if all(isinstance(detail.get(name), float) for name in names)]
        if not full_details:
            return None
        length, baseline, share_truncated = (
            float(np.mean([float(detail[name]) for detail in full_details])) for name in names
        )
        return length, baseline, share_truncated

    @cached_property
    def categories(self) -> dict[str, float]:
        """Mean over seeds by category of question, where the benchmark has them; empty for a refused cell."""
        details = [score.detail for score in self.valued_scores] if self.value is not None else []
        # the first seed's categories, in the benchmark's order; a category that a seed lacks has no mean
        return {
            name.removeprefix(CATEGORY): float(np.mean([float(detail[name]) for detail in details]))
            for name in (details[0] if details else {})
            if name.startswith(CATEGORY) and all(name in detail for detail in details)
        }

    def numbers(self) -> dict[str, float | int | bool | None]:
        """Under the names and in the order of the CSV and the JSON."""
        (lowest, highest), paper = self.bounds or (None, None), self.paper
        return {
            "value": self.value, "low": self.low, "high": self.high, "n": self.n, "unscored": self.unscored,
            "coverage": self.coverage, "lowest": lowest, "highest": highest, "delta": self.change.delta,
            "delta_low": self.change.low, "delta_high": self.change.high, "p": self.change.p,
            "p_holm": self.change.p_holm, "focus_delta": self.focus.delta, "focus_low": self.focus.low,
            "focus_high": self.focus.high, "focus_p": self.focus.p, "focus_p_holm": self.focus.p_holm,
            "best": self.best, "tied_with_best": self.tied, "seeds": len(self.values),
            "published": paper.value if paper else None, "difference": paper.difference if paper else None,
            "difference_low": paper.low if paper else None, "difference_high": paper.high if paper else None,
        }  # fmt: skip

    @property
    def tied(self) -> bool:
        """Not significantly different from the best trained row, and not that row. An untested row is not called tied:
        nothing is known of the difference."""
        return not self.best and self.to_best.p is not None and not self.to_best.significant

    @property
    def verdict(self) -> str:
        return self.paper.verdict if self.paper is not None and self.value is not None else ""


@dataclass(frozen=True)
class ColumnSummary:
    metric: Metric
    detectable: float | None
    """Of the largest error (80% power, alpha 0.05, before Holm); ``None``: unknown, or beyond the metric's scale."""
    comparisons: int
    focus_comparisons: int
    best_comparisons: int
    best: tuple[str, ...]
    warnings: tuple[str, ...]
    shares: Mapping[str, float | None] | None


@dataclass(frozen=True)
class Summary:
    target: Target
    rows: tuple[RowSpec, ...]
    columns: tuple[ColumnSummary, ...]
    cells: Mapping[tuple[str, str], CellSummary]  # by row id and metric id; complete
    min_coverage: float
    absent: tuple[str, ...] = ()  # rows and columns of the target that this run does not have
    steps: Mapping[str, int] = field(default_factory=dict)  # by trained row, the fewest over seeds

    @cached_property
    def _titles(self) -> dict[str, str]:
        return {spec.id: spec.title for spec in self.rows}

    def title(self, row: str) -> str:
        return self._titles.get(row, row)

    @property
    def benchmarks(self) -> dict[str, list[ColumnSummary]]:
        groups: dict[str, list[ColumnSummary]] = {}
        for column in self.columns:
            if not column.metric.measured:
                groups.setdefault(column.metric.id.partition(".")[0], []).append(column)
        return groups

    def column(self, metric: str) -> list[CellSummary]:
        return [self.cells[row.id, metric] for row in self.rows]

    def difference(self, row: str, other: str, metric: str) -> Difference:
        """``row`` minus ``other``. Raises UserError for an unknown name, one row twice, and a cell without value."""
        if metric not in (metrics := [column.metric.id for column in self.columns]):
            raise unknown_choice("metric", metric, metrics)
        column = {cell.row.id: cell for cell in self.column(metric)}
        if row == other:
            raise UserError(f"{row} is compared with itself: name two rows.")
        for name in (row, other):
            if name not in column:
                raise unknown_choice("row", name, column)
            if column[name].value is None:
                raise UserError(f"{name} has no value of {metric}: {column[name].reason}.")
        change = (column[row].value or 0.0) - (column[other].value or 0.0)
        noise = seed_noise([cell.draws for cell in column.values() if cell.draws is not None])
        # without replicates a change is still a change, only untested
        found = compare(column, [row], other, noise).get(row, NOT_COMPARED)
        return Difference(change, found.low, found.high, found.p, min(column[row].n, column[other].n))


def least_coverage(run: Run) -> float:
    """Smallest scored share of a cell, by the run's recipe."""
    return float(section(run.recipe, "statistics").get("min_coverage", MIN_COVERAGE))  # type: ignore[arg-type]


def summarise(results: Results, target: Target, min_coverage: float = MIN_COVERAGE) -> Summary:
    """Fill the target's grid. Raises UserError for a coverage outside 0..1 and for scores that cannot be paired."""
    if not 0 <= min_coverage <= 1:
        raise UserError(f"min_coverage {min_coverage!r}: a share between 0 and 1 is needed (0.98 is the default)")
    run = results.run
    rows = _in_order({row.id: row for row in run.rows}, target.rows, with_unlisted=True)
    metrics = _in_order({metric.id: metric for metric in run.columns}, target.columns, target.open)
    # printed under the table: a table with fewer rows than the paper's must not look whole
    absent = [name for name in target.rows if name not in {row.id for row in rows}]
    absent += [name for name in target.columns if name not in {metric.id for metric in metrics}]
    papers = published_values(run, target.published, metrics)
    columns: list[ColumnSummary] = []
    cells: dict[tuple[str, str], CellSummary] = {}
    scores, reasons, sources = by_cell(results.scores), by_cell(results.missing_scores), by_cell(results.sources)
    for metric in metrics:
        column: dict[str, CellSummary] = {}
        for row in rows:
            place = row.id, metric.id
            missing_scores = list(reasons.get(place, {}).values())
            column[row.id] = CellSummary(row, metric, scores.get(place, {}), missing_scores, min_coverage)
            column[row.id].sources = sources.get(place, {})
        columns.append(_compare_rows(metric, column, target))
        cells |= {(name, metric.id): cell for name, cell in column.items()}
    for key, paper in papers.items():
        cell = cells[key]
        # only now: the verdict needs the interval, and that needs the column's noise
        cell.paper = compare_with_paper(paper, cell.value, (cell.low, cell.high), cell.metric, cell.n, cell.notes)
    steps: dict[str, int] = {}
    for (name, _), training in results.trainings.items():
        if training.curve:
            steps[name] = min(len(training.curve), steps.get(name, len(training.curve)))
    return Summary(target, tuple(rows), tuple(columns), cells, min_coverage, tuple(absent), steps)


def by_cell(values: Mapping[CellKey, T]) -> dict[tuple[str, str], dict[int, T]]:
    """By row and metric, then by seed."""
    cells: dict[tuple[str, str], dict[int, T]] = {}
    for (row, metric, seed), value in values.items():
        cells.setdefault((row, metric), {})[seed] = value
    return cells


def _in_order(by_name: Mapping[str, T], order: Sequence[str], with_unlisted: bool) -> list[T]:
    ordered_items = [by_name[name] for name in order if name in by_name]
    return ordered_items + [item for name, item in by_name.items() if with_unlisted and name not in order]


def compare(
    cells: Mapping[str, CellSummary], rows: Iterable[str], reference: str | None, noise: SeedNoise | None
) -> dict[str, Comparison]:
    """Each of ``rows`` minus ``reference``, as one family of tests; rows without draws are left out."""
    base = cells.get(reference or "")
    if base is None or base.draws is None:
        return {}
    # the bootstrap's variance is that of the smaller sample, so the smaller sample must be large enough
    fewest, changes = {}, {}
    for name in rows:
        if (draws := cells[name].draws) is not None and name != reference:
            fewest[name] = min(cells[name].n, base.n)
            changes[name] = contrast(draws, base.draws, fewest[name], noise)
    # untested rows stay out of the family: they would make the correction stricter for the others
    raw_p = {name: change.p for name, change in changes.items() if fewest[name] >= FEW_QUESTIONS}
    p_holm = holm(raw_p)
    return {
        name: Comparison(
            change.value, change.low, change.high, raw_p.get(name), p_holm.get(name), change.error, change.freedom
        )
        for name, change in changes.items()
    }  # fmt: skip


def _compare_rows(metric: Metric, cells: Mapping[str, CellSummary], target: Target) -> ColumnSummary:
    draws = {name: cell.draws for name, cell in cells.items() if cell.draws is not None}
    # replicate b must mean the same resample of questions in all rows, else differences are not paired
    same_length(metric.id, [row_draws.grid.shape[1] for row_draws in draws.values()])
    # pooled over all rows before any interval: a row's interval needs the column's noise
    noise = seed_noise(list(draws.values()))
    trained_rows = {name: cell for name, cell in cells.items() if not cell.row.baseline}
    values = {name: cell.value for name, cell in trained_rows.items() if cell.value is not None}
    # two rows that print the same number are both best: bold must not depend on digits that nobody sees
    rounded_values = {name: round(value, metric.digits) for name, value in values.items()}
    # of one row, or of rows that are all equal, nothing is best, and a high cost is no merit
    highest = None if metric.measured or len({*rounded_values.values()}) < 2 else max(rounded_values.values())
    best = tuple(name for name, value in rounded_values.items() if value == highest)
    # the test needs one row to compare with: the highest value that has replicates, ties in row order
    top = max((name for name in values if name in draws), key=lambda name: values[name], default=None)
    # a focus row that this run does not train has no comparisons, and no signs
    trained_focus = target.focus if target.focus in trained_rows else None
    changes, below_best, focus = (
        compare(cells, trained_rows, reference, noise) for reference in (target.reference, top, trained_focus)
    )
    base = cells[target.reference].value if target.reference in cells else None
    for name, cell in cells.items():
        cell.set_interval(noise)
        cell.best = name in best
        cell.to_best = below_best.get(name, NOT_COMPARED)
        if name in changes:
            cell.change = changes[name]
        elif name in values and base is not None and name != target.reference:
            # without replicates a change is still a change, only untested
            cell.change = Comparison(values[name] - base)
        test = focus.get(name, NOT_COMPARED)
        if test.delta is not None and test.low is not None and test.high is not None:
            # the test is of this row minus the focus row, so its ends change places
            cell.focus = Comparison(-test.delta, -test.high, -test.low, test.p, test.p_holm)
    scores = [score for cell in trained_rows.values() for score in cell.scores.values()]
    tests = [change for change in changes.values() if change.p is not None]
    return ColumnSummary(
        metric, smallest_effect(metric, tests), len(tests), _count_tests(focus), _count_tests(below_best), best,
        _warnings(cells.values(), tests), variance_shares(noise, list(draws.values()), scores),
    )  # fmt: skip


def _count_tests(family: Mapping[str, Comparison]) -> int:
    return sum(test.p is not None for test in family.values())


def smallest_effect(metric: Metric, tests: Sequence[Comparison]) -> float | None:
    """That is detected, in the row with the largest error; ``None``: unknown, or beyond the metric's scale."""
    effect = max((detectable(test.error, test.freedom) for test in tests if test.error > 0), default=None)
    limits = scale(metric)
    # with a fraction of a degree of freedom Student's t has no useful quantile: 4,860 points of 100 say nothing
    return None if effect is None or (limits is not None and effect > limits[1] - limits[0]) else effect


def _warnings(cells: Collection[CellSummary], tests: Sequence[Comparison]) -> tuple[str, ...]:
    warnings = []
    # n = 0: measured, not asked of questions
    fewest = min((cell.n for cell in cells if cell.value is not None and cell.n), default=FEW_QUESTIONS)
    if fewest < FEW_QUESTIONS:
        # without the number, which stands under the table, all columns share one footnote
        warnings.append(f"fewer than {FEW_QUESTIONS} questions: intervals too narrow, changes not tested")
    replicates = max((cell.draws.grid.shape[1] for cell in cells if cell.draws is not None), default=0)
    by_bootstrap = any(test.freedom == np.inf for test in tests)
    # the p-value of a bootstrap can go no lower than 2 / (replicates + 1)
    if by_bootstrap and len(tests) * 2 / (replicates + 1) >= ALPHA:
        warnings.append(
            f"{replicates:,} bootstrap replicates are too few to find any of {format_count(len(tests), 'change')} "
            "significant"
        )
    return tuple(warnings)


def variance_shares(
    noise: SeedNoise | None, draws: Sequence[Draws], scores: Sequence[Score]
) -> dict[str, float | None] | None:
    """Shares of the variance of trained rows' means over seeds: ``seed``, ``question``, ``answer`` (anew per seed) and
    ``judge`` (``None`` where each answer was judged once: ``answer`` has its noise). ``None`` with one seed."""
    several = [row for row in draws if row.trained and row.seeds > 1]
    if noise is None or not several:
        return None
    seeds = float(np.mean([row.seeds for row in several]))
    answer_noise = noise.residual / seeds
    # replicates of the mean over seeds vary by questions and by the answers to them: take the answers' part off
    question = max(0.0, float(np.mean([row.centre.var(ddof=1) for row in several])) - answer_noise)
    total = noise.seed / seeds + question + answer_noise
    if total == 0:
        return None
    judge_variances = []
    for score in scores:
        repeats, one_judgment = score.detail.get("judge_repeats"), score.detail.get("judge_variance")
        if isinstance(repeats, float) and isinstance(one_judgment, float) and score.n:
            judge_variances.append(one_judgment / repeats / score.n)
    # estimated from other data than the rest, it may come out larger than the whole that it is a part of
    judge = min(answer_noise, float(np.mean(judge_variances)) / seeds) if judge_variances else 0.0
    return {
        "seed": noise.seed / seeds / total, "question": question / total, "answer": (answer_noise - judge) / total,
        "judge": judge / total if judge_variances else None,
    }  # fmt: skip


def scale(metric: Metric) -> tuple[float, float] | None:
    """The ends of a metric's scale, as its unit has them (``%``, ``1-10``); ``None`` where it names none."""
    if metric.unit == "%":
        return 0.0, 100.0
    match = re.fullmatch(r"(\d+)\s*[-–~]\s*(\d+)", metric.unit)
    return (float(match[1]), float(match[2])) if match else None


def same_length(label: str, lengths: Sequence[int]) -> None:
    if len(set(lengths)) > 1:
        counts = ", ".join(str(length) for length in sorted(set(lengths)))
        raise UserError(f"{label}: scores with {counts} bootstrap replicates cannot be paired. Score them again alike.")
