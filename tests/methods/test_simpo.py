"""SimPO against arithmetic done by hand.

beta = 2, gamma/beta = 1/2 (gamma = 1); chosen -1, -2 (mean -1.5), rejected -4:
    L = -log sigmoid(2 * 2.5 - 1) = log(1 + e^-4) = 0.018150
Equal means: L = log(1 + e^gamma); beta = 10, gamma/beta = 0.3: log(1 + e^3) = 3.048587.
"""

import pytest
import torch

from methods import pad_vpd, simpo
from tests.tiny import tiny_batch


def loss_of(logp: list[float], config: simpo.SimpoOptions) -> float:
    (term,) = simpo.loss(tiny_batch([2, 1]), {"logp": torch.tensor(logp)}, config).terms
    assert term.per == "prompt"
    return term.total.item()


def test_loss_by_hand() -> None:
    assert loss_of([-1.0, -2.0, -4.0], simpo.SimpoOptions(beta=2.0, gamma_beta_ratio=0.5)) == pytest.approx(
        0.018150, abs=1e-6
    )
    assert loss_of([-2.0, -2.0, -2.0], simpo.SimpoOptions(gamma_beta_ratio=0.3)) == pytest.approx(3.048587, abs=1e-6)


def test_gradient_prefers_the_chosen_and_is_shared_over_its_tokens() -> None:
    """At equal means, gamma = 0: dL/dmargin = -1/2; chosen tokens -beta/2/2 each, the rejected one +beta/2."""
    logp = torch.tensor([-2.0, -2.0, -2.0], requires_grad=True)
    config = simpo.SimpoOptions(beta=4.0, gamma_beta_ratio=0.0)
    simpo.loss(tiny_batch([2, 1]), {"logp": logp}, config).terms[0].total.backward()
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([-1.0, -1.0, 2.0])


def test_without_margin_it_is_the_ranking_loss_of_two() -> None:
    logp = torch.tensor([-1.0, -2.0, -4.0])
    batch = tiny_batch([2, 1], signals={"score": [0.0, -1.0]})
    ranking = pad_vpd.loss(batch, {"logp": logp}, pad_vpd.PadVpdOptions(beta=3.0)).terms[0].total
    assert loss_of(logp.tolist(), simpo.SimpoOptions(beta=3.0, gamma_beta_ratio=0.0)) == pytest.approx(
        ranking.item(), rel=1e-5
    )
