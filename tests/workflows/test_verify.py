"""``verify``: a whole run is equal in everything; each kind of damage is found, with its file and cell."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distilbench.workflows.evaluate import evaluate
from distilbench.workflows.execute import describe
from distilbench.workflows.plan import plan as plan_targets
from distilbench.workflows.verify import command, explain, verify
from harness.errors import UserError
from harness.records import write_records
from harness.types import Answer
from judges import BENCHMARKS
from results.run.record import read_run, write_run
from results.store.checksums import checksums, marker_text
from results.store.store import ArtifactStore


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four answers to MT-Bench, made elsewhere and judged by the pocket judge."""
    root = tmp_path_factory.mktemp("verify")
    questions = BENCHMARKS["mt_bench"].questions(BENCHMARKS["mt_bench"].config(limit=4))
    rows = [Answer(question.id, ("mine", "mine too"), (True, True), (1, 2)) for question in questions]
    (root / "mine").mkdir()
    write_records(root / "mine/mt_bench.jsonl", rows)
    judge_answers(root / "runs")
    return root / "runs"


def judge_answers(runs: Path) -> None:
    options = ["statistics.replicates=100", "compute.executor=inline"]
    evaluate(
        [f"mine=answers:{runs.parent / 'mine'}"], "pocket", questions="pocket", limit=4, benchmarks=["mt_bench"],
        set=options, name="mine", runs=runs, min_coverage=0.0,
    )  # fmt: skip


def damaged(run: Path, tmp_path: Path, damage: Callable[[Path], object]) -> list[str]:
    runs = tmp_path / "runs"
    shutil.copytree(run, runs)
    damage(runs)
    return verify(runs / "mine").problems


def file(runs: Path, kind: str, name: str) -> Path:
    return next((runs / "store" / kind).glob(f"*/*/{name}"))


def edit(path: Path, pattern: str, by: str) -> None:
    text = path.read_text()
    changed = re.sub(pattern, by, text, count=1)
    assert changed != text
    path.write_text(changed)


def test_a_whole_run_is_equal_in_everything(run: Path) -> None:
    before = sorted(run.rglob("*"))
    found = verify(run / "mine")
    assert found.problems == []
    assert (found.scores, found.equal, found.judgments, found.without_reply) == (1, 1, 8, 0)
    assert found.artifacts == 3 and [Path(table).name for table in found.tables] == ["eval.json"]
    assert [path for path in sorted(run.rglob("*")) if path not in before and "locks" not in path.parts] == []


@pytest.mark.parametrize(
    ("kind", "name", "pattern", "by", "named"),
    [
        ("score", "scores.json", r'"value": [0-9.]+', '"value": 9.9', "scores.json says 9.9"),
        ("judge", "judgments.jsonl", r'"verdict": [0-9.]+', '"verdict": 9.5', "it says 9.5"),
        ("judge", "judgments.jsonl", r'"reply": "', '"reply": "x', "not that in the ledger"),
        ("answer", "answers.jsonl", "mine", "yours", "answers.jsonl is not what its stage wrote"),
        ("answer", "answers.jsonl", "(?s).*", "", "answers.jsonl is not what its stage wrote"),
        ("score", "meta.json", "(?s).*", "[]", "mine, mt_bench.score, seed 0: score/"),
        ("judge", "meta.json", '"wall', '"Wall', "meta.json cannot be read"),
        ("report", "eval.md", r"\d\.\d\d", "9.99", "eval.md is not what the scores give"),
        (
            "report",
            "eval.json",
            r'"by_seed": {\s*"0": [0-9.]+',
            '"by_seed": {"0": 9.9',
            "the scores give: by_",
        ),
    ],
)
def test_damage_is_found_and_named(
    run: Path, tmp_path: Path, kind: str, name: str, pattern: str, by: str, named: str
) -> None:
    def damage(runs: Path) -> None:
        edit(runs / "mine/report" / name if kind == "report" else file(runs, kind, name), pattern, by)

    problems = damaged(run, tmp_path, damage)
    assert any(named in problem for problem in problems), problems


@pytest.mark.parametrize(("kind", "name"), [("judge", "judgments.jsonl"), ("answer", "answers.jsonl")])
def test_what_was_damaged_is_made_again_once_it_was_moved_away_as_the_message_says(
    run: Path, tmp_path: Path, kind: str, name: str
) -> None:
    """Its score is there all the while: what a score names is made again, and is then equal in everything."""
    runs = tmp_path / "runs"
    shutil.copytree(run, runs)
    shutil.copytree(run.parent / "mine", tmp_path / "mine")
    edit(file(runs, kind, name), '"question"', '"Question"')
    problem = next(text for text in verify(runs / "mine").problems if "stage wrote" in text)
    with pytest.raises(UserError, match=r"move the folder .* out of the store and run again: what is") as raised:
        ArtifactStore(runs / "store").path(*Path(problem.partition(f"/{name}")[0]).parts[-3::2], name)
    folder = re.findall("move the folder (.*) out of the store", str(raised.value))[0]
    shutil.move(folder, tmp_path / "evidence")
    judge_answers(runs)
    assert (Path(folder) / name).read_text() == file(run, kind, name).read_text()
    assert verify(runs / "mine").problems == []


def test_what_is_gone_or_new_is_named(run: Path, tmp_path: Path) -> None:
    def damage(runs: Path) -> None:
        file(runs, "score", "scores.json").unlink()
        (file(runs, "judge", "meta.json").parent / "new.bin").touch()

    problems = damaged(run, tmp_path, damage)
    assert any("scores.json cannot be read" in problem for problem in problems)
    assert any("new.bin was not there" in problem for problem in problems)


