"""The contract of a judge: the judge itself, the kind that a recipe names, and how judges are asked."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, ClassVar, Final, Generic, Protocol

from pydantic import Field

from harness.contracts.options import MOST, C, NotNegative, Seconds, json_data, options
from harness.errors import PERMANENT, UserError
from harness.types import Reply, Request

ERROR_KINDS: Final = frozenset({
    "rate-limit", "server", "timeout", "connection", "auth", "model", "refused", "truncated", "empty", "bad-reply",
    "context", "missing", "budget", "pending", "batch",
})  # fmt: skip


PASSING: Final = frozenset({"rate-limit", "server", "timeout", "connection", "truncated", "empty"})
"""Kinds of failure that may go away by themselves: worth another try, and the same command again."""
IN_PROCESS: Final = "in-process:"
"""Begins the ``endpoint`` of a judge that no server answers for."""
UNSENT: Final = frozenset({"budget", "pending"})
"""Kinds of requests that wait for a reply, and of those that were never sent."""


class JudgeError(Exception):
    """A judge call without a reply, never stored as a verdict. ``kind``: one of ``ERROR_KINDS`` (``budget``: never
    sent; ``pending``: in a batch job; ``batch``: the job was refused). ``usage``: (prompt, completion) tokens charged
    all the same. ``remedy``: the setting that decides."""

    def __init__(
        self,
        kind: str,
        message: str,
        retry_after: float | None = None,
        usage: tuple[int, int] | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(f"{message} ({remedy})" if remedy else message)
        self.kind, self.message, self.remedy = kind, message, remedy
        self.retry_after = retry_after
        self.usage = usage


CallOutcome = Reply | JudgeError
"""Of one request: a failure is a value, so that one of them does not stop the others."""
PROMPT_CUT: Final = "prompt-cut"
_MOST_CHARACTERS_PER_TOKEN: Final = 6
"""Of a long prompt: English has 4 to 5, other languages and program text fewer."""


def is_prompt_cut(request: Request, reply: Reply) -> bool:
    """Whether the server counted far fewer tokens than were sent: some (Ollama, LM Studio) cut a prompt to their window
    and answer without a word. A prompt below 4,000 characters fits any window, and a count below 256 is none of one."""
    sent = sum(len(message["content"]) for message in request.messages)
    return sent >= 4000 and reply.prompt_tokens >= 256 and sent > _MOST_CHARACTERS_PER_TOKEN * reply.prompt_tokens


def count_cut_prompts(requests: Sequence[Request], outcomes: Sequence[CallOutcome]) -> int:
    """How many prompts the server seems to have cut: ``is_prompt_cut``; or its largest count, where at least three
    prompts of lengths that differ by more than a quarter share it: its window."""
    pairs = [(sum(len(m["content"]) for m in request.messages), request, reply)
             for request, reply in zip(requests, outcomes, strict=True) if isinstance(reply, Reply)]  # fmt: skip
    most = max((reply.prompt_tokens for _, _, reply in pairs), default=0)
    lengths = [length for length, _, reply in pairs if reply.prompt_tokens == most]
    is_window = most >= 256 and len(lengths) >= 3 and max(lengths) > 1.25 * min(lengths) and min(lengths) >= most
    return sum(is_prompt_cut(request, reply) or (is_window and reply.prompt_tokens == most)
               for _, request, reply in pairs)  # fmt: skip


def refuse_failures(
    outcomes: Sequence[CallOutcome], final: Collection[str], noun: str, accept: bool = False, remedy: str = ""
) -> None:
    """Raises UserError for calls that did not get through, except of the kinds ``final``, which asking again would
    repeat; ``accept``: only calls in batch jobs that still run stop."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, JudgeError) and outcome.kind not in final]
    pending = [failure for failure in failures if failure.kind == "pending"]
    # Nothing is wrong with a batch job that still runs: the message must not ask for a fix.
    if pending and len(pending) == len(failures):
        raise UserError(
            f"{len(pending)} of {len(outcomes)} {noun} are in batch jobs ({pending[0]}). Run the same command again "
            "later to collect them."
        )
    if failures and (pending or not accept):
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(f.kind for f in failures).items())
        # What will repeat for ever comes first: it decides what is to be done.
        permanent = [failure for failure in failures if failure.kind not in PASSING | UNSENT]
        first = next((failure for failure in permanent if failure.remedy), [*permanent, *failures][0])
        advice = "run the same command again to ask only for the rest"
        if permanent:
            advice = f"{PERMANENT}: change what is named here first, then {advice}"
        # The setting that decides comes before the server's words, which may be long: tables show the beginning.
        reason = f"{first.remedy}. The first: {first.message}" if first.remedy else f"the first: {first.message}"
        raise UserError(
            f"{len(failures)} of {len(outcomes)} {noun} failed ({kinds}): {reason.rstrip('.')}. "
            f"{len(outcomes) - len(failures)} replies are kept; {advice}{remedy}."
        )


class Judge(Protocol):
    """A model (or rule) that gives verdicts. Concurrency, retries and the ledger are the client's business.
    ``endpoint`` and ``model`` enter the ledger's keys: no secret may be in them. ``endpoint`` is an attribute that can
    be set, and begins with ``in-process:`` where the judge is code of its own: then a plug-in's code is added to it."""

    name: str
    endpoint: str
    model: str

    async def complete(self, request: Request) -> Reply:
        """The reply to one request, asked once. Raises JudgeError."""

    def check(self) -> str | None:
        """``None``, or what is wrong and the remedy. Asked before anything is trained."""


