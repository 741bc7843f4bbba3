"""Checks of an executor against its contract (``harness/contracts/executor.py``), with stages that compute nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from harness.checks.finding import Checks, options_check, require
from harness.contracts.executor import Executor, ExecutorKind, Resources, RunListener, StageResult
from harness.contracts.stage import Stage

C = TypeVar("C")

RESOURCES: Final = Resources(workers=2, threads=1)
SLEEP: Final = 600.0
"""Seconds that a stage sleeps in the check of an abort: nobody waits for it."""


def run_stage(folder: Path, stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
    """With its first argument bound, a ``RunStage`` that leaves a file for each stage."""
    progress(1, 2, "half")
    if stage.params.get("fails"):
        return StageResult(stage, 0.0, "it was asked to fail")
    end = time.monotonic() + stage.params.get("sleep", 0.0)
    # A thread cannot be stopped: it ends with the check's folder, or the process could not exit after an abort.
    while time.monotonic() < end and folder.is_dir():
        time.sleep(0.05)
    if not folder.is_dir():
        return StageResult(stage, 0.0, "the check is over")
    (folder / stage.key).touch()
    return StageResult(stage, 0.1)


class Notes(RunListener):
    def __init__(self) -> None:
        self.began: list[str] = []
        self.halves: list[str] = []

    def started(self, label: str) -> None:
        self.began.append(label)

    def advanced(self, label: str, done: int, total: int, info: str) -> None:
        self.halves.append(label)


@contextmanager
def started(kind: ExecutorKind[C], config: C, listener: RunListener) -> Iterator[tuple[Executor, Path]]:
    """An executor, and the folder in which its stages leave their files."""
    # What an aborted process still writes may stand in the way of the folder's end.
    with tempfile.TemporaryDirectory(prefix="distilbench-check-", ignore_cleanup_errors=True) as folder:
        # Picklable, because a worker may be another process: called there, it gives ``run_stage`` with its folder.
        yield kind.start(config, RESOURCES, partial(partial, run_stage, Path(folder)), listener), Path(folder)


def check_results(kind: ExecutorKind[C], config: C) -> str:
    """Each stage is run, and reported once; a failure is a result, and the stages after it run all the same."""
    stages = [Stage("check", {"number": number, "fails": number == 1}, row=str(number)) for number in range(5)]
    notes = Notes()
    results: list[StageResult] = []
    with started(kind, config, notes) as (executor, folder), executor:
        for stage in stages:
            executor.submit(stage)
        while len(results) < len(stages):
            more = executor.results()
            require(more, "results() came back without a result")
            results += more
        files = {file.name for file in folder.iterdir()}
    require(sorted(result.stage.key for result in results) == sorted(stage.key for stage in stages),
            "each submitted stage must be reported once")  # fmt: skip
    errors = {result.stage.row: result.error for result in results if result.error is not None}
    require(errors == {"1": "it was asked to fail"}, f"the second stage alone fails; reported were {errors}")
    require(files == {stage.key for stage in stages if stage.row != "1"}, "not every stage was run")
    labels = sorted(stage.label for stage in stages)
    require(sorted(notes.began) == labels, "the listener must hear once that each stage began")
    require(sorted(notes.halves) == labels, "the listener must hear of each stage's progress")
    return f"{len(stages)} stages, one of which failed"


def check_concurrency(kind: ExecutorKind[C], config: C) -> str:
    """``concurrency`` is what memory and disk are reckoned with."""
    counts = [kind.concurrency(workers) for workers in (1, 4)]
    require(counts[0] == 1, f"with one worker there is one stage at a time, not {counts[0]}")
    require(1 <= counts[1] <= 4, f"with 4 workers concurrency() is {counts[1]}")
    return f"{counts[1]} of 4 workers run at once"


def check_abort(kind: ExecutorKind[C], config: C) -> str:
    """Ctrl-C while a stage waits or runs: the executor ends at once."""
    begin = time.monotonic()
    with started(kind, config, Notes()) as (executor, _):
        executor.submit(Stage("check", {"sleep": SLEEP}))
        executor.shutdown(abort=True)
    seconds = time.monotonic() - begin
    require(seconds < SLEEP / 10, f"it took {seconds:.0f} s")
    return f"ended after {seconds:.1f} s"


CHECKS: Checks = {
    "options": options_check(),
    "results": check_results,
    "concurrency": check_concurrency,
    "abort": check_abort,
}
