"""Two runs side by side: the change of every cell that both have, paired on the questions that both were asked.

Where both runs scored the same set of questions, their bootstrap replicates resample it alike, and the change is tested
as within one run (``stats.contrast``). Where the sets differ, the questions with the same ids are paired. Without any,
the two values are independent, and their intervals are all that is known. Holm's correction is over a column. What the
table of either run refuses is not compared, nor are columns of different scales."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from textwrap import shorten

import numpy as np

from harness.contracts.benchmark import Metric
from harness.contracts.stage import Ref
from harness.contracts.target import Target
from harness.errors import UserError
from harness.stats import FEW_QUESTIONS, Draws, SeedNoise, contrast, holm, resamples, seed_noise, seed_of
from harness.text import clean, format_count
from reports.tables.headline import name
from reports.tables.score_table import cell_link, coarse_digits, metric_title, p_text
from reports.tables.summary import CellSummary, Comparison, Summary, least_coverage, summarise
from reports.tables.table import Table, TableCell, TableColumn, TableRow, letter, text_table
from results.run.record import section
from results.run.results import Results

REPLICATES = 1000
SAME, NO_TEST = "the same answers and judgments in both runs", "not tested: fewer than 30 questions, or no replicates"
SAME_JUDGMENTS = f"{SAME}, scored beside other rows or with other settings"
NOT_PAIRED = "not paired: the two runs share no question; the test takes them as independent"
SETTINGS, REMARKED = 80, 4  # differing settings that are listed, and that a line names


@dataclass(frozen=True)
class CellChange:
    """One cell of ``other`` minus that of ``first``, in the metric's unit."""

    first: CellSummary
    other: CellSummary
    change: Comparison
    note: str = ""  # how it was paired, where that is not the usual way
    values: tuple[float, float] | None = None  # on the questions that were paired, where those are not all

    @property
    def metric(self) -> Metric:
        return self.first.metric


@dataclass(frozen=True)
class ComparedRuns:
    first: str  # names of the runs
    other: str
    summary: Summary  # of ``first``
    changes: Mapping[tuple[str, str], CellChange]  # by row and metric
    missing: Mapping[tuple[str, str], str]  # cells that cannot be compared, and why
    remarks: tuple[str, ...]  # what only one of them has, and what else differs than the students


def compare_runs(names: tuple[str, str], first: Results, other: Results, target: Target) -> ComparedRuns:
    """Rows and columns are the same where their ids are."""
    both = [summarise(results, target, least_coverage(results.run)) for results in (first, other)]
    rows = [{row.id: row.title for row in one.rows} for one in both]
    metrics = [_metrics(one) for one in both]
    changes: dict[tuple[str, str], CellChange] = {}
    missing: dict[tuple[str, str], str] = {}
    remarks = _other_protocols(names, (first, other), both[0])
    for metric in (metric for metric in metrics[0] if metric in metrics[1]):
        units = [of_run[metric].unit for of_run in metrics]
        if units[0] != units[1]:
            scales = " and ".join(f"{unit} in {clean(run)}" for unit, run in zip(units, names, strict=True))
            remarks.append(f"{name(both[0], metrics[0][metric])} is not compared: its scale is {scales}.")
            continue
        noise = seed_noise(_draws(cell for one in both for cell in one.column(metric)))
        column: dict[str, CellChange] = {}
        for row in (row for row in rows[0] if row in rows[1]):
            cells = both[0].cells[row, metric], both[1].cells[row, metric]
            lacks = [
                f"{clean(run)}: {clean(cell.reason)}"
                for run, cell in zip(names, cells, strict=True)
                if cell.value is None
            ]
            if lacks:
                missing[row, metric] = "; ".join(lacks)
            else:
                column[row] = _change(cells, noise)
        corrected = holm({row: one.change.p for row, one in column.items() if one.change.p is not None})
        for row, one in column.items():
            changes[row, metric] = replace(one, change=replace(one.change, p_holm=corrected.get(row)))
    for place, run in enumerate(names):
        titles = [title for row, title in rows[place].items() if row not in rows[1 - place]]
        titles += [name(both[place], one) for key, one in metrics[place].items() if key not in metrics[1 - place]]
        remarks += [f"Only in {clean(run)}: {', '.join(map(clean, titles))}."] if titles else []
    return ComparedRuns(*names, both[0], changes, missing, tuple(remarks))


