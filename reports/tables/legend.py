"""The lines under a table: how to read it, how it was judged, what is missing. The same words in every format."""

from __future__ import annotations

import unicodedata

from harness.contracts.benchmark import Card, Metric
from harness.plural import counted
from harness.stats import FEW_QUESTIONS
from reports.tables.cell import CellSummary
from reports.tables.summary import MIN_COVERAGE, ColumnSummary, Summary, scale
from results.published import PAPER
from results.run.record import Run

FEW_STEPS = 5
"""Optimiser steps below which a table says how few they are."""


def clean(text: str) -> str:
    """``text`` on one line, with control and invisible formatting characters replaced by U+FFFD."""
    spaced = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(char).startswith("C") else char for char in spaced)


def percent(share: float) -> str:
    """``91%``, rounded down: 97.9% must not be printed as the 98% that it misses."""
    return f"{int(share * 100 + 1e-9)}%"


def legend(summary: Summary, run: Run) -> tuple[str, ...]:
    """One line each, without control characters."""
    target = summary.target
    lines = []
    if not run.finished:
        lines.append(
            "UNFINISHED RUN: what is missing is n/a, the rest may change. Give the same command again to go on."
        )
    reference = clean(summary.title(target.reference))
    against = f" (change from {reference})" if any(cell.delta is not None for cell in summary.cells.values()) else ""
    bold = " Bold: best trained row of its column." if any(column.best for column in summary.columns) else ""
    lines.append(f"Cells: value{against} [95% interval].{bold}")
    if target.lengths or run.recipe.get("baseline"):
        lines.append("chars: mean length of the answers; cut: share of them that ended at the token limit.")
    lines += _tests(summary, run, reference)
    lines += _spread(summary, run)
    lines += _coverage(summary)
    lines += _protocols(summary, run)
    lines += _paper(summary, run)
    if summary.absent:
        lines.append(f"Not in this run: {', '.join(summary.absent)}.")
    return (*lines, *target.notes, *(clean(note) for note in run.notes))


def _most(summary: Summary, field: str) -> int:
    return max((int(getattr(column, field)) for column in summary.columns), default=0)


def _tests(summary: Summary, run: Run, reference: str) -> list[str]:
    """What the signs mean, and the family of tests behind each."""
    cells, lines = list(summary.cells.values()), []
    how = f"{'paired bootstrap' if len(run.seeds) == 1 else 'paired t-test'}, p < 0.05 after Holm's correction"
    if changes := _most(summary, "comparisons"):
        lines.append(f"*: differs from {reference} ({how} for the {counted(changes, 'comparison')} of each column).")
        how = "same test; Holm's correction"
    if (others := _most(summary, "focus_comparisons")) and summary.target.focus is not None:
        focus = clean(summary.title(summary.target.focus))
        lines.append(
            f"†: {focus} is better than this row; ‡: worse ({how} for the "
            f"{counted(others, 'comparison')} of {focus} with other trained rows of a column). "
            "Rows with neither are not shown to differ from it."
        )
        how = "same test; Holm's correction"
    if any(cell.tied for cell in cells):
        lines.append(
            f"≈: cannot be told from the best row of its column ({how} for the "
            f"{counted(_most(summary, 'best_comparisons'), 'comparison')} with that row)."
        )
    return lines


def _spread(summary: Summary, run: Run) -> list[str]:
    """Where intervals come from, what could have been found, and where the variance comes from."""
    seeds = ", ".join(str(seed) for seed in run.seeds)
    one = len(run.seeds) == 1
    over = "questions only: another seed may differ by more" if one else "seeds and questions"
    pooled = "" if one else " (the seeds' variance is pooled over the trained rows of a column)"
    lines = [f"Seeds: {seeds}. Intervals and tests are over {over}{pooled}.{_cut(summary)}"]
    few = {row.id: summary.steps[row.id] for row in summary.rows if summary.steps.get(row.id, FEW_STEPS) < FEW_STEPS}
    if few:
        counts = " to ".join(str(count) for count in sorted({min(few.values()), max(few.values())}))
        steps = "1 optimiser step" if counts == "1" else f"{counts} optimiser steps"
        lines.append(
            f"{steps} ({', '.join(clean(summary.title(row)) for row in few)}): so few that the options of the "
            "loss hardly matter."
        )
    if any(column.detectable is not None for column in summary.columns):
        only = ", for this seed only" if one else ""
        lines.append(
            f"Detectable{only}: the smallest true change that such a run finds in every row with 80% power (5% test, "
            "before Holm). A row without * is not shown to equal the reference."
        )
    splits = [column.split for column in summary.columns if column.split is not None]
    if splits:
        judged = any(split.judge is not None for split in splits)
        last = "answers drawn anew / the judge's noise" if judged else "answers drawn anew with the judge's noise"
        lines.append(
            f"Variance: what the variance of a trained row's value comes from: training seeds / questions / {last}."
        )
    return lines


