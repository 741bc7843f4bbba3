r"""What our way to an engine costs beyond the engine's own time: a backend against a bare client on one server.

    python -m studies.engine_overhead --options '{command: [/path/to/venv/bin/vllm, serve]}'
    python -m studies.engine_overhead --model models/smollm2 --options '{server: http://127.0.0.1:8000}' --prompts 32 \
        -n 2 --max-new-tokens 32 --rounds 3

Both send the same requests to the same server, as many at a time. The bare client has their bodies ready, and drops
what comes. Ours makes them: text to token ids, seeds, a journal on disk, drawn ids back to text, log-probabilities to
means. They take turns in ``--rounds`` rounds, with new seeds each time, so that neither finds more in the server's
caches. What counts is the median over rounds of ours over bare: times of one round share whatever else the machine
does. Reading is timed too: mean log-probabilities of as many rows.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import yaml

from harness.contracts.backend import Services
from harness.contracts.model import Sampling
from harness.contracts.options import options_from
from harness.journal import Journal
from harness.models.backends import BACKENDS
from harness.models.chat import encode
from harness.models.checkpoint import resolve
from harness.models.engines.client import Call
from harness.models.engines.local import LocalEngines
from harness.models.engines.model import EngineModel, seeds_of
from harness.pocket.world import iter_prompts
from harness.types import Messages, Response


async def send(url: str, calls: Sequence[Call], concurrency: int) -> None:
    """The bare client."""
    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx2.AsyncClient(limits=limits, timeout=600.0, trust_env=False) as client:
        semaphore = asyncio.Semaphore(concurrency)

        async def post(call: Call) -> None:
            async with semaphore:
                reply = await client.post(url + call.path, json=call.body)
                reply.raise_for_status().json()

        await asyncio.gather(*map(post, calls))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(model: EngineModel, talks: Sequence[Messages], n: int, sampling: Sampling, rounds: int) -> dict[str, Any]:
    """Median seconds of each and their median ratio, for drawing and for reading."""
    prompts = model.encode_prompts(talks)
    drawn = model.generate(talks, sampling, seed=10_000, n=n)  # the server is warm from here on
    pairs = [(talk, one) for talk, row in zip(talks, drawn, strict=True) for one in row if one.ids]
    url, concurrency = model.client.url, model.config.concurrency

    def draw_bare(seed: int) -> float:
        calls = [model.engine.draw_calls(model, ids, sampling, seeds_of(seed, place, n))
                 for place, ids in enumerate(prompts)]  # fmt: skip
        return seconds(lambda: asyncio.run(send(url, list(itertools.chain(*calls)), concurrency)))

    def draw_ours(seed: int) -> float:
        with fresh_journal(model):
            return seconds(lambda: tokens.append(count(model.generate(talks, sampling, seed, n))))

    tokens: list[int] = []
    draw = take_turns(draw_bare, draw_ours, rounds)
    rows = [encode(model.tokenizer, talk, one.text, one.finished, one.ids) for talk, one in pairs]
    row_calls = [model.engine.row_call(model, [*row.prompt, *row.response], len(row.prompt), 0) for row in rows]

    def read_bare(_: int) -> float:
        return seconds(lambda: asyncio.run(send(url, row_calls, concurrency)))

    def read_ours(_: int) -> float:
        with fresh_journal(model):
            return seconds(lambda: model.mean_logps([talk for talk, _ in pairs], [one for _, one in pairs]))

    read = take_turns(read_bare, read_ours, rounds)
    lengths = sum(len(row.prompt) + len(row.response) for row in rows)
    return {
        "draw": draw | {"tokens": round(median(tokens)), "requests": len(prompts)},
        "read": read | {"tokens": lengths, "requests": len(rows)},
    }


def take_turns(bare: Callable[[int], float], ours: Callable[[int], float], rounds: int) -> dict[str, Any]:
    """Whoever comes second may find the server warmer: they take turns in that too."""
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    for number in range(rounds):
        for name, contestant in (("bare", bare), ("ours", ours))[:: 1 if number % 2 else -1]:
            times[name].append(round(contestant(number), 3))
    ratio = median([own / other for own, other in zip(times["ours"], times["bare"], strict=True)])
    return {name: median(values) for name, values in times.items()} | {"ratio": round(ratio, 3), "rounds": times}


def count(rows: Sequence[Sequence[Response]]) -> int:
    return sum(one.tokens for row in rows for one in row)


@contextmanager
def fresh_journal(model: EngineModel) -> Iterator[None]:
    """A journal on disk, as in a stage, and nothing in it."""
    with tempfile.TemporaryDirectory(prefix="distilbench-overhead-") as folder:
        model.services = replace(model.services, journal=Journal(lambda: Path(folder)))
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", default="vllm", choices=[name for name, one in BACKENDS.items() if one.engine])
    parser.add_argument("--model", default="pocket:teacher")
    parser.add_argument("--options", default="{}", help="options of the backend, YAML")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("-n", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    arguments = parser.parse_args()
    backend, engines = BACKENDS[arguments.backend], LocalEngines()
    talks = [list(prompt.messages) for prompt in itertools.islice(iter_prompts(seed=9), arguments.prompts)]
    with tempfile.TemporaryDirectory(prefix="distilbench-overhead-") as folder:
        services = Services(serve=lambda spec: engines.address(spec, Path(folder) / "engine.log"))
        config = options_from(backend.config, yaml.safe_load(arguments.options))
        try:
            model: Any = backend.load(resolve(arguments.model), config, services)
            sampling = Sampling(arguments.max_new_tokens, 1.0)
            result = measure(model, talks, arguments.n, sampling, arguments.rounds)
        finally:
            engines.close()
    result |= {"model": arguments.model, "n": arguments.n, **services.notes}
    for name in ("draw", "read"):
        row = result[name]
        rate = row["tokens"] / row["ours"]
        print(f"{name}: {row['requests']} requests, bare {row['bare']:.2f} s, ours {row['ours']:.2f} s "
              f"({rate:,.0f} tokens/s): {row['ratio']:.2f}x")  # fmt: skip
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
