"""Executor ``processes``: a pool of worker processes on this machine. The parent imports no torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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
from harness.errors import UserError


class WorkerPool(Executor):
    def __init__(self, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener) -> None:
        # Not fork: a child of a process with threads (this one has) may inherit a lock that nobody will release.
        context = multiprocessing.get_context("spawn")
        self.listener = listener
        self.queue: SimpleQueue[WorkerMessage | None] = context.SimpleQueue()
        self.is_aborted = False
        self.running: dict[Future[StageResult], Stage] = {}
        self.pool = ProcessPoolExecutor(
            max_workers=resources.workers,
            mp_context=context,
            initializer=start_worker,
            initargs=(make_run_stage, resources.threads, self.queue),
        )
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def submit(self, stage: Stage) -> None:
        with interrupts_blocked():  # a worker may be started here
            self.running[self.pool.submit(run_in_worker, stage)] = stage

    def results(self) -> list[StageResult]:
        futures = {future: self.running.pop(future) for future in wait(self.running, return_when=FIRST_COMPLETED).done}
        results = []
        for future, stage in futures.items():
            try:
                results.append(future.result())
            except BrokenProcessPool as error:
                raise UserError(
                    f"a worker process died during {stage.label!r}, most likely because memory ran out. What was "
                    "finished is kept; run the same command again with compute.workers=1, or a smaller "
                    "train.micro_batch or compute.batch_tokens."
                ) from error
        return results

    def shutdown(self, abort: bool) -> None:
        if not abort:
            self.pool.shutdown()
            self.queue.put(None)
            self.thread.join(timeout=5)
            return
        # A worker that is stopped while it sends keeps the queue's lock for good, so nothing is sent from here on, not
        # even the end of the queue. The listening thread is a daemon and ends with the process.
        self.is_aborted = True
        # Private, and the only way to them: a pool has no public list of its workers.
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    def _listen(self) -> None:
        while (message := self.queue.get()) is not None and not self.is_aborted:
            label, done, total, info = message
            if total:
                self.listener.on_progress(label, done, total, info)
            else:
                self.listener.on_start(label)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Ctrl-C kept back for the moment in which a process is started, and delivered right after."""
    # It reaches a whole process group, and a worker that is hit before it has set itself up would print a traceback. A
    # process that is started while the signal is blocked has it blocked too.
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


WorkerMessage = tuple[str, int, int, str]
"""Label, done, total, info; a total of 0 says that the stage begins."""
WORKER: tuple[RunStage, SimpleQueue[WorkerMessage | None]]  # set in worker processes


def start_worker(make_run_stage: MakeRunStage, threads: int, queue: SimpleQueue[WorkerMessage | None]) -> None:
    global WORKER  # noqa: PLW0603, the only way by which a pool's initializer can hand something to its tasks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    # Fast tokenizers start threads of their own, and warn about each process that is made afterwards.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    WORKER = make_run_stage(), queue


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

    def start(
        self, config: NoOptions, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener
    ) -> WorkerPool:
        return WorkerPool(resources, make_run_stage, listener)


EXECUTOR = ProcessesKind()
