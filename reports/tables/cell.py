"""One cell of a table from its scores: seeds combined, interval, coverage. Pure functions.

The estimate of a cell is the mean over its seeds. Its 95% interval is ``stats.contrast``'s (seeds and questions) where
the column has trained rows of several seeds, and else the score's own over questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.errors import UserError
from harness.stats import Draws, SeedNoise, contrast
from harness.types import Score
from reports.tables.published import Beside
from results.run.results import Results

ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """One row against another on the same questions, in the metric's unit."""

    delta: float
    """This row minus the other."""
    low: float
    high: float
    p: float | None
    """``None``: not tested (too few questions)."""
    p_holm: float | None
    """After Holm's correction over the comparisons of its family."""

    @property
    def significant(self) -> bool:
        """Whether the Holm-adjusted p-value is below 0.05."""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True)
class Split:
    """Where the variance of a trained row's value comes from: shares that add up to 1."""

    seed: float
    """Training seeds."""
    question: float
    """Which questions were asked."""
    answer: float
    """Answers drawn anew under each seed; with one judgment per answer the judge's noise too."""
    judge: float | None = None
    """The judge's own noise; ``None`` where each answer was judged once, so that it cannot be told apart."""


@dataclass(frozen=True)
class CellSummary:
    """One cell. Numbers in the metric's unit; ``None`` where there is nothing to say, and ``notes`` say why."""

    row: str
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Questions that count, in the seed that has fewest."""
    unscored: int = 0
    """Questions that do not, over all seeds."""
    coverage: float | None = None
    """Scored share of all questions of all seeds, 0..1; a question of which a part was judged counts by that part."""
    verdicts: int = 0
    """Verdicts that were asked for, over all seeds; 0 where the scores do not say."""
    missing: int = 0
    """Of these, verdicts that are missing."""
    seeds: int = 0
    """Seeds that have a value."""
    by_seed: Mapping[int, float] = field(default_factory=dict)
    """Value under each training seed; empty where the cell is refused."""
    refused: bool = False
    """Coverage is below the minimum: ``value`` is withheld."""
    bounds: tuple[float, float] | None = None
    """What the value would be if each missing verdict were the worst, and the best; ``None`` when none is missing."""
    delta: float | None = None
    """Value minus the reference row's."""
    delta_low: float | None = None
    delta_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    focus: Comparison | None = None
    """The target's focus row against this one: positive when the focus row is higher."""
    tied: bool = False
    """Not shown to be below the best trained row of its column (and not that row itself)."""
    pooled: bool = False
    """Whether the interval holds the seeds' variance, pooled over the trained rows: also of a row with one seed."""
    beside: Beside | None = None
    """The published value for this cell, and what it says of ours."""
    notes: tuple[str, ...] = ()
    lengths: tuple[float, float, float] | None = None
    """Of scores against a baseline: mean answer length and the baseline's (characters), share of answers cut short."""
    injected: int = 0
    """Answers that hold text directed at a judge, over all seeds."""
    categories: Mapping[str, float] = field(default_factory=dict)
    """Mean by category of question, where the benchmark has them."""

    @property
    def significant(self) -> bool:
        """Whether the Holm-adjusted p-value of the change is below 0.05."""
        return self.p_holm is not None and self.p_holm < ALPHA


def cell_of(results: Results, row: str, metric: str, min_coverage: float) -> tuple[CellSummary, Draws | None]:
    """The cell without its comparisons, and its draws (``None`` when it must not be compared)."""
    places = [cell for cell in results.run.cells if cell.row == row and cell.metric == metric]
    scores = {
        cell.seed: results.scores[row, metric, cell.seed]
        for cell in places
        if (row, metric, cell.seed) in results.scores
    }
    keys = [(cell.row, cell.metric, cell.seed) for cell in places]
    notes = [results.missing[key] for key in keys if key in results.missing] + [s.note for s in scores.values()]
    valued = {seed: score for seed, score in scores.items() if score.value is not None}
    cell = CellSummary(
        row, metric,
        n=min((score.n for score in valued.values()), default=0),
        unscored=sum(score.unscored for score in scores.values()),
        coverage=share(list(scores.values())),
        verdicts=sum(int(score.detail.get("verdicts", 0)) for score in scores.values()),
        missing=sum(int(score.detail.get("verdicts_missing", 0)) for score in scores.values()),
        seeds=len(valued),
        bounds=_bounds(list(scores.values())),
        notes=_unique(notes if places else ["not in this run"]),
        lengths=_lengths(list(scores.values())),
        injected=sum(int(score.detail.get("injection", 0)) for score in scores.values()),
        categories=_categories(list(valued.values())),
    )  # fmt: skip
    if not valued:
        return replace(cell, notes=cell.notes or ("no score, and the run does not say why",)), None
    if len(valued) < len(places):
        cell = replace(cell, notes=(*cell.notes, f"{len(valued)} of {len(places)} seeds"))
    if cell.coverage is not None and cell.coverage < min_coverage:
        return replace(cell, refused=True, bounds=None, categories={}), None
    by_seed = {seed: score.value for seed, score in valued.items() if score.value is not None}
    cell = replace(cell, by_seed=by_seed, value=float(np.mean(list(by_seed.values()))))
    return _with_draws(cell, list(valued.values()), not results.run.row(row).baseline)