def _metrics(summary: Summary) -> dict[str, Metric]:
    return {column.metric.id: column.metric for column in summary.columns if not column.metric.measured}


def _other_protocols(names: tuple[str, str], both: Sequence[Results], summary: Summary) -> list[str]:
    """Benchmarks of both that were not judged alike, and in what: a change says something of the protocol too."""
    remarks = []
    for benchmark, columns in summary.benchmarks.items():
        mine, theirs = (_protocol(results, benchmark) for results in both)
        # a setting that a run does not state, or states as none, is at its default
        differing = [key for key in dict.fromkeys((*mine, *theirs)) if mine.get(key) != theirs.get(key)]
        if mine and theirs and differing:
            texts = [f"{key} ({_setting(mine.get(key))} / {_setting(theirs.get(key))})" for key in differing[:REMARKED]]
            more = f" and {len(differing) - REMARKED} more" if len(differing) > REMARKED else ""
            group, runs = clean(columns[0].metric.group), " / ".join(map(clean, names))
            remarks.append(f"{group} differs in {', '.join(texts)}{more} ({runs}): a change may come from that.")
    return remarks


def _setting(value: object) -> str:
    return clean(shorten("not stated" if value is None else str(value), 40, placeholder="..."))


def _protocol(results: Results, benchmark: str) -> dict[str, object]:
    """By name, what decides a benchmark's verdicts besides the answers; empty where the run has no such benchmark."""
    if not any(metric.id.partition(".")[0] == benchmark for metric in results.run.columns):
        return {}
    run, options = results.run, section(results.run.recipe, "benchmarks", benchmark)
    judge = section(run.recipe, "judges", str(options.get("judge")))
    card = next((asdict(card) for card in run.cards if card.benchmark == benchmark), {})
    baselines = sorted({str(one.baseline) for one in results.sources.values() if one.benchmark == benchmark})
    # the judge's name in its recipe decides nothing
    options = dict(options)
    options.pop("judge", None)
    stated = {
        "judge": run.judges.get(benchmark),
        **_flat(judge, "judge's "),
        **_flat(card.pop("parameters", {})),
        **card,
    }
    return {**stated, **_flat(options), "baseline's answers": ", ".join(baselines)}


def _draws(cells: Iterable[CellSummary]) -> list[Draws]:
    """Each student's once: a row that both runs share must not count as twice as many seeds."""
    found: list[Draws] = []
    known: set[tuple[Ref, Ref]] = set()
    for cell in sorted(cells, key=lambda cell: -len(cell.values)):
        if cell.draws is not None and not cell.made_from & known:
            found.append(cell.draws)
            known |= cell.made_from
    return found


def _change(cells: tuple[CellSummary, CellSummary], noise: SeedNoise | None) -> CellChange:
    first, other = cells
    delta = (other.value or 0.0) - (first.value or 0.0)
    if first.made_from == other.made_from and first.made_from:
        return CellChange(*cells, Comparison(delta), SAME if delta == 0 else SAME_JUDGMENTS)
    draws, note, count = [first.draws, other.draws], "", min(first.n, other.n)
    if draws[0] is None or draws[1] is None:
        return CellChange(*cells, Comparison(delta), NO_TEST)
    is_same_set = first.questions == other.questions and len(first.questions) == 1
    if not is_same_set or draws[0].grid.shape[1] != draws[1].grid.shape[1]:
        shared = _shared_questions(cells)
        if not shared:
            return CellChange(*cells, _independent(cells, delta), NOT_PAIRED)
        draws, count = [_draws_on(shared, cell) for cell in cells], len(shared)
        why = "the runs have different numbers of replicates" if is_same_set else "the runs were asked different sets"
        note = f"paired on the {format_count(count, 'question')} with the same id, of which the two values are; {why}"
    if count < FEW_QUESTIONS or draws[0] is None or draws[1] is None:
        return CellChange(*cells, Comparison(delta), "; ".join(filter(None, (note, NO_TEST))))
    found = contrast(draws[1], draws[0], count, noise)
    change = Comparison(found.value, found.low, found.high, found.p, error=found.error, freedom=found.freedom)
    values = (float(draws[0].values.mean()), float(draws[1].values.mean())) if note else None
    return CellChange(*cells, change, note, values)


