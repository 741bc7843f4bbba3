"""Executor ``processes``: worker processes on this machine, each with GPUs and threads of its own. The parent imports
no torch."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from typing import NamedTuple

from harness.contracts.executor import (
    Executor,
    ExecutorKind,
    MakeRunStage,
    Resources,
    RunStage,
    StageResources,
    StageResult,
)
from harness.contracts.options import NoOptions
from harness.contracts.stage import RunListener, Stage
from harness.hardware import visible_gpus
from harness.text import describe_exit, format_count

log = logging.getLogger(__name__)

GIB = 1 << 30
PARENTS_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""Ctrl-C and the end of a terminal: the parent stops its workers, which hear of them too."""
PATIENCE = 1.0
"""Seconds in which a worker ends after SIGTERM; what ignores it, or is halted, would keep the command for ever."""
FAREWELL = 20.0
"""Seconds in which an idle worker ends by itself: its engines give their memory back."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Binding(NamedTuple):
    """What a worker has from its start to its end: libraries read the number of threads when they are loaded, and CUDA
    its GPUs when it is opened."""

    gpus: tuple[int, ...]
    threads: int


class Worker:
    """One process and the pipe to it. A pipe of its own, because whoever dies while it writes damages nothing else."""

    def __init__(self, binding: Binding, environment: Mapping[str, str], make_run_stage: MakeRunStage) -> None:
        # Not fork: a child of a process with threads may inherit a lock that nobody will release.
        context = multiprocessing.get_context("spawn")
        self.binding = binding
        self.stage: Stage | None = None
        self.last_kind = ""
        self.pipe, its_pipe = context.Pipe()
        self.process = context.Process(target=start_worker, args=(make_run_stage, its_pipe, os.getpid()))
        with interrupts_blocked(), variables(environment):
            self.process.start()
        its_pipe.close()

    def send(self, stage: Stage) -> bool:
        """Whether it lived to get it."""
        try:
            self.pipe.send(stage)
        except OSError:
            return False
        self.stage, self.last_kind = stage, stage.kind
        return True

    def hear(self, listener: RunListener) -> StageResult | str | None:
        """The result of its stage, how it died, or ``None``: it still runs."""
        # Asked first: what it sent before it died is read below.
        code = self.process.exitcode
        try:
            while self.pipe.poll():
                message = self.pipe.recv()
                if isinstance(message, StageResult):
                    self.stage = None
                    return message
                label, done, total, info = message
                if total:
                    listener.on_progress(label, done, total, info)
                else:
                    listener.on_start(label)
        except (EOFError, OSError):  # in the middle of a message too
            self.process.join()
            code = self.process.exitcode
        return None if code is None else describe_exit(code)

    def end(self, patience: float = FAREWELL) -> None:
        """Without its pipe an idle worker ends by itself."""
        self.pipe.close()
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class WorkerPool(Executor):
    """Stages with GPUs and stages without wait in lines of their own, first come, first served: a stage that needs
    several GPUs gets those that become free, and none of the other line waits for it.

    A stage whose worker died is run again. Where memory ran out, it is run when nothing else does."""

    def __init__(self, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener) -> None:
        self.resources, self.make_run_stage, self.listener = resources, make_run_stage, listener
        self.lines = {True: deque[tuple[int, Stage]](), False: deque[tuple[int, Stage]]()}
        """By whether they need GPUs: stages with the number of their arrival."""
        self.arrivals = 0
        self.suspects: deque[Stage] = deque()
        self.is_serial = False  # whether what runs is a suspect
        self.deaths: Counter[str] = Counter()
        self.refused: list[StageResult] = []
        self.workers: list[Worker] = []
        """The one that was used last is last."""
        # Python waits for its child processes at its end, also where nobody has shut the pool down.
        self._end = weakref.finalize(self, stop, self.workers)

    @property
    def running(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.stage is not None]

    @property
    def is_busy(self) -> bool:
        return bool(self.lines[True] or self.lines[False] or self.suspects or self.refused or self.running)

    def submit(self, stage: Stage) -> None:
        gpus, granted = self.resources.of(stage).gpus, len(self.resources.gpus)
        if gpus > granted:
            text = f"it needs {format_count(gpus, 'GPU')}, and compute.gpus grants {granted}: name more there"
            self.refused.append(StageResult(stage, 0.0, text))
            return
        self.arrivals += 1
        self.lines[gpus > 0].append((self.arrivals, stage))
        self._fill()

    def results(self, timeout: float | None = None) -> list[StageResult]:
        """``timeout``: seconds, after which there may be none."""
        while True:
            self._fill()
            results, self.refused = self.refused, []
            busy_workers = self.running
            handles = [handle for worker in busy_workers for handle in (worker.pipe, worker.process.sentinel)]
            ready = set(wait_for_any(handles, 0 if results else timeout))
            if not ready:
                return results
            for worker in busy_workers:
                if worker.pipe in ready or worker.process.sentinel in ready:
                    end = worker.hear(self.listener)
                    results += [end] if isinstance(end, StageResult) else []
                    results += self._bury(worker, end) if isinstance(end, str) else []
            if results:
                return results

    def _bury(self, worker: Worker, reason: str) -> list[StageResult]:
        """The stage of a worker that died is run again, or has failed."""
        stage = worker.stage
        self.workers.remove(worker)
        worker.end()
        if stage is None:
            return []
        self.deaths[stage.key] += 1
        count = self.deaths[stage.key]
        if count > self.resources.of(stage).retries:
            return [StageResult(stage, 0.0, death_message(reason, count, self.is_serial))]
        is_alone = "memory" in reason
        when = "when nothing else runs" if is_alone else "at once"
        log.warning("the worker process of %r died (%s). It is run again, %s", stage.label, reason, when)
        if is_alone:
            self.suspects.append(stage)
        else:
            self.lines[self.resources.of(stage).gpus > 0].appendleft((0, stage))
        return []

    def _fill(self) -> None:
        while (stage := self._next()) is not None:
            needs = self.resources.of(stage)
            while not self._worker(stage, needs).send(stage):  # it died while it was idle
                self.workers.pop().end()

    def _next(self) -> Stage | None:
        """The next stage for which there is room, taken out of its line."""
        busy_workers = self.running
        self.is_serial = bool(self.suspects) or (self.is_serial and bool(busy_workers))
        if self.is_serial:
            return self.suspects.popleft() if not busy_workers else None
        memory_waits = False
        # Where one waits for memory, none that came later takes it away.
        for line in sorted(filter(None, self.lines.values()), key=lambda line: line[0][0]):
            needs = self.resources.of(line[0][1])
            has_memory = needs.memory_gib is None or (not memory_waits and self._has_memory(needs.memory_gib))
            memory_waits = memory_waits or not has_memory
            alike = sum(bool(worker.binding.gpus) == bool(needs.gpus) for worker in busy_workers)
            has_place = needs.gpus <= len(self._free_gpus()) if needs.gpus else alike < self.resources.workers
            if has_memory and has_place:
                return line.popleft()[1]
        return None

    def _has_memory(self, gib: float) -> bool:
        """What needs more than there is runs alone."""
        import psutil

        needs = [self.resources.of(worker.stage).memory_gib or 0.0 for worker in self.running if worker.stage]
        return not any(needs) or sum(needs) + gib <= psutil.virtual_memory().total / GIB

    def _free_gpus(self) -> list[int]:
        used_gpus = {gpu for worker in self.running for gpu in worker.binding.gpus}
        return [gpu for gpu in self.resources.gpus if gpu not in used_gpus]

    def _worker(self, stage: Stage, needs: StageResources) -> Worker:
        """An idle one with what the stage needs, or a new one. It is the last of ``workers`` now."""
        idle_workers = [worker for worker in self.workers if worker.stage is None]
        able_workers = [
            worker
            for worker in idle_workers
            if len(worker.binding.gpus) == needs.gpus and worker.binding.threads == needs.threads
        ]
        if able_workers:
            # Engines of the last stage may serve another of its kind; else the one that was used last.
            worker = max(reversed(able_workers), key=lambda worker: worker.last_kind == stage.kind)
            self.workers.remove(worker)
        else:
            taken_gpus = {gpu for worker in idle_workers for gpu in worker.binding.gpus}
            # Idle workers keep memory of their GPUs: those of none come first.
            gpus = tuple(sorted(sorted(self._free_gpus(), key=lambda gpu: gpu in taken_gpus)[: needs.gpus]))
            self._make_room(gpus, idle_workers)
            binding = Binding(gpus, needs.threads)
            worker = Worker(binding, worker_environment(binding, self.resources), self.make_run_stage)
        self.workers.append(worker)
        return worker

    def _make_room(self, gpus: tuple[int, ...], idle_workers: Sequence[Worker]) -> None:
        """End idle workers on these GPUs; for a worker without GPUs the oldest of those beyond ``workers``."""
        in_the_way = [worker for worker in idle_workers if set(gpus) & set(worker.binding.gpus)]
        if not gpus:
            count = sum(not worker.binding.gpus for worker in self.workers) - self.resources.workers + 1
            in_the_way = [worker for worker in idle_workers if not worker.binding.gpus][: max(0, count)]
        for worker in in_the_way:
            self.workers.remove(worker)
            worker.end()

    def shutdown(self, abort: bool) -> None:
        if abort:
            stop(self.workers)
        while self.workers:
            self.workers.pop().end()


def stop(workers: list[Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    end = time.monotonic() + PATIENCE
    while workers:
        workers.pop().end(max(0.0, end - time.monotonic()))


def worker_environment(binding: Binding, resources: Resources) -> dict[str, str]:
    """Variables of a worker, besides ours."""
    # Fast tokenizers start threads of their own, and warn about each process that is made afterwards.
    values = {**dict.fromkeys(THREAD_VARIABLES, str(binding.threads)), "TOKENIZERS_PARALLELISM": "false"}
    if resources.gpus:
        names = visible_gpus()
        words = [names[gpu] if gpu < len(names) else str(gpu) for gpu in binding.gpus]
        values["CUDA_VISIBLE_DEVICES"] = ",".join(words)
        if "CUDA_VISIBLE_DEVICES" not in os.environ:
            values["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as the system counts them, not the fastest first
    return values


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """The environment of a process that is started meanwhile: it must have them before it imports anything."""
    previous = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def death_message(reason: str, count: int, was_alone: bool) -> str:
    remedy = (
        "If memory ran out, run the same command again with a smaller train.micro_batch or compute.batch_tokens."
        if "memory" in reason
        else "A library or a plug-in ended it: what it wrote, if anything, stands above."
    )
    times = {1: "", 2: " twice"}.get(count, f" {count} times")
    alone = ", the last time with no other stage beside it" if was_alone else ""
    return f"its worker process died{times}{alone} ({reason}). Everything finished is kept. {remedy}"


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Signals of a terminal kept back for the moment in which a process is started, and delivered right after."""
    # They reach a whole process group, and a worker that is hit before it has set itself up would print a traceback. A
    # process that is started while the signal is blocked has it blocked too.
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


