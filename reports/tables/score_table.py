"""A table of scores laid out: the strings of its cells, footnotes, the CSV and the JSON.

Notes become lettered footnotes, each text once. A note that all cells of a row (or column) share hangs on the row's
(or column's) title. Control characters, which could rewrite a terminal, are replaced here, for every format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from harness.contracts.benchmark import Metric
from reports.tables.cell import CellSummary
from reports.tables.notes import detail_lines, short_lines
from reports.tables.published import NOT_COMPARABLE
from reports.tables.summary import MIN_COVERAGE, ColumnSummary, Summary
from reports.tables.table import Marks, Table, TableCell, TableColumn, TableRow
from reports.tables.variance import VarianceShares
from reports.text import clean, percent
from results.run.results import Results

FORMAT = 2
"""Raised when a key of the JSON changes its meaning."""
_NO_NUMBER = "-"


def score_table(summary: Summary, results: Results) -> Table:
    run, target = results.run, summary.target
    # before any cell is laid out: a note that a whole row or column shares leaves its cells
    footnotes = _Footnotes(summary, len(run.seeds))
    family = clean(run.family.name)
    columns = [TableColumn(f"Method ({family})", numeric=False)]
    for column in summary.columns:
        marks = footnotes.marks(footnotes.of_column[column.metric.id])
        columns.append(TableColumn(metric_title(column.metric), clean(column.metric.group), marks=marks))
    rows = []
    with_lengths = target.lengths or bool(run.recipe.get("baseline"))
    for row in summary.rows:
        tone = "faint" if row.baseline else ""
        marks = footnotes.marks(footnotes.of_row[row.id])
        cells = [TableCell(clean(row.title), sort=clean(row.title), tone=tone, marks=marks)]
        for column in summary.columns:
            cell = summary.cells[row.id, column.metric.id]
            marks = footnotes.marks(footnotes.of_cell(cell, column))
            cells.append(_cell(cell, column.metric, summary.min_coverage, with_lengths, marks))
        rows.append(TableRow(tuple(cells), row.baseline))
    teacher, student = clean(run.family.teacher), clean(run.family.student)
    models = f"{teacher} teaches {student}" if teacher else student
    table = Table(
        target.name, f"{target.title}. Run {clean(run.name)}: {models}.", tuple(columns), tuple(rows),
        short_lines(summary, run), footnotes.texts, target.label, _detail_rows(summary), detail_lines(summary, run),
        _data(summary, results), _records(summary, results), newest=results.newest,
    )  # fmt: skip
    # the JSON holds the printed words too, so that a page made later says the same
    words = {"title": table.title, "lines": [*table.lines, *table.detail_lines], "footnotes": dict(table.footnotes)}
    return replace(table, data={**table.data, **words})


class _Footnotes:
    """Which notes hang where, and their letters in the order in which a reader meets them."""

    def __init__(self, summary: Summary, seeds: int) -> None:
        self.letters: dict[str, str] = {}
        self.seeds = seeds
        self.notes = {place: _notes(cell) for place, cell in summary.cells.items()}
        self.of_row = {row.id: self._row(summary, row.id) for row in summary.rows}
        self.of_column = {column.metric.id: self._column(summary, column) for column in summary.columns}

    def marks(self, texts: Sequence[str]) -> Marks:
        """The letters of these texts; a new text gets the next letter."""
        return tuple(self.letters.setdefault(text, letter(len(self.letters))) for text in texts)

    def of_cell(self, cell: CellSummary, column: ColumnSummary) -> list[str]:
        """What neither the row's nor the column's title has."""
        # a note stands once: at the most general place that it is true of
        above = [*self.of_row[cell.row], *self.of_column[column.metric.id]]
        return [note for note in self.notes[cell.row, column.metric.id] if note not in above]

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        return tuple((mark, text) for text, mark in self.letters.items())

    def _row(self, summary: Summary, row: str) -> list[str]:
        cells = [summary.cells[row, column.metric.id] for column in summary.columns]
        # one column shares everything with itself: then the notes stay at the cells
        shared = _shared([self.notes[row, column.metric.id] for column in summary.columns]) if len(cells) > 1 else []
        counts = {len(cell.own.values) for cell in cells} - {0}
        if counts == {1} and self.seeds > 1 and not any(cell.pooled for cell in cells):
            shared.append("one seed: the interval is over questions only")
        return shared

    def _column(self, summary: Summary, column: ColumnSummary) -> list[str]:
        lists = []
        for row in summary.rows:
            left = [note for note in self.notes[row.id, column.metric.id] if note not in self.of_row[row.id]]
            if left or not self.of_row[row.id]:  # a row that is n/a as a whole does not decide for the column
                lists.append(left)
        return (_shared(lists) if len(lists) > 1 else []) + [clean(warning) for warning in column.warnings]


def letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ...: without q, which has no superscript form in Unicode."""
    alphabet = "abcdefghijklmnoprstuvwxyz"
    head, tail = divmod(index, len(alphabet))
    return (letter(head - 1) if head else "") + alphabet[tail]


