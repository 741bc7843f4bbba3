"""Figures: bars with intervals, one panel per metric. The same inputs give the same bytes, on the same machine.

A method has one colour in every figure. The palette goes beyond Okabe and Ito's eight (jfly.uni-koeln.de/color) with
steps of lightness, so that neighbours differ for colour-blind readers and in grey print; bars also carry their names.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.stats import seed_of
from reports.layout import clean, metric_title
from reports.summary import ColumnSummary, Summary
from results.run import RowSpec, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final[Mapping[str, str]] = {
    "teacher": "#6b6b6b", "student": "#c8c8c8",
    "kd": "#f0e442", "seqkd": "#e69f00", "minillm": "#b2df8a",
    "dpo": "#56b4e9", "simpo": "#009e73", "pro": "#cc79a7",
    "pad-vpd": "#d55e00", "pad-ppd": "#0072b2",
    "dckd": "#aa4499", "adpa": "#882255", "adpa+": "#661100", "gkd": "#999933", "distillm": "#117733",
    "orpo": "#88ccee", "ipo": "#332288", "best-of-n": "#ddcc77",
}  # fmt: skip
"""Row id to colour."""
_SPARE: Final = ("#6699cc", "#44aa99", "#997700", "#ee99aa", "#5d4a8a", "#8c6d5a")
"""For rows that are not listed: picked by name, so that one name has one colour everywhere."""

STYLE: Final[Any] = {  # matplotlib types the keys as one literal of 300 names
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs on every machine
    "font.size": 9,
    "text.parse_math": False,  # a method's name is a name, dollars included
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "svg.hashsalt": "distilbench",
    "figure.dpi": 100,
}
_CLEAR: Final[Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}  # lines end at numbers
_METADATA: Final[dict[str, dict[str, None]]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def colour(row: str) -> str:
    """The colour of a row id, in every figure."""
    return COLOURS.get(row) or _SPARE[seed_of("colour", row) % len(_SPARE)]


def bar_chart(summary: Summary, run: Run, formats: Sequence[str] = ("png", "svg")) -> dict[str, bytes]:
    """Horizontal bars with 95% intervals, a panel per metric; format to file content.

    A dashed line marks the reference row through every panel. Cells without a value say ``n/a`` or ``refused``.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a name in a script DejaVu lacks
        wide, tall = 2.0 + 2.15 * len(summary.columns), 1.35 + 0.27 * len(summary.rows)
        figure = Figure(figsize=(wide, tall))
        if summary.columns and summary.rows:
            axes = figure.subplots(1, len(summary.columns), sharey=True, squeeze=False)[0]
            for axis, column in zip(axes, summary.columns, strict=True):
                _panel(axis, summary, column)
            _names(axes[0], summary.rows)
        _title(figure, summary, run, tall)
        return {name: drawn(figure, name) for name in formats}


def _panel(axis: Axes, summary: Summary, column: ColumnSummary) -> None:
    cells = [summary.cells[row.id, column.metric.id] for row in summary.rows]
    reach = max((cell.high or cell.value or 0.0 for cell in cells if cell.value is not None), default=1.0) or 1.0
    reference = summary.cells.get((summary.target.reference, column.metric.id))
    if reference is not None and reference.value is not None:
        axis.axvline(reference.value, color="#555555", linewidth=0.9, linestyle=(0, (4, 3)), zorder=2.5)
    for place, cell in enumerate(cells):
        if cell.value is None:
            words = "refused" if cell.refused else "n/a"
            axis.text(reach * 0.02, place, words, va="center", color="#777777", style="italic", fontsize=8)
            continue
        axis.barh(place, cell.value, height=0.72, color=colour(cell.row), edgecolor="#333333", linewidth=0.5, zorder=2)
        if cell.low is not None and cell.high is not None:
            ends = ([cell.low, cell.high], [place, place])
            axis.plot(*ends, color="white", linewidth=2.6, zorder=3)  # keeps the line readable on dark bars
            axis.plot(*ends, "|-", color="black", linewidth=1.1, markersize=5, zorder=4)
        label = f"{cell.value:.{column.metric.digits}f}{'*' if cell.significant else ''}"
        weight = "bold" if cell.row in column.best else "normal"
        axis.text(
            max(cell.value, cell.high or 0.0) + reach * 0.03,
            place,
            label,
            va="center",
            fontsize=8,
            weight=weight,
            bbox=_CLEAR,
            zorder=5,
        )
    axis.set_xlim(min(0.0, *(cell.low or 0.0 for cell in cells)), reach * 1.3)
    axis.set_title(f"{clean(column.metric.group)}\n{metric_title(column.metric)}", fontsize=9)
    axis.xaxis.set_major_locator(_ticks())
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.tick_params(axis="y", length=0)


def _ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4)


def _names(axis: Axes, rows: Sequence[RowSpec]) -> None:
    axis.set_yticks(range(len(rows)), [_short(clean(row.title)) for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top, as in the table


def _short(title: str, most: int = 28) -> str:
    return title if len(title) <= most else title[: most - 1] + "…"


def _title(figure: Figure, summary: Summary, run: Run, tall: float) -> None:
    models = f"{_short(clean(run.family.teacher), 60)} teaches {_short(clean(run.family.student), 60)}"
    unfinished = "" if run.finished else " (UNFINISHED)"
    figure.suptitle(
        f"{summary.target.label}: {summary.target.title}{unfinished}, {models}",
        x=0.01,
        ha="left",
        fontsize=10,
        weight="bold",
    )
    reference = next(
        (row.title for row in summary.rows if row.id == summary.target.reference), summary.target.reference
    )
    note = f"Lines: 95% intervals. Dashed: {_short(clean(reference))}. *: differs from it (Holm-adjusted p < 0.05)."
    figure.text(0.01, 0.06 / tall, note, fontsize=8, color="#444444", ha="left", va="bottom")
    longest = max((len(_short(clean(row.title))) for row in summary.rows), default=0)
    left = 0.25 + 0.075 * longest  # inches; close to the width of 9-point text
    figure.subplots_adjust(
        left=left / figure.get_figwidth(), right=0.995, top=1 - 0.72 / tall, bottom=0.48 / tall, wspace=0.08
    )


def drawn(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a file, the same ones each time. Call it under ``rc_context(STYLE)``."""
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=200, metadata=_METADATA.get(kind, {}))
    return out.getvalue()
