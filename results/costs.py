"""What a row cost to train, measured: summed over the stages that its student comes from, from their provenance.

    cost = training_cost(store, results.run, "pad-ppd", seed=0)
    results = with_costs(results, store)      # the same as two more columns: cost.time and cost.memory

Counted are all ancestors of the answers' model: sampling, the teacher's rewards, references, stored distributions and
training, of every round. A stage that several rows share counts whole for each of them: it is what the row would cost
alone. Answering and judging are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.benchmark import Metric
from harness.types import Score
from results.frames import Place, Results
from results.run import Cell, Run

if TYPE_CHECKING:
    from results.store import ArtifactStore

KINDS = ("sample", "block", "pairs", "reward", "reference", "distributions", "train")
"""Kinds of stages that are counted; the prompts are read once for all rows, the overlap check trains nothing."""
HOURS = 2 * 3600.0
"""From so many seconds on, times are printed in hours."""
GIB = float(1 << 30)
INCLUDED = (
    "Training time: wall-clock time of the stages that the row comes from ({kinds}), measured where they ran; shared "
    "stages count for every row. Memory: the largest peak of one of them."
)


@dataclass(frozen=True)
class Cost:
    """What training one row under one seed took."""

    seconds: float
    """Wall-clock, summed over the stages, whatever ran beside them."""
    by_kind: Mapping[str, float]
    """Seconds by kind of stage."""
    peak_bytes: int
    """Of the stage that needed most: the GPU's where it trained on one, else the process's resident memory."""
    stages: int


def training_cost(store: ArtifactStore, run: Run, row: str, seed: int) -> Cost | None:
    """``None`` where the row is not trained, has no score yet, or a stage of it is no longer in the store."""
    cell = next((each for each in run.cells if (each.row, each.seed) == (row, seed) and each.score), None)
    if cell is None:
        return None
    try:
        answers = store.meta("score", cell.score)["inputs"][f"answers:{cell.entrant}"]
        model = store.meta(*answers.split("/"))["inputs"].get("model")
        found = None if model is None else _ancestors(store, model)
    except KeyError:
        return None
    if not found:
        return None
    by_kind: dict[str, float] = {}
    for meta in found:
        by_kind[meta["kind"]] = by_kind.get(meta["kind"], 0.0) + float(meta["wall_seconds"])
    return Cost(sum(by_kind.values()), by_kind, max(map(_peak, found)), len(found))


def _ancestors(store: ArtifactStore, name: str) -> list[Mapping[str, Any]]:
    """Provenance of a stage (``train/KEY``) and of everything that it was made from, kinds that count only."""
    found: dict[str, Mapping[str, Any]] = {}
    stack = [name]
    while stack:
        each = stack.pop()
        if each in found or each.split("/")[0] not in KINDS:
            continue
        meta = found[each] = store.meta(*each.split("/"))
        stack += meta["inputs"].values()
    return list(found.values())


def _peak(meta: Mapping[str, Any]) -> int:
    measured = meta.get("measurements") or {}
    return int(measured.get("peak_memory") or meta["peak_memory_bytes"])


def with_costs(results: Results, store: ArtifactStore) -> Results:
    """``results`` with the columns ``cost.time`` (s or h) and ``cost.memory`` (GiB), one score per row and seed."""
    run = results.run
    costs = {(row.id, seed): training_cost(store, run, row.id, seed) for row in run.rows for seed in run.seeds}
    known = {place: cost for place, cost in costs.items() if cost is not None}
    unit = "h" if max((cost.seconds for cost in known.values()), default=0.0) >= HOURS else "s"
    time = Metric("cost.time", "Time", "Training", unit, digits=2 if unit == "h" else 1, measured=True)
    memory = Metric("cost.memory", "Memory", "Training", "GiB", digits=2, measured=True)
    scores: dict[Place, Score] = {}
    missing: dict[Place, str] = {}
    cells: list[Cell] = []
    for (row, seed), cost in costs.items():
        if not any((cell.row, cell.seed) == (row, seed) for cell in run.cells):
            continue
        for metric in (time, memory):
            place = (row, metric.id, seed)
            if cost is None:
                missing[place] = "not trained, or a stage of it is no longer in the store"
                cells.append(Cell(row, metric.id, seed, unavailable=missing[place]))
                continue
            value = cost.peak_bytes / GIB if metric is memory else cost.seconds / (3600 if unit == "h" else 1)
            scores[place] = Score(metric.id, value, None, None, n=0, unscored=0, detail=dict(cost.by_kind))
            cells.append(Cell(row, metric.id, seed, score="measured", entrant=f"{row}/{seed}"))
    kinds = sorted({kind for cost in known.values() for kind in cost.by_kind}, key=KINDS.index)
    notes = (*run.notes, INCLUDED.format(kinds=", ".join(kinds))) if known else run.notes
    made = replace(run, columns=(*run.columns, time, memory), cells=(*run.cells, *cells), notes=notes)
    return Results(made, {**results.scores, **scores}, {**results.missing, **missing})
