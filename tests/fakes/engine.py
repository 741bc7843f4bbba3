"""The part of vLLM's and SGLang's HTTP protocols that distilbench uses, over a model of transformers, for tests.

As a process of its own: ``python engine.py MODEL --port N [flags of either engine]``, where ``--fail TEXT``, ``--slow
SECONDS`` and ``--die-at N`` (number of a request) misbehave. In a test's process: ``with FakeEngine(folder) as fake``.
What it leaves undone is refused: a field that a server would take must not pass unseen.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

COMPLETION = frozenset({
    "model", "prompt", "n", "seed", "max_tokens", "temperature", "top_p", "top_k", "min_p", "ignore_eos", "logprobs",
    "repetition_penalty", "skip_special_tokens", "stop_token_ids", "return_token_ids", "logit_bias", "prompt_logprobs",
    "logprob_token_ids", "allowed_token_ids", "return_tokens_as_token_ids",
})  # fmt: skip


GENERATE = frozenset({
    "input_ids", "sampling_params", "return_logprob", "logprob_start_len", "top_logprobs_num", "token_ids_logprob",
})  # fmt: skip
GENERATE_OPTIONS = frozenset({
    "max_new_tokens", "temperature", "top_p", "ignore_eos", "stop_token_ids", "logit_bias", "sampling_seed",
})  # fmt: skip


class Refused(Exception):
    """Status 400."""


class Reader:
    """A model, loaded at the first request. Plain forward passes of one row, no cache."""

    def __init__(self, folder: str) -> None:
        self.folder, self.lock = folder, threading.Lock()
        self.model: Any = None
        self.read = lru_cache(64)(self.forward)

    def logps(self, ids: Sequence[int]) -> Any:
        """[tokens, vocabulary] float32."""
        with self.lock:
            return self.read(tuple(ids))

    def forward(self, ids: tuple[int, ...]) -> Any:
        import torch

        if self.model is None:
            from transformers import AutoModelForCausalLM

            self.model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        with torch.inference_mode():
            return self.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)

    def draw(self, prompt: Sequence[int], options: dict[str, Any], seed: int) -> tuple[list[int], str, list[Any]]:
        """(ids, finish reason, log-probabilities [vocabulary] of each step)."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        ids, rows = list(prompt), []
        while len(ids) - len(prompt) < options["max_tokens"]:
            logps = self.logps(ids)[-1]
            rows.append(logps)
            logits = logps.clone()
            for token, bias in (options.get("logit_bias") or {}).items():
                logits[int(token)] += bias
            if allowed := options.get("allowed_token_ids"):
                logits = torch.full_like(logits, -torch.inf).index_copy(0, torch.tensor(allowed), logits[allowed])
            if options["temperature"] == 0:
                token = int(logits.argmax())
            else:
                probabilities = (logits / options["temperature"]).softmax(-1)
                ordered, places = probabilities.sort(descending=True)
                kept = ordered * (ordered.cumsum(-1) - ordered < options.get("top_p", 1.0))
                token = int(places[torch.multinomial(kept, 1, generator=generator)])
            ids.append(token)
            if token in options["stop_token_ids"]:
                return ids[len(prompt) :], "stop", rows
        return ids[len(prompt) :], "length", rows


def entry(row: Any, token: int) -> list[Any]:
    return [float(row[token]), token, None]


