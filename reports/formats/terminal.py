"""Tables on the terminal, through ``rich``: as few lines per row as the width allows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from reports.formats.markdown import raised
from reports.tables.table import Table, TableCell

_TONES = {"good": "green", "bad": "red", "faint": "dim"}


@dataclass(frozen=True)
class TerminalTable:
    """Value, change and interval on one line if all columns then fit, else the interval below, else the change too.

    No text of the table is read as ``rich`` markup.
    """

    table: Table
    notes: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        per_row = self._lines_per_row(options.max_width)
        # Text, never str: rich would read brackets of an interval as markup
        yield Text(self.table.title, "bold")
        yield self._grid(per_row)
        for line in self.table.below(self.notes):
            yield Text(line, "dim")
        if self.table.footnotes:
            yield Text("  ".join(f"{raised((letter,))} {text}" for letter, text in self.table.footnotes), "dim")

    def _lines_per_row(self, width: int) -> int:
        """1, 2 or 3: the least with which the widest cells of all columns fit side by side."""
        rows = self.table.rows
        # measured on the texts, not on a guess per column: a table of two metrics has room for one line
        for per_row in (1, 2):
            widest = [_width(column.title, *column.marks) for column in self.table.columns]
            for row in rows:
                widths = [_width(_cell(cell, per_row, self.notes).plain) for cell in row.cells]
                widest = [max(pair) for pair in zip(widest, widths, strict=True)]
            if sum(widest) + 2 * len(widest) <= width:
                return per_row
        return 3

    def _grid(self, per_row: int) -> RichTable:
        apart = (0, 2 if per_row < 3 else 1, 0, 0)
        grid = RichTable(box=box.SIMPLE_HEAD, padding=apart, pad_edge=False, show_edge=False)
        groups = ["", *(column.group for column in self.table.columns)]
        # a table of plain text has no groups, and then no empty first heading line
        grouped = any(groups)
        for place, ((left, group), column) in enumerate(zip(pairwise(groups), self.table.columns, strict=True)):
            over = "" if left == group else group  # a heading over several columns stands over the first
            title = f"{column.title}{raised(column.marks)}"
            # where a terminal is too narrow, a row's name is broken and no number is
            grid.add_column(Text(f"{over}\n{title}" if grouped else title), no_wrap=place > 0 and column.numeric)
        for row in self.table.rows:
            grid.add_row(*(_cell(cell, per_row, self.notes) for cell in row.cells))
        return grid


def _width(*texts: str) -> int:
    return max(cell_len(line) for line in "".join(texts).split("\n"))


def _cell(cell: TableCell, per_row: int, notes: bool) -> Text:
    text = Text(cell.text, "bold" if cell.best else "dim" if cell.tone == "faint" else "")
    if cell.change:
        text.append(f"{chr(10) if per_row > 2 else ' '}{cell.change}", _TONES.get(cell.tone, ""))
    text.append(cell.signs(notes) + raised(cell.marks))
    beside = cell.below[:1] if per_row == 1 else ()
    for part in beside:
        text.append(f" {part}", "dim")
    for part in cell.below[len(beside) :]:
        text.append(f"\n{part}", "dim")
    return text
