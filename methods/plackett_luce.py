"""Plackett-Luce distributions over rankings: exact, stable, differentiable.

Scores [B, n] already include beta. A set of items is a bitmask; bit i set: item i is not ranked yet. For a ranking
tau with remaining sets R_1 = all > R_2 > ... > R_n,

    log p(tau) = sum_i s_i - sum_k LSE(R_k),    LSE(R) = log sum_{i in R} exp(s_i)

so a ranking matters only through its chain of sets, and one table of LSE over the 2^n sets serves all n! rankings.
Each divergence takes teacher and student scores, both [B, n], and gives [B], in nats. Our own derivations; checked
against brute force in the tests.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from harness.errors import UserError

LOG2 = math.log(2.0)
GATHER_LIMIT = 8
"""Largest n for which all n! log-probabilities are held at once."""
SPLIT_LIMIT = 10
"""Largest n for JSD and AG: rankings are split in the middle and streamed."""
SUBSET_LIMIT = 14
"""Largest n for KL by dynamic programming over sets."""
STREAM = 1 << 22
"""Rankings (over the whole batch) held at once while streaming."""

Parts = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(log P, log Q) of some rankings -> their shares of a divergence, and its derivative by each log Q."""


def log_probability(scores: Tensor) -> Tensor:
    """[B, n] -> [B]: log-probability of the ranking 0, 1, ..., n-1 (best first)."""
    return (scores - scores.flip(1).logcumsumexp(1).flip(1)).sum(1)


def all_log_probabilities(scores: Tensor) -> Tensor:
    """[B, n] -> [B, n!], in the order of ``itertools.permutations(range(n))``."""
    table = subset_lse(scores)
    chains = _chains(scores.shape[1]).to(scores.device)
    return scores.sum(1, keepdim=True) - table[:, chains].sum(-1)


def jsd(teacher: Tensor, student: Tensor) -> Tensor:
    """Jensen-Shannon divergence, at most log 2. No gradient to ``teacher`` above n = 8.

    Raises UserError above n = 10, where n! is out of reach (``methods/plackett_luce_large.py`` goes on).
    """
    n = student.shape[1]
    if n <= GATHER_LIMIT:
        return jsd_gather(teacher, student)
    if n <= SPLIT_LIMIT:
        return split(teacher, student, jsd_parts)
    raise UserError(f"the JSD of rankings takes at most {SPLIT_LIMIT} responses, not {n}; kl_ts takes {SUBSET_LIMIT}")


def jsd_gather(teacher: Tensor, student: Tensor) -> Tensor:
    """JSD over the full table, as E_M[log 2 - h(sigmoid(D))], D = log Q - log P: exactly 0 for equal scores."""
    p, q = all_log_probabilities(teacher), all_log_probabilities(student)
    d = q - p
    return 0.5 * (p.exp() * (LOG2 - softplus(d)) + q.exp() * (LOG2 - softplus(-d))).sum(1)


def ag(teacher: Tensor, student: Tensor) -> Tensor:
    """(KL(M||P) + KL(M||Q)) / 2 = E_M[log cosh(D / 2)], what PAD's released code minimises. Unbounded.

    No gradient to ``teacher`` above n = 8. Raises UserError above n = 10.
    """
    n = student.shape[1]
    if n <= GATHER_LIMIT:
        return ag_gather(teacher, student)
    if n <= SPLIT_LIMIT:
        return split(teacher, student, ag_parts)
    raise UserError(f"the AG divergence of rankings takes at most {SPLIT_LIMIT} responses, not {n}")


def ag_gather(teacher: Tensor, student: Tensor) -> Tensor:
    """AG over the full table."""
    p, q = all_log_probabilities(teacher), all_log_probabilities(student)
    return 0.5 * ((p.exp() + q.exp()) * log_cosh_half(q - p)).sum(1)


def log_cosh_half(d: Tensor) -> Tensor:
    """log cosh(d / 2) without overflow."""
    size = d.abs()
    return 0.5 * size + torch.log1p((-size).exp()) - LOG2


def split(teacher: Tensor, student: Tensor, parts: Parts) -> Tensor:
    """A sum over rankings, split after n // 2 picks: log p = U[first half] + V[second half], per set left in between.

    Streams over these sets and keeps the closed-form gradient by log Q (``parts``), so that nothing of size n! is held.
    """
    with torch.no_grad():
        halves = _halves(teacher)
    apply: Any = _Split.apply
    result: Tensor = apply(parts, *halves, *_halves(student))
    return result


