"""Test kit: an OpenAI-compatible server on 127.0.0.1 that fails on purpose, for tests here and in your own project.

    def respond(request): return Reply("m", "stop", "fake", 10, 1, {"m": -0.1, "M": -2.4})

    with FakeServer(respond, shares({"server-500": 0.05, "reset": 0.05}, seed=0), latency=0.2) as server:
        judge = OpenAIJudge(OpenAIConfig(model="fake", base_url=server.base_url))
        ...
    server.answered    # Counter: content of a request (hash) -> complete replies sent

It has the Batch API too (``server.batches``, ``tests/fakes/batch_api.py``).

Which call fails is decided by ``choose(content, visit)``: the hash of the request's content and how often it has
come before (0 the first time). ``shares`` makes faults mutually exclusive and reproducible; ``script`` plays a list.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, Self

from harness.types import Reply, Request
from judges.kinds.pocket_server import Handler, RefusalError, Server, completion_body
from judges.ledger.ledger import request_key
from tests.fakes.batch_api import LINE_FAULTS, FakeBatches

COMPLETE: Final = frozenset({"wrong-label", "no-logprobs", "other-model"})
"""Faults that are nevertheless complete replies: stored by the ledger, judged by the parsers."""
Respond = Callable[[Request], Reply]
Choose = Callable[[str, int], str | None]
"""(content of the request, earlier visits of it) -> name of a fault or ``None``."""

_ERRORS: Final[Mapping[str, tuple[int, str, str, Mapping[str, str]]]] = {
    "rate-limit": (429, "too many requests", "rate_limit_exceeded", {}),
    "rate-limit-wait": (429, "too many requests", "rate_limit_exceeded", {"Retry-After": "0.05"}),
    "quota": (429, "You exceeded your current quota", "insufficient_quota", {}),
    "server-500": (500, "internal error", "server_error", {}),
    "overloaded-503": (503, "overloaded", "overloaded", {}),
    "auth": (401, "Incorrect API key provided: {key}", "invalid_api_key", {}),
    "no-model": (404, "The model {model} does not exist", "model_not_found", {}),
    "context": (400, "This model's maximum context length is 10 tokens", "context_length_exceeded", {}),
    "unsupported": (400, "Unsupported parameter: 'max_tokens'", "unsupported_parameter", {}),
}
_CHANGES: Final[Mapping[str, Mapping[str, Any]]] = {
    "wrong-label": {"text": "Both are fine, I think.", "first_token": None},
    "no-logprobs": {"first_token": None},
    "empty-text": {"text": "", "first_token": None},
    "content-filter": {"text": "", "finish_reason": "content_filter", "first_token": None},
}


FAULTS: Final = (*_ERRORS, *_CHANGES, "hang", "reset", "truncated", "broken-json", "no-choices", "other-model")
"""``hang``: no answer for ``hang`` seconds, then a closed connection; ``reset``: closed before a byte is sent;
``truncated``: half of the JSON under the full Content-Length; ``broken-json``: half of it, declared as whole."""


def shares(parts: Mapping[str, float], seed: int, visits: int = 1) -> Choose:
    """Each fault on its share of the requests (shares add up to at most 1), on their first ``visits`` visits."""
    unknown = set(parts) - {*FAULTS, *LINE_FAULTS}
    assert not unknown and sum(parts.values()) <= 1.0 + 1e-9, unknown

    def choose(content: str, visit: int) -> str | None:
        place = int.from_bytes(hashlib.sha256(f"{seed} {content}".encode()).digest()[:7]) / 2**56
        for name, share in parts.items():
            if (place := place - share) < 0:
                return name if visit < visits else None
        return None

    return choose


def script(names: Sequence[str | None]) -> Choose:
    """The first calls that come play ``names`` in order, all later ones are answered."""
    left = list(names)
    return lambda content, visit: left.pop(0) if left else None


class FakeServer:
    """The server as a context manager. ``respond`` gives the true reply; ``choose`` says which call fails, and how."""

    def __init__(
        self,
        respond: Respond,
        choose: Choose = lambda content, visit: None,
        *,
        models: tuple[str, ...] = ("fake",),
        latency: float = 0.0,
        hang: float = 5.0,
    ) -> None:
        self.respond, self.choose, self.models, self.latency, self.hang = respond, choose, models, latency, hang
        self.calls: Counter[str] = Counter()
        """Content to chat requests that came; ``answered``: to complete replies sent (the paid ones)."""
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.batches = FakeBatches(self.answer_line)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = Server(("127.0.0.1", 0), type("Handler", (_FakeHandler,), {"fake": self, "models": models}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer_line(self, request: Request) -> tuple[str, str | None, Reply]:
        """(content, fault, reply) of a request in a batch job; counted like a call."""
        content, fault = self._begin(request)
        self._end(content, fault is None or fault in COMPLETE or (fault in LINE_FAULTS and fault != "expired-line"))
        return content, fault, replace(self.respond(request), **_CHANGES.get(fault or "", {}))

    def _begin(self, request: Request) -> tuple[str, str | None]:
        """Count the call; its content and the fault to play."""
        content = request_key("", "", request)
        with self._lock:
            fault = self.choose(content, self.calls[content])
            self.calls[content] += 1
            self.requests.append(request)
            if fault is not None:
                self.faults[fault] += 1
        return content, fault

    def _end(self, content: str, answered: bool) -> None:
        with self._lock:
            self.answered.update([content] if answered else [])


class _FakeHandler(Handler):
    """Plays one fault or none per call. The standard library makes an object of it per connection."""

    fake: ClassVar[FakeServer]

    @property
    def route(self) -> str:
        """An address of Azure's older kind, which names a deployment, is served too."""
        return re.sub(r"^/openai/deployments/[^/]+", "/v1", super().route)

    def do_GET(self) -> None:  # noqa: N802, the name that http.server calls
        if not self.fake.batches.get(self):
            super().do_GET()

    def do_POST(self) -> None:  # noqa: N802
        if not self.fake.batches.post(self):
            super().do_POST()

    def chat(self, request: Request, model: str) -> None:
        content, fault = self.fake._begin(request)
        answered = False
        try:
            if self.fake.latency:
                time.sleep(self.fake.latency)
            if fault is not None and fault in _ERRORS:
                self._error(fault, model)
            elif fault == "hang":
                self.fake._closing.wait(self.fake.hang)
                self.close_connection = True
            elif fault == "reset":
                self._reset()
            else:
                self._reply(request, fault)
                answered = fault is None or fault in COMPLETE
        finally:
            self.fake._end(content, answered)

    def _error(self, fault: str, model: str) -> None:
        status, message, code, headers = _ERRORS[fault]
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        refusal = RefusalError(status, message.format(key=key, model=model), code)
        self.send(status, refusal.body(), headers)

    def _reset(self) -> None:
        # Closing with unsent data and no linger time makes the kernel send RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _reply(self, request: Request, fault: str | None) -> None:
        reply = replace(self.fake.respond(request), **_CHANGES.get(fault or "", {}))
        if fault == "other-model":
            reply = replace(reply, model=f"{reply.model}-quantised")
        body = completion_body(reply)
        if fault == "no-choices":
            body["choices"] = []
        if fault in ("truncated", "broken-json"):
            self._half(json.dumps(body).encode("ascii"), declared_whole=fault == "broken-json")
        else:
            self.send(200, body)

    def _half(self, data: bytes, *, declared_whole: bool) -> None:
        half = data[: len(data) // 2]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(half) if declared_whole else len(data)))
        self.end_headers()
        self.wfile.write(half)
        self.close_connection = not declared_whole
