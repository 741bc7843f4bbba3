"""ORPO against arithmetic done by hand.

Chosen: probabilities 1/2, 1/2 (mean log-probability log 1/2, odds 1); rejected: 1/4 (odds 1/3). lambda = 1/2.
    log odds ratio = log 1 - log(1/3) = log 3;  -log sigmoid(log 3) = log(1 + 1/3) = 0.287682;  times 1/2 = 0.143841
    NLL of the chosen: 2 log 2 = 1.386294, divided by the chosen tokens alone
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import orpo
from tests.tiny import tiny_batch

ROLES = ("chosen", "rejected")


def parts(logp: torch.Tensor, config: orpo.OrpoOptions) -> dict[str, torch.Tensor]:
    loss = orpo.loss(tiny_batch([2, 1], roles=ROLES), {"logp": logp}, config)
    assert {term.name: term.per for term in loss.terms} == {"sft": "token:chosen", "odds": "prompt"}
    return {term.name: term.total for term in loss.terms}


def test_loss_by_hand() -> None:
    found = parts(torch.tensor([0.5, 0.5, 0.25]).log(), orpo.OrpoOptions(weight=0.5))
    assert found["odds"].item() == pytest.approx(0.143841, abs=1e-6)
    assert found["sft"].item() == pytest.approx(1.386294, abs=1e-6)


def test_gradient_by_hand() -> None:
    """d log odds / d r = 1 / (1 - e^r): 2 at r = log 1/2, 4/3 at log 1/4. -dL/d(ratio) = lambda sigmoid(-log 3).
    With lambda = 1 that is 1/4: chosen tokens -1/4 * 2 * 1/2 - 1 (NLL) = -1.25 each, the rejected one 1/4 * 4/3."""
    logp = torch.tensor([0.5, 0.5, 0.25]).log().requires_grad_()
    torch.stack(list(parts(logp, orpo.OrpoOptions(weight=1.0)).values())).sum().backward()
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([-1.25, -1.25, 1 / 3], abs=1e-6)


@settings(max_examples=100)
@given(st.floats(-700, -1e-12))
def test_log_odds_over_the_whole_range(reward: float) -> None:
    """log(e^r / (1 - e^r)) = -log(e^-r - 1), for mean log-probabilities from almost certain to hopeless."""
    expected = -(math.log(math.expm1(-reward)) if reward > -500 else -reward)
    found = orpo.log_odds(torch.tensor([reward], dtype=torch.float64)).item()
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_a_certain_response_has_finite_gradients() -> None:
    """r = 0 has infinite odds; float32 rounds log-probabilities of certain tokens to it."""
    reward = torch.tensor([0.0, -1e-30, -0.5, -200.0], requires_grad=True)
    orpo.log_odds(reward).sum().backward()
    assert reward.grad is not None and torch.isfinite(reward.grad).all()
