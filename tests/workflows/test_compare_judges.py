"""``compare_judges``: a run's answers judged again as runs of their own, and what is said of mistakes."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import distilbench
from distilbench.cli import main
from distilbench.cli.compare_judges import own_rows, split_judges
from distilbench.cli.plan import show_plan
from distilbench.plugins import load_registry
from distilbench.simulation import pending
from distilbench.viewing.library import Library
from distilbench.workflows.compare_judges import judge_entries, judge_names
from distilbench.workflows.page import judges_of
from distilbench.workflows.plan import WorkPlan
from distilbench.workflows.verify import explain, verify
from harness.errors import UserError
from harness.pocket.answers import graded_answer
from harness.records import write_records
from harness.types import Answer
from judges.benchmarks.alpaca_eval.benchmark import BENCHMARK, AlpacaEvalConfig
from results.run.record import Run, RunFamily
from results.store.checksums import marker_text
from results.store.store import ArtifactStore
from tests.command import environment

REGISTRY = load_registry()
RUN = Run("r", {"judges": {"main": {"kind": "pocket"}}}, "", True, RunFamily("f", "t", "s"), (), (), (), ())
LIMIT = 10


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished evaluation ``given`` of two sets of answers from files: no model is loaded."""
    folder = tmp_path_factory.mktemp("compare")
    questions = BENCHMARK.questions(AlpacaEvalConfig(limit=LIMIT))
    for name, quality in (("weak", 0.3), ("strong", 0.9)):
        rng = random.Random(name)
        texts = [graded_answer([{"role": "user", "content": each.turns[0]}], quality, rng) for each in questions]
        (folder / name).mkdir()
        answers = [Answer(each.id, (text,), (), ()) for each, text in zip(questions, texts, strict=True)]
        write_records(folder / name / "alpaca_eval.jsonl", answers)
    models = [f"{name}=answers:{folder / name}" for name in ("weak", "strong")]
    changes = {"statistics.replicates": 100, "compute.workers": 1}
    distilbench.evaluate(
        models, "pocket", benchmarks=["alpaca_eval"], questions="pocket", limit=LIMIT, name="given", min_coverage=0.0,
        set=changes, runs=folder / "runs",
    )  # fmt: skip
    return folder / "runs"


