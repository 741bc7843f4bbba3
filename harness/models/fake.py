"""A model without weights, for tests of everything around one. Ships with the product, for tests of your own too."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

from harness.contracts.model import RowLogps, Sampling, TokenResponse
from harness.types import Messages, Response


class FakeModel:
    """Every capability; answers are a function of the prompt and the seed. A token is a word."""

    context: int | None = None

    def __init__(self, name: str = "fake", answer: Callable[[Messages, int], str] | None = None) -> None:
        self.name = name
        self.answer = answer or (lambda messages, seed: f"answer {seed} to {messages[-1]['content']}")
        self.words: list[str] = []  # token id to word, in the order of their first use

    def generate(
        self, conversations: Sequence[Messages], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[Response]]:
        """n answers per conversation, with seeds ``seed`` to ``seed + n - 1``."""
        limit = sampling.max_new_tokens
        answers = [[self.answer(talk, seed + draw).split(" ") for draw in range(n)] for talk in conversations]
        return [
            [Response(" ".join(words[:limit]), len(words) <= limit, min(len(words), limit)) for words in row]
            for row in answers
        ]

    def encode_prompts(self, conversations: Sequence[Messages]) -> list[list[int]]:
        """Ids of the words of the last turn."""
        return [self._encode(messages[-1]["content"]) for messages in conversations]

    def generate_tokens(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, n: int = 1
    ) -> list[list[TokenResponse]]:
        """What ``generate`` answers to a single user turn of these words."""
        talks = [[{"role": "user", "content": " ".join(self.words[token] for token in ids)}] for ids in prompts]
        return [
            [TokenResponse(tuple(self._encode(r.text)), "stop" if r.finished else "length") for r in responses]
            for responses in self.generate(talks, sampling, seed, n)
        ]

    def _encode(self, text: str) -> list[int]:
        words = text.split(" ")
        self.words += [word for word in dict.fromkeys(words) if word not in self.words]
        return [self.words.index(word) for word in words]

    def truncate(self, text: str, max_tokens: int) -> str:
        return " ".join(text.split(" ")[:max_tokens])

    def mean_logps(self, conversations: Sequence[Messages], responses: Sequence[Response]) -> list[float]:
        """A number in (-2, 0] fixed by the response's text."""
        return [-2.0 * _unit(response.text) for response in responses]

    def token_logps(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], k: int = 0) -> list[RowLogps]:
        """A number in (-2, 0] for each token, fixed by its id; the most probable tokens are 0 to k - 1."""

        def logp(token: int) -> float:
            return -2.0 * _unit(str(token))

        return [
            RowLogps(
                [logp(token) for token in response],
                [list(range(k)) for _ in response],
                [[logp(token) for token in range(k)] for _ in response],
            )
            for _, response in rows
        ]

    def choice_logps(self, conversations: Sequence[Messages], choices: Sequence[str]) -> list[list[float]]:
        """Log-probabilities that add up to 1 over the choices, fixed by the conversation's text."""
        rows = [[_unit(messages[-1]["content"] + choice) + 0.1 for choice in choices] for messages in conversations]
        return [[math.log(value / sum(row)) for value in row] for row in rows]

    def first_token(self, conversations: Sequence[Messages], k: int) -> list[dict[str, float]]:
        """``m`` and ``M`` with probabilities fixed by the conversation's text."""
        heads = [0.01 + 0.98 * _unit(messages[-1]["content"]) for messages in conversations]
        return [dict(list({"m": math.log(p), "M": math.log(1 - p)}.items())[:k]) for p in heads]


def _unit(text: str) -> float:
    """[0, 1), fixed by the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
