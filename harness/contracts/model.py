"""What stages, benchmarks and judges need of a model, as one small protocol.

``load_model`` gives the transformers implementation (``harness/models/transformers_model.py``, imported only then,
because torch is heavy). ``FakeModel`` ships with the product for tests, here and in your own project.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.errors import UserError
from harness.models.chat import Messages
from harness.models.checkpoint import Checkpoint
from harness.types import Response

Progress = Callable[[int, int], None]
"""(done, total) items."""


@dataclass(frozen=True)
class Sampling:
    """How to draw responses. ``temperature`` 0 is greedy; nothing else (top-k, penalties) is applied."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0


class TooLong(UserError):
    """Texts longer than the model reads. ``places``: which of those that were asked about."""

    def __init__(self, message: str, places: list[int]) -> None:
        super().__init__(message)
        self.places = places


def check_lengths(name: str, lengths: Collection[int], context: int | None) -> None:
    """Raises TooLong where one of ``lengths`` (tokens) is above ``context``; ``None``: the model has no limit."""
    places = [] if context is None else [place for place, length in enumerate(lengths) if length > context]
    if places:
        raise TooLong(f"{len(places)} texts of up to {max(lengths):,} tokens, {name} reads {context:,}", places)


class ChatModel(Protocol):
    """What the stages and the benchmarks need of a model."""

    name: str

    def generate(
        self, conversations: Sequence[Messages], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[Response]]:
        """n responses to each conversation, in order."""

    def mean_logps(self, conversations: Sequence[Messages], responses: Sequence[Response]) -> list[float]:
        """Mean log-probability per response token, nats, end-of-turn included when the response finished.

        Raises TooLong where the model does not read so much; ``choice_logps`` too.
        """

    def choice_logps(self, conversations: Sequence[Messages], choices: Sequence[str]) -> list[list[float]]:
        """Log-probability, nats, that the reply starts with each choice (one letter), not renormalised.

        A choice's probability is the sum over the single tokens that stand for it in this context.
        """

    def cut(self, text: str, max_tokens: int) -> str:
        """The first ``max_tokens`` tokens of ``text``, as they stand in it; ``text`` itself where it has no more."""

    def first_token(self, conversations: Sequence[Messages], k: int) -> list[dict[str, float]]:
        """The k most probable first tokens of the reply, text to log-probability (what ``top_logprobs`` reports)."""


@dataclass(frozen=True)
class LoadOptions:
    """How to hold a model in memory. ``batch_tokens`` bounds padded prompt tokens (with room for the answer)."""

    dtype: str = "float32"
    device: str = "auto"
    batch_tokens: int = 16384
    trust_remote_code: bool = False


def load_model(
    name: str | Checkpoint, options: LoadOptions = LoadOptions(), progress: Progress | None = None
) -> ChatModel:
    """Load a checkpoint by name, in evaluation mode. Raises UserError when it is not there or cannot be read."""
    from harness.models.transformers_model import load

    return load(name, options, progress)


class FakeModel:
    """A model without weights: answers are a function of the prompt and the seed. For tests of everything around."""

    def __init__(self, name: str = "fake", answer: Callable[[Messages, int], str] | None = None) -> None:
        self.name = name
        self.answer = answer or (lambda messages, seed: f"answer {seed} to {messages[-1]['content']}")

    def generate(
        self, conversations: Sequence[Messages], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[Response]]:
        """n answers per conversation, with seeds ``seed`` to ``seed + n - 1``; one token per word."""
        return [[self._respond(messages, seed + draw, sampling) for draw in range(n)] for messages in conversations]

    def _respond(self, messages: Messages, seed: int, sampling: Sampling) -> Response:
        words = self.answer(messages, seed).split(" ")
        kept = words[: sampling.max_new_tokens]
        return Response(" ".join(kept), finished=len(kept) == len(words), tokens=len(kept))

    def mean_logps(self, conversations: Sequence[Messages], responses: Sequence[Response]) -> list[float]:
        """A number in (-2, 0] fixed by the response's text."""
        return [-2.0 * _unit(response.text) for response in responses]

    def choice_logps(self, conversations: Sequence[Messages], choices: Sequence[str]) -> list[list[float]]:
        """Log-probabilities that add up to 1 over the choices, fixed by the conversation's text."""
        rows = [[_unit(messages[-1]["content"] + choice) + 0.1 for choice in choices] for messages in conversations]
        return [[math.log(value / sum(row)) for value in row] for row in rows]

    def cut(self, text: str, max_tokens: int) -> str:
        """The first words; a token is a word."""
        return " ".join(text.split(" ")[:max_tokens])

    def first_token(self, conversations: Sequence[Messages], k: int) -> list[dict[str, float]]:
        """``m`` and ``M`` with probabilities fixed by the conversation's text."""
        heads = [0.01 + 0.98 * _unit(messages[-1]["content"]) for messages in conversations]
        return [dict(list({"m": math.log(p), "M": math.log(1 - p)}.items())[:k]) for p in heads]


def _unit(text: str) -> float:
    """[0, 1), fixed by the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
