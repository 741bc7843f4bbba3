"""From groups to padded tensors: the tokens of each row, the prompts that drop out, and the order of prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase

from harness.contracts.method import Batch, DroppedPrompt, Row, TopK
from harness.errors import UserError
from harness.models.chat import answer_text, continuation, drawn_tokens, prompt_text
from harness.training.options import Training, TrainOptions
from harness.types import Group

SLAB = 2048
"""Texts tokenised at once: much faster than one by one, and few enough to hold in memory."""


@dataclass(frozen=True)
class TokenRow:
    response: Sequence[int]
    """Token ids, end-of-turn included where the response finished."""
    role: str = "response"
    signals: Mapping[str, float] = field(default_factory=dict)
    is_foreign: bool = False
    """Drawn as other tokens, by a model with another vocabulary or another end of a turn."""


@dataclass(frozen=True)
class Example:
    """A prompt to train on. Methods with rollouts have no rows until the student has answered."""

    id: str
    group: int
    prompt: Sequence[int]
    rows: tuple[TokenRow, ...] = ()

    @property
    def longest(self) -> int:
        return len(self.prompt) + max((len(row.response) for row in self.rows), default=0)


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass of R rows, or of their prompts packed; N response tokens. ``fed``: tokens through the model,
    without padding; ``filler``: repeats a prompt so that every process runs equally often, counts for nothing."""

    inputs: Mapping[str, Any]
    """Tensors for the model; where packed rows are attended by parts, their lengths too."""
    index: Tensor
    """[N] positions (in the flattened rows) whose hidden state predicts ``labels`` [N]."""
    labels: Tensor
    batch: Batch
    ids: tuple[str, ...]
    fed: int
    teacher_distributions: Mapping[str, TopK] | None = None
    filler: bool = False


def prepare(training: Training, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Example], Counter[str]]:
    """The usable prompts, as tokens, and how many are not, by reason. Raises UserError where none is left, or rows are
    uneven."""
    method, groups, options = training.method, training.groups, training.options
    dropped_counts: Counter[str] = Counter()
    # Only the method can tell which rows it trains on, and only tokens can tell whether they fit.
    chosen: list[tuple[int, Sequence[Row]]] = []
    for index, group in enumerate(groups):
        rows = method.rows(group, training.config)
        if isinstance(rows, DroppedPrompt):
            dropped_counts[rows.reason] += 1
        else:
            chosen.append((index, rows))
    # A live response is as long as it comes: its prompt must leave room for the longest.
    answer_space = training.max_new_tokens if method.rollouts else 0
    if method.rollouts and answer_space < 1:
        raise ValueError(f"max_new_tokens = {answer_space}: {method.name} samples responses and needs at least 1")
    examples = []
    for example in tokenise(tokenizer, groups, chosen):
        if max(example.longest, len(example.prompt) + answer_space) > options.max_length:
            dropped_counts[f"longer than {options.max_length} tokens"] += 1
        elif any(not row.response for row in example.rows):
            dropped_counts["a response has no tokens"] += 1
        elif method.needs.reference and training.reference is not None:
            pairs = zip(example.rows, training.reference[example.group], strict=True)
            rows_with = (replace(row, signals={**row.signals, "reference": logp}) for row, logp in pairs)
            examples.append(replace(example, rows=tuple(rows_with)))
        else:
            examples.append(example)
    if not examples:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped_counts.most_common()) or "there are none"
        raise UserError(
            f"{method.name}: none of {len(groups)} prompts can be trained on ({reasons}). Raise train.max_length for "
            "rows that are too long, sampling.max_new_tokens for unfinished answers, sampling.temperature for "
            "identical ones; else take other prompts."
        )
    sizes = sorted({len(example.rows) for example in examples})
    if len(sizes) > 1:
        raise UserError(f"{method.name}: prompts differ in their number of responses ({sizes}); sample n for each.")
    return examples, dropped_counts


