"""Asking a judge many things: through the ledger, concurrently, with retries, and without losing a paid reply.

What users lose money on elsewhere: failed calls cached as verdicts, everything asked again after a crash, hours spent
on a dead endpoint. Here a reply is in the ledger as soon as it has come (kill -9 loses only what is under way),
a failure is never stored as a reply, and a judge that is plainly down or misnamed stops the asking.

    outcomes = ask(judge, requests, Path("runs/x/judge.sqlite"), AskOptions(concurrency=16))
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from harness.contracts.judge import AskOptions, Judge
from harness.types import Reply, Request
from judges.client.batch_jobs import JobJudge, ask_jobs
from judges.client.budget import Budget
from judges.client.workers import Asking, Outcome, Pace
from judges.ledger.ledger import Ledger, request_key

T = TypeVar("T")


@runtime_checkable
class SessionJudge(Protocol):
    """A judge with something to prepare in the running event loop (imports, connections) and to close again."""

    async def aopen(self) -> None:
        """Called before the first request of an ``ask``: outside of any request's timeout."""

    async def aclose(self) -> None:
        """Called at the end of every ``ask`` that asked something."""


def ask(
    judge: Judge,
    requests: Sequence[Request],
    ledger: Path,
    options: AskOptions,
    progress: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """One outcome per request, in order. Stored replies are not asked again; failures are never stored.

    Requests that are equal in all that decides the reply are asked once. ``progress`` is told how many requests
    more are settled (stored ones at once). Ctrl-C keeps what was judged and raises KeyboardInterrupt.

    Raises:
        UserError: the ledger cannot be read or written. A judge's failures are returned, not raised.
    """
    return ask_paced(judge, requests, ledger, options, progress, Pace())


def ask_paced(
    judge: Judge,
    requests: Sequence[Request],
    ledger: Path,
    options: AskOptions,
    progress: Callable[[int], None] | None,
    pace: Pace,
) -> list[Outcome]:
    """``ask`` with other waiting times."""
    return _run(_ask(judge, requests, ledger, options, progress, pace))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run in an event loop of its own; in a thread where one is running here already (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _ask(
    judge: Judge,
    requests: Sequence[Request],
    path: Path,
    options: AskOptions,
    progress: Callable[[int], None] | None,
    pace: Pace,
) -> list[Outcome]:
    keys = [request_key(judge.endpoint, judge.model, request) for request in requests]
    copies = Counter(keys)
    with Ledger(path) as ledger:
        outcomes: dict[str, Outcome] = dict(ledger.get(copies))
        if progress and outcomes:
            progress(sum(copies[key] for key in outcomes))
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in outcomes}
        if missing:
            ledger.want(missing, judge.endpoint, judge.model)

            def settled(key: str) -> None:
                if progress:
                    progress(copies[key])

            async with _session(judge):
                if isinstance(judge, JobJudge) and judge.jobs is not None:
                    budget = Budget(judge, ledger, options)
                    outcomes.update(await ask_jobs(judge, judge.jobs, ledger, missing, budget, settled))
                else:
                    rng = random.Random(
                        next(iter(missing))
                    )  # jitter differs between sets of requests, not between runs
                    outcomes.update(await Asking(judge, ledger, options, pace, rng, settled).work(missing))
    return [_keyed(outcomes[key], key) for key in keys]


def _keyed(outcome: Outcome, key: str) -> Outcome:
    """The outcome with its ledger key, so that a judgment can name the request behind it."""
    return replace(outcome, request=key) if isinstance(outcome, Reply) else outcome


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
