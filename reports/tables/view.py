"""A table before it has a format: every string that Markdown, LaTeX and the terminal print, decided once.

Notes become lettered footnotes, each text once. A note that all cells of a row (or column) share hangs on the row's
(or column's) title. Control characters, which could rewrite a terminal, are replaced here, for every format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.contracts.benchmark import Metric
from reports.tables.cell import CellSummary, Split
from reports.tables.legend import clean, legend, percent
from reports.tables.published import NOT_COMPARABLE
from reports.tables.summary import MIN_COVERAGE, ColumnSummary, Summary
from results.run.record import Run

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
    """Further lines: ``coverage 97%``, ``could be 41.2-47.0``, ``paper 45.87``, ``+0.4 inconclusive``."""
    best: bool = False
    significant: bool = False
    """Differs from the reference row."""
    rises: bool = False
    against: str = ""
    """``†``: the focus row is better than this one, ``‡``: worse; empty: neither is shown."""
    tied: bool = False
    """Cannot be told from the best row of its column."""
    marks: Marks = ()

    @property
    def signs(self) -> str:
        """What the tests say, as it stands behind the value: ``*†≈``."""
        return ("*" if self.significant else "") + self.against + ("≈" if self.tied else "")


@dataclass(frozen=True)
class ColumnView:
    """A column's heading."""

    group: str
    title: str
    detectable: str
    marks: Marks = ()
    variance: str = ""
    """Shares of the variance in per cent, by what they come from: ``5/80/15``."""


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


def build(summary: Summary, run: Run) -> TableView:
    """Lay a summary out."""
    own = {place: _own_notes(cell) for place, cell in summary.cells.items()}
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
            view = _cell(summary.cells[row.id, metric.id], column, summary.min_coverage)
            if summary.target.lengths or run.recipe.get("baseline"):
                view = replace(view, extra=(*view.extra, *_lengths(summary.cells[row.id, metric.id])))
            cells.append(CellView(**{**view.__dict__, "marks": notes.marks(left)}))
        rows.append(RowView(clean(row.title), row.baseline, tuple(cells), row_marks))
    family = clean(run.family.name)
    teacher, student = clean(run.family.teacher), clean(run.family.student)
    models = f"{teacher} teaches {student}" if teacher else student
    caption = f"{summary.target.title}. Run {clean(run.name)}: {models}."
    return TableView(
        summary.target.name, summary.target.label, caption, family, columns, tuple(rows), legend(summary, run),
        tuple((letter, text) for text, letter in notes.letters.items()),
    )  # fmt: skip


def _own_notes(cell: CellSummary) -> list[str]:
    """Everything that a cell's footnotes say, before what its row or column shares is hung there."""
    notes = [clean(note) for note in cell.notes]
    if cell.beside is not None and cell.beside.why:
        notes.append(f"not comparable with the paper: {clean('; '.join(cell.beside.why))}")
    elif cell.beside is not None and cell.beside.difference is not None:
        notes += [f"against the paper: {clean(doubt)}" for doubt in cell.beside.doubts]
    if cell.beside is not None and cell.beside.note:
        notes.append(f"paper: {clean(cell.beside.note)}")
    return notes


def _row_notes(summary: Summary, run: Run, own: dict[tuple[str, str], list[str]], row: str) -> list[str]:
    places = [(row, column.metric.id) for column in summary.columns]
    shared = _shared([own[place] for place in places]) if len(places) > 1 else []
    counts = {summary.cells[place].seeds for place in places} - {0}
    pooled = any(summary.cells[place].pooled for place in places)
    if counts == {1} and len(run.seeds) > 1 and not pooled:
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
    return ColumnView(clean(metric.group), metric_title(metric), smallest, marks, _shares(column.split))


def _shares(split: Split | None) -> str:
    if split is None:
        return ""
    parts = [split.seed, split.question, split.answer, *([] if split.judge is None else [split.judge])]
    return "/".join(f"{100 * part:.0f}" for part in parts) + "%"


def metric_title(metric: Metric) -> str:
    """``LC %``, ``Score (1~10)``."""
    title, unit = clean(metric.title), clean(metric.unit)
    if not unit or unit in title:
        return title
    return f"{title} {unit}" if unit == "%" else f"{title} ({unit})"


def _coarse(metric: Metric) -> int:
    """Digits of changes and intervals: on a scale of 100 the second digit says nothing."""
    return max(metric.digits - 1, 0) if metric.unit == "%" else metric.digits


def _cell(cell: CellSummary, column: ColumnSummary, min_coverage: float) -> CellView:
    digits, coarse = column.metric.digits, _coarse(column.metric)
    beside = _beside(cell, digits, coarse)
    if cell.refused and cell.coverage is not None:
        return CellView("refused:", interval=f"coverage {percent(cell.coverage)}", extra=beside)
    if cell.value is None:
        return CellView("n/a", extra=beside)
    coverage: tuple[str, ...] = ()
    asked = min_coverage < MIN_COVERAGE  # for what would be refused: then say it
    if asked and cell.coverage is not None and cell.coverage < 1:
        coverage = (f"coverage {percent(cell.coverage)}",)
        if cell.bounds is not None:
            coverage += (f"could be {cell.bounds[0]:.{coarse}f}-{cell.bounds[1]:.{coarse}f}",)
    known = cell.low is not None and cell.high is not None
    return CellView(
        value=f"{cell.value:.{digits}f}",
        change=_change(cell.delta, coarse),
        interval=f"[{cell.low:.{coarse}f}, {cell.high:.{coarse}f}]" if known else "",
        extra=(*coverage, *beside),
        best=cell.row in column.best,
        significant=cell.significant,
        rises=(cell.delta or 0) > 0,
        against=_against(cell),
        tied=cell.tied,
    )


def _beside(cell: CellSummary, digits: int, coarse: int) -> tuple[str, ...]:
    """The published value, our difference to it, and the verdict."""
    paper = cell.beside
    if paper is None:
        return ()
    value = f"paper {paper.shown or format(paper.value, f'.{digits}f')}"
    if paper.difference is None:  # nothing of ours, or nothing that can be compared: the footnote says why
        return (value, NOT_COMPARABLE) if paper.why else (value,)
    return (value, f"{paper.difference:+.{coarse}f} {paper.verdict}")


def _against(cell: CellSummary) -> str:
    if cell.focus is None or not cell.focus.significant:
        return ""
    return "†" if cell.focus.delta > 0 else "‡"


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
    arrow = "=" if float(size) == 0 else "↑" if delta > 0 else "↓"
    return f"({arrow} {size})"
