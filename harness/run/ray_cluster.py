"""What runs in a Ray cluster for executor ``ray``: a supervisor beside the driver, a task per stage, engines."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import pickle
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from harness.contracts.engine import EngineFailure, EngineSpec
from harness.contracts.executor import Copies, RunStage, StageResources, StageResult
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.models.engines.local import LocalEngines
from harness.text import format_count

NAMESPACE: Final = "distilbench"
PATIENCE: Final = 60.0
"""Seconds without a word from a driver, after which it counts as dead."""
POLL: Final = 2.0
"""Seconds that the supervisor keeps a driver waiting for events."""
PACE: Final = 0.5
"""Seconds between two reports of a stage's progress."""
END_SECONDS: Final = 12.0
"""In which an engine's server ends."""
GIB: Final = 2**30
COLOUR: Final = re.compile(r"\x1b\[\d+m")
SAME_VERSION: Final = (
    "A worker could not begin with the stage. Is the same distilbench, with its plug-ins, installed on each machine of "
    "the cluster, and the cluster started anew after a change?"
)
DEATHS: Final = (WorkerCrashedError, NodeDiedError, OutOfMemoryError, LocalRayletDiedError, ObjectLostError)


class Event(NamedTuple):
    """What a driver hears: ``start``, ``progress``, ``log`` or ``end``."""

    name: str
    stage: str
    content: Any = None
    """Of ``progress`` (done, total, info), of ``log`` (level, text), of ``end`` a StageResult."""


@dataclass(frozen=True)
class StageOrder:
    """How a stage is to be run. Plain data: it may be carried out long after the driver that gave it has died."""

    resources: StageResources
    runner: bytes
    """A pickled ``MakeRunStage``."""
    environment: Mapping[str, str]
    """Of its worker processes, from their start on: libraries read numbers of threads when they are loaded."""
    copies: Copies | None = None
    folder: Path | None = None
    token: str = ""
    """Of a shared ``folder``: what the file ``CLUSTER`` in it says."""


CLUSTER: Final = "cluster"


@dataclass
class Job:
    stage: Stage
    order: StageOrder
    drivers: set[str] = field(default_factory=set)
    task: Any = None
    begun: bool = False
    cancelled: bool = False
    since: float = field(default_factory=time.monotonic)
    work: Any = None


@dataclass
class Engine:
    actor: Any
    spec: EngineSpec
    users: set[str] = field(default_factory=set)
    last_use: float = field(default_factory=time.monotonic)
    is_up: bool = False


