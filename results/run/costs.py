"""What a row cost to train, measured, as two columns of a table: ``cost.time`` and ``cost.memory``.

What counts is said in ``results.run.lineage.StudentTraining``. Answering and judging do not.
"""

from __future__ import annotations

from dataclasses import replace

from harness.contracts.benchmark import Metric
from harness.types import Score
from results.run.record import Cell
from results.run.results import Results

KINDS = ("sample", "reward", "reference_logps", "teacher_distributions", "train")
"""The order in which a note names kinds of stages; others follow."""
HOURS = 2 * 3600.0
"""From so many seconds on, times are printed in hours."""
GIB = float(1 << 30)
GONE = "not trained, or a stage of it is no longer in the store"


def with_costs(results: Results) -> Results:
    """``results`` with the columns ``cost.time`` (s or h) and ``cost.memory`` (GiB), one score per row and seed."""
    run = results.run
    known = {place: cost for place, cost in results.trained.items() if cost.complete}
    # one unit for the whole column: seconds beside hours could not be compared at a glance
    hours = max((cost.hours * 3600 for cost in known.values()), default=0.0) >= HOURS
    time = Metric("cost.time", "Time", "Training", "h" if hours else "s", digits=2 if hours else 1, measured=True)
    memory = Metric("cost.memory", "Memory", "Training", "GiB", digits=2, measured=True)
    scores, missing, cells = dict(results.scores), dict(results.missing), list(run.cells)
    for row, seed in dict.fromkeys((cell.row, cell.seed) for cell in run.cells):
        cost = known.get((row, seed))
        for metric in (time, memory):
            if cost is None:
                missing[row, metric.id, seed] = GONE
                cells.append(Cell(row, metric.id, seed, unavailable=GONE))
                continue
            value = cost.peak_memory / GIB if metric is memory else cost.hours * (1 if hours else 3600)
            scores[row, metric.id, seed] = Score(metric.id, value, None, None, 0, 0, detail=dict(cost.seconds))
            cells.append(Cell(row, metric.id, seed, score="measured", entrant=f"{row}/{seed}"))
    kinds = {kind for cost in known.values() for kind in cost.seconds}
    named = ", ".join([*(kind for kind in KINDS if kind in kinds), *sorted(kinds.difference(KINDS))])
    note = (
        f"Training time: wall-clock time of the stages that the row comes from ({named}), measured where they ran; "
        "shared stages count for every row. Memory: the largest peak of one of them."
    )
    notes = (*run.notes, note) if known else run.notes
    priced = replace(run, columns=(*run.columns, time, memory), cells=tuple(cells), notes=notes)
    return replace(results, run=priced, scores=scores, missing=missing)
