"""Stage ``teacher_distributions``: a teacher's next-token distributions on a method's rows, computed once.

Kept per response token: the k most probable tokens with their log-probabilities, and the mass of all others. A second
teacher's store (input ``tokens``) holds its log-probabilities of the first one's tokens, so that both can be compared
token by token. Format and reader: ``harness/training/stored_signals.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.contracts.method import Stored
from harness.contracts.stage import Cost, Ref, Stage
from harness.hardware.gpu import generation_flops
from harness.models.published_sizes import size
from harness.stages.context import StageContext
from harness.stages.graph import Model, StageGraph
from harness.stages.kind import DiskUse, StageKind
from harness.stages.kinds.train import TrainingRound, row_texts, row_training, rows_per_prompt


def distributions_stage(
    this: TrainingRound, name: str, teacher: Model, stored: Stored, tokens: Ref | None = None
) -> Stage:
    """Of the rows of ``this`` round.

    Args:
        name: of the teacher among the method's: ``family``, ``tuned``.
        tokens: another teacher's store, whose tokens are kept here too.
    """
    # Only the tokenizer of the student matters here, so rows of all rounds and starts can share a store.
    student = this.graph.models["student"]
    params = {
        **this.row_params,
        "tokenizer": student.tokenizer,
        "top_k": stored.top_k,
        "temperature": stored.temperature,
    }
    inputs = this.inputs | ({} if tokens is None else {"tokens": tokens})
    # Rounds on the same rows share a store, so its label names none.
    labels = {**this.labels, "round": None, "variant": f"{name} teacher"}
    local = {**this.local, "tokenizers": {"student": student}}
    models = {"teacher": teacher}
    return this.graph.add_with_models(KIND.name, params, inputs, models, local, after=this.after, **labels)


def cost(stage: Stage, graph: StageGraph) -> Cost:
    """Every row once through the teacher."""
    tokens = graph.recipe.prompts.n * rows_per_prompt(stage, graph) * graph.row_tokens
    return Cost(tokens=tokens, peak_flops=generation_flops(size(stage.local["models"]["teacher"]), tokens, 0))


def disk(stage: Stage, graph: StageGraph) -> DiskUse:
    """k token ids and log-probabilities of 4 bytes each and the rest's mass, at every response position."""
    positions = graph.recipe.prompts.n * rows_per_prompt(stage, graph) * graph.response_tokens
    return DiskUse(positions * (8 * int(stage.params["top_k"]) + 4))


def run(stage: Stage, context: StageContext) -> Mapping[str, Any]:
    """Write ``index.json``, ``ids.npy``, ``logps.npy`` and ``rest.npy``."""
    from harness.training.stored_signals import store_distributions

    return store_distributions(
        row_training(stage, context, stage.params["rows"]),
        Stored(stage.params["top_k"], stage.params["temperature"]),
        context.folder,
        like=context.input(stage, "tokens") if "tokens" in stage.inputs else None,
        progress=lambda done, total, logs: context.progress(done, total, "batches"),
    )


KIND = StageKind("teacher_distributions", run, cost, disk, row_texts, training=True)
