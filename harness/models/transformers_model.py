"""Models in process: chat generation and log-probabilities through transformers, everything seeded.

``torch.multinomial`` takes its numbers from one generator for the whole batch: another batch size would give other
responses. Here each response has its own seeded stream, and a token is drawn by inverting the cumulative distribution
at the stream's next number: where only rounding differs, the same response comes out (but at a boundary).
"""

from __future__ import annotations

import logging
import math
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
from harness.contracts.model import Checkpoint, Sampling, TokenResponse, check_lengths
from harness.errors import UserError
from harness.models.chat import (
    TemplateRefusal,
    continuation,
    decode,
    encode,
    encode_prompt,
    pad_id,
    prompt_text,
    stop_ids,
    unused_ids,
    vocabulary_size,
)
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
from harness.thinking import final_opening
from harness.types import Messages, Response

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


class TransformersModel:
    def __init__(
        self, name: str, model: Any, tokenizer: Any, batch_tokens: int, services: Services = Services()
    ) -> None:
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.batch_tokens, self.progress, self.journal = batch_tokens, services.progress, services.journal
        self.pad, self.stops = pad_id(tokenizer), stop_ids(tokenizer, model)

    def generate(
        self, conversations: Sequence[Messages], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[Response]]:
        rows = self._draw(self._prompts(conversations), sampling, seed, n)
        return [[self._response(ids) for ids in responses] for responses in rows]

    def _prompts(self, conversations: Sequence[Messages]) -> list[list[int]]:
        """Empty where the chat template refuses, or there is no text. Raises UserError where it takes none."""
        prompts: list[list[int]] = []
        refusal: UserError | None = None
        for messages in conversations:
            try:
                prompts.append(encode_prompt(self.tokenizer, messages))
            except TemplateRefusal as error:
                log.warning("%s", error)
                prompts.append([])
                refusal = error
        if refusal is not None and not any(prompts):
            raise refusal
        return prompts

    def encode_prompts(self, conversations: Sequence[Messages]) -> list[list[int]]:
        return [encode_prompt(self.tokenizer, messages) for messages in conversations]

    def generate_tokens(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[TokenResponse]]:
        return [
            [
                TokenResponse(tuple(ids[:-1]), "stop") if self._ended(ids) else TokenResponse(tuple(ids), "length")
                for ids in responses
            ]
            for responses in self._draw(prompts, sampling, seed, n)
        ]

    def _draw(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, n: int) -> list[list[list[int]]]:
        """n responses to each prompt, up to and with the token that ended them."""
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
                    out[index] = [self._cut_at_stop(row) for row in rows[place * n : (place + 1) * n]]
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

    def _cut_at_stop(self, ids: list[int]) -> list[int]:
        return ids[: next((place + 1 for place, token in enumerate(ids) if token in self.stops), None)]

    def _ended(self, ids: Sequence[int]) -> bool:
        return bool(ids) and ids[-1] in self.stops

    def _response(self, ids: Sequence[int]) -> Response:
        is_complete = self._ended(ids)
        text = decode(self.tokenizer, ids[:-1] if is_complete else ids)
        return Response(text, is_complete, len(ids), ids=tuple(ids))

    @cached_property
    def opening(self) -> str:
        """The mark of thinking that the template writes before a reply (DeepSeek-R1): a cut reply holds no mark."""
        return final_opening(prompt_text(self.tokenizer, [{"role": "user", "content": "q"}]))

    def mean_logps(self, conversations: Sequence[Messages], responses: Sequence[Response]) -> list[float]:
        """Raises ValueError for an empty, unfinished response, and TooLong."""
        rows = [
            encode(self.tokenizer, messages, response.text, response.finished, response.ids)
            for messages, response in zip(conversations, responses, strict=True)
        ]
        if not all(row.response for row in rows):
            raise ValueError("an empty, unfinished response has no tokens to average over")
        check_lengths(self.name, [len(row.prompt) + len(row.response) for row in rows], self.context)
        # The last token predicts nothing, and the last prompt token predicts the first of the response.
        fed = [ReadRow([*row.prompt, *row.response[:-1]], len(row.prompt) - 1) for row in rows]

        def mean_logp(index: int, hidden: Tensor) -> float:
            logps = self._log_softmax(hidden)
            labels = torch.tensor(rows[index].response, device=logps.device)
            return float(logps.gather(-1, labels[:, None]).mean())

        return self._read(fed, [[list(row.prompt), list(row.response)] for row in rows], mean_logp)

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

    def _next_logps(self, conversations: Sequence[Messages], what: object, read: Callable[[Tensor], T]) -> list[T]:
        """``read([vocabulary] log-probabilities of the first token)``; ``what`` decides it too. Raises TooLong."""
        prompts = [encode_prompt(self.tokenizer, messages) for messages in conversations]
        check_lengths(self.name, [len(prompt) for prompt in prompts], self.context)
        rows = [ReadRow(prompt, len(prompt) - 1) for prompt in prompts]
        contents = [[what, list(prompt)] for prompt in prompts]
        return self._read(rows, contents, lambda index, hidden: read(self._log_softmax(hidden)[0]))

    def truncate(self, text: str, max_tokens: int) -> str:
        places = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(places) <= max_tokens else text[: places[max_tokens - 1][1]]

    def choice_logps(self, conversations: Sequence[Messages], choices: Sequence[str]) -> list[list[float]]:
        """Raises TooLong, and UserError when a choice has no token of its own."""
        if not conversations:
            return []
        groups = choice_ids(self.tokenizer, conversations[0], choices)
        return self._next_logps(
            conversations, groups, lambda logps: [float(torch.logsumexp(logps[ids], 0)) for ids in groups]
        )

    def first_token(self, conversations: Sequence[Messages], k: int) -> list[dict[str, float]]:
        """Tokens that decode to the same text are added up."""

        def most_probable(logps: Tensor) -> dict[str, float]:
            top, texts = logps.topk(min(k, len(logps))), dict[str, float]()
            for value, token in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                text = self.tokenizer.decode([token])
                earlier_logp = texts.get(text)
                texts[text] = value if earlier_logp is None else math.log(math.exp(earlier_logp) + math.exp(value))
            return texts

        return self._next_logps(conversations, k, most_probable)


def room(prompt: Sequence[int], context: int | None, max_new_tokens: int) -> int:
    """Tokens that can be drawn after a prompt; none after an empty one, which stands for a refused conversation."""
    if not prompt:
        return 0
    return max_new_tokens if context is None else max(0, min(max_new_tokens, context - len(prompt)))


def choice_ids(tokenizer: Any, messages: Messages, choices: Sequence[str]) -> list[list[int]]:
    """Token ids that stand for each choice after this prompt: as tokenised in context, alone, after a space or newline.

    Raises UserError unless every choice has at least one single token and no two choices share one.
    """

    def ids_of(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    prompt_string = prompt_text(tokenizer, messages)
    prompt = ids_of(prompt_string)
    groups: list[list[int]] = []
    for choice in choices:
        in_context = continuation(tokenizer, prompt, ids_of(prompt_string + choice), choice)
        variants = [in_context, *(ids_of(lead + choice) for lead in ("", " ", "\n"))]
        single = [ids[0] for ids in variants if len(ids) == 1 and tokenizer.decode(ids).strip() == choice]
        groups.append(list(dict.fromkeys(single)))
    tokens = [token for group in groups for token in group]
    if not all(groups) or len(set(tokens)) != len(tokens):
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path!r} does not write each of {list(choices)} as a token of its "
            "own, so multiple-choice selection probabilities cannot be read from it. Use another teacher."
        )
    return groups


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
