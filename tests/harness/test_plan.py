"""The plan: what is shared, what a change touches, what cannot be had, what it costs. No model is loaded here."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from distilbench.plugins import load_registry
from harness.contracts.stage import Cost, Stage
from harness.errors import UserError
from harness.models.checkpoint import token_ids
from harness.plan.plan import Plan, make_plan
from harness.recipe.recipe import load_recipe
from tests.tiny import empty_weights

METHODS = ("kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd")
ROWS = ("teacher", "student", *METHODS)


def checkpoint(folder: Path, words: tuple[str, ...]) -> str:
    """The files of a checkpoint that a plan reads: nothing in it can be loaded."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
    (folder / "model.safetensors").write_bytes(empty_weights(folder.name))
    return str(folder)


@pytest.fixture
def family(tmp_path: Path) -> list[str]:
    teacher, student = checkpoint(tmp_path / "teacher", ("a", "b")), checkpoint(tmp_path / "student", ("a", "b"))
    return [f"family.teacher={teacher}", f"family.student={student}"]


def plan(*overrides: str, rows: tuple[str, ...] = ROWS) -> Plan:
    registry = load_registry()
    return make_plan(load_recipe("pocket", list(overrides), registry), registry, rows)


def kinds(stages: tuple[Stage, ...]) -> Counter[str]:
    return Counter(stage.kind for stage in stages)


def changed(before: Plan, after: Plan) -> set[str]:
    """Labels of the stages that the second plan has to compute anew."""
    known = {stage.key for stage in before.stages}
    return {stage.label for stage in after.stages if stage.key not in known}


def test_eight_methods_share_samples_and_rewards(family: list[str]) -> None:
    """The student's samples and the teacher's answers (2), the reference of DPO; 10 rows x 4 benchmarks."""
    expected = {"prompts": 1, "contamination": 1, "sample": 2, "reward": 1, "reference_logps": 1, "train": 8}
    expected |= {"answer": 40, "judge": 40, "score": 4}
    assert kinds(plan("seeds=[0]", *family).stages) == expected


def test_inputs_come_before_their_readers(family: list[str]) -> None:
    work = plan("seeds=[0, 1]", *family)
    place = {stage.key: number for number, stage in enumerate(work.stages)}
    for stage in work.stages:
        for _, needed in stage.waits_for:
            assert place[needed] < place[stage.key], stage.label
    assert {stage.kind for stage in work.stages[-4:]} == {"score"}


def test_another_judge_judges_again_and_trains_nothing(family: list[str]) -> None:
    before = plan("seeds=[0]", *family)
    labels = changed(before, plan("seeds=[0]", "judges.main.noise=0.123", *family))
    assert labels
    assert all(label.startswith(("judge ", "score ")) for label in labels)
    assert not any("gsm8k" in label for label in labels)  # graded by rule: no judge to change


def test_beta_of_one_method_retrains_that_one_only(family: list[str]) -> None:
    labels = changed(plan("seeds=[0]", *family), plan("seeds=[0]", "methods.dpo.beta=0.07", *family))
    assert "train dpo seed 0" in labels
    assert all("dpo" in label or label.startswith("score ") for label in labels)
    assert not any(label.startswith("reference_logps") for label in labels)  # beta does not decide the rows


@pytest.mark.parametrize(
    "override",
    [
        "compute.workers=7",
        "compute.batch_tokens=99",
        "compute.launch=ddp",
        "train.micro_batch=1",
        "train.packing=never",
        "train.checkpoint_minutes=null",
        "ask.concurrency=3",
        "title=x",
    ],
)
def test_how_it_is_done_changes_no_key(family: list[str], override: str) -> None:
    assert changed(plan("seeds=[0]", *family), plan("seeds=[0]", override, *family)) == set()


@pytest.mark.parametrize("override", ["train.warmup_ratio=0.2", "train.lora={r: 4}"])
def test_what_decides_the_students_changes_their_keys(family: list[str], override: str) -> None:
    """But not the reference's, which is the student without adapters."""
    labels = changed(plan("seeds=[0]", *family), plan("seeds=[0]", override, *family))
    assert {f"train {name} seed 0" for name in METHODS} <= labels
    others = ("sample", "reward", "reference_logps", "answer alpaca_eval student")
    assert not any(label.startswith(others) for label in labels)


def test_another_checkpoint_in_the_same_place_is_another_model(family: list[str], tmp_path: Path) -> None:
    before = plan("seeds=[0]", *family)
    (tmp_path / "student" / "model.safetensors").write_bytes(empty_weights("retrained"))
    labels = changed(before, plan("seeds=[0]", *family))
    assert "sample student seed 0" in labels and "answer gsm8k student seed 0" in labels
    assert not any("teacher seed" in label for label in labels if label.startswith(("answer", "sample teacher")))


def test_the_same_checkpoint_elsewhere_is_the_same_model(family: list[str], tmp_path: Path) -> None:
    before = plan("seeds=[0]", *family)
    (tmp_path / "student").rename(tmp_path / "moved")
    after = plan("seeds=[0]", family[0], f"family.student={tmp_path / 'moved'}")
    assert changed(before, after) == set()


def test_unigram_vocabularies_are_read_too(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    plain = {"model": {"vocab": [["a", -1.0], ["b", -2.0]]}, "added_tokens": [{"content": "<s>", "id": 2}]}
    file.write_text(json.dumps(plain))
    assert token_ids(file) == {"a": 0, "b": 1, "<s>": 2}


def test_sampling_and_training_wait_for_the_overlap_check(family: list[str]) -> None:
    work = plan("seeds=[0]", *family)
    (gate,) = [stage.ref for stage in work.stages if stage.kind == "contamination"]
    assert all(gate in stage.gates for stage in work.stages if stage.kind in {"sample", "train", "reference_logps"})


def test_a_row_that_the_recipe_has_not_is_an_error(family: list[str]) -> None:
    with pytest.raises(UserError, match=r"simop.*Did you mean 'simpo'"):
        plan("seeds=[0]", *family, rows=("student", "simop"))


def test_the_price_counts_samples_and_judge_calls(family: list[str]) -> None:
    """One row, one seed: 200 AlpacaEval calls, 2 games x 120, 2 turns x 48; 200 + 120 + 96 + 150 answers."""
    work = plan("seeds=[0]", *family, rows=("student",))
    price = Cost.total(work.costs(work.stages))
    assert price.judge_calls == 200 + 240 + 96
    assert price.responses == 200 + 120 + 96 + 150
    assert price.dollars == 0.0


def test_rows_that_trl_trains_have_no_reference_stage(family: list[str]) -> None:
    """TRL computes the reference log-probabilities itself; a stage for them would be paid and never read."""
    rows, trl = ("student", "dpo"), "methods.dpo.train.backend=trl"
    ours, theirs = plan("seeds=[0]", *family, rows=rows), plan("seeds=[0]", trl, *family, rows=rows)
    assert (kinds(ours.stages)["reference_logps"], kinds(theirs.stages)["reference_logps"]) == (1, 0)
    (stage,) = [stage for stage in theirs.stages if stage.kind == "train"]
    assert set(stage.inputs) == {"prompts", "samples"}
