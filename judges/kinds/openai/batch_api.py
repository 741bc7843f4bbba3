"""OpenAI's Batch API: a JSONL file of requests, a job over it, files of replies and errors.

Every line carries its key as ``custom_id``, so lines may come back in any order, twice, broken, or not at all; the
first complete reply under a key counts. It is half the price (``catalogue.BATCH_DISCOUNT``), within 24 hours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from harness.api_key import ApiKey
from harness.contracts.judge import CallOutcome, JudgeError
from harness.text import parse_json
from harness.types import Reply, Request
from judges.client.batch_jobs import POLL_SECONDS, JobState
from judges.kinds.openai.bodies import whole_number
from judges.kinds.openai.responses import errors_named, read_body, status_failure

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MOST_REQUESTS: Final = 50_000
MOST_BYTES: Final = 190_000_000  # of 200 MB
_END_STATES: Final = frozenset({"completed", "failed", "expired", "cancelled"})
_TAG: Final = "distilbench"
_MAX_LISTED: Final = 500  # jobs that are looked through for a token; newest first


class OpenAIBatchJobs:
    """Jobs at one endpoint. ``client`` gives the SDK's client of the running event loop."""

    max_requests = MOST_REQUESTS

    def __init__(
        self,
        client: Callable[[], AsyncOpenAI],
        body: Callable[[Request], Mapping[str, object]],
        route: Callable[[Request], str],
        key: ApiKey,
        wait: float,
    ) -> None:
        self._client, self._body, self._route, self._key = client, body, route, key
        self.wait, self.poll = wait, POLL_SECONDS

    async def submit(self, requests: Mapping[str, Request], token: str) -> str:
        """Upload the lines and make the job; one whose reply got lost is found. Raises JudgeError."""
        # A job is of one route; all requests of a stage are chats, or none is.
        url: Any = "/v1" + self._route(next(iter(requests.values())))
        lines = [
            json.dumps({"custom_id": key, "method": "POST", "url": url, "body": self._body(request)})
            for key, request in requests.items()
        ]
        data = ("\n".join(lines) + "\n").encode()
        if len(data) > MOST_BYTES:
            raise JudgeError("batch", f"the batch file has {len(data):,} bytes, {MOST_BYTES:,} are taken: set limits")
        with errors_named(self._key):
            files = self._client().with_options(max_retries=4, timeout=300).files
            file = await files.create(file=(f"{token}.jsonl", data), purpose="batch")
        try:
            with errors_named(self._key):
                batches = self._client().with_options(timeout=60).batches
                batch = await batches.create(
                    input_file_id=file.id, endpoint=url, completion_window="24h", metadata={_TAG: token}
                )
        except JudgeError as error:
            # The call failed, but did the job come into being? Making it again would be paid twice.
            is_unsure = error.kind in ("connection", "timeout", "truncated", "server")
            if is_unsure and (job := await self.find(token)) is not None:
                return job
            raise
        return batch.id

    async def find(self, token: str) -> str | None:
        job_count = 0
        with errors_named(self._key):
            async for batch in self._client().with_options(max_retries=4, timeout=60).batches.list(limit=100):
                if (batch.metadata or {}).get(_TAG) == token:
                    return batch.id
                if (job_count := job_count + 1) >= _MAX_LISTED:
                    break
        return None

    async def fetch(self, job: str) -> JobState:
        with errors_named(self._key):
            client = self._client().with_options(max_retries=4, timeout=300)
            batch = await client.batches.retrieve(job)
            counts = batch.request_counts
            state = batch.status + (f", {counts.completed} of {counts.total} done" if counts else "")
            if batch.status not in _END_STATES:
                return JobState(False, state)
            files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
            texts = [(await client.files.content(file)).content.decode("utf-8", "replace") for file in files]
        reasons = "; ".join(str(error.message) for error in (batch.errors and batch.errors.data) or ())
        state += f" ({self._key.scrub(reasons)})" if reasons else ""
        return JobState(True, state, self._outcomes(texts), refused=batch.status == "failed")

    def _outcomes(self, texts: Iterable[str]) -> dict[str, CallOutcome]:
        """Key to the outcome in the lines that can be read: the first reply, or else the first failure."""
        failures: dict[str, CallOutcome] = {}
        replies: dict[str, CallOutcome] = {}
        for key, outcome in (self._read(line) for text in texts for line in text.split("\n")):
            if isinstance(outcome, Reply):
                replies.setdefault(key, outcome)
            elif outcome is not None:
                failures.setdefault(key, outcome)
        return failures | replies  # a line may come back in both files: then the reply counts

    def _read(self, line: str) -> tuple[str, CallOutcome | None]:
        """(key, outcome) of one line; no outcome for a line that is broken or was not asked: it is asked again."""
        try:
            row = parse_json(line)
            key, response = str(row["custom_id"]), row.get("response") or {}
            body, status = response.get("body"), response.get("status_code")
        except (ValueError, TypeError, KeyError, AttributeError):
            return "", None
        if status == 200:
            try:
                return key, read_body(body, self._key)
            except JudgeError as error:
                return key, error
        failure = (body.get("error") if isinstance(body, Mapping) else None) or row.get("error") or {}
        if isinstance(failure, Mapping) and failure.get("code") == "batch_expired":
            return key, None
        return key, status_failure(whole_number(status) or 500, failure, self._key)
