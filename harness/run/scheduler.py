"""Runs a plan: every stage that is not in the store, as soon as its inputs are, in worker processes.

The parent imports no torch: it schedules, listens, and survives its workers. A stage that fails does not stop the
stages that do not need it; the same command again does what is left. Workers hold a fixed number of threads, because
results differ between thread counts.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from harness.contracts.registry import Registry
from harness.contracts.stage import Stage, Store
from harness.errors import UserError
from harness.plan.plan import Plan
from harness.recipe.sections import Compute

log = logging.getLogger(__name__)

Setup = Callable[[], tuple[Registry, Store]]
"""Makes registry and store inside a worker; must be picklable (a ``functools.partial`` of a module's function)."""


class Listener(Protocol):
    """Told what happens, in the parent process (``distilbench/cli/progress.py`` draws it)."""

    def plan(self, total: int, cached: int) -> None:
        """How many stages there are, and how many are in the store already."""

    def started(self, label: str) -> None:
        """A stage began."""

    def advanced(self, label: str, done: int, total: int, info: str) -> None:
        """A stage did ``done`` of ``total`` items."""

    def finished(self, label: str, seconds: float) -> None:
        """A stage is in the store."""

    def failed(self, label: str, error: str) -> None:
        """A stage gave nothing."""


@dataclass
class Outcome:
    """What came of a run."""

    total: int
    cached: int
    ran: list[str] = field(default_factory=list)
    """Keys of the stages computed now."""
    failed: dict[str, str] = field(default_factory=dict)
    """Key of a failed stage to its error."""
    blocked: list[str] = field(default_factory=list)
    """Keys of stages that wait for a failed one."""
    seconds: float = 0.0

    def of(self, plan: Plan) -> Outcome:
        """What came of one plan, where several were run at once. Seconds are those of the whole."""
        keys = set(plan.builder.stages)  # scores over the rows that did not fail among them
        ran, blocked = ([key for key in some if key in keys] for some in (self.ran, self.blocked))
        failed = {key: text for key, text in self.failed.items() if key in keys}
        total = len(plan.stages)
        return Outcome(total, max(0, total - len(ran) - len(failed) - len(blocked)), ran, failed, blocked, self.seconds)


@dataclass(frozen=True)
class Failure:
    """An error that crossed the process border as text: what users must mend, or a traceback of ours."""

    text: str
    ours: bool


def pending(stages: Sequence[Stage], store: Store) -> list[Stage]:
    """Stages that must run: not in the store, and read by something that must run or is asked for (all are)."""
    return [stage for stage in stages if not store.done(stage)]


def run(plan: Plan, store: Store, ledger: Path, setup: Setup, listener: Listener) -> Outcome:
    """Do everything in the plan that is not done. KeyboardInterrupt stops the workers and is raised on."""
    return run_all([plan], store, ledger, setup, listener)


def run_all(plans: Sequence[Plan], store: Store, ledger: Path, setup: Setup, listener: Listener) -> Outcome:
    """Several plans at once, by one set of workers (of the first plan's ``compute``); a shared stage is done once."""
    start = time.monotonic()
    stages = union(plans)
    todo = {stage.key: stage for plan in plans for stage in needed(plan, store)}
    outcome = Outcome(total=len(stages), cached=len(stages) - len(todo))
    listener.plan(outcome.total, outcome.cached)
    for stage in stages:
        if stage.key not in todo:
            log.info("%s: %s %s", "in the store" if store.done(stage) else "not needed", stage.key[:8], stage.label)
    if todo:
        done = {stage.key for stage in stages} - set(todo)
        with Crew(plans[0].recipe.compute, ledger, setup, listener) as crew:
            work([stage for stage in todo.values() if stage.kind != "score"], done, crew, outcome)
            last = {stage.key: stage for plan in plans for stage in scores(plan, store)}
            work(list(last.values()), set(), crew, outcome)
    outcome.seconds = time.monotonic() - start
    return outcome


def union(plans: Sequence[Plan]) -> list[Stage]:
    """Every stage of these plans once, in the plans' order."""
    return list({stage.key: stage for plan in plans for stage in plan.stages}.values())


def needed(plan: Plan, store: Store) -> list[Stage]:
    """The stages to run, in plan order: missing ones that a missing judgment or score needs.

    A stage whose readers are all done is not needed, even when its own artifact is gone (checkpoints are large; someone
    may have deleted them to make room, and a finished table does not need them).
    """
    missing = {stage.key for stage in pending(plan.stages, store)}
    by_key = {stage.key: stage for stage in plan.stages}
    wanted: set[str] = set()
    stack = [stage.key for stage in plan.stages if stage.kind == "score" and stage.key in missing]
    while stack:
        key = stack.pop()
        if key in wanted or key not in missing:
            continue
        wanted.add(key)
        stage = by_key[key]
        stack += [ref.key for ref in stage.waits_for]
    return [stage for stage in plan.stages if stage.key in wanted]


def scores(plan: Plan, store: Store) -> list[Stage]:
    """The score stages over the entrants that were judged: all of them, unless a row failed."""
    stages = []
    for benchmark in plan.recipe.benchmarks:
        present = [e for e in plan.entrants if benchmark in e.judgments and store.done(e.judgments[benchmark])]
        if present:
            stage = plan.score_stage(benchmark, present)
            if not store.done(stage):
                stages.append(stage)
    return stages


def work(stages: Sequence[Stage], done: set[str], crew: Crew, outcome: Outcome) -> None:
    """Run stages as their inputs become ready. ``done``: keys that are in the store already."""
    waiting = {stage.key: stage for stage in stages}
    running: dict[Future[Any], Stage] = {}
    while waiting or running:
        for stage in [stage for stage in waiting.values() if ready(stage, waiting, running, outcome)]:
            running[crew.submit(stage)] = waiting.pop(stage.key)
        if not running:
            outcome.blocked += list(waiting)
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            stage = running.pop(future)
            result = crew.result(future, stage)
            if isinstance(result, Failure):
                outcome.failed[stage.key] = result.text
            else:
                outcome.ran.append(stage.key)


def ready(stage: Stage, waiting: dict[str, Stage], running: dict[Future[Any], Stage], outcome: Outcome) -> bool:
    """Whether nothing that the stage reads or waits for is still to come (or has failed)."""
    needs = {ref.key for ref in stage.waits_for}
    busy = {other.key for other in running.values()}
    return not needs & (set(waiting) | busy | set(outcome.failed))


class Crew:
    """The worker processes, and the thread that hears from them."""

    def __init__(self, compute: Compute, ledger: Path, setup: Setup, listener: Listener) -> None:
        context = multiprocessing.get_context("spawn")
        self.listener = listener
        self.queue = context.SimpleQueue()
        self.deaf = False
        self.pool = ProcessPoolExecutor(
            max_workers=compute.workers,
            mp_context=context,
            initializer=start_worker,
            initargs=(setup, ledger, compute.threads, self.queue, time.time()),
        )
        self.thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.pool.shutdown()
            self.queue.put(None)
            self.thread.join(timeout=5)
            return
        # A worker that is stopped while it sends keeps the queue's lock for good: from here on nothing is sent. The
        # thread that hears is a daemon and ends with the process.
        self.deaf = True
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    def submit(self, stage: Stage) -> Future[Any]:
        """Hand a stage to a worker."""
        with interrupts_held():  # a worker may be started here
            return self.pool.submit(execute, stage)

    def result(self, future: Future[Any], stage: Stage) -> Failure | float:
        """Seconds, or the failure, told to the listener. Raises when a worker vanished or the fault is ours."""
        try:
            result: Failure | float = future.result()
        except BrokenProcessPool as error:
            raise UserError(
                f"a worker process died during {stage.label!r}, most likely because memory ran out. What was finished "
                "is kept; run the same command again with compute.workers=1, or a smaller train.micro_batch or "
                "compute.batch_tokens."
            ) from error
        if isinstance(result, Failure):
            self.listener.failed(stage.label, result.text)
        else:
            self.listener.finished(stage.label, result)
        return result

    def _listen(self) -> None:
        while (message := self.queue.get()) is not None and not self.deaf:
            label, done, total, info = message
            if total:
                self.listener.advanced(label, done, total, info)
            else:
                self.listener.started(label)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C kept back for the moment in which a process is started, and delivered right after.

    It reaches a whole process group, and a worker that is hit before it has set itself up would print a traceback. A
    process that is started while the signal is blocked has it blocked too.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Hands:
    """What a worker process keeps between stages."""

    registry: Registry
    store: Store
    ledger: Path
    queue: Any
    setup: Setup
    started: float


def start_worker(setup: Setup, ledger: Path, threads: int, queue: Any, started: float) -> None:
    """Once per worker: fixed threads, no Ctrl-C of its own, gone when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    _Hands.setup = setup
    _Hands.registry, _Hands.store = setup()
    _Hands.ledger, _Hands.queue, _Hands.started = ledger, queue, started


def _leave_with(parent: int) -> None:
    """A parent that was killed outright cannot stop its workers; they notice within a second."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def execute(stage: Stage) -> Failure | float:
    """In a worker: run one stage into the store; seconds taken, or why it failed."""
    from harness.stages import STAGES
    from harness.stages.context import Work

    start = time.monotonic()
    name = f"{stage.key[:8]} {stage.label}"
    log.info("begin %s", name)
    _Hands.queue.put((stage.label, 0, 0, ""))

    def advance(done: int, total: int, info: str) -> None:
        _Hands.queue.put((stage.label, done, total, info))

    def fill(folder: Path) -> Any:
        hands = _Hands
        work = Work(hands.registry, hands.store, hands.ledger, folder, advance, hands.setup, hands.started)
        return STAGES[stage.kind](stage, work)

    try:
        _Hands.store.write(stage, fill)
    except UserError as error:
        log.info("failed %s after %.1f s", name, time.monotonic() - start)
        return Failure(str(error), ours=False)
    except Exception:  # noqa: BLE001, whatever it is: one stage must not take the others with it
        log.info("failed %s after %.1f s", name, time.monotonic() - start)
        return Failure(traceback.format_exc(), ours=True)
    seconds = time.monotonic() - start
    log.info("end %s: %.1f s", name, seconds)
    return seconds
