"""A table before it has a format: every string that Markdown, LaTeX and the terminal print, decided once.

Notes become lettered footnotes, each text once. A note that all cells of a row (or column) share hangs on the row's
(or column's) title. Control characters, which could rewrite a terminal, are replaced here, for every format.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.benchmark import Card, Metric
from harness.words import counted
from reports.summary import MIN_COVERAGE, CellSummary, ColumnSummary, Summary
from results.published import PAPER, Published, in_paper, published_table
from results.run import Run

Marks = tuple[str, ...]
"""Footnote letters."""


@dataclass(frozen=True)
class CellView:
    """One cell in parts; an empty string is a part that is not there."""

    value: str
    """``45.87``, ``n/a`` or ``refused:``."""
    change: str = ""
    """``(↑ 6.4)``."""
    interval: str = ""
    """``[43.1, 48.6]``, or the ``coverage 91%`` for which the value is refused."""
    extra: tuple[str, ...] = ()
    """``coverage 97%``, ``paper 45.87``."""
    best: bool = False
    significant: bool = False
    rises: bool = False
    marks: Marks = ()


@dataclass(frozen=True)
class ColumnView:
    """A column's heading."""

    group: str
    title: str
    detectable: str
    marks: Marks = ()


@dataclass(frozen=True)
class RowView:
    """One line of the table."""

    title: str
    baseline: bool
    cells: tuple[CellView, ...]
    marks: Marks = ()


@dataclass(frozen=True)
class TableView:
    """A whole table."""

    name: str
    label: str
    """``Table 1``; LaTeX puts its own number there."""
    caption: str
    family: str
    columns: tuple[ColumnView, ...]
    rows: tuple[RowView, ...]
    legend: tuple[str, ...]
    """How to read it, protocols, warnings: one line each."""
    footnotes: tuple[tuple[str, str], ...]
    """Letter and text."""
    head: str = "Method"
    """What the first column holds."""

    @property
    def title(self) -> str:
        """Label and caption, for formats that do not number tables."""
        return f"{self.label}: {self.caption}"


@dataclass
class _Notes:
    """Gives letters to texts in the order in which a reader meets them."""

    letters: dict[str, str] = field(default_factory=dict)

    def marks(self, texts: Sequence[str]) -> Marks:
        for text in texts:
            if text not in self.letters:
                self.letters[text] = _letter(len(self.letters))
        return tuple(self.letters[text] for text in texts)


