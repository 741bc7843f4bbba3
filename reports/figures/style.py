"""What all figures share: fonts, sizes, a title and a note, and files whose bytes follow from the drawing alone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from reports.figures.palette import look
from reports.tables.summary import Summary
from reports.text import clean
from results.run.record import RowSpec, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

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
METADATA: Final[Mapping[str, dict[str, None]]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
GREY: Final = "#444444"
CLEAR: Final[Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
"""A box behind a text that stands on lines."""


@contextmanager
def styled() -> Iterator[None]:
    """Draw, and save, inside of this."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a name in a script DejaVu lacks
        yield


def drawn(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a file of this format, the same ones each time."""
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=160, metadata=METADATA.get(kind, {}))
    return out.getvalue()


def short(title: str, most: int = 28) -> str:
    title = clean(title)
    return title if len(title) <= most else title[: most - 1] + "…"


def headed(figure: Figure, summary: Summary, run: Run, what: str, note: str) -> None:
    """Title on top, how to read it at the bottom."""
    models = f"{short(run.family.teacher, 60)} teaches {short(run.family.student, 60)}"
    unfinished = "" if run.finished else " (UNFINISHED)"
    title = f"{summary.target.label}: {what}{unfinished}, {models}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, weight="bold")
    figure.text(0.01, 0.06 / figure.get_figheight(), note, fontsize=8, color=GREY, ha="left", va="bottom")


def margins(figure: Figure, left: float, right: float, top: float, bottom: float, **gaps: float) -> None:
    wide, tall = figure.get_figwidth(), figure.get_figheight()
    figure.subplots_adjust(left=left / wide, right=1 - right / wide, top=1 - top / tall, bottom=bottom / tall, **gaps)


def key(figure: Figure, rows: Sequence[RowSpec], lines: bool) -> None:
    from matplotlib.lines import Line2D

    handles: list[Line2D] = []
    for row in rows:
        seen = look(row.id)
        handle = Line2D([], [], color=seen.colour, linewidth=2, linestyle=seen.line) if lines else point(row.id)
        handle.set_label(short(row.title, 22))
        handles.append(handle)
    figure.legend(handles=handles, loc="center right", frameon=False, fontsize=8, borderaxespad=0.4, handlelength=2.8)


def point(row: str) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", **mark(row))


def mark(row: str) -> dict[str, Any]:
    """How a row's point is drawn: filled, with a dark edge that shows on white and in grey."""
    seen = look(row)
    thin = seen.marker in ("1", "2", "3")  # strokes without a face
    return {
        "marker": seen.marker, "markersize": 9 if seen.marker == "*" else 7, "markerfacecolor": seen.colour,
        "markeredgecolor": seen.colour if thin else "#222222", "markeredgewidth": 1.8 if thin else 0.7,
    }  # fmt: skip


def scatter(axis: Axes, row: str, x: float, y: float, ends: tuple[float | None, float | None]) -> None:
    """A point with its 95% interval."""
    low, high = ends
    if low is not None and high is not None:
        axis.plot([x, x], [low, high], color="#888888", linewidth=1.0, zorder=2)
    axis.plot([x], [y], linestyle="none", zorder=3, **mark(row))
