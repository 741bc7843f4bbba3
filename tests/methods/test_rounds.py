"""What is true of rounds over blocks of responses (``harness/plan/plan.py``), shown by enumerating all
rankings.

Six responses in two blocks of three. A full ranking of the six contains a ranking of each block; block rankings are
written as permutations of the block's own items.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from methods import plackett_luce

BLOCKS = ((0, 1, 2), (3, 4, 5))
SCALES = [0.3, 3.0, 10.0]


def scores(scale: float, seed: int) -> torch.Tensor:
    return scale * torch.randn(1, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blockwise(values: torch.Tensor) -> torch.Tensor:
    """[36] log-probabilities of the pairs of block rankings, as the product of two Plackett-Luce distributions."""
    first, second = (plackett_luce.all_log_probabilities(values[:, list(block)])[0] for block in BLOCKS)
    return (first[:, None] + second[None, :]).flatten()


def marginal(values: torch.Tensor) -> torch.Tensor:
    """[36] the same from all 720 rankings of six: summed by the rankings of the blocks that they contain."""
    full = plackett_luce.all_log_probabilities(values)[0].exp()
    orders = {order: place for place, order in enumerate(itertools.permutations(range(3)))}
    total = torch.zeros(36, dtype=torch.float64)
    for ranking, probability in zip(itertools.permutations(range(6)), full, strict=True):
        inside = [tuple(item - block[0] for item in ranking if item in block) for block in BLOCKS]
        total[6 * orders[inside[0]] + orders[inside[1]]] += probability
    return total


def kl(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p.exp() * (p - q)).sum())


def jsd(p: torch.Tensor, q: torch.Tensor) -> float:
    m = torch.logaddexp(p, q) - math.log(2)
    return (kl(p, m) + kl(q, m)) / 2


def parts(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    return scores(scale, 1), scores(scale, 2)


@pytest.mark.parametrize("scale", SCALES)
def test_rankings_of_disjoint_blocks_are_independent_and_plackett_luce(scale: float) -> None:
    """So a KL is exactly the sum over blocks, and the sum of their JSDs an upper bound of the joint JSD, which is below
    that of all responses: comparisons between blocks are dropped."""
    teacher, student = parts(scale)
    torch.testing.assert_close(marginal(teacher), blockwise(teacher).exp(), atol=1e-14, rtol=0)
    blocks = [(teacher[:, list(block)], student[:, list(block)]) for block in BLOCKS]
    total = sum(plackett_luce.kl(p, q).item() for p, q in blocks)
    assert kl(blockwise(teacher), blockwise(student)) == pytest.approx(total, rel=1e-12)
    joint = jsd(blockwise(teacher), blockwise(student))
    # an upper bound, and not an equality as the paper's appendix has it
    assert joint < sum(plackett_luce.jsd(p, q).item() for p, q in blocks) - 1e-6
    assert joint <= min(math.log(2), plackett_luce.jsd(teacher, student).item()) + 1e-12


def test_the_sum_can_exceed_what_a_jsd_can_be() -> None:
    """Opposite rankings in both blocks: each JSD near log 2, their sum near 2 log 2, the joint one at most log 2."""
    teacher = torch.tensor([[20.0, 10.0, 0.0, 20.0, 10.0, 0.0]], dtype=torch.float64)
    student = teacher.flip(1)
    total = sum(plackett_luce.jsd(teacher[:, list(b)], student[:, list(b)]).item() for b in BLOCKS)
    assert total > 1.99 * math.log(2)
    assert jsd(blockwise(teacher), blockwise(student)) <= math.log(2) + 1e-12


def test_one_block_that_agrees_gives_equality() -> None:
    """Teacher and student agree on the second block: then the mixture is a product, and nothing is lost."""
    teacher, student = parts(3.0)
    student = torch.cat([student[:, :3], teacher[:, 3:] + 1.7], 1)
    first = plackett_luce.jsd(teacher[:, :3], student[:, :3]).item()
    assert jsd(blockwise(teacher), blockwise(student)) == pytest.approx(first, rel=1e-12)
