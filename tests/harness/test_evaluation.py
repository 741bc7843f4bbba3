"""``eval``: models without training, another baseline, and what is said when something is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilbench.plugins import load_registry
from distilbench.workflows.answers import answers_of_row
from distilbench.workflows.evaluate import (
    EvaluationOptions,
    evaluation_recipe,
    plan_evaluation,
)
from distilbench.workflows.execute import execute
from distilbench.workflows.finished_run import load
from distilbench.workflows.specs import candidate, judge_entry, server_options
from harness.contracts.backend import Services
from harness.contracts.benchmark import ConfiguredBenchmark, against
from harness.contracts.model import GeneratesText, Sampling
from harness.contracts.options import RecipeError
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.models.backends import BACKENDS
from harness.models.server_model import ServerOptions
from harness.plan.plan import Candidate, Plan, make_evaluation, make_plan
from harness.recipe.recipe import load_recipe
from harness.records import write_records
from harness.stages.kind import StageContext
from harness.stages.kinds.answer import read_answers
from harness.stages.kinds.score import add_note
from harness.types import Answer, Question, Reply, Response, Score
from judges import BENCHMARKS
from judges.benchmarks.mt_bench import MTBenchPairwiseConfig
from tests.command import command, distilbench, environment
from tests.fakes.server import FakeServer, script

REGISTRY = load_registry()
SMALL = ("--set", "statistics.replicates=100", "--set", "compute.workers=1", "--min-coverage", "0")


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("judge@http://127.0.0.1:8000/v1", {"model": "judge", "base_url": "http://127.0.0.1:8000/v1"}),
        ("org/model@https://h/v1", {"model": "org/model", "base_url": "https://h/v1"}),
        ("gpt-4o@openai", {"model": "gpt-4o"}),
        ("qwen3-8b@q4_k_m@http://h:1234/v1", {"model": "qwen3-8b@q4_k_m", "base_url": "http://h:1234/v1"}),
        ("@cf/meta/llama-3.1-8b@https://h/v1", {"model": "@cf/meta/llama-3.1-8b", "base_url": "https://h/v1"}),
        ("gpt@h/d?api-version=1", None),
        ("gpt@https://h/d?api-version=1", {"model": "gpt", "base_url": "https://h/d?api-version=1"}),
        ("a@openai@openai", {"model": "a@openai"}),
        ("org/model@main", None),  # a revision on the hub
        ("pocket:student", None),
        ("./folder", None),
    ],
)
def test_servers_are_told_from_checkpoints(text: str, config: dict[str, str] | None) -> None:
    assert server_options(text) == config


def test_rows_are_named_after_models_and_differ() -> None:
    rows: list[str] = []
    for text in ("pocket:student", "org/student", "a/b/student/", "mine=org/x@rev", "student@http://h/v1"):
        rows.append(candidate(text, rows).row)
    assert rows == ["student", "org-student", "b-student", "mine", "student-2"]
    with pytest.raises(UserError, match="'mine' is given twice"):
        candidate("mine=org/y", rows)
    rows = ["m-8b"]
    for text in ("b/m:8b@http://h/v1", "b/m:8b@http://g/v1"):
        rows.append(candidate(text, rows).row)
    assert rows == ["m-8b", "b-m-8b", "m-8b-2"]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("qwen2.5:8b@http://h/v1", "qwen2.5-8b"),
        ("deepseek/deepseek-r1:free@http://h/v1", "deepseek-r1-free"),
        ("qwen3-8b@q4_k_m@http://h/v1", "qwen3-8b-q4_k_m"),
        ("@cf/meta/llama-3.1-8b@http://h/v1", "llama-3.1-8b"),
        ("hf.co/org/model:Q4_K_M@http://h/v1", "model-Q4_K_M"),
        ("{model: 'a:b', base_url: 'http://h/v1'}", "a-b"),
        ("ollama/llama3.1:70b-instruct-q4_0@http://h/v1", "llama3.1-70b-instruct-q4_0"),
        ("openai/gpt-4o:nitro@https://h/api/v1", "gpt-4o-nitro"),
        ("org/model@revision@http://h/v1", "model-revision"),
        ("us.anthropic.claude-v2:0@http://h/v1", "us.anthropic.claude-v2-0"),
        ("My Model 7B@http://h/v1", "My-Model-7B"),
        ("m @ HTTP://h/v1", "m"),
        ("模型=m@http://h/v1", "模型"),
        ("C:\\models\\x@http://h/v1", "C-models-x"),
    ],
)
def test_a_row_is_named_by_all_of_a_models_name(text: str, row: str) -> None:
    model = candidate(text)
    assert model.row == row and model.endpoint is not None
    assert str(model.endpoint.config["model"]) in text and "@http" not in str(model.endpoint.config["model"])


@pytest.mark.parametrize("text", ["m@localhost:8000", "org/m@127.0.0.1:8000/v1", "m@host/v1"])
def test_an_address_without_its_beginning_is_no_checkpoint(text: str) -> None:
    with pytest.raises(UserError, match="starts with http://"):
        candidate(text)


def test_a_served_model_takes_all_options_of_a_server() -> None:
    text = "mine={model: m, base_url: 'http://h/v1', price_in: 1, price_out: 2, leave_out: [temperature]}"
    model = candidate(text)
    assert model.row == "mine" and model.endpoint is not None and model.endpoint.kind == "openai"
    assert model.endpoint.config == {
        "model": "m", "base_url": "http://h/v1", "price_in": 1, "price_out": 2, "leave_out": ["temperature"]
    }  # fmt: skip
    for wrong in ("{base_url: 'http://h/v1'}", "{model: m", "{m}x"):
        with pytest.raises(UserError, match="--model"):
            candidate(wrong)


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("pocket", {"kind": "pocket"}),
        ("gpt-4o", {"kind": "openai", "model": "gpt-4o"}),
        ("judge@http://h/v1", {"kind": "openai", "model": "judge", "base_url": "http://h/v1"}),
        ("org/judge", {"kind": "transformers", "path": "org/judge"}),
        ("{kind: pocket, noise: 0.1}", {"kind": "pocket", "noise": 0.1}),
        ("{kind: pocket, noise: 1e-1, seed: 3}", {"kind": "pocket", "noise": 0.1, "seed": 3}),
        ("{kind: openai, model: 2024-05-13}", {"kind": "openai", "model": "2024-05-13"}),
    ],
)
def test_judges_from_a_few_words(text: str, entry: dict[str, object]) -> None:
    """Braces hold the YAML of recipes: 1e-1 is a number in them, a day a name."""
    assert judge_entry(text, REGISTRY) == entry


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{kind: pocket", "its value is not valid YAML (expected"),
        ("{kind: pocket}x", "its value is not valid YAML ("),
        ("{kind: pocket, kind: openai}", "the key 'kind' stands twice"),
        ("{kind: pocket, seed: !!int x}", "'x' is no int"),
        ("{kind: pocket, seed: " + "[" * 5000, "nested too deep, more than 30 levels"),
        ("{kind: &a [*a]}", "holds itself by an alias"),
    ],
)
def test_braces_that_are_no_entry_are_refused(text: str, part: str) -> None:
    with pytest.raises(UserError) as error:
        judge_entry(text, REGISTRY)
    assert str(error.value).startswith("--judge: ") and part in str(error.value) and text in str(error.value)


@pytest.mark.parametrize(
    ("judge", "options", "part"),
    [
        ("gpt-5-mini-2025-08", {}, "Did you mean 'gpt-5-mini-2025-08-07'"),
        (None, {}, "alpaca_eval, arena_hard, mt_bench"),
        ("pocket", {"benchmarks": ["gsm9k"]}, "Did you mean 'gsm8k'"),
        ("{kind: pocket, noize: 1}", {}, "Did you mean 'noise'"),
        ("pocket", {"set": ["benchmarks.gsm8k.fewshots=1"]}, "Did you mean 'fewshot'"),
    ],
)
def test_mistakes_are_named(judge: str | None, options: EvaluationOptions, part: str) -> None:
    with pytest.raises((UserError, RecipeError), match="(?s).*" + part.split("(", maxsplit=1)[0][:12]) as error:
        evaluation_recipe([Candidate("student", "pocket:student")], judge, options, REGISTRY)
    assert part in str(error.value)


def test_gsm8k_needs_no_judge_and_pocket_models_get_pocket_questions() -> None:
    student = [Candidate("student", "pocket:student")]
    recipe = evaluation_recipe(student, None, {"benchmarks": ["gsm8k"], "limit": 3}, REGISTRY)
    assert recipe.benchmarks["gsm8k"].config.questions == "pocket"
    assert recipe.benchmarks["gsm8k"].config.limit == 3
    server = [Candidate("m", endpoint=ServerOptions("openai", {"model": "m"}))]
    recipe = evaluation_recipe(server, None, {"benchmarks": ["gsm8k"]}, REGISTRY)
    assert recipe.benchmarks["gsm8k"].config.questions == "official"


def plan_of(baseline: str | None) -> Plan:
    rows = [Candidate("student", "pocket:student"), Candidate("teacher2", "pocket:teacher")]
    recipe = replace(evaluation_recipe(rows, "pocket", {"baseline": baseline, "limit": 4}, REGISTRY), baseline=baseline)
    return make_evaluation(recipe, REGISTRY, rows, ["student", "teacher2"])


def test_a_baseline_judges_again_and_answers_nothing_again() -> None:
    plain, own = plan_of(None), plan_of("student")
    keys = [{stage.key for stage in plan.stages if stage.kind == "answer"} for plan in (plain, own)]
    assert keys[0] == keys[1]
    judged = [[stage for stage in plan.stages if stage.kind == "judge"] for plan in (plain, own)]
    assert [len(each) for each in judged] == [8, 6]  # the baseline is not compared with itself in two benchmarks
    with_baseline = {stage.params["benchmark"] for stage in judged[1] if "baseline" in stage.inputs}
    assert with_baseline == {"alpaca_eval", "arena_hard"}  # MT-Bench grades single answers, GSM8K marks them
    assert {stage.params["config"]["order"] for stage in judged[1] if stage.params["benchmark"] == "alpaca_eval"} == {
        "both"
    }


def test_what_is_pairwise_shows_in_the_requests() -> None:
    compared = {"alpaca_eval", "arena_hard", "mt_bench_pairwise"}
    for name in (*compared, "mt_bench", "gsm8k", "gsm8k_json"):
        config = BENCHMARKS[name].config(limit=2)
        questions = BENCHMARKS[name].questions(config)
        answer = Answer(questions[0].id, *(((value,) * len(questions[0].turns)) for value in ("", True, 0)))
        asked = [
            BENCHMARKS[name].requests(replace(questions[0], baseline=(text, text)), answer, config) for text in "-+"
        ]
        assert (asked[0] != asked[1]) is BENCHMARKS[name].pairwise is (name in compared)


def test_a_baseline_without_answers_is_listed() -> None:
    questions = [Question(f"q{n}", ("?",), baseline=("official",)) for n in range(8)]
    answers = [Answer("q0", ("mine",), (True,), (1,))]
    with pytest.raises(UserError, match=r"'x' has no answer to 7 of 8 questions \(q1, q2, q3, q4, q5, \.\.\.\)"):
        against(questions, answers, "x")
    (changed,) = against(questions[:1], answers, "x")
    assert (changed.baseline, changed.meta["baseline"]) == (("mine",), "x")
    official = ConfiguredBenchmark(BENCHMARKS["alpaca_eval"], BENCHMARKS["alpaca_eval"].config(), questions)
    score = add_note(Score("alpaca_eval.wr", 50.0, None, None, 1, 0, note="from text"), "x", official)
    assert score.note == "not official: against the answers of x; from text"


def write(file: Path, rows: list[Answer]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_records(file, rows)
    return file


def test_answers_made_elsewhere_are_a_row_or_the_baseline(tmp_path: Path) -> None:
    config = BENCHMARKS["alpaca_eval"].config(limit=4)
    questions = BENCHMARKS["alpaca_eval"].questions(config)
    rows = [Answer(question.id, ("mine",), (True,), (1,)) for question in questions]
    write(tmp_path / "mine/alpaca_eval.jsonl", rows[::-1])
    write(tmp_path / "imported/answers.jsonl", rows)
    (tmp_path / "imported/import.json").write_text('{"benchmark": "alpaca_eval"}')
    mine, theirs = f"mine=answers:{tmp_path / 'mine'}", f"theirs=answers:{tmp_path / 'imported'}"
    work = plan_evaluation([mine], "pocket", baseline=theirs, questions="pocket", limit=4, runs=tmp_path / "runs")
    (entrant,) = work.first.entrants
    assert set(entrant.answers) == set(entrant.judgments) == {"alpaca_eval"}  # the other three: no answers given
    judge = entrant.judgments["alpaca_eval"]
    assert judge.params["baseline"] == "theirs" and "baseline" in judge.inputs
    assert read_answers(tmp_path / "mine/alpaca_eval.jsonl", questions) == rows  # in the order of the questions
    wrong = write(
        tmp_path / "wrong.jsonl", [rows[0], rows[0], replace(rows[1], turns=("a", "b")), replace(rows[2], question="x")]
    )
    with pytest.raises(UserError) as error:
        read_answers(wrong, questions)
    assert "2 questions without an answer" in str(error.value)
    assert "1 question answered twice" in str(error.value)
    assert "1 question of another number of turns" in str(error.value)
    assert "(1 answer to other questions)" in str(error.value)
    (tmp_path / "imported/import.json").write_text("{}")
    with pytest.raises(UserError, match="is no folder that `distilbench import` wrote"):
        candidate(theirs)
    with pytest.raises(UserError, match="need a name"):
        candidate(f"answers:{tmp_path / 'mine'}")


def say(request: object) -> Reply:
    return Reply(f"It is {len(request.messages[-1]['content'])}.", "stop", "fake", 20, 5)  # type: ignore[attr-defined]


def endpoint(server: FakeServer, path: Path, **options: object) -> GeneratesText:
    there = ServerOptions("openai", {"model": "fake", "base_url": server.base_url})
    stage = Stage("answer", {}, local={"ask": {"retries": 0, **options}})
    work = StageContext(REGISTRY, None, path, path, lambda done, total, what: None)  # type: ignore[arg-type]
    return BACKENDS["openai"].load(None, there, Services(ask=work.asking(stage)))


TALKS = [[{"role": "user", "content": "x" * n}] for n in range(1, 6)]


def test_answers_of_a_server_are_kept_and_keyed_by_the_seed(tmp_path: Path) -> None:
    with FakeServer(say) as server:
        model = endpoint(server, tmp_path / "l.sqlite")
        first = model.generate(TALKS, Sampling(9, 0.7, 0.9), seed=3)
        assert [row[0].text for row in first] == [f"It is {n}." for n in range(1, 6)]
        assert model.generate(TALKS, Sampling(9, 0.7, 0.9), seed=3) == first
        assert server.calls.total() == 5
        model.generate(TALKS, Sampling(9, 0.7, 0.9), seed=4)
        assert server.calls.total() == 10
        two = model.generate(TALKS[:1], Sampling(9, 0.7, 0.9), seed=7, n=2)
        assert len(two[0]) == 2 and server.calls.total() == 12
        assert {request.max_tokens for request in server.requests} == {9}


def test_missing_answers_stop_the_stage_and_refusals_are_empty_answers(tmp_path: Path) -> None:
    with FakeServer(say, script(["server-500"])) as server:
        with pytest.raises(UserError, match=r"1 of 5 answers of fake failed .1 server.: the first: "):
            endpoint(server, tmp_path / "l.sqlite", concurrency=1, max_concurrency=1).generate(TALKS, Sampling(9), 0)
        assert len(endpoint(server, tmp_path / "l.sqlite").generate(TALKS, Sampling(9), 0)) == 5
        assert server.calls.total() == 6
    with FakeServer(say, script(["content-filter"])) as server:
        model = endpoint(server, tmp_path / "m.sqlite", concurrency=1, max_concurrency=1)
        answers = model.generate(TALKS, Sampling(9), 0)
        assert (answers[0][0].text, answers[1][0].text) == ("", "It is 2.")


def test_a_question_that_a_server_has_no_room_for_is_left_out(tmp_path: Path) -> None:
    """It has no answer; where that holds for every question, a setting is wrong and the stage stops."""
    with FakeServer(say, script(["context"])) as server:
        model = endpoint(server, tmp_path / "l.sqlite", concurrency=1, max_concurrency=1)
        (first,), (second,), *_ = model.generate(TALKS, Sampling(9), 0)
        assert first == Response("", finished=False, tokens=0) and second.text == "It is 2."
        assert Answer("q", (first.text,), (first.finished,), (first.tokens,)).has_no_room
    with FakeServer(say, script(["context"] * 5)) as server, pytest.raises(UserError, match=r"5 of 5 .*5 context"):
        endpoint(server, tmp_path / "m.sqlite").generate(TALKS, Sampling(9), 0)


def respond(request: object) -> Reply:
    """Answers, and judges in every format."""
    text = request.messages[-1]["content"]  # type: ignore[attr-defined]
    if request.top_logprobs:  # type: ignore[attr-defined]
        return Reply("m", "stop", "fake", 100, 1, {"m": -0.2, "M": -1.7})
    return Reply(f"[[A>B]] [[{len(text) % 10 + 1}]] 42", "stop", "fake", 100, 10)


def evaluate(server: FakeServer, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return distilbench(*words(server), *more, cwd=folder)


def words(server: FakeServer) -> list[str]:
    """Two benchmarks, six questions each: 6 + 12 answers, 6 + 12 judgments. Nothing loads a model."""
    place = f"fake@{server.base_url}"
    asked = ["--model", f"mine={place}", "--judge", place, "--questions", "pocket", "--limit", "6"]
    return ["eval", *asked, "--benchmarks", "alpaca_eval,mt_bench", *SMALL]


def test_run_again_or_killed_in_the_middle_it_gives_the_same_table_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    with FakeServer(respond) as server:
        whole = evaluate(server, tmp_path / "whole")
        assert whole.returncode == 0, whole.stderr
        assert "mine" in whole.stdout and "chars (baseline" in whole.stdout
        calls = server.calls.copy()
        assert calls.total() <= 36
        again = evaluate(server, tmp_path / "whole")
        assert (again.returncode, again.stdout, server.calls) == (0, whole.stdout, calls)
        status = distilbench("judge", "status", cwd=tmp_path / "whole")
        assert status.returncode == 0, status.stderr
        assert "of unknown price" in status.stdout and "(100%)" in status.stdout
        assert "6 of 6 with a verdict" in status.stdout
        found = json.loads((tmp_path / "whole/runs/eval-mine/eval/run.json").read_text())
        assert not {"methods", "train", "family", "prompts"} & found["recipe"].keys()

        server.calls.clear()
        server.answered.clear()
        server.latency = 0.1
        (tmp_path / "killed").mkdir()
        slow = command(*words(server), "--set", "ask.concurrency=1", "--set", "ask.max_concurrency=1")
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment()}
        process = subprocess.Popen(slow, cwd=tmp_path / "killed", start_new_session=True, **quiet)
        deadline = time.monotonic() + 120
        while server.answered.total() < 9 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        assert 9 <= server.answered.total() < calls.total()
        server.latency = 0.0
        assert evaluate(server, tmp_path / "killed").stdout == whole.stdout
        assert sum(count - 1 for count in server.answered.values()) <= 1  # the call that was under way when it died


@pytest.mark.parametrize(
    ("model", "judge", "changes", "part"),
    [
        ("m@http://127.0.0.1:9/v1", "pocket", [], "cannot be reached"),
        ("pocket:student", "j@http://127.0.0.1:9/v1", [], "cannot be reached"),
        ("pocket:student", "GOOD", ["ask.max_cost=1"], "price of judge 'main' is not known"),
        ("fake@URL", "pocket", ["ask.max_cost=1"], "price of model 'fake' is not known"),
        ("pocket:student", "GOOD", ["ask.max_calls=3"], "4 judge calls are to be made, ask.max_calls allows 3"),
        ("pocket:student", "{kind: openai, model: other, base_url: URL}", [], "does not serve this model"),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(
    model: str, judge: str, changes: list[str], part: str, tmp_path: Path
) -> None:
    with FakeServer(respond, lambda content, visit: "no-model") as server:
        judge = judge.replace("GOOD", f"fake@{server.base_url}").replace("URL", server.base_url)
        options: EvaluationOptions = {"questions": "pocket", "limit": 4, "set": changes, "runs": tmp_path / "runs"}
        work = plan_evaluation([model.replace("URL", server.base_url)], judge, benchmarks=["alpaca_eval"], **options)
        with pytest.raises(UserError, match=re.escape(part)):
            execute(work)
        assert len(server.requests) <= 1  # the probe's one token
    assert not (tmp_path / "runs").exists()


def test_a_row_of_a_recipe_as_the_baseline_of_all_seeds() -> None:
    """The teacher under two seeds against the student's answers of the first seed; the student is not judged there."""
    small = [
        "seeds=[4,5]",
        *(f"benchmarks.{name}.limit=3" for name in ("alpaca_eval", "arena_hard", "mt_bench", "gsm8k")),
    ]
    plan = make_plan(load_recipe("pocket", ["baseline=student", *small], REGISTRY), REGISTRY, ["teacher", "student"])
    judged = [stage for stage in plan.stages if stage.kind == "judge" and stage.params["benchmark"] == "arena_hard"]
    assert [stage.label for stage in judged] == ["judge arena_hard teacher seed 4", "judge arena_hard teacher seed 5"]
    (baseline,) = {stage.inputs["baseline"] for stage in judged}
    labels = {stage.ref: stage.label for stage in plan.stages}
    assert labels[baseline] == "answer arena_hard student seed 4"
    (score,) = [stage for stage in plan.stages if stage.label == "score arena_hard"]
    assert score.inputs["baseline"] == baseline and score.params["entrants"] == ["teacher/4", "teacher/5"]
    with pytest.raises(UserError, match=r"unknown baseline 'studnet'.*Did you mean 'student'"):
        make_plan(load_recipe("pocket", ["baseline=studnet"], REGISTRY), REGISTRY, ["teacher"])


