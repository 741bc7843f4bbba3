"""Is ``plan --simulate`` right? Rates of this machine from a small run, and what they say of another one, beside it.

    python studies/simulate.py measure --out rates.json       # two small runs: rates of this machine's CPU
    python studies/simulate.py check --rates rates.json       # pocket's table 1 with 1 and 2 workers, simulated and run
    python studies/simulate.py check --rates rates.json --real   # at its real size: ten minutes on two cores

``measure`` runs three of the eight methods of table 1 on 640 other prompts and half of the questions, with one worker
and with two. Its stages' seconds are fitted by what they did (tokens trained on, read and written by each model, judge
calls, resamples) and by what they all have (a start, the imports of a worker): least squares without negative values.
So no stage has a rate of its own, and other prompts, questions, methods and seeds are predicted, not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.optimize import nnls

import distilbench
from distilbench.simulation import pending, simulate
from harness.contracts.stage import RunListener

PILOT = {
    "recipe": "pocket",
    "methods": ["seqkd", "pad-ppd", "minillm"],
    "seeds": [7],
    "set": {
        "prompts.n": 640, "prompts.seed": 1, "benchmarks.alpaca_eval.limit": 100, "benchmarks.arena_hard.limit": 60,
        "benchmarks.mt_bench.limit": 24, "benchmarks.gsm8k.limit": 60,
    },
}  # fmt: skip
SMALL = {"recipe": "pocket", "seeds": [0], "set": {"prompts.n": 192}}
REAL = {"recipe": "pocket"}
CPU = "cpu"


class Clock(RunListener):
    """When the run and its first stage began."""

    begin = first = 0.0

    def on_plan(self, total: int, cached: int, kinds: Mapping[str, int] = MappingProxyType({})) -> None:
        self.begin = time.monotonic()

    def on_start(self, label: str) -> None:
        self.first = self.first or time.monotonic()


def run(options: dict[str, Any], workers: int, folder: Path) -> tuple[float, float, list[tuple[Any, dict[str, Any]]]]:
    """Seconds of the run, those before its first stage, and each stage's cost with its marker."""
    settings = {**options.get("set", {}), "compute.workers": workers}
    work = distilbench.plan("table1", **{**options, "set": settings, "runs": folder})
    planned = [(plan.costs([stage])[0], stage) for plan, stage in pending([work])]
    clock = Clock()
    finished = distilbench.run(**{**options, "set": settings, "runs": folder, "listener": clock})
    if finished.outcome is None or finished.outcome.errors:
        raise SystemExit(f"the run failed: {finished.outcome}")
    markers = [(cost, work.store.meta(*stage.ref)) for cost, stage in planned]
    return finished.outcome.seconds, clock.first - clock.begin, markers


def fit(markers: Sequence[tuple[Any, dict[str, Any]]]) -> dict[Any, float]:
    """Seconds by what a stage does: ``(doing, weights)`` per token, ``stage``, ``worker``, ``call``, ``replicate``."""
    first = {}
    for _, meta in sorted(markers, key=lambda pair: pair[1]["started"]):
        first.setdefault(meta["pid"], meta["key"])
    rows, seconds = [], []
    for cost, meta in markers:
        row: dict[Any, float] = defaultdict(float)
        for work in cost.work:
            row[work.doing, work.parameters, work.flops] += work.tokens
        row["stage"] = float(bool(cost.work))
        row["worker"] = float(first[meta["pid"]] == meta["key"])
        if any(row.values()) and not cost.judge_calls and not cost.replicates:
            rows.append(row)
            seconds.append(meta["wall_seconds"])
    names = list(dict.fromkeys(name for row in rows for name in row))
    matrix = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    # Errors count by their share of a stage, down to half a second: long stages must not decide alone.
    weights = 1.0 / (np.array(seconds) + 0.5)
    values, _ = nnls(matrix * weights[:, None], np.array(seconds) * weights)
    # Stages of one piece of work each: what all of them took, by what all of them did.
    spent = [(cost.judge_calls, cost.replicates, meta["wall_seconds"]) for cost, meta in markers]
    per_call = sum(s for calls, _, s in spent if calls) / max(1, sum(calls for calls, _, _ in spent))
    per_replicate = sum(s for _, count, s in spent if count) / max(1, sum(count for _, count, _ in spent))
    return {**dict(zip(names, values.tolist(), strict=True)), "call": per_call, "replicate": per_replicate}


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    parts = [f"{'with' if flag in flags else 'without'} {flag}" for flag in ("avx512_bf16", "amx_bf16")]
    return f"{name} {', '.join(parts)}"


def measure(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        alone_seconds, spawn, alone = run(PILOT, 1, Path(folder, "1"))
        _, _, beside = run(PILOT, 2, Path(folder, "2"))
    values = fit(alone)
    slow = {meta["key"]: meta["wall_seconds"] for _, meta in beside}
    firsts = {min((m for _, m in group), key=lambda m: m["started"])["key"] for group in (alone, beside)}
    both = [(meta["wall_seconds"], slow[meta["key"]]) for _, meta in alone if meta["key"] not in firsts]
    source = f"studies/simulate.py, {datetime.now(UTC):%Y-%m}: {processor()}, one thread"
    rates = [
        {"doing": name[0], "parameters": name[1], "flops": name[2], "tokens_per_second": 1.0 / value, "source": source}
        for name, value in values.items()
        if isinstance(name, tuple) and value > 0
    ]
    spent = sum(meta["wall_seconds"] for _, meta in alone)
    startup = {name: values.get(name, 0.0) for name in ("stage", "call", "replicate")}
    # Outside of all stages: the start of the process, and what lies between two of them.
    startup |= {"worker": values.get("worker", 0.0) + spawn, "each": (alone_seconds - spawn - spent) / len(alone)}
    startup |= {"gib": 0.0, "source": source}
    together = min(1.0, sum(a for a, _ in both) / sum(b for _, b in both))
    table = {"devices": {CPU: {"rates": rates, "startup": startup, "together": together}}}
    out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


def check(rates: Path | None, real: bool, workers: Sequence[int]) -> None:
    options = REAL if real else SMALL
    for count in workers:
        with tempfile.TemporaryDirectory() as folder:
            work = distilbench.plan("table1", **{**options, "runs": Path(folder)})
            (simulation,) = simulate([work], f"workers={count}", rates=rates)
            seconds, _, markers = run(options, count, Path(folder))
        error = simulation.seconds / seconds - 1
        print(f"{count} worker(s): simulated {simulation.seconds:.1f} s, measured {seconds:.1f} s: {error:+.1%}")
        predicted: dict[str, float] = defaultdict(float)
        measured: dict[str, float] = defaultdict(float)
        for span in simulation.timeline.spans:
            predicted[span.job.kind] += span.seconds
        for _, meta in markers:
            measured[meta["kind"]] += meta["wall_seconds"]
        print("  " + ", ".join(f"{kind} {predicted[kind]:.1f}/{measured[kind]:.1f}" for kind in measured))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "check"))
    parser.add_argument("--out", type=Path, default=Path("rates.json"))
    parser.add_argument("--rates", type=Path, help="default: the shipped rates")
    parser.add_argument("--real", action="store_true", help="pocket's table 1 at its real size")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if options.what == "measure":
        measure(options.out)
    else:
        check(options.rates, options.real, options.workers)


if __name__ == "__main__":
    main()