def _notes(cell: CellSummary) -> list[str]:
    """Everything that a cell's footnotes say, before what its row or column shares is hung there."""
    notes, paper = [clean(note) for note in cell.own.notes], cell.published
    if paper is not None and paper.why:
        notes.append(f"not comparable with the paper: {clean('; '.join(paper.why))}")
    elif paper is not None and paper.difference is not None:
        notes += [f"against the paper: {clean(doubt)}" for doubt in paper.doubts]
    if paper is not None and paper.note:
        notes.append(f"paper: {clean(paper.note)}")
    return notes


def _shared(lists: Sequence[list[str]]) -> list[str]:
    return [note for note in lists[0] if all(note in other for other in lists)] if lists else []


def metric_title(metric: Metric) -> str:
    """``LC %``, ``Score (1~10)``."""
    title, unit = clean(metric.title), clean(metric.unit)
    if not unit or unit in title:
        return title
    return f"{title} {unit}" if unit == "%" else f"{title} ({unit})"


def coarse_digits(metric: Metric) -> int:
    """Digits of changes and intervals: on a scale of 100 the second digit says nothing."""
    return max(metric.digits - 1, 0) if metric.unit == "%" else metric.digits


def _cell(cell: CellSummary, metric: Metric, min_coverage: float, lengths: bool, marks: Marks) -> TableCell:
    digits = coarse_digits(metric)
    # the published value is shown even where ours is missing: the reader compares rows by it
    below = [*_paper(cell, metric), *(_lengths(cell) if lengths else ())]
    if cell.own.refused and cell.own.coverage is not None:
        return TableCell("refused:", below=(f"coverage {percent(cell.own.coverage)}", *below), marks=marks)
    if cell.value is None:
        return TableCell("n/a", below=tuple(below), marks=marks)
    # shown although it would be refused by default: then the gap is printed in the cell
    if min_coverage < MIN_COVERAGE and cell.own.coverage is not None and cell.own.coverage < 1:
        gap = [f"coverage {percent(cell.own.coverage)}"]
        gap += [] if cell.bounds is None else [f"could be {cell.bounds[0]:.{digits}f}-{cell.bounds[1]:.{digits}f}"]
        below = [*gap, *below]
    if cell.low is not None and cell.high is not None:
        below = [f"[{cell.low:.{digits}f}, {cell.high:.{digits}f}]", *below]
    # seen from this row: the dagger says that the focus row beats it
    against = ("†" if (cell.focus.delta or 0) > 0 else "‡") if cell.focus.significant else ""
    rises = (cell.change.delta or 0) > 0
    return TableCell(
        text=f"{cell.value:.{metric.digits}f}",
        change=_change(cell.change.delta, digits),
        sign="*" if cell.change.significant else "",
        other_signs=against + ("≈" if cell.tied else ""),
        below=tuple(below),
        sort=cell.value,
        best=cell.best,
        tone=("good" if rises else "bad") if cell.change.significant else "",
        marks=marks,
    )


def _paper(cell: CellSummary, metric: Metric) -> tuple[str, ...]:
    paper = cell.published
    if paper is None:
        return ()
    value = f"paper {paper.shown or format(paper.value, f'.{metric.digits}f')}"
    if paper.difference is None:  # nothing of ours, or nothing that can be compared: the footnote says why
        return (value, NOT_COMPARABLE) if paper.why else (value,)
    return (value, f"{paper.difference:+.{coarse_digits(metric)}f} {paper.verdict}")


def _lengths(cell: CellSummary) -> tuple[str, ...]:
    """Answer length in characters beside the baseline's, and the share that was cut at the token limit."""
    if cell.lengths is None:
        return ()
    ours, theirs, cut = cell.lengths
    return (f"{ours:,.0f} chars (baseline {theirs:,.0f})", f"{100 * cut:.0f}% cut")


def _change(delta: float | None, digits: int) -> str:
    if delta is None:
        return ""
    size = f"{abs(delta):.{digits}f}"
    # by the printed digits: an arrow beside 0.0 would claim a direction that cannot be read
    arrow = "=" if float(size) == 0 else "↑" if delta > 0 else "↓"
    return f"({arrow} {size})"


