"""What can be named in a recipe, handed to the plan and the run as one argument. No global, no import side effects.

The dicts live in ``methods/__init__.py`` and ``judges/__init__.py``; the command line (the one door) ties them
together with entry points and ``--plugin`` files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.contracts.benchmark import Benchmark, Judge, JudgeError
from harness.contracts.method import Method
from harness.contracts.target import Target
from harness.types import Reply, Request


@dataclass(frozen=True)
class JudgeKind:
    """A way to reach a judge: ``pocket``, ``openai``, ``transformers``, ``replay``."""

    name: str
    summary: str
    config: type[Any]
    """Frozen dataclass of its options in a recipe, a docstring under each field."""
    make: Callable[[Any], Judge]
    identity: Callable[[Any], Mapping[str, Any]]
    """config -> the plain values that decide verdicts (endpoint, model, biases): they enter the stage's key."""
    price: Callable[[Any, int, int], float | None] = lambda config, prompt_tokens, completion_tokens: None
    """(config, prompt tokens, completion tokens) -> dollars; ``None`` when unknown."""
    notes: Callable[[Any], Sequence[str]] = lambda config: ()
    """config -> what a user should know before asking: a model about to be retired, an undated name."""
    length_words: Callable[[Any], float | None] = lambda config: None
    """config -> of a rule whose biases are stated: words at which its length bias reaches tanh 1; else ``None``."""
    thinking: Callable[[Any], int] = lambda config: 0
    """config -> tokens that a reply may take for thinking, on top of the protocol's limit: estimates count half."""


@dataclass(frozen=True)
class AskOptions:
    """How to ask; changes nothing about what is answered, so it is in no key."""

    concurrency: int = 16
    """Requests in flight at the start."""
    max_concurrency: int | None = None
    """How far that may grow while the endpoint answers as fast as before; ``None``: four times ``concurrency``."""
    timeout: float = 120.0
    """Seconds per request."""
    retries: int = 5
    """Further tries of a request after a transient failure."""
    max_cost: float | None = None
    """Dollars that may be spent since ``started``, by all who write into this ledger; needs a known ``price``."""
    max_calls: int | None = None
    """Calls that may be made since ``started``, failed ones included."""
    max_seconds: float | None = None
    """No call begins later than this after ``started``; those under way may end."""
    started: float | None = None
    """Begin of the budgets, seconds since 1970; ``None``: when the asking begins."""
    price: Callable[[int, int], float | None] | None = None
    """(prompt tokens, completion tokens) -> dollars, ``None`` when unknown. Every reply is stored with its cost."""
    thinking: int = 0
    """Tokens that a reply may take for thinking: estimates count half."""


class Ask(Protocol):
    """``judges.client.ask.ask``: every request through the ledger, concurrently."""

    def __call__(
        self,
        judge: Judge,
        requests: Sequence[Request],
        ledger: Path,
        options: AskOptions,
        progress: Callable[[int], None] | None = None,
    ) -> list[Reply | JudgeError]:
        """One outcome per request, in order. Stored replies are not asked again; failures are never replies.

        ``progress`` is told how many more requests have an outcome, not the total.
        """


@dataclass(frozen=True)
class Registry:
    """Everything a recipe may name."""

    methods: Mapping[str, Method]
    benchmarks: Mapping[str, Benchmark]
    judges: Mapping[str, JudgeKind]
    ask: Ask
    targets: Mapping[str, Target] = field(default_factory=dict)
