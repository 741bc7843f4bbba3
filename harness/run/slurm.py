"""Executor ``slurm``: stages that run a model are jobs of a Slurm cluster, handed over by submitit, an array for each
kind of stage. The rest is run on the driver's machine, judges among it: their ledger is an SQLite file.

A job writes its artifact into the shared store by itself, and its progress and result into ``slurm/`` beside it. So a
driver that was killed loses nothing: the same command finds what is done, and waits for the jobs that still run.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import traceback
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from harness.contracts.executor import Executor, ExecutorKind, MakeRunStage, Resources, StageResult
from harness.contracts.options import Seconds, options, options_from, require
from harness.contracts.stage import RunListener, Stage
from harness.errors import UserError
from harness.hardware import visible_gpus
from harness.run.processes import THREAD_VARIABLES, WorkerPool, check_engines, check_here, variables
from harness.stages import STAGES
from harness.text import format_count

log = logging.getLogger(__name__)

INSTALL: Final = "pip install 'distilbench[slurm]'"
LOCAL: Final = "local"
LIVE: Final = frozenset({"PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "COMPLETING", "SUSPENDED", "PREEMPTED"})
"""States of a job that will still end: one of an earlier command is waited for."""
PACE: Final = 0.5
"""Seconds between two lines of progress of a job."""
LOCAL_POLL: Final = 0.1
REQUEUED: Final = 144
"""Exit code by which submitit's local jobs ask to be started again."""
LAST_LINES: Final = 20


def _gres(text: str) -> str:
    try:
        text.format(gpus=1)
    except (LookupError, ValueError, AttributeError):
        require(False, "may have the placeholder {gpus} and no other braces: gpu:{gpus}")
    return text


