"""A table of scores laid out: the strings of its cells, lettered footnotes, the CSV and the JSON. A note that all cells
of a row (or column) share hangs on its title. Control characters, which could rewrite a terminal, are replaced here,
for every format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from urllib.parse import urlencode

from harness.contracts.benchmark import Metric
from harness.text import clean, format_count, percent
from reports.tables.headline import headline
from reports.tables.notes import detail_lines, first_lines, paper_lines, short_lines, warnings
from reports.tables.published import NOT_COMPARABLE
from reports.tables.summary import ALPHA, MIN_COVERAGE, CellSummary, ColumnSummary, Summary
from reports.tables.table import REFUSED, Marks, Table, TableCell, TableColumn, TableRow, letter
from results.run.results import Results

FORMAT = 2  # raised when a key of the JSON changes its meaning


def score_table(summary: Summary, results: Results) -> Table:
    run, target = results.run, summary.target
    # before any cell is laid out: a note that a whole row or column shares leaves its cells
    of_row, of_column, of_cell = _place_notes(summary, len(run.seeds))
    letters: dict[str, str] = {}
    needed: dict[str, None] = {}

    def marks(texts: Sequence[str]) -> Marks:
        used_letters = {letters.setdefault(text, letter(len(letters))) for text in texts}
        return tuple(sorted(used_letters, key=lambda mark: (len(mark), mark)))

    teacher, student = clean(run.family.teacher), clean(run.family.student)
    # models as they are have no teacher, and nothing was trained
    columns = [TableColumn(f"Method ({clean(run.family.name)})" if teacher else "Model", numeric=False)]
    for column in summary.columns:
        group, notes = clean(column.metric.group), of_column[column.metric.id]
        columns.append(TableColumn(metric_title(column.metric), group, marks=marks(notes)))
    rows = []
    with_lengths = target.lengths or bool(run.recipe.get("baseline"))
    for row in summary.rows:
        title, tone = clean(row.title), "faint" if row.baseline else ""
        cells = [TableCell(title, sort=title, tone=tone, marks=marks(of_row[row.id]))]
        for column in summary.columns:
            cell = summary.cells[row.id, column.metric.id]
            notes = of_cell[row.id, column.metric.id]
            shown = _cell(cell, column.metric, summary.min_coverage, with_lengths, marks(notes))
            cells.append(replace(shown, tips=tuple(_tips(cell, shown, column, summary))))
            if cell.value is None:
                needed |= dict.fromkeys(letters[note] for note in map(clean, cell.notes))
        rows.append(TableRow(tuple(cells), row.baseline))
    caption = f"{target.title}. Run {clean(run.name)}: {teacher} teaches {student}."
    if not teacher:
        caption = f"{student} (run {clean(run.name)}), no training."
    lines, details = short_lines(summary, run), detail_lines(summary, run)
    footnotes = tuple((mark, text) for text, mark in letters.items())
    needed |= dict.fromkeys(marks([clean(warning) for column in summary.columns for warning in column.warnings]))
    # the JSON holds the printed words too, so that a page made later says the same
    said = headline(summary, run.finished)
    texts = {
        "title": f"{target.label}: {caption}",
        "summary": list(said),
        "lines": [*lines, *details],
        "footnotes": dict(footnotes),
    }
    return Table(
        target.name, caption, tuple(columns), tuple(rows), lines, footnotes, target.label, detail_lines=details,
        data=_json_data(summary, results, texts), records=_records(summary, results), newest=results.newest,
        summary=said, needed=tuple(needed), lead=len(first_lines(summary, run)), vital=len(warnings(summary, run)),
        tail=len(paper_lines(summary, run)),
    )  # fmt: skip


def _place_notes(
    summary: Summary, seeds: int
) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[tuple[str, str], list[str]]]:
    """The notes of rows, of columns and of cells: each stands once, at the most general place that it is true of."""
    all_notes = {place: _notes(cell) for place, cell in summary.cells.items()}
    metrics = [column.metric.id for column in summary.columns]
    of_row: dict[str, list[str]] = {}
    for row in summary.rows:
        cells = [summary.cells[row.id, metric] for metric in metrics]
        # one column shares everything with itself: then the notes stay at the cells
        of_row[row.id] = _common_notes([all_notes[row.id, metric] for metric in metrics]) if len(metrics) > 1 else []
        counts = {len(cell.values) for cell in cells} - {0}
        if counts == {1} and seeds > 1 and not any(cell.pooled for cell in cells):
            of_row[row.id].append("one seed: the interval is over questions only")
    of_column: dict[str, list[str]] = {}
    for column in summary.columns:
        lists = []
        for row in summary.rows:
            remaining_notes = [note for note in all_notes[row.id, column.metric.id] if note not in of_row[row.id]]
            if remaining_notes or not of_row[row.id]:  # a row that is n/a as a whole does not decide for the column
                lists.append(remaining_notes)
        common_notes = _common_notes(lists) if len(lists) > 1 else []
        of_column[column.metric.id] = [*common_notes, *(clean(warning) for warning in column.warnings)]
    of_cell = {
        (row, metric): [note for note in notes if note not in of_row[row] and note not in of_column[metric]]
        for (row, metric), notes in all_notes.items()
    }
    return of_row, of_column, of_cell


def _common_notes(lists: Sequence[list[str]]) -> list[str]:
    return [note for note in lists[0] if all(note in other_notes for other_notes in lists)] if lists else []


def _notes(cell: CellSummary) -> list[str]:
    notes, paper = [clean(note) for note in cell.notes], cell.paper
    if paper is not None and paper.reasons:
        notes.append(f"not comparable with the paper: {clean('; '.join(paper.reasons))}")
    elif paper is not None and paper.difference is not None:
        notes += [f"against the paper: {clean(doubt)}" for doubt in paper.doubts]
    if paper is not None and paper.note:
        notes.append(f"paper: {clean(paper.note)}")
    return notes


def metric_title(metric: Metric) -> str:
    title, unit = clean(metric.title), clean(metric.unit)
    if not unit or unit in title:
        return title
    return f"{title} {unit}" if unit == "%" else f"{title} ({unit})"


def coarse_digits(metric: Metric) -> int:
    return max(metric.digits - 1, 0) if metric.unit == "%" else metric.digits


def _cell(cell: CellSummary, metric: Metric, min_coverage: float, with_lengths: bool, marks: Marks) -> TableCell:
    digits, paper, delta = coarse_digits(metric), cell.paper, cell.change.delta
    lines: list[str] = []
    # the published value is shown even where ours is missing: the reader compares rows by it
    if paper is not None:
        lines.append(f"paper {paper.text or format(paper.value, f'.{metric.digits}f')}")
        if paper.difference is not None:
            lines.append(f"{paper.difference:+.{digits}f} {paper.verdict}")
        elif paper.reasons:
            lines.append(NOT_COMPARABLE)
    if with_lengths and cell.lengths is not None:
        length, baseline, share_truncated = cell.lengths
        lines += [f"{length:,.0f} chars (baseline {baseline:,.0f})", f"{100 * share_truncated:.0f}% cut"]
    if cell.refused and cell.coverage is not None:
        return TableCell(REFUSED, lines=(f"coverage {percent(cell.coverage)}", *lines), marks=marks)
    if cell.value is None:
        return TableCell("n/a", lines=tuple(lines), marks=marks)
    # shown although it would be refused by default: then the gap is printed in the cell
    if min_coverage < MIN_COVERAGE and cell.coverage is not None and cell.coverage < 1:
        gap = [f"coverage {percent(cell.coverage)}"]
        gap += [] if cell.bounds is None else [f"could be {cell.bounds[0]:.{digits}f}-{cell.bounds[1]:.{digits}f}"]
        lines = [*gap, *lines]
    if cell.low is not None and cell.high is not None:
        lines = [f"[{cell.low:.{digits}f}, {cell.high:.{digits}f}]", *lines]
    size = f"{abs(delta or 0):.{digits}f}"
    # by the printed digits: an arrow beside 0.0 would claim a direction that cannot be read
    arrow = "=" if float(size) == 0 else "↑" if (delta or 0) > 0 else "↓"
    # seen from this row: the dagger says that the focus row beats it
    focus_sign = ("†" if (cell.focus.delta or 0) > 0 else "‡") if cell.focus.significant else ""
    return TableCell(
        text=f"{cell.value:.{metric.digits}f}",
        change="" if delta is None else f"({arrow} {size})",
        sign="*" if cell.change.significant else "",
        other_signs=focus_sign + ("≈" if cell.tied else ""),
        lines=tuple(lines),
        sort=cell.value,
        best=cell.best,
        tone=("good" if (delta or 0) > 0 else "bad") if cell.change.significant else "",
        marks=marks,
        link="" if metric.measured else cell_link(cell, metric),
    )


def _tips(cell: CellSummary, shown: TableCell, column: ColumnSummary, summary: Summary) -> Iterator[str]:
    """In words what stands beside a value in signs."""
    digits, change = coarse_digits(column.metric), cell.change
    reference, focus = (clean(summary.title(name or "")) for name in (summary.target.reference, summary.target.focus))
    if shown.change:
        text = f"change from {reference}: {change.delta or 0:+.{digits}f}"
        if change.low is not None and change.high is not None:
            text += f" [{change.low:+.{digits}f}, {change.high:+.{digits}f}]"
        if change.p_holm is None:
            yield f"{text}, not tested"
        else:
            verdict = "significant (*)" if change.significant else "not significant"
            rows = format_count(column.comparisons, "row")
            yield f"{text}, {p_text(change.p_holm)} after Holm over {rows}: {verdict}"
    if cell.focus.significant:
        better = "better" if (cell.focus.delta or 0) > 0 else "worse"
        yield f"{shown.other_signs[0]}: {focus} is significantly {better} than this row"
    if shown.best:
        yield "bold: the best trained row of this column"
    if cell.tied:
        yield "≈: not significantly different from the best trained row of this column"


def p_text(p: float) -> str:
    """To two digits, or as many as keep it on its side of 5%: 0.0499, not 0.05."""
    texts = (f"{p:.{digits}g}" for digits in range(2, 17))
    shown = next((text for text in texts if (float(text) < ALPHA) == (p < ALPHA)), str(p))
    return "p < 0.0001" if p < 1e-4 else f"p = {shown}"


def cell_link(cell: CellSummary, metric: Metric) -> str:
    """As the page's question browser reads it."""
    values = {"benchmark": metric.group, "a": cell.row.title, "measure": f"share in {metric.title}"}
    return urlencode(values, errors="replace")