def _shared_questions(cells: tuple[CellSummary, CellSummary]) -> list[str]:
    """Ids that every seed of both cells has a share of, in the order of the first."""
    shares = [score.per_question for cell in cells for score in cell.valued_scores]
    return [question for question in shares[0] if all(question in one for one in shares)] if all(shares) else []


def _draws_on(questions: Sequence[str], cell: CellSummary) -> Draws:
    """The cell's values and replicates on these questions alone: the same resamples for whichever cell."""
    shares = np.array([[score.per_question[one] for one in questions] for score in cell.valued_scores])
    places = resamples(len(questions), REPLICATES, seed_of("bootstrap", cell.metric.id))
    return Draws(shares.mean(axis=1), shares[:, places].mean(axis=2), not cell.row.baseline)


def _independent(cells: tuple[CellSummary, CellSummary], delta: float) -> Comparison:
    errors = []
    for cell in cells:
        if cell.low is None or cell.high is None or cell.n < FEW_QUESTIONS:
            return Comparison(delta)
        errors.append((cell.high - cell.low) / (2 * NormalDist().inv_cdf(0.975)))
    error = float(np.hypot(errors[0], errors[1]))
    if not error:
        return Comparison(delta)
    reach, p = NormalDist().inv_cdf(0.975) * error, 2 * NormalDist().cdf(-abs(delta) / error)
    return Comparison(delta, delta - reach, delta + reach, p, error=error)


def headline_of_change(compared: ComparedRuns) -> tuple[str, ...]:
    """How many cells differ, and the clearest change: the largest in standard errors, as columns differ in scale."""
    names = f"{clean(compared.other)} against {clean(compared.first)}"
    tested = [one for one in compared.changes.values() if one.change.p is not None]
    significant = [one for one in tested if one.change.significant]
    if not compared.changes:
        return (f"{names}: no cell has a value in both.",)
    if not tested:
        equal = all(one.note == SAME for one in compared.changes.values())
        return (f"{names}: {'all cells are the same artifacts' if equal else 'no cell could be tested'}.",)
    clearest = max(significant or tested, key=lambda one: abs(one.change.delta or 0.0) / (one.change.error or np.inf))
    place = f"{clean(clearest.first.row.title)} on {name(compared.summary, clearest.metric)}"
    change = f"{_signed(clearest.change.delta or 0.0, coarse_digits(clearest.metric))} points"
    if not significant:
        count = f"none of {format_count(len(tested), 'cell')} differs significantly"
        return f"{names}: {count}.", f"The clearest change is not significant either: {place}, {change}."
    ups = sum((one.change.delta or 0.0) > 0 for one in significant)
    verb = "differs" if len(significant) == 1 else "differ"
    count = f"{len(significant)} of {format_count(len(tested), 'cell')} {verb} significantly"
    return (
        f"{names}: {count}, {ups} up and {len(significant) - ups} down.",
        f"The clearest change: {place}, {change}.",
    )


