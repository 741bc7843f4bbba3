"""The contract of a model: a protocol for each capability, and the values that they exchange."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from harness.contracts.options import Nucleus, Temperature, Tokens, options
from harness.errors import UserError
from harness.types import Messages, Response


class Progress(Protocol):
    def __call__(self, done: int, total: int, info: str = "") -> None:
        """``done`` and ``total``: items; ``info``: anything else that is worth a word (tokens per second)."""


@dataclass(frozen=True)
class Checkpoint:
    """A model's files. ``fingerprint``: hash of their content, which stands for the model in keys."""

    name: str
    location: str
    """What ``from_pretrained`` takes: a folder, or a hub id."""
    revision: str | None
    fingerprint: str
    tokenizer: str
    """Fingerprint of the tokenizer and its chat template alone: what decides how long a prompt is."""
    absence: str = ""
    """Why the files are not here: a placeholder, for a plan that cannot run."""


@options
class Sampling:
    """How to draw responses, without top-k or penalties."""

    max_new_tokens: Tokens
    """Responses are cut here, and marked unfinished."""
    temperature: Temperature = 1.0
    """Divides the logits; 0 is greedy."""
    top_p: Nucleus = 1.0
    """Nucleus: the smallest set of tokens with this probability mass."""


class TokenResponse(NamedTuple):
    """A response as the tokens that were drawn, end-of-turn included; ``length``: cut at the limit."""

    ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]


class TooLong(UserError):
    """Texts longer than the model's context. ``places``: their indices among the texts of the call."""

    def __init__(self, message: str, places: list[int]) -> None:
        super().__init__(message)
        self.places = places


def check_lengths(name: str, lengths: Collection[int], context: int | None) -> None:
    """Raises TooLong where one of ``lengths`` (tokens) is above ``context``."""
    places = [] if context is None else [place for place, length in enumerate(lengths) if length > context]
    if places:
        raise TooLong(f"{len(places)} texts of up to {max(lengths):,} tokens, {name} reads {context:,}", places)


@runtime_checkable
class GeneratesText(Protocol):
    """Capability ``generate``: texts in reply to conversations."""

    name: str

    def generate(
        self, conversations: Sequence[Messages], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[Response]]:
        """n responses to each conversation, in order; a ``plain`` one (``harness/types.py``) is text to continue."""


@runtime_checkable
class GeneratesTokens(Protocol):
    """Capability ``tokens``: the tokenizer is ours, so prompts and responses can be token ids."""

    name: str

    @property
    def context(self) -> int | None:
        """Longest input, tokens; ``None``: not known."""

    def encode_prompts(self, conversations: Sequence[Messages]) -> list[list[int]]:
        """The ids of each conversation under the chat template, up to where the assistant is to speak."""

    def generate_tokens(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[TokenResponse]]:
        """n responses to each prompt (ids), in order, as ids with the reason why each ended."""

    def truncate(self, text: str, max_tokens: int) -> str:
        """The first ``max_tokens`` tokens of ``text``, spelled as in it; ``text`` itself where it has no more."""


@runtime_checkable
class ReadsLogps(Protocol):
    """Capability ``logps``: how probable a response is under the model."""

    name: str

    def mean_logps(self, conversations: Sequence[Messages], responses: Sequence[Response]) -> list[float]:
        """Mean log-probability per token of each response after its conversation, nats; the end-of-turn token counts
        where the response finished. Raises TooLong."""


@runtime_checkable
class ReadsChoices(Protocol):
    """Capability ``choices``: the distribution over the first token of the reply."""

    name: str

    def choice_logps(self, conversations: Sequence[Messages], choices: Sequence[str]) -> list[list[float]]:
        """Log-probability, nats, that the reply starts with each choice (one letter), not renormalised: summed over
        the single tokens that stand for it in this context. Raises TooLong."""

    def first_token(self, conversations: Sequence[Messages], k: int) -> list[dict[str, float]]:
        """The k most probable first tokens of the reply, text to log-probability (what ``top_logprobs`` reports)."""


class RowLogps(NamedTuple):
    """What a model says of one response, token by token; all in nats."""

    own: list[float]
    """Log-probability of each token of the response."""
    top_ids: list[list[int]]
    """At each token, the k most probable ones, most probable first; empty lists for k = 0."""
    top_logps: list[list[float]]


@runtime_checkable
class ReadsTokenLogps(Protocol):
    """Capability ``token_logps``: log-probabilities at every token of rows that are token ids."""

    name: str

    def token_logps(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], k: int = 0) -> list[RowLogps]:
        """Of (prompt, response) ids, neither of them empty, in order. Raises TooLong."""


class ChatModel(GeneratesText, GeneratesTokens, ReadsLogps, ReadsChoices, ReadsTokenLogps, Protocol):
    """A model with every capability."""


Capability = Literal["generate", "tokens", "logps", "choices", "token_logps"]
PROTOCOLS: Final[dict[Capability, type]] = {
    "generate": GeneratesText,
    "tokens": GeneratesTokens,
    "logps": ReadsLogps,
    "choices": ReadsChoices,
    "token_logps": ReadsTokenLogps,
}
