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
from typer.testing import CliRunner

from distilbench.cli.app import app
from distilbench.cli.verify import on_lines
from distilbench.viewing.library import Library
from distilbench.workflows.evaluate import evaluate
from distilbench.workflows.execute import describe
from distilbench.workflows.finished_run import load
from distilbench.workflows.plan import plan as plan_targets
from distilbench.workflows.report import report
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
    assert found.artifacts == 3 and [Path(name).suffix for name in found.files] == [".md", ".tex", ".csv", ".json"]
    assert found.not_compared == ["eval.pdf, eval.png (pictures, drawn from the same scores)"]
    assert [path for path in sorted(run.rglob("*")) if path not in before and "locks" not in path.parts] == []


@pytest.mark.parametrize(
    ("kind", "name", "pattern", "by", "named"),
    [
        ("score", "scores.json", r'"value": [0-9.]+', '"value": 9.9', "scores.json says 9.9"),
        ("judge", "judgments.jsonl", r'"verdict": [0-9.]+', '"verdict": 9.5', "file: 9.5 (same reply); ledger: "),
        ("judge", "judgments.jsonl", r'"reply": "', '"reply": "x', "): file: "),
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
            "the scores give: mine mt_bench.score",
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
    with pytest.raises(UserError, match=r"move the folder .* out of the store and run again") as raised:
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

    origin, first, printed = damaged(run, tmp_path, damage)
    assert re.match(r"judge/\w+ is not the one that score/\w+ was made from: changed, or made anew", origin)
    assert "judgments.jsonl, line 1 (mine/0, question" in first and "file: 9.5 (same reply); ledger: " in first
    assert printed.startswith("mine mt_bench.score: printed ")


def test_an_edited_verdict_is_said_once_with_the_number_that_it_would_print(run: Path, tmp_path: Path) -> None:
    """MT-Bench's score is the mean of all verdicts: of 8, one is 9 in place of its own."""
    verdicts = [json.loads(line)["verdict"] for line in file(run, "judge", "judgments.jsonl").read_text().splitlines()]

    def damage(runs: Path) -> None:
        edit(file(runs, "judge", "judgments.jsonl"), r'"verdict": [0-9.]+', '"verdict": 9.0')
        edit(file(runs, "judge", "judgments.jsonl"), r"\[\[\d+\]\]", "[[9]]")

    checksum, verdict, printed = damaged(run, tmp_path, damage)
    assert "judgments.jsonl is not what its stage wrote" in checksum
    assert verdict.endswith(f": file: 9 ([[9]]); ledger: {verdicts[0]:g} ([[{verdicts[0]:g}]])")
    before, after = sum(verdicts) / 8, (sum(verdicts[1:]) + 9) / 8
    assert printed == (
        f"mine mt_bench.score: printed {before:.2f}, from the ledger {before:.2f}, from the file {after:.2f}"
    )


def test_damage_is_said_wherever_its_numbers_are(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "runs")
    words = ["report", "eval", "--run", "mine", "--runs", str(tmp_path / "runs"), "--html", "--min-coverage", "0"]
    sentence = "the judgments behind mine mt_bench.score are not those that the run wrote"
    assert sentence not in CliRunner().invoke(app, words).output
    edit(file(tmp_path / "runs", "judge", "judgments.jsonl"), r'"verdict": [0-9.]+', '"verdict": 9.0')
    assert f"DAMAGED {sentence}" in CliRunner().invoke(app, words).output
    assert sentence in (tmp_path / "runs/mine/report/report.html").read_text()
    finished = load(tmp_path / "runs/mine")
    assert [text.partition(" (")[0] for text in finished.damage()] == [sentence]
    with pytest.raises(UserError, match="is not what its stage wrote"):
        finished.judgments()


@pytest.mark.parametrize("name", ["eval.md", "eval.tex", "eval.csv", "eval.json"])
def test_every_file_of_the_report_is_compared_to_the_last_line(run: Path, tmp_path: Path, name: str) -> None:
    def damage(runs: Path) -> None:
        place = runs / "mine/report" / name
        place.write_text(place.read_text() + "x\n")
        (runs / "mine/report/other.csv").touch()
        (runs / "mine/report/eval.csv.before").touch()

    (problem,) = damaged(run, tmp_path, damage)
    count = len((run / "mine/report" / name).read_text().splitlines()) + 1
    assert problem.endswith(f"{name} is not what the scores give; line {count}: 'x', from the scores ''")
    not_compared = verify(tmp_path / "runs/mine").not_compared
    assert "eval.csv.before, other.csv (no table of this run)" in not_compared
    (tmp_path / "runs/mine/other").mkdir()
    (tmp_path / "runs/mine/other/run.json").touch()  # another target, of which nothing was asked
    not_compared = verify(tmp_path / "runs/mine/eval").not_compared
    assert {"other.csv (other tables of this run)", "eval.csv.before (no table of this run)"} <= {*not_compared}


@pytest.mark.parametrize("name", ["eval.md", "eval.csv"])
def test_a_number_that_was_taken_out_of_the_report_is_named(run: Path, tmp_path: Path, name: str) -> None:
    """The other numbers of its line are as they were."""
    (problem,) = damaged(run, tmp_path, lambda runs: edit(runs / "mine/report" / name, r"\d+\.\d+", ""))
    assert f"{name} is not what the scores give; line " in problem


def test_a_table_of_another_coverage_is_compared_with_its_own_and_said(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "runs")
    report("eval", str(tmp_path / "runs/mine"), min_coverage=0.5)
    found = verify(tmp_path / "runs/mine")
    assert found.problems == []
    assert [note.partition(": ")[2] for note in found.remarks] == ["made with --min-coverage 0.5; the recipe's is 0.98"]


def test_notes_change_what_is_printed_and_no_file_and_a_file_that_differs_is_kept(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "runs")
    folder = tmp_path / "runs/mine/report"
    words = ["report", "eval", "--run", "mine", "--runs", str(tmp_path / "runs"), "--min-coverage", "0"]

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    before, runner = files(), CliRunner()
    lean, full = runner.invoke(app, words), runner.invoke(app, [*words, "--notes"])
    assert files() == before
    assert "MT-Bench: judge:" not in lean.output and "MT-Bench: judge:" in full.output
    for _ in range(2):  # the second copy would be the same, and there is one only
        (folder / "eval.csv").write_text("mine")
        shown = runner.invoke(app, words).output
        assert "were different: eval.csv; the old ones are kept beside them (*.before)" in shown
        assert files() == {**before, "eval.csv.before": b"mine"}
    (folder / "eval.csv").write_text("another")
    runner.invoke(app, words)
    assert files() == {**before, "eval.csv.before": b"mine", "eval.csv.before-2": b"another"}


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
    (found,), again = explain(run / "mine", "eval", "mine", "mt_bench.score", seed=0, question=name)
    assert again.startswith("distilbench eval with the models of its rows")
    lines = dict(found.lines)
    assert lines["judgments"] == str(file(run, "judge", "judgments.jsonl"))
    assert [lines["answer, turn 1"], lines["answer, turn 2"]] == ["mine", "mine too"]
    assert (
        lines["request"].startswith("exactly as it was sent to pocket-judge-1 at ") and "mine too" in lines["request"]
    )
    assert f"[[{lines['verdict turn2']}]]" in lines[next(name for name in lines if name.startswith("reply"))]
    with pytest.raises(UserError, match=r"unknown metric 'mt_bench\.scores'"):
        explain(run / "mine", "eval", "mine", "mt_bench.scores")
    for words, hint in (
        (("Mine", "mt_bench.score"), "Did you mean 'mine'"),
        (("mine", "MT_Bench.Score"), "Did you mean 'mt_bench.score'"),
    ):
        with pytest.raises(UserError, match=hint):
            explain(run / "mine", "eval", *words)
    with pytest.raises(UserError, match=r"unknown seed '3'\. Choices: 0\."):
        explain(run / "mine", "eval", "mine", "mt_bench.score", seed=3)


def test_a_mark_by_rule_is_explained_by_the_right_answer_and_what_was_compared(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["gsm8k"]
    first, second = benchmark.questions(benchmark.config(limit=2))
    right = first.reference[0].rpartition("#### ")[2]
    answers = [Answer(first.id, (f"so it is {right}",), (True,), (1,)), Answer(second.id, ("no",), (True,), (1,))]
    (tmp_path / "mine").mkdir()
    write_records(tmp_path / "mine" / "gsm8k.jsonl", answers)
    evaluate(
        [f"mine=answers:{tmp_path / 'mine'}"], "pocket", questions="pocket", limit=2, benchmarks=["gsm8k"],
        set=["statistics.replicates=100", "compute.executor=inline"], name="mine", runs=tmp_path / "runs",
    )  # fmt: skip
    for question, mark, compared in ((first, "1", right), (second, "0 (no-number)", None)):
        (found,), _ = explain(tmp_path / "runs/mine", "eval", "mine", "gsm8k.acc", question=question.id)
        lines = dict(found.lines)
        assert lines["reference"] == question.reference[0] and lines["verdict flexible-extract"] == mark
        assert lines.get("compared") == compared and "request" not in lines


def test_the_command_is_broken_before_its_options_and_not_in_what_is_quoted() -> None:
    words = ["distilbench", "--set", "a=it's -- so && so", "--methods", "dpo"]
    shown = on_lines(f"first && {shlex.join(words)}")
    assert shown.splitlines()[0] == "first" and len(shown.splitlines()) == 4
    assert shlex.split(shown.partition("\n")[2].replace("\\\n", "")) == words


def test_without_a_question_the_ones_that_move_the_score_most_are_named(run: Path) -> None:
    """The share of a question is the mean of its two verdicts."""
    shares: dict[str, float] = {}
    for line in file(run, "judge", "judgments.jsonl").read_text().splitlines():
        judgment = json.loads(line)
        shares[judgment["question"]] = shares.get(judgment["question"], 0) + judgment["verdict"] / 2
    (found,), _ = explain(run / "mine", "eval", "mine", "mt_bench.score")
    lines = dict(found.lines)
    for name, end in (("highest", max(shares.values())), ("lowest", min(shares.values()))):
        first = lines[name].split(", ")[0].split(" (")
        assert shares[first[0]] == end and float(first[1].rstrip(")")) == pytest.approx(end, rel=1e-3)
    shown = CliRunner().invoke(app, ["explain", "eval", "mine", "mt_bench.score", "--run", "mine", "--runs", str(run)])
    assert shown.output.count("to make the table again") == 1 and "lowest: " in shown.output


def test_the_runs_are_listed_also_where_one_cannot_be_read(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "runs")
    shutil.copytree(run / "mine", tmp_path / "runs/other")
    edit(tmp_path / "runs/other/eval/run.json", "pocket", "packet")
    shown = CliRunner().invoke(app, ["list", "runs", "--runs", str(tmp_path / "runs")]).output.splitlines()
    assert shown[1].split() == ["run", "targets", "models", "rows", "seeds", "judge", "date", "state"]
    created = json.loads((run / "mine/eval/run.json").read_text())["created"][:10]
    assert re.match(rf"mine +eval +\S.* +1 +0 +\S+ +{created} +finished", shown[2])
    assert shown[3].startswith("other") and "cannot be read" in shown[3]
    assert "rows 1, seeds 0; judge pocket" in Library(tmp_path / "runs").index()
