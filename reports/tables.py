"""A laid-out table as Markdown and as tidy CSV. LaTeX and the terminal have files of their own."""

from __future__ import annotations

import csv
import io

from reports.layout import CellView, Marks, TableView, clean
from reports.summary import Summary
from results.published import in_paper, published_table
from results.run import Run

_RAISED = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
_SPACE = "\N{NO-BREAK SPACE}"  # keeps "(↑ 6.4)" and "[43.1, 48.6]" on one line wherever the page breaks a cell
CSV_COLUMNS = (
    "target", "run", "family", "row", "title", "metric", "value", "low", "high", "n", "unscored", "coverage",
    "delta", "delta_low", "delta_high", "p", "p_holm", "detectable", "seeds", "published", "note",
)  # fmt: skip


def raised(marks: Marks) -> str:
    """Footnote letters as Unicode superscripts: readable raw and rendered."""
    return "˒".join(mark.translate(_RAISED) for mark in marks)


def markdown(view: TableView) -> str:
    """GitHub-flavoured Markdown. All text from outside is escaped, HTML included."""
    heads = [f"Method ({escape_markdown(view.family)})"]
    heads += [escape_markdown(f"{column.group} {column.title}") + raised(column.marks) for column in view.columns]
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
    for mark in "\\`*_[]|~":
        text = text.replace(mark, "\\" + mark)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def tidy_csv(summary: Summary, run: Run) -> str:
    """One line per cell, full precision, missing numbers empty. A refused cell has no value here either."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    table, family = summary.target.published, run.family.name
    paper = published_table(table) if table and in_paper(table, family) else {}
    for row in summary.rows:
        for column in summary.columns:
            cell = summary.cells[row.id, column.metric.id]
            theirs = paper.get((family, row.id, column.metric.id))
            notes = [*(["refused: coverage below the minimum"] if cell.refused else []), *cell.notes, *column.warnings]
            numbers = {
                "value": cell.value, "low": cell.low, "high": cell.high, "coverage": cell.coverage,
                "delta": cell.delta, "delta_low": cell.delta_low, "delta_high": cell.delta_high,
                "p": cell.p, "p_holm": cell.p_holm, "detectable": column.detectable,
                "published": theirs.value if theirs else None,
            }  # fmt: skip
            texts = {
                "target": summary.target.name, "run": run.name, "family": family, "row": row.id, "title": row.title,
                "metric": column.metric.id, "note": "; ".join(notes),
            }  # fmt: skip
            line: dict[str, object] = {name: _inert(clean(text)) for name, text in texts.items()}
            line |= {name: "" if number is None else repr(round(number, 6)) for name, number in numbers.items()}
            writer.writerow(line | {"n": cell.n, "unscored": cell.unscored, "seeds": cell.seeds})
    return out.getvalue()


def _inert(text: str) -> str:
    """A spreadsheet runs a cell that starts like a formula; an apostrophe in front keeps it text."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
