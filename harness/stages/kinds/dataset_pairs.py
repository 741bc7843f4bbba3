"""Stage ``dataset_pairs``: the source's chosen and rejected answers as rewarded groups, for tuning the teacher on them.

The annotators' choice enters where otherwise the teacher's stands: the chosen answer has selection probability 1, the
rejected one ``FLOOR``. So any method that learns from rewarded responses can train on the data set's pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.contracts.stage import Stage
from harness.stages.graph import StageGraph
from harness.stages.kind import StageContext, StageKind
from harness.types import Group, Prompt, Response

FLOOR = 1e-4
"""Selection probability of a rejected answer: the floor that the reward stage has by default."""


def dataset_pairs_stage(graph: StageGraph, prompts: Stage) -> Stage:
    return graph.add(Stage("dataset_pairs", {}, {"prompts": prompts.ref}, local={"samples": 2}))


def run(stage: Stage, context: StageContext) -> Mapping[str, object]:
    """A prompt without both answers has an empty group, which methods drop and count."""
    groups = [pair(prompt) for prompt in context.records(stage, "prompts", Prompt)]
    context.write(Group, groups)
    return {"groups": len(groups), "pairs": sum(len(group.samples) == 2 for group in groups)}


def pair(prompt: Prompt) -> Group:
    """The group of one prompt. The answers' lengths in tokens are not known here: 0."""
    if not (prompt.golden or "").strip() or not (prompt.rejected or "").strip():
        return Group(prompt)
    chosen = Response(str(prompt.golden), finished=True, tokens=0, log_psel=0.0)
    rejected = Response(str(prompt.rejected), finished=True, tokens=0, log_psel=math.log(FLOOR))
    return Group(prompt, samples=(chosen, rejected))


KIND = StageKind("dataset_pairs", run)
