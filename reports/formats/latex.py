"""Tables as LaTeX: booktabs, nothing else beyond a plain article.

\\usepackage{booktabs}
\\input{table1.tex}
"""

from __future__ import annotations

import unicodedata
from itertools import groupby

from reports.tables.table import Marks, Table, TableCell, TableRow

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"$\sim$", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "\N{NO-BREAK SPACE}": "~",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "±": r"$\pm$", "×": r"$\times$",
    "†": r"\dag{}", "‡": r"\ddag{}", "≈": r"$\approx$",
    "≤": r"$\leq$", "≥": r"$\geq$", "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$",
    "–": "--", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\ldots{}",
}  # fmt: skip
_MANY = 5  # columns that fill a page
_SPECIAL['"'] = "''"  # \textquotedbl needs an encoding that a plain article does not load
_TABLE = str.maketrans(_SPECIAL)
_LETTERS = {
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "å": r"\aa{}", "Å": r"\AA{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
}  # fmt: skip
"""Commands, because they need neither an input nor a font encoding to be loaded; so do those of the accents."""
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0331": "b",
}  # fmt: skip
"""Combining characters to the command that sets them over (or under) a letter."""
_DOTLESS = {"i": r"\i ", "j": r"\j "}


def escape_latex(text: str) -> str:
    """``text`` so that LaTeX prints it: no command survives, and what pdflatex has no letter for is spelled U+XXXX."""
    text = unicodedata.normalize("NFC", text).translate(_TABLE)
    return text if text.isascii() else "".join(map(_letter, text))


def _letter(char: str) -> str:
    if char.isascii():
        return char
    if char in _LETTERS:
        return _LETTERS[char]
    base, *marks = list(unicodedata.normalize("NFD", char))
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        over = marks[0] not in "\u0323\u0327\u0331"
        return rf"\{_ACCENTS[marks[0]]}{{{_DOTLESS.get(base, base) if over else base}}}"
    parts = unicodedata.normalize("NFKD", char)
    accent = "".join(part for part in parts if part.isascii())
    return _SPECIAL.get(accent, accent) if accent else f"[U+{ord(char):04X}]"


def latex(*tables: Table, notes: bool = False) -> str:
    """A ``table`` float for each, with its notes after it. Needs ``\\usepackage{booktabs}``."""
    made = [line for table in tables for line in _float(table, notes)]
    return "\n".join(["% Made by distilbench. Needs \\usepackage{booktabs}.", *made]) + "\n"


def _float(table: Table, notes: bool) -> list[str]:
    columns = len(table.columns) - 1
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\smallskip\footnotesize\setlength{{\tabcolsep}}{{{1 if columns >= _MANY else 3}pt}}",
        rf"\begin{{tabular}}{{@{{}}l{'l' * columns}@{{}}}}",
        r"\toprule",
        *_head(table),
        r"\midrule",
    ]
    rows = table.rows
    for index, row in enumerate(rows):
        if index and ((rows[index - 1].untrained and not row.untrained) or index == len(table.rows)):
            lines.append(r"\midrule")
        elif index:
            lines.append(r"\addlinespace[2pt]")
        lines += _row(row, notes)
    # The notes stand outside of the float: with them it could be longer than a page, which LaTeX never places.
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    below = [rf"{escape_latex(text)}\par" for text in table.below(notes)]
    if table.footnotes:
        notes_in_one = [rf"{_raised((mark,))}\,{escape_latex(text)}" for mark, text in table.footnotes]
        below.append("; ".join(notes_in_one) + r"\par")
    return [*lines, r"{\scriptsize\raggedright\setlength{\parindent}{0pt}\par", *below, "}"] if below else lines


def _head(table: Table) -> list[str]:
    """Benchmarks with a rule under those of several columns, where there are groups; then metrics."""
    names = _line([escape_latex(column.title) + _raised(column.marks) for column in table.columns])
    groups = [(group, len(list(members))) for group, members in groupby(table.columns, lambda column: column.group)]
    if len(groups) == 1:
        return [names]
    over = [rf"\multicolumn{{{size}}}{{l}}{{{escape_latex(group)}}}" for group, size in groups]
    rules, start = [], 1
    for group, size in groups:
        rules += [rf"\cmidrule(r){{{start}-{start + size - 1}}}"] if group and size > 1 else []
        start += size
    return [_line(over), *([" ".join(rules)] if rules else []), names]


def _line(cells: list[str]) -> str:
    # A line that starts with "[" would be read as an argument of the \\ before it; {} in front is harmless.
    return "{} " + " & ".join(cells) + r" \\"


def _row(row: TableRow, notes: bool) -> list[str]:
    """The values, and small lines under them: intervals, then whatever else the cells have."""
    # cells of a row must have equally many lines, or LaTeX would shift columns
    deepest = max((len(cell.below) for cell in row.cells), default=0)
    padded = [[*cell.below, *([""] * (deepest - len(cell.below)))] for cell in row.cells]
    below = [_line([_small(part) for part in line]) for line in zip(*padded, strict=True)]
    return [_line([_value(cell, notes) for cell in row.cells]), *below]


def _value(cell: TableCell, notes: bool) -> str:
    text = escape_latex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else text
    if cell.change:
        change = escape_latex(cell.narrow_change)
        text += rf"{{\scriptsize\,{change}}}"
    signs = cell.signs(notes)
    return text + (rf"\textsuperscript{{{escape_latex(signs)}}}" if signs else "") + _raised(cell.marks)


def _small(text: str) -> str:
    return rf"{{\scriptsize {escape_latex(text)}}}" if text else ""


def _raised(marks: Marks) -> str:
    return rf"\textsuperscript{{{','.join(marks)}}}" if marks else ""
