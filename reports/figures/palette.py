"""One look per row, in every figure: colour, marker and line style; the same for a name wherever it appears.

The colours go beyond Okabe and Ito's eight (jfly.uni-koeln.de/color) with Paul Tol's muted set and steps of lightness,
so that neighbours differ for colour-blind readers. In grey print markers and line styles, or the row's name beside
the mark, tell rows apart: no figure rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from harness.stats import seed_of

Marker = str | tuple[int, int, int] | tuple[tuple[float, float], ...]
"""One of matplotlib's, a star (points, 1, turned by), or the corners of an outline, the first one again at its end."""
Dashes = tuple[int, tuple[float, ...]]
"""Offset and lengths on, off, ... in points, as matplotlib takes them; empty: a solid line."""


class Look(NamedTuple):
    """How a row is drawn."""

    colour: str
    """``#0072b2``."""
    marker: Marker
    line: Dashes


_SOLID: Final[Dashes] = (0, ())
_DASHED: Final[Dashes] = (0, (5, 2))
_DOTTED: Final[Dashes] = (0, (1, 1.2))
_MIXED: Final[Dashes] = (0, (5, 1.5, 1, 1.5))
_LONG: Final[Dashes] = (0, (9, 2))
_DASH_DOTS: Final[Dashes] = (0, (6, 1.5, 1, 1.5, 1, 1.5))
_PAIRS: Final[Dashes] = (0, (3, 1, 3, 3))
_SHORT: Final[Dashes] = (0, (2.5, 1))
_STAR: Final[Marker] = (4, 1, 0)
_HOURGLASS: Final[Marker] = ((-1, -1), (1, -1), (-1, 1), (1, 1), (-1, -1))
_TEE: Final[Marker] = (
    (-1, 1), (1, 1), (1, 0.35), (0.35, 0.35), (0.35, -1), (-0.35, -1), (-0.35, 0.35), (-1, 0.35), (-1, 1),
)  # fmt: skip
LOOKS: Final[Mapping[str, Look]] = {
    "teacher": Look("#6b6b6b", "*", _DOTTED), "student": Look("#b4b4b4", "o", _DASHED),
    "kd": Look("#f0e442", "s", _SOLID), "seqkd": Look("#e69f00", "D", _DASHED), "minillm": Look("#b2df8a", "v", _MIXED),
    "dpo": Look("#56b4e9", "^", _SOLID), "simpo": Look("#009e73", "<", _DASHED), "pro": Look("#cc79a7", ">", _DOTTED),
    "pad-vpd": Look("#d55e00", "P", _MIXED), "pad-ppd": Look("#0072b2", "X", _SOLID),
    "dckd": Look("#aa4499", "p", _LONG), "adpa": Look("#882255", _STAR, _PAIRS),
    "adpa+": Look("#661100", _TEE, _DASH_DOTS), "gkd": Look("#999933", "d", _DOTTED),
    "distillm": Look("#117733", _HOURGLASS, _SHORT),
    "orpo": Look("#88ccee", "1", _DASHED), "ipo": Look("#332288", "2", _DOTTED),
    "best-of-n": Look("#ddcc77", "3", _MIXED),
}  # fmt: skip
"""By row id."""
_SPARE: Final = (
    "#6699cc", "#44aa99", "#997700", "#ee99aa", "#5d4a8a", "#8c6d5a",
    "#994455", "#004488", "#77aadd", "#aaaa00", "#225522", "#b07aa1",
)  # fmt: skip
_SPARE_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
_SPARE_LINES: Final = (_SOLID, _DASHED, _DOTTED, _MIXED)


def look(row: str) -> Look:
    """The look of a row id. One that is not listed, a third party's, has one that follows from its name alone."""
    if row in LOOKS:
        return LOOKS[row]
    colour, marker, line = (seed_of(part, row) for part in ("colour", "marker", "line"))
    return Look(
        _SPARE[colour % len(_SPARE)], _SPARE_MARKERS[marker % len(_SPARE_MARKERS)],
        _SPARE_LINES[line % len(_SPARE_LINES)],
    )  # fmt: skip