WorkerMessage = StageResult | tuple[str, int, int, str]
"""A result; or label, done, total, info, where a total of 0 says that the stage begins."""


def start_worker(make_run_stage: MakeRunStage, pipe: Connection[WorkerMessage, Stage], parent: int) -> None:
    """Runs the stages that come out of the pipe until it is closed.

    ``parent``: its process id, which only it knows: a worker that asks for its own may be an orphan already."""
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    run_stage, error, lock = None, "", threading.Lock()

    def send(message: WorkerMessage) -> None:
        try:
            with lock:  # judges' replies come from several threads
                pipe.send(message)
        except OSError:  # the parent is gone
            os._exit(1)

    try:
        run_stage = make_run_stage()
    except Exception:  # noqa: BLE001, of a plug-in, say: without an answer each stage would kill two workers
        error = traceback.format_exc()
    while True:
        try:
            stage = pipe.recv()
        except (EOFError, OSError):  # its end is closed; a parent that was killed resets the connection
            return
        send((stage.label, 0, 0, ""))
        send(outcome(run_stage, stage, send) if run_stage else StageResult(stage, 0.0, error))


def outcome(run_stage: RunStage, stage: Stage, send: Callable[[WorkerMessage], None]) -> StageResult:
    """What it raises is its error, a plug-in's ``sys.exit()`` too: it must not end us."""
    try:
        return run_stage(stage, lambda done, total, info: send((stage.label, done, total, info)))
    except BaseException:  # noqa: BLE001
        return StageResult(stage, 0.0, traceback.format_exc())


