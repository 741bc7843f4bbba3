"""Asking a judge many things: through the ledger, concurrently, with retries, and without losing a paid reply.

What users lose money on elsewhere: failed calls cached as verdicts, everything asked again after a crash, hours spent
on a dead endpoint. Here a reply is in the ledger as soon as it has come (kill -9 loses only what is under way),
a failure is never stored as a reply, and a judge that is plainly down or misnamed stops the asking.

    outcomes = ask(judge, requests, Path("runs/x/judge.sqlite"), AskOptions(concurrency=16))
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from harness.contracts.judge import AskOptions, Judge, JudgeError, Outcome
from harness.types import Reply, Request
from judges.client.adaptive_limit import AdaptiveLimit
from judges.client.batch_jobs import BatchAsking, BatchJobJudge
from judges.client.budget import Budget
from judges.ledger.ledger import Ledger, request_key

log = logging.getLogger(__name__)

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
class SessionJudge(Protocol):
    """A judge with something to prepare in the running event loop (imports, connections) and to close again."""

    async def aopen(self) -> None:
        """Called before the first request of an ``ask``: outside of any request's timeout."""

    async def aclose(self) -> None:
        """Called at the end of every ``ask`` that asked something."""


@runtime_checkable
class ChunkJudge(Protocol):
    """A judge in this process that answers many requests at once (a model on a GPU does)."""

    chunk: int
    """Requests per call."""

    def complete_many(self, requests: Sequence[Request]) -> list[Outcome]:
        """One outcome per request, in order. Called in a thread, one call at a time."""


def ask(
    judge: Judge,
    requests: Sequence[Request],
    ledger: Path,
    options: AskOptions,
    progress: Callable[[int], None] | None = None,
    pace: Pace = Pace(),
) -> list[Outcome]:
    """One outcome per request, in order. Stored replies are not asked again; failures are never stored.

    Requests that are equal in all that decides the reply are asked once. Every reply carries its ledger key.
    ``progress`` is called with how many requests more are settled (stored ones at once). Ctrl-C keeps what was judged
    and raises KeyboardInterrupt.

    Raises:
        UserError: the ledger cannot be read or written. A judge's failures are returned, not raised.
    """
    work = _ask(judge, requests, ledger, options, progress or (lambda more: None), pace)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    # A notebook's loop is running in this thread already, and asyncio refuses a second one: ask in another thread.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _ask(
    judge: Judge,
    requests: Sequence[Request],
    path: Path,
    options: AskOptions,
    progress: Callable[[int], None],
    pace: Pace,
) -> list[Outcome]:
    keys = [request_key(judge.endpoint, judge.model, request) for request in requests]
    copies = Counter(keys)
    with Ledger(path) as ledger:
        outcomes: dict[str, Outcome] = dict(ledger.get(copies))
        if outcomes:
            progress(sum(copies[key] for key in outcomes))
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in outcomes}
        if missing:
            # Before the first call, so that a killed run shows what it still owes.
            ledger.want(missing, judge.endpoint, judge.model)
            budget = Budget(judge, ledger, options)

            def settled(key: str) -> None:
                progress(copies[key])

            async with _session(judge):
                if isinstance(judge, BatchJobJudge) and judge.jobs is not None:
                    try:
                        outcomes |= await BatchAsking(judge, judge.jobs, ledger, missing, budget, settled).work()
                    finally:
                        ledger.flush()
                else:
                    outcomes |= await Asking(judge, ledger, budget, pace, settled).work(missing)
    return [replace(outcome, request=key) if isinstance(outcome := outcomes[key], Reply) else outcome for key in keys]


@asynccontextmanager
async def _session(judge: Judge) -> AsyncIterator[None]:
    if not isinstance(judge, SessionJudge):
        yield
        return
    await judge.aopen()
    try:
        yield
    finally:
        await judge.aclose()


@dataclass
class _Item:
    key: str
    request: Request
    tries: int = 0
    """Calls that failed so far."""


