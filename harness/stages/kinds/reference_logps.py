"""Stage ``reference_logps``: log-probabilities of a method's rows under the student that it starts from, summed."""

from __future__ import annotations

import json
from collections.abc import Mapping

from harness.contracts.stage import Cost, Stage
from harness.stages.graph import Model, StageGraph, TrainingRow, model_cost
from harness.stages.kind import StageContext, StageKind
from harness.stages.kinds.train import row_texts, row_training


def reference_stage(row: TrainingRow, number: int, student: Model, data: Mapping[str, Stage]) -> Stage:
    """``student``: the model that the round starts from, which is its reference."""
    return row.add("reference_logps", number, row.row_params, data, {"student": student})


def cost(stage: Stage, graph: StageGraph) -> Cost:
    """Two rows per prompt, chosen and rejected, once through the starting student."""
    return model_cost(stage, "student", 2 * graph.recipe.prompts.n * graph.row_tokens)


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    """Write ``reference.json``: per group its rows' log-probabilities (empty where the group was dropped)."""
    from harness.training.stored_signals import reference_logps

    training = row_training(stage, context, stage.params["rows"])
    values = reference_logps(training, lambda done, total, logs: context.progress(done, total, "batches"))
    (context.folder / "reference.json").write_text(json.dumps(values, allow_nan=False), encoding="utf-8")
    return {"groups": len(values), "rows": sum(len(row) for row in values)}


KIND = StageKind("reference_logps", run, cost, texts=row_texts, training=True)
