"""Plackett-Luce distributions over rankings: exact for up to 8 items, from drawn rankings beyond.

Scores [B, n] already include beta. A set of items is a bitmask. For a ranking tau with remaining sets
R_1 = all > R_2 > ... > R_n,

    log p(tau) = sum_i s_i - sum_k LSE(R_k),    LSE(R) = log sum_{i in R} exp(s_i)

so one table of LSE over the 2^n sets serves all n! rankings. Divergences: [B, n] scores of both -> [B], nats.
"""

import hashlib
import itertools
import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import softplus

LOG2 = math.log(2.0)


def log_probability(scores: Tensor) -> Tensor:
    """[B, n] -> [B]: of the ranking 0, 1, ..., n-1 (best first)."""
    return (scores - scores.flip(1).logcumsumexp(1).flip(1)).sum(1)


def all_log_probabilities(scores: Tensor) -> Tensor:
    """[B, n] -> [B, n!], in the order of ``itertools.permutations(range(n))``."""
    table = subset_lse(scores)
    chains = _chains(scores.shape[1]).to(scores.device)
    return scores.sum(1, keepdim=True) - table[:, chains].sum(-1)


def jsd(teacher: Tensor, student: Tensor) -> Tensor:
    """Jensen-Shannon divergence, at most log 2."""
    p, q = all_log_probabilities(teacher), all_log_probabilities(student)
    # E_M[log 2 - h(sigmoid(D))] with D = log Q - log P needs no log M, and is exactly 0 for equal scores.
    d = q - p
    return 0.5 * (p.exp() * (LOG2 - softplus(d)) + q.exp() * (LOG2 - softplus(-d))).sum(1)


def ag(teacher: Tensor, student: Tensor) -> Tensor:
    """(KL(M||P) + KL(M||Q)) / 2 = E_M[log cosh(D / 2)], what PAD's released code minimises. Unbounded."""
    p, q = all_log_probabilities(teacher), all_log_probabilities(student)
    size = (q - p).abs()
    # cosh overflows from |D| = 1420 on in float64; the sum of its two exponentials, less the larger one, does not.
    log_cosh_half = 0.5 * size + torch.log1p((-size).exp()) - LOG2
    return 0.5 * ((p.exp() + q.exp()) * log_cosh_half).sum(1)


def kl(p_scores: Tensor, q_scores: Tensor) -> Tensor:
    p, q = all_log_probabilities(p_scores), all_log_probabilities(q_scores)
    return (p.exp() * (p - q)).sum(1)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "jsd": jsd,
    "ag": ag,
    "kl_ts": kl,
    "kl_st": lambda teacher, student: kl(student, teacher),
}


def jsd_mc(teacher: Tensor, student: Tensor, noise: Tensor) -> Tensor:
    """[B]: an unbiased estimate of the JSD, with an unbiased gradient by ``student``: E_Q[ 1/2 log(Q/M) d log Q ], less
    the mean weight of the other draws. Rankings are drawn by sorting scores plus Gumbel ``noise`` [S, B, n]."""
    draws, batch, n = noise.shape
    p = teacher.detach()

    def log_p_of(scores: Tensor, order: Tensor) -> Tensor:
        chosen = scores.expand(draws, batch, n).gather(2, order).reshape(-1, n)
        return log_probability(chosen).view(draws, batch)

    # The rankings are fixed once drawn: no gradient flows through sorting, only through log_q below.
    with torch.no_grad():
        from_student, from_teacher = ((scores + noise).argsort(-1, descending=True) for scores in (student, p))
        teacher_half = 0.5 * (LOG2 - softplus(log_p_of(student, from_teacher) - log_p_of(p, from_teacher)))
        log_p = log_p_of(p, from_student)
    log_q = log_p_of(student, from_student)
    with torch.no_grad():
        weight = 0.5 * (LOG2 - softplus(log_p - log_q))
        value = (weight + teacher_half).mean(0)
        weight = weight - (weight.sum(0) - weight) / (draws - 1)
    # The surrogate has the wanted gradient and the wrong value; subtracting its detached self leaves the gradient.
    surrogate = (weight * log_q).mean(0)
    return value + surrogate - surrogate.detach()


def gumbel_noise(scores: Tensor, draws: int) -> Tensor:
    """[draws, B, n] from each prompt's ``scores`` [B, n] (data) alone: neither batch nor process changes it."""
    noise = []
    for row in scores.detach().float().cpu():
        digest = hashlib.blake2b(row.numpy().tobytes(), digest_size=8).digest()
        # manual_seed takes 63 bits: one of the digest's 64 is dropped.
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
        uniform = torch.rand(draws, len(row), generator=generator, dtype=torch.float64)
        # Clipped away from 0 and 1, where the double logarithm is infinite.
        noise.append(-(-uniform.clamp(1e-300, 1 - 1e-16).log()).log())
    return torch.stack(noise, 1).to(scores)


def subset_lse(scores: Tensor) -> Tensor:
    """[B, n] -> [B, 2^n]: LSE of every set. The empty set has -inf."""
    columns = [torch.full_like(scores[:, :1], -math.inf)]
    # Doubling: the sets with item i are the sets of items before it, each with i added.
    for i in range(scores.shape[1]):
        # The empty set is handled apart: logaddexp(-inf, x) has the right value, but not always a clean gradient.
        single = scores[:, i : i + 1]
        table = torch.cat(columns, 1)
        columns += [single, torch.logaddexp(table[:, 1:], single)]
    return torch.cat(columns, 1)


@lru_cache(maxsize=8)
def _chains(n: int) -> Tensor:
    full = (1 << n) - 1
    chains = []
    for order in itertools.permutations(range(n)):
        prefixes = itertools.accumulate((1 << item for item in order[:-1]), initial=0)
        chains.append([full ^ items for items in prefixes])
    return torch.tensor(chains)
