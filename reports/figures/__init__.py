"""The figures that go with a table. The same inputs give the same bytes, on the same machine.

Nothing is drawn here yet: a ``Drawing`` is what can be drawn from the data, so that a report that finds its figures
unchanged never loads matplotlib.
"""

from __future__ import annotations

from functools import partial

from reports.figures.bars import bars
from reports.figures.scatter import cost_points, costs, length_columns, lengths
from reports.figures.sweep import sweeps
from reports.figures.training_curves import curves, losses
from reports.tables.summary import Summary
from reports.tables.table import Drawing
from results.run.results import Results


def bar_drawings(summary: Summary, results: Results) -> tuple[Drawing, ...]:
    """Bars for every metric, and what else the data are there for."""
    main = Drawing("", "values with 95% intervals", partial(bars, summary, results.run))
    return (main, *_further(summary, results))


def sweep_drawings(summary: Summary, results: Results) -> tuple[Drawing, ...]:
    """Curves over the target's axis, and what else the data are there for."""
    main = Drawing("", f"score over {summary.target.axis}", partial(sweeps, summary, results.run))
    return (main, *_further(summary, results))


def _further(summary: Summary, results: Results) -> list[Drawing]:
    drawings = []
    if length_columns(summary):
        drawings.append(Drawing("-length", "score against mean answer length", partial(lengths, summary, results.run)))
    if cost_points(summary, results):
        drawings.append(Drawing("-cost", "score against training cost", partial(costs, summary, results)))
    if losses(summary, results):
        drawings.append(Drawing("-training", "training curves", partial(curves, summary, results)))
    return drawings
