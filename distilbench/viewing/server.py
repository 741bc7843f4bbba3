"""The server of ``distilbench view``: for this machine only, read-only, live by server-sent events.

Web pages of others cannot read it: a request must name this machine as its host (no DNS rebinding), and answers forbid
being framed or used by other sites. An address names a run by a name of ours, never by a path.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from distilbench.viewing.comparison import comparison_page
from distilbench.viewing.library import Library, ViewedRun
from harness.errors import UserError
from reports.page.page import Frame, page
from reports.page.widgets import Section, warning

HOST = "127.0.0.1"
PORT = 8377
HOSTS = (HOST, "localhost")
EVERY = 1.0  # seconds between two looks at a run
HEADERS = {
    b"cache-control": b"no-store",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class SafeHeaders:
    """Middleware: every answer has ``HEADERS``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Pages:
    """What is served, by address."""

    def __init__(self, library: Library, every: float) -> None:
        self.library, self.every = library, every

    def links(self) -> list[tuple[str, str]]:
        return [("/", "All runs"), ("/compare", "Side by side")] if len(self.library.all()) > 1 else []

    async def html(self, make: Callable[[], str]) -> Response:
        """A page, made in a thread; what is wrong with a run is its page."""
        try:
            return HTMLResponse(await run_in_threadpool(make))
        except UserError as error:
            problem = Section("Problem", warning(str(error)))
            return HTMLResponse(page("distilbench", [problem], Frame(links=self.links())), 404)

    def run_of(self, request: Request) -> ViewedRun:
        return self.library.run(request.path_params["name"])

    async def index(self, request: Request) -> Response:
        runs = list(self.library.all().values())
        return RedirectResponse(runs[0].address) if len(runs) == 1 else await self.html(self.library.index)

    async def run(self, request: Request) -> Response:
        """Live, or finished."""

        def make() -> str:
            viewed = self.run_of(request)
            return viewed.live_page(self.links()) if viewed.is_live() else viewed.report_page(self.links())

        return await self.html(make)

    async def report(self, request: Request) -> Response:
        """The tables as they are, of a run that goes on too."""

        def make() -> str:
            viewed = self.run_of(request)
            live = [(viewed.address, "Live")] if viewed.is_live() else []
            return viewed.report_page([*self.links(), *live])

        return await self.html(make)

    async def compare(self, request: Request) -> Response:
        """``?first=NAME``: the run that all others are compared with."""

        def make() -> str:
            runs = self.library.all()
            first = self.library.run(request.query_params.get("first") or next(iter(runs)))
            return comparison_page([first, *(run for run in runs.values() if run is not first)], self.links())

        return await self.html(make)

    async def judge_request(self, request: Request) -> Response:
        def make() -> str:
            viewed = self.run_of(request)
            return viewed.request_page(request.path_params["key"], [*self.links(), (viewed.address, "The run")])

        return await self.html(make)

    async def events(self, request: Request) -> Response:
        try:
            viewed = self.run_of(request)
        except UserError:
            return Response(status_code=404)
        return StreamingResponse(follow(viewed, self.every), media_type="text/event-stream")


def application(library: Library, every: float = EVERY) -> Starlette:
    pages = Pages(library, every)
    return Starlette(
        routes=[
            Route("/", pages.index),
            Route("/compare", pages.compare),
            Route("/runs/{name:str}", pages.run),
            Route("/runs/{name:str}/report", pages.report),
            Route("/runs/{name:str}/events", pages.events),
            Route("/runs/{name:str}/requests/{key:str}", pages.judge_request),
        ],
        middleware=[Middleware(SafeHeaders), Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))],
    )


async def follow(viewed: ViewedRun, every: float) -> AsyncIterator[str]:
    """The parts of a live page that have changed, until the run is finished; a comment now and then keeps it open."""
    sent: dict[str, str] = {}
    while True:
        with suppress(OSError, UserError):  # the next command has just removed the file: look again
            parts = await run_in_threadpool(viewed.parts)
            for name, html in parts.items():
                if sent.get(name) != html:
                    yield f"event: part\ndata: {json.dumps({'id': name, 'html': html})}\n\n"
            sent = parts
            if not await run_in_threadpool(viewed.is_live):
                yield "event: finished\ndata: {}\n\n"
                return
        yield ": still here\n\n"  # without it, a window that was closed would be followed for ever
        await asyncio.sleep(every)


def view(
    words: Sequence[str], runs: Path, port: int | None, plugins: Sequence[str], say: Callable[[str], object]
) -> None:
    """Serve until Ctrl-C. ``say`` is told the address. Raises UserError where there is no such run, or the port is
    taken."""
    library = Library(runs, words, plugins)
    config = uvicorn.Config(
        application(library), log_level="warning", timeout_graceful_shutdown=1, server_header=False, lifespan="off"
    )
    with open_socket(port) as server, suppress(KeyboardInterrupt):
        say(f"{', '.join(library.all())}: http://{HOST}:{server.getsockname()[1]}/ (this machine only; Ctrl-C ends it)")
        uvicorn.Server(config).run(sockets=[server])


def open_socket(port: int | None) -> socket.socket:
    """On this machine only. ``None``: ``PORT``, or any that is free."""
    for number in [PORT, 0] if port is None else [port]:
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, number))
            server.listen()  # from now on a browser waits for its page
            return server
        except OSError as error:
            server.close()
            problem = error
    reason = (problem.strerror or str(problem)).lower()
    raise UserError(f"--port {port}: {reason}. Name another one, or 0 for one that is free.")