def _cut(summary: Summary) -> str:
    """Says so where an interval ends because its scale does."""
    ends = {column.metric.id: scale(column.metric) for column in summary.columns}
    cut = any({cell.low, cell.high} & set(ends[metric] or ()) for (_, metric), cell in summary.cells.items())
    return " They end where a scale does." if cut else ""


def _coverage(summary: Summary) -> list[str]:
    gaps = [cell for cell in summary.cells.values() if cell.bounds is not None]
    if summary.min_coverage >= MIN_COVERAGE or not gaps:
        return []
    shown = "coverage: the share of a cell's questions that is scored (of one judged in part, that part), if not all"
    return [f"{shown}. could be: the value if every missing verdict were the worst, and if each were the best."]


def _paper(summary: Summary, run: Run) -> list[str]:
    """How the published values are compared; or, in one line, why they are not."""
    target = summary.target
    known = [cell.beside for cell in summary.cells.values() if cell.beside is not None]
    if target.published and not known:
        judges = ", ".join(sorted({clean(judge) for judge in run.judges.values()} - {"by rule"}))
        models = f"{clean(run.family.teacher)} and {clean(run.family.student)}"
        family = f"the paper has no {clean(run.family.name)} family"
        here = f"models here: {models}; judge: {judges or 'by rule'}"
        return [f"Not comparable with the paper's {target.label}: {family} ({here})."]
    if not known:
        return []
    lines = [f"paper: the value in {PAPER}, {known[0].source.split(', ', 1)[1]}."]
    if any(one.difference is not None for one in known):
        margins = {column.metric: column.metric.margin for column in summary.columns}
        stated = ", ".join(f"{margin:g} ({_name(metric)})" for metric, margin in margins.items() if margin is not None)
        lines.append(
            "Below it: ours minus the paper's. agrees: the 95% interval of that difference lies within the margin "
            f"({stated or 'none is stated'}); differs: it excludes 0; else inconclusive. Fewer than {FEW_QUESTIONS} "
            "questions are inconclusive, and a row trained with other settings never agrees. The paper has no "
            "intervals: the interval is ours alone, the paper's value taken as exact."
        )
    return lines


def _name(metric: Metric) -> str:
    return clean(f"{metric.group} {metric.title}")


_VERDICTS = ("missing", "verdicts")


def _protocols(summary: Summary, run: Run) -> list[str]:
    """One line per benchmark: who judged, how many questions, how many without a verdict, by which protocol."""
    cards = {card.benchmark: card for card in run.cards}
    lines = []
    groups: dict[str, list[ColumnSummary]] = {}
    for column in summary.columns:
        if column.metric.measured:
            continue
        groups.setdefault(column.metric.id.split(".")[0], []).append(column)
    for benchmark, columns in groups.items():
        # Metrics of one benchmark share its judgments: count each model's questions once.
        cells = [[summary.cells[row.id, column.metric.id] for column in columns] for row in summary.rows]
        counts = [cell.n for row in cells for cell in row if cell.seeds]
        unscored = sum(max(cell.unscored for cell in row) for row in cells)
        n = counted(counts[0], "question") if len(set(counts)) == 1 else "no questions"
        n = f"{min(counts):,} to {max(counts):,} questions" if len(set(counts)) > 1 else n
        judge = clean(run.judges.get(benchmark, "not stated"))
        group = clean(columns[0].metric.group)
        line = f"{group}: {n}, {unscored:,} unscored in all rows and seeds"
        missing, asked = (sum(max(getattr(cell, name) for cell in row) for row in cells) for name in _VERDICTS)
        line += f", {missing:,} of {counted(asked, 'verdict')} missing" if missing else ""
        line += f"; judge: {judge}"
        hostile = sum(max(cell.injected for cell in row) for row in cells)
        line += f"; {counted(hostile, 'answer')} with text directed at a judge" if hostile else ""
        line += _protocol(cards.get(benchmark))
        lines.append(line + _published_protocol([row[0] for row in cells]))
    return lines


def _published_protocol(cells: list[CellSummary]) -> str:
    theirs = [cell.beside.protocol for cell in cells if cell.beside is not None]
    return f" Paper: {clean(theirs[0])}." if theirs else ""


def _protocol(card: Card | None) -> str:
    if card is None:
        return "."
    hashed = "" if card.prompt_hash in ("", "none") else f", prompt {clean(card.prompt_hash)}"
    deviations = "; ".join(clean(one).rstrip(".") for one in card.deviations)
    differs = f" Differs from the official protocol: {deviations}." if deviations else ""
    return f"; protocol {clean(card.version)}{hashed}.{differs}"
