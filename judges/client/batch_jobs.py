"""Asking through batch jobs: hand a file of requests over, leave, and collect the replies in a later run.

The ledger remembers each job and the keys in it. A job is noted before it is made, with a token that is written into
it, so that a run killed between the two finds it again instead of paying twice. Keys that lie in an open job are never
asked anew; what a job ends without (it expired, a line is missing or broken) is.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, runtime_checkable

from harness.contracts.judge import Judge, JudgeError, Outcome
from harness.types import Reply, Request
from judges.client.budget import Budget
from judges.ledger.ledger import Ledger, StoredBatch

POLL_SECONDS: Final = 10.0
_CLAIM_SECONDS: Final = 3600.0  # a job is made, and noted, within this time
_CLAIMED_ELSEWHERE: Final = "another process is handing it over"
_TRIES: Final = 2  # per run and request: a job that keeps losing lines must not become a loop


@dataclass(frozen=True)
class JobState:
    """What an endpoint says of a job."""

    done: bool
    """Nothing more will come."""
    text: str
    """For people: ``in_progress, 120 of 805 done``."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """Key to reply or failure, once it is done; keys may be missing."""
    refused: bool = False
    """The endpoint refused the job as a whole: handing it over again would end alike."""


class BatchJobs(Protocol):
    """The endpoint's side. All methods raise JudgeError when a call does not get through."""

    most: int
    """Requests in one job."""
    wait: float
    """Seconds to wait for jobs before leaving them to a later run."""
    poll: float
    """Seconds between two looks at a job."""

    async def submit(self, requests: Mapping[str, Request], token: str) -> str:
        """Make a job of requests under their keys; its id."""

    async def find(self, token: str) -> str | None:
        """The id of the job that was made with this token, or ``None`` where there is none."""

    async def fetch(self, job: str) -> JobState:
        """The state of a job, with its outcomes when it is done."""


@runtime_checkable
class BatchJobJudge(Protocol):
    """A judge that can be asked through batch jobs."""

    jobs: BatchJobs | None
    """``None``: this judge is asked call by call."""