def _records(summary: Summary, results: Results) -> list[dict[str, object]]:
    """``lowest``, ``highest``: were every missing verdict the worst, the best. ``focus_``: focus row minus this one."""
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
            notes = [*(["refused: coverage below the minimum"] if cell.refused else []), *cell.notes, *column.warnings]
            if cell.paper is not None:
                notes += cell.paper.reasons or cell.paper.doubts
                notes += [f"paper: {cell.paper.note}"] if cell.paper.note else []
            words = {"detectable": column.detectable, "verdict": cell.verdict, "note": "; ".join(notes)}
            records.append({**place, **cell.numbers(), **words})
    return records


def _json_data(summary: Summary, results: Results, texts: Mapping[str, object]) -> dict[str, object]:
    """The JSON. Nothing in it depends on when or how fast the run was made: an unchanged run writes the same bytes."""
    run = results.run
    rows = []
    for row in summary.rows:
        cells = {column.metric.id: summary.cells[row.id, column.metric.id] for column in summary.columns}
        rows.append({**asdict(row), "cells": {metric: _cell_data(cell) for metric, cell in cells.items()}})
    columns = [
        {
            **asdict(column.metric), "best": list(column.best), "detectable": column.detectable,
            "tests_against_reference": column.comparisons, "tests_of_focus": column.focus_comparisons,
            "tests_against_best": column.best_comparisons, "variance": column.shares,
            "warnings": list(column.warnings),
        }
        for column in summary.columns
    ]  # fmt: skip
    return {
        "format": FORMAT, "target": summary.target.name, "title": "",
        "run": {
            "name": run.name, "family": asdict(run.family), "finished": run.finished, "seeds": list(run.seeds),
            "judges": dict(run.judges), "protocols": [asdict(card) for card in run.cards],
        },
        "reference": summary.target.reference, "focus": summary.target.focus, "min_coverage": summary.min_coverage,
        "columns": columns, "rows": rows, "absent": list(summary.absent),
        **texts,
    }  # fmt: skip


def _cell_data(cell: CellSummary) -> dict[str, object]:
    """``score`` and ``judgments`` name the artifacts in the store that the number comes from, by seed."""
    paper, (length, baseline, share_truncated) = cell.paper, cell.lengths or (None, None, None)
    # keys of artifacts follow from their content: an unchanged run names the same ones
    sources = {str(seed): cell.sources[seed] for seed in cell.values if seed in cell.sources}
    return {
        **cell.numbers(), "refused": cell.refused,
        "by_seed": {} if cell.refused else {str(seed): value for seed, value in cell.values.items()},
        "verdict": cell.verdict or None, "not_comparable": list(paper.reasons) if paper else [],
        "doubts": list(paper.doubts) if paper and not paper.reasons else [],
        "published_note": paper.note if paper else "", "mean_length": length, "baseline_length": baseline,
        "truncated": share_truncated, "categories": cell.categories, "notes": list(cell.notes),
        "score": {seed: str(source.score) for seed, source in sources.items()},
        "judgments": {seed: str(source.judgments) for seed, source in sources.items()},
    }  # fmt: skip
