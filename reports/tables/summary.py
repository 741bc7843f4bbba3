"""From scores to the numbers of a table: seeds combined, intervals, paired changes, tests, ties, the paper's values.

Three families of tests per column, each with Holm's correction of its own: every trained row against the reference,
the target's focus row against every other trained row, and every trained row against the best one. All are paired:
``stats.contrast`` on the same resamples of the same questions. Pure functions; a cell's own numbers are made in
``reports/tables/cell.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from harness.contracts.benchmark import Metric
from harness.contracts.target import Target
from harness.errors import UserError
from harness.plural import counted
from harness.stats import FEW_QUESTIONS, Draws, Estimate, SeedNoise, contrast, detectable, holm, seed_noise
from harness.types import Score
from reports.tables.cell import ALPHA, CellSummary, Comparison, Split, cell_of, same_length, spanned, split
from reports.tables.published import Beside, compared, published_values, reconstructed
from results.run.record import RowSpec
from results.run.results import Results

MIN_COVERAGE = 0.98
"""Below this share of scored questions a cell is refused, unless asked (charter, section 6)."""
_T = TypeVar("_T")
Cells = Mapping[str, CellSummary]


@dataclass(frozen=True)
class ColumnSummary:
    """What holds for a whole column."""

    metric: Metric
    detectable: float | None
    """Smallest true change that 80% of such runs would find in every row (5% test, before Holm); ``None``: unknown."""
    comparisons: int
    """Tests against the reference row: a family of Holm's correction."""
    best: tuple[str, ...]
    """The trained rows with the highest printed value."""
    warnings: tuple[str, ...] = ()
    focus_comparisons: int = 0
    """Tests of the focus row against the other trained rows: another family."""
    best_comparisons: int = 0
    """Tests against the best trained row: the third family."""
    split: Split | None = None
    """Where the variance of a trained row's value comes from, over the trained rows together."""


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
        return next((each.title for each in self.rows if each.id == row), row)


def summarise(results: Results, target: Target, min_coverage: float = MIN_COVERAGE) -> Summary:
    """Fill the target's grid. Raises UserError for a coverage outside 0..1 and for scores that cannot be paired."""
    if not 0 <= min_coverage <= 1:
        raise UserError(f"min_coverage {min_coverage!r}: a share between 0 and 1 is needed (0.98 is the default)")
    run = results.run
    rows = _in_order({row.id: row for row in run.rows}, target.rows, more=True)
    metrics = _in_order({metric.id: metric for metric in run.columns}, target.columns, target.open)
    absent = [name for name in target.rows if name not in {row.id for row in rows}]
    absent += [name for name in target.columns if name not in {metric.id for metric in metrics}]
    beside = published_values(run, target.published, metrics)
    columns: list[ColumnSummary] = []
    cells: dict[tuple[str, str], CellSummary] = {}
    for metric in metrics:
        column, filled = _column(results, target, rows, metric, min_coverage)
        columns.append(column)
        for row, cell in filled.items():
            cells[row, metric.id] = _beside(_in_range(cell, metric), beside.get((row, metric.id)), metric)
    return Summary(target, tuple(rows), tuple(columns), cells, min_coverage, tuple(absent), _steps(results))


def _steps(results: Results) -> dict[str, int]:
    found: dict[str, int] = {}
    for (row, _), one in results.trained.items():
        if one.curve:
            found[row] = min(len(one.curve), found.get(row, len(one.curve)))
    return found


def _in_order(have: Mapping[str, _T], wanted: Sequence[str], more: bool) -> list[_T]:
    first = [have[name] for name in wanted if name in have]
    return first + [item for name, item in have.items() if more and name not in wanted]


def _column(
    results: Results, target: Target, rows: Sequence[RowSpec], metric: Metric, min_coverage: float
) -> tuple[ColumnSummary, dict[str, CellSummary]]:
    cells: dict[str, CellSummary] = {}
    draws: dict[str, Draws] = {}
    for row in rows:
        cells[row.id], found = cell_of(results, row.id, metric.id, min_coverage)
        if found is not None:
            draws[row.id] = found
    same_length(metric.id, [each.grid.shape[1] for each in draws.values()])
    trained = [row.id for row in rows if not row.baseline]
    noise = seed_noise(list(draws.values()))
    cells = {name: spanned(cell, draws.get(name), noise) for name, cell in cells.items()}
    changes = _against(target.reference, trained, cells, draws, noise)
    tests = _tested(changes, cells, target.reference)
    for name in trained:  # without replicates a change is still a change, only untested
        cells[name] = replace(cells[name], delta=_delta(cells, name, target.reference))
    for name, test in tests.items():
        low, high = test.low, test.high
        cells[name] = replace(cells[name], delta_low=low, delta_high=high, p=test.p, p_holm=test.p_holm)
    focus = _focus(target.focus, trained, cells, draws, noise)
    for name, test in focus.items():
        cells[name] = replace(cells[name], focus=test)
    best = () if metric.measured else _best(cells, trained, metric.digits)
    below = _below_best(trained, cells, draws, noise)
    for name, test in below.items():
        cells[name] = replace(cells[name], tied=name not in best and test.p is not None and not test.significant)
    replicates = max((each.grid.shape[1] for each in draws.values()), default=0)
    column = ColumnSummary(
        metric, _detectable(changes, tests), _count(tests), best, _warnings(cells, tests, changes, replicates),
        _count(focus), _count(below), split(noise, list(draws.values()), _scores(results, trained, metric)),
    )  # fmt: skip
    return column, cells


