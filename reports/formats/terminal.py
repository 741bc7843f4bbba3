"""A laid-out table on the terminal, through ``rich``: 120 columns for the paper's five metrics, 80 where it must."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from reports.formats.markdown_csv import raised
from reports.tables.view import CellView, TableView

_FIRST, _WIDE = 14, 20  # columns of the first column and of the others that hold value and change on one line


@dataclass(frozen=True)
class TerminalTable:
    """Value and change on one line where the terminal is wide enough, below each other where it is not.

    No text of the view is read as ``rich`` markup.
    """

    view: TableView

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The protocol by which ``rich`` asks what to print."""
        narrow = options.max_width < _FIRST + _WIDE * len(self.view.columns)
        yield Text(self.view.title, "bold")
        yield _table(self.view, narrow)
        for line in self.view.legend:
            yield Text(line, "dim")
        for letter, text in self.view.footnotes:
            yield Text(f"{raised((letter,))} {text}")


def _table(view: TableView, narrow: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0 if narrow else 1), pad_edge=False)
    table.add_column(Text(f"{view.family}\n{view.head}"))
    groups = ["", *(column.group for column in view.columns)]
    for (left, group), column in zip(pairwise(groups), view.columns, strict=True):
        over = "" if left == group else group  # a heading over two columns stands over the first
        table.add_column(Text(f"{over}\n{column.title}{raised(column.marks)}"))
    for index, row in enumerate(view.rows):
        last = index + 1 == len(view.rows) or row.baseline != view.rows[index + 1].baseline
        title = Text(row.title + raised(row.marks), "" if row.baseline else "bold")
        table.add_row(title, *(_cell(cell, narrow) for cell in row.cells), end_section=last)
    if any(column.detectable for column in view.columns):
        table.add_row(Text("Detectable", "dim"), *(Text(column.detectable or "-", "dim") for column in view.columns))
    if any(column.variance for column in view.columns):
        table.add_row(Text("Variance", "dim"), *(Text(column.variance or "-", "dim") for column in view.columns))
    return table


def _cell(cell: CellView, narrow: bool) -> Text:
    text = Text(cell.value, "bold" if cell.best else "")
    if cell.change:
        colour = ("green" if cell.rises else "red") if cell.significant else ""
        text.append(f"{chr(10) if narrow else ' '}{cell.change}", colour)
    text.append(cell.signs + raised(cell.marks))
    for line in (cell.interval, *cell.extra):
        text.append(f"\n{line}" if line else "", "dim")
    return text
