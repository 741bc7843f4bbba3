"""Asking a judge many things: through the ledger, concurrently, with retries, and without losing a paid reply.

A reply is in the ledger as soon as it has come (kill -9 loses only what is under way), a failure is never stored as a
reply, and a judge that is plainly down or misnamed stops the asking.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from harness.contracts.judge import PASSING, AskOptions, Billing, CallOutcome, Judge, JudgeError
from harness.coroutines import run_coroutine
from harness.thinking import separate_replies
from harness.types import Reply, Request
from judges.client.adaptive_limit import AdaptiveLimit
from judges.client.batch_jobs import BatchAsking, BatchJobJudge
from judges.client.budget import Budget
from judges.ledger.ledger import Ledger, request_key

log = logging.getLogger(__name__)

FATAL: Final = frozenset({"auth", "model"})  # kinds that every further call would meet too
_LOOK: Final = 0.2  # seconds between two looks for the reply to a request that another process is asking
_SLACK: Final = 5.0  # seconds beyond a call's timeout until its claim is void


@dataclass(frozen=True)
class Pace:
    """Waiting times, seconds. Only tests have a reason to change them."""

    first: float = 0.5  # before a request's first retry; doubled for each further one, times a random 0.5 to 1
    longest: float = 30.0  # bound of that
    patience: float = 30.0  # failures without any success end the asking when they last so long and are at least 8
    longest_retry_after: float = 300.0  # a Retry-After above this ends the asking: it is a quota for hours, not a burst


@runtime_checkable
class ChunkJudge(Protocol):
    """A judge in this process that answers many requests at once (a model on a GPU does)."""

    chunk: int  # requests per call, and between two writes to the ledger

    def complete_many(self, requests: Sequence[Request]) -> list[CallOutcome]:
        """One outcome per request, in order. Called in a thread, one call at a time."""

    async def complete(self, request: Request) -> Reply:
        (outcome,) = self.complete_many([request])
        if isinstance(outcome, JudgeError):
            raise outcome
        return outcome


def ask(
    judge: Judge,
    requests: Sequence[Request],
    ledger: Path,
    options: AskOptions,
    progress: Callable[[int], None] | None = None,
    billing: Billing = Billing(),
    pace: Pace = Pace(),
) -> list[CallOutcome]:
    """``harness.contracts.judge.Ask``; each reply has its ledger key, and equal requests are asked once.

    Ctrl-C keeps what was judged. Raises UserError where the ledger fails; a judge's failures are returned.
    """

    async def work() -> list[CallOutcome]:
        keys = [request_key(judge.endpoint, judge.model, request) for request in requests]
        copies = Counter(keys)

        def on_settled(*settled_keys: str) -> None:
            if progress and settled_keys:
                progress(sum(copies[key] for key in settled_keys))

        with Ledger(ledger) as open_ledger:
            outcomes: dict[str, CallOutcome] = dict(open_ledger.get(copies))
            on_settled(*outcomes)
            new_requests = {key: request for key, request in zip(keys, requests, strict=True) if key not in outcomes}
            if new_requests:
                # Before the first call, so that a killed run shows what it still owes.
                open_ledger.note_requests(new_requests.values(), judge.endpoint, judge.model)
                outcomes |= await _ask_missing(
                    judge, new_requests, Budget(judge, open_ledger, options, billing), pace, on_settled
                )
        # Thinking goes here, after the ledger: it keeps every reply as it came, so a better rule reads it anew.
        replies = {key: replace(reply, request=key) for key, reply in outcomes.items() if isinstance(reply, Reply)}
        outcomes |= zip(replies, separate_replies(list(replies.values())), strict=True)
        return [outcomes[key] for key in keys]

    return run_coroutine(work)


async def _ask_missing(
    judge: Judge, new_requests: Mapping[str, Request], budget: Budget, pace: Pace, on_settled: Callable[[str], None]
) -> dict[str, CallOutcome]:
    async with AsyncExitStack() as stack:
        # A judge with connections prepares them here, outside of any request's timeout.
        if isinstance(judge, AbstractAsyncContextManager):
            await stack.enter_async_context(judge)
        if isinstance(judge, BatchJobJudge) and judge.jobs is not None:
            stack.callback(budget.ledger.flush)
            return await BatchAsking(judge.jobs, new_requests, budget, on_settled).work()
        return await Asking(new_requests, budget, pace, on_settled).work()


class Asking:
    """Requests that are not in the ledger, by key: each is asked until it has an outcome."""

    def __init__(
        self, requests: Mapping[str, Request], budget: Budget, pace: Pace, on_settled: Callable[[str], None]
    ) -> None:
        options = budget.options
        self.judge, self.ledger, self.budget, self.options = budget.judge, budget.ledger, budget, options
        self.requests, self.pace, self.on_settled = requests, pace, on_settled
        self.limit = AdaptiveLimit(options.concurrency, options.max_concurrency or 4 * options.concurrency)
        self.rng = random.Random(next(iter(requests)))  # jitter differs between sets of requests, not between runs
        self.tries: Counter[str] = Counter()  # calls that failed so far
        self.outcomes: dict[str, CallOutcome] = {}
        self.cause: JudgeError | None = None  # why asking on is pointless, once ``stop_event`` is set
        self.stop_event = asyncio.Event()
        self.failures = 0  # calls since the last success that failed in a way that may go away
        self.failing_since = 0.0
        self.save_event = asyncio.Event()

    async def work(self) -> dict[str, CallOutcome]:
        """Ask them all. Replies are committed to the ledger before this returns or raises."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._save())
                if isinstance(self.judge, ChunkJudge):
                    group.create_task(self._ask_chunks(self.judge))
                else:
                    for key in self.requests:
                        group.create_task(self._ask_one(key))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the first is the cause; its own traceback says where
        return self.outcomes

    async def _ask_one(self, key: str) -> None:
        while key not in self.outcomes:
            start_time = await self.limit.enter()
            try:
                await asyncio.sleep(0)  # a judge in this process never waits: let saving and Ctrl-C have their turn
                delay = await self._try(key, start_time)
            finally:
                self.limit.leave()
            await self._wait(delay)

    async def _try(self, key: str, start_time: float) -> float:
        """One call, unless another process makes it. Returns the seconds until the next try, where there is one."""
        if not self.stop_event.is_set() and not self.ledger.claim(key, self.options.timeout + _SLACK):
            # Another process has asked it since we began: its reply is taken over, or waited for.
            reply = self.ledger.get([key]).get(key)
            if reply is None:
                return _LOOK
            self._finish(key, reply)
        elif self._begin([key]):
            try:
                async with asyncio.timeout(self.options.timeout):
                    outcome: CallOutcome = await self.judge.complete(self.requests[key])
            except TimeoutError:
                remedy = "raise ask.timeout, or lower ask.concurrency and ask.max_concurrency"
                outcome = JudgeError("timeout", f"no reply within {self.options.timeout:g} s", remedy=remedy)
            except JudgeError as error:
                outcome = error
            return self._settle(key, outcome, start_time)
        return 0.0

    async def _ask_chunks(self, judge: ChunkJudge) -> None:
        """A chunk at a time, in a thread so that Ctrl-C is heard."""
        while open_keys := [key for key in self.requests if key not in self.outcomes]:
            chunk = open_keys[: judge.chunk]
            if self._begin(chunk):
                start_time = asyncio.get_running_loop().time()
                outcomes = await asyncio.to_thread(judge.complete_many, [self.requests[key] for key in chunk])
                delays = [self._settle(key, outcome, start_time) for key, outcome in zip(chunk, outcomes, strict=True)]
                await self._wait(max(delays))

    def _begin(self, keys: Sequence[str]) -> bool:
        """Whether these calls may begin; else they end here. A used-up budget ends the asking."""
        if self.cause is None:
            refusal = self.budget.refusal([self.requests[key] for key in keys])
            if refusal is None:
                self.budget.under_way += len(keys)
                return True
            self._stop(JudgeError("budget", refusal))
        if (cause := self.cause) is not None:
            reason = "" if cause.kind == "budget" else "because the judge failed before: "
            for key in keys:
                self._finish(key, JudgeError(cause.kind, f"not asked, {reason}{cause.message}", remedy=cause.remedy))
        return False

    async def _wait(self, seconds: float) -> None:
        if seconds:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.stop_event.wait()

    async def _save(self) -> None:
        """Commit what one turn of the event loop brought in one transaction, right after it."""
        while len(self.outcomes) < len(self.requests):
            await self.save_event.wait()
            self.save_event.clear()
            await asyncio.sleep(0)
            # Where another process stored a reply first, that one counts here too.
            self.outcomes |= self.ledger.flush()

    def _settle(self, key: str, outcome: CallOutcome, start_time: float) -> float:
        """Store a reply, or note a failure and let it stand unless it may go away. Returns the wait, seconds."""
        self.budget.under_way -= 1
        self.budget.record(key, outcome, self.requests[key])
        self.save_event.set()
        if isinstance(outcome, Reply):
            self.failures = 0
            self.limit.note_success(asyncio.get_running_loop().time() - start_time)
            self._finish(key, outcome)
            return 0.0
        delay = self._delay(key, outcome)
        self.tries[key] += 1
        if self.cause is None and (cause := self._weigh(outcome, start_time)) is not None:
            self._stop(cause)
        if self.cause is not None or delay is None:
            self._finish(key, outcome)
            return 0.0
        log.info("%s: %s; asked again (%d) in %.1f s", self.judge.model, outcome, self.tries[key], delay)
        return delay

    def _delay(self, key: str, error: JudgeError) -> float | None:
        tries, retries = self.tries[key], self.options.retries
        # An ``empty`` reply is tried once more only: it is charged for as a rule.
        max_tries = 0 if error.kind not in PASSING else min(1, retries) if error.kind == "empty" else retries
        if tries >= max_tries:
            return None
        # Random, so that requests that failed together do not come back together.
        backoff = min(self.pace.longest, self.pace.first * 2.0**tries) * (0.5 + 0.5 * self.rng.random())
        return max(backoff, error.retry_after or 0.0)

    def _weigh(self, error: JudgeError, start_time: float) -> JudgeError | None:
        """What a failure says about the judge as a whole: slow down, pause, or (a reason is returned) stop."""
        if error.kind not in PASSING:
            return error if error.kind in FATAL else None
        if error.kind == "rate-limit":
            self.limit.note_throttling(start_time)
        wait = error.retry_after or 0.0
        if wait > self.pace.longest_retry_after:
            return JudgeError(error.kind, f"{error} (asked to wait {wait:.0f} s; run again after that)")
        if wait:
            self.limit.pause(wait)
        now = asyncio.get_running_loop().time()
        if not self.failures:
            self.failing_since = now
        self.failures += 1
        # A round is what the limit lets through at a time: with 16 under way, 16 failures say as much as one.
        rounds, place = divmod(self.failures, max(8, self.limit.start))
        if rounds and (outage := now - self.failing_since) >= self.pace.patience:
            return JudgeError(
                error.kind, f"{self.failures} calls in a row failed in {outage:.0f} s, the last one: {error}"
            )
        if rounds and not place:  # everyone fails: do not use up the tries of all requests on an outage
            self.limit.pause(min(self.pace.longest, self.pace.first * 2.0 ** (rounds - 1)))
        return None

    def _stop(self, error: JudgeError) -> None:
        """Everyone who waits is settled at once; calls under way may still end well."""
        self.cause = error
        self.stop_event.set()
        self.limit.open()

    def _finish(self, key: str, outcome: CallOutcome) -> None:
        self.outcomes[key] = outcome
        self.on_settled(key)
        self.save_event.set()
