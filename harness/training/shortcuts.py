"""The same numbers with less work: a head that runs once, and packed attention without masked pairs."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.functional import linear
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from harness.models.load import NO_TOKEN, cap_of, scale_of

CHUNK_NUMBERS = 1 << 24
"""Logits per automatic chunk: 64 MiB in float32."""
KEPT_BYTES = 1 << 28
"""Of probabilities that wait for the backward pass; those beyond are computed again."""
BY_PARTS = "distilbench_by_parts"


class Head(NamedTuple):
    """What a model does to its hidden states after the backbone, where that is one whole linear layer."""

    weight: Tensor
    bias: Tensor | None
    scale: float
    divisor: float
    cap: float | None
    unused: Tensor
    """[U] ids that get no share of any softmax."""

    def logits(self, states: Tensor) -> Tensor:
        """[c, H] in the precision of the products -> [c, V] float32, as ``load.logits_of`` has them."""
        bias = None if self.bias is None else self.bias.to(states.dtype)
        with torch.autocast(states.device.type, enabled=False):
            logits = linear(states, self.weight.to(states.dtype), bias).float()
        logits = logits if self.scale == 1 else logits * self.scale
        logits = logits if self.divisor == 1 else logits / self.divisor
        logits = logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)
        return logits.index_fill_(-1, self.unused, NO_TOKEN) if len(self.unused) else logits

    def chosen(self, logits: Tensor, labels: Tensor, slopes: Tensor | None = None) -> Tensor:
        """[c] log-probabilities of the labels. ``slopes`` [c, V]: takes minus their derivatives by what the linear
        layer gave."""
        logps = logits.log_softmax(-1)
        chosen = logps.gather(-1, labels[:, None])[:, 0]
        if slopes is None:
            return chosen
        torch.exp(logps, out=slopes)
        slopes[torch.arange(len(labels), device=labels.device), labels] = torch.expm1(chosen).to(slopes.dtype)
        if len(self.unused):
            slopes.index_fill_(-1, self.unused, 0.0)
        if self.cap is not None:
            slopes.mul_(1 - (logits / self.cap) ** 2)
        if (factor := self.scale / self.divisor) != 1:
            slopes.mul_(factor)
        return chosen


def head_of(model: PreTrainedModel, vocabulary: int) -> Head | None:
    """``None`` where only a call of the model's own head is right: quantised, split over processes, too narrow."""
    head = cast("Any", model).get_output_embeddings()
    if type(head) is not torch.nn.Linear or hasattr(head.weight, "ds_id") or isinstance(head.weight, DTensor):
        return None
    if len(head.weight) < vocabulary or not head.weight.is_floating_point():
        return None
    layer: Any = head
    weight, bias = layer.weight, layer.bias
    if len(weight) > vocabulary:
        weight, bias = weight[:vocabulary], None if bias is None else bias[:vocabulary]
    scale, divisor = scale_of(model)
    unused = torch.tensor(getattr(model, "distilbench_unused", ()), dtype=torch.long, device=weight.device)
    return Head(weight, bias, scale, divisor, cap_of(model), unused)


def logps_of_labels(head: Head, states: Tensor, labels: Tensor) -> Tensor:
    """[N] float32 log-probabilities of ``labels`` [N] after ``states`` [N, H], chunk by chunk; differentiable once, by
    states, weight and bias."""
    if torch.is_grad_enabled():
        logps: Tensor = _Logps.apply(states, head.weight, head.bias, labels, head)  # type: ignore[no-untyped-call]
        return logps
    inputs = states.to(_product_dtype(states))
    return torch.cat([head.chosen(head.logits(inputs[chunk]), labels[chunk]) for chunk in _chunks(head, len(inputs))])


