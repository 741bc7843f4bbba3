"""Requests to one server of an engine, many at a time. Knows HTTP, and nothing of models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness.api_key import ApiKey
from harness.coroutines import run_coroutine
from harness.errors import UserError

if TYPE_CHECKING:
    from httpx2 import AsyncClient

ATTEMPTS: Final = 4
PAUSE: Final = 1.0
"""Seconds before the second attempt, doubled for each further one. A server whose engine died ends itself meanwhile."""
BUSY: Final = frozenset({408, 429, 500, 502, 503, 504})
"""States that may pass: overload, a proxy without its server, an engine that just died."""


def pause(attempt: int) -> float:
    """Seconds before an attempt, counted from 0."""
    return PAUSE * 2 ** (attempt - 1) if attempt else 0.0


class Call(NamedTuple):
    path: str
    body: Mapping[str, Any]


@dataclass
class EngineClient:
    name: str
    connect: Callable[[], str]
    """Base URL of a live server. Asked again after a failed request; raises UserError where there is none."""
    concurrency: int
    """Requests under way at once."""
    seconds: float
    """The longest that one may take, waiting in the server's queue included."""
    key: ApiKey
    """Of a server of others."""
    proxy: bool
    """Whether proxies that the environment names are used: not to this machine."""
    url: str = ""

    def post_all(self, calls: Iterable[tuple[int, Call]], take: Callable[[int, Any], None]) -> None:
        """``take(number, reply)`` as replies come. Raises UserError where one cannot be had; the others stop."""
        iterator = iter(calls)

        async def work() -> None:
            # Not through ``openai``, which takes a millisecond of a core for each request.
            from httpx2 import AsyncClient, Limits

            async with AsyncClient(
                headers={"Authorization": f"Bearer {self.key.value}"},
                timeout=self.seconds,
                limits=Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
                trust_env=self.proxy,
                follow_redirects=True,
            ) as client:
                lock = asyncio.Lock()
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.concurrency):
                        group.create_task(self._work(client, lock, iterator, take))

        try:
            run_coroutine(work)
        except BaseExceptionGroup as group:
            # Which of them came first says the least: all have the same cause.
            raise group.exceptions[0] from None

    async def _work(
        self,
        client: AsyncClient,
        lock: asyncio.Lock,
        calls: Iterator[tuple[int, Call]],
        take: Callable[[int, Any], None],
    ) -> None:
        for number, call in calls:
            take(number, await self._post(client, lock, call))

    async def _post(self, client: AsyncClient, lock: asyncio.Lock, call: Call) -> Any:
        from httpx2 import RequestError

        problem = ""
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(pause(attempt))
            url = await self._live(lock, self.url if problem else "")
            try:
                reply = await client.post(url + call.path, json=call.body)
                if reply.is_success:
                    return reply.json()
                problem = f"status {reply.status_code}: {reply.text[:500]}"
                if reply.status_code not in BUSY:
                    break
            except RequestError as error:
                problem = str(error) or type(error).__name__
            except (ValueError, RecursionError) as error:
                problem = f"no JSON: {error}"
                break
        raise UserError(f"{self.name} at {self.url}{call.path} gives no answer ({self.key.scrub(problem)}).")

    async def _live(self, lock: asyncio.Lock, failed: str) -> str:
        """The server's URL; that of a new one, perhaps, where a request to ``failed`` went wrong."""
        async with lock:
            if not self.url or self.url == failed:
                # Starting a server takes minutes, and other requests may be under way to one that is well.
                self.url = await asyncio.to_thread(self.connect)
            return self.url
