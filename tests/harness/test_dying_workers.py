"""A worker process that dies. In a file of its own, because every new worker imports it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness.contracts.executor import Resources, RunStage, StageResult
from harness.contracts.stage import RunListener, Stage
from harness.run.processes import EXECUTOR, describe_exit


def dying(folder: Path) -> RunStage:
    """Stages named "dies" take their worker along at every try, those named "once" at the first."""

    def run_stage(stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
        mark = folder / stage.row
        if stage.row == "dies" or (stage.row.startswith("once") and not mark.exists()):
            mark.touch()
            os._exit(137)
        time.sleep(0.05)
        return StageResult(stage, 0.0)

    return run_stage


def test_a_dying_worker_takes_nothing_but_its_own_stage(tmp_path: Path) -> None:
    resources = Resources(workers=2, threads=1)
    rows = ["a", "dies", "once", "b"]
    with EXECUTOR.start(EXECUTOR.config(), resources, partial(dying, tmp_path), RunListener()) as executor:
        for row in rows:
            executor.submit(Stage("prompts", {}, row=row))
        results: list[StageResult] = []
        while len(results) < len(rows):
            results += executor.results()
    errors = {result.stage.row: result.error for result in results}
    assert sorted(errors) == sorted(rows)
    assert [row for row, error in errors.items() if error] == ["dies"]
    assert "exit code 137, SIGKILL, most likely because memory ran out" in str(errors["dies"])
    assert "train.micro_batch" in str(errors["dies"])


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-9, "signal 9, SIGKILL, most likely because memory ran out"),
        (-11, "signal 11, SIGSEGV"),
        (3, "exit code 3"),
        (255, "exit code 255"),
    ],
)
def test_how_a_worker_ended(code: int, text: str) -> None:
    assert describe_exit(code) == text