def tokenise(
    tokenizer: PreTrainedTokenizerBase, groups: Sequence[Group], chosen: Sequence[tuple[int, Sequence[Row]]]
) -> Iterator[Example]:
    """``chosen``: (index of a group, its rows)."""
    for start in range(0, len(chosen), SLAB):
        slab = chosen[start : start + SLAB]
        prompt_texts = [prompt_text(tokenizer, groups[index].prompt.messages) for index, _ in slab]
        drawn = [
            (place, row, drawn_tokens(tokenizer, row.text, row.finished, row.ids))
            for place, (_, rows) in enumerate(slab)
            for row in rows
        ]
        texts = [(place, answer_text(tokenizer, row.text, row.finished)) for place, row, ids in drawn if ids is None]
        joint = [prompt_texts[place] + text for place, text in texts]
        encoded = iter(tokenizer(prompt_texts + joint, add_special_tokens=False)["input_ids"])
        prompts = [next(encoded) for _ in slab]
        tokenised = (continuation(tokenizer, prompts[place], next(encoded), text) for place, text in texts)
        tokens: list[list[TokenRow]] = [[] for _ in slab]
        for place, row, ids in drawn:
            response = ids or next(tokenised)
            tokens[place].append(TokenRow(response, row.role, row.signals, bool(row.ids) and response != list(row.ids)))
        for (index, _), prompt, responses in zip(slab, prompts, tokens, strict=True):
            yield Example(groups[index].prompt.id, index, prompt, tuple(responses))


def describe(examples: Sequence[Example], tokens: Mapping[str, Tensor], device: torch.device) -> Batch:
    """``tokens``: name to [N] float32."""
    rows = [row for example in examples for row in example.rows]
    lengths = torch.tensor([len(row.response) for row in rows], device=device)
    row_of = torch.repeat_interleave(torch.arange(len(rows), device=device), lengths)
    starts = lengths.cumsum(0) - lengths
    prompt = [number for number, example in enumerate(examples) for _ in example.rows]
    signals = {name: [row.signals[name] for row in rows] for name in (rows[0].signals if rows else ())}
    return Batch(
        prompts=len(examples),
        prompt=torch.tensor(prompt, device=device),
        row=row_of,
        position=torch.arange(len(row_of), device=device) - starts[row_of],
        roles=tuple(row.role for row in rows),
        lengths=lengths,
        signals={name: torch.tensor(values, dtype=torch.float32, device=device) for name, values in signals.items()},
        tokens=tokens,
    )


def micro_batch(
    examples: Sequence[Example],
    pad: int,
    device: torch.device,
    tokens: Mapping[str, Tensor] | None = None,
    *,
    filler: bool = False,
    packed: bool = False,
    by_parts: bool = False,
) -> MicroBatch:
    """The rows of these prompts, padded on the right; ``packed``: one row per prompt (``by_parts``: see
    ``forward.Layout``)."""
    batch = describe(examples, tokens or {}, device)
    ids = tuple(example.id for example in examples)
    labels = torch.tensor([t for example in examples for row in example.rows for t in row.response], device=device)
    if packed:
        inputs, index = packed_inputs(examples, pad, device)
        if by_parts:
            inputs["packed_lengths"] = tuple(
                (len(e.prompt), *(len(row.response) - 1 for row in e.rows)) for e in examples
            )
        fed = sum(len(e.prompt) + sum(len(row.response) - 1 for row in e.rows) for e in examples)
        return MicroBatch(inputs, index, labels, batch, ids, fed, filler=filler)
    rows = [([*example.prompt, *row.response], len(example.prompt)) for example in examples for row in example.rows]
    width = max(len(row) for row, _ in rows)
    sizes = torch.tensor([len(row) for row, _ in rows], device=device)
    starts_of_rows = torch.tensor([start for _, start in rows], device=device)
    positions = torch.arange(width, device=device).expand(len(rows), width)
    inputs = {
        "input_ids": torch.tensor([row + [pad] * (width - len(row)) for row, _ in rows], device=device),
        "attention_mask": (positions < sizes[:, None]).long(),
        # Padding repeats the last position: a higher one may lie outside a table of learned positions.
        "position_ids": positions.minimum(sizes[:, None] - 1),
    }
    # The hidden state one position earlier predicts a token.
    index = batch.row * width + starts_of_rows[batch.row] + batch.position - 1
    return MicroBatch(inputs, index, labels, batch, ids, int(sizes.sum()), filler=filler)


