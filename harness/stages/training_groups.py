"""Puts together what a method declared that it needs, and nothing else: undeclared data never reaches a method."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from harness.contracts.method import Needs
from harness.contracts.stage import Stage
from harness.stages.context import Work
from harness.types import Group, Prompt


def training_groups(stage: Stage, work: Work, needs: Needs) -> list[Group]:
    """One group per prompt, from the inputs ``prompts``, ``samples`` (with rewards where needed) and ``responses``."""
    prompts = work.records(stage, "prompts", "prompts.jsonl", Prompt)
    groups = [Group(visible(prompt, needs)) for prompt in prompts]
    if "samples" in needs.responses:
        sampled = work.records(stage, "samples", "groups.jsonl", Group)
        check(prompts, sampled)
        groups = [
            dataclasses.replace(group, samples=other.samples, coverage=other.coverage)
            for group, other in zip(groups, sampled, strict=True)
        ]
    if "teacher" in needs.responses:
        taught = work.records(stage, "responses", "groups.jsonl", Group)
        check(prompts, taught)
        groups = [
            dataclasses.replace(group, teacher=other.teacher) for group, other in zip(groups, taught, strict=True)
        ]
    return groups


def visible(prompt: Prompt, needs: Needs) -> Prompt:
    """The prompt without the dataset's answers that the method did not ask for."""
    return dataclasses.replace(
        prompt,
        golden=prompt.golden if "golden" in needs.responses else None,
        rejected=prompt.rejected if "rejected" in needs.responses else None,
    )


def check(prompts: Sequence[Prompt], groups: Sequence[Group]) -> None:
    """The artifacts of one plan hold the same prompts in the same order; anything else is our bug."""
    ids, others = [prompt.id for prompt in prompts], [group.prompt.id for group in groups]
    if ids != others:
        raise AssertionError(f"stage inputs hold different prompts: {len(ids)} against {len(others)}")