class Supervisor:
    """A detached actor: owner of all tasks and engines of one folder of runs, whichever commands want them. It ends
    when no driver is left and nothing runs."""

    def __init__(self, name: str, idle_seconds: float) -> None:
        self.name, self.idle_seconds = name, idle_seconds
        self.jobs: dict[str, Job] = {}
        self.events: dict[str, asyncio.Queue[Event]] = {}  # by driver
        self.heard: dict[str, float] = {}
        self.engines: dict[EngineSpec, Engine] = {}
        self.ending: set[asyncio.Task[None]] = set()
        self.watch: asyncio.Task[None] | None = None

    async def hear(self, driver: str) -> list[str]:
        """Of a driver that is alive. Returns the keys of all stages that run."""
        self.heard[driver] = time.monotonic()
        self.events.setdefault(driver, asyncio.Queue())
        self.watch = self.watch or asyncio.create_task(self._watch())
        return list(self.jobs)

    async def submit(self, driver: str, stage: Stage, order: StageOrder) -> None:
        """One that runs already, for whichever driver, is not started again."""
        await self.hear(driver)
        job = self.jobs.get(stage.key)
        if job is None or job.cancelled:
            job = self.jobs[stage.key] = Job(stage, order)
            job.work = asyncio.create_task(self._run(job))
        job.drivers.add(driver)
        if job.begun:
            self.events[driver].put_nowait(Event("start", stage.key))

    async def listen(self, driver: str) -> list[Event]:
        await self.hear(driver)
        queue = self.events[driver]
        try:
            found = [await asyncio.wait_for(queue.get(), POLL)]
        except TimeoutError:
            return []
        while not queue.empty():
            found.append(queue.get_nowait())
        self.heard[driver] = time.monotonic()
        return found

    async def leave(self, driver: str) -> None:
        """The command is over: what runs for nobody else is stopped."""
        self.heard.pop(driver, None)
        self.events.pop(driver, None)
        jobs = [job for job in self.jobs.values() if job.drivers <= {driver}]
        for job in jobs:
            self._cancel(job)
        if jobs:
            await asyncio.wait([job.work for job in jobs], timeout=10)
        for job in self.jobs.values():
            job.drivers.discard(driver)
        if not self.heard:
            await asyncio.gather(*self._end_engines(self.engines.values()))

    # Of workers

    async def tell(self, event: Event) -> None:
        job = self.jobs.get(event.stage)
        if job is not None:
            job.begun = job.begun or event.name == "start"
            for driver in job.drivers & set(self.events):
                self.events[driver].put_nowait(event)

    async def serve(
        self, user: str, spec: EngineSpec, log_file: Path, environment: Mapping[str, str]
    ) -> str | list[str]:
        """The base URL of an engine for ``user`` (a stage) until it is set free; a list with one error otherwise."""
        largest = max((node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
        if spec.gpus > largest > 0:
            wish = format_count(spec.gpus, "GPU")
            return [f"{spec.name} needs {wish} on one machine, and the largest of the cluster has {largest:g}"]
        for _ in range(2):  # its machine may have died
            if spec not in self.engines:
                if not spec.gpus:
                    idle = [engine for engine in self.engines.values() if not engine.users and not engine.spec.gpus]
                    self._end_engines(idle[: max(0, len(idle) - spec.keep + 1)])
                # A server takes no core: the stage that waits for its answers holds one.
                options = {
                    "num_gpus": min(spec.gpus, largest),
                    "num_cpus": 0,
                    "runtime_env": {"env_vars": dict(environment)},
                }
                actor = ray.remote(EngineActor).options(**options).remote()
                self.engines[spec] = Engine(actor, spec)
            engine = self.engines[spec]
            engine.users.add(user)
            try:
                answer: str | list[str] = await engine.actor.address.remote(spec, log_file)
            except RayActorError:
                self._end_engines([engine])
                continue
            engine.is_up, engine.last_use = True, time.monotonic()
            if isinstance(answer, list):
                self._end_engines([engine])
            return answer
        return [f"{spec.name}: its machine died, and the one after it too"]

    async def release(self, user: str) -> list[str]:
        notes: list[str] = []
        for engine in [engine for engine in self.engines.values() if user in engine.users]:
            engine.users.discard(user)
            engine.last_use = time.monotonic()
            try:
                notes += await engine.actor.release.remote()
            except RayActorError as error:
                notes.append(f"{engine.spec.name}: its machine died ({first_line(error)})")
                self._end_engines([engine])
        return notes

    # Its own

    async def _run(self, job: Job) -> None:
        stage, retries = job.stage, job.order.resources.retries
        result = StageResult(stage, 0.0, "it was stopped")
        for death in range(retries + 1):
            if job.cancelled:  # before it began
                break
            group = self._start(job)
            try:
                result = await job.task
                break
            except TaskCancelledError:
                break
            except DEATHS as error:
                result = StageResult(stage, 0.0, death_message(first_line(error), retries))
                if death < retries and not job.cancelled:
                    text = f"{stage.label}: {first_line(error)}. Once more ({death + 1} of {retries})"
                    await self.tell(Event("log", stage.key, (logging.WARNING, text)))
            except Exception as error:  # noqa: BLE001, a machine without our packages, say
                result = StageResult(stage, 0.0, f"{COLOUR.sub('', str(error))}\n{SAME_VERSION}")
                break
            finally:
                if group is not None:
                    remove_placement_group(group)
                await self.release(stage.key)
        # A stage that was stopped and submitted again is another job already.
        if self.jobs.get(stage.key) is job:
            await self.tell(Event("end", stage.key, result))
            del self.jobs[stage.key]

    def _start(self, job: Job) -> Any:
        """Returns the placement group of a stage with several GPUs: they are of one machine, or it waits."""
        stage, order = job.stage, job.order
        gpus, threads, memory, _ = order.resources
        options: dict[str, Any] = {"num_cpus": threads, "num_gpus": gpus, "max_retries": 0, "name": stage.label}
        options["runtime_env"] = {"env_vars": dict(order.environment)}
        if memory is not None:
            options["memory"] = int(memory * GIB)
        group = None
        if gpus > 1:
            bundle = {"CPU": threads, "GPU": gpus} | ({"memory": options["memory"]} if memory is not None else {})
            group = placement_group([bundle], strategy="STRICT_PACK")
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, 0)
        job.begun, job.since = False, time.monotonic()
        job.task = ray.remote(run_on_node).options(**options).remote(stage, order, self.name)
        return group

    def _cancel(self, job: Job) -> None:
        job.cancelled = True
        if job.task is not None:
            ray.cancel(job.task, force=True)

    def _end_engines(self, engines: Iterable[Engine]) -> list[asyncio.Task[None]]:
        """They are out of the table at once; their tasks end when they have."""
        chosen = list(engines)
        for engine in chosen:
            self.engines.pop(engine.spec, None)
        tasks = [asyncio.create_task(end_actor(engine.actor)) for engine in chosen]
        self.ending.update(tasks)  # else nothing holds them
        for task in tasks:
            task.add_done_callback(self.ending.discard)
        return tasks

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for driver in [name for name, heard in self.heard.items() if now - heard > PATIENCE]:
                del self.heard[driver], self.events[driver]
                # What runs goes on, for the next command; what waits for a place would keep others from it.
                for job in self.jobs.values():
                    job.drivers.discard(driver)
                    if not job.begun and not job.drivers:
                        self._cancel(job)
            self._make_room(now)
            if not self.heard and not self.jobs:
                await asyncio.gather(*self._end_engines(self.engines.values()), *self.ending)
                ray.kill(ray.get_runtime_context().current_actor)

    def _make_room(self, now: float) -> None:
        """End engines that nobody asks: the oldest where a stage or another engine waits for GPUs, and all that were
        not used for long."""
        idle = sorted((one for one in self.engines.values() if not one.users), key=lambda engine: engine.last_use)
        stages_wait = any(
            job.order.resources.gpus and not job.begun and now - job.since > 2 for job in self.jobs.values()
        )
        engines_wait = any(engine.spec.gpus and not engine.is_up for engine in self.engines.values())
        if stages_wait or engines_wait:
            self._end_engines([engine for engine in idle if engine.spec.gpus][:1])
        self._end_engines([engine for engine in idle if now - engine.last_use > self.idle_seconds])


async def end_actor(actor: Any) -> None:
    """Its server first: Ray kills the children of a worker without a word, and those of these outlive it."""
    with suppress(RayError, TimeoutError):
        await asyncio.wait_for(actor.close.remote(), END_SECONDS)
    ray.kill(actor)


def first_line(error: RayError) -> str:
    """Ray's texts are long, and their colours are for a terminal of its own."""
    text = str(error).strip().split("\n", 1)[0]
    return text.partition(" traceback")[0][:300] or type(error).__name__


def death_message(reason: str, retries: int) -> str:
    return (
        f"its worker died, {format_count(retries + 1, 'time')} in all, the last time of: {reason}. Everything finished "
        "is kept. If memory ran out, keep some for it with compute.stages.KIND.memory_gib; compute.stages.KIND.retries "
        "says how often a stage is tried again."
    )


class EngineActor:
    """A server with GPUs of its own, on any machine. It ends with this process."""

    def __init__(self) -> None:
        self.engines = LocalEngines(ray.util.get_node_ip_address())

    def address(self, spec: EngineSpec, log_file: Path) -> str | list[str]:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            return self.engines.address(spec, log_file)
        except EngineFailure as error:  # as text, because Ray would write a traceback around it
            return [str(error)]

    def release(self) -> list[str]:
        return self.engines.release()

    def close(self) -> None:
        self.engines.close()


class RayEngines:
    """An ``EngineHost`` of a worker process, also of one that is no part of the cluster yet (a judge's)."""

    def __init__(self, name: str, environment: Mapping[str, str], address: str | None = None) -> None:
        """``address``: of the cluster, for a process that has to join it."""
        self.name, self.environment, self.cluster = name, environment, address
        self.user = ""
        """Key of the stage."""

    @property
    def supervisor(self) -> Any:
        if not ray.is_initialized():
            ray.init(self.cluster, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        return ray.get_actor(self.name, NAMESPACE)

    def address(self, spec: EngineSpec, log: Path) -> str:
        answer = ray.get(self.supervisor.serve.remote(self.user, spec, log, self.environment))
        if isinstance(answer, list):
            raise EngineFailure(answer[0])
        return str(answer)

    def release(self) -> list[str]:
        notes: list[str] = ray.get(self.supervisor.release.remote(self.user)) if ray.is_initialized() else []
        return notes

    def make_room(self) -> None:
        """The GPUs of this process are no engine's."""

    def close(self) -> None:
        """The supervisor ends them."""


# In a worker


@cache
def runner(
    pickled: bytes, name: str, environment: tuple[tuple[str, str], ...], copies: Copies | None
) -> tuple[RunStage, RayEngines]:
    """Made once in each process."""
    engines = RayEngines(name, dict(environment))
    make_run_stage = pickle.loads(pickled)  # noqa: S301, of our own driver
    return make_run_stage(engines=engines, copies=copies), engines


def run_on_node(stage: Stage, order: StageOrder, name: str) -> StageResult:
    """The task of a stage."""
    supervisor = ray.get_actor(name, NAMESPACE)
    # Waited for, or the result could overtake it.
    ray.get(supervisor.tell.remote(Event("start", stage.key)))
    here = ray.util.get_node_ip_address()
    if order.folder is not None and order.copies is None and not sees(order.folder, order.token):
        return StageResult(
            stage,
            0.0,
            f"the machine {here} does not see {order.folder}, where the runs are: name a folder that all machines of "
            "the cluster share with --runs, or a place to copy artifacts through "
            "(compute.executor_options.storage: s3://bucket/folder).",
        )
    report = Report(supervisor, stage.key)
    try:
        run_stage, engines = runner(order.runner, name, tuple(order.environment.items()), order.copies)
    except UserError as error:
        return StageResult(stage, 0.0, f"{here}: {error}")
    engines.user = stage.key
    with Forward(supervisor, stage.key, here):
        result = run_stage(stage, report)
    report.flush()
    return result


def sees(folder: Path, token: str) -> bool:
    try:
        return (folder / CLUSTER).read_text(encoding="ascii") == token
    except OSError:
        return False


class Report:
    """The progress of a stage, at a pace that the supervisor of many can hear."""

    def __init__(self, supervisor: Any, key: str) -> None:
        self.supervisor, self.key = supervisor, key
        self.sent = 0.0
        self.latest: tuple[int, int, str] | None = None

    def __call__(self, done: int, total: int, info: str) -> None:
        self.latest = done, total, info
        if time.monotonic() - self.sent > PACE:
            self.flush()

    def flush(self) -> None:
        if self.latest is not None:
            ray.get(self.supervisor.tell.remote(Event("progress", self.key, self.latest)))
            self.latest, self.sent = None, time.monotonic()


class Forward(logging.Handler):
    """What is logged while a stage runs, said by the driver as well."""

    def __init__(self, supervisor: Any, key: str, host: str) -> None:
        super().__init__()
        self.supervisor, self.key, self.host = supervisor, key, host
        self.last: Any = None
        # Their formatter hides keys.
        self.formatters = [handler.formatter for handler in logging.getLogger().handlers if handler.formatter]

    def __enter__(self) -> None:
        logging.getLogger().addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
        if self.last is not None:  # or the result could overtake it
            ray.get(self.last)

    def emit(self, record: logging.LogRecord) -> None:
        text = self.formatters[0].format(record) if self.formatters else record.getMessage()
        self.last = self.supervisor.tell.remote(Event("log", self.key, (record.levelno, f"{self.host}: {text}")))


def supervisor_name(folder: Path | None, storage: str | None, unique: str) -> str:
    """One for each folder of runs, so that a command finds what an earlier one left running."""
    place = unique if folder is None else f"{folder.resolve()} {storage}"
    return "supervisor-" + hashlib.sha256(place.encode()).hexdigest()[:16]
