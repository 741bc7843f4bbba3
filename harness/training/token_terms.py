"""Per-token terms of a loss without ever holding batch x length x vocabulary in float32.

Hidden states of the positions that predict response tokens go through the head chunk by chunk; each chunk's logits are
reduced to a few numbers per position at once and recomputed in the backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from harness.contracts.method import TokenTerms, TopK
from harness.models.load import logits_of
from harness.training.batches import MicroBatch

CHUNK_NUMBERS = 1 << 24
"""Logits per automatic chunk: 64 MiB in float32."""
Guide = Tensor | Mapping[str, TopK] | None
"""What is known of teachers at some positions: a live teacher's hidden states, stored distributions, or nothing."""


def response_terms(
    model: torch.nn.Module,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    micro: MicroBatch,
    token_terms: TokenTerms,
    config: object,
    vocabulary: int,
    chunk: int = 0,
) -> dict[str, Tensor]:
    """Name to [N]: ``token_terms`` of every response token, with gradient to the student.

    Args:
        model: ``student`` as the trainer wrapped it (DDP, FSDP); the forward call goes through it.
        student: the model that ``host`` has prepared.
        teacher: frozen, or ``None``: then ``micro.teacher_distributions`` is what the terms know of teachers.
        chunk: positions at once; 0 picks by ``CHUNK_NUMBERS``.
    """
    guide: Guide = micro.teacher_distributions if teacher is None else states_of(teacher, micro)

    def chunk_terms(states: Tensor, labels: Tensor, guide: Guide) -> dict[str, Tensor]:
        target: Any = guide
        if teacher is not None:
            with torch.no_grad():  # the teacher is frozen, yet its head runs again in the backward pass
                target = logits_of(teacher, target, vocabulary)
        return token_terms(logits_of(student, states, vocabulary), labels, target, config)

    def then(hidden: Tensor) -> dict[str, Tensor]:
        states = hidden.flatten(0, 1)[micro.index]
        size = chunk or max(1, CHUNK_NUMBERS // vocabulary)
        if len(states) <= size:
            return chunk_terms(states, micro.labels, guide)
        cuts = [slice(start, start + size) for start in range(0, len(states), size)]
        # Nothing in a chunk is drawn at random, so no random state has to be kept for the recomputation.
        parts = [
            checkpoint(
                chunk_terms, states[cut], micro.labels[cut], part_of(guide, cut),
                use_reentrant=False, preserve_rng_state=False,
            )
            for cut in cuts
        ]  # fmt: skip
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    terms: dict[str, Tensor] = model(**micro.inputs, then=then)
    return terms


def part_of(guide: Guide, cut: slice) -> Guide:
    if isinstance(guide, Mapping):
        return {name: TopK(*(values[cut] for values in top)) for name, top in guide.items()}
    return None if guide is None else guide[cut]


@torch.no_grad()
def states_of(model: PreTrainedModel, micro: MicroBatch) -> Tensor:
    """[N, H] hidden states of a frozen model at the positions that predict response tokens."""
    hidden: Tensor = model.base_model(**micro.inputs, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1)[micro.index]
