"""A server of an engine as a process of its own, for tests: ``python engine.py --port N [--fail TEXT]``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.reply(b"")

    def reply(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fail", default="")
    parser.add_argument("--slow", type=float, default=0.0)
    arguments = parser.parse_args()
    sys.stderr.write(f"started as {os.getpid()}\n")
    time.sleep(arguments.slow)
    if arguments.fail:
        sys.exit(arguments.fail)
    ThreadingHTTPServer((arguments.host, arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
