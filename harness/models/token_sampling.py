"""Drawing the next token with random numbers of the row's own, so that a response does not depend on its neighbours.

``torch.multinomial`` takes its numbers from one generator for the whole batch: with another batch size every response
would be another one. Here each response has its own seeded stream, and a token is drawn by inverting the cumulative
distribution at the stream's next number. Where only rounding differs (another batch, another width of padding), the
same response comes out unless a number falls within the rounding of a boundary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def streams(seed: int, prompts: Sequence[int], n: int, length: int) -> list[list[float]]:
    """``n`` streams of ``length`` numbers in [0, 1) for each prompt number, in the order of the rows."""
    return [
        # NumPy hashes the three numbers together, so streams of neighbouring seeds are unrelated.
        np.random.default_rng([seed, prompt, response]).random(length).tolist()
        for prompt in prompts
        for response in range(n)
    ]


def draw(logits: Tensor, numbers: Tensor, temperature: float, top_p: float) -> Tensor:
    """[rows, V] logits of any floating type and [rows] numbers in [0, 1) -> one token id per row, [rows] int64.

    ``temperature``: above 0. ``top_p``: the most probable tokens up to this mass are kept, at least one (nucleus
    sampling, Holtzman et al. 2020).
    """
    probabilities = (logits.float() / temperature).softmax(-1)
    if top_p < 1.0:
        ordered, ids = torch.sort(probabilities, stable=True, dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered  # the mass of all more probable tokens
        probabilities = torch.zeros_like(probabilities).scatter(-1, ids, ordered * (before < top_p))
    return invert(probabilities, numbers)


def invert(probabilities: Tensor, numbers: Tensor) -> Tensor:
    """[rows, V] masses of any sum and [rows] numbers in [0, 1) -> [rows] int64, by the cumulative distribution."""
    cumulative = probabilities.cumsum(-1)
    # right=True: the first token whose cumulative mass exceeds the number, so a token of mass 0 is never drawn
    places = torch.searchsorted(cumulative, numbers[:, None] * cumulative[:, -1:], right=True)[:, 0]
    # Rounding may leave the number at the very end: then the last token that has any mass.
    last = probabilities.shape[-1] - 1 - probabilities.flip(-1).gt(0).int().argmax(-1)
    return torch.minimum(places, last)


class RowSampler:
    """A logits processor for ``generate``: leaves of each row's logits only the token that its stream draws."""

    def __init__(self, numbers: Sequence[Sequence[float]], width: int, temperature: float, top_p: float) -> None:
        """``numbers``: [rows, new tokens]; ``width``: tokens of the padded prompts, before the first draw."""
        self.numbers, self.width, self.temperature, self.top_p = numbers, width, temperature, top_p

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.width
        numbers = torch.tensor([row[step] for row in self.numbers], device=scores.device)
        chosen = draw(scores, numbers, self.temperature, self.top_p)
        return torch.full_like(scores, float("-inf")).scatter(-1, chosen[:, None], 0.0)
