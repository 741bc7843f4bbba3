"""Tables on the terminal, through ``rich``: as few lines per row as the width allows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from reports.formats.markdown import superscript
from reports.tables.table import REFUSED, Table, TableCell

LINES = 7  # at most, under a table of scores in 80 columns: eight with the line of the files, that a command adds
_TONES = {"good": "green", "bad": "red", "faint": "dim"}


def _option(match: re.Match[str]) -> str:
    """``in the notes``, ``the notes say``: in words of the command line."""
    return f"{'with ' if match[1] else ''}--notes{' says' if match[2] else ''}"


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
        """The lines and the footnotes, in the order in which a reader needs them. Without notes at most ``LINES``: more
        run on as one paragraph, and what still is too much is left out, never a warning or a footnote that the table
        needs. A table without ``detail_lines`` has no notes that could say the rest."""
        table, lines = self.table, list(self.table.lines)
        if not self.notes:
            lines = [re.sub(r"(in )?\bthe notes( say)?\b", _option, line) for line in lines]
        first, last = lines[: table.lead], lines[len(lines) - table.tail :]
        lines = lines[table.lead : len(lines) - table.tail]
        needed = " ".join([*self._footnotes(table.needed), *self._ways_to_numbers()])
        first += [*([needed] if needed else []), *lines[: table.vital]]
        lines = lines[table.vital :]
        of_rows = {mark for row in table.rows for cell in row.cells for mark in cell.marks}
        others = [mark for mark, _ in table.footnotes if mark not in table.needed]
        notes = "  ".join(self._footnotes(others))
        details = table.detail_lines if self.notes else ()
        texts = self._wrapped([*first, *lines, *last, *details, notes], console, width)
        if self.notes or not table.detail_lines or len(texts) <= LINES:
            return texts
        # those of rows say more of a number than those of columns (versions)
        others.sort(key=lambda mark: mark not in of_rows)
        rest = [*lines, *(text for mark in others for text in self._footnotes([mark])), *last]

        def paragraph(chosen: Sequence[str]) -> list[Text]:
            more = [f"({len(rest) - len(chosen)} more with --notes)"] if len(chosen) < len(rest) else []
            return self._wrapped([" ".join([*first, *chosen, *more])], console, width)

        chosen: list[str] = []
        texts, before_last = paragraph(chosen), len(rest) - len(last)
        for number, text in enumerate(rest):
            # in this order whatever still fits, so that a long line does not take the room of shorter ones; but those
            # on the paper only after all others
            if number >= before_last > len(chosen):
                break
            if len(trial := paragraph([*chosen, text])) <= LINES:
                chosen, texts = [*chosen, text], trial
        return texts

    def _footnotes(self, marks: Sequence[str]) -> list[str]:
        """In the table's order."""
        notes = [(mark, text) for mark, text in self.table.footnotes if mark in marks]
        # other lines follow them
        return [f"{superscript((mark,))} {text}{'' if text.endswith('.') else '.'}" for mark, text in notes]

    def _ways_to_numbers(self) -> list[str]:
        is_refused = any(cell.text == REFUSED for row in self.table.rows for cell in row.cells)
        return ["(--min-coverage 0.5, say, shows refused cells.)"] if is_refused else []

    @staticmethod
    def _wrapped(paragraphs: Sequence[str], console: Console, width: int) -> list[Text]:
        return [line for text in paragraphs if text for line in Text(text, "dim").wrap(console, width)]

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
