"""From scores to the numbers of a table: seeds combined, intervals, paired changes, tests, coverage. Pure functions.

The estimate of a cell is the mean over its seeds. With several seeds its 95% interval is ``stats.over_seeds``
(seeds, then questions); with one it is the score's own interval over questions. A change is the difference to the
reference row on the same resamples of the same questions, tested against zero, with Holm's correction over the
planned comparisons of a column: each trained method against the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from harness.benchmark import Metric
from harness.errors import UserError
from harness.stats import Array, detectable, holm, over_seeds, percentile_interval, seed_of, two_sided_p
from harness.target import Target
from harness.types import Score
from harness.words import counted
from results.frames import Results
from results.run import RowSpec

MIN_COVERAGE = 0.98
"""Below this share of scored questions a cell is refused, unless asked (charter, section 6)."""
ALPHA = 0.05
_T = TypeVar("_T")
_FEW_QUESTIONS = 30
"""Bootstrap intervals from fewer are too narrow (arXiv 2503.01747): three questions that agree would pass any test."""


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
    """Scored share of all questions of all seeds, 0..1."""
    seeds: int = 0
    """Seeds that have a value."""
    refused: bool = False
    """Coverage is below the minimum: ``value`` is withheld."""
    delta: float | None = None
    """Value minus the reference row's."""
    delta_low: float | None = None
    delta_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    notes: tuple[str, ...] = ()
    lengths: tuple[float, float, float] | None = None
    """Of scores against a baseline: mean answer length and the baseline's (characters), share of answers cut short."""
    injected: int = 0
    """Answers that hold text directed at a judge, over all seeds."""

    @property
    def significant(self) -> bool:
        """Whether the Holm-adjusted p-value of the change is below 0.05."""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True)
class ColumnSummary:
    """What holds for a whole column."""

    metric: Metric
    detectable: float | None
    """Smallest true change that 80% of such runs would find in every row (5% test, before Holm); ``None``: unknown."""
    comparisons: int
    best: tuple[str, ...]
    """The trained rows with the highest printed value."""
    warnings: tuple[str, ...] = ()


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


def summarise(results: Results, target: Target, min_coverage: float = MIN_COVERAGE) -> Summary:
    """Fill the target's grid. Raises UserError for a coverage outside 0..1 and for scores that cannot be paired."""
    if not 0 <= min_coverage <= 1:
        raise UserError(f"min_coverage {min_coverage!r}: a share between 0 and 1 is needed (0.98 is the default)")
    run = results.run
    rows = _in_order({row.id: row for row in run.rows}, target.rows, more=True)
    metrics = _in_order({metric.id: metric for metric in run.columns}, target.columns, target.open)
    absent = [name for name in target.rows if name not in {row.id for row in rows}]
    absent += [name for name in target.columns if name not in {metric.id for metric in metrics}]
    columns: list[ColumnSummary] = []
    cells: dict[tuple[str, str], CellSummary] = {}
    for metric in metrics:
        column, filled = _column(results, target, rows, metric, min_coverage)
        columns.append(column)
        cells.update({(row, metric.id): cell for row, cell in filled.items()})
    return Summary(target, tuple(rows), tuple(columns), cells, min_coverage, tuple(absent))


def _in_order(have: Mapping[str, _T], wanted: Sequence[str], more: bool) -> list[_T]:
    first = [have[name] for name in wanted if name in have]
    return first + [item for name, item in have.items() if more and name not in wanted]


def _column(
    results: Results, target: Target, rows: Sequence[RowSpec], metric: Metric, min_coverage: float
) -> tuple[ColumnSummary, dict[str, CellSummary]]:
    cells: dict[str, CellSummary] = {}
    replicates: dict[str, Array] = {}
    for row in rows:
        cells[row.id], found = _cell(results, row.id, metric.id, min_coverage)
        if found is not None:
            replicates[row.id] = found
    trained = [row.id for row in rows if not row.baseline]
    _same_length(metric.id, replicates)
    base = replicates.get(target.reference)
    compared = [name for name in trained if name in replicates and name != target.reference]
    differences = {} if base is None else {name: replicates[name] - base for name in compared}
    shared = {name: min(cells[name].n, cells[target.reference].n) for name in differences}
    raw = {name: two_sided_p(differences[name]) for name in differences if shared[name] >= _FEW_QUESTIONS}
    adjusted = holm(raw)
    for name in trained:  # without replicates a change is still a change, only untested
        cells[name] = replace(cells[name], delta=_delta(cells, name, target.reference))
    for name, difference in differences.items():
        low, high = percentile_interval(difference, shared[name])
        cells[name] = replace(cells[name], delta_low=low, delta_high=high, p=raw.get(name), p_holm=adjusted.get(name))
    spread = [float(np.std(difference, ddof=1)) for difference in differences.values() if difference.size > 1]
    smallest = detectable(max(spread)) if spread and max(spread) > 0 else None
    best = () if metric.measured else _best(cells, trained, metric.digits)
    return ColumnSummary(metric, smallest, len(raw), best, _warnings(cells, raw, base)), cells