def _signed(value: float, digits: int) -> str:
    """``+4.1``, ``−0.3`` with a minus, ``0.0`` without a sign."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def change_table(compared: ComparedRuns, page: str = "") -> Table:
    """A column per metric: the change, its interval, and the two values. ``page``: address of the other run's page."""
    letters: dict[str, str] = {}
    places = (*compared.changes, *compared.missing)
    metrics = {key: metric for key, metric in _metrics(compared.summary).items() if any(key == at[1] for at in places)}
    columns = [TableColumn("Method", numeric=False)]
    columns += [TableColumn(metric_title(metric), clean(metric.group)) for metric in metrics.values()]
    rows = []
    for row in compared.summary.rows:
        if not any(row.id == at[0] for at in places):
            continue
        title = clean(row.title)
        cells = [TableCell(title, sort=title, tone="faint" if row.baseline else "")]
        for metric_id in metrics:
            one = compared.changes.get((row.id, metric_id))
            note = compared.missing.get((row.id, metric_id), "") if one is None else one.note
            marks = (letters.setdefault(note, letter(len(letters))),) if note else ()
            cell = TableCell("n/a") if one is None else _cell(one, compared, page)
            cells.append(replace(cell, marks=marks))
        rows.append(TableRow(tuple(cells), row.baseline))
    legend = (
        f"Change from {clean(compared.first)} to {clean(compared.other)} [95% interval, before Holm], and both values. "
        "*: significant (paired on the same questions, p < 0.05 after Holm over the rows of a column)."
    )
    label = f"{compared.summary.target.label}: {clean(compared.other)} against {clean(compared.first)}"
    return Table(
        f"{compared.summary.target.name}-changes", "changes of its cells", tuple(columns), tuple(rows),
        (legend, *compared.remarks), tuple((mark, text) for text, mark in letters.items()), label,
        data={"first": compared.first, "other": compared.other, "cells": _records(compared)},
        records=_records(compared), summary=headline_of_change(compared),
    )  # fmt: skip


def _cell(one: CellChange, compared: ComparedRuns, page: str) -> TableCell:
    digits, change = coarse_digits(one.metric), one.change
    text = _signed(change.delta or 0.0, digits)
    values = [f"{value:.{one.metric.digits}f}" for value in one.values or (one.first.value, one.other.value)]
    lines, tips = [" → ".join(values)], [f"{clean(compared.first)}: {values[0]}, {clean(compared.other)}: {values[1]}"]
    if change.low is not None and change.high is not None:
        lines.insert(0, f"[{_signed(change.low, digits)}, {_signed(change.high, digits)}]")
    if change.p_holm is not None:
        verdict = "significant (*)" if change.significant else "not significant; the interval is before Holm"
        tips.append(f"{p_text(change.p_holm)} after Holm: {verdict}")
    return TableCell(
        "=" if float(text.replace("−", "-")) == 0 else text,
        sign="*" if change.significant else "",
        lines=tuple(lines),
        sort=change.delta,
        best=change.significant,
        tone=("good" if (change.delta or 0.0) > 0 else "bad") if change.significant else "",
        tips=tuple(tips),
        link=f"{page}#{cell_link(one.other, one.metric)}" if page else "",
    )


def _records(compared: ComparedRuns) -> list[dict[str, object]]:
    """``first_paired``, ``other_paired``: on the questions that were paired, where those are not all."""
    records: list[dict[str, object]] = []
    for (row, metric), one in compared.changes.items():
        change, paired = one.change, one.values or (None, None)
        records.append({
            "row": row, "metric": metric, "first": one.first.value, "other": one.other.value,
            "first_paired": paired[0], "other_paired": paired[1], "change": change.delta, "low": change.low,
            "high": change.high, "p": change.p, "p_holm": change.p_holm, "significant": change.significant,
            "note": one.note,
        })  # fmt: skip
    return records


def setting_table(names: tuple[str, str], first: Mapping[str, object], other: Mapping[str, object]) -> Table:
    """The settings in which two resolved recipes differ."""
    flat = _flat(first), _flat(other)
    paths = [path for path in dict.fromkeys((*flat[0], *flat[1])) if flat[0].get(path) != flat[1].get(path)]
    rows = [(path, *(clean(str(one.get(path, "–"))) for one in flat)) for path in paths[:SETTINGS]]
    lines = [f"{len(paths) - SETTINGS} more are not listed."] if len(paths) > SETTINGS else []
    lines += [] if paths else ["The recipes are the same."]
    return text_table("settings", "Settings that differ", ("Setting", *map(clean, names)), rows, lines)


def _flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        flat |= _flat(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
    return flat


def check_shared(first: Sequence[str], other: Sequence[str], names: tuple[str, str]) -> list[str]:
    """Targets that both have. Raises UserError where there are none."""
    shared = [target for target in first if target in other]
    if not shared:
        raise UserError(f"{names[0]} has {', '.join(first)}, {names[1]} has {', '.join(other)}: no table in common.")
    return shared
