"""The figures that go with a table, not drawn yet: a report that finds its figures unchanged never loads matplotlib."""

from __future__ import annotations

from functools import partial

from reports.figures.bars import bars
from reports.figures.scatter import cost_points, costs, length_columns, lengths
from reports.figures.sweep import sweeps
from reports.figures.training_curves import logged_rows, training_curves
from reports.tables.summary import Summary
from reports.tables.table import Drawing
from results.run.results import Results


def drawings(summary: Summary, results: Results) -> tuple[Drawing, ...]:
    run = results.run
    main = Drawing("", "values with 95% intervals", partial(bars, summary, run))
    if summary.target.points:
        main = Drawing("", f"score over {summary.target.axis}", partial(sweeps, summary, run))
    further = []
    if length_columns(summary):
        further.append(Drawing("-length", "score against mean answer length", partial(lengths, summary, run)))
    if cost_points(summary, results):
        further.append(Drawing("-cost", "score against training cost", partial(costs, summary, results)))
    if logged_rows(summary, results):
        further.append(Drawing("-training", "training curves", partial(training_curves, summary, results)))
    return (main, *further)
