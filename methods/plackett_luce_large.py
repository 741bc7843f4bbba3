"""The JSD of Plackett-Luce distributions beyond n = 10, where n! rankings are out of reach.

``jsd_cf`` rests on one fact: D(tau) = log Q(tau) - log P(tau) is a sum along the chain of remaining sets of a ranking,
so its characteristic function phi(t) = E[e^{itD}] is a dynamic program over sets. With h the binary entropy,

    JSD = log 2 - E_M[ h(sigmoid(D)) ] = log 2 - (1/2 pi) Integral hhat(t) Re phi_M(t) dt,
    hhat(t) = -(1/t) d/dt [ pi t / sinh(pi t) ]        (Fourier transform of h(sigmoid(.)); decays like e^{-pi |t|})

by the trapezoid rule, which is spectrally accurate here once the step is below 2 pi / (largest |D| + a margin). Cost
K n 2^n for K of some 100 values of t. ``jsd_mc`` draws rankings instead, for any n. Our own derivations; checked
against enumeration in the tests. Notation and shapes as in ``methods/plackett_luce.py``.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils.checkpoint import checkpoint

from harness.errors import UserError
from methods.plackett_luce import LOG2, SUBSET_LIMIT, levels, log_probability, subset_lse

TOLERANCE = 1e-13
NUMBERS = 1 << 21
"""Complex numbers of the set program (over batch and frequencies) held at once."""


def jsd_cf(teacher: Tensor, student: Tensor) -> Tensor:
    """[B, n] each -> [B], the JSD to about 1e-13 (in float64; float32 is converted). No gradient to ``teacher``.

    Raises UserError above n = 14.
    """
    n = student.shape[1]
    if n > SUBSET_LIMIT:
        raise UserError(f"the JSD by its characteristic function takes at most {SUBSET_LIMIT} responses, not {n}")
    a, b = teacher.detach().double(), student.double()
    tables = subset_lse(a), subset_lse(b)
    margin = -math.log(TOLERANCE) + math.log(-math.log(TOLERANCE)) + 2
    step = 2 * math.pi / (largest_difference(a, b, tables) + margin)
    count = math.ceil((-math.log(TOLERANCE) + 6) / math.pi / step) + 1
    times = torch.arange(count, dtype=a.dtype, device=a.device) * step
    weights = entropy_transform(times) * step / math.pi
    weights[0] /= 2
    entropy = b.new_zeros(len(b))
    size = max(1, NUMBERS // (len(b) * n << n))
    for start in range(0, count, size):
        part = slice(start, start + size)
        share = checkpoint(_entropy_share, a, b, times[part], weights[part], use_reentrant=False)
        entropy = entropy + share
    return (LOG2 - entropy).to(student.dtype)


def _entropy_share(a: Tensor, b: Tensor, times: Tensor, weights: Tensor) -> Tensor:
    """[B]: what some frequencies add to E_M[h(sigmoid(D))]."""
    table_a, table_b = subset_lse(a), subset_lse(b)
    cost = torch.cat([table_a.new_zeros(len(a), 1), (table_b - table_a)[:, 1:]], 1)
    factor = torch.polar(torch.ones((), dtype=a.dtype, device=a.device), -times[:, None, None] * cost)  # [K, B, 2^n]
    constant = torch.polar(torch.ones((), dtype=a.dtype, device=a.device), times[:, None] * (b - a).sum(1))
    total = b.new_zeros(len(b))
    for scores, table in ((a, table_a), (b, table_b)):
        phi = torch.zeros_like(factor)
        phi[..., -1] = 1
        for level in levels(scores.shape[1]):
            sets, parents, items = (index.to(scores.device) for index in level)
            pick = (scores[:, items] - table[:, parents]).exp().to(phi.dtype)
            phi = phi.index_copy(2, sets, (phi[..., parents] * factor[..., parents] * pick).sum(-1))
        total = total + 0.5 * (weights[:, None] * (phi[..., 0] * constant).real).sum(0)
    return total


@torch.no_grad()
def largest_difference(a: Tensor, b: Tensor, tables: tuple[Tensor, Tensor]) -> float:
    """max over rankings and the batch of |log Q - log P|, exact: the longest and shortest chains of sets."""
    cost = tables[1] - tables[0]
    high, low = torch.zeros_like(cost), torch.zeros_like(cost)
    for level in levels(a.shape[1]):
        sets, parents, _ = (index.to(a.device) for index in level)
        high[:, sets] = (high[:, parents] - cost[:, parents]).amax(-1)
        low[:, sets] = (low[:, parents] - cost[:, parents]).amin(-1)
    constant = (b - a).sum(1)
    return float(torch.maximum((constant + high[:, 0]).abs(), (constant + low[:, 0]).abs()).max())


def entropy_transform(times: Tensor) -> Tensor:
    """hhat(t) for t >= 0: pi^2/3 at 0, a series near it, and elsewhere the closed form without overflow."""
    x = math.pi * times
    far = x > 1e-2
    y = torch.where(far, x, 1.0)
    decay = (-y).exp()
    sinh, cosh = (1 - decay**2) / 2, (1 + decay**2) / 2  # both times e^-y
    closed = math.pi**2 * decay * (y * cosh - sinh) / (sinh**2 * y)
    series = math.pi**2 * (1 / 3 - 7 * x**2 / 90 + 31 * x**4 / 2520)
    return torch.where(far, closed, series)


def jsd_mc(teacher: Tensor, student: Tensor, noise: Tensor) -> Tensor:
    """[B]: an unbiased estimate of the JSD, with an unbiased estimate of its gradient by ``student``.

    Rankings are drawn from both distributions by sorting scores plus Gumbel ``noise`` [S, B, n]. The gradient is
    E_Q[ 1/2 log(Q/M) d log Q ], with the mean weight of the other draws taken off each (leave one out).
    """
    draws, batch, n = noise.shape
    p = teacher.detach()

    def ranked(scores: Tensor, order: Tensor) -> Tensor:
        chosen = scores.expand(draws, batch, n).gather(2, order).reshape(-1, n)
        return log_probability(chosen).view(draws, batch)

    with torch.no_grad():
        own, other = ((scores + noise).argsort(-1, descending=True) for scores in (student, p))
        theirs = 0.5 * (LOG2 - softplus(ranked(student, other) - ranked(p, other)))
        log_p = ranked(p, own)
    log_q = ranked(student, own)
    with torch.no_grad():
        weight = 0.5 * (LOG2 - softplus(log_p - log_q))
        value = (weight + theirs).mean(0)
        weight = weight - (weight.sum(0) - weight) / (draws - 1)
    surrogate = (weight * log_q).mean(0)
    return value + surrogate - surrogate.detach()


def gumbel_noise(scores: Tensor, draws: int) -> Tensor:
    """[draws, B, n] Gumbel noise that depends on each prompt's own ``scores`` [B, n] alone.

    Those are the teacher's, which are data: neither the batch nor the process in which a prompt comes changes what is
    drawn for it. Over epochs a prompt meets the same noise again.
    """
    noise = []
    for row in scores.detach().float().cpu():
        digest = hashlib.blake2b(row.numpy().tobytes(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
        uniform = torch.rand(draws, len(row), generator=generator, dtype=torch.float64)
        noise.append(-(-uniform.clamp(1e-300, 1 - 1e-16).log()).log())
    return torch.stack(noise, 1).to(scores)
