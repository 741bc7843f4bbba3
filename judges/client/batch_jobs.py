"""Asking through batch jobs: hand a file of requests over, leave, and collect the replies in a later run.

A job is in the ledger before it is made, with a token that is written into it, so that a run killed between the two
finds it again instead of paying twice. Keys in an open job are never asked anew; what a job ends without is.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, runtime_checkable

from harness.contracts.judge import CallOutcome, JudgeError
from harness.types import Reply, Request
from judges.client.budget import Budget
from judges.ledger.ledger import StoredBatch

POLL_SECONDS: Final = 10.0
_CLAIM_SECONDS: Final = 3600.0  # a job is made, and noted, within this time
_CLAIMED_ELSEWHERE: Final = "another process is handing it over"
_TRIES: Final = 2  # per run and request: a job that keeps losing lines must not become a loop


@dataclass(frozen=True)
class JobState:
    finished: bool  # nothing more will come
    text: str  # for people: ``in_progress, 120 of 805 done``
    outcomes: Mapping[str, CallOutcome] = field(default_factory=dict)  # once it is finished; keys may be missing
    refused: bool = False  # the endpoint refused the job as a whole: handing it over again would end alike


class BatchJobs(Protocol):
    """The endpoint's side. All methods raise JudgeError."""

    max_requests: int  # requests in one job
    wait: float  # seconds to wait for jobs before leaving them to a later run
    poll: float  # seconds between two looks at a job

    async def submit(self, requests: Mapping[str, Request], token: str) -> str:
        """The id of a new job of these requests under their keys."""

    async def find(self, token: str) -> str | None:
        """The id of the job that was made with this token."""

    async def fetch(self, job: str) -> JobState:
        """Its outcomes are there when it is finished."""


@runtime_checkable
class BatchJobJudge(Protocol):
    jobs: BatchJobs | None  # ``None``: this judge is asked call by call


class BatchAsking:
    """One run over the jobs of a judge: collects, submits what is in no job, and waits as long as its options say."""

    def __init__(
        self, jobs: BatchJobs, requests: Mapping[str, Request], budget: Budget, on_settled: Callable[[str], None]
    ) -> None:
        self.jobs, self.requests, self.budget, self.on_settled = jobs, requests, budget, on_settled
        self.judge, self.ledger = budget.judge, budget.ledger
        self.outcomes: dict[str, CallOutcome] = {}
        self.states: dict[str, str] = {}  # key in an open job to what is known of that job
        self.tries: Counter[str] = Counter()  # key to how often this run handed it over

    async def work(self) -> dict[str, CallOutcome]:
        """An outcome for every request; those in jobs that are not done are failures of kind ``pending``."""
        deadline = time.monotonic() + self.jobs.wait
        while True:
            try:
                await self._collect()
                await self._submit([key for key in self._open_keys() if self.tries[key] < _TRIES])
            except JudgeError as error:
                self._record(self._open_keys(), error)
            if not self.states or (seconds_left := deadline - time.monotonic()) <= 0:
                break
            await asyncio.sleep(min(self.jobs.poll, seconds_left))
        self.outcomes |= {key: JudgeError("pending", state) for key, state in self.states.items()}
        self._record(self._open_keys(), JudgeError("missing", "no line of the batch jobs answers this request"))
        return self.outcomes

    def _open_keys(self) -> list[str]:
        return [key for key in self.requests if key not in self.outcomes and key not in self.states]

    async def _collect(self) -> None:
        """Take in the outcomes of this judge's open jobs that are done, and note which keys wait in the others."""
        self.states = {}
        for batch in self.ledger.batches():
            ours = (batch.endpoint, batch.model) == (self.judge.endpoint, self.judge.model)
            if ours and (state := await self._look(batch)):
                self.states |= {k: state for k in batch.keys if k in self.requests and k not in self.outcomes}

    async def _look(self, batch: StoredBatch) -> str | None:
        """What is known of a job that is not done; ``None`` once everything that it brought is taken in."""
        if batch.id is None:
            # A note without an id: its maker may still be at work, or was killed in between.
            if not self.ledger.claim(batch.token, _CLAIM_SECONDS):
                return _CLAIMED_ELSEWHERE
            batch = replace(batch, id=await self.jobs.find(batch.token))
            if batch.id is None:
                self.ledger.close_batch(batch.token, "never made")
                return None
            self.ledger.open_batch(batch)
        state = await self.jobs.fetch(str(batch.id))
        text = f"batch job {batch.id}: {state.text}"
        if not state.finished:
            return text
        # Also keys that nobody waits for now: they are paid.
        for key in batch.keys:
            if key in state.outcomes:
                self._record([key], state.outcomes[key])
            elif state.refused:
                self._record([key], JudgeError("batch", text))
        self.ledger.close_batch(batch.token, f"{state.text}, {len(state.outcomes)} lines")
        return None

    def _record(self, keys: Iterable[str], outcome: CallOutcome) -> None:
        for key in keys:
            self.budget.record(key, outcome, self.requests.get(key))
            self._finish(key, outcome)

    def _finish(self, key: str, outcome: CallOutcome) -> None:
        """The outcome of a request that somebody waits for; a reply replaces a failure."""
        if key in self.requests and not isinstance(self.outcomes.get(key), Reply):
            if key not in self.outcomes:
                self.on_settled(key)
            self.outcomes[key] = outcome

    async def _submit(self, keys: Sequence[str]) -> None:
        for first in range(0, len(keys), self.jobs.max_requests):
            chunk = {key: self.requests[key] for key in keys[first : first + self.jobs.max_requests]}
            refusal = self.budget.refusal(list(chunk.values()), self.ledger.batches())
            if refusal is not None:
                for key in chunk:  # no failed call: none was made
                    self._finish(key, JudgeError("budget", f"not asked, {refusal}"))
                continue
            claimed_keys = self.ledger.claim_all(chunk, _CLAIM_SECONDS)
            # After claiming, not before: another process gives its claims back when its job is noted.
            in_jobs = {key for batch in self.ledger.batches() for key in batch.keys}
            claimed_keys = [key for key in claimed_keys if key not in in_jobs]
            self.states |= dict.fromkeys(chunk.keys() - claimed_keys, _CLAIMED_ELSEWHERE)
            if claimed_keys:
                await self._hand_over({key: chunk[key] for key in claimed_keys})

    async def _hand_over(self, requests: Mapping[str, Request]) -> None:
        # Noted before it is made, and again with its id: a run killed in between finds the job by its token.
        dollars = sum(self.budget.estimate(request) for request in requests.values())
        token = uuid.uuid4().hex
        batch = StoredBatch(token, self.judge.endpoint, self.judge.model, None, tuple(requests), dollars, time.time())
        self.ledger.claim(token, _CLAIM_SECONDS)  # so that nobody who sees the note takes us for dead
        self.ledger.open_batch(batch)
        batch = replace(batch, id=await self.jobs.submit(requests, token))
        self.ledger.open_batch(batch)
        # Counted per run: a job that keeps losing lines must not become a loop that pays each time.
        self.tries.update(requests.keys())
        self.states |= dict.fromkeys(requests, f"batch job {batch.id}: handed over now, {len(requests)} requests")