def test_a_plan_counts_replies_of_the_ledger(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sets of 10 answers were judged, in one order: 20 calls. Judgments of another key ask the same again."""
    models = [f"{name}=answers:{runs.parent / name}" for name in ("weak", "strong")]
    arguments = {"benchmarks": ["alpaca_eval"], "questions": "pocket", "limit": LIMIT, "name": "given", "runs": runs}

    def planned(accept: bool) -> WorkPlan:
        changes = {"statistics.replicates": 100, "ask.accept_failures": accept, "ask.max_calls": 19}
        return distilbench.plan_evaluation(models, "pocket", set=changes, **arguments)

    assert planned(accept=False).stored_calls == {}  # nothing is to be done
    work = planned(accept=True)
    judging = [stage for stage in work.pending_stages if stage.kind == "judge"]
    assert len(judging) == 2 and work.stored_calls == {stage.key: 10 for stage in judging}
    assert work.cost(judging).judge_calls == 0 and not [one for one in work.findings if one.problem]
    assert [cost.judge_calls for _, _, cost in pending([work])] == [0] * len(work.pending_stages)
    assert not any(text.startswith("judge ") for text in distilbench.simulate([work], "workers=1")[0].basis)
    show_plan(work)
    text = capsys.readouterr().out
    assert "0 judge calls, 20 more are answered from the ledger, judge cost $0.00" in text
    monkeypatch.setattr("judges.ledger.ledger.Ledger.get", lambda ledger, keys: {})
    assert sum(cost.judge_calls for _, _, cost in pending([planned(accept=True)])) == 20
    assert [one.text[:49] for one in planned(accept=True).findings if one.problem] == [
        "20 judge calls are to be made, ask.max_calls allo"
    ]


def test_a_run_is_judged_again_and_nothing_is_asked_twice(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two models, 10 questions, both orders, 2 repeats: 80 calls a judge; fewer where an answer is the baseline's."""
    judges = ["main", "biased={kind: pocket, position_bias: 2.0}"]
    work = distilbench.plan_judge_comparison("given", judges, runs=runs)
    assert len(work.pending_stages) == 6
    # The run asked its judge once, in one order; where both answers are equal, the two orders are one request.
    stored = sum(work.stored_calls.values())
    assert 20 <= stored < 30
    show_plan(work, "judges")
    text = capsys.readouterr().out
    assert "2 judges: " in text and " targets: " not in text
    assert f"{160 - stored} judge calls (" in text and f", {stored} more are answered from the ledger, judge" in text
    found = distilbench.compare_judges("given", judges, replicates=100, runs=runs)
    assert distilbench.plan_judge_comparison("given", judges, runs=runs).pending_stages == []
    (agreement,) = found.select("agreement", on="alpaca_eval")
    assert (agreement.judge, agreement.other, agreement.n) == ("main", "biased", 20)
    assert [share.n for share in found.select("unparsed")] == [80, 80]
    (position,) = found.select("position", judge="biased")
    assert position.low is not None and position.high is not None
    assert position.low <= 2.0 <= position.high
    assert {effect.per for effect in found.select("length")} == {"tanh(words / 10)"}
    assert {score.row for score in found.select("score")} == {"weak", "strong"}
    assert found.reference is not None
    assert found.reference.basis == "the truth"
    assert found.titles["alpaca_eval.wr"] == "AlpacaEval 2 WR (%)"
    assert found.notes[0] == (
        "Values differ from the run's own tables, which ask the judge once per answer, not twice (AlpacaEval 2) and in "
        "one order, not in both (AlpacaEval 2)."
    )
    assert found.asked == {"alpaca_eval": "in both orders twice"}
    # One pass is 20 calls in one order and 40 in both, not the 80 of the comparison.
    assert found.askings == {"one order": 20, "both orders": 40}
    place = runs / "given/eval"
    # The page reads the stored comparison, and knows the judges of the passes by their names.
    assert judges_of(place) is not None
    assert set(judge_names(place, ArtifactStore(runs / "store")).values()) == {"main", "biased"}
    # A judge's run is read as any other, by a plain word: same rows, its own verdicts.
    biased = distilbench.report("eval", "given/biased", runs=runs, min_coverage=0.0)
    assert biased.folder == place / "judges/biased" and (biased.folder / "report/eval.md").is_file()
    scores = {number.row: number.value for number in found.select("score", on="alpaca_eval.wr", judge="biased")}
    frame = biased.frame()
    assert dict(frame[frame["metric"] == "alpaca_eval.wr"].set_index("row")["value"]) == pytest.approx(scores)
    verified = verify(biased.folder)
    assert verified.problems == [] and verified.judgments == 80 and verified.without_reply == 0
    assert explain(biased.folder, "eval", "weak", "alpaca_eval.wr")
    (viewed,) = Library(runs, ["given/biased"]).all().values()
    assert viewed.ledger == runs.absolute() / "ledger.sqlite" and "weak" in viewed.report_page([])
    with pytest.raises(UserError, match="given/biased is a judge's run on the answers of another one"):
        distilbench.compare_judges("given/biased", ["main"], runs=runs)


def test_lost_judgments_of_a_pass_are_made_again_and_lost_answers_have_a_remedy(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    options: dict[str, Any] = {"replicates": 100, "runs": tmp_path / "runs"}
    before = distilbench.compare_judges("given", ["main"], **options)
    work = distilbench.plan_judge_comparison("given", ["main"], runs=tmp_path / "runs")
    (weak, _) = (entrant.judgments["alpaca_eval"] for entrant in work.first.entrants)
    shutil.rmtree(work.store.path(*weak.ref))
    assert distilbench.compare_judges("given", ["main"], **options) == before
    assert work.store.has(weak)
    source = distilbench.load(tmp_path / "runs/given").sources()[0][2]
    # The run's own verdicts are not needed: each judge of the comparison is asked in passes of its own.
    shutil.rmtree(work.store.path(*source.judgments))
    assert distilbench.compare_judges("given", ["main"], **options) == before
    shutil.rmtree(work.store.path(*weak.inputs["answers"]))
    with pytest.raises(UserError, match=r"no finished answer artifact.*Run the recipe again"):
        distilbench.compare_judges("given", ["main"], **options)


@pytest.fixture
def tables(runs: Path, tmp_path: Path) -> Path:
    """The run as a table of scores and as one that compares judges, whose judge cannot be reached."""
    shutil.copytree(runs, tmp_path / "runs")
    record = json.loads((runs / "given/eval/run.json").read_text())
    down = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    for target in ("table1", "table5"):
        (tmp_path / "runs/given" / target).mkdir()
        (tmp_path / "runs/given" / target / "run.json").write_text(marker_text(record))
        record["recipe"]["judges"] = {"down": down}
    return tmp_path / "runs"


def test_a_report_asks_no_judge(tables: Path) -> None:
    with pytest.raises(UserError, match=r"no judges were compared for table5 of .*given: run distilbench reproduce"):
        distilbench.report("table5", "given", runs=tables)
    run = distilbench.report("table5,table1", "given", runs=tables, min_coverage=0.0, html=True)
    assert list(run.problems) == ["table5"]
    assert (run.folder / "report/table1.md").is_file() and (run.folder / "report/report.html").is_file()
    assert repr(run) == "FinishedRun('given', targets=('table5', 'table1'), finished=True)"
    with pytest.raises(UserError, match=r"Runs under .*: given"):
        distilbench.report("table1", runs=tables)


def test_a_judge_that_fails_costs_no_other_table(
    tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = distilbench.load(tables / "given", ["table5", "table1"])
    monkeypatch.setattr("distilbench.workflows.reproduce.execute", lambda *_, **options: finished)
    monkeypatch.setattr(sys, "argv", ["distilbench", "reproduce", "table5,table1", "--min-coverage", "0"])
    with pytest.raises(SystemExit, match="2"):
        main()
    shown = capsys.readouterr()
    assert "Table 1" in shown.out and "(table1.*)" in shown.err
    assert "http://127.0.0.1:9/v1 cannot be reached" in shown.err
    assert (tables / "given/report/table1.md").is_file()


def test_humans_are_the_reference(runs: Path, tmp_path: Path) -> None:
    """Two people of weak's answer to question 1, one to question 2, and one to no question of the run."""
    first, second = (each.id for each in BENCHMARK.questions(AlpacaEvalConfig(limit=LIMIT))[:2])
    votes = [(first, "p", 2), (first, "q", 2), (second, "p", 1), ("none", "p", 1)]
    rows = [{"question": q, "model": "weak", "annotator": p, "preference": v} for q, p, v in votes]
    file = tmp_path / "people.json"
    file.write_text(json.dumps(rows))
    # paths may be text
    found = distilbench.compare_judges(
        "given", ["main"], humans=str(file), out=str(tmp_path), replicates=100, runs=str(runs)
    )
    assert (found.accuracies()["humans"].n, found.accuracies()["humans"].value) == (1, 1.0)
    assert any("1 answer with only one person" in note for note in found.notes)
    lines = (tmp_path / "human-votes.csv").read_text().splitlines()
    assert lines[0] == "benchmark,row,seed,question,turn,annotator,verdict"
    assert len(lines) == 1 + 3  # the vote on no question of the run is left out
    simulated = distilbench.compare_judges(
        "given", ["main"], simulate_humans=4, out=tmp_path, replicates=100, runs=runs
    )
    assert simulated.accuracies()["humans"].n == 20


@pytest.mark.parametrize(
    ("judges", "options", "message"),
    [
        (["nobody"], {}, "unknown judge 'nobody'"),
        (["main"], {"benchmarks": ["mt_bench"]}, "no judged benchmark mt_bench; it has: alpaca_eval"),
        (["main"], {"own_rows": {"x": ["weak"]}}, "no judge 'x' is compared"),
        (["main"], {"own_rows": {"main": ["none"]}}, "no row 'none' is compared; there are: weak"),
        (["main"], {"run": "none"}, "there is no run 'none'"),
        (["new={kind: pocket, seed: 9}"], {"humans": Path("none.json")}, r"none\.json cannot be read"),
        (["priced=gpt-4.1-2025-04-14"], {"max_cost": 0.0}, r"is estimated at \$.*--max-cost allows \$0"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anybody_is_asked(
    runs: Path, judges: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        distilbench.compare_judges(**{"run": "given", "judges": judges, "runs": runs, **options})


def annotations(tmp_path: Path) -> Path:
    rows = [
        {"index": n, "model": m, "baseline": "b", "annotator": j, "preference": 1 + (n + len(m + j)) % 2}
        for n in range(20) for m in ("one", "other") for j in ("x", "yy")
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(rows))
    return tmp_path / "a.json"


def test_annotations_are_compared_without_torch(tmp_path: Path) -> None:
    annotations(tmp_path)
    code = (
        "import sys; from distilbench.cli import main\n"
        "sys.argv = ['distilbench', 'compare-judges', '--annotations', 'a.json', '--replicates', '100']\n"
        "try: main()\nexcept SystemExit as left: assert not left.code, left.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Agreement of every two judges" in done.stdout
    assert (tmp_path / "runs/judges-a/judges.md").is_file()


def test_a_judge_called_as_the_people_are_is_refused(tmp_path: Path) -> None:
    """Their line in the tables would be its own."""
    file = annotations(tmp_path)
    other = tmp_path / "b.json"
    other.write_text(file.read_text().replace('"yy"', '"humans"'))
    with pytest.raises(UserError, match="a judge is called 'humans'"):
        distilbench.compare_annotations([str(other)], humans=str(file), runs=str(tmp_path))


def test_judges_are_split_at_commas_outside_of_braces() -> None:
    assert split_judges("a, b={kind: pocket, noise: 1},c,a") == ["a", "b={kind: pocket, noise: 1}", "c"]
    assert own_rows(["main=dpo,kd"]) == {"main": ["dpo", "kd"]}
    with pytest.raises(UserError, match="must be JUDGE=ROW,ROW"):
        own_rows(["main"])


@pytest.mark.parametrize(
    ("text", "name", "entry"),
    [
        ("main", "main", {"kind": "pocket"}),
        ("mine=main", "mine", {"kind": "pocket"}),
        ("openai:gpt-4o", "gpt-4o", {"kind": "openai", "model": "gpt-4o"}),
        ("transformers:org/judge", "judge", {"kind": "transformers", "path": "org/judge"}),
        ("pocket:teacher", "pocket-teacher", {"kind": "transformers", "path": "pocket:teacher"}),
        ("llama@http://h/v1", "llama", {"kind": "openai", "model": "llama", "base_url": "http://h/v1"}),
    ],
)
def test_judges_from_a_few_words(text: str, name: str, entry: dict[str, str]) -> None:
    assert judge_entries([text], RUN, REGISTRY) == {name: entry}


def test_two_judges_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two judges are called 'pocket'"):
        judge_entries(["{kind: pocket}", "{kind: pocket, noise: 2.0}"], RUN, REGISTRY)
