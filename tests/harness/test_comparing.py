"""``compare-judges``: a run's answers judged again through the normal stages, and what is said of mistakes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli.comparing import compare_judges, table5
from harness.cli.judge_options import judge_entries, judge_of, split
from harness.cli.wiring import load_registry
from harness.errors import UserError
from harness.pocket.world import graded_answer
from harness.records import read_records, write_records
from harness.types import Answer
from judges.alpaca_eval import BENCHMARK, AlpacaEvalConfig
from results.run import Family, Run
from results.store import ArtifactStore
from tests.command import distilbench, environment

REGISTRY = load_registry()
RUN = Run("r", {"judges": {"main": {"kind": "pocket"}}}, "", True, Family("f", "t", "s"), (), (), (), ())
LIMIT = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished evaluation of two sets of given answers: no model is loaded."""
    folder = tmp_path_factory.mktemp("compare")
    questions = BENCHMARK.questions(AlpacaEvalConfig(limit=LIMIT))
    for name, quality in (("weak", 0.3), ("strong", 0.9)):
        rng = random.Random(name)
        texts = [graded_answer([{"role": "user", "content": each.turns[0]}], quality, rng) for each in questions]
        (folder / name).mkdir()
        answers = [Answer(each.id, (text,), (), ()) for each, text in zip(questions, texts, strict=True)]
        write_records(folder / name / "alpaca_eval.jsonl", answers)
    models = [word for name in ("weak", "strong") for word in ("--model", f"{name}=answers:{folder / name}")]
    done = distilbench(
        "eval", *models, "--judge", "pocket", "--benchmarks", "alpaca_eval", "--questions", "pocket", "--limit",
        str(LIMIT), "--name", "given", "--min-coverage", "0", "--set", "statistics.replicates=100",
        "--set", "compute.workers=1", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_is_judged_again_and_nothing_is_asked_twice(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two models, 10 questions, both orders, 2 repeats: 80 calls a judge, fewer where an answer is the baseline's own
    (then both orders are one request). The run asked main 20 of them (one order, one repeat). A second time, 0."""
    questions = BENCHMARK.questions(AlpacaEvalConfig(limit=LIMIT))
    given = [read_records(place / name / "alpaca_eval.jsonl", Answer) for name in ("weak", "strong")]
    same = sum(a.turns == q.baseline for answers in given for a, q in zip(answers, questions, strict=True))
    calls = 2 * LIMIT * 4 - 2 * same
    options: dict[str, Any] = {"run": "given", "runs": place / "runs", "replicates": 100}
    options["judges"] = "main,biased={kind: pocket, position_bias: 2.0}"
    compare_judges(**options, plan_only=True)
    planned = capsys.readouterr().err
    assert f"main: {calls - 20} calls to make ($0.00), 20 more are in the ledger" in planned
    assert f"biased: {calls} calls to make ($0.00), 0 more are in the ledger" in planned
    assert not (place / "runs/given/eval/judges").exists()
    compare_judges(**options, simulate_humans=3)
    assert "Judges compared: run given" in capsys.readouterr().out
    said = json.loads((place / "runs/given/eval/judges/judges.json").read_text())
    (part,) = said["benchmarks"]
    (pair,) = part["agreements"]
    assert (pair["a"], pair["b"], pair["n"]) == ("main", "biased", 2 * LIMIT)
    position = next(effect for effect in part["effects"]["biased"] if effect["name"] == "position")
    assert position["interval"][0] <= 2.0 <= position["interval"][1]
    length = next(effect for effect in part["effects"]["biased"] if effect["name"] == "length")
    assert (length["per"], said["judges"]["biased"]["length_words"]) == ("tanh(words / 10)", 10.0)  # as it is stated
    assert part["reliability"]["main"]["calls"] == 80
    assert set(said["metrics"][0]["rankings"]["main"]["values"]) == {"weak", "strong"}
    assert said["judges"]["main"]["seconds"] is None  # part of it was in the ledger
    assert said["judges"]["biased"]["seconds"] > 0
    assert "humans" in said["humans"]
    assert (place / "runs/given/eval/judges/table5.csv").is_file()
    compare_judges(**options, plan_only=True)
    again = capsys.readouterr().err
    assert "main: 0 calls to make ($0.00), 0 more are in the ledger" in again
    assert "biased: 0 calls to make" in again


def test_table5_on_pocket_needs_no_people(place: Path) -> None:
    """Judges of rising noise, simulated people: every judge is measured, the noisiest agrees least."""
    found = table5(place / "runs/given/eval", ArtifactStore(place / "runs/store"))
    assert set(found.humans) == {"humans", "noise-0.5", "noise-2", "noise-4", "noise-8"}
    assert found.humans["noise-8"].value < found.humans["noise-0.5"].value
    assert any("simulated from the truth" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judges": "nobody"}, "unknown judge 'nobody'"),
        ({"benchmarks": "mt_bench"}, "no judged benchmark mt_bench"),
        ({"own": ["main"]}, "must be JUDGE=ROW,ROW"),
        ({"judges": "main", "own": ["x=weak"]}, "no judge of this name"),
        ({"run": "none"}, "no such run under"),
        ({"judges": "main", "humans": Path("x.json"), "simulate_humans": 4}, "give one of them"),
        ({"judges": "priced=gpt-4.1-2025-04-14", "max_cost": 0.0}, r"is estimated at \$.*--max-cost allows \$0"),
    ],
)
def test_mistakes_are_one_message(place: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compare_judges(**{"run": "given", "runs": place / "runs", "replicates": 100, **options})


def test_annotations_are_compared_without_torch(tmp_path: Path) -> None:
    rows = [
        {"index": n, "model": m, "baseline": "b", "annotator": j, "preference": 1 + (n + len(m + j)) % 2}
        for n in range(20) for m in ("one", "other") for j in ("x", "yy")
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(rows))
    code = (
        "import sys; from harness.cli import main\n"
        "sys.argv = ['distilbench', 'compare-judges', '--annotations', 'a.json', '--replicates', '100']\n"
        "try: main()\nexcept SystemExit as left: assert not left.code, left.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "annotations: agreement" in done.stdout
    assert (tmp_path / "runs/judges-a/judges.tex").is_file()


def test_judges_are_split_at_commas_outside_of_braces() -> None:
    assert split("a, b={kind: pocket, noise: 1},c,a") == ["a", "b={kind: pocket, noise: 1}", "c"]
    assert split("") == []


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("main", {"kind": "pocket"}),
        ("openai:gpt-4o", {"kind": "openai", "model": "gpt-4o"}),
        ("transformers:org/judge", {"kind": "transformers", "path": "org/judge"}),
        ("pocket:teacher", {"kind": "transformers", "path": "pocket:teacher"}),
        ("llama@http://h/v1", {"kind": "openai", "model": "llama", "base_url": "http://h/v1"}),
    ],
)
def test_judges_from_a_few_words(text: str, entry: dict[str, str]) -> None:
    assert judge_of(text, RUN, REGISTRY) == entry


def test_judges_get_names_that_differ() -> None:
    texts = ["main", "mine={kind: pocket, noise: 1.0}", "{kind: pocket}", "{kind: pocket, noise: 2.0}", "m@http://h/v1"]
    assert list(judge_entries(texts, RUN, REGISTRY)) == ["main", "mine", "pocket", "pocket-2", "m"]
    with pytest.raises(UserError, match="'mine' is given twice"):
        judge_entries(["mine=main", "mine=pocket"], RUN, REGISTRY)
    with pytest.raises(UserError, match="noise"):
        judge_entries(["x={kind: pocket, noise: -1}"], RUN, REGISTRY)
