"""What asking may cost: money, calls and time, over everyone who asks through one ledger since a run began.

The ledger is the purse: each call that was charged is stored with its cost, so that worker processes that share a
ledger share the budget, and a run that was killed and started again counts what it spent in its own time. Calls under
way are counted at the mean cost so far (before the first: at the estimate), which is how far a sum may be overrun.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from harness.contracts.judge import AskOptions, Judge, JudgeError
from harness.errors import UserError
from harness.text import counted
from harness.types import Reply, Request
from judges.ledger.ledger import Ledger, StoredBatch

_REFRESH: Final = 0.5  # seconds between two looks at what other processes spent
_CHARS_PER_TOKEN: Final = 4
_REPLY_TOKENS: Final = 512  # a verdict is at most assumed to be this long


class Budget:
    """Says whether one more call fits. ``begun`` and ``ended`` keep count of those under way."""

    def __init__(self, judge: Judge, ledger: Ledger, options: AskOptions) -> None:
        self.options, self.ledger = options, ledger
        self.started = time.time() if options.started is None else options.started
        self.limited = (options.max_cost, options.max_calls, options.max_seconds) != (None, None, None)
        if options.max_cost is not None and self.price(1000, 1000) is None:
            raise UserError(
                f"max_cost is {options.max_cost:g} dollars, but the price of judge model {judge.model!r} at "
                f"{judge.endpoint} is not known. Give price_in and price_out of this judge, dollars per million tokens "
                "(0 for a server of your own)."
            )
        self.flying = 0
        self._spent, self._calls, self._priced = 0.0, 0, 0
        self._looked = -1.0

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Dollars, or ``None`` when the price is not known."""
        return None if self.options.price is None else self.options.price(prompt_tokens, completion_tokens)

    def refusal(self, request: Request) -> str | None:
        """Why one more call like this one must not begin, or ``None``."""
        if not self.limited:
            return None
        used = self._used_up(1)
        if used is None and self.options.max_cost is not None:
            # Measured costs replace the estimate as soon as there are some.
            each = self._spent / self._priced if self._priced else self.estimate(request)
            if self._spent + (self.flying + 1) * each > self.options.max_cost:
                most = f"the budget of ${self.options.max_cost:g}"
                return f"${self._spent:.4f} of {most} is spent, and the next call may not fit"
        return used

    def refusal_of_all(self, requests: Sequence[Request], open_batches: Sequence[StoredBatch] = ()) -> str | None:
        """Why these requests must not be made together; batch jobs under way count, their cost as estimated."""
        if not self.limited:
            return None
        ours = [batch for batch in open_batches if batch.time >= self.started]
        self._looked = -1.0  # what a job brought is in the ledger only
        used = self._used_up(len(requests) + sum(len(batch.keys) for batch in ours))
        if used is None and self.options.max_cost is not None:
            under_way = sum(batch.dollars or 0.0 for batch in ours)
            cost = sum(self.estimate(request) for request in requests)
            if self._spent + under_way + cost > self.options.max_cost:
                spent = f"${self._spent + under_way:.4f} spent or under way"
                return f"about ${cost:.4f} more does not fit the budget of ${self.options.max_cost:g} ({spent})"
        return used

    def _used_up(self, count: int) -> str | None:
        """Why ``count`` more calls must not begin, their cost apart."""
        options, now = self.options, time.time()
        # Other processes spend from the same ledger; a query before every call would cost more than it saves.
        if self._looked < 0 or now - self._looked > _REFRESH:
            self._spent, self._calls, self._priced = self.ledger.spent(self.started)
            self._looked = now
        if options.max_seconds is not None and now - self.started >= options.max_seconds:
            return f"the time budget of {options.max_seconds:g} s is used up"
        if options.max_calls is not None and self._calls + self.flying + count > options.max_calls:
            return f"the budget of {counted(options.max_calls, 'call')} is used up"
        return None

    def estimate(self, request: Request) -> float:
        """Dollars that a request may cost: four characters a token, half of the reply and thoughts it may write."""
        return self.price(_read(request), self._written(request)) or 0.0

    def _written(self, request: Request) -> int:
        return (min(request.max_tokens, _REPLY_TOKENS) + self.options.thinking + 1) // 2

    def cost(self, outcome: Reply | JudgeError, request: Request | None) -> float | None:
        """Dollars that a call cost, ``None`` when not known. Tokens that the endpoint did not count are estimated.

        ``request`` may be ``None`` where it is not at hand; its tokens then count as far as the endpoint counted them.
        """
        if isinstance(outcome, Reply):
            read, wrote = outcome.prompt_tokens, outcome.completion_tokens
            wrote = wrote or len(outcome.text) // _CHARS_PER_TOKEN + 1 + self.options.thinking // 2
        elif outcome.usage is None:
            return None
        else:
            read, wrote = outcome.usage
            wrote = wrote or (self._written(request) if request else 0)
        return self.price(read or (_read(request) if request else 0), wrote)

    def begun(self, count: int = 1) -> None:
        """Calls start."""
        self.flying += count

    def ended(self, outcome: Reply | JudgeError, request: Request) -> float | None:
        """One of them ended, with or without a reply. Returns what it cost, if that is known."""
        self.flying -= 1
        self._calls += 1
        dollars = self.cost(outcome, request)
        if dollars is not None:
            self._priced += 1
            self._spent += dollars
        return dollars


def _read(request: Request) -> int:
    """About the tokens of a prompt."""
    return sum(len(message["content"]) for message in request.messages) // _CHARS_PER_TOKEN
