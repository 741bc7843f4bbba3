"""Shared-prompt packing: the n responses to one prompt go through the model in one row, the prompt computed once.

A packed row is ``prompt | response 1 | ... | response n``. Position ids start again after the prompt for each response,
and a block mask lets a response see the prompt and itself, so each log-probability is that of a row of its own. This
holds for models whose attention knows positions through position ids alone (rotary or learned embeddings) and reads a
four-dimensional mask exactly; ``choose`` finds out which models these are, and says why where it falls back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.errors import UserError
from harness.training.options import TrainOptions

LEAST_GAIN = 1.1
"""``packing: auto`` packs where the estimated work of separate rows is at least this many times that of packed ones."""


@dataclass(frozen=True)
class Layout:
    packed: bool
    why: str
    """For the training report: ``packed: 1.7x less work``, or the reason for separate rows."""


@dataclass(frozen=True)
class Shape:
    prompt: int
    responses: tuple[int, ...]


def choose(options: TrainOptions, shapes: Sequence[Shape], models: Sequence[PreTrainedModel], embedding: int) -> Layout:
    """Packed or separate rows for a whole run, the same for training and for its reference.

    Args:
        shapes: of all prompts. models: the student, and the live teacher where there is one.
        embedding: an id below which all ids are safe to try the models with.

    Raises:
        UserError: ``packing: always``, and a model cannot be packed exactly.
    """
    if options.packing == "never":
        return Layout(False, "separate rows: train.packing = never")
    rows = max((len(shape.responses) for shape in shapes), default=0)
    if rows < 2:
        return Layout(False, "separate rows: one response per prompt")
    longest = max(shape.prompt + max(shape.responses) for shape in shapes)
    # One answer for the whole run: a reference computed another way would differ from training by rounding.
    reasons = [reason for model in models if (reason := obstacle(model, longest, embedding))]
    if reasons and options.packing == "always":
        raise UserError(f"train.packing = 'always' is impossible here: {reasons[0]}. Set it to auto or never.")
    if reasons:
        return Layout(False, f"separate rows: {reasons[0]}")
    ratio = gain(models[0], shapes)
    if options.packing == "auto" and ratio < LEAST_GAIN:
        return Layout(False, f"separate rows: prompts are short beside responses (packing: {ratio:.2f}x)")
    return Layout(True, f"packed: about {ratio:.2f}x less work than separate rows")


def obstacle(model: PreTrainedModel, longest: int, embedding: int) -> str | None:
    """Why packed rows would not be exact for this model; ``None`` where they are.

    ``longest``: tokens of the longest prompt with one response. Known limits first, then a trial on a few tokens.
    """
    config: Any = model.config.get_text_config()
    name = type(model).__name__
    if getattr(config, "attn_logit_softcapping", None):
        return f"{name} caps its attention scores, which needs eager attention"
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window is not None and window < longest:
        return f"{name} attends within a window of {window} tokens and rows have up to {longest}"
    kernel = getattr(config, "_attn_implementation", None)
    if kernel != "sdpa":
        return f"{name} runs with {kernel} attention; packing needs sdpa"
    difference = trial(model, embedding)
    if difference is None:
        return f"{name} refuses a block mask"
    # bfloat16 has 8 significant bits: what differs by a few percent there may be rounding.
    if difference > (1e-3 if model.dtype == torch.float32 else 0.1):
        return f"packed rows give {name} other hidden states (off by {difference:.1e})"
    return None


@torch.no_grad()
def trial(model: PreTrainedModel, embedding: int) -> float | None:
    """Largest difference between hidden states of packed and separate rows, relative to their size.

    ``None`` where the model does not take the mask. The last token of a response is where a difference would show: its
    position and all that it may see enter there.
    """
    # Different tokens at every place, so that a row that looks at another's tokens shows; from 3 on, because the
    # first ids are often special.
    ids = [number % max(1, embedding) for number in range(3, 14)]
    prompt, responses = ids[:4], [ids[4:7], ids[7:11]]
    untyped: Any = model
    device, was_training = model.device, model.training
    model.train(False)
    places, packed = packed_inputs([(prompt, responses)], 0, device)
    try:
        together = untyped.base_model(**packed, use_cache=False).last_hidden_state[0]
    except (RuntimeError, ValueError, TypeError, IndexError):
        model.train(was_training)
        return None
    worst = 0.0
    for row, response in enumerate(responses):
        row_ids = torch.tensor([prompt + response], device=device)
        alone = untyped.base_model(input_ids=row_ids, use_cache=False).last_hidden_state[0, len(prompt) - 1 : -1]
        shared = together[places[0][row]]
        worst = max(worst, float((shared - alone).abs().max() / alone.abs().max()))
    model.train(was_training)
    return worst


def gain(model: PreTrainedModel, shapes: Sequence[Shape]) -> float:
    """Estimated work of separate rows over that of packed rows, body of the model alone (the head is the same).

    Work = weights x tokens + 2 x hidden size x layers x pairs that attention computes, masked pairs included.
    """
    config: Any = model.config.get_text_config()
    body = sum(value.numel() for name, value in model.named_parameters() if "embed" not in name and "head" not in name)
    per_pair = 2 * config.hidden_size * config.num_hidden_layers
    packed = separate = 0.0
    for shape in shapes:
        whole = shape.prompt + sum(shape.responses)
        rows = [shape.prompt + response for response in shape.responses]
        packed += body * whole + per_pair * whole**2
        separate += body * sum(rows) + per_pair * sum(row**2 for row in rows)
    return separate / packed


def packed_inputs(
    groups: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], pad: int, device: torch.device
) -> tuple[list[list[Tensor]], dict[str, Tensor]]:
    """One padded row per (prompt ids, ids of its responses).

    The last token of a response predicts nothing and is left out.

    Returns:
        Per group and response the positions [T] (within the padded row) whose hidden states predict its tokens; and
        the model's inputs: ``input_ids``, ``position_ids`` [B, L] int64, ``attention_mask`` [B, 1, L, L] bool, true
        where a query (third axis) may see a key.
    """
    rows, places = [], []
    for prompt, responses in groups:
        ids, position, segment = list(prompt), list(range(len(prompt))), [0] * len(prompt)
        spots = []
        for number, response in enumerate(responses, 1):
            start, fed = len(ids), len(response) - 1
            spots.append(torch.tensor([len(prompt) - 1, *range(start, start + fed)], device=device))
            ids += response[:fed]
            position += range(len(prompt), len(prompt) + fed)
            segment += [number] * fed
        rows.append((ids, position, segment))
        places.append(spots)
    width = max(len(ids) for ids, _, _ in rows)

    def padded(values: list[int], fill: int) -> list[int]:
        return values + [fill] * (width - len(values))

    segments = torch.tensor([padded(segment, -1) for _, _, segment in rows], device=device)
    inputs = {
        "input_ids": torch.tensor([padded(ids, pad) for ids, _, _ in rows], device=device),
        "position_ids": torch.tensor([padded(position, 0) for _, position, _ in rows], device=device),
        "attention_mask": block_mask(segments),
    }
    return places, inputs


def block_mask(segments: Tensor) -> Tensor:
    """[B, L] segment numbers (0: prompt, 1..n: responses, -1: padding) -> [B, 1, L, L] bool.

    A token sees earlier tokens of the prompt and of its own segment, and always itself (a query that sees nothing would
    be NaN).
    """
    query, key = segments[:, :, None], segments[:, None, :]
    order = torch.arange(segments.shape[1], device=segments.device)
    causal = order[:, None] >= order[None, :]
    allowed = ((key == query) | (key == 0)) & (key >= 0) & (query >= 0) & causal
    return (allowed | torch.eye(len(order), dtype=torch.bool, device=segments.device))[:, None]
