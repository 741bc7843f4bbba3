"""How much a judge call costs beyond the endpoint's own time: the client against a bare loop over the same SDK.

    python -m studies.judging                                  # 805 AlpacaEval judgments, 200 ms, 64 at a time
    python -m studies.judging --official /path/to/venv/bin/python  # and alpaca_eval 0.6.6's own runner

The server is the test kit's (``tests/fakes/server.py``), in a process of its own; every contestant sends the same
official prompts to it (``--pocket``: made-up ones, without the assets), in turns, and the best of ``--rounds`` counts.
"Ideal" is ceil(calls / concurrency) x latency.

Contestants: the client as a run uses it (ledger, retries, budgets); a bare loop over ``AsyncOpenAI``
with a semaphore (nothing is stored); alpaca_eval's ``openai_completions`` with as many workers, if an environment with
alpaca-eval 0.6.6 is named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.contracts.judge import AskOptions, Billing
from harness.types import Answer, Message, Reply, Request
from judges.benchmarks.alpaca_eval.benchmark import BENCHMARK, AlpacaEvalConfig
from judges.client.ask import ask
from judges.kinds.openai.judge import OpenAIConfig, OpenAIJudge
from tests.fakes.server import FakeServer

MODEL = "gpt-4-1106-preview"
OFFICIAL = """
import json, sys, time
from alpaca_eval.decoders.openai import openai_completions
prompts, workers = json.load(open(sys.argv[1])), int(sys.argv[2])
start = time.perf_counter()
done = openai_completions(prompts, model_name="gpt-4-1106-preview", num_procs=workers, max_tokens=1, temperature=1.0,
                          logprobs=True, top_logprobs=5, requires_chatml=True)
print(json.dumps({"seconds": time.perf_counter() - start, "replies": sum(each != "" for each in done["completions"])}))
"""


def judgments(count: int, pocket: bool) -> list[Request]:
    """AlpacaEval's requests about made-up answers: official prompts, or short ones."""
    if pocket:
        talk: list[Message] = [{"role": "user", "content": "m or M? " + "x" * 2000}]
        return [
            Request(str(n), "preference", ({**talk[0], "content": f"{n} {talk[0]['content']}"},), 1, 1.0, 5)
            for n in range(count)
        ]
    config = AlpacaEvalConfig(questions="official", limit=count)
    questions = BENCHMARK.questions(config)
    answers = [Answer(question.id, (f"An answer to: {question.turns[0]}",), (True,), (9,)) for question in questions]
    return [r for q, a in zip(questions, answers, strict=True) for r in BENCHMARK.requests(q, a, config)]


def serve(pipe: Connection, latency: float) -> None:
    """In a process of its own: the fake server, until told to stop."""

    def respond(request: Request) -> Reply:
        return Reply("m", "stop", MODEL, 500, 1, {"m": -0.2, "M": -1.8})

    with FakeServer(respond, models=(MODEL,), latency=latency) as server:
        pipe.send(server.base_url)
        pipe.recv()


def ours(base_url: str, requests: Sequence[Request], concurrency: int) -> float:
    """Seconds of ``ask`` into a new ledger."""
    judge = OpenAIJudge(OpenAIConfig(model=MODEL, base_url=base_url, price_in=10, price_out=30))
    options = AskOptions(concurrency=concurrency, max_concurrency=concurrency, max_cost=1e6)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        outcomes = ask(judge, requests, Path(folder) / "ledger.sqlite", options, billing=Billing(lambda p, c: 0.0))
        seconds = time.perf_counter() - start
    if not all(isinstance(outcome, Reply) for outcome in outcomes):
        raise SystemExit(f"a call failed: {next(failure for failure in outcomes if not isinstance(failure, Reply))}")
    return seconds


def bare_loop(base_url: str, requests: Sequence[Request], concurrency: int) -> float:
    """Seconds of a loop over the SDK with a semaphore, nothing stored."""
    from openai import AsyncOpenAI

    async def loop() -> float:
        client = AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0)
        gate = asyncio.Semaphore(concurrency)

        async def call(request: Request) -> Any:
            async with gate:
                messages: Any = list(request.messages)
                return await client.chat.completions.create(
                    model=MODEL, messages=messages, max_tokens=1, temperature=1.0, logprobs=True, top_logprobs=5
                )

        start = time.perf_counter()
        await asyncio.gather(*(call(request) for request in requests))
        seconds = time.perf_counter() - start
        await client.close()
        return seconds

    return asyncio.run(loop())


def official(python: str, base_url: str, requests: Sequence[Request], concurrency: int) -> float:
    """Seconds of alpaca_eval's own runner, measured inside of its process."""
    texts = ["".join(f"<|im_start|>{m['role']}\n{m['content']}\n<|im_end|>\n" for m in r.messages) for r in requests]
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(texts, file)
        file.flush()
        environment = {**os.environ, "OPENAI_API_KEY": "none", "OPENAI_API_BASE": base_url, "OPENAI_BASE_URL": base_url}
        environment.pop("PYTHONPATH", None)
        words = [python, "-c", OFFICIAL, file.name, str(concurrency)]
        process = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    if process.returncode:
        raise SystemExit(f"alpaca_eval's runner failed:\n{process.stderr[-2000:]}")
    return float(json.loads(process.stdout.strip().splitlines()[-1])["seconds"])


def main() -> None:
    """Measure in turns, print the ratios, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=805)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pocket", action="store_true", help="made-up prompts: needs no assets")
    parser.add_argument("--official", help="python of an environment with alpaca-eval 0.6.6")
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    requests = judgments(options.calls, options.pocket)
    contestants: dict[str, Callable[[str], float]] = {
        "distilbench": lambda url: ours(url, requests, options.concurrency),
        "bare loop": lambda url: bare_loop(url, requests, options.concurrency),
    }
    if options.official:
        contestants["alpaca_eval"] = lambda url: official(options.official, url, requests, options.concurrency)
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs, options.latency), daemon=True)
    server.start()
    url = str(pipe.recv())
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, run in contestants.items():
            seconds[name].append(run(url))
    pipe.send("stop")
    server.join(timeout=10)
    report(seconds, len(requests), options)


def report(seconds_of: dict[str, list[float]], calls: int, options: argparse.Namespace) -> None:
    """One line per contestant: best of all rounds, against ideal and bare loop."""
    ideal = math.ceil(calls / options.concurrency) * options.latency
    best = {name: min(times) for name, times in seconds_of.items()}
    print(f"{calls} calls, {options.concurrency} at a time, {1000 * options.latency:.0f} ms each; ideal {ideal:.2f} s")
    for name, seconds in best.items():
        bare_ratio = f"{seconds / best['bare loop']:.2f} x bare loop"
        print(f"{name:12} {seconds:7.2f} s  {seconds / ideal:.2f} x ideal  {bare_ratio}  (rounds: {seconds_of[name]})")
    if options.out:
        numbers = {"calls": calls, "ideal": ideal, "concurrency": options.concurrency, "latency": options.latency}
        options.out.write_text(json.dumps(numbers | {"seconds": seconds_of}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
