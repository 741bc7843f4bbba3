"""What every model whose tokenizer is ours does alike, wherever its weights are: conversations become token ids, drawn
ids responses, and responses rows whose log-probabilities are read."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.contracts.model import RowLogps, Sampling, TokenResponse, check_lengths
from harness.errors import UserError
from harness.models.chat import (
    EncodedTurn,
    TemplateRefusal,
    continuation,
    decode,
    encode,
    encode_prompt,
    ids_of,
    prompt_text,
)
from harness.thinking import final_opening
from harness.types import Messages, Response

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


class TokenModel(ABC):
    """Every capability, over what a subclass does with token ids."""

    def __init__(self, name: str, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int]) -> None:
        """``stops``: ids that end a response."""
        self.name, self.stops = name, list(stops)
        self.tokenizer: Any = tokenizer

    @property
    @abstractmethod
    def context(self) -> int | None:
        """Longest input, tokens; ``None``: not known."""

    @abstractmethod
    def draw(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, n: int) -> list[list[list[int]]]:
        """n responses to each prompt, up to and with the token that ended them; none of a token where ``room`` is 0."""

    @abstractmethod
    def read_rows(self, rows: Sequence[EncodedTurn], k: int) -> list[RowLogps]:
        """No row is longer than ``context``, no response empty; ``k``: of the most probable tokens at each place."""

    def read_means(self, rows: Sequence[EncodedTurn]) -> list[float]:
        """Mean log-probability of each row's response, nats; rows as for ``read_rows``."""
        return [sum(row.own) / len(row.own) for row in self.read_rows(rows, 0)]

    @abstractmethod
    def read_sums(self, prompts: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probability, nats, of each group of ids as the next token of each prompt."""

    @abstractmethod
    def read_top(self, prompts: Sequence[Sequence[int]], k: int) -> list[dict[int, float]]:
        """The k most probable next tokens of each prompt, most probable first, with their log-probabilities."""

    def generate(
        self, conversations: Sequence[Messages], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[Response]]:
        rows = self.draw(self._prompts(conversations), sampling, seed, n)
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
            for responses in self.draw(prompts, sampling, seed, n)
        ]

    def cut_at_stop(self, ids: list[int]) -> list[int]:
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
        rows: list[EncodedTurn] = []
        asked: Messages | None = None
        prompt: list[int] = []
        for messages, response in zip(conversations, responses, strict=True):
            if response.ids and messages is not asked:
                # A conversation comes n times, one after the other, and its chat template costs more than the rest.
                asked, prompt = messages, encode_prompt(self.tokenizer, messages)
            known = prompt if messages is asked else None
            rows.append(encode(self.tokenizer, messages, response.text, response.finished, response.ids, known))
        if not all(row.response for row in rows):
            raise ValueError("an empty, unfinished response has no tokens to average over")
        check_lengths(self.name, [len(row.prompt) + len(row.response) for row in rows], self.context)
        return self.read_means(rows)

    def token_logps(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], k: int = 0) -> list[RowLogps]:
        turns = [EncodedTurn(list(prompt), list(response)) for prompt, response in rows]
        check_lengths(self.name, [len(turn.prompt) + len(turn.response) for turn in turns], self.context)
        return self.read_rows(turns, k)

    def truncate(self, text: str, max_tokens: int) -> str:
        places = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(places) <= max_tokens else text[: places[max_tokens - 1][1]]

    def choice_logps(self, conversations: Sequence[Messages], choices: Sequence[str]) -> list[list[float]]:
        """Raises TooLong, and UserError when a choice has no token of its own."""
        if not conversations:
            return []
        groups = choice_ids(self.tokenizer, conversations[0], choices)
        return self.read_sums(self._checked_prompts(conversations), groups)

    def first_token(self, conversations: Sequence[Messages], k: int) -> list[dict[str, float]]:
        """Tokens that decode to the same text are added up."""
        rows = []
        for top in self.read_top(self._checked_prompts(conversations), k):
            texts = dict[str, float]()
            for token, value in top.items():
                text = self.tokenizer.decode([token])
                earlier_logp = texts.get(text)
                texts[text] = value if earlier_logp is None else math.log(math.exp(earlier_logp) + math.exp(value))
            rows.append(texts)
        return rows

    def _checked_prompts(self, conversations: Sequence[Messages]) -> list[list[int]]:
        """Raises TooLong."""
        prompts = self.encode_prompts(conversations)
        check_lengths(self.name, [len(prompt) for prompt in prompts], self.context)
        return prompts


def room(prompt: Sequence[int], context: int | None, max_new_tokens: int) -> int:
    """Tokens that can be drawn after a prompt; none after an empty one, which stands for a refused conversation."""
    if not prompt:
        return 0
    return max_new_tokens if context is None else max(0, min(max_new_tokens, context - len(prompt)))


def choice_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages, choices: Sequence[str]) -> list[list[int]]:
    """Token ids that stand for each choice after this prompt: as tokenised in context, alone, after a space or newline.

    Raises UserError unless every choice has at least one single token and no two choices share one.
    """
    prompt_string = prompt_text(tokenizer, messages)
    prompt = ids_of(tokenizer, prompt_string)
    groups: list[list[int]] = []
    for choice in choices:
        in_context = continuation(tokenizer, prompt, ids_of(tokenizer, prompt_string + choice), choice)
        variants = [in_context, *(ids_of(tokenizer, lead + choice) for lead in ("", " ", "\n"))]
        single = [ids[0] for ids in variants if len(ids) == 1 and str(tokenizer.decode(ids)).strip() == choice]
        groups.append(list(dict.fromkeys(single)))
    tokens = [token for group in groups for token in group]
    if not all(groups) or len(set(tokens)) != len(tokens):
        raise UserError(
            f"the tokenizer of {tokenizer.name_or_path!r} does not write each of {list(choices)} as a token of its "
            "own, so multiple-choice selection probabilities cannot be read from it. Use another teacher."
        )
    return groups