@pytest.mark.slow
def test_imported_answers_head_to_head_and_out_again(tmp_path: Path) -> None:
    """Two imports, one the baseline of the other: what is exported names that baseline and holds its answers."""
    config = MTBenchPairwiseConfig(limit=3)
    questions = BENCHMARKS["mt_bench_pairwise"].questions(config)
    for name in ("mine", "theirs"):
        rows = [Answer(each.id, (f"{name} 1", f"{name} 2"), (), ()) for each in questions]
        file = write(tmp_path / f"{name}.jsonl", rows)
        inside = ("-b", "mt_bench_pairwise", "--set", "questions=pocket", "--set", "limit=3")
        assert distilbench("import", str(file), *inside, "--out", name, cwd=tmp_path).returncode == 0
    done = distilbench(
        "eval", "--model", "mine=answers:mine", "--baseline", "theirs=answers:theirs",
        "--benchmarks", "mt_bench_pairwise", "--questions", "pocket", "--limit", "3", "--judge", "pocket",
        "--name", "both", *SMALL, cwd=tmp_path,
    )  # fmt: skip
    printed = " ".join(done.stdout.split())  # lines are wrapped
    assert "not official: against the answers of theirs" in printed
    assert "3 of MT-Bench (pairwise); 0 unscored" in printed, printed
    found = answers_of_row(load(tmp_path / "runs/both"), "mine")
    assert found.baseline == "theirs" and [answer.turns[0] for answer in found.baseline_answers] == ["theirs 1"] * 3
