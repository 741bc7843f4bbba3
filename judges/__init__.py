"""The benchmarks, one file each, and how they reach a judge. ``BENCHMARKS`` is the table of contents."""

from __future__ import annotations

from harness.contracts.benchmark import AnyBenchmark
from harness.contracts.judge import JudgeKind
from judges.benchmarks import mt_bench
from judges.benchmarks.alpaca_eval import benchmark as alpaca_eval
from judges.benchmarks.arena_hard import benchmark as arena_hard
from judges.benchmarks.gsm8k import benchmark as gsm8k
from judges.benchmarks.own import choice, exact, lm_eval, pairwise, rating
from judges.kinds import pocket as pocket_judge
from judges.kinds import replay
from judges.kinds import transformers as transformers_judge
from judges.kinds.openai import judge as openai_judge

BENCHMARKS: dict[str, AnyBenchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        alpaca_eval.BENCHMARK,
        arena_hard.BENCHMARK,
        mt_bench.BENCHMARK,
        gsm8k.BENCHMARK,
        arena_hard.V2_BENCHMARK,
        arena_hard.V2_WRITING_BENCHMARK,
        mt_bench.PAIRWISE_BENCHMARK,
        gsm8k.JSON_BENCHMARK,
        pairwise.BENCHMARK,
        rating.BENCHMARK,
        exact.BENCHMARK,
        choice.BENCHMARK,
        lm_eval.BENCHMARK,
    )
}

PAPER = ("alpaca_eval", "arena_hard", "mt_bench", "gsm8k")
"""The paper's columns: what an evaluation runs when it names none. The others are further protocols of these."""

JUDGES: dict[str, JudgeKind] = {
    kind.name: kind for kind in (pocket_judge.JUDGE, openai_judge.JUDGE, transformers_judge.JUDGE, replay.JUDGE)
}
