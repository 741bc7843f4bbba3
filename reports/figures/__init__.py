"""Every figure that goes with a table. The same inputs give the same bytes, on the same machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports.figures.bars import bar_chart, bars
from reports.figures.palette import COLOURS, colour
from reports.figures.radar import radars
from reports.figures.scatter import costs, lengths
from reports.figures.style import FORMATS, STYLE, drawn, styled
from reports.figures.sweep import sweeps
from reports.figures.training_curves import curves
from reports.tables.summary import Summary
from results.run.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "FORMATS", "STYLE", "all_figures", "bar_chart", "bars", "colour", "drawn", "styled"]


def all_figures(summary: Summary, results: Results, formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """File name after the target's (``.png``, ``-length.pdf``) to content; those without data are left out."""
    run = results.run
    with styled():
        sweep = summary.target.layout == "curves"
        made: dict[str, Figure | None] = {"": sweeps(summary, run) if sweep else bars(summary, run)}
        made |= {"-length": lengths(summary, run), "-cost": costs(summary, results)}
        shown = [(column, radars(summary, run, column)) for column in summary.columns]
        benchmarks = {column.metric.id.split(".")[0]: figure for column, figure in shown if figure is not None}
        made |= {f"-categories-{name}": figure for name, figure in benchmarks.items()}
        made["-training"] = curves(summary, results)
        return {
            f"{name}.{kind}": drawn(figure, kind)
            for name, figure in made.items()
            if figure is not None
            for kind in formats
        }
