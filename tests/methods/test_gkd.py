"""GKD against arithmetic done by hand.

q = (1/2, 1/2), p = (3/4, 1/4), beta = 1/4: m = (3/4 * 1/4 + 1/2 * 3/4, 1/4 * 1/4 + 1/2 * 3/4) = (9/16, 7/16).
    KL(p||m) = 3/4 log(4/3) + 1/4 log(4/7) = 0.215762 - 0.139904 = 0.075858
    KL(q||m) = 1/2 log(8/9) + 1/2 log(8/7) = -0.058892 + 0.066766 = 0.007874
    JSD_1/4  = 1/4 * 0.075858 + 3/4 * 0.007874 = 0.018965 + 0.005906 = 0.024870
Ends: beta = 0: KL(p||q) = 0.130812, beta = 1: KL(q||p) = 0.143841 (see test_kd.py).
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.contracts.method import DroppedPrompt
from methods import gkd, minillm
from tests.tiny import tiny_batch, tiny_group

STUDENT, TEACHER = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])
LABEL = torch.tensor([0])


@pytest.mark.parametrize(("beta", "value"), [(0.25, 0.024870), (0.0, 0.130812), (1.0, 0.143841)])
def test_divergence_by_hand(beta: float, value: float) -> None:
    found = gkd.token_terms(STUDENT, LABEL, TEACHER, gkd.GkdOptions(beta=beta))
    assert found["jsd"].item() == pytest.approx(value, abs=1e-6)


def test_temperature_divides_both_models_and_nothing_else() -> None:
    """tau = 2, beta = 0: KL = 0.036341 (see test_kd.py), without the factor 4."""
    found = gkd.token_terms(STUDENT, LABEL, TEACHER, gkd.GkdOptions(beta=0.0, temperature=2.0))
    assert found["jsd"].item() == pytest.approx(0.036341, abs=1e-6)


def test_loss_is_a_sum_over_tokens() -> None:
    (term,) = gkd.loss(tiny_batch([2, 1], prompts=2), {"jsd": torch.tensor([0.1, 0.2, 0.4])}, gkd.GkdOptions()).terms
    assert term.per == "token" and term.total.item() == pytest.approx(0.7)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.01, 0.99), st.floats(0.1, 20))
def test_properties_of_the_divergence(seed: int, beta: float, scale: float) -> None:
    """In [0, entropy of the coin (beta, 1 - beta)], mirrored by swapping models and beta, 0 for equal models."""
    generator = torch.Generator().manual_seed(seed)
    p, q = (scale * torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)).log_softmax(-1)
    found = gkd.divergence(p, q, beta)
    coin = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
    assert (found >= -1e-15).all() and (found <= coin + 1e-12).all()
    torch.testing.assert_close(found, gkd.divergence(q, p, 1 - beta), atol=1e-12, rtol=0)
    assert gkd.divergence(p, p, beta).abs().max() < 1e-15


def test_the_ends_are_limits() -> None:
    """JSD_beta / beta -> KL(p||q) as beta -> 0, and JSD_beta / (1 - beta) -> KL(q||p) as beta -> 1."""
    q, p = (logits.double().log_softmax(-1) for logits in (STUDENT, TEACHER))
    small = 1e-6
    assert (gkd.divergence(p, q, small) / small).item() == pytest.approx(0.130812, abs=2e-6)
    assert (gkd.divergence(p, q, 1 - small) / small).item() == pytest.approx(0.143841, abs=2e-6)


def test_on_policy_reverse_kl_is_minillm_without_its_long_term() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 9, generator=generator)
    labels = torch.zeros(6, dtype=torch.long)
    ours = gkd.token_terms(student, labels, teacher, gkd.GkdOptions(beta=1.0))["jsd"]
    torch.testing.assert_close(ours, minillm.token_terms(student, labels, teacher, minillm.MinillmOptions())["kl"])


def test_rows_and_share() -> None:
    assert gkd.METHOD.rollouts is gkd.ROLLOUTS and gkd.METHOD.rows is gkd.rows
    mixed, live = gkd.GkdOptions(on_policy=0.3), gkd.GkdOptions(on_policy=1.0)
    assert gkd.ROLLOUTS.share(mixed) == 0.3 and gkd.ROLLOUTS.sampling(mixed) == (1.0, 0.0)
    rows = gkd.rows(tiny_group([], golden="ba be"), mixed)
    assert not isinstance(rows, DroppedPrompt) and [row.text for row in rows] == ["ba be"]
    assert gkd.rows(tiny_group([]), mixed) == DroppedPrompt("no golden answer")
    assert gkd.rows(tiny_group([]), live) == ()
