"""What a row cost to train, measured, as two columns of a table: ``cost.time`` and ``cost.memory``.

    results = with_costs(results)

What counts is said in ``results.run.lineage.StudentTraining``. Answering and judging do not.
"""

from __future__ import annotations

from dataclasses import replace

from harness.contracts.benchmark import Metric
from harness.types import Score
from results.run.record import Cell
from results.run.results import Place, Results

KINDS = ("sample", "reward", "reference_logps", "teacher_distributions", "train")
"""The order in which a note names kinds of stages; others follow."""
HOURS = 2 * 3600.0
"""From so many seconds on, times are printed in hours."""
GIB = float(1 << 30)
INCLUDED = (
    "Training time: wall-clock time of the stages that the row comes from ({kinds}), measured where they ran; shared "
    "stages count for every row. Memory: the largest peak of one of them."
)


def with_costs(results: Results) -> Results:
    """``results`` with the columns ``cost.time`` (s or h) and ``cost.memory`` (GiB), one score per row and seed."""
    run = results.run
    costs = {(row.id, seed): results.trained.get((row.id, seed)) for row in run.rows for seed in run.seeds}
    known = {place: cost for place, cost in costs.items() if cost is not None and cost.complete}
    # one unit for the whole column: seconds beside hours could not be compared at a glance
    unit = "h" if max((cost.hours * 3600 for cost in known.values()), default=0.0) >= HOURS else "s"
    time = Metric("cost.time", "Time", "Training", unit, digits=2 if unit == "h" else 1, measured=True)
    memory = Metric("cost.memory", "Memory", "Training", "GiB", digits=2, measured=True)
    scores: dict[Place, Score] = {}
    missing: dict[Place, str] = {}
    cells: list[Cell] = []
    for row, seed in costs:
        cost = known.get((row, seed))
        if not any((cell.row, cell.seed) == (row, seed) for cell in run.cells):
            continue
        for metric in (time, memory):
            place = (row, metric.id, seed)
            if cost is None:
                missing[place] = "not trained, or a stage of it is no longer in the store"
                cells.append(Cell(row, metric.id, seed, unavailable=missing[place]))
                continue
            value = cost.peak_memory / GIB if metric is memory else cost.hours * (1 if unit == "h" else 3600)
            scores[place] = Score(metric.id, value, None, None, n=0, unscored=0, detail=dict(cost.seconds))
            cells.append(Cell(row, metric.id, seed, score="measured", entrant=f"{row}/{seed}"))
    found = {kind for cost in known.values() for kind in cost.seconds}
    kinds = [*(kind for kind in KINDS if kind in found), *sorted(found.difference(KINDS))]
    notes = (*run.notes, INCLUDED.format(kinds=", ".join(kinds))) if known else run.notes
    made = replace(run, columns=(*run.columns, time, memory), cells=(*run.cells, *cells), notes=notes)
    return replace(results, run=made, scores={**results.scores, **scores}, missing={**results.missing, **missing})
