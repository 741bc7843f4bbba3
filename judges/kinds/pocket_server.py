"""The pocket judge as a local OpenAI-compatible server: the real client, ledger and parsers without a key.

``POST /v1/chat/completions`` (one reply, log-probabilities of the first token), ``GET /v1/models``. It asks for no key,
so it listens on 127.0.0.1 unless another address is given. The test kit's failing server builds on the same handler.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated

from pydantic import Field, ValidationError

from harness.contracts.options import Count, NotNegative
from harness.errors import UserError
from harness.records import adapter
from harness.types import Message, Reply, Request
from judges.kinds.pocket import MODEL, PocketJudge


class RefusalError(Exception):
    """A request that gets an error in OpenAI's form. ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def body(self) -> dict[str, object]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": None, "code": self.code}}


@dataclass(frozen=True)
class ChatBody:
    """The fields of ``POST /v1/chat/completions`` that are read; any others are ignored."""

    messages: Annotated[tuple[Message, ...], Field(min_length=1)]
    model: str = ""
    max_completion_tokens: Count | None = None
    max_tokens: Count = 1024
    temperature: NotNegative = 1.0
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0)] = 0

    def request(self) -> Request:
        top = self.top_logprobs if self.logprobs else 0
        return Request("", "", self.messages, self.max_completion_tokens or self.max_tokens, self.temperature, top)


def completion_body(reply: Reply) -> dict[str, object]:
    """A reply as ``chat.completion`` JSON. Log-probabilities stand at the first token only."""
    logprobs = None
    if reply.first_token is not None:
        top: list[dict[str, object]] = [
            {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}
            for token, logprob in reply.first_token.items()
        ]
        drawn_token = next(
            (entry for entry in top if reply.text.startswith(str(entry["token"]))), top[0] if top else {}
        )
        logprobs = {"content": [{**drawn_token, "top_logprobs": top}], "refusal": None}
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    prompt, completion = reply.prompt_tokens, reply.completion_tokens
    return {
        "id": "chatcmpl-local", "object": "chat.completion", "created": int(time.time()), "model": reply.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": logprobs}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }  # fmt: skip


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # clients open all their connections at once

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news; anything else is printed as always."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """Kept-alive connections. Subclasses set ``models`` and ``chat``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a reply waits 40 ms for the acknowledgement of its headers
    wbufsize = -1  # buffered, so that headers and body leave in one packet
    timeout = 300  # seconds that a silent connection is kept
    models: tuple[str, ...] = ()

    def chat(self, request: Request, model: str) -> None:
        """Answer one request with ``send``. Raises RefusalError."""
        raise NotImplementedError

    @property
    def route(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def do_GET(self) -> None:
        if self.route == "/v1/models":
            entries = [{"id": name, "object": "model", "created": 0, "owned_by": "distilbench"} for name in self.models]
            self.send(200, {"object": "list", "data": entries})
        else:
            self.refuse(RefusalError(404, f"no route {self.path}; try /v1/models", "not_found"))

    def do_POST(self) -> None:
        try:
            data = self.read_body()  # before anything is refused, so that the connection can go on
            if self.route == "/v1/chat/completions":
                body: ChatBody = adapter(ChatBody).validate_json(data)
                self.chat(body.request(), body.model)
            else:
                self.refuse(RefusalError(404, f"no route {self.path}; try /v1/chat/completions", "not_found"))
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"])) or "the body"
            self.refuse(RefusalError(400, f"{field}: {problem['msg']}"))
        except RefusalError as refusal:
            self.refuse(refusal)

    def refuse(self, refusal: RefusalError) -> None:
        self.send(refusal.status, refusal.body())

    def send(self, status: int, body: Mapping[str, object] | bytes, headers: Mapping[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode("ascii")
        self.send_response(status)
        fields = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Nothing on the terminal: a server of thousands of requests is followed by its client."""

    def read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and len(length) < 10):
            self.close_connection = True  # what is not read would be taken for the next request
            raise RefusalError(411, "a Content-Length of at most nine digits is needed")
        return self.rfile.read(int(length))


def make_server(judge: PocketJudge, host: str = "127.0.0.1", port: int = 8000) -> Server:
    """A bound server; port 0 takes any free one. Raises UserError if the port is taken."""
    lock = threading.Lock()  # a favoured model is loaded and run by one thread at a time

    class PocketHandler(Handler):
        models = (MODEL,)

        def chat(self, request: Request, model: str) -> None:
            if model != MODEL:
                raise RefusalError(404, f"the model {model!r} does not exist; ask for {MODEL!r}", "model_not_found")
            with lock:
                reply = judge.reply(request)
            self.send(200, completion_body(reply))

    try:
        return Server((host, port), PocketHandler)
    except (OSError, OverflowError) as error:
        remedy = "Choose another --port, or stop what listens there."
        raise UserError(f"cannot listen on {host}:{port}: {error}. {remedy}") from error


def serve(judge: PocketJudge, host: str, port: int) -> None:
    """Serve until Ctrl-C. Raises UserError if the port is taken."""
    with make_server(judge, host, port) as server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