class JudgeKind(ABC, Generic[C]):
    """A way to reach a judge, an entry of JUDGES (``docs/add-a-judge.md``). ``C``: its options in a recipe."""

    name: str
    summary: str
    config: type[C]
    deciding: ClassVar[frozenset[str]] = frozenset()
    """Options that decide verdicts, beside those that ``identity`` has by their names."""

    @abstractmethod
    def make(self, config: C) -> Judge:
        """The judge. Connects to nothing and loads no weights yet."""

    @abstractmethod
    def identity(self, config: C) -> Mapping[str, object]:
        """Plain JSON values that decide verdicts: they enter the key of the judge stage, beside a plug-in's code."""

    def price(self, config: C, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Dollars; ``None`` when unknown."""
        return None

    def model(self, config: C) -> str:
        """Its name in tables, without options."""
        return str(self.identity(config).get("model", self.name))

    def title(self, config: C) -> str:
        """Its name in tables: ``pocket (noise 5)``, with the options that decide verdicts and are not the default."""
        names, changed = self.deciding | self.identity(config).keys(), []
        for name, field in getattr(self.config, "__pydantic_fields__", {}).items():
            value = getattr(config, name)
            if name in names and not field.is_required() and value != field.get_default(call_default_factory=True):
                changed.append(f"{name.replace('_', ' ')} {_option_text(value)}".rstrip())
        return f"{self.model(config)} ({', '.join(changed)})" if changed else self.model(config)

    def notes(self, config: C) -> Sequence[str]:
        """Sentences that a plan shows about these options."""
        return ()

    def objection(self, config: C, request: Request) -> str:
        """Why no verdict can come of such a request, whatever the answers in it; empty: one may."""
        return ""

    def length_words(self, config: C) -> float | None:
        """For a rule with stated biases: the difference in words at which its length bias reaches tanh 1."""
        return None

    def local(self, config: C) -> Mapping[str, object]:
        """For ``Stage.local``, of a judge with a model of its own: ``gpus`` that it takes, ``engine`` as of Backend."""
        return {}

    def thinking(self, config: C) -> int:
        """Tokens of thinking on top of the protocol's limit. Estimates count half of them."""
        return 0


def _option_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=json_data)


@dataclass(frozen=True)
class Billing:
    """What a judge's calls cost, and the begin of budgets (seconds since 1970; ``None``: when the asking begins)."""

    price: Callable[[int, int], float | None] = lambda prompt_tokens, completion_tokens: None
    """(prompt tokens, completion tokens) -> dollars, ``None`` when unknown. Every reply is stored with its cost."""
    thinking: int = 0
    start_time: float | None = None


@dataclass(frozen=True)
class ConfiguredJudge(Generic[C]):
    """A kind of judge with its options, as a recipe names it. ``code``: of a plug-in, a hash of it."""

    kind: JudgeKind[C]
    config: C
    code: str = ""

    def make(self) -> Judge:
        """The judge. A rule of a plug-in has its code in the ledger's keys: once edited, it replies anew."""
        judge = self.kind.make(self.config)
        if self.code and judge.endpoint.startswith(IN_PROCESS):
            mark = f"#{self.code}"
            judge.endpoint = judge.endpoint.removesuffix(mark) + mark  # ``make`` may give one judge twice
        return judge

    @cached_property
    def identity(self) -> dict[str, object]:
        return {"kind": self.kind.name, **self.kind.identity(self.config)}

    @cached_property
    def json_data(self) -> dict[str, object]:
        return {"kind": self.kind.name, "config": json_data(self.config)}

    def problem(self) -> str | None:
        try:
            return self.make().check()
        except UserError as error:
            return str(error)

    def billing(self, start_time: float | None = None) -> Billing:
        return Billing(partial(self.kind.price, self.config), self.kind.thinking(self.config), start_time)


@options
class AskOptions:
    """The section ``ask`` of a recipe: how judges are asked. In no stage key, ``accept_failures`` apart."""

    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Requests in flight at the start."""
    max_concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """How far that may grow while the endpoint answers as fast as before; ``null``: four times ``concurrency``."""
    timeout: Annotated[float, Field(ge=0.01, le=86_400)] = 120.0
    """Seconds per request."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 5
    """Further tries of a request after a transient failure."""
    max_cost: NotNegative | None = None
    """Dollars that one run may spend on judging, by all who write into its ledger; needs a known price."""
    max_calls: Annotated[int, Field(ge=0, le=MOST)] | None = None
    """Judge calls that one run may make, failed ones included."""
    max_seconds: Seconds | None = None
    """No judge call begins later than this after the run began; those under way may end."""
    accept_failures: bool = False
    """Count calls that failed for good as not scored, instead of stopping so that the next run asks again. It decides
    what the judgments hold, so it is part of the keys of judge stages (and of the scores made from them)."""


class Ask(Protocol):
    """``judges.client.ask.ask``: every request through the ledger, concurrently."""

    def __call__(
        self,
        judge: Judge,
        requests: Sequence[Request],
        ledger: Path,
        options: AskOptions,
        progress: Callable[[int], None] | None = None,
        billing: Billing = Billing(),
    ) -> list[CallOutcome]:
        """One outcome per request, in order. ``progress``: the number of further outcomes, not the total."""