def _cell(results: Results, row: str, metric: str, min_coverage: float) -> tuple[CellSummary, Array | None]:
    """The cell without its change, and the replicates of its estimate (``None`` when it must not be compared)."""
    places = [cell for cell in results.run.cells if cell.row == row and cell.metric == metric]
    keys = [(cell.row, cell.metric, cell.seed) for cell in places]
    scores = [results.scores[key] for key in keys if key in results.scores]
    notes = [results.missing[key] for key in keys if key in results.missing] + [score.note for score in scores]
    valued = [score for score in scores if score.value is not None]
    cell = CellSummary(
        row, metric,
        n=min((score.n for score in valued), default=0),
        unscored=sum(score.unscored for score in scores),
        coverage=_share(scores),
        seeds=len(valued),
        notes=_unique(notes if places else ["not in this run"]),
        lengths=_lengths(scores),
        injected=sum(int(score.detail.get("injection", 0)) for score in scores),
    )  # fmt: skip
    if not valued:
        return replace(cell, notes=cell.notes or ("no score, and the run does not say why",)), None
    if len(valued) < len(places):
        cell = replace(cell, notes=(*cell.notes, f"{len(valued)} of {len(places)} seeds"))
    if cell.coverage is not None and cell.coverage < min_coverage:
        return replace(cell, refused=True), None
    value = float(np.mean([score.value for score in valued if score.value is not None]))
    if len(valued) == 1:
        only = valued[0]
        found = np.asarray(only.replicates) if only.replicates else None
        return replace(cell, value=value, low=only.low, high=only.high), found
    if all(score.n == 0 for score in valued):  # measured once per seed, not asked of questions
        return replace(cell, value=value), None
    if not all(score.replicates for score in valued):
        note = "no interval: these scores carry no bootstrap replicates"
        return replace(cell, value=value, notes=(*cell.notes, note)), None
    _same_length(f"{row}, {metric}", {str(i): np.asarray(score.replicates) for i, score in enumerate(valued)})
    # A draw of its own for every row: nothing ties seed 0 of one method to seed 0 of another.
    combined = over_seeds([score.replicates for score in valued], seed_of("over-seeds", row, metric))
    low, high = percentile_interval(combined, cell.n)
    return replace(cell, value=value, low=low, high=high), combined


def _lengths(scores: Sequence[Score]) -> tuple[float, float, float] | None:
    """Means over the seeds; ``None`` where nothing is compared with a baseline."""
    names = ("mean_length", "baseline_length", "truncated")
    known = [score.detail for score in scores if all(isinstance(score.detail.get(name), float) for name in names)]
    if not known:
        return None
    ours, theirs, cut = (float(np.mean([float(detail[name]) for detail in known])) for name in names)
    return ours, theirs, cut


def _share(scores: Sequence[Score]) -> float | None:
    asked = sum(score.n + score.unscored for score in scores)
    return sum(score.n for score in scores) / asked if asked else None


def _delta(cells: Mapping[str, CellSummary], row: str, reference: str) -> float | None:
    value = cells[row].value
    base = cells[reference].value if reference in cells and reference != row else None
    return None if value is None or base is None else value - base


def _same_length(what: str, replicates: Mapping[str, Array]) -> None:
    lengths = {values.size for values in replicates.values()}
    if len(lengths) > 1:
        counts = ", ".join(str(length) for length in sorted(lengths))
        raise UserError(f"{what}: scores with {counts} bootstrap replicates cannot be paired. Score them again alike.")


def _best(cells: Mapping[str, CellSummary], trained: Sequence[str], digits: int) -> tuple[str, ...]:
    printed = {row: round(value, digits) for row in trained if (value := cells[row].value) is not None}
    return tuple(row for row, value in printed.items() if len(printed) > 1 and value == max(printed.values()))


def _warnings(cells: Mapping[str, CellSummary], tested: Mapping[str, float], base: Array | None) -> tuple[str, ...]:
    warnings = []
    counts = [cell.n for cell in cells.values() if cell.value is not None and cell.n]  # 0: measured, not asked
    if counts and min(counts) < _FEW_QUESTIONS:
        warnings.append(
            f"only {counted(min(counts), 'question')}: intervals from so few are too narrow, and changes are not tested"
        )
    if tested and base is not None and len(tested) * 2 / (base.size + 1) >= ALPHA:  # two_sided_p can go no lower
        warnings.append(
            f"{base.size} bootstrap replicates are too few to find any of {len(tested)} changes significant"
        )
    return tuple(warnings)


def _unique(notes: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for note in notes if note))