def packed_inputs(examples: Sequence[Example], pad: int, device: torch.device) -> tuple[dict[str, Any], Tensor]:
    """``MicroBatch.inputs`` and ``index`` of one padded row ``prompt | response 1 | ... | response n`` per prompt.
    Positions start again after the prompt for each response, which sees the prompt and itself alone."""
    rows, places = [], []
    for example in examples:
        start = len(example.prompt)
        ids, positions, segments = list(example.prompt), list(range(start)), [0] * start
        spots: list[int] = []
        for number, row in enumerate(example.rows, 1):
            # The last token of a response predicts nothing; the last of the prompt predicts every response's first.
            fed = row.response[:-1]
            spots += [start - 1, *range(len(ids), len(ids) + len(fed))]
            ids += fed
            positions += range(start, start + len(fed))
            segments += [number] * len(fed)
        rows.append((ids, positions, segments))
        places.append(spots)
    width = max(len(ids) for ids, _, _ in rows)
    input_ids, position_ids, segment_ids = (
        torch.tensor([row[column] + [fill] * (width - len(row[column])) for row in rows], device=device)
        for column, fill in enumerate((pad, 0, -1))
    )
    inputs: dict[str, Any] = {
        "input_ids": input_ids, "position_ids": position_ids, "attention_mask": block_mask(segment_ids)
    }  # fmt: skip
    index = [number * width + spot for number, spots in enumerate(places) for spot in spots]
    return inputs, torch.tensor(index, device=device)


def block_mask(segments: Tensor) -> Tensor:
    """[B, L] segment numbers (0: prompt, 1..n: responses, -1: padding) -> [B, 1, L, L] bool, true where a query (third
    axis) may see a key: earlier tokens of the prompt and of its own segment, and always itself."""
    query, key = segments[:, :, None], segments[:, None, :]
    order = torch.arange(segments.shape[1], device=segments.device)
    causal = order[:, None] >= order[None, :]
    mask = ((key == query) | (key == 0)) & (key >= 0) & (query >= 0) & causal
    # A query that sees nothing (padding) would be NaN.
    return (mask | torch.eye(len(order), dtype=torch.bool, device=segments.device))[:, None]


class Order(Sampler[int]):
    """Indices of prompts, in a seeded order of its own for each epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        # A prime factor keeps the streams of neighbouring seeds apart over any number of epochs.
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        return iter(torch.randperm(self.count, generator=generator).tolist())


class ShuffledBatches(Sampler[list[int]]):
    """Batch sampler: micro-batches of prompt indices, optimiser step by optimiser step (the last of an epoch may be
    short). Where they do not go round, a process repeats a prompt as a filler, written as ``count + index``."""

    def __init__(self, count: int, options: TrainOptions, seed: int, world: int = 1, rank: int = 0) -> None:
        self.order = Order(count, seed)
        self.batch, self.micro, self.world, self.rank = options.batch_size, options.micro_batch, world, rank

    def rounds(self, prompts: int) -> int:
        return math.ceil(math.ceil(prompts / self.micro) / self.world)

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        full, remainder = divmod(len(self.order), self.batch)
        return full * self.rounds(self.batch) + self.rounds(remainder)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.order)
        for start in range(0, len(order), self.batch):
            step = order[start : start + self.batch]
            micro_batches = [step[i : i + self.micro] for i in range(0, len(step), self.micro)]
            # Every process must run equally often: a wrapper's backward pass waits for all of them.
            while len(micro_batches) % self.world:
                micro_batches.append([len(order) + step[0]])
            yield from micro_batches[self.rank :: self.world]
