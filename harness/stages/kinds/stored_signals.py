"""Stage ``teacher_distributions``: a teacher's next-token distributions on a method's rows, computed once: the k most
probable tokens per response token and the mass of the rest. A second teacher's store has the first one's tokens.

Stage ``reference_logps``: summed log-probabilities of the rows under the student that a round starts from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from harness.contracts.method import DistributionStorage
from harness.contracts.stage import Cost, Stage
from harness.stages.graph import Model, StageGraph, TrainingRow, model_cost
from harness.stages.kind import DiskUse, StageContext, StageKind
from harness.stages.kinds.train import row_texts, row_training, rows_per_prompt


def distributions_stage(
    row: TrainingRow,
    data: Mapping[str, Stage],
    name: str,
    teacher: Model,
    storage: DistributionStorage,
    tokens: Stage | None,
) -> Stage:
    """``name``: ``family``, ``tuned``; ``tokens``: another teacher's store, whose tokens are kept here too."""
    # Only the tokenizer of the student matters here, so rows of all rounds and starts can share a store.
    student = row.graph.models["student"]
    params = {**row.row_params, "tokenizer": student.tokenizer}
    params |= {"top_k": storage.top_k, "temperature": storage.temperature}
    inputs = {**data, "tokens": tokens} if tokens else data
    # Rounds on the same rows share a store, so its label names none.
    labels = {"round": None, "variant": f"{name} teacher"}
    local = {"tokenizers": {"student": student}}
    return row.add("teacher_distributions", 0, params, inputs, {"teacher": teacher}, local, **labels)


def cost(stage: Stage, graph: StageGraph) -> Cost:
    return model_cost(stage, "teacher", graph.recipe.prompts.n * rows_per_prompt(stage, graph) * graph.row_tokens)


def disk(stage: Stage, graph: StageGraph) -> DiskUse:
    """4 bytes each: k token ids, k log-probabilities, and the rest's mass, at every response position."""
    positions = graph.recipe.prompts.n * rows_per_prompt(stage, graph) * graph.response_tokens
    return DiskUse(positions * (8 * int(stage.params["top_k"]) + 4))


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    """Write ``index.json``, ``ids.npy``, ``logps.npy`` and ``rest.npy``."""
    from harness.training.stored_signals import store_distributions

    return store_distributions(
        row_training(stage, context, stage.params["rows"]),
        DistributionStorage(stage.params["top_k"], stage.params["temperature"]),
        context.folder,
        like=context.input(stage, "tokens", ".") if "tokens" in stage.inputs else None,
        progress=lambda done, total, logs: context.progress(done, total, "batches"),
        journal=context.journal,
    )


def reference_stage(row: TrainingRow, number: int, student: Model, data: Mapping[str, Stage]) -> Stage:
    return row.add("reference_logps", number, row.row_params, data, {"student": student})


def reference_cost(stage: Stage, graph: StageGraph) -> Cost:
    return model_cost(stage, "student", 2 * graph.recipe.prompts.n * graph.row_tokens)


def run_reference(stage: Stage, context: StageContext) -> Mapping[str, object]:
    """Write ``reference.json``: per group its rows' log-probabilities (empty where the group was dropped)."""
    from harness.training.stored_signals import reference_logps

    training = row_training(stage, context, stage.params["rows"])
    values = reference_logps(
        training, lambda done, total, logs: context.progress(done, total, "batches"), context.journal
    )
    (context.folder / "reference.json").write_text(json.dumps(values, allow_nan=False), encoding="utf-8")
    return {"groups": len(values), "rows": sum(len(row) for row in values)}


DISTRIBUTIONS = StageKind("teacher_distributions", run, cost, disk, row_texts, training=True)
REFERENCE = StageKind("reference_logps", run_reference, reference_cost, texts=row_texts, training=True)