def test_a_verdict_that_was_changed_with_its_checksum_is_not_what_the_reply_says(run: Path, tmp_path: Path) -> None:
    def damage(runs: Path) -> None:
        judgments = file(runs, "judge", "judgments.jsonl")
        edit(judgments, r'"verdict": [0-9.]+', '"verdict": 9.5')
        marker = judgments.parent / "meta.json"
        marker.write_text(marker_text({**json.loads(marker.read_text()), "files": checksums(judgments.parent)}))

    origin, first, second = damaged(run, tmp_path, damage)
    assert re.match(r"judge/\w+ is not the one that score/\w+ was made from: changed, or made anew", origin)
    assert "judgments.jsonl, line 1 (mine/0, question" in first and "it says 9.5, its reply gives" in first
    assert second.startswith("mine, mt_bench.score, seed 0: ") and "its judgments give" in second


def test_a_reply_that_was_changed_in_the_ledger(run: Path, tmp_path: Path) -> None:
    def damage(runs: Path) -> None:
        with sqlite3.connect(runs / "ledger.sqlite") as ledger:
            ledger.execute("UPDATE replies SET reply = replace(reply, '[[', '[[1')")

    assert any("cannot be read (it is not what was stored)" in problem for problem in damaged(run, tmp_path, damage))


def test_a_reply_that_is_gone_from_the_ledger(run: Path, tmp_path: Path) -> None:
    def damage(runs: Path) -> None:
        with sqlite3.connect(runs / "ledger.sqlite") as ledger:
            ledger.execute("DELETE FROM replies WHERE key = (SELECT MIN(key) FROM replies)")

    (problem,) = damaged(run, tmp_path, damage)
    assert "ledger.sqlite has no reply under" in problem and "(1 of 8 are gone)" in problem


def test_an_answer_that_was_changed_with_its_checksum_is_not_what_the_judge_read(run: Path, tmp_path: Path) -> None:
    def damage(runs: Path) -> None:
        answers = file(runs, "answer", "answers.jsonl")
        edit(answers, "mine too", "yours")
        marker = answers.parent / "meta.json"
        marker.write_text(marker_text({**json.loads(marker.read_text()), "files": checksums(answers.parent)}))

    assert any("was sent another text (key" in problem for problem in damaged(run, tmp_path, damage))


def test_an_artifact_that_is_said_to_be_made_from_others_has_not_their_key(run: Path, tmp_path: Path) -> None:
    def damage(runs: Path) -> None:
        marker = file(runs, "judge", "meta.json")
        content = json.loads(marker.read_text())
        marker.write_text(marker_text({**content, "params": {**content["params"], "questions": "others"}}))

    assert any("are not those of its key" in problem for problem in damaged(run, tmp_path, damage))


def test_the_command_of_a_recipe_of_ones_own_makes_the_same_stages(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("{extends: pocket, name: mine, seeds: [3], train: {learning_rate: 1.0e-4}}")
    plan = plan_targets("table1", str(tmp_path / "mine.yaml"), methods=["dpo"], runs=tmp_path).plans["table1"]
    record = write_run(tmp_path / "mine/table1/run.json", describe(plan, ArtifactStore(tmp_path / "store")))
    before, _, words = command(read_run(record), "table1", tmp_path / "mine", ()).partition(" && ")
    before = before.replace("python ", f"{shlex.quote(sys.executable)} ", 1)
    subprocess.run(before, shell=True, check=True, cwd=tmp_path / "mine")  # noqa: S602
    recipe, rows = re.findall(r"--(?:recipe|methods) (\S+)", words)
    again = plan_targets("table1", str(tmp_path / "mine" / recipe), methods=rows.split(","), runs=tmp_path).plans[
        "table1"
    ]
    assert [stage.key for stage in again.stages] == [stage.key for stage in plan.stages] and again.stages


def test_a_ledger_that_is_gone(run: Path, tmp_path: Path) -> None:
    (problem,) = damaged(run, tmp_path, lambda runs: (runs / "ledger.sqlite").unlink())
    assert "ledger.sqlite is not there: the replies of 8 judgments" in problem


@pytest.mark.parametrize(
    ("pattern", "by"),
    [
        (r'"seeds": \[\s*0', '"seeds": [1'),
        ('"replicates": ', '"replicates": 1'),
        ('"title": "', '"title": "x'),
        ("true", "false"),
    ],
)
def test_a_record_that_was_changed_by_hand_is_refused(run: Path, tmp_path: Path, pattern: str, by: str) -> None:
    with pytest.raises(UserError, match=r"run\.json was changed since the run wrote it"):
        damaged(run, tmp_path, lambda runs: edit(runs / "mine/eval/run.json", pattern, by))


def test_a_cell_is_explained_down_to_the_exact_request(run: Path) -> None:
    name = json.loads(file(run, "answer", "answers.jsonl").read_text().splitlines()[0])["question"]
    (found,) = explain(run / "mine", "eval", "mine", "mt_bench.score", question=name)
    lines = dict(found.lines)
    assert lines["judgments"] == str(file(run, "judge", "judgments.jsonl"))
    assert [lines["answer, turn 1"], lines["answer, turn 2"]] == ["mine", "mine too"]
    assert (
        lines["request"].startswith("exactly as it was sent to pocket-judge-1 at ") and "mine too" in lines["request"]
    )
    assert f"[[{lines['verdict turn2']}]]" in lines[next(name for name in lines if name.startswith("reply"))]
    with pytest.raises(UserError, match=r"unknown metric 'mt_bench\.scores'"):
        explain(run / "mine", "eval", "mine", "mt_bench.scores")
