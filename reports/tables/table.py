"""A table as data: every string that the terminal, Markdown, LaTeX and the page print, decided once.
``other_signs`` and ``detail_lines`` are printed with notes, and on the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Marks = tuple[str, ...]  # footnote letters
REFUSED = "refused:"  # the text of a cell with too few verdicts


@dataclass(frozen=True)
class TableCell:
    """One cell in parts: ``45.87``, ``(↑ 6.4)``, ``*``, with notes ``†≈``, and lines like ``[43.1, 48.6]`` below."""

    text: str
    change: str = ""
    sign: str = ""
    other_signs: str = ""
    lines: tuple[str, ...] = ()
    sort: float | str | None = None  # for the page; ``None`` comes last in either direction
    best: bool = False
    tone: str = ""  # ``good``, ``bad`` or ``faint``; the text says it too
    marks: Marks = ()
    tips: tuple[str, ...] = ()  # on the page: what the change and the signs say, a line each
    link: str = ""  # on the page: the fragment of an address that shows the verdicts behind it

    @property
    def narrow_change(self) -> str:
        return self.change.strip("()").replace(" ", "")

    def signs(self, notes: bool) -> str:
        return self.sign + (self.other_signs if notes else "")


@dataclass(frozen=True)
class TableColumn:
    title: str
    group: str = ""  # heading above; neighbours of one group share it
    numeric: bool = True  # the page's first click sorts large values to the top
    marks: Marks = ()


@dataclass(frozen=True)
class TableRow:
    cells: tuple[TableCell, ...]  # the first one names the row
    untrained: bool = False  # a baseline: LaTeX rules it off from the trained rows


@dataclass(frozen=True)
class Drawing:
    """A figure that goes with a table, not yet drawn (drawing loads matplotlib and takes most of a report's time)."""

    suffix: str  # of the file's name, after the table's: ``-length``; empty: the main figure
    title: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Table:
    name: str  # for file names and LaTeX labels
    caption: str
    columns: tuple[TableColumn, ...]  # one per cell of a row
    rows: tuple[TableRow, ...]
    lines: tuple[str, ...] = ()
    footnotes: tuple[tuple[str, str], ...] = ()
    label: str = ""  # ``Table 1``; LaTeX puts its own number there
    detail_rows: tuple[TableRow, ...] = ()  # totals: at the bottom on the page, never sorted
    detail_lines: tuple[str, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)  # the JSON file
    records: Sequence[Mapping[str, object]] = ()  # the CSV file, all with the same names
    drawings: tuple[Drawing, ...] = ()
    newest: float = 0.0  # seconds since 1970 of the newest score: older figures are stale
    summary: tuple[str, ...] = ()  # sentences: what the table says
    needed: Marks = ()  # of footnotes that no format leaves out: why a cell has no number, and what is not tested
    lead: int = 0  # so many of the lines come before these footnotes
    vital: int = 0  # so many after these, warnings, no format leaves out either
    tail: int = 0  # so many of the last lines a narrow terminal leaves out first

    def tips(self, cell: TableCell | TableColumn) -> tuple[str, ...]:
        """What a reader is told who points at a cell's signs, or at a column's letters."""
        notes = dict(self.footnotes)
        signs = cell.tips if isinstance(cell, TableCell) else ()
        return (*signs, *(f"{mark}: {notes[mark]}" for mark in cell.marks if mark in notes))

    @property
    def title(self) -> str:
        return f"{self.label}: {self.caption}" if self.label else self.caption

    def lines_below(self, notes: bool) -> tuple[str, ...]:
        """Without the notes, brackets that point to them are left out: a paper has no option that would show them."""
        if notes:
            return (*self.lines, *self.detail_lines)
        return tuple(re.sub(r" \([^()]*\bthe notes\b[^()]*\)", "", line) for line in self.lines)


def text_table(
    name: str, caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], lines: Sequence[str] = ()
) -> Table:
    """A table of plain text. The page sorts a cell by the number that it begins with, else by its text."""

    def sort_value(text: str) -> float | str | None:
        if text.strip() in ("", "-"):
            return None
        number = re.match(r"\s*([-+]?\d[\d,]*\.?\d*)", text)
        return float(number[1].replace(",", "")) if number else text

    columns = tuple(TableColumn(title, numeric=place > 0) for place, title in enumerate(header))
    cells = [tuple(TableCell(text, sort=sort_value(text)) for text in row) for row in rows]
    return Table(name, caption, columns, tuple(map(TableRow, cells)), tuple(lines))


def letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ...: without q, which has no superscript form in Unicode."""
    alphabet = "abcdefghijklmnoprstuvwxyz"
    head, tail = divmod(index, len(alphabet))
    return (letter(head - 1) if head else "") + alphabet[tail]
