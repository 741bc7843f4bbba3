"""Stage ``reference_logps``: log-probabilities of a method's rows under the student that it starts from, summed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.contracts.stage import Cost, Stage
from harness.hardware.gpu import generation_flops
from harness.models.published_sizes import size
from harness.stages.context import StageContext
from harness.stages.graph import StageGraph
from harness.stages.kind import StageKind
from harness.stages.kinds.train import TrainingRound, row_texts, row_training


def reference_stage(this: TrainingRound) -> Stage:
    """Of the rows that ``this`` round trains on; the reference is the model that it starts from."""
    return this.add("reference_logps", this.row_params, this.inputs, {"student": this.student})


def cost(stage: Stage, graph: StageGraph) -> Cost:
    """Two rows per prompt, chosen and rejected, once through the starting student."""
    tokens = 2 * graph.recipe.prompts.n * graph.row_tokens
    return Cost(tokens=tokens, peak_flops=generation_flops(size(stage.local["models"]["student"]), tokens, 0))


def run(stage: Stage, context: StageContext) -> Mapping[str, Any]:
    """Write ``reference.json``: per group its rows' log-probabilities (empty where the group was dropped)."""
    from harness.training.stored_signals import reference_logps

    training = row_training(stage, context, stage.params["rows"])
    values = reference_logps(training, lambda done, total, logs: context.progress(done, total, "batches"))
    (context.folder / "reference.json").write_text(json.dumps(values, allow_nan=False), encoding="utf-8")
    return {"groups": len(values), "rows": sum(len(row) for row in values)}


KIND = StageKind("reference_logps", run, cost, texts=row_texts, training=True)
