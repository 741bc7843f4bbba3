"""The contract of an executor: what runs the stages of a plan. Artifacts travel through the shared store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, Protocol, Self

from pydantic import Field

from harness.contracts.engine import EngineHost
from harness.contracts.options import C, NoOptions, Positive, options
from harness.contracts.stage import RunListener, Stage


@dataclass(frozen=True)
class StageResult:
    """How a stage ended: with ``error``, or with its artifact in the store."""

    stage: Stage
    seconds: float
    error: str | None = None
    """What to fix, or a traceback: text, because not every exception survives the border of a process."""
    elsewhere: bool = False
    """Another command made it in the meantime."""


RunStage = Callable[[Stage, Callable[[int, int, str], None]], StageResult]
"""Runs one stage into the store, calling its second argument with (done, total, info). Never raises an Exception."""


@dataclass(frozen=True)
class Copies:
    """Artifacts are copied from and to ``url``, an fsspec place, because machines share no file system."""

    url: str
    folder: Path | None = None
    """Folder of this machine's copies; ``None``: the driver's own store."""


class MakeRunStage(Protocol):
    """Picklable; called once in each worker, which may be another process or another machine with the same store."""

    def __call__(self, engines: EngineHost | None = None, copies: Copies | None = None) -> RunStage:
        """``engines``: who starts the servers that stages ask; ``None``: the worker itself (``LocalEngines``).
        ``copies``: how artifacts travel; ``None``: the store is shared."""


@options
class StageOptions:
    """What each stage of a kind gets: ``compute.stages.KIND`` in a recipe."""

    gpus: Annotated[int, Field(ge=0, le=1024)] | None = None
    """GPUs; ``null``: one where the kind runs a model and the executor has GPUs, else none."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads; ``null``: ``compute.threads``."""
    memory_gib: Positive | None = None
    """Memory reserved for it: stages that together need more than there is do not run at once. ``null``: not
    counted."""
    retries: Annotated[int, Field(ge=0, le=100)] = 1
    """How often it is run again if its process, job or machine dies. A stage that ends with an error is not."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The executor's own options for this kind of stage (``slurm``: partition, time and the like)."""


class StageResources(NamedTuple):
    """What one stage gets; ``retries``: after its process, job or machine died."""

    gpus: int
    threads: int
    memory_gib: float | None
    retries: int


@dataclass(frozen=True)
class Resources:
    """What ``compute`` in the recipe grants. CPU threads per stage are fixed: sums differ between thread counts."""

    workers: int
    """Stages without a GPU that run at once; stages with GPUs are limited by these."""
    threads: int
    gpus: tuple[int, ...] = ()
    """GPUs of this machine, counted within ``CUDA_VISIBLE_DEVICES`` if that is set."""
    stages: Mapping[str, StageOptions] = field(default_factory=dict)
    """By kind of stage; those that are not named get the defaults."""
    model_kinds: frozenset[str] = frozenset()
    """Kinds of stages that run a model."""
    cluster_gpus: bool = False
    """Set by an executor that finds GPUs elsewhere."""
    folder: Path | None = None
    """Folder of the runs, with the store and the ledger."""

    def of(self, stage: Stage) -> StageResources:
        """What this stage gets."""
        wish = self.stages.get(stage.kind, StageOptions())
        gpus = wish.gpus
        if gpus is None:
            # An answer of a server or a file names no model.
            runs_model = stage.kind in self.model_kinds and "models" in stage.local
            # Of a backend with a server, and of a checkpoint that judges: what that takes.
            gpus = stage.local.get("gpus", int(runs_model)) if self.gpus or self.cluster_gpus else 0
        return StageResources(gpus, wish.threads or self.threads, wish.memory_gib, wish.retries)


class Executor(ABC):
    """Runs stages until it is shut down. Used from one thread, as a context manager."""

    @abstractmethod
    def submit(self, stage: Stage) -> None:
        """Accept a stage whose inputs are in the store. Retries come before a result is reported."""

    @abstractmethod
    def results(self) -> Sequence[StageResult]:
        """Wait for stages that have ended, each reported once. Raises UserError where the executor broke down."""

    @abstractmethod
    def shutdown(self, abort: bool) -> None:
        """End all workers and servers. ``abort``: stop what runs, since the command was stopped or broke down."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.shutdown(abort=kind is not None)


class ExecutorKind(ABC, Generic[C]):
    """An entry of EXECUTORS (``docs/add-an-executor.md``). ``C``: its options, ``compute.executor_options``."""

    name: str
    summary: str
    config: type[C]
    stage_config: type[Any] = NoOptions
    """Options that differ between kinds of stages: ``compute.stages.KIND.options``."""
    this_machine: bool = True
    """Whether stages run here: a plan then checks this machine's memory, device and backends."""

    queues: bool = False
    """Whether a stage may wait until other users' jobs have ended. A simulation plays machines of one's own."""

    def concurrency(self, workers: int) -> int:
        """How many stages without a GPU run at once, where the recipe says ``workers``."""
        return workers

    def check(self, config: C, resources: Resources, stages: Sequence[Stage]) -> Iterable[str]:
        """What of this cannot be had (``stages``: those to run), as clauses with the remedy. Nothing is started."""
        return ()

    @abstractmethod
    def start(self, config: C, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener) -> Executor:
        """An executor whose workers run stages with what ``make_run_stage`` makes in each. It calls
        ``listener.on_start`` and ``listener.on_progress``; the scheduler calls the rest."""
