"""Stage ``teacher_distributions``: a teacher's next-token distributions on a method's rows, computed once: the k most
probable tokens per response token and the mass of the rest. A second teacher's store has the first one's tokens.

Stage ``reference_logps``: summed log-probabilities of the rows under the student that a round starts from.

An engine serves them where its numbers are those that training's own forward pass would give.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from harness.contracts.method import DistributionStorage
from harness.contracts.model import Capability, ReadsTokenLogps
from harness.contracts.stage import Cost, Stage
from harness.journal import Journal
from harness.stages.graph import LOADED, BackendUse, Model, StageGraph, TrainingRow, model_cost
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
    use = engine_use(row, DISTRIBUTIONS, "teacher", teacher, distributions_obstacle(storage, tokens))
    params |= use.params
    local = {"tokenizers": {"student": student}, **use.local}
    return row.add("teacher_distributions", 0, params, inputs, {"teacher": teacher}, local, **labels)


def distributions_obstacle(storage: DistributionStorage, tokens: Stage | None) -> str:
    if tokens is not None:
        return "an engine gives its own most probable tokens, and those of another teacher are to be kept"
    if storage.temperature != 1:
        return f"an engine's log-probabilities are at temperature 1, the method's at {storage.temperature:g}"
    return ""


def engine_use(row: TrainingRow, kind: StageKind, role: str, model: Model, obstacle: str) -> BackendUse:
    """An engine for ``model``; nothing (but a remark, where the recipe wants one) for training's own forward pass,
    which is taken at an ``obstacle``."""
    use = row.graph.backend_use(kind.name, kind.needs[role], model)
    train_dtype, dtype = row.entry.train.dtype, row.graph.recipe.family.dtype
    if train_dtype != dtype:
        obstacle = f"train.dtype is {train_dtype}, and the models' dtype {dtype}"
    if not use.local["engine"]:
        return BackendUse({}, {name: text for name, text in use.local.items() if name == "remark"})
    if obstacle:
        return BackendUse({}, {"remark": f"stage {kind.name} runs with {LOADED}: {obstacle}"})
    return use


def engine_reader(stage: Stage, context: StageContext, role: str) -> ReadsTokenLogps | None:
    if "backend" not in stage.params:
        return None
    # What it read is kept by the stage, in fewer bytes; its own counts would begin anew with each part.
    quiet = replace(context, journal=Journal(), progress=lambda done, total, info: None)
    reader: ReadsTokenLogps = quiet.model(stage, role)
    return reader


def cost(stage: Stage, graph: StageGraph) -> Cost:
    rows = rows_per_prompt(stage, graph, stage.params["rows"])
    return model_cost(stage, "teacher", graph.recipe.prompts.n * rows * graph.row_tokens)


def disk(stage: Stage, graph: StageGraph) -> DiskUse:
    """4 bytes each: k token ids, k log-probabilities, and the rest's mass, at every response position."""
    rows = rows_per_prompt(stage, graph, stage.params["rows"])
    positions = graph.recipe.prompts.n * rows * graph.response_tokens
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
        reader=engine_reader(stage, context, "teacher"),
    )


def reference_stage(row: TrainingRow, number: int, student: Model, data: Mapping[str, Stage]) -> Stage:
    rounds_otherwise = "an engine rounds bfloat16 otherwise than training, whose loss must start at its own reference"
    obstacle = "" if row.entry.train.dtype == "float32" else rounds_otherwise
    use = engine_use(row, REFERENCE, "student", student, obstacle)
    params = {**row.row_params, **use.params}
    return row.add("reference_logps", number, params, data, {"student": student}, use.local)


def reference_cost(stage: Stage, graph: StageGraph) -> Cost:
    rows = rows_per_prompt(stage, graph, stage.params["rows"])
    return model_cost(stage, "student", graph.recipe.prompts.n * rows * graph.row_tokens)


def run_reference(stage: Stage, context: StageContext) -> Mapping[str, object]:
    """Write ``reference.json``: per group its rows' log-probabilities (empty where the group was dropped)."""
    from harness.training.stored_signals import reference_logps

    training = row_training(stage, context, stage.params["rows"])
    values = reference_logps(
        training,
        lambda done, total, logs: context.progress(done, total, "batches"),
        context.journal,
        engine_reader(stage, context, "student"),
    )
    (context.folder / "reference.json").write_text(json.dumps(values, allow_nan=False), encoding="utf-8")
    return {"groups": len(values), "rows": sum(len(row) for row in values)}


TOKEN_LOGPS: Final[frozenset[Capability]] = frozenset({"token_logps"})
DISTRIBUTIONS = StageKind(
    "teacher_distributions", run, cost, disk, row_texts, needs={"teacher": TOKEN_LOGPS}, training=True
)
REFERENCE = StageKind(
    "reference_logps", run_reference, reference_cost, texts=row_texts, needs={"student": TOKEN_LOGPS}, training=True
)
