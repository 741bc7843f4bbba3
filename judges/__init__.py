"""The benchmarks, one file each, and how they reach a judge. ``BENCHMARKS`` is the table of contents."""

from __future__ import annotations

from harness.benchmark import Benchmark
from harness.registry import JudgeKind
from judges import (
    alpaca_eval,
    arena_hard,
    arena_hard_v2,
    gsm8k,
    gsm8k_json,
    mt_bench,
    mt_bench_pairwise,
    openai_judge,
    pocket_judge,
    replay,
    transformers_judge,
)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        alpaca_eval.BENCHMARK,
        arena_hard.BENCHMARK,
        mt_bench.BENCHMARK,
        gsm8k.BENCHMARK,
        arena_hard_v2.BENCHMARK,
        arena_hard_v2.WRITING_BENCHMARK,
        mt_bench_pairwise.BENCHMARK,
        gsm8k_json.BENCHMARK,
    )
}

PAPER = ("alpaca_eval", "arena_hard", "mt_bench", "gsm8k")
"""The paper's columns: what an evaluation runs when it names none. The others are further protocols of these."""

JUDGES: dict[str, JudgeKind] = {
    kind.name: kind for kind in (pocket_judge.JUDGE, openai_judge.JUDGE, transformers_judge.JUDGE, replay.JUDGE)
}
"""The ways to reach a judge. ``judges.client.ask`` is how all of them are asked."""
