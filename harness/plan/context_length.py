"""How long a text a model reads, and whether a recipe asks for a longer one. From ``config.json``, or as
``published_sizes.json`` states it where the model is not here yet: no torch.

Beyond its context a model with learned positions (GPT-2) fails in the middle of a stage, and one with rotary positions
answers nonsense without a word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from harness.contracts.stage import Ref, Stage
from harness.models.published_sizes import context_length
from harness.plan.cost import PROMPT_TOKENS
from harness.plan.plan import Plan

FRAME, LABELS = 80, 14
"""About how many tokens a multiple-choice question takes besides the request and the responses, and the labels around
each response (``harness/multiple_choice.py``)."""


def findings(plan: Plan, pending: Collection[Stage]) -> Iterator[tuple[bool, str]]:
    """(whether it stops the run, text) for each thing that the pending stages ask beyond a model's context."""
    contexts = {name: context_length(checkpoint) for name, checkpoint in plan.builder.models.items()}
    known = {stage.key: stage for stage in plan.stages}
    told: set[str] = set()
    for stage in pending:
        for what, tokens, typical, remedy in asked(plan, stage, known):
            for name in models_of(plan, stage):
                context = contexts[name]
                text = f"context: {what} of up to {tokens:,} tokens, the {name} reads {context or 0:,}; {remedy}"
                if context is not None and tokens > context and text not in told:
                    told.add(text)
                    yield typical > context, text


def asked(plan: Plan, stage: Stage, known: Mapping[str, Stage]) -> Iterator[tuple[str, int, int, str]]:
    """(what, at most how many tokens, how many are certain or usual, remedy) for what a stage gives to its models."""
    prompt, params = plan.recipe.prompts.max_prompt_tokens, stage.params
    rows = params.get("options", {}).get("max_length")
    if rows is not None:
        yield "training rows (train.max_length)", rows, rows, "lower train.max_length: longer rows are then dropped"
    drawn = params.get("max_new_tokens", params.get("options", {}).get("max_new_tokens"))
    if drawn is not None:
        remedy = "lower prompts.max_prompt_tokens (longer prompts are then passed over) or sampling.max_new_tokens"
        both = prompt + drawn
        yield "responses to prompts (prompts.max_prompt_tokens + sampling.max_new_tokens)", both, both, remedy
    if stage.kind == "reward":
        count = responses_of(known, stage.inputs["samples"]) if params["mcq"] == "cyclic" else 2
        shown = FRAME + count * (min(params["max_response_tokens"], plan.recipe.sampling.max_new_tokens) + LABELS)
        remedy = "lower reward.max_response_tokens, prompts.max_prompt_tokens or sampling.n (reward.mcq=pairwise_both "
        remedy += "shows two responses at a time). A prompt that does not fit stops the reward stage"
        usual = shown + min(prompt, PROMPT_TOKENS)
        yield f"multiple-choice questions with {count} responses", shown + prompt, usual, remedy


def responses_of(known: Mapping[str, Stage], ref: Ref) -> int:
    """Responses per prompt that a stage leaves."""
    stage = known[ref.key]
    if stage.kind == "block":
        return responses_of(known, stage.inputs["samples"]) // int(stage.params["blocks"])
    return int(stage.params.get("n", 2))  # else the dataset's pairs


def models_of(plan: Plan, stage: Stage) -> set[str]:
    """Which models of the family read in a stage; one that the plan trains reads as far as what it is trained from."""
    family = {checkpoint.location: name for name, checkpoint in plan.builder.models.items()}
    at_hand = {family[model["location"]] for model in stage.local["models"].values()}
    trained = {"model": "student", "student": "student", "teacher": "teacher"}
    return at_hand | {name for role, name in trained.items() if role in stage.inputs}
