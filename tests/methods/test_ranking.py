"""What preference methods log of pairs: by hand."""

from __future__ import annotations

import torch

from methods import ranking


def test_pairs_without_a_difference_count_half() -> None:
    """Two in order, one the other way, one tie: 2 + 0.5. At the start, where student = reference, all tie: n / 2."""
    assert ranking.in_order(torch.tensor([0.3, 1e-6, -2.0, 0.0])) == 2.5
    assert ranking.in_order(torch.zeros(4)) == 2
