"""Models in process: chat generation and log-probabilities through transformers, everything seeded.

``torch.multinomial`` takes its numbers from one generator for the whole batch: another batch size would give other
responses. Here each response has its own seeded stream, and a token is drawn by inverting the cumulative distribution
at the stream's next number: where only rounding differs, the same response comes out (but at a boundary).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from harness.contracts.backend import Services
from harness.contracts.model import Checkpoint, RowLogps, Sampling
from harness.models.chat import EncodedTurn, pad_id, stop_ids, unused_ids, vocabulary_size
from harness.models.checkpoint import context_of
from harness.models.load import load_tokenizer, load_weights, logits_of, pick_device
from harness.models.prefix_cache import (
    NO_CACHE,
    PrefixGroup,
    Reader,
    ReadRow,
    is_close,
    length_batches,
    padded,
    prefill,
    supports_prefix_sharing,
    trial_ids,
)
from harness.models.token_model import TokenModel, room

T = TypeVar("T")
CacheUse = Literal["shared", "own", "none"]
"""Of the responses to one prompt: its cache, one for each, or whole rows at every step."""
log = logging.getLogger(__name__)


def load(
    checkpoint: Checkpoint, dtype: str, device: str, batch_tokens: int, trust: bool, services: Services = Services()
) -> TransformersModel:
    """Load a checkpoint, in evaluation mode. Raises UserError when it cannot be read right."""
    tokenizer = load_tokenizer(checkpoint.location, trust, checkpoint.revision)
    weights: Any = load_weights(checkpoint.location, tokenizer, getattr(torch, dtype), trust, checkpoint.revision)
    weights.to(pick_device(device)).eval()
    return TransformersModel(checkpoint.name, weights, tokenizer, batch_tokens, services)


class TransformersModel(TokenModel):
    def __init__(
        self, name: str, model: Any, tokenizer: Any, batch_tokens: int, services: Services = Services()
    ) -> None:
        super().__init__(name, tokenizer, stop_ids(tokenizer, model.generation_config))
        self.model, self.batch_tokens = model, batch_tokens
        self.progress, self.journal = services.progress, services.journal
        self.pad = pad_id(tokenizer)

    def draw(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, n: int) -> list[list[list[int]]]:
        # Past its context a model fails (learned positions) or writes nonsense: what does not fit is cut, or not drawn.
        rooms = [room(prompt, self.context, sampling.max_new_tokens) for prompt in prompts]
        out: list[list[list[int]]] = [[[]] * n for _ in prompts]
        count = rooms.count(0)
        # A longer prompt in the batch costs padding once; a further batch costs all its decoding steps. Without a cache
        # there is no padding either: what a model that keeps another state does with it is not known.
        most_padding = 0.0 if self.cache_use == "none" else 1.0
        for space in sorted(set(rooms) - {0}, reverse=True):
            members = [index for index, other in enumerate(rooms) if other == space]
            lengths = [(len(prompts[index]) + space) * n for index in members]
            for places in length_batches(lengths, self.batch_tokens, most_padding):
                batch = [members[place] for place in places]
                texts = [list(prompts[index]) for index in batch]
                processors: list[RowSampler] = []
                if sampling.temperature > 0:
                    numbers, width = streams(seed, batch, n, space), max(map(len, texts))
                    processors = [RowSampler(numbers, width, sampling.temperature, sampling.top_p)]
                content = ["generate", str(self.model.device), {**vars(sampling), "max_new_tokens": space}]
                draw_batch = partial(self._generate_batch, texts, space, n, self.cache_use, processors, self.stops)
                rows = self.journal.once([*content, seed, n, batch, texts], draw_batch)
                for place, index in enumerate(batch):
                    out[index] = [self.cut_at_stop(row) for row in rows[place * n : (place + 1) * n]]
                count += len(batch)
                if self.progress:
                    self.progress(count, len(prompts))
        return out

    def _generate_batch(
        self,
        prompts: list[list[int]],
        max_new_tokens: int,
        n: int,
        cache_use: CacheUse,
        processors: Sequence[Any],
        stops: list[int] | None,
    ) -> list[list[int]]:
        ids, mask = padded(prompts, self.pad, "left", self.model.device)
        width = ids.shape[1]
        extra_arguments: dict[str, Any] = {"logits_processor": list(processors)}
        # Columns that only pad the embedding, and unused ids, are no tokens.
        rows = self.model.get_output_embeddings().weight.shape[0]
        unused = [number for number in unused_ids(self.tokenizer) if number < rows]
        unused += range(vocabulary_size(self.tokenizer), rows)
        config_class: Any = GenerationConfig  # its arguments are not typed
        config = config_class(
            max_new_tokens=max_new_tokens, eos_token_id=stops, pad_token_id=self.pad,
            suppress_tokens=unused or None, do_sample=False,  # the sampler leaves one token to choose
            use_cache=cache_use != "none",
        )  # fmt: skip
        with torch.inference_mode(), own_generation_config(self.model, config):
            if n > 1:
                if width > 1 and cache_use == "shared":
                    # The prompt is computed once; its last token goes through again with each response.
                    cache = prefill(self.model, ids[:, :-1], mask[:, :-1])
                    cache.batch_repeat_interleave(n)
                    extra_arguments["past_key_values"] = cache
                ids, mask = ids.repeat_interleave(n, 0), mask.repeat_interleave(n, 0)
            rows = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=config, **extra_arguments)
        return [row[width:].tolist() for row in rows.cpu()]

    @cached_property
    def cache_use(self) -> CacheUse:
        """How responses are drawn: the first way whose trial gives the logits of a plain forward pass."""
        ways: tuple[CacheUse, ...] = ("shared", "own")
        for way in ways:
            if self._draws_exactly(way):
                return way
        log.warning("%s: its cache does not give what whole rows give; responses are drawn without it, which takes "
                    "longer", self.name)  # fmt: skip
        return "none"

    def _draws_exactly(self, cache_use: CacheUse) -> bool:
        # Two responses to each prompt, of which one is padded.
        prompts, n = [trial_ids(self.model, range(3, 10)), trial_ids(self.model, range(10, 13))], 2
        recorder = LogitRecorder()
        try:
            rows = self._generate_batch(prompts, 3, n, cache_use, [recorder], None)
        except NO_CACHE:
            return False
        starts = [prompt for prompt in prompts for _ in range(n)]
        fed = [ReadRow([*start, *row[:-1]], len(start) - 1) for start, row in zip(starts, rows, strict=True)]
        drawn_logits = torch.stack(recorder.steps, 1)
        for index, hidden in Reader(self.model, self.pad, self.batch_tokens, sharing=False).hidden(fed):
            plain_logits = logits_of(self.model, hidden, vocabulary_size(self.tokenizer))
            width = min(drawn_logits.shape[2], plain_logits.shape[1])  # a head may be wider or narrower
            logits, plain_logits = drawn_logits[index, :, :width].float(), plain_logits[:, :width]
            if not is_close(logits.where(logits.isfinite(), plain_logits), plain_logits, self.model.dtype):
                return False
        return True

    def read_rows(self, rows: Sequence[EncodedTurn], k: int) -> list[RowLogps]:
        def row_logps(own: Tensor, logps: Tensor) -> RowLogps:
            top = logps.topk(min(k, logps.shape[1]))
            return RowLogps(own.tolist(), top.indices.tolist(), top.values.tolist())

        return [RowLogps(*values) for values in self._read_responses(rows, ["rows", k], row_logps)]

    def read_means(self, rows: Sequence[EncodedTurn]) -> list[float]:
        return self._read_responses(rows, None, lambda own, logps: float(own.mean()))

    def _read_responses(
        self, rows: Sequence[EncodedTurn], what: object, read: Callable[[Tensor, Tensor], T]
    ) -> list[T]:
        """``read([n] log-probabilities of a response's tokens, [n, vocabulary])``; ``what`` decides it too."""
        # The last token predicts nothing, and the last prompt token predicts the first of the response.
        fed = [ReadRow([*row.prompt, *row.response[:-1]], len(row.prompt) - 1) for row in rows]

        def read_row(index: int, hidden: Tensor) -> T:
            logps = self._log_softmax(hidden)
            labels = torch.tensor(rows[index].response, device=logps.device)
            return read(logps.gather(-1, labels[:, None])[:, 0], logps)

        contents = [[what, list(row.prompt), list(row.response)] for row in rows]
        return self._read(fed, contents, read_row)

    @cached_property
    def context(self) -> int | None:
        """Tokens that the model reads; ``None`` where its configuration does not say."""
        return context_of(self.model.config.get_text_config().to_dict())

    @cached_property
    def reader(self) -> Reader:
        """Reads rows with shared beginnings, where a trial shows that this model's cache is exact."""
        return Reader(self.model, self.pad, self.batch_tokens, supports_prefix_sharing(self.model))

    def usage(self) -> dict[str, float]:
        """What reading took so far: the share of padding, and tokens computed over those of separate rows."""
        positions, tokens, separate = (self.reader.counts[name] for name in ("positions", "tokens", "separate"))
        return {"padding_share": 1 - tokens / max(1, positions), "computed_over_separate": positions / max(1, separate)}

    def _read(self, rows: Sequence[ReadRow], contents: Sequence[object], read: Callable[[int, Tensor], T]) -> list[T]:
        """``read(index, [tokens from first_read on, hidden])`` of every row; ``contents``: what decides its result."""
        results: dict[int, T] = {}
        for batch in self.reader.batches(rows):
            members = [index for group in batch for index in group.rows]
            content = ["read", str(self.model.device), [contents[index] for index in members]]
            counts = Counter(self.reader.counts)
            values, new_counts = self.journal.once(content, partial(self._read_batch, rows, batch, read))
            results |= zip(members, values, strict=True)
            # A batch that an earlier process read counts as well.
            self.reader.counts = counts + Counter(new_counts)
            if self.progress:
                self.progress(len(results), len(rows))
        return [results[index] for index in range(len(rows))]

    def _read_batch(
        self, rows: Sequence[ReadRow], batch: Sequence[PrefixGroup], read: Callable[[int, Tensor], T]
    ) -> tuple[list[T], Mapping[str, int]]:
        """(values in the order of the groups, what was counted)."""
        before = Counter(self.reader.counts)
        values = {index: read(index, states) for index, states in self.reader.read(rows, batch)}
        return [values[index] for group in batch for index in group.rows], self.reader.counts - before

    def _log_softmax(self, hidden: Tensor) -> Tensor:
        """[positions, vocabulary] float32, over exactly the tokenizer's vocabulary."""
        with torch.inference_mode():
            return torch.log_softmax(logits_of(self.model, hidden, vocabulary_size(self.tokenizer)), dim=-1)

    def _read_next(self, prompts: Sequence[Sequence[int]], what: object, read: Callable[[Tensor], T]) -> list[T]:
        """``read([vocabulary] log-probabilities of the next token)``; ``what`` decides it too."""
        rows = [ReadRow(list(prompt), len(prompt) - 1) for prompt in prompts]
        contents = [[what, list(prompt)] for prompt in prompts]
        return self._read(rows, contents, lambda index, hidden: read(self._log_softmax(hidden)[0]))

    def read_sums(self, prompts: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]) -> list[list[float]]:
        lists = [list(group) for group in groups]
        return self._read_next(prompts, lists, lambda logps: [float(torch.logsumexp(logps[ids], 0)) for ids in lists])

    def read_top(self, prompts: Sequence[Sequence[int]], k: int) -> list[dict[int, float]]:
        def most_probable(logps: Tensor) -> list[tuple[int, float]]:
            top = logps.topk(min(k, len(logps)))
            return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))

        return list(map(dict, self._read_next(prompts, k, most_probable)))


