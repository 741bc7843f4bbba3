"""A laid-out table as LaTeX: booktabs, nothing else beyond a plain article.

\\usepackage{booktabs}
\\input{table1.tex}
"""

from __future__ import annotations

import unicodedata
from itertools import groupby

from reports.tables.view import CellView, Marks, TableView

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
    return "".join(_SPECIAL.get(char) or _letter(char) for char in unicodedata.normalize("NFC", text))


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


def latex(view: TableView) -> str:
    """A ``table`` float and its notes. Needs ``\\usepackage{booktabs}``."""
    lines = [
        "% Made by distilbench. Needs \\usepackage{booktabs}.",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape_latex(view.caption)}}}",
        rf"\label{{tab:{view.name}}}",
        rf"\smallskip\footnotesize\setlength{{\tabcolsep}}{{{1 if len(view.columns) >= _MANY else 3}pt}}",
        rf"\begin{{tabular}}{{@{{}}l{'l' * len(view.columns)}@{{}}}}",
        r"\toprule",
        *_head(view),
        r"\midrule",
    ]
    for index, row in enumerate(view.rows):
        if index and view.rows[index - 1].baseline and not row.baseline:
            lines.append(r"\midrule")
        elif index:
            lines.append(r"\addlinespace[2pt]")
        lines.append(_line([escape_latex(row.title) + _raised(row.marks), *map(_value, row.cells)]))
        lines += _below(row.cells)
    if any(column.detectable for column in view.columns):
        lines += [r"\midrule", _line(["Detectable", *(column.detectable or "--" for column in view.columns)])]
    if any(column.variance for column in view.columns):
        shares = (escape_latex(column.variance or "--") for column in view.columns)
        lines += [_line(["Variance", *shares])]
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        r"% The notes stand outside of the float: with it they can be longer than a page.",
        r"{\scriptsize\raggedright\setlength{\parindent}{0pt}\par",
    ]
    lines += [rf"{escape_latex(text)}\par" for text in view.legend]
    lines += [rf"{_raised((letter,))}\,{escape_latex(text)}\par" for letter, text in view.footnotes]
    return "\n".join([*lines, "}"]) + "\n"


def _head(view: TableView) -> list[str]:
    """Two lines: benchmarks with a rule under those of several columns, then metrics."""
    groups = [(group, len(list(members))) for group, members in groupby(view.columns, lambda column: column.group)]
    over = [rf"\multicolumn{{{size}}}{{l}}{{{escape_latex(group)}}}" for group, size in groups]
    rules, start = [], 2
    for _, size in groups:
        rules += [rf"\cmidrule(r){{{start}-{start + size - 1}}}"] if size > 1 else []
        start += size
    names = [escape_latex(column.title) + _raised(column.marks) for column in view.columns]
    first = _line([escape_latex(view.family), *over])
    return [first, *([" ".join(rules)] if rules else []), _line([escape_latex(view.head), *names])]


def _line(cells: list[str]) -> str:
    # A line that starts with "[" would be read as an argument of the \\ before it; {} in front is harmless.
    return "{} " + " & ".join(cells) + r" \\"


def _value(cell: CellView) -> str:
    value = escape_latex(cell.value)
    text = rf"\textbf{{{value}}}" if cell.best else value
    if cell.change:
        change = escape_latex(cell.change.strip("()")).replace(" ", "")  # brackets would not fit on a page
        text += rf"{{\scriptsize\,{change}}}"
    signs = rf"\textsuperscript{{{escape_latex(cell.signs)}}}" if cell.signs else ""
    return text + signs + _raised(cell.marks)


def _below(cells: tuple[CellView, ...]) -> list[str]:
    """The small lines under a row's values: intervals, then whatever else its cells have."""
    stacks = [[part for part in (cell.interval, *cell.extra) if part] for cell in cells]
    deepest = max((len(stack) for stack in stacks), default=0)
    padded = [stack + [""] * (deepest - len(stack)) for stack in stacks]
    return [_line(["", *(_small(part) for part in line)]) for line in zip(*padded, strict=True)]


def _small(text: str) -> str:
    return rf"{{\scriptsize {escape_latex(text)}}}" if text else ""


def _raised(marks: Marks) -> str:
    return rf"\textsuperscript{{{','.join(marks)}}}" if marks else ""
