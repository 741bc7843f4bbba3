"""Which options of a benchmark make answers, verdicts and scores again: a number must never be one of other options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.benchmark import ConfiguredBenchmark
from harness.contracts.options import field_tree, read_options
from harness.types import Answer, Question
from judges import BENCHMARKS

JUDGED = {"prompt", "judge_system", "parse", "pattern", "key", "turns", "repeats", "judge_max_tokens",
          "judge_temperature"}  # fmt: skip
ARENA = {"judge_prompt", "judge_max_tokens", "judge_temperature", "ask_again", "repeats"}
BENCH = {"references", "judge_max_tokens", "judge_temperature", "repeats", "judge_prompt"}
SOURCE = {"questions", "limit", "fields", "hub_config", "hub_split", "hub_revision", "title"}
OFFICIAL = {"questions", "split", "limit", "max_new_tokens", "temperature", "top_p"}
OWN = {"system", "max_new_tokens", "temperature", "top_p"}
SHOWN = {"scorer", "style_control", "count_tokens", "baseline"}
OPTIONS: dict[str, tuple[set[str], set[str], set[str]]] = {
    # decide the answers; the verdicts alone; neither
    "alpaca_eval": (OFFICIAL, {"judge_prompt", "order", "judge_temperature", "repeats"},
                    {"path", "difficulty_by", "baseline"}),
    "arena_hard": (OFFICIAL, ARENA, SHOWN),
    "arena_hard_v2": (OFFICIAL, ARENA, SHOWN),
    "arena_hard_v2_writing": (OFFICIAL, ARENA, SHOWN),
    "mt_bench": (OFFICIAL, BENCH, set()),
    "mt_bench_pairwise": (OFFICIAL, BENCH, {"baseline"}),
    "gsm8k": (OFFICIAL | {"fewshot", "protocol", "prompt_form", "source"}, set(), {"filter"}),
    "gsm8k_json": (OFFICIAL | {"fewshot", "protocol", "prompt_form", "source"}, set(), {"filter"}),
    "pairwise": (OWN, JUDGED | {"labels"}, SOURCE | {"baseline", "metric"}),
    "rating": (OWN, JUDGED | {"scale"}, SOURCE | {"metric", "threshold"}),
    "exact": (OWN, {"parse", "pattern", "key", "normalise", "metric"}, SOURCE),
    "choice": (OWN | {"by", "order", "choice_seed", "instruction"}, set(), SOURCE | {"reference_is"}),
    "lm_eval": ({"task", "fewshot", "chat", "limit", "max_new_tokens", "temperature"}, {"metric", "filter"}, {"title"}),
}  # fmt: skip


def test_every_option_decides_what_is_written_here() -> None:
    """Who adds an option says here what it decides; one that is in no list of its benchmark decides the answers."""
    assert set(OPTIONS) == set(BENCHMARKS) and len(OPTIONS) == 13
    for name, (asked, judged, scored) in OPTIONS.items():
        benchmark = BENCHMARKS[name]
        assert (set(benchmark.judge_fields), set(benchmark.score_fields)) == (judged, scored), name
        assert set(field_tree(benchmark.config)) - judged - scored == asked, name


def exact(file: Path, **options: Any) -> ConfiguredBenchmark[Any]:
    benchmark = BENCHMARKS["exact"]
    config, problems = read_options(benchmark.config, {"questions": str(file), **options}, ())
    assert not problems
    column = benchmark.named("facts", config)
    return ConfiguredBenchmark.load(column, config)


@pytest.mark.parametrize(
    ("options", "marks"),
    [
        # "The capital is Paris." against "paris": the texts differ; it holds the word; F1 = 2 * 1 / (4 + 1) words
        ({}, (0.0, 0.0)),
        ({"metric": "contains"}, (1.0, 1.0)),
        ({"metric": "f1"}, (0.4, 0.5)),
        ({"parse": "regex", "pattern": r"(\w+)\.?$"}, (1.0, 1.0)),
        ({"parse": "regex", "pattern": r"(\w+)\.?$", "normalise": []}, (0.0, 1.0)),
    ],
)
def test_a_changed_rule_marks_stored_answers_again(
    options: dict[str, Any], marks: tuple[float, float], tmp_path: Path
) -> None:
    """The second answer, "It is paris", has 3 words: F1 = 2 * 1 / (3 + 1)."""
    file = tmp_path / "facts.jsonl"
    file.write_text(json.dumps({"question": "The capital of France?", "reference": "paris"}) + "\n", encoding="utf-8")
    plain, changed = exact(file), exact(file, **options)
    assert plain.answer_options == changed.answer_options
    assert (plain.judge_options == changed.judge_options) == (not options)
    question = Question("line-1", ("The capital of France?",), reference=("paris",))
    texts = ("The capital is Paris.", "It is paris")
    graded = [
        changed.benchmark.grade(question, Answer("line-1", (text,), (True,), (9,)), changed.config)[0].verdict
        for text in texts
    ]
    assert graded == list(marks)


def test_other_answers_and_other_titles(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text(json.dumps({"question": "2 + 2?", "reference": "4"}) + "\n", encoding="utf-8")
    plain = exact(file)
    assert plain.answer_options != exact(file, max_new_tokens=7).answer_options
    titled = exact(file, title="Facts")
    assert (plain.answer_options, plain.judge_options) == (titled.answer_options, titled.judge_options)


def test_a_file_that_moves_is_not_answered_again(tmp_path: Path) -> None:
    rows = json.dumps({"question": "2 + 2?", "reference": "4"}) + "\n"
    for name in ("facts.jsonl", "moved.jsonl"):
        (tmp_path / name).write_text(rows, encoding="utf-8")
    first, moved = (exact(tmp_path / name) for name in ("facts.jsonl", "moved.jsonl"))
    keys = [(one.answer_options, one.judge_options, one.asked_hash, one.judged_hash) for one in (first, moved)]
    assert keys[0] == keys[1]


def test_other_worked_examples_are_other_answers(tmp_path: Path) -> None:
    """The same two problems; the folder ``other`` shows another example, ``moved`` the same one."""
    test = [{"question": f"{n} + {n}?", "answer": f"#### {2 * n}"} for n in (1, 2)]
    for folder, number in (("first", 5), ("moved", 5), ("other", 6)):
        train = [{"question": f"{number} apples?", "answer": f"#### {number}"}]
        (tmp_path / folder).mkdir()
        for split, rows in (("test", test), ("train", train)):
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")

    def keys(folder: str, shots: int) -> tuple[object, str]:
        values = {"questions": "official", "source": str(tmp_path / folder), "fewshot": shots}
        config, problems = read_options(BENCHMARKS["gsm8k"].config, values, ())
        assert not problems
        column = ConfiguredBenchmark.load(BENCHMARKS["gsm8k"], config)
        return column.answer_options, column.asked_hash

    assert keys("first", 1) == keys("moved", 1) != keys("other", 1)
    assert keys("first", 0) == keys("other", 0)  # none is shown
