"""Grids of text, and how they are printed: terminal, Markdown, LaTeX. All text from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stats import Interval
from reports.formats.latex import escape_latex
from reports.formats.markdown import escape_markdown

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Grid:
    """One table of text."""

    name: str
    """For file and element names: ``bias-alpaca_eval``."""
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def span(interval: Interval | None, scale: float) -> str:
    """``[43.1, 48.6]``: one digit on a scale of hundred, two else; empty where there is none."""
    if interval is None:
        return ""
    digits = 1 if scale == 100 else 2
    return f"[{scale * interval.low:.{digits}f}, {scale * interval.high:.{digits}f}]"


def terminal(made: Sequence[Grid]) -> RenderableType:
    """For ``rich.console.Console.print``."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for grid in made:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for head in grid.header:
            table.add_column(Text(head))
        for row in grid.rows:
            table.add_row(*(Text(cell) for cell in row))
        parts += [Text(grid.title, "bold"), table, *(Text(note, "dim") for note in grid.notes), Text("")]
    return Group(*parts)


def markdown(made: Sequence[Grid]) -> str:
    """GitHub-flavoured Markdown."""
    parts = []
    for grid in made:
        lines = [[escape_markdown(cell) for cell in row] for row in (grid.header, *grid.rows)]
        body = ["| " + " | ".join(line) + " |" for line in lines]
        rule = "|" + "---|" * len(grid.header)
        notes = "\n".join(f"- {escape_markdown(note)}" for note in grid.notes)
        parts += [
            f"**{escape_markdown(grid.title)}**",
            "\n".join([body[0], rule, *body[1:]]),
            *([notes] if notes else []),
        ]
    return "\n\n".join(parts) + "\n"


def latex(made: Sequence[Grid]) -> str:
    """A ``table`` float per grid. Needs ``\\usepackage{booktabs}``."""
    parts = ["% Made by distilbench. Needs \\usepackage{booktabs}."]
    for grid in made:
        lines = [" & ".join(escape_latex(cell) for cell in row) + r" \\" for row in (grid.header, *grid.rows)]
        parts += [
            r"\begin{table}[t]", r"\centering", rf"\caption{{{escape_latex(grid.title)}}}",
            r"\smallskip\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\begin{{tabular}}{{@{{}}{'l' * len(grid.header)}@{{}}}}", r"\toprule",
            # {} in front: a line that starts with "[" would be read as an argument of the \\ before it
            "{} " + lines[0], r"\midrule", *("{} " + line for line in lines[1:]), r"\bottomrule", r"\end{tabular}",
        ]  # fmt: skip
        if grid.notes:
            notes = [rf"{escape_latex(note)}\par" for note in grid.notes]
            parts += [
                r"\par\smallskip",
                r"\begin{minipage}{\linewidth}\scriptsize\raggedright",
                *notes,
                r"\end{minipage}",
            ]
        parts.append(r"\end{table}")
    return "\n".join(parts) + "\n"
