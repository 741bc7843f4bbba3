"""Executor ``processes``: a pool of worker processes on this machine. The parent imports no torch."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.queues import SimpleQueue

from harness.contracts.executor import (
    Executor,
    ExecutorKind,
    MakeRunStage,
    Resources,
    RunStage,
    StageResult,
)
from harness.contracts.options import NoOptions
from harness.contracts.stage import RunListener, Stage
from harness.hardware import visible_gpus
from harness.text import describe_exit, format_count

log = logging.getLogger(__name__)

PARENTS_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""Ctrl-C and the end of a terminal: the parent stops its workers, which hear of them too."""
PATIENCE = 1.0
"""Seconds in which a worker ends after SIGTERM; what ignores it, or is halted, would keep the command for ever."""


class WorkerPool(Executor):
    """Survives its workers: the stages that ran when one died are run once more, one at a time, in a new pool. The one
    that dies alone fails with its reason."""

    def __init__(self, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener) -> None:
        self.resources, self.make_run_stage, self.listener = resources, make_run_stage, listener
        self.is_aborted = False
        # Stages wait here and not in the pool: whatever is in the pool when a worker dies is under suspicion.
        self.waiting: deque[Stage] = deque()
        self.suspects: deque[Stage] = deque()
        self.is_serial = False  # whether what runs is a suspect
        self.running: dict[Future[StageResult], Stage] = {}
        self._open()

    def _open(self) -> None:
        # Not fork: a child of a process with threads (this one has) may inherit a lock that nobody will release.
        context = multiprocessing.get_context("spawn")
        with interrupts_blocked():  # Python's tracker of shared resources is started here
            self.queue: SimpleQueue[WorkerMessage | None] = context.SimpleQueue()
        self.pool = ProcessPoolExecutor(
            max_workers=self.resources.workers,
            mp_context=context,
            initializer=start_worker,
            initargs=(self.make_run_stage, self.resources.threads, self.queue, os.getpid()),
        )
        self.thread = threading.Thread(target=self._listen, args=(self.queue,), daemon=True)
        self.thread.start()

    def submit(self, stage: Stage) -> None:
        self.waiting.append(stage)
        self._fill()

    def results(self) -> list[StageResult]:
        while True:
            self._fill()
            done_futures = wait(self.running, return_when=FIRST_COMPLETED).done
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done_futures):
                done_futures = wait(self.running).done  # a pool breaks as a whole
                reason = self._replace()
            stages_by_future = {future: self.running.pop(future) for future in done_futures}
            lost_stages = [
                stage for future, stage in stages_by_future.items() if isinstance(future.exception(), BrokenProcessPool)
            ]
            results = [outcome(future, stage) for future, stage in stages_by_future.items() if stage not in lost_stages]
            if lost_stages and self.is_serial:
                results += [StageResult(stage, 0.0, death_message(reason)) for stage in lost_stages]
            elif lost_stages:
                names = ", ".join(repr(stage.label) for stage in lost_stages)
                log.warning("a worker process died (%s). Once more, one at a time: %s", reason, names)
                self.suspects += lost_stages
            if results:
                return results

    def _fill(self) -> None:
        self.is_serial = bool(self.suspects) or (self.is_serial and bool(self.running))
        if not self.is_serial:
            while self.waiting and len(self.running) < self.resources.workers:
                self._start(self.waiting.popleft())
        elif not self.running:
            self._start(self.suspects.popleft())

    def _start(self, stage: Stage) -> None:
        with interrupts_blocked():  # a worker may be started here
            try:
                future = self.pool.submit(run_in_worker, stage)
            except BrokenProcessPool as error:  # a worker died between two stages
                if self.running:  # these are lost as well, and ``results`` says so
                    future = Future()
                    future.set_exception(error)
                else:
                    self._replace()
                    future = self.pool.submit(run_in_worker, stage)
            self.running[future] = stage

    def _replace(self) -> str:
        """A new pool in the place of the broken one, and how the worker ended that broke it."""
        # Private, and the only way to them: a pool has no public list of its workers.
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown()
        codes = [process.exitcode or 0 for process in processes]
        # The queue is new as well: a worker that dies while it sends keeps the lock of its queue for good. The thread
        # that listens to the old one is a daemon.
        self._open()
        # The pool stops the innocent with SIGTERM.
        return describe_exit(next((code for code in codes if code != -signal.SIGTERM), -signal.SIGTERM))

    def shutdown(self, abort: bool) -> None:
        if not abort:
            self.pool.shutdown()
            self.queue.put(None)
            self.thread.join(timeout=5)
            return
        # A worker that is stopped while it sends keeps the queue's lock for good, so nothing is sent from here on, not
        # even the end of the queue. The listening thread is a daemon and ends with the process.
        self.is_aborted = True
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        end = time.monotonic() + PATIENCE
        for process in processes:
            if not wait_for_any([process.sentinel], max(0.0, end - time.monotonic())):
                process.kill()

    def _listen(self, queue: SimpleQueue[WorkerMessage | None]) -> None:
        while (message := queue.get()) is not None and not self.is_aborted:
            label, done, total, info = message
            if total:
                self.listener.on_progress(label, done, total, info)
            else:
                self.listener.on_start(label)


def outcome(future: Future[StageResult], stage: Stage) -> StageResult:
    """A stage answers with its errors, but for what is no ``Exception``: a plug-in's ``sys.exit()`` must not end us."""
    error = future.exception()
    return StageResult(stage, 0.0, "".join(traceback.format_exception(error))) if error else future.result()


def death_message(reason: str) -> str:
    remedy = (
        "If memory ran out, run the same command again with a smaller train.micro_batch or compute.batch_tokens."
        if "memory" in reason
        else "A library or a plug-in ended it: what it wrote, if anything, stands above."
    )
    return (
        f"its worker process died twice, the second time with no other stage beside it ({reason}). Everything "
        f"finished is kept. {remedy}"
    )


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


WorkerMessage = tuple[str, int, int, str]
"""Label, done, total, info; a total of 0 says that the stage begins."""
WORKER: tuple[RunStage, SimpleQueue[WorkerMessage | None]]  # set in worker processes


def start_worker(
    make_run_stage: MakeRunStage, threads: int, queue: SimpleQueue[WorkerMessage | None], parent: int
) -> None:
    """``parent``: its process id, which only it knows: a worker that asks for its own may be an orphan already."""
    global WORKER  # noqa: PLW0603, the only way by which a pool's initializer can hand something to its tasks
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    # Fast tokenizers start threads of their own, and warn about each process that is made afterwards.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    try:
        run_stage = make_run_stage()
    except Exception:  # noqa: BLE001, of a plug-in, say: without an answer each stage would kill two workers
        error = traceback.format_exc()

        def run_stage(stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
            return StageResult(stage, 0.0, error)

    WORKER = run_stage, queue


def _leave_with(parent: int) -> None:
    """A parent that was killed outright cannot stop its workers; they notice within a second."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def run_in_worker(stage: Stage) -> StageResult:
    run_stage, queue = WORKER
    queue.put((stage.label, 0, 0, ""))
    return run_stage(stage, lambda done, total, info: queue.put((stage.label, done, total, info)))


class ProcessesKind(ExecutorKind[NoOptions]):
    name = "processes"
    summary = "worker processes on this machine (compute.workers, compute.threads)"
    config = NoOptions

    def check(self, config: NoOptions, resources: Resources, stages: Sequence[Stage]) -> Iterable[str]:
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

    def start(
        self, config: NoOptions, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener
    ) -> WorkerPool:
        return WorkerPool(resources, make_run_stage, listener)


EXECUTOR = ProcessesKind()