def _scores(results: Results, rows: Sequence[str], metric: Metric) -> list[Score]:
    return [score for (row, name, _), score in results.scores.items() if row in rows and name == metric.id]


def _against(
    other: str, names: Sequence[str], cells: Cells, draws: Mapping[str, Draws], noise: SeedNoise | None
) -> dict[str, Estimate]:
    """Each row minus the other one, paired; rows without draws are left out."""
    if other not in draws:
        return {}
    return {
        name: contrast(draws[name], draws[other], min(cells[name].n, cells[other].n), noise)
        for name in names
        if name in draws and name != other
    }


def _tested(changes: Mapping[str, Estimate], cells: Cells, other: str) -> dict[str, Comparison]:
    """The changes as one family of tests. From few questions none is tested."""
    raw = {name: each.p for name, each in changes.items() if min(cells[name].n, cells[other].n) >= FEW_QUESTIONS}
    adjusted = holm(raw)
    return {
        name: Comparison(each.value, each.low, each.high, raw.get(name), adjusted.get(name))
        for name, each in changes.items()
    }


def _focus(
    focus: str | None, trained: Sequence[str], cells: Cells, draws: Mapping[str, Draws], noise: SeedNoise | None
) -> dict[str, Comparison]:
    """The focus row minus every other trained row."""
    if focus is None or focus not in trained:
        return {}
    tests = _tested(_against(focus, trained, cells, draws, noise), cells, focus)
    return {name: replace(test, delta=-test.delta, low=-test.high, high=-test.low) for name, test in tests.items()}


def _below_best(
    trained: Sequence[str], cells: Cells, draws: Mapping[str, Draws], noise: SeedNoise | None
) -> dict[str, Comparison]:
    """Every trained row against the one with the highest value."""
    values = {name: value for name in trained if name in draws and (value := cells[name].value) is not None}
    if not values:
        return {}
    top = max(values, key=lambda name: values[name])
    return _tested(_against(top, trained, cells, draws, noise), cells, top)


def _beside(cell: CellSummary, beside: Beside | None, metric: Metric) -> CellSummary:
    if beside is None:
        return cell
    beside = replace(beside, why=(*beside.why, *reconstructed(cell.notes)))
    return replace(cell, beside=compared(beside, cell.value, (cell.low, cell.high), metric, cell.n))


def scale(metric: Metric) -> tuple[float, float] | None:
    """The ends of a metric's scale, as its unit has them (``%``, ``1-10``); ``None`` where it names none."""
    if metric.unit == "%":
        return 0.0, 100.0
    ends = re.fullmatch(r"(\d+)\s*[-–~]\s*(\d+)", metric.unit)
    return (float(ends[1]), float(ends[2])) if ends else None


def _in_range(cell: CellSummary, metric: Metric) -> CellSummary:
    """An interval ends where its scale does: with two seeds Student's t reaches far beyond."""
    ends = scale(metric)
    if ends is None or cell.low is None or cell.high is None:
        return cell
    return replace(cell, low=max(cell.low, ends[0]), high=min(cell.high, ends[1]))


def _detectable(changes: Mapping[str, Estimate], tests: Mapping[str, Comparison]) -> float | None:
    """Of the row with the largest error; ``None`` where nothing is tested."""
    tested = [each for name, each in changes.items() if tests[name].p is not None and each.error > 0]
    return max((detectable(each.error, each.freedom) for each in tested), default=None)


def _count(tests: Mapping[str, Comparison]) -> int:
    return sum(test.p is not None for test in tests.values())


def _delta(cells: Cells, row: str, reference: str) -> float | None:
    value = cells[row].value
    base = cells[reference].value if reference in cells and reference != row else None
    return None if value is None or base is None else value - base


def _best(cells: Cells, trained: Sequence[str], digits: int) -> tuple[str, ...]:
    printed = {row: round(value, digits) for row in trained if (value := cells[row].value) is not None}
    return tuple(row for row, value in printed.items() if len(printed) > 1 and value == max(printed.values()))


def _warnings(
    cells: Cells, tests: Mapping[str, Comparison], changes: Mapping[str, Estimate], replicates: int
) -> tuple[str, ...]:
    warnings = []
    counts = [cell.n for cell in cells.values() if cell.value is not None and cell.n]  # 0: measured, not asked
    if counts and min(counts) < FEW_QUESTIONS:
        warnings.append(
            f"only {counted(min(counts), 'question')}: intervals from so few are too narrow, and changes are not tested"
        )
    tested = [name for name, test in tests.items() if test.p is not None]
    by_bootstrap = [name for name in tested if changes[name].freedom == float("inf")]
    # the p-value of a bootstrap can go no lower than 2 / (replicates + 1)
    if by_bootstrap and len(tested) * 2 / (replicates + 1) >= ALPHA:
        warnings.append(
            f"{replicates:,} bootstrap replicates are too few to find any of {counted(len(tested), 'change')} "
            "significant"
        )
    return tuple(warnings)