@dataclass
class BatchAsking:
    """One run over the jobs of a judge: collects, submits what is in no job, and waits as long as its options say."""

    judge: Judge
    jobs: BatchJobs
    ledger: Ledger
    missing: Mapping[str, Request]
    budget: Budget
    settled: Callable[[str], Any]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    """Key in an open job to what is known of that job."""
    tries: Counter[str] = field(default_factory=Counter)
    """Key to how often this run handed it over."""

    async def work(self) -> dict[str, Outcome]:
        """An outcome for every missing request; those in jobs that are not done are failures of kind ``pending``."""
        deadline = time.monotonic() + self.jobs.wait
        while True:
            try:
                await self.collect()
                await self.submit({key: self.missing[key] for key in self.left() if self.tries[key] < _TRIES})
            except JudgeError as error:
                self.fail(self.left(), error)
            if not self.states or time.monotonic() >= deadline:
                break
            await asyncio.sleep(min(self.jobs.poll, max(0.0, deadline - time.monotonic())))
        for key, state in self.states.items():
            self.outcomes[key] = JudgeError("pending", state)
        self.fail(self.left(), JudgeError("missing", "no line of the batch jobs answers this request"))
        return {key: self.outcomes[key] for key in self.missing}

    def left(self) -> list[str]:
        """Keys that have no outcome and lie in no open job."""
        return [key for key in self.missing if key not in self.outcomes and key not in self.states]

    async def collect(self) -> None:
        """Look at every open job of this judge."""
        self.states = {}
        for stored in self.ledger.batches():
            if (stored.endpoint, stored.model) == (self.judge.endpoint, self.judge.model):
                await self.look(stored)

    async def look(self, stored: StoredBatch) -> None:
        """Take in the outcomes of a job that is done, or note that its keys wait."""
        # A note without an id: its maker may still be at work, or was killed in between.
        if stored.id is None and not self.ledger.claim(stored.token, _CLAIM_SECONDS):
            self.wait_for(stored, _CLAIMED_ELSEWHERE)
            return
        if stored.id is None:  # a run was killed while it made this job
            stored = replace(stored, id=await self.jobs.find(stored.token))
            if stored.id is None:
                self.ledger.close_batch(stored.token, "never made")
                return
            self.ledger.open_batch(stored)
        state = await self.jobs.fetch(str(stored.id))
        if not state.done:
            self.wait_for(stored, f"batch job {stored.id}: {state.text}")
            return
        for key in stored.keys:
            outcome = state.outcomes.get(key)
            if outcome is not None:
                self.take(key, outcome)
            elif state.refused:
                self.fail([key], JudgeError("batch", f"batch job {stored.id}: {state.text}"))
        self.ledger.close_batch(stored.token, f"{state.text}, {len(state.outcomes)} lines")

    def wait_for(self, stored: StoredBatch, state: str) -> None:
        """Note what is known of the job that these keys lie in."""
        self.states |= {key: state for key in stored.keys if key in self.missing and key not in self.outcomes}

    def take(self, key: str, outcome: Outcome) -> None:
        """Store what a job brought; also for keys that nobody waits for now: they are paid."""
        if isinstance(outcome, JudgeError):
            self.fail([key], outcome)
            return
        dollars = self.budget.cost(outcome, self.missing.get(key))
        self.ledger.put(key, self.judge.endpoint, self.judge.model, outcome, dollars)
        self.finish(key, outcome)

    def fail(self, keys: list[str], error: JudgeError) -> None:
        for key in keys:
            dollars = self.budget.cost(error, self.missing.get(key))
            self.ledger.fail(key, self.judge.endpoint, self.judge.model, error.kind, str(error), dollars)
            self.finish(key, error)

    def finish(self, key: str, outcome: Outcome) -> None:
        """Record the outcome of a pending request; a reply replaces a failure."""
        if key in self.missing and not isinstance(self.outcomes.get(key), Reply):
            if key not in self.outcomes:
                self.settled(key)
            self.outcomes[key] = outcome

    async def submit(self, requests: Mapping[str, Request]) -> None:
        """Make jobs of requests that are in none, as far as the budget goes."""
        items = list(requests.items())
        for first in range(0, len(items), self.jobs.most):
            part = dict(items[first : first + self.jobs.most])
            why = self.budget.refusal_of_all(list(part.values()), self.ledger.batches())
            if why is not None:
                for key in part:  # no failed call: none was made
                    self.finish(key, JudgeError("budget", f"not asked, {why}"))
                continue
            claimed = self.ledger.claim_all(part, _CLAIM_SECONDS)
            # after claiming, not before: another process gives its claims back when its job is noted
            in_jobs = {key for batch in self.ledger.batches() for key in batch.keys}
            claimed = [key for key in claimed if key not in in_jobs]
            self.states |= dict.fromkeys(part.keys() - claimed, _CLAIMED_ELSEWHERE)
            if claimed:
                await self.hand_over({key: part[key] for key in claimed})

    async def hand_over(self, part: Mapping[str, Request]) -> None:
        """Make one job. Raises JudgeError."""
        # Noted before it is made, and again with its id: a run killed in between finds the job by its token.
        dollars = sum(self.budget.estimate(request) for request in part.values())
        token = uuid.uuid4().hex
        stored = StoredBatch(token, self.judge.endpoint, self.judge.model, None, tuple(part), dollars, time.time())
        self.ledger.claim(token, _CLAIM_SECONDS)  # so that nobody who sees the note takes us for dead
        self.ledger.open_batch(stored)
        stored = replace(stored, id=await self.jobs.submit(part, stored.token))
        self.ledger.open_batch(stored)
        # Counted per run: a job that keeps losing lines must not become a loop that pays each time.
        self.tries.update(part.keys())
        self.states |= dict.fromkeys(part, f"batch job {stored.id}: handed over now, {len(part)} requests")
