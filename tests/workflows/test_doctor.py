"""``doctor`` refuses what ``plan`` refuses."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from distilbench.workflows import check
from distilbench.workflows.check import MachineFinding, examine
from distilbench.workflows.plan import plan
from harness.models.checkpoint import resolve
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
    # said once
    assert sum("gsm8k/test.jsonl" in text for text in found) == 1
