"""A method sees what it declared and nothing else: the dataset's answers, samples and the teacher's answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.contracts.method import Needs, Source
from harness.contracts.stage import Stage
from harness.stages.kinds.train import hide_undeclared, training_groups
from harness.types import Group, Prompt, Response

PROMPT = Prompt("p", ({"role": "user", "content": "ba"},), golden="good", rejected="bad")
SAMPLED = (Response("drawn", True, 1),)
TAUGHT = (Response("taught", True, 1),)


def group_of(*responses: Source) -> Group:
    """What a method with these needs is given, where everything lies ready."""
    lying = {"prompts": PROMPT, "samples": Group(PROMPT, SAMPLED, coverage=0.5), "responses": Group(PROMPT, (), TAUGHT)}
    work: Any = SimpleNamespace(records=lambda stage, role, kind: [lying[role]])
    (group,) = training_groups(Stage("train", {}), work, Needs(responses=responses))
    return group


@pytest.mark.parametrize(
    ("declared", "seen"),
    [
        ("golden", {"golden": "good"}),
        ("rejected", {"rejected": "bad"}),
        ("samples", {"samples": SAMPLED, "coverage": 0.5}),
        ("teacher", {"teacher": TAUGHT}),
        ("rollouts", {}),
    ],
)
def test_what_is_declared_is_seen_and_nothing_else(declared: Source, seen: dict[str, Any]) -> None:
    group = group_of(declared)
    fields = {
        "golden": group.prompt.golden,
        "rejected": group.prompt.rejected,
        "samples": group.samples,
        "coverage": group.coverage,
        "teacher": group.teacher,
    }
    nothing = {"golden": None, "rejected": None, "samples": (), "coverage": None, "teacher": ()}
    assert fields == nothing | seen
    assert group.prompt.messages == PROMPT.messages


def test_the_prompt_itself_is_hidden_in_part() -> None:
    """DCKD declares both of the dataset's answers; a method of samples gets neither."""
    assert hide_undeclared(PROMPT, Needs(responses=("golden", "rejected"))) == PROMPT
    hidden = hide_undeclared(PROMPT, Needs(responses=("samples",)))
    assert (hidden.golden, hidden.rejected, hidden.id) == (None, None, "p")