def _kinds(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        require(name in STAGES, f"must be kinds of stages, and {name} is none: {', '.join(STAGES)}")
    return names


Kinds = Annotated[tuple[str, ...], AfterValidator(_kinds)]


@options
class SlurmJobOptions:
    """What a job asks for besides GPUs, threads and memory: in ``compute.executor_options`` for all kinds of stages, in
    ``compute.stages.KIND.options`` for one."""

    partition: str | None = None
    """Slurm's ``--partition``; ``null``: the cluster's default."""
    minutes: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Time limit of a job; ``null``: 1,440. At its end, or when Slurm preempts the job, it is queued again and
    continues where it was."""
    gres: Annotated[str, AfterValidator(_gres)] | None = None
    """How a job asks for its GPUs (``--gres``): ``gpu:{gpus}``, ``gpu:a100:{gpus}``. ``null``: jobs get none. With
    ``cluster: local`` it does nothing."""
    sbatch: dict[str, str | int] = Field(default_factory=dict)
    """Further options of ``sbatch`` by their long names: ``{account: me, qos: high, constraint: nvme}``."""


@options
class SlurmOptions(SlurmJobOptions):
    """How stages become jobs."""

    cluster: Literal["slurm", "local"] = "slurm"
    """``local``: processes of this machine instead of jobs, to try a recipe without Slurm."""
    here: Kinds = (
        "prompts",
        "contamination",
        "split_pool",
        "dataset_pairs",
        "judge",
        "score",
    )
    """Kinds of stages that run on the driver's machine, because they are shorter than a job's wait. Stages that ask a
    server always do."""
    setup: tuple[str, ...] = ()
    """Lines of shell before a job: ``module load cuda``, ``source .venv/bin/activate``."""
    poll_seconds: Seconds = 5.0
    """How often the driver looks for results. It asks Slurm itself, for jobs that died, every ten minutes or sooner."""


@dataclass
class QueuedStage:
    stage: Stage
    handle: Any
    """submitit's; ``None`` while it waits."""
    read_bytes: int = 0
    """Of its progress."""
    is_begun: bool = False


class SlurmExecutor(Executor):
    """At most ``workers`` jobs are in the queue at once."""

    def __init__(
        self, config: SlurmOptions, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener
    ) -> None:
        self.config, self.resources, self.make_run_stage, self.listener = config, resources, make_run_stage, listener
        folder = resources.folder or Path.cwd() / f".distilbench-{uuid.uuid4().hex[:8]}"
        self.is_own_folder = resources.folder is None
        self.folder = folder.absolute() / "slurm"
        for name in ("jobs", "progress"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.waiting: list[Stage] = []
        self.jobs: list[QueuedStage] = []
        self.deaths: Counter[str] = Counter()

    @cached_property
    def pool(self) -> WorkerPool:
        return WorkerPool(self.resources, self.make_run_stage, self.listener)

    def submit(self, stage: Stage) -> None:
        if stage.uses_ledger or stage.kind in self.config.here:
            self.pool.submit(stage)
        else:
            self.waiting.append(stage)

    def results(self) -> list[StageResult]:
        poll = LOCAL_POLL if self.config.cluster == LOCAL else self.config.poll_seconds
        while True:
            self._fill()
            is_busy = "pool" in self.__dict__ and self.pool.is_busy
            found = self.pool.results(poll if self.jobs else None) if is_busy else []
            found += [result for job in list(self.jobs) for result in self._look_after(job)]
            if found:
                return found
            if not is_busy:
                time.sleep(poll)

    def _fill(self) -> None:
        """An array for the stages of each kind that can be queued now."""
        kinds: dict[str, list[Stage]] = defaultdict(list)
        while self.waiting and len(self.jobs) < self.resources.workers:
            stage = self.waiting.pop(0)
            handle = self._find(stage)
            if handle is None:
                kinds[stage.kind].append(stage)
            # It has its place in the queue from now on.
            self.jobs.append(QueuedStage(stage, handle))
        for stages in kinds.values():
            handles = self._hand_over(stages)
            for stage, handle in zip(stages, handles, strict=True):
                next(job for job in self.jobs if job.stage is stage).handle = handle

    def _find(self, stage: Stage) -> Any:
        """The job of an earlier command that still makes this stage, or ``None``."""
        from submitit import SlurmJob

        note = self._note(stage)
        if self.config.cluster == LOCAL or not note.is_file():  # local jobs can be asked by their own driver alone
            return None
        handle = SlurmJob[StageResult](self.folder, note.read_text(encoding="ascii"))
        if handle.state.partition(" ")[0] not in LIVE:
            return None
        log.warning("%s: job %s of an earlier command still runs", stage.label, handle.job_id)
        return handle

    def _hand_over(self, stages: Sequence[Stage]) -> list[Any]:
        """One submission of stages of one kind."""
        executor = self._executor(stages[0])
        calls = [JobCall(self.make_run_stage, stage, self._progress(stage)) for stage in stages]
        for stage in stages:
            self._progress(stage).unlink(missing_ok=True)
        # Slurm hands the environment on, unless the site forbids it: there ``setup`` says the same.
        with variables(thread_variables(self.resources.of(stages[0]).threads)):
            try:
                handles = executor.submit_array(calls) if len(calls) > 1 else [executor.submit(calls[0])]
            except Exception as error:
                raise UserError(
                    f"Slurm does not take {stages[0].kind} jobs: {error}. See compute.executor_options and "
                    f"compute.stages.{stages[0].kind}.options; everything finished is kept."
                ) from error
        for stage, handle in zip(stages, handles, strict=True):
            self._note(stage).write_text(handle.job_id, encoding="ascii")
            log.info("%s is job %s", stage.label, handle.job_id)
        return list(handles)

    def _executor(self, stage: Stage) -> Any:
        """submitit's, with what a stage of this kind asks for."""
        import submitit

        asks = job_options(self.config, self.resources, stage.kind)
        needs = with_gpus(self.resources, asks).of(stage)
        executor = submitit.AutoExecutor(self.folder, cluster=self.config.cluster)
        threads = [f"export {name}={value}" for name, value in thread_variables(needs.threads).items()]
        parameters: dict[str, Any] = {
            "name": f"distilbench-{stage.kind}",
            "timeout_min": asks.minutes or 1440,
            "nodes": 1,
            "tasks_per_node": 1,
            "cpus_per_task": needs.threads,
            "slurm_srun_args": ["--cpus-per-task", str(needs.threads)],  # since Slurm 22.05 it is not handed on
            "mem_gb": needs.memory_gib,
            "slurm_partition": asks.partition,
            "slurm_gres": (asks.gres or "gpu:{gpus}").format(gpus=needs.gpus) if needs.gpus else None,
            "slurm_setup": [*threads, *self.config.setup],
            "slurm_additional_parameters": asks.sbatch or None,
            # Another array of the kind may be in the queue: the driver itself keeps to ``workers``.
            "slurm_array_parallelism": self.resources.workers,
        }
        executor.update_parameters(**{name: value for name, value in parameters.items() if value is not None})
        return executor

    def _look_after(self, job: QueuedStage) -> list[StageResult]:
        """Its progress, and its result where it has ended."""
        is_done = job.handle.done()
        self._read_progress(job)
        if not is_done:
            return []
        self.jobs.remove(job)
        self._note(job.stage).unlink(missing_ok=True)
        try:
            return [job.handle.result()]
        except Exception as error:  # noqa: BLE001, of our code in the job, or submitit's for a job without a result
            reason = f"job {job.handle.job_id} ended as {job.handle.state}"
            lines = str(error).strip().splitlines()[-LAST_LINES:]
        self.deaths[job.stage.key] += 1
        count, retries = self.deaths[job.stage.key], self.resources.of(job.stage).retries
        if count <= retries:
            log.warning("%s: %s. It is run again (%d of %d)", job.stage.label, reason, count, retries)
            self.waiting.insert(0, job.stage)
            return []
        text = (
            f"its job died {format_count(count, 'time')}, the last time: {reason}. Everything finished is kept. Of "
            f"Slurm's reasons, OUT_OF_MEMORY asks for more compute.stages.{job.stage.kind}.memory_gib, TIMEOUT for "
            "more minutes in its options; else give the same command again. The last lines of its log:\n"
        )
        return [StageResult(job.stage, 0.0, text + "\n".join(lines))]

    def _read_progress(self, job: QueuedStage) -> None:
        try:
            with self._progress(job.stage).open("rb") as file:
                file.seek(job.read_bytes)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]  # the last line may not be whole yet
        job.read_bytes += len(whole)
        for line in whole.splitlines():
            done, total, info = json.loads(line)
            if total:
                self.listener.on_progress(job.stage.label, done, total, info)
            elif not job.is_begun:
                job.is_begun = True
                self.listener.on_start(job.stage.label)

    def _note(self, stage: Stage) -> Path:
        return self.folder / "jobs" / stage.key

    def _progress(self, stage: Stage) -> Path:
        return self.folder / "progress" / stage.key

    def shutdown(self, abort: bool) -> None:
        if "pool" in self.__dict__:
            self.pool.shutdown(abort)
        for job in self.jobs:
            if job.handle is not None:
                job.handle.cancel(check=False)
                self._note(job.stage).unlink(missing_ok=True)
        if self.is_own_folder:
            shutil.rmtree(self.folder.parent, ignore_errors=True)


class JobCall:
    """What a job runs; picklable. submitit calls ``checkpoint`` before Slurm ends it, and queues the answer again."""

    def __init__(self, make_run_stage: MakeRunStage, stage: Stage, progress: Path) -> None:
        self.make_run_stage, self.stage, self.progress = make_run_stage, stage, progress
        self.is_requeued = False

    def __call__(self) -> StageResult:
        last_time = 0.0

        def tell(done: int, total: int, info: str) -> None:
            nonlocal last_time
            now = time.monotonic()
            if now - last_time > PACE or not total:
                last_time = now if total else 0.0
                with self.progress.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([done, total, info]) + "\n")

        tell(0, 0, "")
        try:
            result = self.make_run_stage()(self.stage, tell)
        except Exception:  # noqa: BLE001, a plug-in that cannot be imported there: no reason to try again
            result = StageResult(self.stage, 0.0, traceback.format_exc())
        if self.is_requeued:
            # submitit ends the process by an exception, which a stage takes for an error of its own.
            os._exit(REQUEUED)
        return result

    def checkpoint(self) -> Any:
        """Stages go on from their journal or checkpoint: the same call again."""
        from submitit.helpers import DelayedSubmission

        again = JobCall(self.make_run_stage, self.stage, self.progress)
        self.is_requeued = True
        return DelayedSubmission(again)


