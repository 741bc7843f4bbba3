"""How many judge calls may be under way, and from when: bounded concurrency that gives way to an endpoint's 429.

The limit is halved when the endpoint says "too many" (once per burst: calls that started before the last cut say
nothing new) and grows back by one for every window of as many successes as it allows calls. Server errors do not
shrink it: they are not about load that we made.
"""

from __future__ import annotations

import asyncio


class Gate:
    """Lets at most ``limit`` calls through at a time, none before ``resume_at``. For one event loop."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = max(1, ceiling)
        self.limit = self.ceiling
        self.active = 0
        self.resume_at = 0.0
        """Time of the event loop's clock, seconds."""
        self._successes = 0
        self._last_cut = -1.0
        self._waiting: list[asyncio.Future[None]] = []

    async def enter(self) -> float:
        """Wait for a place. Returns the loop's time at which the call starts."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self.active >= self.limit or now < self.resume_at:
            place: asyncio.Future[None] = loop.create_future()
            self._waiting.append(place)
            timer = loop.call_at(self.resume_at, self._wake) if now < self.resume_at else None
            try:
                await place
            finally:
                if timer is not None:
                    timer.cancel()
            now = loop.time()
        self.active += 1
        return now

    def leave(self) -> None:
        """Give the place back."""
        self.active -= 1
        self._wake()

    def succeeded(self) -> None:
        """A call was answered: after a window of them the limit grows by one, up to the ceiling."""
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            if self.limit < self.ceiling:
                self.limit += 1
                self._wake()

    def throttled(self, started: float) -> None:
        """A call that started at ``started`` was told "too many requests"."""
        if started > self._last_cut:
            self.limit = max(1, self.limit // 2)
            self._last_cut = asyncio.get_running_loop().time()
            self._successes = 0

    def pause(self, seconds: float) -> None:
        """Let nobody start for so long."""
        self.resume_at = max(self.resume_at, asyncio.get_running_loop().time() + seconds)

    def open(self) -> None:
        """End any pause and lift the limit, so that everyone who waits comes through (to learn that it is over)."""
        self.resume_at, self.limit = 0.0, self.ceiling
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for place in waiting:  # each looks again for itself; those for whom there is no place queue up anew, in order
            if not place.done():
                place.set_result(None)
