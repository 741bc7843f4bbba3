"""How many judge calls may be under way, and from when: concurrency that grows while the endpoint keeps up.

It starts at ``start`` and grows by one for every answer, which doubles it per window of calls, until the endpoint says
"too many" (429): then it is halved, once per burst (calls that started before the last cut say nothing new), and from
there on grows by one per window. It stops growing where a window's calls take twice as long as the fastest window's
did: such an endpoint queues what it is sent. Server errors do not shrink it: they are not about load that we made.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

QUEUEING: Final = 2.0
"""Mean seconds per call, relative to the fastest window, from which on the limit no longer grows."""


class AdaptiveLimit:
    """Lets at most ``limit`` calls through at a time, none before ``resume_at``. For one event loop."""

    def __init__(self, start: int, ceiling: int | None = None) -> None:
        self.start = max(1, start)
        self.ceiling = max(self.start, ceiling or self.start)
        self.limit = self.start
        self.active = 0
        self.resume_at = 0.0
        """Time of the event loop's clock, seconds."""
        self._last_cut = -1.0
        self._waiting: list[asyncio.Future[None]] = []
        self._fastest = math.inf
        """Mean seconds per call of the fastest window so far."""
        self._keeps_up = True
        self._begin_window()

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

    def succeeded(self, seconds: float) -> None:
        """A call was answered after so long."""
        self._count += 1
        self._seconds += seconds
        window_ended = self._count >= self._window
        if window_ended:
            mean = self._seconds / self._count
            self._fastest = min(self._fastest, mean)
            self._keeps_up = mean <= QUEUEING * self._fastest
        if self._keeps_up and (window_ended or self._last_cut < 0) and self.limit < self.ceiling:
            self.limit += 1
            self._wake()
        if window_ended:
            self._begin_window()

    def throttled(self, started: float) -> None:
        """A call that started at ``started`` was told "too many requests"."""
        # A call that started before the last cut was sent under the old limit: its 429 is no news.
        if started > self._last_cut:
            self.limit = max(1, self.limit // 2)
            self._last_cut = asyncio.get_running_loop().time()
            self._begin_window()

    def pause(self, seconds: float) -> None:
        """Let nobody start for so long."""
        self.resume_at = max(self.resume_at, asyncio.get_running_loop().time() + seconds)

    def open(self) -> None:
        """End any pause and lift the limit, so that everyone who waits comes through (to learn that it is over)."""
        self.resume_at, self.limit = 0.0, self.ceiling
        self._wake()

    def _begin_window(self) -> None:
        self._window, self._count, self._seconds = self.limit, 0, 0.0

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for place in waiting:  # each looks again for itself; those for whom there is no place queue up anew, in order
            if not place.done():
                place.set_result(None)
