"""A laid-out table as Markdown and as tidy CSV. LaTeX and the terminal have files of their own."""

from __future__ import annotations

import csv
import io
import re

from reports.tables.cell import CellSummary
from reports.tables.legend import clean
from reports.tables.summary import ColumnSummary, Summary
from reports.tables.view import CellView, Marks, TableView
from results.run.record import Run

_RAISED = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
_BEGINS_A_BLOCK = re.compile(r"^(\s*\d*)(#|[-+](?=\s|-)|(?<=\d)[.)](?=\s|$))")
"""A heading, a list or a rule, which text in front of a line would make."""
_SPACE = "\N{NO-BREAK SPACE}"  # keeps "(↑ 6.4)" and "[43.1, 48.6]" on one line wherever the page breaks a cell
CSV_COLUMNS = (
    "target", "run", "family", "row", "title", "metric", "value", "low", "high", "n", "unscored", "coverage",
    "lowest", "highest", "delta", "delta_low", "delta_high", "p", "p_holm", "focus_delta", "focus_low", "focus_high",
    "focus_p", "focus_p_holm", "best", "tied_with_best", "detectable", "seeds", "published", "difference",
    "difference_low", "difference_high", "verdict", "note",
)  # fmt: skip


def raised(marks: Marks) -> str:
    """Footnote letters as Unicode superscripts: readable raw and rendered."""
    return "˒".join(mark.translate(_RAISED) for mark in marks)


def markdown(view: TableView) -> str:
    """GitHub-flavoured Markdown. All text from outside is escaped, HTML included."""
    heads = [f"{view.head} ({escape_markdown(view.family)})"]
    heads += [
        escape_markdown(f"{column.group} {column.title}".strip()) + raised(column.marks) for column in view.columns
    ]
    lines = [heads]
    for row in view.rows:
        title = escape_markdown(row.title) + raised(row.marks)
        lines.append([title, *(_markdown_cell(cell) for cell in row.cells)])
    if any(column.detectable for column in view.columns):
        lines.append(["*Detectable*", *(f"*{column.detectable or '-'}*" for column in view.columns)])
    if any(column.variance for column in view.columns):
        lines.append(["*Variance*", *(f"*{column.variance or '-'}*" for column in view.columns)])
    widths = [max(len(line[index]) for line in lines) for index in range(len(heads))]
    rule = "|".join(["", "-" * (widths[0] + 2), *(":" + "-" * (width + 1) for width in widths[1:]), ""])
    body = [
        "| " + " | ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    legend = [f"- {escape_markdown(line)}" for line in view.legend]
    notes = [f"- {raised((letter,))} {escape_markdown(text)}" for letter, text in view.footnotes]
    parts = [f"**{escape_markdown(view.title)}**", "\n".join([body[0], rule, *body[1:]]), "\n".join(legend)]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])]) + "\n"


def _markdown_cell(cell: CellView) -> str:
    value = f"**{cell.value}**" if cell.best else cell.value
    signs = escape_markdown(cell.signs) + raised(cell.marks)
    first = f"{value} {cell.change.replace(' ', _SPACE)}{signs}" if cell.change else value + signs
    return " ".join(part for part in (first, cell.interval.replace(" ", _SPACE), ", ".join(cell.extra)) if part)


def escape_markdown(text: str) -> str:
    """``text`` so that Markdown shows it as it is: no markup, no HTML, no new table cell."""
    for mark in "\\`*_[]|~$":  # between dollars GitHub sets mathematics
        text = text.replace(mark, "\\" + mark)
    text = _BEGINS_A_BLOCK.sub(r"\1\\\2", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def tidy_csv(summary: Summary, run: Run) -> str:
    """One line per cell, full precision, missing numbers empty. A refused cell has no value here either.

    ``lowest`` and ``highest``: what the value would be if every missing verdict were the worst, and the best.
    ``focus_``: the target's focus row minus this one. ``difference``: value minus published.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in summary.rows:
        for column in summary.columns:
            cell = summary.cells[row.id, column.metric.id]
            texts = {
                "target": summary.target.name, "run": run.name, "family": run.family.name, "row": row.id,
                "title": row.title, "metric": column.metric.id, "note": "; ".join(_csv_notes(cell, column)),
                "verdict": verdict_of(cell) or "",
            }  # fmt: skip
            line: dict[str, object] = {name: inert(clean(text)) for name, text in texts.items()}
            numbers = numbers_of(cell, column)
            line |= {name: "" if number is None else repr(round(number, 6)) for name, number in numbers.items()}
            line |= {"best": int(row.id in column.best), "tied_with_best": int(cell.tied)}
            writer.writerow(line | {"n": cell.n, "unscored": cell.unscored, "seeds": cell.seeds})
    return out.getvalue()


def _csv_notes(cell: CellSummary, column: ColumnSummary) -> list[str]:
    notes = [*(["refused: coverage below the minimum"] if cell.refused else []), *cell.notes, *column.warnings]
    if cell.beside is not None:
        notes += [
            *(cell.beside.why or cell.beside.doubts),
            *([f"paper: {cell.beside.note}"] if cell.beside.note else []),
        ]
    return notes


def verdict_of(cell: CellSummary) -> str | None:
    """What the published value says of a cell that has a value."""
    return cell.beside.verdict if cell.beside is not None and cell.value is not None else None


def numbers_of(cell: CellSummary, column: ColumnSummary) -> dict[str, float | None]:
    """The numbers of a cell under the names of the CSV's columns."""
    low, high = cell.bounds or (None, None)
    focus, beside = cell.focus, cell.beside
    return {
        "value": cell.value, "low": cell.low, "high": cell.high, "coverage": cell.coverage,
        "lowest": low, "highest": high,
        "delta": cell.delta, "delta_low": cell.delta_low, "delta_high": cell.delta_high,
        "p": cell.p, "p_holm": cell.p_holm,
        "focus_delta": focus.delta if focus else None, "focus_low": focus.low if focus else None,
        "focus_high": focus.high if focus else None, "focus_p": focus.p if focus else None,
        "focus_p_holm": focus.p_holm if focus else None, "detectable": column.detectable,
        "published": beside.value if beside else None, "difference": beside.difference if beside else None,
        "difference_low": beside.low if beside else None, "difference_high": beside.high if beside else None,
    }  # fmt: skip


def inert(text: str) -> str:
    """A spreadsheet runs a cell that starts like a formula; an apostrophe in front keeps it text."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
