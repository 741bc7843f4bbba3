"""One run of judge calls: workers, retries, giving way to the endpoint, and stopping where asking on is pointless.

``judges/client/ask.py`` is the door; this is the machinery behind it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from harness.contracts.judge import AskOptions, Judge, JudgeError
from harness.types import Reply, Request
from judges.client.adaptive_limit import Gate
from judges.client.budget import Budget
from judges.ledger.ledger import Ledger

log = logging.getLogger(__name__)

Outcome = Reply | JudgeError

RETRIED: Final = frozenset({"rate-limit", "server", "timeout", "connection", "truncated", "empty"})
"""Kinds of failure that may go away. An ``empty`` reply is tried once more only: it is charged for as a rule."""
FATAL: Final = frozenset({"auth", "model"})
"""Kinds that every further call would meet too."""
_LOOK: Final = 0.2  # seconds between two looks for the reply to a request that another process is asking
_SLACK: Final = 5.0  # seconds beyond a call's timeout until its claim is void


@dataclass(frozen=True)
class Pace:
    """Waiting times, seconds. Only tests have a reason to change them."""

    first: float = 0.5
    """Before the first retry of a request; doubled for each further one, times a random factor from 0.5 to 1."""
    longest: float = 30.0
    """Bound of that."""
    patience: float = 30.0
    """A row of failures without any success ends the asking when it is this long and at least 8 calls."""
    obey: float = 300.0
    """A Retry-After above this ends the asking: it is a quota for hours, not a burst."""


@runtime_checkable
class BatchJudge(Protocol):
    """A judge in this process that answers many requests at once (a model on a GPU does)."""

    chunk: int
    """Requests per call of ``complete_many``."""

    def complete_many(self, requests: Sequence[Request]) -> list[Outcome]:
        """One outcome per request, in order. Called in a thread, one call at a time."""


@dataclass
class _Item:
    key: str
    request: Request
    tries: int = 0
    """Calls that failed so far."""


class Asking:
    """One run of requests that are not in the ledger, each with a key of its own."""

    def __init__(
        self,
        judge: Judge,
        ledger: Ledger,
        options: AskOptions,
        pace: Pace,
        rng: random.Random,
        settled: Callable[[str], Any],
    ) -> None:
        self.judge, self.ledger, self.options = judge, ledger, options
        self.pace, self.rng, self.settled = pace, rng, settled
        self.gate = Gate(options.concurrency, options.max_concurrency or 4 * options.concurrency)
        self.budget = Budget(judge, ledger, options)
        self.ready: asyncio.Queue[_Item | None] = asyncio.Queue()
        self.waiting: dict[str, tuple[_Item, asyncio.TimerHandle]] = {}
        """Requests that wait for their next try."""
        self.outcomes: dict[str, Outcome] = {}
        self.open = 0
        """Requests without an outcome."""
        self.over: JudgeError | None = None
        """Set when asking on is pointless."""
        self.row = 0
        """Failed calls since the last success, of the kinds that may go away."""
        self.row_since = 0.0
        self.unsaved = asyncio.Event()

    async def work(self, missing: Mapping[str, Request]) -> dict[str, Outcome]:
        """Ask them all. Replies are flushed to the ledger before this returns or raises."""
        self.open = len(missing)
        for key, request in missing.items():
            self.ready.put_nowait(_Item(key, request))
        judge = self.judge
        count = 1 if isinstance(judge, BatchJudge) else min(self.gate.ceiling, len(missing))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._saving())
                for _ in range(count):
                    group.create_task(self._batches(judge) if isinstance(judge, BatchJudge) else self._singles())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the first is the cause; its own traceback says where
        return self.outcomes

    async def _singles(self) -> None:
        """One of the workers: a request at a time."""
        while (item := await self.ready.get()) is not None:
            started = await self.gate.enter()
            try:
                if not self._is_ours(item):
                    continue
                outcome = await self._call(item.request)
            finally:
                self.gate.leave()
            self._settle(item, outcome, started)
            await asyncio.sleep(0)  # a judge in this process never waits: let saving, timers and Ctrl-C have their turn
        self.ready.put_nowait(None)  # for the next worker

    def _is_ours(self, item: _Item) -> bool:
        """Whether we are to ask this; what another process has asked since we began is taken over, or waited for."""
        if self.over is not None or self.ledger.claim(item.key, self.options.timeout + _SLACK):
            return True
        stored = self.ledger.get([item.key]).get(item.key)
        if stored is None:
            self._later(item, _LOOK)
        else:
            self.unsaved.set()
            self._finish(item, stored)
        return False

    async def _batches(self, judge: BatchJudge) -> None:
        """The only worker of an in-process model: a chunk at a time, in a thread so that Ctrl-C is heard."""
        loop = asyncio.get_running_loop()
        while (item := await self.ready.get()) is not None:
            batch = [item]
            while len(batch) < judge.chunk and not self.ready.empty():
                if (more := self.ready.get_nowait()) is not None:
                    batch.append(more)
            started = loop.time()
            if self._goes_on([each.request for each in batch]):
                self.budget.begun(len(batch))
                outcomes = await asyncio.to_thread(judge.complete_many, [each.request for each in batch])
            else:
                outcomes = [_not_asked(self.over) for _ in batch]
            for each, outcome in zip(batch, outcomes, strict=True):
                self._settle(each, outcome, started)
            await asyncio.sleep(0)

    async def _saving(self) -> None:
        """Commit what one turn of the event loop brought in one transaction, right after it."""
        while self.open:
            await self.unsaved.wait()
            self.unsaved.clear()
            await asyncio.sleep(0)
            self._flush()

    async def _call(self, request: Request) -> Outcome:
        if not self._goes_on([request]):
            return _not_asked(self.over)
        self.budget.begun()
        try:
            async with asyncio.timeout(self.options.timeout):
                return await self.judge.complete(request)
        except TimeoutError:
            return JudgeError("timeout", f"no reply within {self.options.timeout:g} s")
        except JudgeError as error:
            return error

    def _goes_on(self, requests: Sequence[Request]) -> bool:
        """Whether these calls may begin; a used-up budget ends the asking here."""
        if self.over is None:
            one = len(requests) == 1
            why = self.budget.refusal(requests[0]) if one else self.budget.refusal_of_all(requests)
            if why is not None:
                self._stop(JudgeError("budget", why))
        return self.over is None

    def _settle(self, item: _Item, outcome: Outcome, started: float) -> None:
        """Store a reply; retry a failure later, or let it stand."""
        self.unsaved.set()
        if isinstance(outcome, Reply):
            self.row = 0
            self.gate.succeeded(asyncio.get_running_loop().time() - started)
            dollars = self.budget.ended(outcome, item.request)
            self.ledger.put(item.key, self.judge.endpoint, self.judge.model, outcome, dollars)
            self._finish(item, outcome)
        elif isinstance(outcome, NotAsked):
            self._finish(item, outcome)
        else:
            dollars = self.budget.ended(outcome, item.request)
            self.ledger.fail(item.key, self.judge.endpoint, self.judge.model, outcome.kind, str(outcome), dollars)
            delay = self._delay(item, outcome)
            item.tries += 1
            cause = self.over or self._weigh(outcome, started)
            if cause is not None and self.over is None:
                self._stop(cause)
            if cause is not None or delay is None:
                self._finish(item, outcome)
            else:
                log.info("%s: %s; asked again (%d) in %.1f s", self.judge.model, outcome, item.tries, delay)
                self._later(item, delay)

    def _delay(self, item: _Item, error: JudgeError) -> float | None:
        """Seconds until this request is tried again, or ``None``."""
        allowed = 0 if error.kind not in RETRIED else 1 if error.kind == "empty" else self.options.retries
        if item.tries >= min(allowed, self.options.retries):
            return None
        backoff = min(self.pace.longest, self.pace.first * 2.0**item.tries) * (0.5 + 0.5 * self.rng.random())
        return max(backoff, error.retry_after or 0.0)

    def _weigh(self, error: JudgeError, started: float) -> JudgeError | None:
        """What a failure says about the judge as a whole: slow down, pause, or (a reason is returned) stop."""
        if error.kind not in RETRIED:
            return error if error.kind in FATAL else None
        if error.kind == "rate-limit":
            self.gate.throttled(started)
        wait = error.retry_after or 0.0
        if wait > self.pace.obey:
            return JudgeError(error.kind, f"{error} (asked to wait {wait:.0f} s; run again after that)")
        if wait:
            self.gate.pause(wait)
        now = asyncio.get_running_loop().time()
        self.row, self.row_since = self.row + 1, self.row_since if self.row else now
        rounds, place = divmod(self.row, max(8, self.gate.start))
        lasted = now - self.row_since
        if rounds and lasted >= self.pace.patience:
            return JudgeError(error.kind, f"{self.row} calls in a row failed in {lasted:.0f} s, the last one: {error}")
        if rounds and not place:  # everyone fails: do not use up the tries of all requests on an outage
            self.gate.pause(min(self.pace.longest, self.pace.first * 2.0 ** (rounds - 1)))
        return None

    def _stop(self, error: JudgeError) -> None:
        """Asking on is pointless: everyone who waits is settled at once, calls under way may still end well."""
        self.over = error
        for item, timer in self.waiting.values():
            timer.cancel()
            self.ready.put_nowait(item)
        self.waiting.clear()
        self.gate.open()

    def _later(self, item: _Item, delay: float) -> None:
        self.waiting[item.key] = (item, asyncio.get_running_loop().call_later(delay, self._again, item))

    def _again(self, item: _Item) -> None:
        del self.waiting[item.key]
        self.ready.put_nowait(item)

    def _finish(self, item: _Item, outcome: Outcome) -> None:
        self.outcomes[item.key] = outcome
        self.open -= 1
        self.settled(item.key)
        if self.open == 0:
            self.ready.put_nowait(None)

    def _flush(self) -> None:
        """Commit; where another process stored a reply first, that one counts here too."""
        self.outcomes.update(self.ledger.flush())


class NotAsked(JudgeError):
    """A request that was never sent, of the kind of failure for which the asking was over."""


def _not_asked(cause: JudgeError | None) -> NotAsked:
    if cause is None:
        raise AssertionError("only an asking that is over leaves requests unasked")
    because = "" if cause.kind == "budget" else "because the judge failed before: "
    return NotAsked(cause.kind, f"not asked, {because}{cause}")
