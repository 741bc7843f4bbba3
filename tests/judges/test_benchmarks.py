"""One suite over every benchmark: the contract holds, everything but loading is pure, and importing is light."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.contracts.benchmark import AnyBenchmark
from harness.errors import UserError
from harness.types import Reply, Request
from judges import BENCHMARKS, PAPER

SIZES = {
    "alpaca_eval": (200, 100),
    "arena_hard": (120, 60),
    "mt_bench": (48, 24),
    "gsm8k": (150, 75),
    "mt_bench_pairwise": (48, 24),
    "gsm8k_json": (150, 75),
}
NAMES = list(SIZES)
REPLIES = st.text("[]<>=AB0123456789. ²\n{}", max_size=30)


OWN = ("pairwise", "rating", "exact", "choice", "lm_eval")
"""Benchmarks without code need a file of questions: ``test_own_benchmarks.py``."""


def test_the_table_of_contents_is_whole() -> None:
    assert tuple(BENCHMARKS)[:4] == PAPER  # the paper's four come first
    assert set(BENCHMARKS) == {"arena_hard_v2", "arena_hard_v2_writing", *OWN, *NAMES}
    assert all(name == benchmark.name for name, benchmark in BENCHMARKS.items())


def test_importing_the_benchmarks_is_light() -> None:
    heavy = ("torch", "scipy", "sklearn", "lm_eval", "openai", "datasets")
    code = f"import sys, judges; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if BENCHMARKS[name].needs_judge and name not in OWN])
@given(text=REPLIES | REPLIES.map("[[{}]]".format), model_first=st.booleans())
def test_any_reply_is_read_without_raising(name: str, text: str, model_first: bool) -> None:
    benchmark = BENCHMARKS[name]
    request = Request("q", "part", (), 1, 0.0, meta={"model_first": model_first})
    verdict = benchmark.parse(request, Reply(text, "stop", "judge", 1, 1), benchmark.config())
    low, high = benchmark.verdicts
    assert verdict.reason if verdict.value is None else low <= verdict.value <= high


@pytest.fixture(params=NAMES)
def benchmark_(request: pytest.FixtureRequest) -> AnyBenchmark:
    return BENCHMARKS[request.param]


def test_pocket_questions_are_always_the_same(benchmark_: AnyBenchmark) -> None:
    test, dev = SIZES[benchmark_.name]
    questions = benchmark_.questions(benchmark_.config())
    assert len(questions) == test and questions == benchmark_.questions(benchmark_.config())
    development = benchmark_.questions(benchmark_.config(split="dev"))
    assert len(development) == dev and not {q.turns for q in questions} & {q.turns for q in development}
    assert len(benchmark_.questions(benchmark_.config(limit=7))) == 7


def test_options_are_sorted_by_what_they_decide_and_stand_on_the_card(benchmark_: AnyBenchmark) -> None:
    fields = [field.name for field in dataclasses.fields(benchmark_.config)]
    card = benchmark_.card(benchmark_.config(limit=3))
    assert card.benchmark == benchmark_.name and "At most 3 questions." in card.deviations
    assert set(fields) <= set(card.parameters)
    assert (len(card.prompt_hash) == 12) == (benchmark_.needs_judge or benchmark_.name == "gsm8k_json")
    assert bool(card.official_judge) == benchmark_.needs_judge
    json.dumps(dataclasses.asdict(card), allow_nan=False)


def test_missing_official_files_say_what_to_do(benchmark_: AnyBenchmark, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISTILBENCH_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    more = {"baseline": "answers.jsonl"} if benchmark_.name == "mt_bench_pairwise" else {}
    config = benchmark_.config(questions="official", **more)
    with pytest.raises(UserError, match="distilbench assets pull") as caught:
        benchmark_.questions(config)
    assert "https://raw.githubusercontent.com/" in str(caught.value) and str(tmp_path) in str(caught.value)
