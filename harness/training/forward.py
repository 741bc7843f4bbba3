"""How rows go through a model: loss terms inside its forward call, chunk by chunk, on packed or on separate rows.

Each chunk of logits is reduced to a few numbers per position and recomputed in the backward pass. Packed rows are exact
where attention knows positions through position ids alone and reads a four-dimensional mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from harness.contracts.method import TokenTerms, TopK, log_probabilities
from harness.errors import UserError
from harness.models.load import logits_of
from harness.training.batches import Example, MicroBatch, TokenRow, micro_batch
from harness.training.options import TrainOptions
from harness.training.shortcuts import BY_PARTS, CHUNK_NUMBERS, head_of, logps_of_labels

Guide = Tensor | Mapping[str, TopK] | None
LEAST_GAIN = 1.1
FEW_LOGITS = 1 << 22
"""Up to which autograd's own gradient is as fast as the one of ``shortcuts``."""
FEW_PAIRS = 1 << 24
"""Pairs x hidden size of a packed row up to which one masked call of attention is as fast as one for each part."""


def host(model: PreTrainedModel, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Let ``model.forward`` take ``read_states`` and return ``read_states(states [R, T, H])`` of the backbone alone.

    ``dtype``: of matrix products. In here, where no wrapper (fully_shard, DeepSpeed) rounds what comes out or weights.
    """
    original = model.forward

    def forward(
        *args: Any, read_states: Callable[[Tensor], object] | None = None, exact: bool = False, **kwargs: Any
    ) -> object:
        if read_states is None:
            return original(*args, **kwargs)
        present = {name: value for name, value in kwargs.items() if value is not None}
        with autocast(model, torch.float32 if exact else dtype):
            return read_states(model.base_model(*args, **present, use_cache=False).last_hidden_state)

    model.forward = forward
    return model


def autocast(model: PreTrainedModel, dtype: torch.dtype) -> torch.autocast:
    """Matrix products of this model in ``dtype``; float32: as its weights are."""
    return torch.autocast(model.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def response_terms(
    model: torch.nn.Module,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    micro: MicroBatch,
    token_terms: TokenTerms,
    config: object,
    vocabulary: int,
) -> dict[str, Tensor]:
    """Name to [N]: ``token_terms`` of every response token. ``model``: the student (prepared by ``host``) as it was
    wrapped; ``teacher``: live, or ``None`` for ``micro.teacher_distributions``."""
    guide: Guide = micro.teacher_distributions if teacher is None else states_of(teacher, micro)

    def chunk_terms(states: Tensor, labels: Tensor, guide: Guide) -> dict[str, Tensor]:
        target: Any = guide
        if teacher is not None:
            with torch.no_grad():  # the teacher is frozen, yet its head runs again in the backward pass
                target = logits_of(teacher, target, vocabulary)
        return token_terms(logits_of(student, states, vocabulary), labels, target, config)

    def read_states(hidden: Tensor) -> dict[str, Tensor]:
        states = hidden.flatten(0, 1)[micro.index]
        if token_terms is log_probabilities and len(states) * vocabulary > FEW_LOGITS:
            head = head_of(student, vocabulary)
            if head is not None:
                return {"logp": logps_of_labels(head, states, micro.labels)}
        size = max(1, CHUNK_NUMBERS // vocabulary)
        if len(states) <= size:
            return chunk_terms(states, micro.labels, guide)
        chunks = [slice(start, start + size) for start in range(0, len(states), size)]
        # Nothing in a chunk is drawn at random, so no random state has to be kept for the recomputation.
        chunk_values = [
            checkpoint(
                chunk_terms, states[chunk], micro.labels[chunk], slice_guide(guide, chunk),
                use_reentrant=False, preserve_rng_state=False,
            )
            for chunk in chunks
        ]  # fmt: skip
        return {name: torch.cat([values[name] for values in chunk_values]) for name in chunk_values[0]}

    terms: dict[str, Tensor] = model(**micro.inputs, read_states=read_states)
    return terms


def slice_guide(guide: Guide, chunk: slice) -> Guide:
    if isinstance(guide, Mapping):
        return {name: TopK(*(values[chunk] for values in top)) for name, top in guide.items()}
    return None if guide is None else guide[chunk]


@torch.no_grad()
def states_of(model: PreTrainedModel, micro: MicroBatch) -> Tensor:
    """[N, H] hidden states of a frozen model at the positions that predict response tokens."""
    hidden: Tensor = model.base_model(**micro.inputs, use_cache=False).last_hidden_state
    return hidden.flatten(0, 1)[micro.index]


@dataclass(frozen=True)
class Layout:
    packed: bool
    reason: str
    by_parts: bool = False
    """Whether a packed row is attended part by part: its prompt, then each response with the prompt."""

    def batch(self, examples: Sequence[Example], pad: int, device: torch.device, filler: bool = False) -> MicroBatch:
        return micro_batch(examples, pad, device, filler=filler, packed=self.packed, by_parts=self.by_parts)


def choose(
    options: TrainOptions, examples: Sequence[Example], models: Sequence[PreTrainedModel], vocabulary: int
) -> Layout:
    """Packed or separate rows for a whole run. Raises UserError where ``packing: always`` would not be exact."""
    if options.packing == "never":
        return Layout(False, "separate rows: train.packing = never")
    if max((len(example.rows) for example in examples), default=0) < 2:
        return Layout(False, "separate rows: one response per prompt")
    longest = max(example.longest for example in examples)
    # One answer for the whole run: a reference computed another way would differ from training by rounding.
    reasons = [reason for model in models if (reason := obstacle(model, longest, vocabulary))]
    if reasons and options.packing == "always":
        raise UserError(f"train.packing = 'always' is impossible here: {reasons[0]}. Set it to auto or never.")
    if reasons:
        return Layout(False, f"separate rows: {reasons[0]}")
    ratio = gain(models[0], examples)
    if options.packing == "auto" and ratio < LEAST_GAIN:
        return Layout(False, f"separate rows: prompts are short beside responses (packing: {ratio:.2f}x)")
    by_parts = attends_by_parts(models, examples, vocabulary)
    return Layout(True, f"packed: about {ratio:.2f}x less work than separate rows", by_parts)


def attends_by_parts(models: Sequence[PreTrainedModel], examples: Sequence[Example], vocabulary: int) -> bool:
    """Let models attend packed rows without masked pairs, if rows are long, on a CPU, and all models take it."""
    config: Any = models[0].config.get_text_config()
    longest = max(len(e.prompt) + sum(len(row.response) - 1 for row in e.rows) for e in examples)
    if models[0].device.type != "cpu" or longest**2 * config.hidden_size <= FEW_PAIRS:
        return False
    for model in models:
        model.config._attn_implementation = BY_PARTS
    if any(trial(model, vocabulary, by_parts=True) for model in models):
        for model in models:
            model.config._attn_implementation = "sdpa"
        return False
    return True


def obstacle(model: PreTrainedModel, longest: int, vocabulary: int) -> str | None:
    """Why packed rows would not be exact for this model: known limits first, then a trial on a few tokens."""
    config = model.config.get_text_config()
    name = type(model).__name__
    if getattr(config, "attn_logit_softcapping", None):
        return f"{name} caps its attention scores, which needs eager attention"
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window is not None and window < longest:
        return f"{name} attends within a window of {window} tokens and rows have up to {longest}"
    kernel = getattr(config, "_attn_implementation", None)
    if kernel not in ("sdpa", BY_PARTS):
        return f"{name} runs with {kernel} attention; packing needs sdpa"
    return trial(model, vocabulary)


@torch.no_grad()
def trial(model: PreTrainedModel, vocabulary: int, by_parts: bool = False) -> str | None:
    """What goes wrong where a few tokens are packed."""
    name = type(model).__name__
    # Different tokens at every place, so that a row that looks at another's tokens shows; from 3 on, because the
    # first ids are often special.
    ids = [number % max(1, vocabulary) for number in range(3, 14)]
    example = Example("trial", 0, ids[:4], (TokenRow(ids[4:7]), TokenRow(ids[7:11])))
    was_training = model.training
    model.train(False)
    try:
        separate = states_of(model, micro_batch([example], 0, model.device))
        packed_states = states_of(model, Layout(True, "", by_parts).batch([example], 0, model.device))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return f"{name} refuses a block mask"
    finally:
        model.train(was_training)
    difference = float((packed_states - separate).abs().max() / separate.abs().max())
    # bfloat16 has 8 significant bits: what differs by a few percent there may be rounding.
    if difference > (1e-3 if model.dtype == torch.float32 else 0.1):
        return f"packed rows give {name} other hidden states (off by {difference:.1e})"
    return None


def gain(model: PreTrainedModel, examples: Sequence[Example]) -> float:
    """Work of separate rows over that of packed rows, without the head: weights x tokens + 2 x hidden size x layers x
    pairs that attention computes, masked pairs included."""
    config: Any = model.config.get_text_config()
    body = sum(value.numel() for name, value in model.named_parameters() if "embed" not in name and "head" not in name)
    per_pair = 2 * config.hidden_size * config.num_hidden_layers
    packed_work = separate_work = 0.0
    for example in examples:
        rows = [len(example.prompt) + len(row.response) for row in example.rows]
        packed_length = sum(rows) - (len(rows) - 1) * len(example.prompt)
        packed_work += body * packed_length + per_pair * packed_length**2
        separate_work += body * sum(rows) + per_pair * sum(row**2 for row in rows)
    return separate_work / packed_work