def _detail_rows(summary: Summary) -> tuple[TableRow, ...]:
    effects = [
        _NO_NUMBER if column.detectable is None else f"{column.detectable:.{coarse_digits(column.metric)}f}"
        for column in summary.columns
    ]
    shares = [_shares(column.shares) for column in summary.columns]
    named = [("Detectable", effects), ("Variance", shares)]
    return tuple(
        TableRow(tuple(TableCell(text, tone="faint") for text in (name, *texts)))
        for name, texts in named
        if any(text != _NO_NUMBER for text in texts)
    )


def _shares(shares: VarianceShares | None) -> str:
    if shares is None:
        return _NO_NUMBER
    parts = [shares.seed, shares.question, shares.answer, *([] if shares.judge is None else [shares.judge])]
    return "/".join(f"{100 * part:.0f}" for part in parts) + "%"


def _records(summary: Summary, results: Results) -> list[dict[str, object]]:
    """The CSV. A refused cell has no value here either.

    ``lowest`` and ``highest``: what the value would be if every missing verdict were the worst, and the best.
    ``focus_``: the target's focus row minus this one. ``difference``: value minus published.
    """
    run = results.run
    records: list[dict[str, object]] = []
    for row in summary.rows:
        for column in summary.columns:
            cell = summary.cells[row.id, column.metric.id]
            place = {
                "target": summary.target.name, "run": run.name, "family": run.family.name, "row": row.id,
                "title": row.title, "metric": column.metric.id,
            }  # fmt: skip
            # a spreadsheet shows no footnotes, so each line carries its own reasons
            notes = [*(["refused: coverage below the minimum"] if cell.own.refused else []), *cell.own.notes]
            notes += column.warnings
            if cell.published is not None:
                notes += cell.published.why or cell.published.doubts
                notes += [f"paper: {cell.published.note}"] if cell.published.note else []
            words = {"detectable": column.detectable, "verdict": cell.verdict, "note": "; ".join(notes)}
            records.append({**place, **cell.numbers(), **words})
    return records


def _data(summary: Summary, results: Results) -> dict[str, Any]:
    """The JSON: what the run was, columns, and rows with their cells. Nothing in it depends on when or how fast the
    run was made, so an unchanged run writes the same bytes again.
    """
    run = results.run
    rows = [
        {
            **asdict(row),
            "cells": {
                column.metric.id: _cell_data(summary.cells[row.id, column.metric.id], results)
                for column in summary.columns
            },
        }
        for row in summary.rows
    ]
    return {
        "format": FORMAT,
        "target": summary.target.name,
        "title": "",
        "run": {
            "name": run.name, "family": asdict(run.family), "finished": run.finished, "seeds": list(run.seeds),
            "judges": dict(run.judges), "protocols": [asdict(card) for card in run.cards],
        },
        "reference": summary.target.reference,
        "focus": summary.target.focus,
        "min_coverage": summary.min_coverage,
        "columns": [_column_data(column) for column in summary.columns],
        "rows": rows,
        "absent": list(summary.absent),
    }  # fmt: skip


def _column_data(column: ColumnSummary) -> dict[str, Any]:
    return {
        **asdict(column.metric), "best": list(column.best), "detectable": column.detectable,
        "tests_against_reference": column.comparisons, "tests_of_focus": column.focus_comparisons,
        "tests_against_best": column.best_comparisons,
        "variance": None if column.shares is None else asdict(column.shares), "warnings": list(column.warnings),
    }  # fmt: skip


def _cell_data(cell: CellSummary, results: Results) -> dict[str, Any]:
    """``score`` and ``judgments`` name the artifacts in the store that the number comes from, by seed."""
    paper, (length, baseline, cut) = cell.published, cell.lengths or (None, None, None)
    # keys of artifacts follow from their content: an unchanged run names the same ones
    sources = {
        str(seed): results.sources[place]
        for seed in cell.own.values
        if (place := (cell.row, cell.own.metric.id, seed)) in results.sources
    }
    return {
        **cell.numbers(), "refused": cell.own.refused,
        "by_seed": {} if cell.own.refused else {str(seed): value for seed, value in cell.own.values.items()},
        "verdict": cell.verdict or None, "not_comparable": list(paper.why) if paper else [],
        "doubts": list(paper.doubts) if paper and not paper.why else [],
        "published_note": paper.note if paper else "", "mean_length": length, "baseline_length": baseline,
        "truncated": cut, "categories": cell.categories, "notes": list(cell.own.notes),
        "score": {seed: str(source.score) for seed, source in sources.items()},
        "judgments": {seed: str(source.judgments) for seed, source in sources.items()},
    }  # fmt: skip