def _leave_with(parent: int) -> None:
    """A parent that was killed outright cannot stop its workers; they notice within a second."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


class ProcessesKind(ExecutorKind[NoOptions]):
    name = "processes"
    summary = "worker processes on this machine (compute.workers, compute.threads, compute.gpus)"
    config = NoOptions

    def check(self, config: NoOptions, resources: Resources, stages: Sequence[Stage]) -> Iterable[str]:
        return check_here(resources, stages)

    def start(
        self, config: NoOptions, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener
    ) -> WorkerPool:
        return WorkerPool(resources, make_run_stage, listener)


def check_here(resources: Resources, stages: Sequence[Stage]) -> Iterator[str]:
    """Whether this machine has the GPUs, and the stages get what they need."""
    count = len(visible_gpus())
    absent_gpus = [gpu for gpu in resources.gpus if gpu >= count]
    if absent_gpus:
        yield (
            f"compute.gpus: this machine shows {format_count(count, 'CUDA device')}, counted from 0, so there is "
            f"no {', '.join(map(str, absent_gpus))}; name those that are there (`distilbench doctor`)"
        )
    for kind, gpus in dict.fromkeys((stage.kind, resources.of(stage).gpus) for stage in stages):
        if gpus > len(resources.gpus):
            yield (
                f"compute.stages.{kind}.gpus = {gpus}: compute.gpus grants {len(resources.gpus)}; name more there, "
                "or ask for fewer"
            )
    if resources.gpus:
        yield from check_engines(resources, stages)


def check_engines(resources: Resources, stages: Sequence[Stage]) -> Iterator[str]:
    """Whether stages have the GPUs of their engines, which see no others."""
    served = [stage for stage in stages if stage.local.get("engine")]
    for kind, taken, gpus in dict.fromkeys((one.kind, one.local["gpus"], resources.of(one).gpus) for one in served):
        if taken > gpus:
            yield (
                f"compute.stages.{kind}.gpus = {gpus}, and the stage's engine takes {taken} (tensor_parallel): leave "
                f"compute.stages.{kind}.gpus out, or make them equal"
            )


EXECUTOR = ProcessesKind()
