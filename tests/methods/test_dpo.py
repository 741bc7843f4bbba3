"""DPO against arithmetic done by hand.

beta = 1/2; chosen: log-probabilities -1, -2 (sum -3), reference -4; rejected: -5, reference -4.5:
    margin = 1/2 [ (-3 + 4) - (-5 + 4.5) ] = 0.75,   L = log(1 + e^-0.75) = log 1.472367 = 0.386871
"""

import math

import pytest
import torch

from harness.contracts.method import DroppedPrompt
from methods import dpo, ranking
from tests.tiny import tiny_batch, tiny_group


def loss_of(logp: torch.Tensor, reference: list[float], config: dpo.DpoOptions) -> torch.Tensor:
    (term,) = dpo.loss(tiny_batch([2, 1], signals={"reference": reference}), {"logp": logp}, config).terms
    assert term.per == "prompt"
    return term.total


def test_loss_by_hand() -> None:
    loss = loss_of(torch.tensor([-1.0, -2.0, -5.0]), [-4.0, -4.5], dpo.DpoOptions(beta=0.5))
    assert loss.item() == pytest.approx(0.386871, abs=1e-6)


def test_loss_at_the_reference_is_log_two_and_the_gradient_prefers_the_chosen() -> None:
    """d L / d margin = -1/2, times beta: every token of the chosen row -beta/2, of the rejected +beta/2."""
    logp = torch.tensor([-1.0, -2.0, -5.0], requires_grad=True)
    loss = loss_of(logp, [-3.0, -5.0], dpo.DpoOptions(beta=0.2))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([-0.1, -0.1, 0.1])


def test_pair_is_best_and_worst_by_log_psel() -> None:
    rows = ranking.pair(tiny_group([("ba", -2.0), ("be", -0.5), ("bi", -4.0), ("bo", -0.5)]), dpo.DpoOptions())
    assert not isinstance(rows, DroppedPrompt)
    assert [(row.text, row.role) for row in rows] == [("be", "chosen"), ("bi", "rejected")]


def test_of_several_best_the_first_is_chosen_and_of_several_worst_the_last_is_rejected() -> None:
    """The ends of one ranking in which ties keep their order: most often, two responses at the floor of log p_sel."""
    floor = math.log(1e-4)
    rows = ranking.pair(tiny_group([("ba", -0.1), ("be", floor), ("bi", floor), ("bo", -0.1)]), dpo.DpoOptions())
    assert not isinstance(rows, DroppedPrompt)
    assert [(row.text, row.role) for row in rows] == [("ba", "chosen"), ("bi", "rejected")]


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([("ba", -1.0)], "fewer than two responses"),
        ([("ba", -1.0), ("be", None)], "a response has no teacher score"),
        ([("ba", -1.0), ("ba", -2.0)], "chosen and rejected responses are identical"),
        ([("ba", -1.0), ("be", -1.0)], "the teacher scores all responses the same"),
    ],
)
def test_pairs_without_a_preference_are_dropped(samples: list[tuple[str, float | None]], reason: str) -> None:
    assert ranking.pair(tiny_group(samples), dpo.DpoOptions()) == DroppedPrompt(reason)


def test_pairs_without_a_difference_count_half() -> None:
    """Two in order, one the other way, one tie: 2 + 0.5. At the start, where student = reference, all tie: n / 2."""
    assert ranking.pair_logs(torch.tensor([0.3, 1e-6, -2.0, 0.0]))["accuracy"] == 2.5
    assert ranking.pair_logs(torch.zeros(4))["accuracy"] == 2
