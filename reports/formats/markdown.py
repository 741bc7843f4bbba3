"""Tables as GitHub-flavoured Markdown. All text from outside is escaped, HTML included."""

from __future__ import annotations

import re

from reports.tables.table import Marks, Table, TableCell, TableColumn

_SUPERSCRIPTS = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
_BEGINS_A_BLOCK = re.compile(r"^(\s*\d*)(#|[-+](?=\s|-)|(?<=\d)[.)](?=\s|$))")
"""A heading, a list or a rule, which text at the start of a line would make."""
_SPACE = "\N{NO-BREAK SPACE}"  # keeps "(↑ 6.4)" and "[43.1, 48.6]" on one line wherever the page breaks a cell


def superscript(marks: Marks) -> str:
    return "˒".join(mark.translate(_SUPERSCRIPTS) for mark in marks)


def markdown(*tables: Table, notes: bool = False) -> str:
    return "\n".join(_markdown(table, notes) for table in tables)


def _markdown(table: Table, notes: bool) -> str:
    lines = [[_heading(column) for column in table.columns]]
    lines += [[_cell(cell, notes) for cell in row.cells] for row in table.rows]
    # padded, so that the raw file can be read too
    widths = [max(len(line[index]) for line in lines) for index in range(len(table.columns))]
    rule = "|".join(["", "-" * (widths[0] + 2), *(":" + "-" * (width + 1) for width in widths[1:]), ""])
    body = [
        "| " + " | ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    lines_below = [f"- {escape_markdown(line)}" for line in table.lines_below(notes)]
    if table.footnotes:
        lines_below.append(
            "- " + "; ".join(f"{superscript((mark,))} {escape_markdown(text)}" for mark, text in table.footnotes)
        )
    blocks = [f"**{escape_markdown(table.title)}**", "\n".join([body[0], rule, *body[1:]]), "\n".join(lines_below)]
    return "\n\n".join(part for part in blocks if part) + "\n"


def _heading(column: TableColumn) -> str:
    return escape_markdown(f"{column.group} {column.title}".strip()) + superscript(column.marks)


def _cell(cell: TableCell, notes: bool) -> str:
    text = escape_markdown(cell.text)
    text = f"**{text}**" if cell.best else text
    change = f" {cell.change.replace(' ', _SPACE)}" if cell.change else ""
    value = text + change + escape_markdown(cell.signs(notes)) + superscript(cell.marks)
    return " ".join([value, *(escape_markdown(line).replace(" ", _SPACE) for line in cell.lines)])


def escape_markdown(text: str) -> str:
    """``text`` so that Markdown shows it as it is: no markup, no HTML, no new table cell."""
    for mark in "\\`*_[]|~$":  # between dollars GitHub sets mathematics
        text = text.replace(mark, "\\" + mark)
    text = _BEGINS_A_BLOCK.sub(r"\1\\\2", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
