"""What the methods share that learn from stored distributions: a vocabulary folded to k tokens and one for the rest.

A teacher's store (``harness.contracts.method.TopK``) keeps k tokens at each position and the mass of all others. The
student's distribution is folded in the same way, and the two are compared over k + 1 outcomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.method import TopK

FLOOR = 1e-7
"""Smallest mass of the rest, as in the store: below it float32 cannot tell it from nothing, and no gradient flows."""


def bins(top: TopK) -> Tensor:
    """[c, k + 1] the teacher's log-probabilities of the k tokens and of all others together."""
    import torch

    return torch.cat([top.logps, top.rest[:, None]], 1)


def fold(logps: Tensor, top: TopK) -> Tensor:
    """[c, V] log-probabilities -> [c, k + 1]: those of the teacher's k tokens and of all others together."""
    import torch

    kept = logps.gather(-1, top.ids)
    inside = kept.double().logsumexp(-1).exp()  # float64: a small rest is the difference of two numbers near 1
    rest = torch.log1p(-inside.clamp(max=1 - FLOOR)).to(kept.dtype)
    return torch.cat([kept, rest[:, None]], 1)


def forward_kl(logps: Tensor, top: TopK) -> Tensor:
    """[c] KL(teacher || student) over the k + 1 outcomes, nats; ``logps``: the student's, [c, V].

    A lower bound of the KL over the whole vocabulary, equal to it where k is the vocabulary.
    """
    p, q = bins(top), fold(logps, top)
    return (p.exp() * (p - q)).sum(-1)