def _with_draws(cell: CellSummary, scores: Sequence[Score], trained: bool) -> tuple[CellSummary, Draws | None]:
    """With the score's own interval where there is one seed; ``spanned`` makes that of several."""
    if len(scores) == 1:
        cell = replace(cell, low=scores[0].low, high=scores[0].high)
    if all(score.n == 0 for score in scores):  # measured once per seed, not asked of questions
        return cell, None
    if not all(score.replicates for score in scores):
        note = "no interval: these scores carry no bootstrap replicates"
        return cell if len(scores) == 1 else replace(cell, notes=(*cell.notes, note)), None
    same_length(f"{cell.row}, {cell.metric}", [len(score.replicates) for score in scores])
    values, grid = [score.value for score in scores], [score.replicates for score in scores]
    return cell, Draws(np.array(values, dtype=float), np.array(grid), trained)


def spanned(cell: CellSummary, draws: Draws | None, noise: SeedNoise | None) -> CellSummary:
    """The cell with its interval over seeds and questions; one seed of an untrained model keeps its score's."""
    if draws is None or (draws.seeds == 1 and (noise is None or not draws.trained)):
        return cell
    found = contrast(draws, None, cell.n, noise)
    return replace(cell, low=found.low, high=found.high, pooled=noise is not None and draws.trained)


def split(noise: SeedNoise | None, draws: Sequence[Draws], scores: Sequence[Score]) -> Split | None:
    """Shares of the variance of a trained row's mean, for the trained rows of a column together; with one seed none."""
    several = [each for each in draws if each.trained and each.seeds > 1]
    if noise is None or not several:
        return None
    seeds = float(np.mean([each.seeds for each in several]))
    rest = noise.rest / seeds
    question = max(0.0, float(np.mean([each.centre.var(ddof=1) for each in several])) - rest)
    whole = noise.seed / seeds + question + rest
    if whole == 0:
        return None
    judge = _judge_noise(scores)
    if judge is None:
        return Split(noise.seed / seeds / whole, question / whole, rest / whole)
    judge = min(rest, judge / seeds)
    return Split(noise.seed / seeds / whole, question / whole, (rest - judge) / whole, judge / whole)


def _judge_noise(scores: Sequence[Score]) -> float | None:
    """Variance that the judge's noise gives to one seed's score; ``None`` where answers were judged once."""
    found = []
    for score in scores:
        repeats, each = score.detail.get("judge_repeats"), score.detail.get("judge_variance")
        if isinstance(repeats, float) and isinstance(each, float) and score.n:
            found.append(each / repeats / score.n)
    return float(np.mean(found)) if found else None


def same_length(what: str, lengths: Sequence[int]) -> None:
    """Raises UserError where scores have different numbers of replicates: they cannot be paired."""
    if len(set(lengths)) > 1:
        counts = ", ".join(str(length) for length in sorted(set(lengths)))
        raise UserError(f"{what}: scores with {counts} bootstrap replicates cannot be paired. Score them again alike.")


def share(scores: Sequence[Score]) -> float | None:
    """Scored questions of all questions, 0..1, each by the share of its verdicts that its score uses."""
    asked = sum(score.n + score.unscored for score in scores)
    return sum(score.covered for score in scores) / asked if asked else None


def _bounds(scores: Sequence[Score]) -> tuple[float, float] | None:
    """Means over the seeds of the scores' own bounds; a seed without gaps has its value for both.

    A seed that has no verdict at all has no value, but bounds: it could be anything.
    """
    if not any("lowest" in score.detail for score in scores):
        return None
    ends = [[score.detail.get(name, score.value) for score in scores] for name in _ENDS]
    low, high = (float(np.mean([float(end) for end in each if end is not None])) for each in ends)
    return low, high


_ENDS = ("lowest", "highest")


def _lengths(scores: Sequence[Score]) -> tuple[float, float, float] | None:
    """Means over the seeds; ``None`` where nothing is compared with a baseline."""
    names = ("mean_length", "baseline_length", "truncated")
    known = [score.detail for score in scores if all(isinstance(score.detail.get(name), float) for name in names)]
    if not known:
        return None
    ours, theirs, cut = (float(np.mean([float(detail[name]) for detail in known])) for name in names)
    return ours, theirs, cut


def _categories(scores: Sequence[Score]) -> dict[str, float]:
    """Means over the seeds of what the benchmark says of each category, in its order."""
    mark = "category:"
    names = [name for name in (scores[0].detail if scores else {}) if name.startswith(mark)]
    return {
        name.removeprefix(mark): float(np.mean([float(score.detail[name]) for score in scores]))
        for name in names
        if all(name in score.detail for score in scores)
    }


def _unique(notes: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for note in notes if note))