def jsd_parts(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """JSD from log P and log Q of some rankings: each one's share of it, and d JSD / d log Q = Q log(Q/M) / 2."""
    d = q - p
    weight = 0.5 * q.exp() * (LOG2 - softplus(-d))
    return weight + 0.5 * p.exp() * (LOG2 - softplus(d)), weight


def ag_parts(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """AG likewise; d AG / d log Q = Q log cosh(D/2) / 2 + (Q - P) / 4."""
    cosh, big_p, big_q = log_cosh_half(q - p), p.exp(), q.exp()
    return 0.5 * (big_p + big_q) * cosh, 0.5 * big_q * cosh + 0.25 * (big_q - big_p)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL between the distributions of two score vectors = sum_R f_p(R) KL(softmax_p(R) || softmax_q(R)).

    f_p(R): probability that R is left at some point. All terms are non-negative; cost n 2^n, n <= 14.
    """
    n = p.shape[1]
    if n > SUBSET_LIMIT:
        raise UserError(f"the KL of rankings takes at most {SUBSET_LIMIT} responses, not {n}")
    member = _members(n).to(p.device)
    table_p, table_q = subset_lse(p)[:, 1:], subset_lse(q)[:, 1:]
    log_p = (p[:, None] - table_p[..., None]).masked_fill(~member[1:], 0)
    log_q = (q[:, None] - table_q[..., None]).masked_fill(~member[1:], 0)
    picks = (log_p.exp() * (log_p - log_q) * member[1:]).sum(-1)
    return (visits(p)[:, 1:] * picks).sum(1)


def visits(scores: Tensor) -> Tensor:
    """[B, 2^n]: probability that each set is the remaining set at some point of the ranking."""
    n = scores.shape[1]
    table = subset_lse(scores)
    reach = scores.new_zeros(len(scores), 1 << n)
    reach[:, -1] = 1
    for level in levels(n):
        sets, parents, items = (index.to(scores.device) for index in level)
        pick = (scores[:, items] - table[:, parents]).exp()
        reach = reach.index_copy(1, sets, (reach[:, parents] * pick).sum(-1))
    return reach


def subset_lse(scores: Tensor) -> Tensor:
    """[B, n] -> [B, 2^n]: LSE of every set, by doubling. The empty set has -inf."""
    columns = [torch.full_like(scores[:, :1], -math.inf)]
    for i in range(scores.shape[1]):
        # The empty set is handled apart: logaddexp(-inf, x) has the right value, but not always a clean gradient.
        own = scores[:, i : i + 1]
        table = torch.cat(columns, 1)
        columns += [own, torch.logaddexp(table[:, 1:], own)]
    return torch.cat(columns, 1)


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: Parts, ua: Tensor, va: Tensor, ub: Tensor, vb: Tensor) -> Tensor:
        total = ub.new_zeros(len(ub))
        grad_u, grad_v = torch.zeros_like(ub), torch.zeros_like(vb)
        chunk = max(1, STREAM // (len(ub) * ub.shape[2] * vb.shape[2]))
        for start in range(0, ub.shape[1], chunk):
            part = slice(start, start + chunk)
            p = ua[:, part, :, None] + va[:, part, None]
            q = ub[:, part, :, None] + vb[:, part, None]
            share, weight = parts(p, q)
            total += share.sum((1, 2, 3))
            grad_u[:, part], grad_v[:, part] = weight.sum(3), weight.sum(2)
        ctx.save_for_backward(grad_u, grad_v)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None, Tensor, Tensor]:
        grad_u, grad_v = ctx.saved_tensors
        return None, None, None, grad[:, None, None] * grad_u, grad[:, None, None] * grad_v


def _halves(scores: Tensor) -> tuple[Tensor, Tensor]:
    """U [B, C, h!], V [B, C, (n-h)!]: log-probability parts before and after each of the C middle sets."""
    first, second = (chains.to(scores.device) for chains in _split_chains(scores.shape[1]))
    table = subset_lse(scores)
    return scores.sum(1)[:, None, None] - table[:, first].sum(-1), -table[:, second].sum(-1)


def _chain(left: int, order: tuple[int, ...]) -> list[int]:
    """Remaining sets before each pick of ``order``, starting from the set ``left``."""
    sets = []
    for item in order:
        sets.append(left)
        left ^= 1 << item
    return sets


@lru_cache(maxsize=16)
def _chains(n: int) -> Tensor:
    """[n!, n] remaining set before each pick."""
    return torch.tensor([_chain((1 << n) - 1, order) for order in itertools.permutations(range(n))])


@lru_cache(maxsize=4)
def _split_chains(n: int) -> tuple[Tensor, Tensor]:
    """[C, h!, h] and [C, (n-h)!, n-h]: chains before and after each set that can be left after h = n // 2 picks."""
    full = (1 << n) - 1
    first, second = [], []
    for left in itertools.combinations(range(n), n - n // 2):
        picked = [item for item in range(n) if item not in left]
        middle = sum(1 << item for item in left)
        first.append([_chain(full, order) for order in itertools.permutations(picked)])
        second.append([_chain(middle, order) for order in itertools.permutations(left)])
    return torch.tensor(first), torch.tensor(second)


@lru_cache(maxsize=16)
def levels(n: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For sets of n-1, ..., 0 items: the sets [C], the sets one pick earlier [C, k], and the item picked [C, k]."""
    levels = []
    for size in range(n - 1, -1, -1):
        sets = [sum(1 << i for i in items) for items in itertools.combinations(range(n), size)]
        missing = [[i for i in range(n) if not s >> i & 1] for s in sets]
        parents = [[s | 1 << i for i in items] for s, items in zip(sets, missing, strict=True)]
        levels.append((torch.tensor(sets), torch.tensor(parents), torch.tensor(missing)))
    return levels


@lru_cache(maxsize=16)
def _members(n: int) -> Tensor:
    """[2^n, n] bool: whether a set holds an item."""
    return (torch.arange(1 << n)[:, None] >> torch.arange(n) & 1).bool()
