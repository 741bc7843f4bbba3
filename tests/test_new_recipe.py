"""``distilbench init``: every combination of answers gives a recipe that passes ``plan``; wrong answers are told."""

from __future__ import annotations

import itertools
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from distilbench import new_recipe
from distilbench.cli import main
from distilbench.workflows.plan import plan
from harness.errors import UserError
from tests.command import ROOT, command, environment

CHECKPOINTS = ROOT / "harness" / "pocket" / "checkpoints"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints of the user, and prompts with and without golden answers."""
    folder = tmp_path_factory.mktemp("init")
    for name, source in (("big", "teacher"), ("small", "student")):
        shutil.copytree(CHECKPOINTS / source, folder / name)
    lines = [{"prompt": f"What is {number} plus 3?", "golden": f"It is {number + 3}."} for number in range(20)]
    (folder / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    bare = "".join(json.dumps({"prompt": line["prompt"]}) + "\n" for line in lines)
    (folder / "bare.jsonl").write_text(bare, encoding="utf-8")
    return folder


def answered(path: Path, questions: str | None = None, **given: str) -> new_recipe.Answers:
    answers = new_recipe.start(path, questions)
    new_recipe.answer_all(given, answers)
    return answers


MODELS = ("pocket", "./big,./small", "./big ./big", "pocket:teacher-large,pocket:student")
DATA = ("pocket", "golden.jsonl", "./bare.jsonl")
BENCHMARKS = ("alpaca_eval,arena_hard,mt_bench,gsm8k", "gsm8k", "mt_bench, mt_bench_pairwise", "alpaca_eval")
BUDGETS = ("none", "5")


def passes_its_plan(models: str, data: str, benchmarks: str, budget: str) -> None:
    path = Path("combined.yaml")
    path.unlink(missing_ok=True)
    answers = answered(path, "pocket", models=models, data=data, benchmarks=benchmarks, budget=budget)
    new_recipe.write_recipe(path, answers)
    work = plan(recipe=str(path))
    assert not [finding.text for finding in work.findings if finding.problem]
    recipe = work.first.recipe
    # what was answered is what is planned
    assert list(recipe.benchmarks) == [name.strip() for name in benchmarks.split(",")]
    assert recipe.prompts.n == (20 if "jsonl" in data else 512 if "pocket" in models else 2048)
    assert recipe.ask.max_cost == (5.0 if budget == "5" and benchmarks != "gsm8k" else None)
    schema = json.loads(Path("recipe.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema)


@pytest.mark.parametrize(
    ("models", "data", "benchmarks", "budget"),
    [
        ("pocket", "golden.jsonl", "mt_bench, mt_bench_pairwise", "5"),
        ("./big,./small", "./bare.jsonl", "alpaca_eval", "none"),
    ],
)
def test_a_combination_passes_its_plan(
    models: str, data: str, benchmarks: str, budget: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    passes_its_plan(models, data, benchmarks, budget)


PAIRS = [
    (models, DATA[(row + column) % 3], benchmarks, BUDGETS[(row + column) % 2])
    for row, models in enumerate(MODELS)
    for column, benchmarks in enumerate(BENCHMARKS)
]
"""16 of the 96 combinations, in which every answer to a question meets every answer to every other one."""


def test_every_two_answers_meet() -> None:
    choices = (MODELS, DATA, BENCHMARKS, BUDGETS)
    for one, other in itertools.combinations(range(4), 2):
        met = {(combination[one], combination[other]) for combination in PAIRS}
        assert met == set(itertools.product(choices[one], choices[other]))


@pytest.mark.slow
@pytest.mark.parametrize(("models", "data", "benchmarks", "budget"), PAIRS)
def test_every_pair_of_answers_passes_its_plan(
    models: str, data: str, benchmarks: str, budget: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    passes_its_plan(models, data, benchmarks, budget)


def test_the_recipe_explains_itself(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    path = Path("below", "mine.yaml")
    new_recipe.write_recipe(path, answered(path, "pocket", models="./big,./small", data="golden.jsonl"))
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    # relative to the recipe, for whoever has nothing but the installed package
    key, _, schema = lines[0].partition("=")
    assert key == "# yaml-language-server: $schema" and (path.parent / schema).is_file()
    assert lines[lines.index("  batch_size: 32") - 1] == "  # Prompts per optimiser step, over all processes."
    assert lines[lines.index("  path: golden.jsonl") - 1] == "  # or Parquet table with these columns."
    assert max(map(len, lines)) <= 110


WRONG = (
    ("models", "gemma", "write TEACHER,STUDENT"),
    ("models", "./big,./smal", "'./smal' is not a folder"),
    ("models", "big one,two", "write TEACHER,STUDENT"),
    ("data", "ultrafedback", "Did you mean 'ultrafeedback'"),
    ("data", "none.jsonl", "Or the path of a file of yours"),
    ("benchmarks", "exact", "write NAME=exact:FILE, as in facts=exact:facts.jsonl"),
    ("benchmarks", "facts=exact", "write NAME=KIND:FILE"),
    ("benchmarks", "facts=exat:golden.jsonl", "Did you mean 'exact'"),
    ("benchmarks", "facts=exact:broken.jsonl", "line 1: not JSON"),
    ("benchmarks", "my.facts=exact:golden.jsonl", "benchmarks.my.facts cannot name a column"),
    ("benchmarks", "gsm8k=exact:golden.jsonl", "is the name of another benchmark, and its kind is exact"),
    ("data", "broken.jsonl", "broken.jsonl, line 1"),
    ("benchmarks", "gsm9k", "Did you mean 'gsm8k'"),
    ("benchmarks", "gsm8k,gsm8k", "each once"),
    ("benchmarks", "arena_hard_v2", "questions must be official"),
    ("benchmarks", "", "at least one"),
    ("judge", "gpt-9", "unknown judge 'gpt-9'"),
    ("judge", "{kind: openai, modle: x}", "Did you mean 'model'"),
    ("budget", "much", "write dollars"),
    ("budget", "-1", "must"),
    ("budget", "nan", "must"),
    ("gpus", "two", "write how many"),
    ("gpus", "99", "this machine shows"),
)


@pytest.mark.parametrize(("name", "text", "part"), WRONG)
def test_a_wrong_answer_is_told(name: str, text: str, part: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    Path("broken.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        answered(Path("wrong.yaml"), **{name: text})
    assert part in str(caught.value)
    assert not Path("wrong.yaml").exists()


def test_judges_budgets_and_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    path = tmp_path / "mine.yaml"
    real = answered(path, models="google/gemma-2-9b-it,google/gemma-2-2b-it", gpus="0,2")
    # UltraFeedback, the official questions, a known judge, and a budget, because that judge has a price
    assert (real.source, real.question_set) == ({"source": "ultrafeedback"}, "official")
    assert (real.judge, real.budget) == ({"kind": "openai", "model": new_recipe.KNOWN_JUDGE}, new_recipe.DOLLARS)
    assert (
        real.gpus == (0, 2) and answered(path, gpus="3").gpus == (0, 1, 2) and answered(path, gpus="[3]").gpus == (3,)
    )
    assert answered(path).gpus == (0, 1, 2, 3) and answered(path, gpus="none").gpus == ()
    new_recipe.write_recipe(path, real)
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["family"]["dtype"] == "bfloat16"
    # a server of one's own: its price is not known, so there is no budget unless the price is given
    assert answered(path.with_name("a.yaml"), judge="m@http://127.0.0.1:8000/v1").budget is None
    with pytest.raises(UserError, match="needs the judge's price"):
        answered(path.with_name("a.yaml"), judge="m@http://127.0.0.1:8000/v1", budget="5")
    priced = "{kind: openai, model: m, base_url: http://127.0.0.1:8000/v1, price_in: 0, price_out: 0}"
    assert answered(path.with_name("a.yaml"), judge=priced, budget="5").budget == 5.0
    # graded by rule: nobody judges
    answers = new_recipe.start(path.with_name("a.yaml"), None)
    assert new_recipe.answer_all({"benchmarks": "gsm8k", "judge": "pocket"}, answers) != []
    assert answers.judge is None


def test_benchmarks_with_questions_of_ones_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graded one needs no judge, a judged one the judge of all; the paper's keep their set of questions."""
    monkeypatch.chdir(place)
    path = Path("own.yaml")
    answers = answered(path, models="./big,./small", data="golden.jsonl", benchmarks="facts=exact:golden.jsonl")
    assert answers.judge is None and not answers.needs_judge
    chosen = "gsm8k,facts=exact:golden.jsonl,tone=rating:bare.jsonl"
    answers = answered(path, "pocket", models="./big,./small", data="golden.jsonl", benchmarks=chosen)
    new_recipe.write_recipe(path, answers)
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["benchmarks"] == {
        "gsm8k": {"questions": "pocket"},
        "facts": {"kind": "exact", "questions": "golden.jsonl"},
        "tone": {"kind": "rating", "questions": "bare.jsonl", "judge": "main"},
    }
    assert list(plan(recipe=str(path)).first.recipe.benchmarks) == ["gsm8k", "facts", "tone"]


