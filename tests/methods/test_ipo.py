"""IPO against arithmetic done by hand.

Chosen: log-probabilities -1, -2 (sum -3), reference -4; rejected: -5, reference -4.5. Log ratios: 1 and -0.5.
    per token: h = 1/2 - (-0.5) = 1;      beta = 1/4: target 1 / (2/4) = 2:  L = (1 - 2)^2 = 1
    summed:    h = 1 - (-0.5) = 1.5;                                         L = (1.5 - 2)^2 = 0.25
"""

import pytest
import torch

from harness.errors import UserError
from methods import ipo
from tests.tiny import tiny_batch

LOGP = [-1.0, -2.0, -5.0]


def loss_of(logp: torch.Tensor, reference: list[float], config: ipo.IpoOptions) -> torch.Tensor:
    (term,) = ipo.loss(tiny_batch([2, 1], signals={"reference": reference}), {"logp": logp}, config).terms
    assert term.per == "prompt"
    return term.total


def test_loss_by_hand() -> None:
    logp = torch.tensor(LOGP)
    assert loss_of(logp, [-4.0, -4.5], ipo.IpoOptions(beta=0.25)).item() == pytest.approx(1.0)
    assert loss_of(logp, [-4.0, -4.5], ipo.IpoOptions(beta=0.25, reduction="sum")).item() == pytest.approx(0.25)


def test_loss_at_the_reference_is_the_squared_target_and_the_gradient_prefers_the_chosen() -> None:
    """h = 0, target 2: L = 4, dL/dh = 2 (0 - 2) = -4; a chosen token counts 1/2, the rejected one -1: -2, -2, +4."""
    logp = torch.tensor(LOGP, requires_grad=True)
    loss = loss_of(logp, [-3.0, -5.0], ipo.IpoOptions(beta=0.25))
    loss.backward()
    assert loss.item() == pytest.approx(4.0)
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([-2.0, -2.0, 4.0])


def test_beyond_the_margin_the_loss_rises_again() -> None:
    """What sets it apart from DPO: h = 3 is as bad as h = 1 when 2 is asked for, and pulls back."""
    logp = torch.tensor([-1.0, -1.0], requires_grad=True)
    batch = tiny_batch([1, 1], signals={"reference": [-3.0, 0.0]})
    total = ipo.loss(batch, {"logp": logp}, ipo.IpoOptions(beta=0.25)).terms[0].total
    total.backward()
    assert total.item() == pytest.approx(1.0)
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([2.0, -2.0])


def test_trl_has_the_form_per_token_only() -> None:
    assert ipo.METHOD.trl is not None
    assert ipo.METHOD.trl.arguments(ipo.IpoOptions(beta=0.2)) == {"loss_type": ["ipo"], "beta": 0.2}
    with pytest.raises(UserError, match="'sum' needs backend: ours"):
        ipo.METHOD.trl.arguments(ipo.IpoOptions(reduction="sum"))
