"""``doctor`` refuses what ``plan`` refuses."""

from __future__ import annotations

import json
import shutil
import sys
from http.client import BadStatusLine
from pathlib import Path

import pytest

from distilbench.plugins import load_registry
from distilbench.workflows import check
from distilbench.workflows.check import MachineFinding, examine
from distilbench.workflows.plan import plan
from harness import assets
from harness.contracts.benchmark import Entrant
from harness.models.checkpoint import resolve
from harness.recipe.recipe import load_recipe
from harness.types import Answer
from judges import BENCHMARKS
from judges.benchmarks.alpaca_eval.benchmark import _official_template
from judges.benchmarks.arena_hard.benchmark import _official_prompt
from judges.benchmarks.mt_bench import official_prompts
from tests.tiny import student_with_heads_of_24


@pytest.fixture(autouse=True)
def _no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is about the machine is looked at elsewhere, and takes seconds."""
    for name in ("packages", "torch", "questions"):
        monkeypatch.setattr(check, name, lambda: MachineFinding("ok", "not looked at"))


def failures(folder: Path, *changes: str) -> list[str]:
    return [finding.text for finding in examine(changes=changes, runs=folder) if finding.state == "fail"]


def test_a_recipe_that_can_run_is_fine(tmp_path: Path) -> None:
    assert failures(tmp_path) == []
    assert [finding.text for finding in examine(runs=tmp_path)][-1] == "recipe pocket: fine"


def test_every_problem_of_the_plan_is_one_of_the_doctor(tmp_path: Path) -> None:
    changes = ("ask.max_calls=1", "compute.device=cuda:7")
    problems = [finding.text for finding in plan(set=changes, runs=tmp_path).findings if finding.problem]
    assert len(problems) == 2
    assert failures(tmp_path, *changes) == [f"recipe pocket: {text}" for text in problems]


def test_a_hub_that_speaks_no_http_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def nonsense(request: object, timeout: float) -> None:
        raise BadStatusLine("what is this")

    monkeypatch.setattr(check, "urlopen", nonsense)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    registry = load_registry()
    found = check.hub(load_recipe("pocket", ["family.student=owner/name"], registry), registry)
    assert found.state == "warn" and "does not answer (what is this); needed for owner/name" in found.text


def test_the_command_of_an_engine_is_looked_for(tmp_path: Path) -> None:
    def lines(*options: str, student: str = "pocket:student") -> list[str]:
        engine = f"family.backend_options={{{', '.join(options)}}}"
        changes = ("family.backend=vllm", engine, f"family.student={student}")
        return [f"{one.state}: {one.text}" for one in examine(changes=changes, runs=tmp_path) if "vllm" in one.text]

    (text,) = lines("command: [/nowhere/vllm, serve]")
    assert text.startswith("fail: backend vllm: there is no command '/nowhere/vllm'. Install vllm in an environment")
    (text,) = lines(f"command: [{sys.executable}]")
    assert text.startswith("ok: backend vllm: vLLM's server")
    student = student_with_heads_of_24(tmp_path / "student")
    _, text = lines(f"command: [{sys.executable}]", "gpus: 0", student=str(student))
    assert text.startswith(f"fail: recipe pocket: backend vllm: {student} has attention heads of 24")


def test_a_quantised_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    shutil.copytree(resolve("pocket:student").location, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    (text,) = failures(tmp_path, f"family.student={folder}")
    assert "quantised" in text


def test_the_files_that_this_recipe_needs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found and missing ones, with the remedy: pinned files of official questions, and files that the recipe names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILBENCH_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine.jsonl").write_text('{"prompt": "What is 1 plus 1?", "golden": "2"}\n' * 1, encoding="utf-8")
    changes = ["prompts={source: jsonl, path: mine.jsonl, n: 1}", "benchmarks.gsm8k.questions=official"]
    found = {one.text: one for one in examine(changes=changes, runs=tmp_path)}
    assert found["file mine.jsonl (prompts.path): found"].state == "ok"
    (missing,) = [one for text, one in found.items() if text.startswith("file gsm8k/test.jsonl: ")]
    assert missing.state == "fail" and "run `distilbench assets pull`" in missing.text
    assert not [text for text in found if "alpaca_eval/" in text]  # pocket's questions need no file
    # said once, and all of the set
    assert sum("gsm8k/test.jsonl" in text for text in found) == 1
    assert [text for text in found if text.startswith("file gsm8k/train.jsonl: ")]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("alpaca_eval", {}), ("alpaca_eval", {"judge_prompt": "ranking"}), ("arena_hard", {}), ("mt_bench", {}),
        ("mt_bench", {"references": "gpt-4-1106-preview"}), ("gsm8k", {}), ("gsm8k_json", {}),
    ],
)  # fmt: skip
def test_a_benchmark_names_all_files_that_it_reads(name: str, options: dict[str, str]) -> None:
    """What is looked for while it asks, judges and scores is what it says, where the files are here."""
    entry = BENCHMARKS[name]
    config = entry.config(questions="official", **options)
    stated = entry.files(config)
    if any(assets.check_asset(file).state != "ok" for file in stated):
        pytest.skip("the official files are not here")
    for cached in (official_prompts, _official_prompt, _official_template):
        cached.cache_clear()
    with assets.asked_for() as asked:
        questions = entry.questions(config)
        answer = Answer(questions[0].id, ("x",) * len(questions[0].turns), (True,), (1,))
        if entry.needs_judge:
            entry.requests(questions[0], answer, config)
        entry.score(questions, {"row": Entrant([answer], [])}, config, 0, 0)
    assert {file for file, status in asked.items() if status.state == "ok"} == set(stated)