def test_gpus_of_another_machine_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login node has none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    answers = new_recipe.start(tmp_path / "mine.yaml", None)
    (note,) = new_recipe.answer_all({"models": "pocket", "gpus": "4"}, answers)
    assert answers.gpus == (0, 1, 2, 3) and note.startswith("this machine shows no GPU: the recipe names those of")


def test_the_command_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def init(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["distilbench", "init", "--gpus", "none", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return (left.value.code or 0, *capsys.readouterr())

    code, output, errors = init("--benchmarks", "gsm8k", "-y")
    assert (code, errors) == (0, "files: mine.yaml, recipe.schema.json\n")
    assert output == "its plan has no problem. Next: distilbench plan table1 --recipe mine.yaml\n"
    before = (tmp_path / "mine.yaml").read_text(encoding="utf-8")
    code, _, errors = init()
    assert code == 2 and "mine.yaml is there already" in errors
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == before
    code, _, errors = init("--benchmarks", "gsm8k", "--force")
    assert (code, errors) == (0, "files: mine.yaml\n")
    assert init("store.yaml")[0] == init("mine.json")[0] == 2
    # a model that is nowhere: the recipe is there, and what is to be mended is said
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, output, _ = init("far.yaml", "--models", "nobody/big,nobody/small")
    assert code == 0 and "problem: model 'nobody/" in output and "mend the problems above" in output
    assert (tmp_path / "far.yaml").is_file()


@pytest.mark.slow
def test_on_a_terminal_it_asks_until_the_answer_is_right(tmp_path: Path) -> None:
    """Six questions: pocket's models, a source that is none and then pocket's, and the defaults."""
    ours, theirs = pty.openpty()
    variables = {**environment(), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        command("init"), stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=variables, close_fds=True
    )
    os.close(theirs)
    os.write(ours, b"pocket\npokcet\npocket\n\n\n\n\n")
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # Linux says so when the other side is closed
        pass
    assert process.wait(60) == 0
    text = shown.decode()
    for part in ("Models", "Did you mean 'pocket'", "Benchmarks", "Judge", "Budget", "GPUs", "its plan has no problem"):
        assert part in text
    assert (tmp_path / "mine.yaml").is_file()
