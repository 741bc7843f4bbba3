"""Training prompts that contain test questions: refused before anything runs unless the recipe allows it, and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distilbench.cli.plan import show_plan
from distilbench.plugins import load_registry
from distilbench.workflows.execute import execute, notes, refuse
from distilbench.workflows.plan import WorkPlan
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.records import write_records
from harness.stages import STAGES
from harness.stages.kind import PlanIssue, StageContext
from harness.stages.kinds.contamination import overlap
from harness.types import Prompt, Question
from tests.workflows.test_plan_rows import job

ALLOW = "prompts.allow_overlap=true"


def leaking(tmp_path: Path, *changes: str) -> WorkPlan:
    """A plan whose two prompts are one test question of MT-Bench (pocket's own questions) and one that is none."""
    plain = job(tmp_path / "other", "pad-ppd")
    question = plain.first.graph.benchmarks["mt_bench"].questions[0].turns[0]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in (question, "xyzzy")), encoding="utf-8")
    small = (f"prompts={{source: jsonl, path: {file}, n: 2}}", "train.batch_size=2", "train.micro_batch=1")
    return job(tmp_path / "runs", "pad-ppd", *small, *changes)


def gate(work: WorkPlan) -> Stage:
    (stage,) = [stage for stage in work.first.stages if stage.kind == "contamination"]
    return stage


def run_gate(work: WorkPlan) -> None:
    """The prompts as the first stage would write them, and the overlap stage itself."""
    (first,) = [stage for stage in work.first.stages if stage.kind == "prompts"]
    file = Path(work.first.recipe.prompts.config.path)
    texts = [json.loads(line)["prompt"] for line in file.read_text(encoding="utf-8").splitlines()]
    prompts = [Prompt(text, ({"role": "user", "content": text},)) for text in texts]
    work.store.write(first, lambda folder: {"prompts": write_records(folder / "prompts.jsonl", prompts)})
    hands = (load_registry(), work.store, work.runs / "ledger.sqlite")
    work.store.write(
        gate(work),
        lambda folder: STAGES["contamination"].run(gate(work), StageContext(*hands, folder, lambda *_: None)),
    )


@pytest.mark.parametrize("force", [False, True])
def test_exact_overlap_stops_a_run_and_force_does_not_help(tmp_path: Path, force: bool) -> None:
    work = leaking(tmp_path)
    with pytest.raises(UserError, match=r"mt_bench: 1 exact .*prompts\.allow_overlap=true") as error:
        execute(work, force=force)
    assert "run all the same with --force" not in str(error.value)
    assert not work.record("table1").exists()


def test_the_stage_refuses_exact_overlap_too(tmp_path: Path) -> None:
    work = leaking(tmp_path)
    with pytest.raises(UserError, match=r"contain test questions: \{'mt_bench': 1\} exact .*allow_overlap=true"):
        run_gate(work)
    assert not work.store.has(gate(work))


def test_allowed_overlap_goes_on_and_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = leaking(tmp_path, ALLOW)
    assert not show_plan(work), "nothing stands in the way"
    assert "note: overlap of training prompts with mt_bench: 1 exact and " in capsys.readouterr().out
    assert "prompts.allow_overlap: training prompts may contain test questions" in notes(work.first)
    run_gate(work)
    assert work.store.meta("contamination", gate(work).key)["measurements"]["mt_bench"]["exact"] == 1


def test_force_passes_over_what_can_be_passed_over() -> None:
    full, leak = PlanIssue(True, "disk full"), PlanIssue(True, "leak", forceable=False)
    refuse([], force=False)
    refuse([full], force=True)
    with pytest.raises(UserError, match=r"- disk full\nFix it, or run all the same with --force\."):
        refuse([full], force=False)
    with pytest.raises(UserError, match=r"because of:\n  - leak\nFix it\."):
        refuse([full, leak], force=True)
    with pytest.raises(UserError, match=r"- disk full\n  - leak\nFix it\."):
        refuse([full, leak], force=False)


LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"


def prompt(text: str) -> Prompt:
    return Prompt("p", ({"role": "user", "content": text},))


def test_exact_overlap_ignores_case_and_punctuation() -> None:
    found = overlap(
        [prompt("Name a fruit!")], "b", [Question("q1", ("name a FRUIT",)), Question("q2", ("Name fruit",))]
    )
    assert found.exact == ("q1",)
    assert found.ngram == ()  # four words hold no 13-gram


def test_thirteen_words_in_a_row_are_found_and_twelve_are_not() -> None:
    twelve = LONG.rsplit(" ", 1)[0]
    questions = [Question("q13", (f"Well: {LONG}, and so on.",)), Question("q12", (f"Well: {twelve}, and so on.",))]
    found = overlap([prompt(f"Please read {LONG} aloud")], "b", questions)
    assert found.ngram == ("q13",)
    assert found.exact == ()


def test_follow_up_turns_are_not_compared() -> None:
    found = overlap([prompt("Now sort it.")], "b", [Question("q", ("Name a fruit.", "Now sort it."))])
    assert (found.exact, found.questions) == ((), 1)


def test_assistant_turns_of_prompts_are_not_prompts() -> None:
    history = (
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    )
    found = overlap([Prompt("p", history)], "b", [Question("b", ("b",)), Question("c", ("c",))])
    assert found.exact == ("c",)


def test_an_operator_between_numbers_counts() -> None:
    """Without the operator, 11 - 7 and 11 + 7 are the same three words; a dash between words stays no word."""
    questions = [Question("plus", ("Work out 11 + 7.",)), Question("dash", ("A well-known fruit",))]
    found = overlap([prompt("work out 11 - 7"), prompt("work out 11+7"), prompt("a well known fruit!")], "b", questions)
    assert found.exact == ("plus", "dash")
    assert overlap([prompt("work out 11 - 7")], "b", questions).exact == ()
