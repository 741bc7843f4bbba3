"""Stages ``prompts`` (one set for all rows and seeds) and ``dataset_pairs`` (their chosen and rejected answers)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.contracts.options import json_data, options_from
from harness.contracts.stage import Stage
from harness.models.chat import encode_prompt, end_of_turn
from harness.prompts import load_prompts
from harness.stages.graph import StageGraph
from harness.stages.kind import PlanIssue, StageContext, StageKind
from harness.types import Group, Prompt, Response


def prompts_stage(graph: StageGraph) -> Stage:
    spec, source, student = graph.recipe.prompts, graph.source, graph.models["student"]
    params = {"source": source.name, "n": spec.n, "seed": spec.seed, "identity": dict(source.pin.identity)}
    params |= {"max_prompt_tokens": spec.max_prompt_tokens, "tokenizer": student.tokenizer}
    local = {"source": json_data(source.config), "tokenizers": {"student": student}}
    return graph.add_with_models("prompts", params, {}, {}, local)


def check(stages: Sequence[Stage], graph: StageGraph) -> Iterable[PlanIssue]:
    if graph.source.absence:
        yield PlanIssue(True, f"training prompts: {graph.source.absence}", forceable=False)


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    params = stage.params
    trust = stage.local["trust_remote_code"]
    keep = short_enough(context.checkpoint(stage, "student").location, params["max_prompt_tokens"], trust)
    source = context.registry.sources[params["source"]]
    config = options_from(source.config, stage.local["source"])
    prompts = load_prompts(source, config, params["identity"], params["seed"], params["n"], keep)
    context.write(Prompt, prompts)
    return {"prompts": len(prompts), "with_golden": sum(prompt.golden is not None for prompt in prompts)}


def short_enough(tokenizer_folder: str, limit: int, trust: bool = False) -> Callable[[Prompt], bool]:
    """Whether a prompt fits into ``limit`` of the student's tokens (PAD section 5.1 drops longer ones)."""
    from harness.models.load import load_tokenizer  # imports torch

    tokenizer = load_tokenizer(tokenizer_folder, trust)
    end_of_turn(tokenizer)  # refuses a tokenizer without one before anything is drawn
    return lambda prompt: len(encode_prompt(tokenizer, prompt.messages)) <= limit


FLOOR = 1e-4  # selection probability of a rejected answer: the floor that the reward stage has by default


def dataset_pairs_stage(graph: StageGraph, prompts: Stage) -> Stage:
    """The source's pairs as rewarded groups, so that any method of rewarded responses can tune the teacher on them."""
    return graph.add(Stage("dataset_pairs", {}, {"prompts": prompts.ref}, local={"samples": 2}))


def run_dataset_pairs(stage: Stage, context: StageContext) -> Mapping[str, object]:
    groups = [pair(prompt) for prompt in context.records(stage, "prompts", Prompt)]
    context.write(Group, groups)
    return {"groups": len(groups), "pairs": sum(len(group.samples) == 2 for group in groups)}


def pair(prompt: Prompt) -> Group:
    """Empty without both answers; their lengths in tokens are not known here: 0."""
    if not (prompt.golden or "").strip() or not (prompt.rejected or "").strip():
        return Group(prompt)
    chosen = Response(str(prompt.golden), finished=True, tokens=0, log_psel=0.0)
    rejected = Response(str(prompt.rejected), finished=True, tokens=0, log_psel=math.log(FLOOR))
    return Group(prompt, samples=(chosen, rejected))


PROMPTS = StageKind("prompts", run, check=check)
DATASET_PAIRS = StageKind("dataset_pairs", run_dataset_pairs)
