"""The worked examples of docs/add-a-benchmark.md that need no code, run as a user runs them, with the pocket judge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import distilbench
from distilbench.workflows.check import check
from distilbench.workflows.verify import verify
from harness.errors import UserError
from harness.types import Reply, Request
from tests.command import ROOT
from tests.fakes.server import FakeServer
from tests.pages import block, blocks

PAGE = "add-a-benchmark.md"
COLUMNS = {"compare.yaml": ("helpful", "headon"), "grade.yaml": ("support",), "sums.yaml": ("sums",)}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the page."""
    monkeypatch.chdir(tmp_path)
    texts = blocks(ROOT / "docs" / PAGE, "yaml")
    for text in texts:
        (tmp_path / text.split(":")[0].removeprefix("# ")).write_text(text, encoding="utf-8")
    (tmp_path / "questions.jsonl").write_text(block(PAGE, "jsonl"), encoding="utf-8")
    (tmp_path / "sums.csv").write_text(block(PAGE, "csv"), encoding="utf-8")
    (tmp_path / "grade.txt").write_text(block(PAGE, "text"), encoding="utf-8")
    return tmp_path


def grade(request: Request) -> Reply:
    """What ``grade.txt`` asks for, where it is shown with its places filled."""
    text = request.messages[-1]["content"]
    is_asked = text.startswith("You grade replies to customers.") and "{" not in text
    return Reply("It solves the problem. [[4]]" if is_asked else "What?", "stop", "grader", 10, 9)


def test_the_examples_run_and_can_be_verified(files: Path) -> None:
    """Untrained rows only: student and teacher answer; a server judges by the prompt of one's own."""
    with FakeServer(grade) as server:
        judge = {"kind": "openai", "model": "grader", "base_url": server.base_url}
        run_the_examples(files, {"extends": "pocket", "seeds": [0], "judges": {"mine": judge}})


def run_the_examples(files: Path, merged: dict[str, Any]) -> None:
    merged = merged | {"compute": {"executor": "inline"}}
    columns = {}
    for file, names in COLUMNS.items():
        stated = yaml.safe_load((files / file).read_text(encoding="utf-8"))["benchmarks"]
        assert tuple(stated) == names
        columns |= stated
    (files / "own.yaml").write_text(yaml.safe_dump(merged | {"benchmarks": columns}), encoding="utf-8")
    run = distilbench.reproduce(
        "table1", "own.yaml", methods=["teacher", "student"], set={"benchmarks": list(columns)}, min_coverage=0.0
    )
    frame = run.frame().set_index(["row", "metric"])
    metrics = {"helpful.wr", "headon.wr", "support.score", "sums.acc"}
    assert {metric for _, metric in frame.index} == metrics
    assert 0 <= frame.loc[("teacher", "helpful.wr"), "value"] <= 100 and frame.loc[("teacher", "sums.acc"), "n"] == 3
    assert frame.loc[("teacher", "support.score"), ["value", "n"]].tolist() == [4.0, 3]
    assert frame.loc[("student", "headon.wr"), "value"] != frame.loc[("student", "headon.wr"), "value"]
    # the page shows what its judge is asked, though these questions are compared with answers of a row
    page = distilbench.write_page(run, 0.0).read_text(encoding="utf-8")
    assert "[answer of the baseline]" in page and "You grade replies to customers." in page
    assert verify(files / "runs" / "own").problems == []


@pytest.mark.parametrize("file", ["grade.yaml", "sums.yaml"])
def test_the_examples_pass_the_check(file: str, files: Path) -> None:
    findings = list(check("benchmarks", file, [f"benchmarks=[{', '.join(COLUMNS[file])}]"]))
    assert len(findings) == 8 and [finding.problem for _, finding in findings] == [None] * 8


def test_a_judge_that_cannot_read_a_prompt_or_a_question_stops_the_plan(files: Path) -> None:
    """The pocket judge reads distilbench's own prompts about the tasks of its world: told before anything runs."""
    (files / "other.jsonl").write_text('{"question": "Where is my parcel, please?"}\n', encoding="utf-8")
    rows = (files / "questions.jsonl").read_text(encoding="utf-8") + (files / "other.jsonl").read_text(encoding="utf-8")
    (files / "mixed.jsonl").write_text(rows, encoding="utf-8")
    mine = {"kind": "rating", "judge": "main", "scale": "1-5"}
    columns = {
        "fine": {**mine, "questions": "questions.jsonl"},
        "own": {**mine, "questions": "questions.jsonl", "prompt": "grade.txt"},
        "strange": {**mine, "questions": "other.jsonl"},
        "mixed": {**mine, "questions": "mixed.jsonl"},
    }
    text = yaml.safe_dump({"extends": "pocket", "benchmarks": columns})
    (files / "judged.yaml").write_text(text, encoding="utf-8")
    work = distilbench.plan("table1", "judged.yaml", methods=["teacher"], set={"benchmarks": list(columns)})
    findings = {finding.text.partition(":")[0]: finding for finding in work.findings if "no verdict" in finding.text}
    assert {name: finding.problem for name, finding in findings.items()} == {
        "own": True, "strange": True, "mixed": False,
    }  # fmt: skip
    assert (
        "3 of 3 questions, because the pocket judge reads distilbench's own judge prompts alone" in findings["own"].text
    )
    assert "1 of 4 questions, because the pocket judge knows tasks of the pocket world" in findings["mixed"].text


def test_what_is_missing_stops_the_plan(files: Path) -> None:
    """All columns at once, each by its name; lm-eval's data and packages are not here."""
    (files / "grade.txt").unlink()
    (files / "questions.jsonl").unlink()
    with pytest.raises(UserError) as caught:
        distilbench.plan("table1", "compare.yaml")
    assert re.findall(r"benchmarks\.(\w+): ", str(caught.value)) == ["helpful", "headon"]
    with pytest.raises(UserError, match=r"benchmarks\.strict: |strict\.txt"):
        distilbench.plan("table1", "strict.yaml")
