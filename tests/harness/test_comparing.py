"""``compare-judges``: a run's answers judged again through the normal stages, and what is said of mistakes."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distilbench.cli.compare_judges import POCKET_JUDGES, Wanted, compare_judges, judge_again, table5
from distilbench.cli.judge_specs import judge_entries, judge_of, split
from distilbench.plugins import load_registry
from distilbench.workflows.compared import compared_again, keep_options
from distilbench.workflows.report import judges_of
from harness.errors import UserError
from harness.pocket.world import graded_answer
from harness.records import read_records, write_records
from harness.types import Answer
from judges.benchmarks.alpaca_eval.benchmark import BENCHMARK, AlpacaEvalConfig
from judges.kinds.pocket import PocketConfig
from reports.page.widgets import unpack
from results.run.record import Run, RunFamily, read_run
from results.store.store import ArtifactStore
from tests.command import distilbench, environment

REGISTRY = load_registry()
RUN = Run("r", {"judges": {"main": {"kind": "pocket"}}}, "", True, RunFamily("f", "t", "s"), (), (), (), ())
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
    compare_judges(**options, simulate_humans=3, budget=5.0)
    assert "Judges compared: run given" in capsys.readouterr().out
    said = json.loads((place / "runs/given/eval/judges/judges.json").read_text())
    # the page has the same people, budget and resamples
    section = judges_of(place / "runs/given/eval", ArtifactStore(place / "runs/store"))
    assert section is not None
    assert unpack(section.data["comparison"]) == said
    assert any("3 annotators simulated" in note for note in said["notes"])
    sources = json.loads((place / "runs/given/eval/judges/sources.json").read_text())
    assert sources["options"] == {"budget": 5.0, "replicates": 100, "simulated": 3, "humans": None}
    (part,) = said["benchmarks"]
    (pair,) = part["agreements"]
    assert (pair["a"], pair["b"], pair["n"]) == ("main", "biased", 2 * LIMIT)
    position = next(effect for effect in part["effects"]["biased"] if effect["name"] == "position")
    assert position["interval"][0] <= 2.0 <= position["interval"][1]
    length = next(effect for effect in part["effects"]["biased"] if effect["name"] == "length")
    assert (length["per"], said["judges"]["biased"]["length_words"]) == ("tanh(words / 10)", 10.0)  # as it is stated
    assert part["reliability"]["main"]["calls"] == 80
    assert said["calls"] == 20  # one pass as the run itself asked: one order, once
    run = place / "runs/given/eval"
    assert (
        json.loads((run / "judges/sources.json").read_text())["teacher_model"]
        == read_run(run / "run.json").family.teacher
    )
    assert set(said["metrics"][0]["rankings"]["main"]["values"]) == {"weak", "strong"}
    assert said["judges"]["main"]["seconds"] is None  # part of it was in the ledger
    assert said["judges"]["biased"]["seconds"] > 0
    assert "humans" in said["humans"]
    assert said["names"] == {"alpaca_eval": "AlpacaEval 2", "alpaca_eval.lc": "AlpacaEval 2 LC (%)",
                             "alpaca_eval.wr": "AlpacaEval 2 WR (%)"}  # fmt: skip
    assert any("AlpacaEval 2: order both, there seeded, repeats 2, there 1" in note for note in said["notes"])
    assert (place / "runs/given/eval/judges/table5.csv").is_file()
    compare_judges(**options, plan_only=True)
    again = capsys.readouterr().err
    assert again.splitlines() == ["main: all verdicts are stored", "biased: all verdicts are stored"]


def test_what_people_said_is_kept_for_the_page(place: Path) -> None:
    """Two people of each answer of weak to question 1 and one of question 2. The file goes; their votes stay. Then a
    comparison without people, and nothing of them is left."""
    folder, store = place / "runs/given/eval", ArtifactStore(place / "runs/store")
    first, second = (each.id for each in BENCHMARK.questions(AlpacaEvalConfig(limit=LIMIT))[:2])
    votes = [(first, "p", 2), (first, "q", 2), (second, "p", 1), ("none", "p", 1)]
    rows = [{"question": q, "model": "weak", "annotator": p, "preference": v} for q, p, v in votes]
    file = place / "people.json"
    file.write_text(json.dumps(rows))
    judge_again(folder, store, Wanted(("main",), humans=file))
    keep_options(folder, store, humans=file, replicates=120)
    file.unlink()
    again = compared_again(folder, store)
    assert again is not None
    assert (again.humans["humans"].items, again.humans["humans"].value) == (1, 1.0)
    assert any("1 annotation of no answer that is compared here; 1 answer with one person" in n for n in again.notes)
    (folder / "judges/humans.csv").write_text("nothing")
    with pytest.raises(UserError, match=r"humans\.csv cannot be read"):
        compared_again(folder, store)
    keep_options(folder, store, replicates=120)
    plain = compared_again(folder, store)
    assert plain is not None
    assert plain.humans == {}
    assert not (folder / "judges/humans.csv").exists()


def test_table5_on_pocket_needs_no_people(place: Path) -> None:
    """Judges of rising noise, simulated people: every judge is measured, the noisiest agrees least."""
    found = table5(place / "runs/given/eval", ArtifactStore(place / "runs/store"))
    assert set(found.humans) == {"humans", "noise-0.5", "noise-2", "noise-4", "noise-8"}
    assert found.humans["noise-8"].value < found.humans["noise-0.5"].value
    assert any("simulated from the truth" in note for note in found.notes)
    # each has its own draws: judges of one seed would err together
    kinds = [PocketConfig(**judge_entry.config) for judge_entry in judge_entries(
        [f"{name}={spec}" for name, spec in POCKET_JUDGES.items()], RUN, REGISTRY).values()]  # fmt: skip
    assert len({each.seed for each in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judges": "nobody"}, "unknown judge 'nobody'"),
        ({"benchmarks": "mt_bench"}, "no judged benchmark mt_bench"),
        ({"own": ["main"]}, "must be JUDGE=ROW,ROW"),
        ({"judges": "main", "own": ["x=weak"]}, "no judge of this name"),
        ({"judges": "main", "own": ["main=nosuchrow"]}, "no row 'nosuchrow' is compared; there are: weak, strong"),
        ({"run": "none"}, "no such run under"),
        ({"judges": "main", "humans": Path("x.json"), "simulate_humans": 4}, "give one of them"),
        ({"judges": "new={kind: pocket, seed: 9}", "humans": Path("none.json")}, r"none\.json cannot be read"),
        ({"judges": "humans={kind: pocket, seed: 9}"}, "a judge is called 'humans'"),
        ({"judges": "small=llama@http://h/v1,main", "max_cost": 5.0}, "no price is known of small: give .*price_in: 0"),
        ({"judges": "priced=gpt-4.1-2025-04-14", "max_cost": 0.0}, r"is estimated at \$.*--max-cost allows \$0"),
    ],
)
def test_mistakes_are_one_message(place: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compare_judges(**{"run": "given", "runs": place / "runs", "replicates": 100, **options})


@pytest.mark.parametrize("options", [{"humans": Path("people.json")}, {"simulate_humans": 3}])
def test_people_who_fit_nothing_are_found_before_anybody_is_asked(
    place: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """People of another run's answers, or simulated ones where the truth is not known: no judge is asked."""
    monkeypatch.chdir(place)
    Path("people.json").write_text(json.dumps([{"question": "q", "model": "m", "annotator": "p", "preference": 1}]))
    monkeypatch.setattr("reports.judge_comparison.answer_features.truth", lambda *_: float("nan"))
    monkeypatch.setattr("distilbench.workflows.rejudging.execute", lambda *_: pytest.fail("a judge was asked"))
    with pytest.raises(UserError, match=r"annotates no answer that is compared here|only where the truth is known"):
        compare_judges(run="given", runs=place / "runs", judges="new={kind: pocket, seed: 9}", **options)


