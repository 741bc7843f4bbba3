"""DistiLLM against arithmetic done by hand.

q = (1/2, 1/2), p = (3/4, 1/4), a = 1/2: both mixtures are m = (5/8, 3/8).
    skl  = KL(p||m) = 3/4 log(6/5) + 1/4 log(2/3) = 0.136741 - 0.101366 = 0.035375
    srkl = KL(q||m) = 1/2 log(4/5) + 1/2 log(4/3) = -0.111572 + 0.143841 = 0.032269
a = 0: KL(p||q) = 0.130812 and KL(q||p) = 0.143841 (see test_kd.py).
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import distillm, gkd
from tests.tiny import tiny_batch

STUDENT, TEACHER = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])
LABEL = torch.tensor([0])


@pytest.mark.parametrize(
    ("divergence", "skew", "value"),
    [("skl", 0.5, 0.035375), ("srkl", 0.5, 0.032269), ("skl", 0.0, 0.130812), ("srkl", 0.0, 0.143841)],
)
def test_divergence_by_hand(divergence: str, skew: float, value: float) -> None:
    config = distillm.DistillmOptions(divergence=divergence, skew=skew)  # type: ignore[arg-type]
    found = distillm.token_terms(STUDENT, LABEL, TEACHER, config)
    assert found["kl"].item() == pytest.approx(value, abs=1e-6)


def test_loss_is_a_sum_over_tokens() -> None:
    terms = {"kl": torch.tensor([0.1, 0.2, 0.4])}
    (term,) = distillm.loss(tiny_batch([2, 1], prompts=2), terms, distillm.DistillmOptions()).terms
    assert term.per == "token" and term.total.item() == pytest.approx(0.7)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.01, 0.99), st.floats(0.1, 20))
def test_properties(seed: int, skew: float, scale: float) -> None:
    """In [0, log 1/a], 0 for equal models; and GKD's divergence is a sum of two of these."""
    generator = torch.Generator().manual_seed(seed)
    p, q = (scale * torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)).log_softmax(-1)
    found = distillm.skew_kl(p, q, skew)
    assert (found >= -1e-15).all() and (found <= math.log(1 / skew) + 1e-12).all()
    assert distillm.skew_kl(p, p, skew).abs().max() < 1e-15
    parts = skew * distillm.skew_kl(p, q, skew) + (1 - skew) * distillm.skew_kl(q, p, 1 - skew)
    torch.testing.assert_close(parts, gkd.divergence(p, q, skew), atol=1e-12, rtol=0)