def thread_variables(threads: int) -> dict[str, str]:
    return {**dict.fromkeys(THREAD_VARIABLES, str(threads)), "TOKENIZERS_PARALLELISM": "false"}


def job_options(config: SlurmOptions, resources: Resources, kind: str) -> SlurmJobOptions:
    """Those of the kind over those of all."""
    wish = resources.stages.get(kind)
    own = options_from(SlurmJobOptions, wish.options if wish else {})
    values = {field.name: getattr(own, field.name) or getattr(config, field.name) for field in fields(SlurmJobOptions)}
    if config.cluster == LOCAL:  # a recipe for Slurm is tried as it is
        values["gres"] = None
    return SlurmJobOptions(**{**values, "sbatch": config.sbatch | own.sbatch})


def with_gpus(resources: Resources, asks: SlurmJobOptions) -> Resources:
    """For jobs of a kind: it has GPUs where it says how to ask for them."""
    return replace(resources, cluster_gpus=asks.gres is not None)


def wanted_gpus(resources: Resources, stage: Stage) -> int:
    """GPUs that the recipe asks for, or a checkpoint that judges, wherever the stage runs."""
    wish = resources.stages.get(stage.kind)
    return int(stage.local.get("gpus", 0)) if wish is None or wish.gpus is None else wish.gpus


