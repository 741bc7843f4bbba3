"""How many judge calls may be under way, and from when: concurrency that grows while the endpoint keeps up.

It grows by one for every answer (doubles per window of calls) until the endpoint says "too many" (429); then it is
halved, once per burst, and grows by one per window. It stops growing where a window's calls take ``QUEUEING`` times as
long as the fastest window's did: such an endpoint queues what it is sent. Server errors are not about our load.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Final

QUEUEING: Final = 2.0


class AdaptiveLimit:
    """Lets at most ``limit`` calls through at a time, in the order they came, none before ``resume_at``."""

    def __init__(self, start: int, ceiling: int | None = None) -> None:
        self.start = self.limit = start
        self.ceiling = max(start, ceiling or start)
        self.resume_at = 0.0  # time of the event loop's clock, seconds
        self._places = asyncio.Semaphore(start)
        self._surplus = 0  # places that were cut and are not given back yet
        self._open_event = asyncio.Event()
        self._last_cut = -1.0
        self._fastest = math.inf  # mean seconds per call of the fastest window so far
        self._keeps_up = True
        self._begin_window()

    async def enter(self) -> float:
        """Wait for a place. Returns the loop's time at which the call starts."""
        clock = asyncio.get_running_loop().time
        await self._places.acquire()
        try:
            while (wait := self.resume_at - clock()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._open_event.wait()
        except BaseException:  # cancelled: nobody will leave for this call
            self.leave()
            raise
        return clock()

    def leave(self) -> None:
        # After a cut, the calls under way are more than the limit: their places go as they end.
        if self._surplus:
            self._surplus -= 1
        else:
            self._places.release()

    def note_success(self, seconds: float) -> None:
        self._count += 1
        self._seconds += seconds
        window_ended = self._count >= self._window
        if window_ended:
            mean = self._seconds / self._count
            self._fastest = min(self._fastest, mean)
            self._keeps_up = mean <= QUEUEING * self._fastest
        if self._keeps_up and (window_ended or self._last_cut < 0) and self.limit < self.ceiling:
            self.limit += 1
            self.leave()
        if window_ended:
            self._begin_window()

    def note_throttling(self, start: float) -> None:
        """A call that started at ``start`` was told "too many requests"."""
        # A call that started before the last cut was sent under the old limit: its 429 is no news.
        if start > self._last_cut:
            lower_limit = max(1, self.limit // 2)
            self._surplus += self.limit - lower_limit
            self.limit = lower_limit
            self._last_cut = asyncio.get_running_loop().time()
            self._begin_window()

    def pause(self, seconds: float) -> None:
        self.resume_at = max(self.resume_at, asyncio.get_running_loop().time() + seconds)

    def open(self) -> None:
        """End any pause: everyone who waits comes through, to learn that the asking is over."""
        self.resume_at = 0.0
        self._open_event.set()

    def _begin_window(self) -> None:
        self._window, self._count, self._seconds = self.limit, 0, 0.0
