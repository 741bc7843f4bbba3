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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from harness.contracts.judge import AskOptions, Billing, Judge, JudgeError, Outcome
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
    """A series of failures without any success ends the asking when it is this long and at least 8 calls."""
    obey: float = 300.0
    """A Retry-After above this ends the asking: it is a quota for hours, not a burst."""


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
    billing: Billing = Billing(),
    pace: Pace = Pace(),
) -> list[Outcome]:
    """One outcome per request, in order. Stored replies are not asked again; failures are never stored.

    Requests that are equal in all that decides the reply are asked once. Every reply carries its ledger key.
    ``progress`` is called with how many requests more are settled (stored ones at once). Ctrl-C keeps what was judged
    and raises KeyboardInterrupt.

    Raises:
        UserError: the ledger cannot be read or written. A judge's failures are returned, not raised.
    """

    async def work() -> list[Outcome]:
        keys = [request_key(judge.endpoint, judge.model, request) for request in requests]
        copies = Counter(keys)

        def settled(*settled_keys: str) -> None:
            if progress and settled_keys:
                progress(sum(copies[key] for key in settled_keys))

        with Ledger(ledger) as opened:
            outcomes: dict[str, Outcome] = dict(opened.get(copies))
            settled(*outcomes)
            missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in outcomes}
            if missing:
                # Before the first call, so that a killed run shows what it still owes.
                opened.want(missing, judge.endpoint, judge.model)
                outcomes |= await _ask_missing(judge, missing, Budget(judge, opened, options, billing), pace, settled)
        return [replace(reply, request=key) if isinstance(reply := outcomes[key], Reply) else reply for key in keys]

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    # A notebook's loop is running in this thread already, and asyncio refuses a second one: ask in another thread.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work()).result()


async def _ask_missing(
    judge: Judge, missing: Mapping[str, Request], budget: Budget, pace: Pace, settled: Callable[[str], None]
) -> dict[str, Outcome]:
    async with AsyncExitStack() as stack:
        # A judge with connections prepares them here, outside of any request's timeout.
        if isinstance(judge, AbstractAsyncContextManager):
            await stack.enter_async_context(judge)
        if isinstance(judge, BatchJobJudge) and judge.jobs is not None:
            stack.callback(budget.ledger.flush)
            return await BatchAsking(judge.jobs, missing, budget, settled).work()
        return await Asking(missing, budget, pace, settled).work()


