"""A model hub on this machine: the few addresses that huggingface_hub asks to make a repository and upload a folder.

It keeps what it was sent, and answers as the real one does: 401 without the right token, 404 for what is not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_fake0123456789"  # noqa: S105, of this fake


@dataclass
class FakeHub:
    address: str = ""
    repos: dict[str, bool] = field(default_factory=dict)
    """Name to whether it is private."""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files by sha256."""
    asked: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                self.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[repo][value["path"]] = self.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del self.files[repo][value["path"]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *words: object) -> None: ...

    def reply(self, content: object, code: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def answer(self) -> None:
        path, body = self.path.partition("?")[0], self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {path}")
        if path.startswith("/objects/"):
            self.hub.objects[path.removeprefix("/objects/")] = body
            self.reply(b"", ETag="stored")
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply({"error": "Invalid credentials"}, 401, X_Error_Message="Invalid username or password.")
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.hub.repos[name] = bool(asked.get("private")) or asked.get("visibility") == "private"
            self.hub.files[name] = {}
            self.reply({"url": f"{self.hub.address}/{name}", "id": name})
        elif path == "/api/validate-yaml":
            self.reply({"errors": [], "warnings": []})
        else:
            repo = "/".join(path.removeprefix("/api/models").split("/")[1:3]).removesuffix(".git")
            if repo in self.hub.repos:
                self.answer_of(repo, path, body)
            else:
                self.reply({"error": "Not found"}, 404, X_Error_Code="RepoNotFound")

    def answer_of(self, repo: str, path: str, body: bytes) -> None:
        hub = self.hub
        if path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            places = [{"upload": {"href": f"{hub.address}/objects/{each['oid']}", "header": {}}} for each in wanted]
            objects = [{**each, "actions": actions} for each, actions in zip(wanted, places, strict=True)]
            self.reply({"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json")
        elif "/preupload/" in path:
            names = [each["path"] for each in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
            files = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]
            self.reply({"files": files})
        elif "/commit/" in path:
            hub.commit(repo, [json.loads(line) for line in body.splitlines() if line.strip()])
            oid = git_name(body)
            self.reply({"commitOid": oid, "commitUrl": f"{hub.address}/{repo}/commit/{oid}", "success": True})
        elif "/tree/" in path:
            files = [(name, git_name(data), len(data)) for name, data in hub.files[repo].items()]
            self.reply([{"type": "file", "path": name, "oid": oid, "size": size} for name, oid, size in files])
        else:
            siblings = [{"rfilename": name} for name in hub.files[repo]]
            about = {"id": repo, "modelId": repo, "private": hub.repos[repo], "sha": "0" * 40, "tags": []}
            self.reply({**about, "siblings": siblings})

    do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815, names of http.server


def git_name(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()  # noqa: S324, as git names things


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
