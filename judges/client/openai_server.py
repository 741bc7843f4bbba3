"""The server side of the OpenAI chat protocol, on the standard library: what the pocket judge's server and the fake
server of the test kit have in common.

Only what judging needs: one reply, no streaming, log-probabilities of the first token. ``respond`` is any function
from a Request to a Reply.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from harness.types import Message, Reply, Request

Respond = Callable[[Request], Reply]
MAX_BODY: Final = 16_000_000
"""Bytes of a request that are read; more is refused with 413."""


class RefusalError(Exception):
    """A request that gets an error in OpenAI's form. ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


def request_of(body: object) -> Request:
    """The request in a decoded body of ``POST /v1/chat/completions``. Raises RefusalError (400) on a bad field."""
    if not isinstance(body, Mapping):
        raise RefusalError(400, "the body is not a JSON object")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RefusalError(400, "messages must be a list of at least one message", param="messages")
    if body.get("stream"):
        raise RefusalError(400, "streaming is not supported here", "unsupported_value", "stream")
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    limit = 1024 if limit is None else limit
    temperature = body.get("temperature")
    temperature = 1.0 if temperature is None else temperature
    top = (body.get("top_logprobs") or 0) if body.get("logprobs") else 0
    for name, value, kind, low in (
        ("max_tokens", limit, int, 1), ("temperature", temperature, int | float, 0), ("top_logprobs", top, int, 0)
    ):  # fmt: skip
        if not isinstance(value, kind) or isinstance(value, bool) or not value >= low:
            raise RefusalError(400, f"{name} must be a number of at least {low}, got {value!r}", param=name)
    return Request("", "", tuple(_message(each) for each in messages), limit, float(temperature), top)


def _message(value: object) -> Message:
    if isinstance(value, Mapping):
        role, content = value.get("role"), value.get("content")
        if isinstance(content, list):  # the parts form; only text can be judged here
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
        if isinstance(role, str) and isinstance(content, str):
            return {"role": role, "content": content}
    raise RefusalError(400, "each message needs a role and a text content", param="messages")


def completion_body(reply: Reply) -> dict[str, Any]:
    """A reply as ``chat.completion`` JSON. Log-probabilities stand at the first token only."""
    logprobs = None
    if reply.first_token is not None:
        top = [_token(token, logprob) for token, logprob in reply.first_token.items()]
        chosen = next(
            (entry for entry in top if reply.text.startswith(entry["token"])), top[0] if top else _token("", 0.0)
        )
        logprobs = {"content": [{**chosen, "top_logprobs": top}], "refusal": None}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": reply.text, "refusal": None},
        "finish_reason": reply.finish_reason,
        "logprobs": logprobs,
    }
    usage = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
    }
    return {
        "id": "chatcmpl-local",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": reply.model,
        "choices": [choice],
        "usage": usage,
    }


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}


def error_body(refusal: RefusalError) -> dict[str, Any]:
    """An error as OpenAI writes it."""
    kind = "invalid_request_error" if refusal.status < 500 else "server_error"
    return {"error": {"message": str(refusal), "type": kind, "param": refusal.param, "code": refusal.code}}


class Server(ThreadingHTTPServer):
    """A threading server with a longer queue: clients open all their connections at once."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is printed as always."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Routes of the protocol with kept-alive connections. Subclasses set ``models`` and ``chat``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a reply waits 40 ms for the acknowledgement of its headers
    timeout = 300  # seconds that a silent connection is kept
    server_version = "distilbench"
    sys_version = ""
    models: tuple[str, ...] = ()

    def chat(self, request: Request, model: str) -> None:
        """Answer a chat request, through ``send``. May raise RefusalError."""
        raise NotImplementedError

    def served(self, method: str) -> bool:
        """Answer a route of a subclass's own; whether it was one."""
        del method
        return False

    def do_GET(self) -> None:
        """``/v1/models`` and ``/health``."""
        if self.served("GET"):
            return
        path = self.path.partition("?")[0].rstrip("/")
        if path == "/v1/models":
            entries = [{"id": name, "object": "model", "created": 0, "owned_by": "distilbench"} for name in self.models]
            self.send(200, {"object": "list", "data": entries})
        elif path == "/health":
            self.send(200, {"status": "ok"})
        else:
            self.send(404, error_body(RefusalError(404, f"no route GET {path}; try /v1/models", "not_found")))

    def do_POST(self) -> None:
        """``/v1/chat/completions``."""
        if self.served("POST"):
            return
        try:
            body = self._body()
            self.chat(request_of(body), str(body.get("model", "")))
        except RefusalError as refusal:
            self.send(refusal.status, error_body(refusal))
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client left; nobody to tell

    def send(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """One JSON response, in one packet."""
        data = json.dumps(body).encode("ascii")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.wfile.write(self.finish_headers() + data)

    def finish_headers(self) -> bytes:
        """The status line and headers so far, not yet sent."""
        lines: list[bytes] = getattr(self, "_headers_buffer", [])
        self._headers_buffer: list[bytes] = []
        return b"".join(lines) + b"\r\n"

    def log_message(self, *args: Any) -> None:
        """Nothing on the terminal: a server of thousands of requests is followed by its client."""

    def _body(self) -> Any:
        """The decoded body. It is read whole before anything is refused, so that the connection can go on."""
        data = self.read_body()
        path = self.path.partition("?")[0].rstrip("/")
        if path != "/v1/chat/completions":
            raise RefusalError(404, f"no route POST {path}; try /v1/chat/completions", "not_found")
        try:
            return json.loads(data)
        except ValueError:
            raise RefusalError(400, "the body is not valid JSON") from None

    def read_body(self) -> bytes:
        """The body as it came. Raises RefusalError (411, 413)."""
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self.close_connection = True
            raise RefusalError(411, "a Content-Length is needed") from None
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True  # the rest is not read, so the connection cannot go on
            raise RefusalError(413, f"the body has {length} bytes; at most {MAX_BODY} are read")
        return self.rfile.read(length)