class Asking:
    """One run of requests that are not in the ledger, by key.

    A request waits in ``ready``, is called by a worker, and is settled: stored, put back for a later try, or left with
    its failure. Workers end when every request has an outcome.
    """

    def __init__(
        self, requests: Mapping[str, Request], budget: Budget, pace: Pace, settled: Callable[[str], None]
    ) -> None:
        options = budget.options
        self.judge, self.ledger, self.budget, self.options = budget.judge, budget.ledger, budget, options
        self.requests, self.pace, self.settled = requests, pace, settled
        self.limit = AdaptiveLimit(options.concurrency, options.max_concurrency or 4 * options.concurrency)
        self.rng = random.Random(next(iter(requests)))  # jitter differs between sets of requests, not between runs
        self.ready: asyncio.Queue[str | None] = asyncio.Queue()
        """Keys to ask now; ``None`` ends a worker."""
        self.waiting: dict[str, asyncio.TimerHandle] = {}
        """Keys that wait for their next try."""
        self.tries: Counter[str] = Counter()
        """Calls that failed so far."""
        self.outcomes: dict[str, Outcome] = {}
        self.stopped: JudgeError | None = None
        """Set when asking on is pointless."""
        self.failures = 0
        """Calls since the last success that failed in a way that may go away."""
        self.failing_since = 0.0
        self.unsaved = asyncio.Event()

    async def work(self) -> dict[str, Outcome]:
        """Ask them all. Replies are committed to the ledger before this returns or raises."""
        for key in self.requests:
            self.ready.put_nowait(key)
        judge = self.judge
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._save())
                if isinstance(judge, ChunkJudge):
                    group.create_task(self._call_chunks(judge))
                else:
                    # As many workers as may ever run; the limit decides how many of them are let through.
                    for _ in range(min(self.limit.ceiling, len(self.requests))):
                        group.create_task(self._call_singly())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the first is the cause; its own traceback says where
        return self.outcomes

    async def _call_singly(self) -> None:
        """One of the workers: a request at a time."""
        while (key := await self.ready.get()) is not None:
            started = await self.limit.enter()
            try:
                called = self._claim(key) and self._begin([key])
                if called:
                    outcome = await self._call(self.requests[key])
            finally:
                self.limit.leave()
            if called:
                self._settle(key, outcome, started)
            await asyncio.sleep(0)  # a judge in this process never waits: let saving, timers and Ctrl-C have their turn
        self.ready.put_nowait(None)  # for the next worker

    async def _call_chunks(self, judge: ChunkJudge) -> None:
        """The only worker of an in-process model: a chunk at a time, in a thread so that Ctrl-C is heard."""
        while (key := await self.ready.get()) is not None:
            chunk = [key]
            while len(chunk) < judge.chunk and not self.ready.empty():
                if (key := self.ready.get_nowait()) is not None:
                    chunk.append(key)
            if self._begin(chunk):
                started = asyncio.get_running_loop().time()
                outcomes = await asyncio.to_thread(judge.complete_many, [self.requests[key] for key in chunk])
                for key, outcome in zip(chunk, outcomes, strict=True):
                    self._settle(key, outcome, started)
            await asyncio.sleep(0)

    def _claim(self, key: str) -> bool:
        """Whether we are to ask this; what another process has asked since we began is taken over, or waited for."""
        if self.stopped is not None or self.ledger.claim(key, self.options.timeout + _SLACK):
            return True
        stored = self.ledger.get([key]).get(key)
        if stored is None:
            self._later(key, _LOOK)
        else:
            self._finish(key, stored)
        return False

    def _begin(self, keys: Sequence[str]) -> bool:
        """Whether these calls may begin; else they end here. A used-up budget ends the asking."""
        if self.stopped is None:
            refusal = self.budget.refusal([self.requests[key] for key in keys])
            if refusal is None:
                self.budget.under_way += len(keys)
                return True
            self._stop(JudgeError("budget", refusal))
        if (cause := self.stopped) is not None:
            because = "" if cause.kind == "budget" else "because the judge failed before: "
            for key in keys:
                self._finish(key, JudgeError(cause.kind, f"not asked, {because}{cause}"))
        return False

    async def _call(self, request: Request) -> Outcome:
        try:
            async with asyncio.timeout(self.options.timeout):
                return await self.judge.complete(request)
        except TimeoutError:
            return JudgeError("timeout", f"no reply within {self.options.timeout:g} s")
        except JudgeError as error:
            return error

    async def _save(self) -> None:
        """Commit what one turn of the event loop brought in one transaction, right after it."""
        while len(self.outcomes) < len(self.requests):
            await self.unsaved.wait()
            self.unsaved.clear()
            await asyncio.sleep(0)
            # Where another process stored a reply first, that one counts here too.
            self.outcomes |= self.ledger.flush()

    def _settle(self, key: str, outcome: Outcome, started: float) -> None:
        """Store a reply; retry a failure later, or let it stand."""
        self.budget.under_way -= 1
        self.budget.record(key, outcome, self.requests[key])
        self.unsaved.set()
        if isinstance(outcome, Reply):
            self.failures = 0
            self.limit.succeeded(asyncio.get_running_loop().time() - started)
            self._finish(key, outcome)
            return
        delay = self._delay(key, outcome)
        self.tries[key] += 1
        if self.stopped is None and (cause := self._weigh(outcome, started)) is not None:
            self._stop(cause)
        if self.stopped is not None or delay is None:
            self._finish(key, outcome)
        else:
            log.info("%s: %s; asked again (%d) in %.1f s", self.judge.model, outcome, self.tries[key], delay)
            self._later(key, delay)

    def _delay(self, key: str, error: JudgeError) -> float | None:
        """Seconds until this request is tried again, or ``None``."""
        tries, retries = self.tries[key], self.options.retries
        allowed = 0 if error.kind not in RETRIED else min(1, retries) if error.kind == "empty" else retries
        if tries >= allowed:
            return None
        # Random, so that requests that failed together do not come back together.
        backoff = min(self.pace.longest, self.pace.first * 2.0**tries) * (0.5 + 0.5 * self.rng.random())
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
        if not self.failures:
            self.failing_since = now
        self.failures += 1
        # A round is what the limit lets through at a time: with 16 under way, 16 failures say as much as one.
        rounds, place = divmod(self.failures, max(8, self.limit.start))
        lasted = now - self.failing_since
        if rounds and lasted >= self.pace.patience:
            text = f"{self.failures} calls in a row failed in {lasted:.0f} s, the last one: {error}"
            return JudgeError(error.kind, text)
        if rounds and not place:  # everyone fails: do not use up the tries of all requests on an outage
            self.limit.pause(min(self.pace.longest, self.pace.first * 2.0 ** (rounds - 1)))
        return None

    def _stop(self, error: JudgeError) -> None:
        """Asking on is pointless: everyone who waits is settled at once, calls under way may still end well."""
        self.stopped = error
        for key, timer in self.waiting.items():
            timer.cancel()
            self.ready.put_nowait(key)
        self.waiting.clear()
        self.limit.open()

    def _later(self, key: str, delay: float) -> None:
        def again() -> None:
            del self.waiting[key]
            self.ready.put_nowait(key)

        self.waiting[key] = asyncio.get_running_loop().call_later(delay, again)

    def _finish(self, key: str, outcome: Outcome) -> None:
        self.outcomes[key] = outcome
        self.settled(key)
        self.unsaved.set()
        if len(self.outcomes) == len(self.requests):
            self.ready.put_nowait(None)
