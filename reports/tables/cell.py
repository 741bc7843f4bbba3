"""One row and metric: its scores under all seeds combined, and what the tests and the paper say of the result.

The value is the mean over seeds. Its 95% interval is ``stats.contrast``'s (seeds and questions) where the column has
trained rows of several seeds, and else the score's own over questions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.contracts.benchmark import Metric
from harness.errors import UserError
from harness.stats import Draws, SeedNoise, contrast
from harness.types import Score
from reports.tables.published import PublishedComparison
from results.run.record import RowSpec
from results.run.results import Results

ALPHA = 0.05
CATEGORY = "category:"
"""Before the name of a category in a score's ``detail``."""


@dataclass(frozen=True)
class Comparison:
    """One row against another on the same questions, in the metric's unit."""

    delta: float | None
    """This row minus the other."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """``None``: not tested (too few questions, or no replicates)."""
    p_holm: float | None = None
    """After Holm's correction over the comparisons of its family."""

    @property
    def significant(self) -> bool:
        return self.p_holm is not None and self.p_holm < ALPHA


NOT_COMPARED = Comparison(None)


@dataclass(frozen=True)
class SeedScores:
    """The scores of one row and metric, one per training seed."""

    row: RowSpec
    metric: Metric
    scores: Mapping[int, Score]
    """By seed, also those without a value."""
    missing: tuple[str, ...]
    """Why there is no score, for the seeds that have none."""
    expected: int
    """Seeds that the run has for this row; 0: the row is not in this run."""
    min_coverage: float

    @cached_property
    def values(self) -> dict[int, float]:
        """By seed, whatever the coverage."""
        return {seed: score.value for seed, score in self.scores.items() if score.value is not None}

    @cached_property
    def valued(self) -> list[Score]:
        return [score for score in self.scores.values() if score.value is not None]

    @cached_property
    def n(self) -> int:
        """Questions that count, in the seed that has fewest."""
        # the seed with fewest questions bounds how precise the mean can be
        return min((score.n for score in self.valued), default=0)

    @cached_property
    def coverage(self) -> float | None:
        """Scored share of all questions of all seeds, 0..1; a partly judged question counts by that part."""
        return scored_share(list(self.scores.values()))

    @cached_property
    def refused(self) -> bool:
        """Whether too few questions are scored for the value to be shown."""
        return bool(self.values) and self.coverage is not None and self.coverage < self.min_coverage

    @cached_property
    def value(self) -> float | None:
        """The mean over seeds; ``None`` where there is none, or it is refused."""
        return float(np.mean(list(self.values.values()))) if self.values and not self.refused else None

    @cached_property
    def draws(self) -> Draws | None:
        """Values and bootstrap replicates for paired tests; ``None`` where the row must not be compared.

        Raises UserError where seeds have different numbers of replicates.
        """
        scores = self.valued
        # n = 0: measured once per seed (training time), not asked of questions, so there is nothing to resample
        if self.value is None or all(score.n == 0 for score in scores) or not all(s.replicates for s in scores):
            return None
        same_length(f"{self.row.id}, {self.metric.id}", [len(score.replicates) for score in scores])
        # [S, B]: seeds by resamples
        grid = np.array([score.replicates for score in scores])
        return Draws(np.array(list(self.values.values()), dtype=float), grid, not self.row.baseline)

    def interval(self, noise: SeedNoise | None) -> tuple[float | None, float | None]:
        """The 95% interval of the value, clipped to the metric's scale."""
        low: float | None = None
        high: float | None = None
        # one seed of an untrained model keeps its score's own interval, which its benchmark may know better (LC)
        if self.draws is not None and (self.draws.seeds > 1 or self.pooled(noise)):
            estimate = contrast(self.draws, None, self.n, noise)
            low, high = estimate.low, estimate.high
        elif self.value is not None and len(self.valued) == 1:
            low, high = self.valued[0].low, self.valued[0].high
        ends = scale(self.metric)
        if ends is None or low is None or high is None:
            return low, high
        return max(low, ends[0]), min(high, ends[1])  # with two seeds Student's t reaches far beyond the scale

    def pooled(self, noise: SeedNoise | None) -> bool:
        """Whether the interval has the seeds' variance, pooled over trained rows; then a single seed has it too."""
        return noise is not None and self.draws is not None and self.draws.trained

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of this value: reasons for gaps, fallbacks, reconstructions."""
        notes = [*self.missing, *(score.note for score in self.scores.values())]
        # the order matters: a row that was never planned has no reason of its own to give
        if not self.expected:
            notes = ["not in this run"]
        elif not self.values and not any(notes):
            notes = ["no score, and the run does not say why"]
        elif self.values and len(self.values) < self.expected:
            notes.append(f"{len(self.values)} of {self.expected} seeds")
        if self.value is not None and len(self.valued) > 1 and self.draws is None and self.n:
            notes.append("no interval: these scores carry no bootstrap replicates")
        return tuple(dict.fromkeys(note for note in notes if note))


def seed_scores(results: Results, row: RowSpec, metric: Metric, min_coverage: float) -> SeedScores:
    places = [
        (cell.row, cell.metric, cell.seed)
        for cell in results.run.cells
        if cell.row == row.id and cell.metric == metric.id
    ]
    scores = {place[2]: results.scores[place] for place in places if place in results.scores}
    missing = tuple(results.missing[place] for place in places if place in results.missing)
    return SeedScores(row, metric, scores, missing, len(places), min_coverage)


@dataclass(frozen=True)
class CellSummary:
    """Everything a table says of one cell. Numbers are in the metric's unit."""

    own: SeedScores
    low: float | None
    high: float | None
    pooled: bool
    """Whether the interval has the seeds' pooled variance."""
    best: bool
    """Whether no trained row of the column prints a higher value."""
    tied: bool
    """Not significantly different from the best trained row, and not that row itself."""
    change: Comparison = NOT_COMPARED
    """Against the reference row."""
    focus: Comparison = NOT_COMPARED
    """The target's focus row against this one: positive when the focus row is higher."""
    published: PublishedComparison | None = None

    @property
    def row(self) -> str:
        return self.own.row.id

    @property
    def value(self) -> float | None:
        """The mean over seeds; ``None``: no score, or refused."""
        return self.own.value

    @cached_property
    def bounds(self) -> tuple[float, float] | None:
        """The value if each missing verdict were the worst, and the best; ``None`` where none is missing.

        Means over the seeds of the scores' own bounds. A seed without gaps has its value for both; one without any
        verdict has no value, but bounds: it could be anything.
        """
        # a refused cell gives no bounds either: they would let the refused value be guessed
        scores = list(self.own.scores.values())
        if self.value is None or not any("lowest" in score.detail for score in scores):
            return None
        ends = [[score.detail.get(name, score.value) for score in scores] for name in ("lowest", "highest")]
        low, high = (float(np.mean([float(end) for end in values if end is not None])) for values in ends)
        return low, high

    def total(self, detail: str) -> int:
        """The sum over seeds of a count in the scores' details (``verdicts``, ``injection``)."""
        return sum(int(score.detail.get(detail, 0)) for score in self.own.scores.values())

    @property
    def unscored(self) -> int:
        return sum(score.unscored for score in self.own.scores.values())

    @cached_property
    def lengths(self) -> tuple[float, float, float] | None:
        """Of scores against a baseline: mean answer length and the baseline's (characters), share cut short."""
        names = ("mean_length", "baseline_length", "truncated")
        details = [score.detail for score in self.own.scores.values()]
        known = [detail for detail in details if all(isinstance(detail.get(name), float) for name in names)]
        if not known:
            return None
        ours, theirs, cut = (float(np.mean([float(detail[name]) for detail in known])) for name in names)
        return ours, theirs, cut

    @cached_property
    def categories(self) -> dict[str, float]:
        """Mean over seeds by category of question, where the benchmark has them; empty for a refused cell."""
        details = [score.detail for score in self.own.valued] if self.value is not None else []
        # the first seed's categories, in the benchmark's order; a category that a seed lacks has no mean
        names = [name for name in (details[0] if details else {}) if name.startswith(CATEGORY)]
        return {
            name.removeprefix(CATEGORY): float(np.mean([float(detail[name]) for detail in details]))
            for name in names
            if all(name in detail for detail in details)
        }

    def numbers(self) -> dict[str, float | int | bool | None]:
        """The cell's numbers under the names that they have in the CSV and the JSON, in that order."""
        own, (lowest, highest), paper = self.own, self.bounds or (None, None), self.published
        # CSV and JSON take names and order from here and nowhere else
        return {
            "value": own.value, "low": self.low, "high": self.high, "n": own.n, "unscored": self.unscored,
            "coverage": own.coverage, "lowest": lowest, "highest": highest, "delta": self.change.delta,
            "delta_low": self.change.low, "delta_high": self.change.high, "p": self.change.p,
            "p_holm": self.change.p_holm, "focus_delta": self.focus.delta, "focus_low": self.focus.low,
            "focus_high": self.focus.high, "focus_p": self.focus.p, "focus_p_holm": self.focus.p_holm,
            "best": self.best, "tied_with_best": self.tied, "seeds": len(own.values),
            "published": paper.value if paper else None, "difference": paper.difference if paper else None,
            "difference_low": paper.low if paper else None, "difference_high": paper.high if paper else None,
        }  # fmt: skip

    @property
    def verdict(self) -> str:
        """What the comparison with the published value says of a cell that has a value; else empty."""
        return self.published.verdict if self.published is not None and self.value is not None else ""


def scale(metric: Metric) -> tuple[float, float] | None:
    """The ends of a metric's scale, as its unit has them (``%``, ``1-10``); ``None`` where it names none."""
    if metric.unit == "%":
        return 0.0, 100.0
    ends = re.fullmatch(r"(\d+)\s*[-–~]\s*(\d+)", metric.unit)
    return (float(ends[1]), float(ends[2])) if ends else None


def same_length(what: str, lengths: Sequence[int]) -> None:
    """Raises UserError where scores have different numbers of replicates: they cannot be paired."""
    if len(set(lengths)) > 1:
        counts = ", ".join(str(length) for length in sorted(set(lengths)))
        raise UserError(f"{what}: scores with {counts} bootstrap replicates cannot be paired. Score them again alike.")


def scored_share(scores: Sequence[Score]) -> float | None:
    """Scored questions of all questions, 0..1, each by the share of its verdicts that its score uses."""
    asked = sum(score.n + score.unscored for score in scores)
    return sum(score.covered for score in scores) / asked if asked else None
