"""Training stages in several processes: the shipped configurations as accelerate reads them, and two CPU processes."""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilbench.workers import set_up_worker
from harness.contracts.model import Checkpoint
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.records import write_records
from harness.stages.kind import StageContext
from harness.stages.kinds import train
from harness.training.launch import CONFIGURATIONS, command, launch_configuration
from harness.training.options import Training, TrainOptions
from harness.training.stored_signals import reference_logps
from tests.tiny import tiny_checkpoint, tiny_groups

EXPECTED = {
    "cpu": {"multi_gpu": True, "use_cpu": True, "num_processes": 2},
    "ddp": {"multi_gpu": True, "num_processes": 8},
    "fsdp2": {"use_fsdp": True, "fsdp_version": "2", "fsdp_reshard_after_forward": "true"},
    "zero2": {"use_deepspeed": True, "zero_stage": 2},
    "zero3": {"use_deepspeed": True, "zero_stage": 3, "zero3_save_16bit_model": "true"},
}


def test_five_configurations_ship() -> None:
    assert list(CONFIGURATIONS) == list(EXPECTED)
    with pytest.raises(ValueError, match="'fdsp' is neither accelerate's file nor one of cpu, ddp, fsdp2"):
        launch_configuration("fdsp")


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_plans_each_configuration(name: str) -> None:
    """The arguments that ``accelerate launch`` works with, after its own reading and checking of the file."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    line = command(name, None, "harness.stages.train_worker", "folder")
    assert line[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(line[3:]))
    for option, value in EXPECTED[name].items():
        assert str(getattr(args, option)).lower() == str(value).lower(), option
    assert args.module and args.training_script == "harness.stages.train_worker"
    if name == "fsdp2":
        environment = prepare_multi_gpu_env(args)
        assert environment["ACCELERATE_USE_FSDP"] == "true" and environment["FSDP_VERSION"] == "2"
        assert environment["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
    counted, _, _ = _validate_launch_command(
        launch_command_parser().parse_args(command(name, 3, "harness.stages.train_worker")[3:])
    )
    assert counted.num_processes == 3


def make_stage(place: Path, method: str, hidden: int = 16, **options: Any) -> tuple[Stage, StageContext]:
    """A training stage over 13 prompts in two epochs, with its inputs in a store."""
    setup = functools.partial(set_up_worker, (), place / "store")
    registry, store = setup()
    groups = tiny_groups(13)
    prompts, samples = Stage("prompts", {}), Stage("reward", {})
    for stage, file, records in (
        (prompts, "prompts.jsonl", [group.prompt for group in groups]),
        (samples, "groups.jsonl", groups),
    ):
        store.write(stage, lambda folder, file=file, records=records: write_records(folder / file, records) or {})
    student = tiny_checkpoint(place / "student", hidden=hidden)
    params: dict[str, Any] = {
        "method": method,
        "config": {},
        "student": "x",
        "seed": 3,
        "max_new_tokens": 5,
        "options": {
            "backend": "ours",
            "epochs": 2,
            "batch_size": 6,
            "learning_rate": 1e-3,
            "max_length": 64,
            **options,
        },
    }
    checkpoint = Checkpoint("s", str(student), None, "x", "x")
    needs = registry.methods[method].needs
    models = {"student": checkpoint}
    if needs.signal == "token":
        params["teacher"] = "x"
        teacher = tiny_checkpoint(place / "teacher", seed=1)
        models["teacher"] = replace(checkpoint, location=str(teacher))
    inputs = {"prompts": prompts.ref, "samples": samples.ref}
    if needs.reference:
        entry = registry.methods[method]
        read = TrainOptions(max_length=params["options"]["max_length"])
        logps = reference_logps(Training(entry, entry.config(), groups, student, read, device="cpu"))
        reference = Stage("reference_logps", {})
        store.write(reference, lambda folder: (folder / "reference.json").write_text(json.dumps(logps)) and {})
        inputs["reference"] = reference.ref
    local = {"device": "cpu", "project": "p", "trust_remote_code": False, "models": models, "train": {"micro_batch": 2}}
    stage = Stage("train", params, inputs, local=local)
    return stage, StageContext(registry, store, place / "ledger", place / "out", lambda *_: None, setup)


def test_training_knows_the_device_of_the_recipe(tmp_path: Path) -> None:
    stage, work = make_stage(tmp_path, "pad-ppd")
    assert train.training(replace(stage, local={**stage.local, "device": "cuda:1"}), work).device == "cuda:1"


def test_a_warm_up_that_takes_every_step_is_a_failure(tmp_path: Path) -> None:
    """One step, whose rate is 0: the table would show the untrained student as the method's."""
    stage, work = make_stage(tmp_path, "best-of-n", batch_size=16, epochs=1)
    with pytest.raises(UserError, match=r"^row mine: the learning rate was 0 in all 1 steps, .*warmup_ratio=0$"):
        train.run(replace(stage, row="mine"), work)
    train.run(replace(stage, params={**stage.params, "schedule_segment": (0, 2)}), work)
    stage, work = make_stage(tmp_path / "flat", "best-of-n", batch_size=16, epochs=1, warmup_ratio=0.0)
    assert train.run(stage, work)["steps"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch", "method", "options"),
    [
        ("cpu", "kd", {}),
        ("fsdp2", "pad-ppd", {}),
        ("cpu", "minillm", {}),
        ("cpu", "pro", {"lora": {"r": 2}, "gradient_checkpointing": True}),
    ],
)
def test_two_processes_follow_one(launch: str, method: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Steps of 6, 6 and 1 prompts: 3 micro-batches over 2 processes do not go round, and the last step is one prompt.

    Token-mean losses (kd, minillm) are means over both processes' tokens: with a mean of means the curves would part.
    """
    stage, work = make_stage(tmp_path, method, **options)
    alone = train.run(stage, work)
    one = tmp_path / "out" / "model" / "training.jsonl"
    several = replace(stage, local=stage.local | {"launch": launch, "processes": 2})
    seen: list[tuple[int, int]] = []
    together = replace(work, folder=tmp_path / "two", progress=lambda done, total, info: seen.append((done, total)))
    report = train.run(several, together)
    curves = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (one, tmp_path / "two" / "model" / "training.jsonl")
    ]
    assert [len(curve) for curve in curves] == [6, 6]
    for first, second in zip(*curves, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-4)
        assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-3)
        assert second["terms"].keys() == first["terms"].keys()
        assert second["learning_rate"] == first["learning_rate"]
    assert len({round(record["loss"], 4) for record in curves[0]}) > 3
    assert (report["tokens"], report["steps"]) == (alone["tokens"], 6)
    assert seen == [(step, 6) for step in range(1, 7)]


@pytest.mark.slow
def test_a_users_mistake_in_a_launched_stage_is_said_as_it_is(tmp_path: Path) -> None:
    stage, work = make_stage(tmp_path, "pad-vpd", max_length=2)
    launched = replace(stage, local=stage.local | {"launch": "cpu", "processes": 2})
    with pytest.raises(UserError, match=r"^pad-vpd: none of 13 prompts can be trained on"):
        train.run(launched, work)