def _letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ...: without q, which has no superscript form in Unicode."""
    alphabet = "abcdefghijklmnoprstuvwxyz"
    head, tail = divmod(index, len(alphabet))
    return (_letter(head - 1) if head else "") + alphabet[tail]


def clean(text: str) -> str:
    """``text`` on one line, with control and invisible formatting characters replaced by U+FFFD."""
    spaced = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(char).startswith("C") else char for char in spaced)


def build(summary: Summary, run: Run) -> TableView:
    """Lay a summary out."""
    paper = _paper(summary, run)
    own = {place: [clean(note) for note in cell.notes] for place, cell in summary.cells.items()}
    row_notes = {row.id: _row_notes(summary, run, own, row.id) for row in summary.rows}
    column_notes = {column.metric.id: _column_notes(summary, own, row_notes, column) for column in summary.columns}
    notes = _Notes()
    columns = tuple(_heading(column, notes.marks(column_notes[column.metric.id])) for column in summary.columns)
    rows = []
    for row in summary.rows:
        row_marks = notes.marks(row_notes[row.id])
        cells = []
        for column in summary.columns:
            metric = column.metric
            said = [*row_notes[row.id], *column_notes[metric.id]]
            left = [note for note in own[row.id, metric.id] if note not in said]
            beside = paper.get((row.id, metric.id))
            left += [f"paper: {clean(beside.note)}"] if beside and beside.note else []
            view = _cell(summary.cells[row.id, metric.id], column, summary.min_coverage, beside)
            if summary.target.lengths or run.recipe.get("baseline"):
                view = replace(view, extra=(*view.extra, *_lengths(summary.cells[row.id, metric.id])))
            cells.append(CellView(**{**view.__dict__, "marks": notes.marks(left)}))
        rows.append(RowView(clean(row.title), row.baseline, tuple(cells), row_marks))
    family = clean(run.family.name)
    teacher, student = clean(run.family.teacher), clean(run.family.student)
    models = f"{teacher} teaches {student}" if teacher else student
    caption = f"{summary.target.title}. Run {clean(run.name)}: {models}."
    return TableView(
        summary.target.name, summary.target.label, caption, family, columns, tuple(rows), _legend(summary, run, paper),
        tuple((letter, text) for text, letter in notes.letters.items()),
    )  # fmt: skip


def _paper(summary: Summary, run: Run) -> dict[tuple[str, str], Published]:
    table = summary.target.published
    if table is None or not in_paper(table, run.family.name):
        return {}
    numbers = published_table(table)
    return {key[1:]: number for key, number in numbers.items() if key[0] == run.family.name}


def _row_notes(summary: Summary, run: Run, own: dict[tuple[str, str], list[str]], row: str) -> list[str]:
    places = [(row, column.metric.id) for column in summary.columns]
    shared = _shared([own[place] for place in places]) if len(places) > 1 else []
    counts = {summary.cells[place].seeds for place in places} - {0}
    if counts == {1} and len(run.seeds) > 1:
        shared.append("one seed: the interval is over questions only")
    return shared


def _column_notes(
    summary: Summary, own: dict[tuple[str, str], list[str]], row_notes: dict[str, list[str]], column: ColumnSummary
) -> list[str]:
    lists = [[note for note in own[row.id, column.metric.id] if note not in row_notes[row.id]] for row in summary.rows]
    lists = [notes for row, notes in zip(summary.rows, lists, strict=True) if notes or not row_notes[row.id]]
    return (_shared(lists) if len(lists) > 1 else []) + [clean(warning) for warning in column.warnings]


def _shared(lists: Sequence[list[str]]) -> list[str]:
    return [note for note in lists[0] if all(note in other for other in lists)] if lists else []


def _heading(column: ColumnSummary, marks: Marks) -> ColumnView:
    metric = column.metric
    smallest = "" if column.detectable is None else f"{column.detectable:.{_coarse(metric)}f}"
    return ColumnView(clean(metric.group), metric_title(metric), smallest, marks)


def metric_title(metric: Metric) -> str:
    """``LC %``, ``Score (1~10)``."""
    title, unit = clean(metric.title), clean(metric.unit)
    if not unit or unit in title:
        return title
    return f"{title} {unit}" if unit == "%" else f"{title} ({unit})"


def _coarse(metric: Metric) -> int:
    """Digits of changes and intervals: on a scale of 100 the second digit says nothing."""
    return max(metric.digits - 1, 0) if metric.unit == "%" else metric.digits


def _cell(cell: CellSummary, column: ColumnSummary, min_coverage: float, paper: Published | None) -> CellView:
    digits, coarse = column.metric.digits, _coarse(column.metric)
    beside = [f"paper {paper.value:.{digits}f}"] if paper else []
    if cell.refused and cell.coverage is not None:
        return CellView("refused:", interval=f"coverage {percent(cell.coverage)}", extra=tuple(beside))
    if cell.value is None:
        return CellView("n/a", extra=tuple(beside))
    if min_coverage < MIN_COVERAGE and cell.coverage is not None:  # asked for what would be refused: then say it
        beside.insert(0, f"coverage {percent(cell.coverage)}")
    known = cell.low is not None and cell.high is not None
    return CellView(
        value=f"{cell.value:.{digits}f}",
        change=_change(cell.delta, coarse),
        interval=f"[{cell.low:.{coarse}f}, {cell.high:.{coarse}f}]" if known else "",
        extra=tuple(beside),
        best=cell.row in column.best,
        significant=cell.significant,
        rises=(cell.delta or 0) > 0,
    )


def _lengths(cell: CellSummary) -> tuple[str, ...]:
    """Answer length in characters beside the baseline's, and the share that was cut at the token limit."""
    if cell.lengths is None:
        return ()
    ours, theirs, cut = cell.lengths
    return (f"{ours:.0f} chars (baseline {theirs:.0f})", f"{100 * cut:.0f}% cut")


def _change(delta: float | None, digits: int) -> str:
    if delta is None:
        return ""
    size = f"{abs(delta):.{digits}f}"
    arrow = "=" if float(size) == 0 else "↑" if delta > 0 else "↓"
    return f"({arrow} {size})"


