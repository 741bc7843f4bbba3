"""MiniLLM against arithmetic done by hand.

Rewards to go, r = (1, 2, 3), gamma = 1/2; per token that is left:
    1 + 2/2 + 3/4 = 2.75,   2 + 3/2 = 3.5,   3;         2.75 / 3 = 0.916667,   3.5 / 2 = 1.75,   3
Clipped policy term, ratio 1.5, clip 0.2: A = 1: max(-1.5, -1.2) = -1.2;  A = -1: max(1.5, 1.2) = 1.5.
Single step, q = (1/2, 1/2), p = (3/4, 1/4): KL(q||p) = 0.143841 (see test_kd.py).
"""

import math

import pytest
import torch

from methods import minillm
from tests.tiny import tiny_batch, tiny_group


def test_discounted_rewards_by_hand() -> None:
    found = minillm.discounted_rewards(torch.tensor([1.0, 2.0, 3.0]), tiny_batch([3]), 0.5)
    torch.testing.assert_close(found, torch.tensor([2.75, 3.5, 3.0]))


@pytest.mark.parametrize("normalised", [True, False])
def test_advantages_by_hand(normalised: bool) -> None:
    """r = (1, 2, 3) as (teacher - student) * 1/s with s = 1/2; whitening: (x - mean) / sqrt(variance).

    Normalised (0.916667, 1.75, 3): mean 1.888889, variance (0.945216 + 0.019290 + 1.234568) / 3 = 0.733025,
    root 0.856169: (-1.135550, -0.162221, 1.297772). As sums (2.75, 3.5, 3): mean 3.083333, variance
    (0.111111 + 0.173611 + 0.006944) / 3 = 0.097222, root 0.311805: (-1.069045, 1.336306, -0.267261).
    """
    student = torch.tensor([-1.0, -2.0, -3.0])
    logps = {"student": student, "teacher": student + torch.tensor([0.5, 1.0, 1.5]), "behaviour": student}
    config = minillm.MinillmOptions(gamma=0.5, length_normalise=normalised)
    found = minillm.weigh(tiny_batch([3]), logps, config)["advantage"].tolist()
    expected = [-1.135550, -0.162221, 1.297772] if normalised else [-1.069045, 1.336306, -0.267261]
    assert found == pytest.approx(expected, abs=1e-5)


def test_policy_term_by_hand() -> None:
    """Weight 1.5 and logp = old give a ratio of 1.5: -1.2 + 1.5 = 0.3; the gradient of the clipped token is 0."""
    batch = tiny_batch([2], tokens={"advantage": [1.0, -1.0], "weight": [1.5, 1.5], "old": [-1.0, -1.0]})
    logp = torch.tensor([-1.0, -1.0], requires_grad=True)
    loss = minillm.loss(batch, {"logp": logp, "kl": torch.zeros(2)}, minillm.MinillmOptions())
    policy = {term.name: term for term in loss.terms}["policy"]
    assert policy.total.item() == pytest.approx(0.3) and policy.per == "token"
    policy.total.backward()
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([0.0, 1.5])


def test_policy_term_is_clipped_from_below_too() -> None:
    """Weight 0.5, clip 0.2: A = -1: max(0.5, 0.8) = 0.8, without gradient; A = 1: max(-0.5, -0.8) = -0.5."""
    batch = tiny_batch([2], tokens={"advantage": [-1.0, 1.0], "weight": [0.5, 0.5], "old": [-1.0, -1.0]})
    logp = torch.tensor([-1.0, -1.0], requires_grad=True)
    policy = minillm.loss(batch, {"logp": logp, "kl": torch.zeros(2)}, minillm.MinillmOptions()).terms[0].total
    assert policy.item() == pytest.approx(0.8 - 0.5)
    policy.backward()
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([0.0, -0.5])


def test_single_step_by_hand_and_alone() -> None:
    q, p = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    terms = minillm.token_terms(q, torch.tensor([1]), p, minillm.MinillmOptions())
    assert terms["kl"].item() == pytest.approx(0.143841, abs=1e-6)
    assert terms["logp"].item() == pytest.approx(-math.log(2))
    (only,) = minillm.loss(tiny_batch([1]), terms, minillm.MinillmOptions(long_term=False)).terms
    assert only.name == "kl" and only.total.item() == pytest.approx(0.143841, abs=1e-6)


def test_weights_are_whitened_over_the_step_and_correct_for_the_teacher_mix() -> None:
    generator = torch.Generator().manual_seed(0)
    logps = {name: -torch.rand(9, generator=generator) for name in ("behaviour", "student", "teacher")}
    weights = minillm.weigh(tiny_batch([4, 5], prompts=2), logps, minillm.MinillmOptions())
    assert weights["advantage"].mean().abs() < 1e-6
    assert weights["advantage"].var(unbiased=False).item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(weights["weight"], (logps["student"] - logps["behaviour"]).exp())


def test_teacher_equal_to_student_gives_no_advantage() -> None:
    logp = -torch.rand(6)
    weights = minillm.weigh(
        tiny_batch([6]), dict.fromkeys(("behaviour", "student", "teacher"), logp), minillm.MinillmOptions()
    )
    assert weights["advantage"].abs().max() == 0 and (weights["weight"] == 1).all()


def test_sampling_and_rows() -> None:
    rollouts = minillm.METHOD.rollouts
    assert rollouts is not None and rollouts.sampling(minillm.MinillmOptions()) == (1.0, 0.2)
    assert minillm.METHOD.rows(tiny_group([]), minillm.MinillmOptions()) == ()
