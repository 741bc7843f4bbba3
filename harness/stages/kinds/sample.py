"""Stages ``sample`` (n responses to each prompt, PAD section 4.1) and ``split_pool`` (a round's part of a pool)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from harness.contracts.model import GeneratesText, Sampling
from harness.contracts.stage import Cost, Stage
from harness.stages.graph import Model, StageGraph, TrainingRow, model_cost
from harness.stages.kind import StageContext, StageKind, TextLength
from harness.stats import seed_of
from harness.types import Group, Prompt


def sample_stage(row: TrainingRow, number: int, model: Model, n: int, field: Literal["samples", "teacher"]) -> Stage:
    """``n``: of a pool, for several rounds; ``field``: where a ``Group`` holds the responses."""
    spec, graph = row.entry.sampling, row.graph
    backend = graph.backend_use(SAMPLE.name, SAMPLE.needs["model"], model)
    params = {
        "field": field,
        **backend.params,
        "n": n,
        "temperature": spec.temperature if field == "samples" else spec.teacher_temperature,
        "top_p": spec.top_p,
        "max_new_tokens": spec.max_new_tokens,
        "seed": row.round_seed("sample", field, number=number),
    }
    # Named after the model, because rows share it. Only an n that is not the recipe's needs a name on the screen.
    usual = n == graph.recipe.sampling.n or field == "teacher"
    training = model.trained
    labels: dict[str, Any] = {"row": training.row, "round": training.round} if training else {"row": model.name}
    labels |= {"seed": row.seed, "variant": "" if usual else f"n={n}"}
    inputs = {"prompts": row.prompts.ref}
    local = {"samples": n, **backend.local}
    return graph.add_with_models(
        "sample", params, inputs, {"model": model}, local, version=2, gates=row.gates, **labels
    )


def cost(stage: Stage, graph: StageGraph) -> Cost:
    responses = graph.recipe.prompts.n * int(stage.params["n"])
    written_tokens = responses * graph.response_tokens
    return model_cost(stage, "model", responses * graph.row_tokens - written_tokens, written_tokens, responses)


def texts(stage: Stage, graph: StageGraph) -> Iterable[TextLength]:
    return [generated_texts(graph, stage.params["max_new_tokens"])]


def generated_texts(graph: StageGraph, max_new_tokens: int) -> TextLength:
    longest = graph.recipe.prompts.max_prompt_tokens + max_new_tokens
    content = "responses to prompts (prompts.max_prompt_tokens + sampling.max_new_tokens)"
    remedy = "lower prompts.max_prompt_tokens (longer prompts are then passed over) or sampling.max_new_tokens"
    return TextLength(content, longest, longest, remedy)


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    params = stage.params
    prompts = context.records(stage, "prompts", Prompt)
    sampling = Sampling(params["max_new_tokens"], params["temperature"], params["top_p"])
    model: GeneratesText = context.model(stage, "model")
    responses = model.generate([p.messages for p in prompts], sampling, seed=params["seed"], n=params["n"])
    is_student = params["field"] == "samples"
    groups = [
        Group(prompt, samples=tuple(texts)) if is_student else Group(prompt, teacher=tuple(texts))
        for prompt, texts in zip(prompts, responses, strict=True)
    ]
    context.write(Group, groups)
    flat = [response for texts in responses for response in texts]
    return {
        "responses": len(flat),
        "tokens": sum(response.tokens for response in flat),
        "without_room": [
            # A server may count no tokens.
            group.prompt.id
            for group, texts in zip(groups, responses, strict=True)
            if not any(r.text or r.finished or r.tokens for r in texts)
        ],
        "unfinished": sum(not response.finished for response in flat),
        "cut_by_context": sum(response.is_cut_before(sampling.max_new_tokens) for response in flat),
        "distinct_per_prompt": sum(len({r.text for r in texts}) for texts in responses) / max(1, len(responses)),
    }


def split_pool_stage(row: TrainingRow, number: int, pool: Stage) -> Stage:
    """One of k disjoint random blocks of a pool: a round that does not resample. It is rewarded after the split."""
    # The seed does not know the round: all blocks of a pool must come from one shuffle.
    params = {"block": number, "blocks": row.rounds, "seed": seed_of("block", row.seed)}
    n = pool.local["samples"] // row.rounds
    labels = {**row.labels(number), "variant": f"n={n}"}
    return row.graph.add(Stage("split_pool", params, {"samples": pool.ref}, local={"samples": n}, **labels))


def run_split_pool(stage: Stage, context: StageContext) -> Mapping[str, object]:
    params = stage.params
    pool = context.records(stage, "samples", Group)
    groups = [deal(group, params["block"], params["blocks"], params["seed"]) for group in pool]
    context.write(Group, groups)
    return {"groups": len(groups), "responses": sum(len(group.samples) for group in groups)}


def deal(group: Group, block: int, blocks: int, seed: int) -> Group:
    size, samples = len(group.samples) // blocks, list(group.samples)
    random.Random(f"block/{seed}/{group.prompt.id}").shuffle(samples)
    return replace(group, samples=tuple(samples[block * size : (block + 1) * size]))


SAMPLE = StageKind("sample", run, cost, texts=texts, needs={"model": frozenset({"generate"})}, training=True)
SPLIT_POOL = StageKind("split_pool", run_split_pool)
