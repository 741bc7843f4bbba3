"""Tables as LaTeX: ``\\usepackage{booktabs}``, nothing else beyond a plain article."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

from reports.tables.table import Marks, Table, TableCell, TableRow

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"$\sim$", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "\N{NO-BREAK SPACE}": "~",
    '"': "''",  # \textquotedbl needs an encoding that a plain article does not load
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "±": r"$\pm$", "×": r"$\times$",
    "†": r"\dag{}", "‡": r"\ddag{}", "≈": r"$\approx$",
    "≤": r"$\leq$", "≥": r"$\geq$", "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$",
    "–": "--", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\ldots{}",
}  # fmt: skip
_LETTERS = {
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}",
    "å": r"\aa{}", "Å": r"\AA{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
}  # fmt: skip
"""Commands, because they need neither an input nor a font encoding to be loaded; so do those of the accents."""
_ACCENTS_ABOVE = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c", "`'^~=u.\"rHv", strict=True)
)
_ACCENTS_BELOW = {"\u0323": "d", "\u0327": "c", "\u0331": "b"}
"""Combining characters to the command that sets them over, or under, a letter."""


def escape_latex(text: str) -> str:
    """``text`` so that LaTeX prints it: no command survives, and what pdflatex has no letter for is spelled U+XXXX."""
    return "".join(_SPECIAL.get(char) or _letter(char) for char in unicodedata.normalize("NFC", text))


def _letter(char: str) -> str:
    if char.isascii():
        return char
    if char in _LETTERS:
        return _LETTERS[char]
    base, *marks = list(unicodedata.normalize("NFD", char))
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS_ABOVE | _ACCENTS_BELOW:
        if marks[0] in _ACCENTS_BELOW:
            return rf"\{_ACCENTS_BELOW[marks[0]]}{{{base}}}"
        # an accent stands in the place of the dot
        letter = rf"\{base} " if base in "ij" else base
        return rf"\{_ACCENTS_ABOVE[marks[0]]}{{{letter}}}"
    ascii_text = "".join(letter for letter in unicodedata.normalize("NFKD", char) if letter.isascii())
    return _SPECIAL.get(ascii_text, ascii_text) if ascii_text else f"[U+{ord(char):04X}]"


def latex(table: Table) -> str:
    columns = len(table.columns) - 1
    lines = [
        "% Made by distilbench. Needs \\usepackage{booktabs}.",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\label{{tab:{re.sub('[^a-zA-Z0-9._-]+', '-', table.name)}}}",
        # five columns fill a page
        rf"\smallskip\footnotesize\setlength{{\tabcolsep}}{{{1 if columns >= 5 else 3}pt}}",
        rf"\begin{{tabular}}{{@{{}}l{'l' * columns}@{{}}}}",
        r"\toprule",
        *_head(table),
        r"\midrule",
    ]
    for index, row in enumerate(table.rows):
        if index:
            apart = table.rows[index - 1].untrained and not row.untrained
            lines.append(r"\midrule" if apart else r"\addlinespace[2pt]")
        lines += _row(row)
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines_below = [rf"{escape_latex(text)}\par" for text in table.lines_below(notes=False)]
    if table.footnotes:
        notes_in_one = [rf"{_superscript((mark,))}\,{escape_latex(text)}" for mark, text in table.footnotes]
        lines_below.append("; ".join(notes_in_one) + r"\par")
    if lines_below:  # in the float: what explains the signs must not part from them
        small = r"\scriptsize\raggedright\setlength{\parindent}{0pt}"
        lines += [r"\par\smallskip", rf"\begin{{minipage}}{{\linewidth}}{small}", *lines_below, r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _head(table: Table) -> list[str]:
    """Benchmarks with a rule under those of several columns, where there are groups; then metrics."""
    names = _line([escape_latex(column.title) + _superscript(column.marks) for column in table.columns])
    groups = [(group, len(list(members))) for group, members in groupby(table.columns, lambda column: column.group)]
    if len(groups) == 1:
        return [names]
    groups_line = [rf"\multicolumn{{{size}}}{{l}}{{{escape_latex(group)}}}" for group, size in groups]
    rules, start = [], 1
    for group, size in groups:
        rules += [rf"\cmidrule(r){{{start}-{start + size - 1}}}"] if group and size > 1 else []
        start += size
    return [_line(groups_line), *([" ".join(rules)] if rules else []), names]


def _line(cells: list[str]) -> str:
    # A line that starts with "[" would be read as an argument of the \\ before it; {} in front is harmless.
    return "{} " + " & ".join(cells) + r" \\"


def _row(row: TableRow) -> list[str]:
    """The values, and small lines under them: intervals, then whatever else the cells have."""
    # cells of a row must have equally many lines, or LaTeX would shift columns
    deepest = max((len(cell.lines) for cell in row.cells), default=0)
    padded_lines = [[*cell.lines, *([""] * (deepest - len(cell.lines)))] for cell in row.cells]
    small_lines = [[rf"{{\scriptsize {escape_latex(text)}}}" if text else "" for text in line] for line in padded_lines]
    lines_below = [_line(list(line)) for line in zip(*small_lines, strict=True)]
    return [_line([_value(cell) for cell in row.cells]), *lines_below]


def _value(cell: TableCell) -> str:
    text = escape_latex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else text
    if cell.change:
        text += rf"{{\scriptsize\,{escape_latex(cell.narrow_change)}}}"
    return text + (rf"\textsuperscript{{{escape_latex(cell.sign)}}}" if cell.sign else "") + _superscript(cell.marks)


def _superscript(marks: Marks) -> str:
    return rf"\textsuperscript{{{','.join(marks)}}}" if marks else ""