def _chunks(head: Head, count: int, start: int = 0) -> list[slice]:
    size = max(1, CHUNK_NUMBERS // len(head.weight))
    return [slice(place, min(place + size, count)) for place in range(start, count, size)]


def _product_dtype(states: Tensor) -> torch.dtype:
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


class _Logps(torch.autograd.Function):
    """The gradient by the states is made in the forward pass, up to one factor per position that comes later; so are
    the slopes that the gradient by the weights needs. With a frozen head nothing of the vocabulary's size is kept."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, head: Head) -> Tensor:
        inputs, count, width = states.to(_product_dtype(states)), len(states), len(weight)
        product_head = head._replace(weight=weight.to(inputs.dtype))  # one cast for all chunks
        chunks = _chunks(head, count)
        room = KEPT_BYTES // (width * inputs.element_size()) if any(ctx.needs_input_grad[1:3]) else 0
        kept_count = max((chunk.stop for chunk in chunks if chunk.stop <= room), default=0)
        kept = inputs.new_empty(kept_count, width)
        scratch = inputs.new_empty(min(count - kept_count, chunks[0].stop if chunks else 0), width)
        logps, to_states = states.new_empty(count, dtype=torch.float32), torch.empty_like(inputs)
        for chunk in chunks:
            slopes = kept[chunk] if chunk.stop <= kept_count else scratch[: chunk.stop - chunk.start]
            logps[chunk] = head.chosen(product_head.logits(inputs[chunk]), labels[chunk], slopes)
            torch.mm(slopes, product_head.weight, out=to_states[chunk])
        ctx.save_for_backward(inputs, weight, bias, labels, to_states, kept)
        ctx.head, ctx.dtype = head, states.dtype
        return logps

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[misc, no-untyped-call, unused-ignore]
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inputs, weight, bias, labels, by_states, kept = ctx.saved_tensors
        factors = -gradient[:, None]
        to_states = (factors * by_states).to(ctx.dtype)
        if not any(ctx.needs_input_grad[1:3]):
            return to_states, None, None, None, None
        weighted, factors = (factors * inputs).to(inputs.dtype), factors.to(inputs.dtype)
        to_weight = torch.mm(kept.t(), weighted[: len(kept)]).to(weight.dtype)
        to_bias = torch.mm(kept.t(), factors[: len(kept)]).to(weight.dtype)
        chunks = _chunks(ctx.head, len(inputs), len(kept))
        head = ctx.head._replace(weight=weight.to(inputs.dtype) if chunks else weight, bias=bias)  # one cast for all
        for chunk in chunks:
            slopes = inputs.new_empty(chunk.stop - chunk.start, len(weight))
            head.chosen(head.logits(inputs[chunk]), labels[chunk], slopes)
            to_weight += torch.mm(slopes.t(), weighted[chunk])
            to_bias += torch.mm(slopes.t(), factors[chunk])
        return to_states, to_weight, None if bias is None else to_bias[:, 0], None, None


def attend_by_parts(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed_lengths: tuple[tuple[int, ...], ...] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' sdpa attention; on packed rows, part by part, so that no response is multiplied with another.

    ``packed_lengths``: for each row, the tokens of the prompt and of each response. [B, heads, L, d] -> [B, L, heads,
    d]; zeros where a row is padding.
    """
    if packed_lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    rows = []
    for row, (prompt, *responses) in enumerate(packed_lengths):
        q, k, v = (states[row : row + 1] for states in (query, key, value))
        start, length = prompt, query.shape[2]
        first = slice(0, prompt)
        parts = [sdpa_attention_forward(module, q[:, :, first], k[:, :, first], v[:, :, first], None, **kwargs)[0]]
        for size in filter(None, responses):
            span = slice(start, start + size)
            keys, values = (torch.cat([x[:, :, :prompt], x[:, :, span]], 2) for x in (k, v))
            mask = torch.ones(size, prompt + size, dtype=torch.bool, device=query.device).tril(prompt)
            parts.append(sdpa_attention_forward(module, q[:, :, span], keys, values, mask[None, None], **kwargs)[0])
            start += size
        parts.append(parts[0].new_zeros(1, length - start, *parts[0].shape[2:]))
        rows.append(torch.cat(parts, 1))
    return torch.cat(rows), None


AttentionInterface.register(BY_PARTS, attend_by_parts)
AttentionMaskInterface.register(BY_PARTS, sdpa_mask)