def test_the_price_that_is_asked_for_is_enough(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The judge in the message, as it stands there, can be planned with --max-cost."""
    options: dict[str, Any] = {"run": "given", "runs": place / "runs", "max_cost": 5.0, "plan_only": True}
    with pytest.raises(UserError) as said:
        compare_judges(judges="small=llama@http://h/v1", **options)
    (shown,) = re.findall(r'--judges "([^"]+)"', str(said.value))
    assert shown == "small={kind: openai, model: llama, base_url: http://h/v1, price_in: 0, price_out: 0}"
    compare_judges(judges=shown, **options)
    assert "($0.00)" in capsys.readouterr().err


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    rows = [
        {"index": n, "model": m, "annotator": j, "preference": 1 + (n + len(m + j)) % 2}
        for n in range(6) for m in ("one", "other") for j in ("x", "yy")
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(rows))
    return tmp_path / "a.json"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"run": "pocket"}, "^--run: only for the answers of a run"),
        ({"benchmarks": "mt_bench", "repeats": 2}, "^--benchmarks, --repeats: only"),
        ({"max_cost": 0.0, "plugins": ["p.py"]}, "^--max-cost, --plugin: only"),
        ({"simulate_humans": 3}, "^--simulate-humans: only"),
        ({"own": ["x=nobody"]}, "no row 'nobody' is compared; there are: one, other"),
    ],
)
def test_what_annotations_have_no_use_for_is_refused(annotated: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compare_judges(annotations=[annotated], runs=annotated.parent, **options)


def test_annotations_can_be_planned(annotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare_judges(annotations=[annotated], runs=annotated.parent, plan_only=True)
    assert capsys.readouterr().err.splitlines() == [
        f"{name}: 12 annotations of 12 answers, nothing to ask" for name in ("x", "yy")
    ]
    assert list(annotated.parent.iterdir()) == [annotated]


def test_a_judge_called_as_the_people_are_is_refused(annotated: Path) -> None:
    """Their line in the tables would be its own."""
    file = annotated.with_name("b.json")
    file.write_text(annotated.read_text().replace('"yy"', '"humans"'))
    with pytest.raises(UserError, match="a judge is called 'humans'"):
        compare_judges(annotations=[file], humans=annotated, runs=annotated.parent)


def test_annotations_are_compared_without_torch(tmp_path: Path) -> None:
    rows = [
        {"index": n, "model": m, "baseline": "b", "annotator": j, "preference": 1 + (n + len(m + j)) % 2}
        for n in range(20) for m in ("one", "other") for j in ("x", "yy")
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(rows))
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