def no_gpu_here(resources: Resources, stage: Stage) -> str:
    """Why a stage that asks cannot have its GPUs, with the remedy."""
    count = format_count(wanted_gpus(resources, stage), "GPU")
    text = f"under slurm {stage.kind} stages that ask run on this machine, which has no GPU, and {count} "
    if not stage.local.get("gpus"):
        return f"{text}would be needed (compute.stages.{stage.kind}.gpus): leave that out"
    text += "would be needed for a checkpoint that judges: start a server as a job and name it as the judge, "
    text += "kind: openai with base_url (docs/clusters.md)"
    return text if stage.local.get("engine") else f"{text}, or give the judge device: cpu"


class SlurmKind(ExecutorKind[SlurmOptions]):
    name = "slurm"
    summary = f"jobs of a Slurm cluster, an array for each kind of stage ({INSTALL})"
    config = SlurmOptions
    stage_config = SlurmJobOptions
    this_machine = False
    queues = True

    def check(self, config: SlurmOptions, resources: Resources, stages: Sequence[Stage]) -> Iterable[str]:
        if find_spec("submitit") is None:
            yield f"the executor slurm needs the package submitit: {INSTALL}"
        absent = [command for command in ("sbatch", "srun", "scancel") if not shutil.which(command)]
        if config.cluster != LOCAL and absent:
            yield (
                f"the executor slurm hands jobs over with {', '.join(absent)}, not found on this machine: start the "
                "run on a login node, or set compute.executor_options.cluster: local to try the recipe without Slurm"
            )
        jobs = [stage for stage in stages if not stage.uses_ledger and stage.kind not in config.here]
        for kind in dict.fromkeys(stage.kind for stage in jobs):
            cluster = with_gpus(resources, job_options(config, resources, kind))
            of_kind = [stage for stage in jobs if stage.kind == kind]
            has_gpus = any(cluster.of(stage).gpus for stage in of_kind)
            if has_gpus and config.cluster == LOCAL:
                text = "executor_options.cluster local hands out no GPUs; leave it out, or use `processes`"
                yield f"compute.stages.{kind}.gpus: {text}"
            elif has_gpus and not cluster.cluster_gpus:
                yield f"compute.stages.{kind}.gpus: say how jobs ask for them, executor_options.gres: gpu:{{gpus}}"
            elif cluster.cluster_gpus:
                yield from check_engines(cluster, of_kind)
        here = [stage for stage in stages if stage not in jobs]
        if config.cluster != LOCAL and not visible_gpus():
            lacking = [stage for stage in here if stage.uses_ledger and wanted_gpus(resources, stage)]
            yield from dict.fromkeys(no_gpu_here(resources, stage) for stage in lacking)
            here = [stage for stage in here if stage not in lacking]
        yield from check_here(resources, here)

    def start(
        self, config: SlurmOptions, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener
    ) -> SlurmExecutor:
        for problem in self.check(config, resources, ()):
            raise UserError(f"{problem}.")
        return SlurmExecutor(config, resources, make_run_stage, listener)


EXECUTOR = SlurmKind()
