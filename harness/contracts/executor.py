"""The contract of an executor: what runs the stages of a plan. Artifacts travel through the shared store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self

from harness.contracts.engine import EngineHost
from harness.contracts.options import C
from harness.contracts.stage import RunListener, Stage


@dataclass(frozen=True)
class StageResult:
    stage: Stage
    seconds: float
    error: str | None = None
    """What to fix, or a traceback: text, because not every exception survives the border of a process."""
    elsewhere: bool = False
    """Another command made it in the meantime."""


RunStage = Callable[[Stage, Callable[[int, int, str], None]], StageResult]
"""Runs one stage into the store, calling its second argument with (done, total, info). Never raises an Exception."""


class MakeRunStage(Protocol):
    """Picklable; called once in each worker, which may be another process or another machine with the same store."""

    def __call__(self, engines: EngineHost | None = None) -> RunStage:
        """``engines``: who starts the servers that stages ask; ``None``: the worker itself (``LocalEngines``)."""


@dataclass(frozen=True)
class Resources:
    """What ``compute`` in the recipe grants. CPU threads per stage are fixed: sums differ between thread counts."""

    workers: int
    threads: int


class Executor(ABC):
    """Runs stages until it is shut down. Used from one thread, as a context manager."""

    @abstractmethod
    def submit(self, stage: Stage) -> None:
        """Accept a stage whose inputs are in the store. Retries come before a result is reported."""

    @abstractmethod
    def results(self) -> Sequence[StageResult]:
        """Wait for stages that have ended, each reported once. Raises UserError where the executor broke down."""

    @abstractmethod
    def shutdown(self, abort: bool) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.shutdown(abort=kind is not None)


class ExecutorKind(ABC, Generic[C]):
    """An entry of EXECUTORS. ``C``: its options, ``compute.executor_options`` in a recipe."""

    name: str
    summary: str
    config: type[C]
    this_machine: bool = True

    def concurrency(self, workers: int) -> int:
        return workers

    @abstractmethod
    def start(self, config: C, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener) -> Executor:
        """It calls ``listener.on_start`` and ``listener.on_progress``; the scheduler calls the rest."""
