"""What all figures share: fonts, sizes, title and note, and one look per row. The same drawing gives the same bytes.
Colours: Okabe and Ito's eight (jfly.uni-koeln.de/color), Paul Tol's muted set and steps of lightness. Markers, line
styles or the row's name tell rows apart in grey print."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness.stats import seed_of
from harness.text import clean
from reports.tables.summary import Summary
from results.run.record import RowSpec, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Final[Any] = {  # matplotlib types the keys as one literal of 300 names
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs on every machine
    "font.size": 9,
    "text.parse_math": False,  # a method's name is a name, dollars included
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.hashsalt": "distilbench",
    "pdf.fonttype": 42,
    "figure.dpi": 100,
}
# dates and versions would make every file differ
METADATA: Final[Mapping[str, dict[str, None]]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
TEXT_BOX: Final[Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
"""A box behind a text that stands on lines."""
DASHED: Final = (0, (4, 3))

DARK: Final[Mapping[str, str]] = {
    "#ffffff": "#14181f", "#000000": "#e4e8ee", "#222222": "#d4dae2", "#333333": "#d4dae2", "#444444": "#b8c1cd",
    "#6b6b6b": "#a3a3a3", "#777777": "#9ba6b5", "#888888": "#9ba6b5", "#dddddd": "#333c49",
    "#0072b2": "#3fa0e0", "#004488": "#5a9be0", "#332288": "#8f84e0", "#5d4a8a": "#a08fd0", "#aa4499": "#cc6fbd",
    "#882255": "#d06a9c", "#994455": "#d0788a", "#661100": "#c9765e", "#117733": "#4bb573", "#225522": "#6fae6f",
}  # fmt: skip
"""Colours that a dark page would swallow, or be outshone by, to what stands for them there; white is the page's own."""


@contextmanager
def figure_style() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a name in a script DejaVu lacks
        yield


def figure_bytes(figure: Figure, kind: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=160, metadata=METADATA.get(kind, {}))
    return out.getvalue()


def following_svg(figure: Figure) -> bytes:
    """An SVG that is dark where its reader's window is: a style sheet inside, which holds in an image too."""
    rules = ["svg { fill: %s; }" % DARK["#000000"]]  # noqa: UP031  text, which matplotlib leaves black by default
    for colour, dark in DARK.items():
        rules += [f'[style*="{part}: {colour}"] {{ {part}: {dark} !important; }}' for part in ("fill", "stroke")]
    sheet = f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}</style>"
    return figure_bytes(figure, "svg").replace(b"</defs>", f"</defs>{sheet}".encode(), 1)


