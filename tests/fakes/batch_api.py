"""Test kit: the Batch API of ``tests.fakes.server.FakeServer``: files, jobs, and result files that are not neat.

A job's lines come back in another order than they went. ``FakeServer``'s ``choose`` decides each line's fault: one of
``LINE_FAULTS``, ``content-filter``, ``server-500``, ``context`` or of the text (``wrong-label``, ``no-logprobs``).

    with FakeServer(respond, shares({"duplicate-line": 0.1, "expired-line": 0.1}, seed=0)) as server:
        server.batches.looks = 2          # a job is done at the second look
        server.batches.lose_create = 1    # the first job is made, but the reply that says so gets lost
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from email.parser import BytesParser
from typing import Any, Final

from harness.records import adapter
from harness.types import Reply, Request
from judges.kinds.pocket_server import ChatBody, Handler, RefusalError, completion_body

LINE_FAULTS: Final = {
    "duplicate-line": "the same line twice",
    "missing-line": "no line",
    "broken-line": "half of a line",
    "expired-line": "an error line with code batch_expired: it was never asked",
}
_LINE_ERRORS: Final = {
    "content-filter": (400, "blocked by the content filter", "content_filter"),
    "server-500": (500, "internal error", "server_error"),
    "context": (400, "This model's maximum context length is 10 tokens", "context_length_exceeded"),
}
Answer = Callable[[Request], tuple[str, str | None, Reply]]
"""Request -> (content, fault, reply)."""


class FakeBatches:
    """Files and jobs in memory."""

    def __init__(self, answer: Answer) -> None:
        self.looks = 1
        """Times that a job is looked at until it is done."""
        self.lose_create = 0
        """So many jobs are made while the connection is reset before the reply."""
        self.end = "completed"
        """How jobs end: ``completed``, ``failed`` (refused as a whole) or ``expired`` (no line is answered)."""
        self.made = 0
        """Jobs made so far."""
        self._answer = answer
        self._files: dict[str, bytes] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._looked: dict[str, int] = {}
        self._lock = threading.Lock()

    def get(self, handler: Handler) -> bool:
        """Whether it was a GET of the Batch API, which is answered then."""
        path, _, query = handler.path.partition("?")
        parts = path.strip("/").split("/")
        with self._lock:
            if parts == ["v1", "batches"]:
                jobs = [] if "after=" in query else list(reversed(self._jobs.values()))
                handler.send(200, {"object": "list", "data": jobs, "has_more": False})
            elif parts[:2] == ["v1", "batches"] and len(parts) == 3 and parts[2] in self._jobs:
                handler.send(200, self._look(parts[2]))
            elif parts[:2] == ["v1", "files"] and parts[3:] == ["content"] and parts[2] in self._files:
                handler.send(200, self._files[parts[2]])
            elif parts[1:2] in (["batches"], ["files"]):
                handler.refuse(RefusalError(404, f"no such object: {path}", "not_found"))
            else:
                return False
        return True

    def post(self, handler: Handler) -> bool:
        path = handler.path.partition("?")[0].rstrip("/")
        if path not in ("/v1/files", "/v1/batches"):
            return False
        data = handler.read_body()
        with self._lock:
            body = self._upload(handler, data) if path == "/v1/files" else self._make(json.loads(data))
            lost = path == "/v1/batches" and self.lose_create > 0
            self.lose_create -= lost
        if lost:
            handler.close_connection = True
            handler.connection.close()
        else:
            handler.send(200, body)
        return True

    def _upload(self, handler: Handler, data: bytes) -> dict[str, Any]:
        head = f"Content-Type: {handler.headers.get('Content-Type', '')}\r\n\r\n".encode()
        (file,) = (part for part in BytesParser().parsebytes(head + data).walk() if part.get_filename())
        content: Any = file.get_payload(decode=True)
        return self._store(content)

    def _store(self, content: bytes) -> dict[str, Any]:
        name = f"file-{len(self._files) + 1}"
        self._files[name] = content
        return {"id": name, "object": "file"}

    def _make(self, body: dict[str, Any]) -> dict[str, Any]:
        self.made += 1
        job = {
            "id": f"batch_{self.made}", "object": "batch", "endpoint": body["endpoint"], "created_at": self.made,
            "completion_window": body["completion_window"], "input_file_id": body["input_file_id"],
            "metadata": body.get("metadata"), "status": "validating", "errors": None,
            "output_file_id": None, "error_file_id": None, "request_counts": None,
        }  # fmt: skip
        self._jobs[str(job["id"])] = job
        return job

    def _look(self, name: str) -> dict[str, Any]:
        job = self._jobs[name]
        self._looked[name] = self._looked.get(name, 0) + 1
        lines = [json.loads(line) for line in self._files[job["input_file_id"]].decode().splitlines()]
        if self._looked[name] < self.looks:
            job |= {"status": "in_progress", "request_counts": {"total": len(lines), "completed": 0, "failed": 0}}
        elif job["status"] not in ("completed", "failed", "expired"):
            self._finish(job, lines)
        return job

    def _finish(self, job: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        job["status"] = self.end
        if self.end == "failed":
            job["errors"] = {"object": "list", "data": [{"code": "invalid_json_line", "message": "line 1 is broken"}]}
            return
        output: list[str] = []
        errors: list[str] = []
        for line in reversed(lines):
            self._line(line, output, errors)
        job["request_counts"] = {"total": len(lines), "completed": len(output), "failed": len(errors)}
        job["output_file_id"] = self._store("\n".join(output).encode())["id"] if output else None
        job["error_file_id"] = self._store("\n".join(errors).encode())["id"] if errors else None

    def _line(self, line: dict[str, Any], output: list[str], errors: list[str]) -> None:
        """What comes back for one request."""
        named = {"id": f"line-{line['custom_id'][:8]}", "custom_id": line["custom_id"]}
        if self.end == "expired":
            fault: str | None = "expired-line"
        else:
            _, fault, reply = self._answer(adapter(ChatBody).validate_python(line["body"]).request())
        if fault == "expired-line":
            error = {"code": "batch_expired", "message": "this request could not be executed in time"}
            errors.append(json.dumps(named | {"response": None, "error": error}))
        elif fault in _LINE_ERRORS:
            status, message, code = _LINE_ERRORS[fault]
            response = {"status_code": status, "body": RefusalError(status, message, code).body()}
            errors.append(json.dumps(named | {"response": response, "error": None}))
        elif fault != "missing-line":
            text = json.dumps(named | {"response": {"status_code": 200, "body": completion_body(reply)}, "error": None})
            output += [text[: len(text) // 2]] if fault == "broken-line" else [text]
            output += [text] if fault == "duplicate-line" else []
