"""A worker process that dies. In a file of its own, because every new worker imports it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import psutil
import pytest

from harness.contracts.executor import MakeRunStage, Resources, RunStage, StageResult
from harness.contracts.stage import RunListener, Stage
from harness.run.processes import EXECUTOR
from harness.text import describe_exit


def dying(folder: Path) -> RunStage:
    """Stages named "dies" take their worker along at every try, those named "once" at the first."""

    def run_stage(stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
        mark = folder / stage.row
        if stage.row == "dies" or (stage.row.startswith("once") and not mark.exists()):
            mark.touch()
            os._exit(137)
        if stage.row == "ends":
            sys.exit(0)
        if stage.row == "hangs":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            mark.touch()
            time.sleep(1000)
        time.sleep(0.05)
        return StageResult(stage, 0.0)

    return run_stage


def unready() -> RunStage:
    raise ImportError("no plug-in of this name in a worker")


def run(rows: Sequence[str], make_run_stage: MakeRunStage, workers: int = 2) -> dict[str, str | None]:
    """Row to its error."""
    with EXECUTOR.start(EXECUTOR.config(), Resources(workers, threads=1), make_run_stage, RunListener()) as executor:
        for row in rows:
            executor.submit(Stage("prompts", {}, row=row))
        results: list[StageResult] = []
        while len(results) < len(rows):
            results += executor.results()
    assert sorted(result.stage.row for result in results) == sorted(rows)
    return {result.stage.row: result.error for result in results}


def test_a_dying_worker_takes_nothing_but_its_own_stage(tmp_path: Path) -> None:
    assert run(["once", "a"], partial(dying, tmp_path)) == {"once": None, "a": None}
    errors = run(["a", "dies", "ends", "b"], partial(dying, tmp_path))
    assert {row for row, error in errors.items() if error} == {"dies", "ends"}
    assert "exit code 137, SIGKILL, most likely because memory ran out" in str(errors["dies"])
    assert "train.micro_batch" in str(errors["dies"])
    assert "sys.exit(0)" in str(errors["ends"]) and "SystemExit: 0" in str(errors["ends"])


def test_a_worker_that_cannot_start_says_why_in_each_stage() -> None:
    errors = run(["a", "b"], unready, workers=1)
    assert all("ImportError: no plug-in of this name" in str(error) for error in errors.values())


def test_a_worker_whose_parent_died_before_it_was_ready_ends() -> None:
    code = "from harness.run.processes import *; start_worker(lambda: None, multiprocessing.Pipe()[0], 1)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 1


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError, BrokenPipeError, OSError])
def test_a_worker_whose_parent_is_gone_ends_without_a_word(error: type[Exception]) -> None:
    """A parent that was killed with something unread resets the connection."""
    code = f"""
import os
from harness.run.processes import start_worker

class GonePipe:
    def recv(self):
        raise {error.__name__}

start_worker(lambda: None, GonePipe(), os.getppid())
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=30, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_worker_that_dies_between_two_stages_is_replaced(tmp_path: Path) -> None:
    with EXECUTOR.start(EXECUTOR.config(), Resources(1, 1), partial(dying, tmp_path), RunListener()) as executor:
        for row in ("a", "b"):
            executor.submit(Stage("prompts", {}, row=row))
            assert [(result.stage.row, result.error) for result in executor.results()] == [(row, None)]
            (worker,) = psutil.Process().children()[-1:]
            worker.kill()
            psutil.wait_procs([worker], timeout=10)
            time.sleep(0.2)  # until the pool knows it


def test_a_worker_that_does_not_hear_is_killed(tmp_path: Path) -> None:
    """After Ctrl-C the command would wait for it without end."""
    executor = EXECUTOR.start(EXECUTOR.config(), Resources(1, 1), partial(dying, tmp_path), RunListener())
    executor.submit(Stage("prompts", {}, row="hangs"))
    while not (tmp_path / "hangs").exists():
        time.sleep(0.01)
    (worker,) = psutil.Process().children()[-1:]
    executor.shutdown(abort=True)
    assert psutil.wait_procs([worker], timeout=10)[1] == []


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