@contextmanager
def own_generation_config(model: Any, config: Any) -> Iterator[None]:
    """Let ``config`` alone decide: ``generate`` fills what it leaves unset from the checkpoint's own defaults."""
    previous_config, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = previous_config


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

    ``temperature`` above 0; ``top_p``: nucleus sampling (Holtzman et al. 2020), at least one token.
    """
    probabilities = (logits.float() / temperature).softmax(-1)
    if top_p < 1.0:
        sorted_probabilities, ids = torch.sort(probabilities, stable=True, dim=-1, descending=True)
        mass_above = sorted_probabilities.cumsum(-1) - sorted_probabilities  # the mass of all more probable tokens
        probabilities = torch.zeros_like(probabilities).scatter(-1, ids, sorted_probabilities * (mass_above < top_p))
    return invert(probabilities, numbers)


def invert(probabilities: Tensor, numbers: Tensor) -> Tensor:
    """[rows, V] masses of any sum and [rows] numbers in [0, 1) -> [rows] int64, by the cumulative distribution."""
    cumulative = probabilities.cumsum(-1)
    # right=True: the first token whose cumulative mass exceeds the number, so a token of mass 0 is never drawn
    places = torch.searchsorted(cumulative, numbers[:, None] * cumulative[:, -1:], right=True)[:, 0]
    # Rounding may leave the number at the very end: then the last token that has any mass.
    last_token = probabilities.shape[-1] - 1 - probabilities.flip(-1).gt(0).int().argmax(-1)
    return torch.minimum(places, last_token)


class RowSampler:
    """A logits processor for ``generate``: leaves of each row's logits only the token that its stream draws."""

    def __init__(self, numbers: Sequence[Sequence[float]], width: int, temperature: float, top_p: float) -> None:
        """``numbers``: [rows, new tokens]; ``width``: tokens of the padded prompts, before the first draw."""
        self.numbers, self.width, self.temperature, self.top_p = numbers, width, temperature, top_p

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.width
        numbers = torch.tensor([row[step] for row in self.numbers], device=scores.device)
        tokens = draw(scores, numbers, self.temperature, self.top_p)
        return torch.full_like(scores, float("-inf")).scatter(-1, tokens[:, None], 0.0)


class LogitRecorder:
    """A logits processor that keeps what it sees, [rows, V] at each step, and changes nothing."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append(scores)
        return scores
