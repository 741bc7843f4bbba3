"""Tasks of lm-eval as columns, offline from a local YAML file; judge prompts of one's own in shipped benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.benchmark import ConfiguredBenchmark, Entrant
from harness.errors import UserError
from harness.models.fake import FakeModel
from harness.types import Answer, Question
from judges import BENCHMARKS
from judges.benchmarks.lm_eval_model import stops_of

TASK = """
task: colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 2.0}}
"""


def task(folder: Path, **values: Any) -> ConfiguredBenchmark:
    rows = [{"question": f"which is {n}?", "choices": ["ba be", "bi"], "label": n % 2} for n in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "colours.yaml").write_text(TASK.format(folder=folder), encoding="utf-8")
    entry = BENCHMARKS["lm_eval"]
    config = entry.config(task=str(folder / "colours.yaml"), **values)
    return ConfiguredBenchmark.load(entry.named("mine", config), config)


@pytest.mark.parametrize("limit", [None, 3])
def test_log_probabilities_mark_a_local_task(limit: int | None, tmp_path: Path) -> None:
    """The continuation with the highest sum of log-probabilities is the answer; its mark is lm-eval's ``acc``."""
    mine, model = task(tmp_path, limit=limit), FakeModel()
    assert mine.benchmark.needs(mine.config) == {"tokens", "token_logps"} and len(mine.questions) == (limit or 6)
    answers = mine.benchmark.answer(model, mine.questions, mine.config, 0)
    judgments = []
    for question, answer in zip(mine.questions, answers, strict=True):
        first, second = answer.meta["logps"]
        best = 0 if first >= second else 1
        assert answer.turns == (["ba be", "bi"][best],)
        (judgment,) = mine.benchmark.grade(question, answer, mine.config)
        assert judgment.verdict == float(str(best) == question.reference[0])
        judgments.append(judgment)
    score = mine.score({"row": Entrant(answers, judgments)}, 0, 100)["row"][0]
    assert score.metric == "mine.score" and score.note.startswith("acc, 0-shot; colours 2.0, lm-eval ")
    elsewhere = mine.benchmark.grade(mine.questions[0], Answer(mine.questions[0].id, ("bi",), (), ()), mine.config)
    assert elsewhere[0].verdict is None and "made elsewhere" in str(elsewhere[0].reason)


def test_what_a_task_does_not_have_is_told_before_anything_runs(tmp_path: Path) -> None:
    for values, part in (
        ({"metric": "accc"}, "Did you mean 'acc'"), ({"filter": "x"}, "no filter 'x'"),
        ({"chat": True}, "leave chat out"), ({"temperature": 1.0}, "writes no answers"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=part):
            task(tmp_path, **values)
    entry = BENCHMARKS["lm_eval"]
    with pytest.raises(UserError, match="is not a file"):
        entry.questions(entry.config(task=str(tmp_path / "no.yaml")))
    (tmp_path / "rows.jsonl").unlink()
    (tmp_path / "gone.yaml").write_text(TASK.format(folder=tmp_path), encoding="utf-8")
    with pytest.raises(UserError, match="could not be loaded"):
        entry.questions(entry.config(task=str(tmp_path / "gone.yaml")))


def test_a_stop_string_may_be_one_text_and_a_lower_is_better_metric_is_not_offered(tmp_path: Path) -> None:
    assert stops_of({"until": "\n\n"}) == ("\n\n",) and stops_of({"until": ["a", "b"]}) == ("a", "b")
    assert stops_of({"until": None}) == stops_of({}) == ()
    usual = "acc_norm, aggregation: mean, higher_is_better: "
    worse = TASK.replace(usual + "true", usual + "false")
    task(tmp_path)
    (tmp_path / "worse.yaml").write_text(worse.format(folder=tmp_path), encoding="utf-8")
    entry = BENCHMARKS["lm_eval"]
    with pytest.raises(UserError, match="no metric 'acc_norm' that is a mean of one number per"):
        entry.questions(entry.config(task=str(tmp_path / "worse.yaml"), metric="acc_norm"))


def test_a_prompt_that_shows_references_needs_them_in_a_shipped_benchmark_too(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"prompt": "a?", "golden": "b"}\n', encoding="utf-8")
    entry = BENCHMARKS["alpaca_eval"]
    own = {"questions": "own", "path": str(tmp_path / "own.jsonl")}
    with pytest.raises(UserError, match=r"alpaca_eval.judge_prompt shows \{reference\}, and 1 question of 1 have none"):
        entry.questions(entry.config(judge_prompt="{answer_a} {answer_b} {reference}", **own))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alpaca_eval", "{question}|{answer_a}|{answer_b}"), ("arena_hard", "{question}|{answer_a}|{answer_b}"),
        ("mt_bench", "{conversation}|{answer}"),
        ("mt_bench_pairwise", "{conversation_a}{conversation_b}|{answer_a}|{answer_b}"),
    ],
)  # fmt: skip
def test_a_judge_prompt_of_ones_own_is_asked_and_is_not_official(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(text, encoding="utf-8")
    entry = BENCHMARKS[name]
    usual, config = entry.config(), entry.config(judge_prompt=str(tmp_path / "mine.txt"))
    question = Question("q", ("what?",), baseline=("{question} base",))
    requests = entry.requests(question, Answer("q", ("{answer_b} model",), (True,), (1,)), config)
    assert requests and all("{answer_b} model" in request.messages[-1]["content"] for request in requests)
    assert all(request.messages[-1]["content"].count("|") == text.count("|") for request in requests)
    card, official = entry.card(config), entry.card(usual)
    assert card.prompt_hash != official.prompt_hash and "Judge prompt of one's own: not official." in card.deviations
    assert entry.caveat(config) and not entry.caveat(usual)
    changed, same = ConfiguredBenchmark(entry, config, []), ConfiguredBenchmark(entry, usual, [])
    assert changed.judge_options != same.judge_options and changed.answer_options == same.answer_options
    with pytest.raises(UserError, match="it lacks"):
        entry.questions(entry.config(judge_prompt="only {question}"))