class Handler(BaseHTTPRequestHandler):
    server: FakeEngine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        fake = self.server
        pages: dict[str, Any] = {
            "/health": {},
            "/version": {"version": "0.0.fake"},
            "/server_info": {"version": "0.0.fake"},
            "/v1/models": {"data": [{"id": fake.name, "root": fake.reader.folder, "max_model_len": fake.window}]},
        }
        pages |= fake.pages
        fake.keys.add(self.headers["Authorization"])
        if not self.is_away():
            self.reply(pages.get(self.path, {"error": "unknown path"}), 200 if self.path in pages else 404)

    def is_away(self) -> bool:
        """Whether it was answered as a proxy does whose server is gone."""
        fake = self.server
        with fake.lock:
            fake.away, is_away = max(0, fake.away - 1), fake.away > 0
        if is_away:
            self.reply({"error": {"message": "no server"}}, 503)
        return is_away

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake = self.server
        fake.keys.add(self.headers["Authorization"])
        if self.is_away():
            return
        with fake.lock:
            fake.requests.append(body)
            number = len(fake.requests)
        if number == fake.die_at:
            sys.stderr.write("RuntimeError: the engine died as it was told\n")
            os._exit(7)
        if number in fake.faults:
            self.reply({"error": {"message": "busy"}}, fake.faults[number])
            return
        try:
            self.reply({"/v1/completions": fake.complete, "/generate": fake.generate}[self.path](body))
        except Refused as error:
            self.reply({"error": {"message": str(error)}}, 400)

    def reply(self, content: object, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None: ...


class FakeEngine(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self, folder: str = "", host: str = "127.0.0.1", port: int = 0, name: str = "model", window: int = 10**6
    ) -> None:
        super().__init__((host, port), Handler)
        self.reader, self.name, self.window = Reader(folder), name, window
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.die_at = 0
        self.faults: dict[int, int] = {}  # number of a request to its status
        self.away = 0  # so many requests to come, of any kind, find no server
        self.pages: dict[str, Any] = {}  # that GET gives in the place of its own
        self.keys = set[str | None]()  # that it was asked with

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """vLLM's ``/v1/completions``."""
        if unknown := body.keys() - COMPLETION:
            raise Refused(f"this fake does not know {sorted(unknown)}")
        prompt = body["prompt"]
        if body["model"] != self.name or not isinstance(prompt, list) or not prompt:
            raise Refused(f"model {body['model']!r}, prompt {prompt!r}")
        if not body.get("ignore_eos") or body["top_k"] != -1 or body["repetition_penalty"] != 1.0:
            raise Refused("the checkpoint's own defaults would decide")
        if len(prompt) + body["max_tokens"] > self.window:
            raise Refused(f"{len(prompt)} + {body['max_tokens']} tokens, the window has {self.window}")
        options = {"stop_token_ids": [], "temperature": 1.0, **body}
        choices = []
        for index in range(body.get("n", 1)):
            ids, reason, rows = self.reader.draw(prompt, options, body.get("seed", 0) + index)
            choice: dict[str, Any] = {"index": index, "text": "not used", "finish_reason": reason}
            choice["token_ids"] = ids if body.get("return_token_ids") else None
            choice["logprobs"] = None if body.get("logprobs") is None else self.top(body, ids, rows)
            choice["prompt_logprobs"] = None
            if body.get("prompt_logprobs") is not None:
                values = self.reader.logps(prompt)
                choice["prompt_logprobs"] = [None]
                for place, token in enumerate(prompt[1:]):
                    best = values[place].topk(body["prompt_logprobs"]).indices.tolist()
                    entry = {str(each): {"logprob": float(values[place][each])} for each in [token, *best]}
                    choice["prompt_logprobs"].append(entry)
            choices.append(choice)
        # A server's choices come in the order in which they are done.
        return {"choices": choices[::-1]}

    def generate(self, body: dict[str, Any]) -> Any:
        """SGLang's ``/generate``; a list of prompts with a list of options, as it takes them, gives a list."""
        if unknown := body.keys() - GENERATE:
            raise Refused(f"this fake does not know {sorted(unknown)}")
        if isinstance(body["sampling_params"], list):
            rows = zip(body["input_ids"], body["sampling_params"], strict=True)
            return [self.generate({"input_ids": ids, "sampling_params": options}) for ids, options in rows]
        prompt, options = body["input_ids"], body["sampling_params"]
        if options.keys() - GENERATE_OPTIONS or not options["ignore_eos"] or not prompt:
            raise Refused(f"options {options}, prompt {prompt!r}")
        if len(prompt) >= self.window or len(prompt) + options["max_new_tokens"] > self.window:
            raise Refused(f"{len(prompt)} tokens, the window has {self.window}")
        common = {"stop_token_ids": [], **options, "max_tokens": options["max_new_tokens"]}
        ids, reason, rows = self.reader.draw(prompt, common, options.get("sampling_seed", 0))
        meta: dict[str, Any] = {"finish_reason": {"type": reason}}
        if body.get("return_logprob"):
            start, k = body["logprob_start_len"], body.get("top_logprobs_num", 0)
            meta["output_token_logprobs"] = [entry(rows[0], ids[0])]
            meta["input_token_logprobs"] = []
            tops = [rows[0]]
            if start >= 0:
                values = self.reader.logps(prompt)
                meta["input_token_logprobs"] = [[None, prompt[start], None]]
                meta["input_token_logprobs"] += [
                    entry(values[at - 1], prompt[at]) for at in range(start + 1, len(prompt))
                ]
                tops = [*values[start : len(prompt) - 1], rows[0]]
            if k:
                best = [[entry(row, token) for token in row.topk(k).indices.tolist()] for row in tops]
                meta["input_top_logprobs"], meta["output_top_logprobs"] = [None, *best[:-1]], best[-1:]
            if wanted := body.get("token_ids_logprob"):
                meta["output_token_ids_logprobs"] = [[entry(rows[0], token) for token in wanted]]
        return {"text": "not used", "output_ids": ids, "meta_info": meta}

    @staticmethod
    def top(body: dict[str, Any], ids: list[int], rows: list[Any]) -> dict[str, Any]:
        wanted = body.get("logprob_token_ids") or rows[0].topk(body["logprobs"]).indices.tolist()
        top = {f"token_id:{token}": float(rows[0][token]) for token in [ids[0], *wanted]}
        return {"token_logprobs": [float(rows[0][ids[0]])], "top_logprobs": [top]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fail", default="")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--die-at", type=int, default=0)
    parser.add_argument("--once", default="", help="a file: there, it does not die again")
    parser.add_argument("--served-model-name", default="model")
    parser.add_argument("--max-model-len", "--context-length", dest="window", type=int, default=10**6)
    arguments, others = parser.parse_known_args()
    sys.stderr.write(f"started as {os.getpid()}\nwith {' '.join(others)}\n")
    time.sleep(arguments.slow)
    if arguments.fail:
        sys.exit(arguments.fail)
    fake = FakeEngine(arguments.model, arguments.host, arguments.port, arguments.served_model_name, arguments.window)
    once = Path(arguments.once) if arguments.once else None
    if once is None or not once.exists():
        fake.die_at = arguments.die_at
    if once:
        once.touch()
    fake.serve_forever()


if __name__ == "__main__":
    main()