def canvas(
    width: float, height: float, columns: int = 1, rows: int = 1, sharey: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """An empty figure of this size in inches, and its panels row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, [*figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()] if columns else []


def shorten(title: str, limit: int = 28) -> str:
    title = clean(title)
    return title if len(title) <= limit else title[: limit - 1] + "…"


def explain_marks(texts: Mapping[str, bool]) -> str:
    """Of what marks mean, those that a figure has."""
    return " ".join(text for text, is_there in texts.items() if is_there)


def add_headings(figure: Figure, summary: Summary, run: Run, title: str, note: str) -> None:
    # models as they are have no teacher: they are the rows
    models = (
        f"{shorten(run.family.teacher, 60)} teaches {shorten(run.family.student, 60)}" if run.family.teacher else ""
    )
    suffix = "" if run.finished else " (UNFINISHED)"
    # a narrow figure has no room for the models beside its title
    apart = ", " if figure.get_figwidth() > 7 else "\n"
    text = f"{summary.target.label}: {title}{suffix}{apart if models else ''}{models}"
    figure.suptitle(text, x=0.01, ha="left", fontsize=10, weight="bold")
    figure.text(0.01, 0.06 / figure.get_figheight(), note, fontsize=8, color="#444444", ha="left", va="bottom")


def set_margins(figure: Figure, left: float, right: float, top: float, bottom: float, **gaps: float) -> None:
    width, height = figure.get_figwidth(), figure.get_figheight()
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, top=1 - top / height, bottom=bottom / height, **gaps
    )


def label_axes(axis: Axes, title: str, x_label: str = "") -> None:
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_xlabel(x_label)
    axis.grid(color="#dddddd", linewidth=0.6)


def add_legend(figure: Figure, rows: Sequence[RowSpec], pen: Callable[[str], dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=shorten(row.title, 22), **pen(row.id)) for row in rows]
    figure.legend(handles=handles, loc="center right", frameon=False, fontsize=8, borderaxespad=0.4, handlelength=2.8)


def point_style(row: str) -> dict[str, Any]:
    """A row's point without a line: filled, with a dark edge that shows on white and in grey."""
    row_look = look(row)
    thin = row_look.marker in ("1", "2", "3")  # strokes without a face
    return {
        "marker": row_look.marker, "markersize": 9 if row_look.marker == "*" else 7, "markerfacecolor": row_look.colour,
        "markeredgecolor": row_look.colour if thin else "#222222", "markeredgewidth": 1.8 if thin else 0.7,
        "linestyle": "none",
    }  # fmt: skip


def scatter(axis: Axes, row: str, x: float, y: float, interval: tuple[float | None, float | None]) -> None:
    low, high = interval
    if low is not None and high is not None:
        axis.plot([x, x], [low, high], color="#888888", linewidth=1.0, zorder=2)
    axis.plot([x], [y], zorder=3, **point_style(row))


MarkerShape = str | tuple[int, int, int] | tuple[tuple[float, float], ...]
"""One of matplotlib's, a star (points, 1, turned by), or a closed outline."""
Dashes = tuple[int, tuple[float, ...]]
"""Offset and lengths on, off, ... in points, as matplotlib takes them; empty: a solid line."""


class Look(NamedTuple):
    colour: str
    marker: MarkerShape
    line: Dashes


_SOLID: Final[Dashes] = (0, ())
_DASHED: Final[Dashes] = (0, (5, 2))
_DOTTED: Final[Dashes] = (0, (1, 1.2))
_MIXED: Final[Dashes] = (0, (5, 1.5, 1, 1.5))
_LONG_DASHES: Final[Dashes] = (0, (9, 2))
_DASH_DOTS: Final[Dashes] = (0, (6, 1.5, 1, 1.5, 1, 1.5))
_PAIRS: Final[Dashes] = (0, (3, 1, 3, 3))
_SHORT_DASHES: Final[Dashes] = (0, (2.5, 1))
_STAR: Final[MarkerShape] = (4, 1, 0)
_HOURGLASS: Final[MarkerShape] = ((-1, -1), (1, -1), (-1, 1), (1, 1), (-1, -1))
_TEE: Final[MarkerShape] = (
    (-1, 1), (1, 1), (1, 0.35), (0.35, 0.35), (0.35, -1), (-0.35, -1), (-0.35, 0.35), (-1, 0.35), (-1, 1),
)  # fmt: skip
LOOKS: Final[Mapping[str, Look]] = {
    "teacher": Look("#6b6b6b", "*", _DOTTED), "student": Look("#b4b4b4", "o", _DASHED),
    "kd": Look("#f0e442", "s", _SOLID), "seqkd": Look("#e69f00", "D", _DASHED), "minillm": Look("#b2df8a", "v", _MIXED),
    "dpo": Look("#56b4e9", "^", _SOLID), "simpo": Look("#009e73", "<", _DASHED), "pro": Look("#cc79a7", ">", _DOTTED),
    "pad-vpd": Look("#d55e00", "P", _MIXED), "pad-ppd": Look("#0072b2", "X", _SOLID),
    "dckd": Look("#aa4499", "p", _LONG_DASHES), "adpa": Look("#882255", _STAR, _PAIRS),
    "adpa+": Look("#661100", _TEE, _DASH_DOTS), "gkd": Look("#999933", "d", _DOTTED),
    "distillm": Look("#117733", _HOURGLASS, _SHORT_DASHES),
    "orpo": Look("#88ccee", "1", _DASHED), "ipo": Look("#332288", "2", _DOTTED),
    "best-of-n": Look("#ddcc77", "3", _MIXED),
}  # fmt: skip
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
    colour, marker, line = (seed_of(aspect, row) for aspect in ("colour", "marker", "line"))
    return Look(
        _SPARE[colour % len(_SPARE)], _SPARE_MARKERS[marker % len(_SPARE_MARKERS)],
        _SPARE_LINES[line % len(_SPARE_LINES)],
    )  # fmt: skip
