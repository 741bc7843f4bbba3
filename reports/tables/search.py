"""A search as tables: the trials of a row with the number that they are chosen by, and what several searches found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from harness.contracts.benchmark import Metric
from harness.contracts.target import Target
from harness.errors import UserError
from harness.plan.trials import Trial
from harness.recipe.space import Space
from harness.stats import percentile_interval
from harness.text import clean, format_count
from harness.types import Score
from reports.tables.summary import ALPHA, CellSummary, ColumnSummary, Summary, least_coverage, scale, summarise
from reports.tables.table import Table, TableCell, TableColumn, TableRow, letter
from results.run.results import Results

SCORE = Metric("search.score", "Score", "", unit="%", digits=2)
"""What a trial is chosen by: the mean over benchmarks of their columns on a scale of 0 to 100. Joint columns (length
control) are left out: they depend on which rows are scored together."""
FORMAT = 1  # raised when a key of the JSON changes its meaning


def objective_metrics(results: Results) -> dict[str, list[Metric]]:
    """By benchmark. Raises UserError for a column without a scale, which cannot be averaged with others."""
    by_benchmark: dict[str, list[Metric]] = {}
    for metric in results.run.columns:
        if not metric.joint and not metric.measured and metric.id != SCORE.id:
            if scale(metric) is None:
                raise UserError(f"{metric.id}: its unit {metric.unit!r} names no scale, so a search cannot go by it.")
            by_benchmark.setdefault(metric.id.partition(".")[0], []).append(metric)
    return by_benchmark


def with_objective(results: Results) -> Results:
    """``results`` with the column ``SCORE``: one score per row and seed, whose replicates are those of its parts."""
    metrics = objective_metrics(results)
    scores, reasons = dict(results.scores), dict(results.missing_scores)
    for row, seed in dict.fromkeys((cell.row, cell.seed) for cell in results.run.cells):
        parts = {
            name: [(metric, results.scores.get((row, metric.id, seed))) for metric in of_benchmark]
            for name, of_benchmark in metrics.items()
        }
        flat = [(metric, score) for pairs in parts.values() for metric, score in pairs]
        absent = [metric for metric, score in flat if score is None or score.value is None]
        if absent:
            score = results.scores.get((row, absent[0].id, seed))
            reason = score.note if score else results.missing_scores.get((row, absent[0].id, seed), "")
            reasons[row, SCORE.id, seed] = reason or f"no score of {absent[0].id}"
        else:
            scores[row, SCORE.id, seed] = _mean([[(m, s) for m, s in pairs if s] for pairs in parts.values()])
    run = replace(results.run, columns=(*results.run.columns, SCORE))
    return replace(results, run=run, scores=scores, missing_scores=reasons)


def _mean(parts: Sequence[Sequence[tuple[Metric, Score]]]) -> Score:
    """``parts``: by benchmark, the columns with their scores."""
    value = float(np.mean([np.mean([percent(metric, score.value) for metric, score in pairs]) for pairs in parts]))
    # Replicate b of each benchmark is the same resample of its questions in every row, so replicate b of the mean is.
    grid = np.array([[percent(metric, score.replicates) for metric, score in pairs] for pairs in parts if pairs])
    replicates = np.mean([np.mean(rows, axis=0) for rows in grid], axis=0) if grid.size else np.array([])
    # The columns of one benchmark share its questions: they are counted once.
    firsts = [pairs[0][1] for pairs in parts]
    n, unscored = sum(score.n for score in firsts), sum(score.unscored for score in firsts)
    low, high = percentile_interval(replicates, n) if replicates.size else (None, None)
    covered = {"questions_covered": float(sum(score.covered_questions for score in firsts))}
    return Score(
        SCORE.id, value, low, high, n, unscored, replicates=tuple(map(float, replicates)), detail=covered
    )  # fmt: skip


def percent(metric: Metric, values: Any) -> Any:
    """Values of a metric on a scale of 0 to 100: 5.5 of 1-10 is 50."""
    low, high = scale(metric) or (0.0, 100.0)
    return 100 * (np.asarray(values, dtype=float) - low) / (high - low)


@dataclass(frozen=True)
class SearchBudget:
    """What every row of a search had."""

    trials: int
    seeds: Sequence[int]
    on: str
    """The questions, in words."""
    sampler: str

    def __str__(self) -> str:
        seeds = f"{format_count(len(self.seeds), 'seed')} ({', '.join(map(str, self.seeds))})"
        return f"{format_count(self.trials, 'trial')} x {seeds} on {self.on}, {self.sampler}"


@dataclass(frozen=True, eq=False)
class RowSearch:
    """The trials of one row. ``results`` have the column ``SCORE`` and these trials' rows alone."""

    row: str
    title: str
    trials: tuple[Trial, ...]
    space: Space
    budget: SearchBudget
    results: Results

    @cached_property
    def summary(self) -> Summary:
        target = Target(
            f"search-{self.row}", "Search", f"{self.title}: {self.budget}", tuple(trial.name for trial in self.trials),
            (SCORE.id,), reference=self.trials[0].name,
        )  # fmt: skip
        return summarise(self.results, target, least_coverage(self.results.run))

    @property
    def column(self) -> ColumnSummary:
        return self.summary.columns[0]

    def cell(self, trial: Trial) -> CellSummary:
        return self.summary.cells[trial.name, SCORE.id]

    def value(self, trial: Trial) -> float | None:
        """Mean over the seeds; ``None`` unless every seed has a score: half a budget is another one."""
        cell = self.cell(trial)
        return cell.value if len(cell.values) == len(self.budget.seeds) else None

    @cached_property
    def ranked(self) -> list[Trial]:
        """From the best to the worst; those without a score last. Of equal ones the earlier is better."""
        values = {trial.number: self.value(trial) for trial in self.trials}
        return sorted(self.trials, key=lambda t: (values[t.number] is None, -(values[t.number] or 0.0), t.number))

    @property
    def best(self) -> Trial | None:
        return self.ranked[0] if self.value(self.ranked[0]) is not None else None

    @cached_property
    def borders(self) -> dict[str, str]:
        """Knob whose best value lies at the ``low`` or ``high`` end of its space."""
        if self.best is None:
            return {}
        ends = {knob: domain.border(self.best.values[knob]) for knob, domain in self.space.items()}
        return {knob: end for knob, end in ends.items() if end}

    def border_lines(self) -> list[str]:
        side = {"low": "lower", "high": "upper"}
        return [
            f"{knob} = {value_text(self.best.values[knob])} lies at the {side[end]} border of {self.space[knob]}: "
            "a wider space may hold better."
            for knob, end in self.borders.items()
            if self.best is not None
        ]


