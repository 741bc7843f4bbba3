"""The pocket judge as a local OpenAI-compatible server: the real client, ledger and parsers without a key.

    distilbench pocket-judge --port 8000
    curl http://127.0.0.1:8000/v1/models

``POST /v1/chat/completions`` (log-probabilities included), ``GET /v1/models``, ``GET /health``. Standard library only;
meant for this machine, so it listens on 127.0.0.1 unless told otherwise and asks for no key.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from harness.errors import UserError
from harness.types import Request
from judges.client.openai_server import Handler, RefusalError, Server, completion_body
from judges.kinds.pocket import MODEL, PocketJudge


def make_server(judge: PocketJudge, host: str = "127.0.0.1", port: int = 8000) -> Server:
    """A bound server; port 0 takes any free one (``server.server_address[1]``). Raises UserError if it is taken."""
    lock = threading.Lock()  # a favoured model is loaded and run by one thread at a time

    class PocketHandler(Handler):
        models = (MODEL,)

        def chat(self, request: Request, model: str) -> None:
            if model != MODEL:
                raise RefusalError(
                    404, f"the model {model!r} does not exist here; ask for {MODEL!r}", "model_not_found", "model"
                )
            if judge.config.self_preference:
                with lock:
                    reply = judge.reply(request)
            else:
                reply = judge.reply(request)
            self.send(200, completion_body(reply))

    try:
        return Server((host, port), PocketHandler)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on {host}:{port}: {error}. Choose another --port, or stop what listens there."
        ) from error


def serve(judge: PocketJudge, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until Ctrl-C. Raises UserError if the port is taken."""
    with make_server(judge, host, port) as server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


@contextlib.contextmanager
def running(judge: PocketJudge) -> Iterator[str]:
    """Serve on a free port in a thread for the length of a ``with`` block; gives the base URL."""
    with make_server(judge, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()
