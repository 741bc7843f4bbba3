"""lm-eval drives our models: a subclass of its ``LM`` over any ``GeneratesText``, or over token log-probabilities.

Imported inside functions only (lm-eval is heavy). ``apply_chat_template`` returns the history as JSON, for
``generate_until`` to ask the model with its own template: training and evaluation share one way to tokens. Without a
chat template, lm-eval's text is what the model continues.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import datasets
import lm_eval.api.task
from lm_eval.api.model import LM

from harness.contracts.model import Sampling
from harness.types import PLAIN, Messages, Response
from judges.benchmarks.gsm8k.stops import cut_at_stop

_ROLLING = "distilbench reads no perplexities of whole texts: such tasks need lm-eval's own models"
_ROWS = 512  # whose log-probabilities are read at once: progress shows, and memory stays small


class ChatLM(LM):  # type: ignore[misc]  # lm-eval ships no types
    """lm-eval's model interface over a ``GeneratesText``; keeps every response, in the order asked."""

    tokenizer_name = "distilbench-chat"

    def __init__(self, model: Any, sampling: Sampling, seed: int, is_chat: bool) -> None:
        super().__init__()
        self.model, self.sampling, self.seed, self.is_chat = model, sampling, seed, is_chat
        self.responses: list[Response] = []

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return json.dumps(chat_history, ensure_ascii=True)

    def chat_template(self, chat_template: bool | str = False) -> str:
        return "distilbench: the model's own chat template"

    def sampling_of(self, settings: Mapping[str, Any]) -> Sampling:
        """``settings``: a request's ``generation_kwargs``."""
        return self.sampling

    def generate_until(self, requests: list[Any]) -> list[str]:
        """One call of the model for all requests that are drawn alike; texts end before the first stop string."""
        groups: dict[Sampling, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(self.sampling_of(request.args[1]), []).append(place)
        found: dict[int, Response] = {}
        for number, (sampling, places) in enumerate(groups.items()):
            texts = [requests[place].args[0] for place in places]
            talks = [json.loads(text) if self.is_chat else _plain(text) for text in texts]
            rows = self.model.generate(talks, sampling, self.seed + number)
            found |= {place: row[0] for place, row in zip(places, rows, strict=True)}
        replies = [found[place] for place in range(len(requests))]
        self.responses.extend(replies)
        stops = [stops_of(request.args[1]) for request in requests]
        return [cut_at_stop(reply.text, stop) for reply, stop in zip(replies, stops, strict=True)]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Log-probability, nats, of each continuation after its context, and whether greedy decoding writes it."""
        rows = [self._row(*request.args[:2]) for request in requests]
        results: list[tuple[float, bool]] = []
        for start in range(0, len(rows), _ROWS):
            batch = rows[start : start + _ROWS]
            for (_, ids), row in zip(batch, self.model.token_logps(batch, 1), strict=True):
                is_greedy = all(token == top[0] for token, top in zip(ids, row.top_ids, strict=True))
                results.append((sum(row.own), is_greedy))
        return results

    def _row(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of both, cut from the left where the model's context is too short, as lm-eval's models do."""
        # White space between them belongs to the continuation: tokenizers join it with the next word.
        stripped = context.rstrip()
        context, continuation = stripped, context[len(stripped) :] + continuation
        prompts = self.model.encode_prompts([_plain(context), _plain(context + continuation)])
        prompt, whole = map(list, prompts)
        response = whole[len(prompt) :]
        if not prompt:  # nothing stands before it: its first token has no probability
            prompt, response = whole[:1], whole[1:]
        longest = self.model.context
        if longest is not None and len(prompt) + len(response) > longest:
            prompt = prompt[-max(1, longest - len(response)) :]
        return prompt, response[: None if longest is None else max(1, longest - len(prompt))]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        raise NotImplementedError(_ROLLING)


def stops_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Stop strings of a request; a task file may state one as a text."""
    until = settings.get("until") or ()
    return (until,) if isinstance(until, str) else tuple(until)


def _plain(text: str) -> Messages:
    return [{"role": PLAIN, "content": text}]


@contextmanager
def quiet() -> Iterator[None]:
    """lm-eval logs each step, warns about custom data and draws a bar for building prompts; none of it is news here."""
    logger = logging.getLogger("lm_eval")
    # lm-eval has no switch for its bars: the name that it calls is replaced for the length of the block.
    level, bar = logger.level, lm_eval.api.task.tqdm
    logger.setLevel(logging.ERROR)
    were_off = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    lm_eval.api.task.tqdm = lambda rows, **_: rows
    try:
        yield
    finally:
        logger.setLevel(level)
        lm_eval.api.task.tqdm = bar
        if not were_off:
            datasets.enable_progress_bars()
