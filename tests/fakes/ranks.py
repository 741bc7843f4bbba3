"""Training in two processes without the minute that ``accelerate launch`` takes: forked where torch is loaded.

    python -m tests.fakes.ranks LAUNCH CASES FOLDER

trains each case (JSON: name, method, options, kill_at) alone and in two processes with what accelerate's launcher puts
into the environment for LAUNCH, and leaves in FOLDER/NAME the artifacts ``one`` and ``two``, and ``RANK.json`` of each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from torch.distributed.tensor import DTensor

from harness.contracts.stage import Stage
from harness.stages.kind import StageContext
from harness.stages.kinds.train import training
from harness.training import fit, forward, shortcuts
from harness.training.launch import command
from tests.harness.test_launching import make_stage

WORLD = 2
LIMIT = 120.0
"""Seconds for the processes of a case."""


def launch_environment(name: str) -> dict[str, str]:
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(command(name, WORLD, "x")[3:]))
    if not args.use_deepspeed:
        return dict(prepare_multi_gpu_env(args))
    args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    return dict(prepare_deepspeed_cmd_env(args)[1])


def fork(job: Callable[[], None], environment: Mapping[str, str]) -> int:
    """The process id of a child that runs ``job``."""
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        torch.set_num_threads(1)
        code = 1
        try:
            job()
            code = 0
        finally:  # never back into the parent's code
            if code:
                traceback.print_exc()
            os._exit(code)
    return child


def wait(children: set[int]) -> list[int]:
    """Exit codes, negative for signals. A child that waits for one that is gone is killed."""
    codes, end = [], time.monotonic() + LIMIT
    while children and time.monotonic() < end:
        for child in list(children):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                children.discard(child)
                codes.append(os.waitstatus_to_exitcode(status))
                end = min(end, time.monotonic() + 10.0) if codes[-1] else end
        time.sleep(0.02)
    for child in children:
        os.kill(child, signal.SIGKILL)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return codes


def together(launch: str, job: Callable[[int], None]) -> list[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": str(WORLD), "LOCAL_WORLD_SIZE": str(WORLD), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = launch_environment(launch) | shared
    ranks = [(lambda rank=rank: job(rank), {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(WORLD)]
    return wait({fork(rank_job, environment | own) for rank_job, own in ranks})


def train(stage: Stage, context: StageContext, out: Path, rank: int, kill_at: int | None) -> None:
    """Leave ``out/model`` and ``out/RANK.json``: the report, and the share of the weights that this process holds."""

    scratch, sizes = context.store.scratch(stage), [0]

    def progress(done: int, total: int, logs: Mapping[str, float]) -> None:
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        sizes.append(sum(file.stat().st_size for file in scratch.glob(f"checkpoint-{done - 1}/**/*") if file.is_file()))

    trainer = fit.make_trainer(fit.load_training(training(stage, context)), out / "model", progress, scratch)
    report = fit.run(trainer, out / "model", scratch)
    weights: list[Any] = list(trainer.model.parameters())
    held = sum(local(weight).numel() for weight in weights)
    share = held / sum(getattr(weight, "ds_numel", weight.numel()) for weight in weights)
    found = {**asdict(report), "share": share, "checkpoint_bytes": max(sizes)}
    (out / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")


def local(weight: Any) -> Any:
    """What this process holds of a weight."""
    return weight.to_local() if isinstance(weight, DTensor) else getattr(weight, "ds_tensor", weight)


def run_case(case: Mapping[str, Any], launch: str, place: Path) -> None:
    stage, context = make_stage(place, case["method"], **case["options"])
    for name in ("one", "two"):
        (place / name).mkdir()
    codes = wait({fork(lambda: train(stage, context, place / "one", 0, None), {})})
    shutil.rmtree(context.store.scratch(stage))
    for kill_at in dict.fromkeys([case.get("kill_at"), None]):
        codes += together(launch, lambda rank: train(stage, context, place / "two", rank, kill_at))  # noqa: B023
    (place / "codes.json").write_text(json.dumps(codes), encoding="utf-8")


def main(launch: str, cases: str, folder: str) -> None:
    # Several chunks of the head's logits, as with a real vocabulary, and the head that runs once where it can: of its
    # chunks, two are kept for the backward pass and the others are computed again there.
    forward.CHUNK_NUMBERS = shortcuts.CHUNK_NUMBERS = 400
    shortcuts.KEPT_BYTES = 2 * 400 * 4
    if launch != "zero3":  # which calls the model's own head: one process would round bfloat16 in another order
        forward.FEW_LOGITS = 0
    for case in json.loads(cases):
        place = Path(folder) / case["name"]
        place.mkdir()
        run_case(case, launch, place)


if __name__ == "__main__":
    main(*sys.argv[1:])
