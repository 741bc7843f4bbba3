"""A simulated schedule as a picture: a lane per GPU and per worker, a bar per stage, the critical path outlined."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from harness.plan.simulation import Span, Timeline
from harness.stages import STAGES
from reports.figures.style import TEXT_BOX, canvas, set_margins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's and Paul Tol's, as in style.py; neighbours in the order of the kinds differ in lightness too.
COLOURS: Final = (
    "#999999", "#332288", "#56b4e9", "#ddcc77", "#44aa99", "#e69f00",
    "#88ccee", "#117733", "#0072b2", "#009e73", "#cc79a7", "#882255",
)  # fmt: skip
HEIGHT_OF_TEXT: Final = 0.1  # of a lane, inches
LABEL_INCHES: Final = 0.066  # width of a character of a label
WIDTH: Final = 11.0
THIN: Final = 0.05
"""Inches: an outline would cover the bar."""
SEED: Final = re.compile(r" seed \d+")


def gantt(timeline: Timeline, title: str, note: str) -> Figure:
    """``note``: up to two lines under the title."""
    lanes: dict[tuple[bool, int], list[Span]] = defaultdict(list)
    for span in timeline.spans:
        for number in span.lanes:
            lanes[span.job.gpus > 0, number].append(span)
    order = sorted(lanes, key=lambda lane: (not lane[0], lane[1]))
    height = 0.26 if len(order) <= 24 else max(0.1, 7.0 / len(order))
    figure, (axis,) = canvas(WIDTH, 1.65 + height * max(3, len(order)))
    seconds = timeline.seconds or 1.0
    divisor, unit = (3600, "hours") if seconds > 7200 else (60, "minutes") if seconds > 120 else (1, "seconds")
    kinds = [kind for kind in STAGES if any(span.job.kind == kind for span in timeline.spans)]
    colours = {kind: COLOURS[place % len(COLOURS)] for place, kind in enumerate(STAGES)}
    path = {span.job.key for span in timeline.critical_path}
    for place, lane in enumerate(order):
        for kind in kinds:
            bars = [(span.start / divisor, span.seconds / divisor) for span in lanes[lane] if span.job.kind == kind]
            axis.broken_barh(bars, (place - 0.45, 0.9), facecolors=colours[kind], edgecolor="white", linewidth=0.2)
        for span in lanes[lane]:
            # of neighbouring GPUs with the same stage, the first has its name
            is_named = height >= HEIGHT_OF_TEXT and lane[1] - 1 not in span.lanes
            _mark(axis, span, place, divisor, height if is_named else 0.0, seconds, span.job.key in path)
    _axes(axis, order, seconds / divisor, unit)
    _legend(figure, kinds, colours)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, weight="bold")
    figure.text(0.01, 1 - 0.36 / figure.get_figheight(), note, fontsize=8, color="#444444", va="top")
    set_margins(figure, 0.95, 0.15, 0.8, 0.75)
    return figure


def _mark(axis: Axes, span: Span, place: int, divisor: int, height: float, seconds: float, on_path: bool) -> None:
    inches = span.seconds / seconds * (WIDTH - 1.1)
    if on_path:
        axis.broken_barh(
            [(span.start / divisor, span.seconds / divisor)], (place - 0.45, 0.9),
            facecolors="none", edgecolor="black", linewidth=1.1 if inches > THIN else 0.4, zorder=4,
        )  # fmt: skip
    without_kind = span.job.label.partition(" ")[2]  # the colour says it
    names = (span.job.label, without_kind, SEED.sub("", without_kind))
    label = next((name for name in names if name and len(name) < inches / LABEL_INCHES), None)
    if label and height:
        axis.text(
            (span.start + span.seconds / 2) / divisor, place, label, ha="center", va="center", clip_on=True,
            fontsize=6.5 if height > 0.2 else 5.5, color="black", bbox=TEXT_BOX, zorder=3,
        )  # fmt: skip


def _axes(axis: Axes, order: list[tuple[bool, int]], end: float, unit: str) -> None:
    step = max(1, len(order) // 32)
    places = [place for place, lane in enumerate(order) if lane[1] % step == 0]
    names = [f"{'GPU' if order[place][0] else 'worker'} {order[place][1]}" for place in places]
    axis.set_yticks(places, names, fontsize=7)
    axis.set_ylim(len(order) - 0.4, -0.6)
    axis.set_xlim(0, end)
    axis.set_xlabel(unit, fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    workers = sum(not on_gpu for on_gpu, _ in order)
    if 0 < workers < len(order):
        axis.axhline(len(order) - workers - 0.5, color="#222222", linewidth=0.8)


def _legend(figure: Figure, kinds: list[str], colours: dict[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colours[kind], label=kind) for kind in kinds]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), frameon=False, fontsize=8, handlelength=1.0)
