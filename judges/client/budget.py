"""What asking may cost: money, calls and time, over everyone who asks through one ledger since a run began.

Calls and their costs are in the ledger, so processes share a budget and a restarted run counts what it spent before.
Calls under way count at the mean cost so far (before the first: at the estimate): so far may a sum be overrun.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from harness.contracts.judge import AskOptions, Billing, CallOutcome, Judge
from harness.errors import UserError
from harness.text import format_count
from harness.types import Reply, Request
from judges.ledger.ledger import Ledger, StoredBatch

_REFRESH: Final = 0.5  # seconds between two looks at what other processes spent
_CHARS_PER_TOKEN: Final = 4
_REPLY_TOKENS: Final = 512  # a verdict is at most assumed to be this long


class Budget:
    def __init__(self, judge: Judge, ledger: Ledger, options: AskOptions, billing: Billing = Billing()) -> None:
        self.judge, self.ledger, self.options, self.billing = judge, ledger, options, billing
        self.start = time.time() if billing.start_time is None else billing.start_time
        self.has_limit = (options.max_cost, options.max_calls, options.max_seconds) != (None, None, None)
        if options.max_cost is not None and billing.price(1000, 1000) is None:
            raise UserError(
                f"max_cost is {options.max_cost:g} dollars, but the price of judge model {judge.model!r} at "
                f"{judge.endpoint} is not known. Give price_in and price_out of this judge, dollars per million tokens "
                "(0 for a server of your own)."
            )
        self.under_way = 0  # calls of this process that have begun and not ended
        self._dollars, self._calls, self._priced_calls = 0.0, 0, 0
        self._last_look = 0.0

    def refusal(self, requests: Sequence[Request], jobs: Sequence[StoredBatch] = ()) -> str | None:
        """Why these calls must not begin; ``None``: they fit. Open batch jobs of this run count as estimated."""
        options, now = self.options, time.time()
        if not self.has_limit:
            return None
        # Other processes spend from the same ledger; a query before every call would cost more than it saves.
        if now - self._last_look > _REFRESH:
            self._dollars, self._calls, self._priced_calls = self.ledger.spending(self.start)
            self._last_look = now
        jobs = [job for job in jobs if job.time >= self.start]
        calls = self._calls + self.under_way + len(requests) + sum(len(job.keys) for job in jobs)
        if options.max_seconds is not None and now - self.start >= options.max_seconds:
            return f"the time budget of {options.max_seconds:g} s is used up"
        if options.max_calls is not None and calls > options.max_calls:
            return f"the budget of {format_count(options.max_calls, 'call')} is used up"
        if options.max_cost is None:
            return None
        # Measured costs replace the estimate as soon as there are some.
        mean = (
            self._dollars / self._priced_calls
            if self._priced_calls
            else sum(map(self.estimate, requests)) / len(requests)
        )
        dollars = self._dollars + self.under_way * mean + sum(job.dollars or 0.0 for job in jobs)
        if dollars + len(requests) * mean <= options.max_cost:
            return None
        return (
            f"about ${len(requests) * mean:.4f} more does not fit the budget of ${options.max_cost:g} "
            f"(${dollars:.4f} spent or under way)"
        )

    def record(self, key: str, outcome: CallOutcome, request: Request | None) -> None:
        """Keep a reply in the ledger, or note a failure, with its cost. ``request``: to estimate uncounted tokens."""
        dollars = self._cost(outcome, request)
        self._calls += 1
        if dollars is not None:
            self._priced_calls += 1
            self._dollars += dollars
        if isinstance(outcome, Reply):
            self.ledger.put(key, self.judge.endpoint, self.judge.model, outcome, dollars)
        else:
            self.ledger.fail(key, self.judge.endpoint, self.judge.model, outcome.kind, str(outcome), dollars)

    def estimate(self, request: Request) -> float:
        """Dollars that a request may cost: four characters a token, half of the reply and thoughts it may write."""
        return self.billing.price(_prompt_tokens(request), self._reply_tokens(request)) or 0.0

    def _reply_tokens(self, request: Request) -> int:
        return (min(request.max_tokens, _REPLY_TOKENS) + self.billing.thinking + 1) // 2

    def _cost(self, outcome: CallOutcome, request: Request | None) -> float | None:
        """Dollars. Tokens that the endpoint did not count are estimated."""
        if isinstance(outcome, Reply):
            prompt, completion = outcome.prompt_tokens, outcome.completion_tokens
            completion = completion or len(outcome.text) // _CHARS_PER_TOKEN + 1 + self.billing.thinking // 2
        elif outcome.usage is None:
            return None
        else:
            prompt, completion = outcome.usage
            completion = completion or (self._reply_tokens(request) if request else 0)
        return self.billing.price(prompt or (_prompt_tokens(request) if request else 0), completion)


def _prompt_tokens(request: Request) -> int:
    return sum(len(message["content"]) for message in request.messages) // _CHARS_PER_TOKEN
