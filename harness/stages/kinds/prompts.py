"""Stages ``prompts`` (one set for all rows and seeds) and ``dataset_pairs`` (their chosen and rejected answers)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.contracts.options import json_data, options_from
from harness.contracts.stage import Stage
from harness.models.chat import TemplateRefusal, end_of_turn, prompt_text, template_notes, tokenizer_difference
from harness.prompts import load_prompts
from harness.stages.graph import StageGraph
from harness.stages.kind import PlanIssue, StageContext, StageKind
from harness.types import Group, Messages, Prompt, Response


def prompts_stage(graph: StageGraph) -> Stage:
    spec, source = graph.recipe.prompts, graph.source
    student, teacher = graph.models["student"], graph.models["teacher"]
    params = {"source": source.name, "n": spec.n, "seed": spec.seed, "identity": dict(source.pin.identity)}
    params |= graph.registry.code_param("sources", source.name)
    params |= {"max_prompt_tokens": spec.max_prompt_tokens, "tokenizer": student.tokenizer}
    tokenizers = {"student": student}
    if teacher.tokenizer != student.tokenizer:  # its chat template may refuse what the student's takes
        tokenizers["teacher"], params["teacher_tokenizer"] = teacher, teacher.tokenizer
    local = {"source": json_data(source.config), "tokenizers": tokenizers}
    return graph.add_with_models("prompts", params, {}, {}, local)


def check(stages: Sequence[Stage], graph: StageGraph) -> Iterable[PlanIssue]:
    if graph.source.absence:
        yield PlanIssue(True, f"training prompts: {graph.source.absence}", forceable=False)


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    from harness.models.load import load_tokenizer  # imports torch

    params, trust = stage.params, stage.local["trust_remote_code"]
    checkpoints = {role: context.checkpoint(stage, role).location for role in stage.local["models"]}
    tokenizers = {role: load_tokenizer(location, trust) for role, location in checkpoints.items()}
    usable = PromptFilter(tokenizers, params["max_prompt_tokens"])
    source = context.registry.sources[params["source"]]
    config = options_from(source.config, stage.local["source"])
    prompts = load_prompts(source, config, params["identity"], params["seed"], params["n"], usable, usable.refused)
    context.write(Prompt, prompts)
    return {
        "prompts": len(prompts),
        "with_golden": sum(prompt.golden is not None for prompt in prompts),
        "too_long": usable.too_long,
        "refused": usable.refused,
        "templates": usable.template_notes(
            [prompt.messages for prompt in prompts],
            [text for prompt in prompts for text in (prompt.golden, prompt.rejected) if text],
        ),
    }


class PromptFilter:
    """Which prompts fit into ``limit`` of the student's tokens (PAD section 5.1 drops longer ones) and are taken by the
    chat template of every model: in the first stage, so that none stops a later one."""

    def __init__(self, tokenizers: Mapping[str, Any], limit: int) -> None:
        """``tokenizers``: by role, the student's first. Raises UserError for one with no token that ends an answer."""
        self.tokenizers, self.limit = tokenizers, limit
        self.too_long = 0
        self.refused: dict[str, str] = {}
        """Id of a prompt to the reason."""
        for tokenizer in tokenizers.values():
            end_of_turn(tokenizer)

    def __call__(self, prompt: Prompt) -> bool:
        try:
            # No tokenizer takes half a character, a lone surrogate.
            for text in (*(turn["content"] for turn in prompt.messages), prompt.golden, prompt.rejected):
                (text or "").encode()
            texts = [prompt_text(tokenizer, prompt.messages) for tokenizer in self.tokenizers.values()]
        except (TemplateRefusal, UnicodeEncodeError) as error:
            self.refused[prompt.id] = str(error)
            return False
        student = self.tokenizers["student"]
        is_short = len(student(texts[0], add_special_tokens=False)["input_ids"]) <= self.limit
        self.too_long += not is_short
        return is_short

    def template_notes(self, conversations: Sequence[Messages], answers: Sequence[str] = ()) -> list[str]:
        """What the templates do to these prompts and to all answers, in sentences that begin with the model."""
        notes = [
            f"{role}: {note}"
            for role, tokenizer in self.tokenizers.items()
            for note in template_notes(tokenizer, conversations, answers)
        ]
        if "teacher" in self.tokenizers and (
            difference := tokenizer_difference(self.tokenizers["student"], self.tokenizers["teacher"])
        ):
            notes.append(f"vocabularies: {difference}; what one model wrote, the other reads and trains as text")
        return notes


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