def percent(share: float) -> str:
    """``91%``, rounded down: 97.9% must not be printed as the 98% that it misses."""
    return f"{int(share * 100 + 1e-9)}%"


def _legend(summary: Summary, run: Run, paper: dict[tuple[str, str], Published]) -> tuple[str, ...]:
    target = summary.target
    lines = []
    if not run.finished:
        lines.append(
            "UNFINISHED RUN: what is missing is n/a, the rest may change. Give the same command again to go on."
        )
    reference = next((clean(row.title) for row in summary.rows if row.id == target.reference), target.reference)
    most = max((column.comparisons for column in summary.columns), default=0)
    compared = any(not row.baseline for row in summary.rows)
    against = f" (change from {reference})" if compared else ""
    bold = " Bold: best trained row of its column." if compared else ""
    lines.append(f"Cells: value{against} [95% interval].{bold}")
    if target.lengths or run.recipe.get("baseline"):
        lines.append("chars: mean length of the answers; cut: share of them that ended at the token limit.")
    if most:
        lines.append(
            f"*: differs from {reference} (paired bootstrap, p < 0.05 after Holm's correction for the {most} planned "
            "comparisons of a column)."
        )
    seeds = ", ".join(str(seed) for seed in run.seeds)
    over = "questions only: another seed may differ by more" if len(run.seeds) == 1 else "seeds and questions"
    lines.append(f"Seeds: {seeds}. Intervals and tests are over {over}.")
    if any(column.detectable is not None for column in summary.columns):
        lines.append(
            "Detectable: the smallest true change that such a run finds in every row with 80% power (5% test, before "
            "Holm). A row without * is not shown to equal the reference."
        )
    lines += _protocols(summary, run, paper)
    if target.published and not paper:
        lines.append(f"Not comparable with the paper's {target.label}: other models, questions and judge.")
    if paper:
        lines.append(f"paper: the value in {PAPER}, {next(iter(paper.values())).source.split(', ', 1)[1]}.")
    if summary.absent:
        lines.append(f"Not in this run: {', '.join(summary.absent)}.")
    return (*lines, *target.notes, *(clean(note) for note in run.notes))


def _protocols(summary: Summary, run: Run, paper: dict[tuple[str, str], Published]) -> list[str]:
    """One line per benchmark: who judged, how many questions, how many without a verdict, by which protocol."""
    cards = {card.benchmark: card for card in run.cards}
    lines = []
    groups: dict[str, list[Metric]] = {}
    for column in summary.columns:
        if column.metric.measured:
            continue
        groups.setdefault(column.metric.id.split(".")[0], []).append(column.metric)
    for benchmark, metrics in groups.items():
        # Metrics of one benchmark share its judgments: count each model's questions once.
        cells = [[summary.cells[row.id, metric.id] for metric in metrics] for row in summary.rows]
        counts = [cell.n for row in cells for cell in row if cell.seeds]
        unscored = sum(max(cell.unscored for cell in row) for row in cells)
        n = counted(counts[0], "question") if len(set(counts)) == 1 else "no questions"
        n = f"{min(counts)} to {max(counts)} questions" if len(set(counts)) > 1 else n
        judge = clean(run.judges.get(benchmark, "not stated"))
        line = f"{clean(metrics[0].group)}: {n}, {unscored} unscored in all rows and seeds; judge: {judge}"
        hostile = sum(max(cell.injected for cell in row) for row in cells)
        line += f"; {counted(hostile, 'answer')} with text directed at a judge" if hostile else ""
        line += _protocol(cards.get(benchmark))
        theirs = [paper[row.id, metrics[0].id].protocol for row in summary.rows if (row.id, metrics[0].id) in paper]
        lines.append(line + (f" Paper: {clean(theirs[0])}." if theirs else ""))
    return lines


def _protocol(card: Card | None) -> str:
    if card is None:
        return "."
    hashed = "" if card.prompt_hash in ("", "none") else f", prompt {clean(card.prompt_hash)}"
    deviations = "; ".join(clean(one).rstrip(".") for one in card.deviations)
    differs = f" Differs from the official protocol: {deviations}." if deviations else ""
    return f"; protocol {clean(card.version)}{hashed}.{differs}"
