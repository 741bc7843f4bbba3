"""Tables on the terminal, through ``rich``: as few lines per row as the width allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from reports.formats.markdown import superscript
from reports.tables.table import Table, TableCell

LINES = 7  # at most, under a table of scores in 80 columns: eight with the line of the files, that a command adds
_TONES = {"good": "green", "bad": "red", "faint": "dim"}


@dataclass(frozen=True)
class TerminalTable:
    """Value, change and interval on one line if all columns fit, else the interval below, else the change too."""

    table: Table
    notes: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Text, never str: rich would read brackets of an interval as markup
        yield Text(self.table.title, "bold")
        grids = self._fitting_grids(console, options)
        yield from grids
        # as wide as the table: a longer line is hard to read, and a narrow table would break the lines too often
        width = min(options.max_width, max(80, Measurement.get(console, options, grids[0]).maximum))
        for line in self._lines_below(console, width):
            line.rstrip()
            yield line

    def _fitting_grids(self, console: Console, options: ConsoleOptions) -> list[RichTable]:
        """The table as one grid; on a narrow terminal as several, one below the other, each with the rows' names."""
        wide_options = options.update(max_width=10_000)
        columns = range(1, len(self.table.columns))
        grids: list[RichTable] = []
        # measured on the texts, not on a guess per column: a table of two metrics has room for one line
        for parts in range(1, max(2, len(columns) + 1)):
            size = -(-len(columns) // parts)
            chosen = [[0, *columns[start : start + size]] for start in range(0, len(columns) or 1, size or 1)]
            for per_row, apart in ((1, 2), (2, 1), (2, 0), (3, 0)):
                grids = [self._grid(per_row, apart, places) for places in chosen]
                if all(Measurement.get(console, wide_options, grid).maximum <= options.max_width for grid in grids):
                    return grids
            if not any(column.numeric for column in self.table.columns[1:]):
                break  # of texts: they are wrapped
        return grids

    def _lines_below(self, console: Console, width: int) -> list[Text]:
        """The lines and the footnotes. Without notes at most ``LINES``: more run on as one paragraph, and what still is
        too much is left out. A table without ``detail_lines`` has no notes that could say the rest."""
        table, lines = self.table, list(self.table.lines_below(self.notes))
        texts: list[Text] = []
        of_rows = {mark for row in table.rows for cell in row.cells for mark in cell.marks}
        # those of columns (versions, warnings) go first: those of rows say why a number is missing
        footnotes = sorted(table.footnotes, key=lambda footnote: footnote[0] in of_rows)
        for attempt in range(len(lines) + len(footnotes) + 1):
            notes = [f"{superscript((mark,))} {text}" for mark, text in sorted(footnotes, key=table.footnotes.index)]
            left_out = [f"({attempt - 1} more with --notes)"] if attempt > 1 else []
            last_text = "  ".join([*notes, *left_out])
            paragraphs = [" ".join([*lines, last_text])] if attempt else [*lines, last_text]
            texts = [line for text in paragraphs if text for line in Text(text, "dim").wrap(console, width)]
            if self.notes or not table.detail_lines or len(texts) <= LINES:
                break
            if attempt:
                footnotes.pop(0) if footnotes else lines.pop()
        return texts

    def _grid(self, per_row: int, apart: int, places: Sequence[int]) -> RichTable:
        """With these of the columns."""
        # the box puts one space between columns of its own
        grid = RichTable(box=box.SIMPLE_HEAD, padding=(0, apart, 0, 0), pad_edge=False, show_edge=False)
        columns = [self.table.columns[place] for place in places]
        groups = ["", *(column.group for column in columns)]
        # a table of plain text has no groups, and then no empty first heading line
        has_groups = any(groups)
        for place, ((previous_group, group), column) in enumerate(zip(pairwise(groups), columns, strict=True)):
            heading = "" if previous_group == group else group  # a heading over several columns stands over the first
            title = f"{column.title}{superscript(column.marks)}"
            # where a terminal is too narrow, a row's name is broken and no number is
            grid.add_column(Text(f"{heading}\n{title}" if has_groups else title), no_wrap=place > 0 and column.numeric)
        for row in self.table.rows:
            grid.add_row(*(self._cell(row.cells[place], per_row) for place in places))
        return grid

    def _cell(self, cell: TableCell, per_row: int) -> Text:
        text = Text(cell.text, "bold" if cell.best else "dim" if cell.tone == "faint" else "")
        if cell.change:
            text.append(f"{chr(10) if per_row == 3 else ' '}{cell.narrow_change}", _TONES.get(cell.tone, ""))
        text.append(cell.signs(self.notes) + superscript(cell.marks))
        for place, line in enumerate(cell.lines):
            text.append(f"{' ' if per_row == 1 and place == 0 else chr(10)}{line}", "dim")
        return text
