"""Best-of-n SFT: which response it takes, and its cross-entropy by hand (-1, -2 | -3: 6 over 3 tokens)."""

from dataclasses import replace

import pytest
import torch

from harness.contracts.method import DroppedPrompt
from methods import best_of_n
from tests.tiny import tiny_batch, tiny_group


def test_loss_by_hand() -> None:
    (term,) = best_of_n.METHOD.loss(
        tiny_batch([2, 1], prompts=2), {"logp": torch.tensor([-1.0, -2.0, -3.0])}, None
    ).terms
    assert term.per == "token" and term.total.item() == 6.0


def test_the_teachers_favourite_and_of_equal_ones_the_first() -> None:
    group = tiny_group([("ba", -2.0), ("be", -0.5), ("bi", -0.5)])
    rows = best_of_n.rows(group, best_of_n.BestOfNOptions())
    assert not isinstance(rows, DroppedPrompt) and [row.text for row in rows] == ["be"]


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([("ba", -1.0)], "fewer than two responses"),
        ([("ba", -1.0), ("be", None)], "a response has no teacher score"),
        ([("", -1.0), ("be", -2.0)], "the teacher's favourite is empty"),
    ],
)
def test_unusable_prompts_are_dropped(samples: list[tuple[str, float | None]], reason: str) -> None:
    assert best_of_n.rows(tiny_group(samples), best_of_n.BestOfNOptions()) == DroppedPrompt(reason)


def test_a_cut_favourite_is_dropped_and_not_replaced_unless_it_may_stay() -> None:
    group = tiny_group([("ba", -2.0), ("be", -0.5)])
    cut = replace(group, samples=(group.samples[0], replace(group.samples[1], finished=False)))
    assert best_of_n.rows(cut, best_of_n.BestOfNOptions()) == DroppedPrompt("the teacher's favourite is unfinished")
    (row,) = best_of_n.rows(cut, best_of_n.BestOfNOptions(keep_unfinished=True))
    assert (row.text, row.finished) == ("be", False)
