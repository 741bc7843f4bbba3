"""Folding a vocabulary to k tokens and the rest, against arithmetic done by hand.

q = (0.5, 0.3, 0.15, 0.05), the teacher keeps tokens 2 and 0: bins (0.15, 0.5) and the rest 0.3 + 0.05 = 0.35.
p = (0.2, 0.1, 0.6, 0.1), most probable tokens 2 and 0: bins (0.6, 0.2) and the rest 0.2.
    KL(p||q) = 0.6 log(0.6/0.15) + 0.2 log(0.2/0.5) + 0.2 log(0.2/0.35)
             = 0.831777 - 0.183258 - 0.111923 = 0.536596
"""

import math

import pytest
import torch

from harness.contracts.method import TopK
from harness.training.stored_signals import rest_of
from methods.dckd import forward_kl
from methods.kd import FLOOR, bins, fold

Q = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
P = torch.tensor([[0.2, 0.1, 0.6, 0.1]]).log()


def top(logps: torch.Tensor, k: int) -> TopK:
    """What a store keeps of [c, V] log-probabilities."""
    kept = logps.topk(k)
    return TopK(kept.indices, kept.values, rest_of(kept.values))


def test_bins_by_hand() -> None:
    stored = top(P, 2)
    assert stored.ids.tolist() == [[2, 0]]
    torch.testing.assert_close(bins(stored).exp(), torch.tensor([[0.6, 0.2, 0.2]]))
    torch.testing.assert_close(fold(Q, stored).exp(), torch.tensor([[0.15, 0.5, 0.35]]))


def test_divergence_by_hand() -> None:
    assert forward_kl(Q, top(P, 2)).item() == pytest.approx(0.536596, abs=1e-6)


def test_folding_only_loses_and_all_tokens_lose_nothing() -> None:
    """Merging outcomes never raises a KL (log-sum inequality); with k = V the rest is at its floor, 1e-7."""
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(20, 9, generator=generator).log_softmax(-1) for _ in range(2))
    whole = (p.exp() * (p - q)).sum(-1)
    previous = torch.zeros(20)
    for k in range(1, 9):
        folded = forward_kl(q, top(p, k))
        assert bool((folded <= whole + 1e-6).all())
        assert bool((folded >= previous - 1e-6).all())  # a finer partition tells them apart better
        previous = folded
    torch.testing.assert_close(forward_kl(q, top(p, 9)), whole, atol=1e-5, rtol=1e-5)


def test_the_rest_has_a_floor() -> None:
    certain = torch.tensor([[1.0, 1e-12, 1e-12]]).log()
    assert top(certain, 1).rest_logps.item() == pytest.approx(math.log(FLOOR), abs=1e-5)
    assert fold(certain, top(certain, 1))[0, 1].item() == pytest.approx(math.log(FLOOR), abs=1e-5)


def test_gradient_is_that_of_the_folded_divergence() -> None:
    """d KL / d logit_v = q_v - p_v for kept tokens; a token of the rest shares the rest's p in proportion to q."""
    logits = torch.tensor([[0.3, -0.2, 0.1, 0.7, -1.0]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.05, 0.5, 0.2, 0.15, 0.1]], dtype=torch.float64).log()
    stored = top(teacher, 2)  # tokens 1 and 2; the rest 0.3
    forward_kl(logits.log_softmax(-1), stored).sum().backward()
    q = logits.detach().softmax(-1)[0]
    share = q / q[[0, 3, 4]].sum() * 0.3
    expected = q - torch.stack([share[0], torch.tensor(0.5), torch.tensor(0.2), share[3], share[4]])
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0], expected)