class NotAsked(JudgeError):
    """A request that was never sent, of the kind of failure for which the asking was over."""


class Asking:
    """One run of requests that are not in the ledger, each with a key of its own.

    A request waits in ``ready``, is called by a worker, and is settled: stored, put back for a later try, or left with
    its failure. Workers end when every request has an outcome.
    """

    def __init__(self, judge: Judge, ledger: Ledger, budget: Budget, pace: Pace, settled: Callable[[str], Any]) -> None:
        options = budget.options
        self.judge, self.ledger, self.budget, self.options = judge, ledger, budget, options
        self.pace, self.settled = pace, settled
        self.limit = AdaptiveLimit(options.concurrency, options.max_concurrency or 4 * options.concurrency)
        self.rng = random.Random()
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
        """Ask them all. Replies are committed to the ledger before this returns or raises."""
        self.open = len(missing)
        self.rng = random.Random(next(iter(missing)))  # jitter differs between sets of requests, not between runs
        for key, request in missing.items():
            self.ready.put_nowait(_Item(key, request))
        judge = self.judge
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._save())
                if isinstance(judge, ChunkJudge):
                    group.create_task(self._call_chunks(judge))
                else:
                    # As many workers as may ever run; the limit decides how many of them are let through.
                    for _ in range(min(self.limit.ceiling, len(missing))):
                        group.create_task(self._call_singly())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the first is the cause; its own traceback says where
        return self.outcomes

    async def _call_singly(self) -> None:
        """One of the workers: a request at a time."""
        while (item := await self.ready.get()) is not None:
            started = await self.limit.enter()
            try:
                if not self._claim(item):
                    continue
                outcome = await self._call(item.request)
            finally:
                self.limit.leave()
            self._settle(item, outcome, started)
            await asyncio.sleep(0)  # a judge in this process never waits: let saving, timers and Ctrl-C have their turn
        self.ready.put_nowait(None)  # for the next worker

    async def _call_chunks(self, judge: ChunkJudge) -> None:
        """The only worker of an in-process model: a chunk at a time, in a thread so that Ctrl-C is heard."""
        while (item := await self.ready.get()) is not None:
            chunk = [item]
            while len(chunk) < judge.chunk and not self.ready.empty():
                if (more := self.ready.get_nowait()) is not None:
                    chunk.append(more)
            started = asyncio.get_running_loop().time()
            requests = [each.request for each in chunk]
            cause = self._refusal(requests)
            if cause is None:
                self.budget.begun(len(chunk))
                outcomes = await asyncio.to_thread(judge.complete_many, requests)
            else:
                outcomes = [_not_asked(cause)] * len(chunk)
            for each, outcome in zip(chunk, outcomes, strict=True):
                self._settle(each, outcome, started)
            await asyncio.sleep(0)

    def _claim(self, item: _Item) -> bool:
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

    async def _call(self, request: Request) -> Outcome:
        cause = self._refusal([request])
        if cause is not None:
            return _not_asked(cause)
        self.budget.begun()
        try:
            async with asyncio.timeout(self.options.timeout):
                return await self.judge.complete(request)
        except TimeoutError:
            return JudgeError("timeout", f"no reply within {self.options.timeout:g} s")
        except JudgeError as error:
            return error

    def _refusal(self, requests: Sequence[Request]) -> JudgeError | None:
        """Why these calls may not begin; a used-up budget ends the asking here."""
        if self.over is None:
            single = len(requests) == 1
            why = self.budget.refusal(requests[0]) if single else self.budget.refusal_of_all(requests)
            if why is not None:
                self._stop(JudgeError("budget", why))
        return self.over

    async def _save(self) -> None:
        """Commit what one turn of the event loop brought in one transaction, right after it."""
        while self.open:
            await self.unsaved.wait()
            self.unsaved.clear()
            await asyncio.sleep(0)
            # where another process stored a reply first, that one counts here too
            self.outcomes |= self.ledger.flush()

    def _settle(self, item: _Item, outcome: Outcome, started: float) -> None:
        """Store a reply; retry a failure later, or let it stand."""
        self.unsaved.set()
        # Never sent: it costs nothing and says nothing about the judge.
        if isinstance(outcome, NotAsked):
            self._finish(item, outcome)
            return
        dollars = self.budget.ended(outcome, item.request)
        if isinstance(outcome, Reply):
            self.row = 0
            self.limit.succeeded(asyncio.get_running_loop().time() - started)
            self.ledger.put(item.key, self.judge.endpoint, self.judge.model, outcome, dollars)
            self._finish(item, outcome)
            return
        self.ledger.fail(item.key, self.judge.endpoint, self.judge.model, outcome.kind, str(outcome), dollars)
        delay = self._delay(item, outcome)
        item.tries += 1
        if self.over is None and (cause := self._weigh(outcome, started)) is not None:
            self._stop(cause)
        if self.over is not None or delay is None:
            self._finish(item, outcome)
        else:
            log.info("%s: %s; asked again (%d) in %.1f s", self.judge.model, outcome, item.tries, delay)
            self._later(item, delay)

    def _delay(self, item: _Item, error: JudgeError) -> float | None:
        """Seconds until this request is tried again, or ``None``."""
        allowed = 0 if error.kind not in RETRIED else 1 if error.kind == "empty" else self.options.retries
        if item.tries >= min(allowed, self.options.retries):
            return None
        # Random, so that requests that failed together do not come back together.
        backoff = min(self.pace.longest, self.pace.first * 2.0**item.tries) * (0.5 + 0.5 * self.rng.random())
        return max(backoff, error.retry_after or 0.0)

    def _weigh(self, error: JudgeError, started: float) -> JudgeError | None:
        """What a failure says about the judge as a whole: slow down, pause, or (a reason is returned) stop."""
        if error.kind not in RETRIED:
            return error if error.kind in FATAL else None
        if error.kind == "rate-limit":
            self.limit.throttled(started)
        wait = error.retry_after or 0.0
        if wait > self.pace.obey:
            return JudgeError(error.kind, f"{error} (asked to wait {wait:.0f} s; run again after that)")
        if wait:
            self.limit.pause(wait)
        now = asyncio.get_running_loop().time()
        self.row, self.row_since = self.row + 1, self.row_since if self.row else now
        rounds, place = divmod(self.row, max(8, self.limit.start))
        lasted = now - self.row_since
        if rounds and lasted >= self.pace.patience:
            return JudgeError(error.kind, f"{self.row} calls in a row failed in {lasted:.0f} s, the last one: {error}")
        if rounds and not place:  # everyone fails: do not use up the tries of all requests on an outage
            self.limit.pause(min(self.pace.longest, self.pace.first * 2.0 ** (rounds - 1)))
        return None

    def _stop(self, error: JudgeError) -> None:
        """Asking on is pointless: everyone who waits is settled at once, calls under way may still end well."""
        self.over = error
        for item, timer in self.waiting.values():
            timer.cancel()
            self.ready.put_nowait(item)
        self.waiting.clear()
        self.limit.open()

    def _later(self, item: _Item, delay: float) -> None:
        def again() -> None:
            del self.waiting[item.key]
            self.ready.put_nowait(item)

        self.waiting[item.key] = (item, asyncio.get_running_loop().call_later(delay, again))

    def _finish(self, item: _Item, outcome: Outcome) -> None:
        self.outcomes[item.key] = outcome
        self.open -= 1
        self.settled(item.key)
        if self.open == 0:
            self.ready.put_nowait(None)


def _not_asked(cause: JudgeError) -> NotAsked:
    because = "" if cause.kind == "budget" else "because the judge failed before: "
    return NotAsked(cause.kind, f"not asked, {because}{cause}")
