"""Checks of a backend against its contract (``harness/contracts/backend.py``): a tiny checkpoint, a fake server."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from harness.checks.finding import Checks, options_check, repeatable, require
from harness.checks.tiny_models import WORDS, tiny_checkpoint
from harness.contracts.backend import Backend, Services
from harness.contracts.judge import JudgeError
from harness.contracts.model import PROTOCOLS, Sampling
from harness.models.checkpoint import resolve
from harness.types import Messages, Reply, Request, Response

C = TypeVar("C")

TALKS: Final[Sequence[Messages]] = (
    ({"role": "user", "content": "ba be"},),
    ({"role": "user", "content": "bi"}, {"role": "assistant", "content": "bo"}, {"role": "user", "content": "da"}),
)
SAMPLING: Final = Sampling(max_new_tokens=6)


def fake_server(
    kind: str,
    options: Mapping[str, object],
    requests: Sequence[Request],
    progress: Callable[[int], None] | None = None,
) -> list[Reply | JudgeError]:
    """An ``AskServer`` without a server: repeats the last turn."""
    return [Reply(request.messages[-1]["content"], "stop", "fake", 1, 1) for request in requests]


@contextmanager
def model(backend: Backend[C], config: C) -> Iterator[Any]:
    """A model of the backend: the tiny checkpoint, where it takes one. What it can do is to be found out: no type."""
    with tempfile.TemporaryDirectory(prefix="distilbench-check-") as folder:
        checkpoint = resolve(str(tiny_checkpoint(Path(folder), seed=0)))
        yield backend.load(checkpoint, config, Services(ask=fake_server))


def check_capabilities(backend: Backend[C], config: C) -> str:
    """The model has the protocol of each capability that the backend declares, and of no other."""
    unknown = sorted(backend.capabilities - set(PROTOCOLS))
    require(not unknown, f"capabilities that nothing asks for: {', '.join(unknown)}")
    with model(backend, config) as subject:
        offered = {capability for capability, protocol in PROTOCOLS.items() if isinstance(subject, protocol)}
    lacking, more = sorted(backend.capabilities - offered), sorted(offered - backend.capabilities)
    require(not lacking, f"declared, but the model has no methods for: {', '.join(lacking)}")
    require(not more, f"the model has methods for {', '.join(more)}, which are not declared")
    return ", ".join(sorted(backend.capabilities))


def check_generate(backend: Backend[C], config: C) -> str:
    """n responses to each conversation, in order; the seed decides them."""
    if "generate" not in backend.capabilities:
        return "not offered"
    with model(backend, config) as subject:
        responses = repeatable(lambda: subject.generate(TALKS, SAMPLING, seed=3, n=2), "generate() with the same seed")
    require([len(row) for row in responses] == [2, 2], "there must be n responses to each conversation, in order")
    for response in (response for row in responses for response in row):
        require(isinstance(response, Response), "responses must be Response")
        limit = SAMPLING.max_new_tokens
        require(response.tokens <= limit, f"a response has more than max_new_tokens = {limit} tokens")
    return "2 responses to each of 2 conversations"


def check_logps(backend: Backend[C], config: C) -> str:
    """Log-probabilities are finite, at most 0, and those of the choices add up to at most 1."""
    parts = []
    with model(backend, config) as subject:
        if "logps" in backend.capabilities:
            answers = [Response("ba bi", finished=True, tokens=2), Response("be", finished=False, tokens=1)]
            logps = subject.mean_logps(TALKS, answers)
            good = len(logps) == len(answers) and all(math.isfinite(logp) and logp <= 0 for logp in logps)
            require(good, f"mean_logps() gives {logps}")
            parts.append("mean log-probabilities")
        if "choices" in backend.capabilities:
            rows = subject.choice_logps(TALKS, WORDS[:2])  # single tokens of the tiny checkpoint
            # Sums of rounded probabilities may exceed 1 a little.
            require(all(sum(map(math.exp, row)) <= 1 + 1e-4 for row in rows), "choices have more than probability 1")
            tops = subject.first_token(TALKS, 3)
            require(all(0 < len(top) <= 3 for top in tops), "first_token(k=3) must give 1 to 3 tokens")
            parts.append("choices and first tokens")
    return " and ".join(parts) or "not offered"


def check_tokens(backend: Backend[C], config: C) -> str:
    """``generate`` is ``generate_tokens`` on the encoded prompts; a truncated text begins like the whole."""
    if "tokens" not in backend.capabilities:
        return "not offered"
    with model(backend, config) as subject:
        prompts = subject.encode_prompts(TALKS)
        require(len(prompts) == len(TALKS) and all(prompts), "encode_prompts() must give ids of each conversation")
        rows = subject.generate_tokens(prompts, SAMPLING, seed=3, n=2)
        texts = subject.generate(TALKS, SAMPLING, seed=3, n=2)
        ends = [[tokens.finish_reason == "stop" for tokens in row] for row in rows]
        same = ends == [[response.finished for response in row] for row in texts]
        require(same, "generate_tokens() on encode_prompts() draws other responses than generate()")
        text = "ba be bi bo da"
        short = subject.truncate(text, 2)
        require(text.startswith(short) and len(short) < len(text), f"truncate({text!r}, 2) gives {short!r}")
        require(subject.truncate(text, 99) == text, "truncate() changes a text that is short enough")
    return "token ids in and out"


CHECKS: Checks = {
    "options": options_check(),
    "capabilities": check_capabilities,
    "generate": check_generate,
    "logps": check_logps,
    "tokens": check_tokens,
}