def value_text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else clean(str(value))


def values_text(values: Mapping[str, object]) -> str:
    return ", ".join(f"{knob} {value_text(value)}" for knob, value in values.items())


def search_table(search: RowSearch) -> Table:
    lines = (*_score_lines(search), *_best_lines(search), *search.border_lines(), *map(clean, search.results.run.notes))
    return replace(trials_table(_data(search, lines)), newest=search.results.newest)


def trials_table(data: Mapping[str, Any]) -> Table:
    """All trials of a row, the best first, of what its JSON holds."""
    knobs, budget, trials = list(data["space"]), SearchBudget(**data["budget"]), data["trials"]
    columns = [TableColumn("Trial", numeric=False), *(TableColumn(knob) for knob in knobs), TableColumn("Score %")]
    columns += [TableColumn(f"seed {seed}") for seed in budget.seeds] if len(budget.seeds) > 1 else []
    reasons = dict.fromkeys(trial["reason"] for trial in trials if trial["reason"])
    letters = {reason: letter(place) for place, reason in enumerate(reasons)}
    ranked = sorted(trials, key=lambda trial: (trial["score"] is None, -(trial["score"] or 0.0), trial["trial"]))
    rows = tuple(TableRow(tuple(_cells(trial, knobs, budget, letters))) for trial in ranked)
    caption = f"{clean(data['title'])} on {clean(data['run'])}: {budget}"
    footnotes = tuple((mark, reason) for reason, mark in letters.items())
    return Table(
        f"search-{data['row']}", caption, tuple(columns), rows, tuple(data["lines"]), footnotes, "Search", data=data,
        records=trials,
    )  # fmt: skip


def _cells(
    trial: Mapping[str, Any], knobs: Sequence[str], budget: SearchBudget, letters: Mapping[str, str]
) -> Iterator[TableCell]:
    value, delta, is_best = trial["score"], trial["change"], trial["best"]
    title = f"{trial['trial']}{' (as in the recipe)' if trial['trial'] == 0 else ''}"
    yield TableCell(title, sort=float(trial["trial"]), best=is_best)
    for knob in knobs:
        number = trial[knob] if isinstance(trial[knob], int | float) else None
        yield TableCell(value_text(trial[knob]), sort=number, best=is_best)
    if value is None:
        yield TableCell("n/a", marks=(letters[trial["reason"]],))
    else:
        change = "" if delta is None else f"({delta:+.1f})"
        tone = "" if delta is None else "good" if delta > 0 else "bad"
        interval = () if trial["low"] is None else (f"[{trial['low']:.1f}, {trial['high']:.1f}]",)
        sign = "*" if trial["p_holm"] is not None and trial["p_holm"] < ALPHA else ""
        yield TableCell(f"{value:.2f}", change, sign, lines=interval, sort=value, best=is_best, tone=tone)
    for seed in budget.seeds if len(budget.seeds) > 1 else ():
        one = trial[f"seed_{seed}"]
        yield TableCell("n/a" if one is None else f"{one:.1f}", sort=one)


def _reason(cell: CellSummary) -> str:
    if cell.refused and cell.coverage is not None:
        return f"only {100 * cell.coverage:.3g}% of the questions are scored"
    return clean("; ".join(cell.notes)) or "not every seed has a score"


