"""Stage ``sample``: n responses of a model to each training prompt (PAD section 4.1; SeqKD's teacher answers)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.contracts.model import GeneratesText, Sampling
from harness.contracts.stage import Cost, Ref, Stage
from harness.hardware.gpu import generation_flops
from harness.models.published_sizes import size
from harness.recipe.sections import SamplingOptions
from harness.records import write_records
from harness.stages.context import StageContext
from harness.stages.graph import Model, StageGraph
from harness.stages.kind import StageKind, TextLength
from harness.types import Group, Prompt


def sample_stage(
    graph: StageGraph,
    prompts: Stage,
    model: Model,
    spec: SamplingOptions,
    n: int,
    field: str,
    seeds: tuple[int, int],
    after: tuple[Ref, ...],
) -> Stage:
    """n responses of a model to each prompt (a pool of several rounds has more than ``spec.n``).

    Args:
        field: where a ``Group`` holds them: ``samples`` (the student's) or ``teacher``.
        seeds: of the row, and of these responses.
    """
    seed, draw_seed = seeds
    params = {
        "field": field,
        **graph.backend_params(),
        "n": n,
        "temperature": spec.temperature if field == "samples" else spec.teacher_temperature,
        "top_p": spec.top_p,
        "max_new_tokens": spec.max_new_tokens,
        "seed": draw_seed,
    }
    # Only what differs from the recipe needs a name of its own on the screen.
    usual = n == graph.recipe.sampling.n or field == "teacher"
    labels = {**model.labels(), "seed": seed, "variant": "" if usual else f"n={n}"}
    inputs, local = {"prompts": prompts.ref}, {"samples": n}
    return graph.add_with_models("sample", params, inputs, {"model": model}, local, after=after, **labels)


def cost(stage: Stage, graph: StageGraph) -> Cost:
    """The prompt is read once for each response."""
    responses = graph.recipe.prompts.n * int(stage.params["n"])
    written, tokens = responses * graph.response_tokens, responses * graph.row_tokens
    flops = generation_flops(size(stage.local["models"]["model"]), tokens - written, written)
    return Cost(responses=responses, tokens=tokens, peak_flops=flops)


def texts(stage: Stage, graph: StageGraph) -> Iterable[TextLength]:
    """Prompt and response together."""
    return [generated_texts(graph, stage.params["max_new_tokens"])]


def generated_texts(graph: StageGraph, max_new_tokens: int) -> TextLength:
    longest = graph.recipe.prompts.max_prompt_tokens + max_new_tokens
    return TextLength(
        "responses to prompts (prompts.max_prompt_tokens + sampling.max_new_tokens)",
        longest,
        longest,
        "lower prompts.max_prompt_tokens (longer prompts are then passed over) or sampling.max_new_tokens",
    )


def run(stage: Stage, context: StageContext) -> Mapping[str, Any]:
    """Write ``groups.jsonl``: each prompt with the responses under ``params["field"]``."""
    params = stage.params
    prompts = context.records(stage, "prompts", "prompts.jsonl", Prompt)
    sampling = Sampling(params["max_new_tokens"], params["temperature"], params["top_p"])
    conversations = [prompt.messages for prompt in prompts]
    model: GeneratesText = context.model(stage, "model")
    responses = model.generate(conversations, sampling, seed=params["seed"], n=params["n"])
    groups = []
    for prompt, drawn in zip(prompts, responses, strict=True):
        answers: dict[str, Any] = {params["field"]: tuple(drawn)}
        groups.append(Group(prompt, **answers))
    write_records(context.folder / "groups.jsonl", groups)
    flat = [response for drawn in responses for response in drawn]
    return {
        "responses": len(flat),
        "tokens": sum(response.tokens for response in flat),
        "unfinished": sum(not response.finished for response in flat),
        "distinct_per_prompt": sum(len({r.text for r in drawn}) for drawn in responses) / max(1, len(responses)),
    }


KIND = StageKind("sample", run, cost, texts=texts, needs={"model": frozenset({"generate"})}, training=True)