def _score_lines(search: RowSearch) -> list[str]:
    metrics = objective_metrics(search.results)
    names = [f"{clean(metric.group)} {clean(metric.title)}" for group in metrics.values() for metric in group]
    counts = [search.cell(trial).n for trial in search.trials if search.value(trial) is not None]
    unscored = sum(search.cell(trial).unscored for trial in search.trials)
    seeds = search.budget.seeds
    over = f"questions, seed {seeds[0]} only" if len(seeds) == 1 else "questions and seeds"
    what = f"mean of {', '.join(names)}, each from 0 to 100, benchmarks alike" if len(names) > 1 else names[0]
    tests = search.column.comparisons
    holm = f" *: significantly different from trial 0 (p < 0.05 after Holm over {tests})." if tests else ""
    questions = f"{min(counts, default=0):,} questions, {unscored:,} unscored in all trials"
    different = len({tuple(trial.values.items()) for trial in search.trials})
    again = [f"Only {format_count(different, 'different setting')}: some were drawn again, and trained once."]
    return [f"Score: {what}; (change from trial 0) [95% interval over {over}]; {questions}.{holm}"] + (
        again if different < len(search.trials) else []
    )


def _best_lines(search: RowSearch) -> list[str]:
    best = search.best
    if best is None:
        return ["No trial has a score."]
    if best.number == 0:
        return [f"No trial is better than the recipe's own setting ({values_text(best.values)})."]
    # The largest of many noisy numbers is too large; the questions that it was chosen on cannot say by how much.
    rule = f"The best of {len(search.trials)} looks better here than it is: test questions say what it is worth."
    return [f"Best: trial {best.number} ({values_text(best.values)}). {rule}"]


def _record(search: RowSearch, trial: Trial) -> dict[str, object]:
    cell = search.cell(trial)
    values = {str(seed): cell.values.get(seed) for seed in search.budget.seeds}
    return {
        "row": search.row, "trial": trial.number, "best": trial == search.best, **trial.values,
        "score": search.value(trial), "low": cell.low, "high": cell.high, "n": cell.n, "unscored": cell.unscored,
        "change": cell.change.delta, "change_low": cell.change.low, "change_high": cell.change.high,
        "p_holm": cell.change.p_holm, **{f"seed_{seed}": value for seed, value in values.items()},
        **{
            f"{metric.id}": _metric_mean(search, trial, metric)
            for metric in search.results.run.columns
            if metric.id != SCORE.id
        },
        "reason": "" if search.value(trial) is not None else _reason(cell),
    }  # fmt: skip


def _metric_mean(search: RowSearch, trial: Trial, metric: Metric) -> float | None:
    scores = [search.results.scores.get((trial.name, metric.id, seed)) for seed in search.budget.seeds]
    values = [score.value for score in scores if score is not None and score.value is not None]
    return float(np.mean(values)) if len(values) == len(scores) else None


def _data(search: RowSearch, lines: Sequence[str]) -> dict[str, object]:
    return {
        "format": FORMAT, "row": search.row, "title": search.title, "run": search.results.run.name,
        "space": {knob: str(domain) for knob, domain in search.space.items()},
        "budget": {
            "trials": search.budget.trials, "seeds": list(search.budget.seeds), "on": search.budget.on,
            "sampler": search.budget.sampler,
        },
        "best": None if search.best is None else search.best.number, "borders": search.borders, "lines": list(lines),
        "trials": [_record(search, trial) for trial in search.trials],
        "scores": sorted({cell.score for cell in search.results.run.cells if cell.score}),
    }  # fmt: skip


def overview_table(searches: Sequence[RowSearch]) -> Table:
    """What was found for each row, in the order of the recipe."""
    heads = ("Method", "as in the recipe", "searched", "values", "at the border")
    columns = tuple(TableColumn(head, numeric=0 < place < 3) for place, head in enumerate(heads))
    rows, records = [], []
    for search in searches:
        own, best = search.trials[0], search.best
        own_value, value = search.value(own), None if best is None else search.value(best)
        change = "" if own_value is None or value is None or best == own else f"({value - own_value:+.1f})"
        border = ", ".join(search.borders) or "-"
        record: dict[str, object] = {
            "row": search.row, "own": own_value, "searched": value, "values": values_text(best.values) if best else "",
            "border": border, "trials": len(search.trials),
            "scored": sum(search.value(trial) is not None for trial in search.trials),
        }  # fmt: skip
        records.append(record)
        texts = [
            clean(search.title), "n/a" if own_value is None else f"{own_value:.2f}",
            "n/a" if value is None else f"{value:.2f}", str(record["values"]) or "-", border,
        ]  # fmt: skip
        changes = ("", "", change, "", "")
        rows.append(TableRow(tuple(TableCell(text, more) for text, more in zip(texts, changes, strict=True))))
    line = "Scores on development questions; those of the best are too high, being the best of several."
    caption = f"what was found; every row had {searches[0].budget}"
    return Table(
        "search", caption, columns, tuple(rows), (line,), label="Search", data={"format": FORMAT, "rows": records},
        records=records, newest=max(search.results.newest for search in searches),
    )  # fmt: skip
