"""The driver's side of executor ``ray``: it hands stages to the supervisor, and runs those that write the ledger."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.contracts.executor import Copies, Executor, MakeRunStage, Resources, RunStage, StageResources, StageResult
from harness.contracts.stage import RunListener, Stage
from harness.errors import UserError
from harness.hardware import visible_gpus
from harness.run.processes import WorkerPool
from harness.run.ray_cluster import (
    CLUSTER,
    GIB,
    NAMESPACE,
    Event,
    RayEngines,
    StageOrder,
    Supervisor,
    supervisor_name,
)
from harness.run.ray_options import RayOptions, handed
from harness.text import format_count

log = logging.getLogger(__name__)

AUTO: Final = "auto"
LOCAL: Final = "local"
GONE: Final = "the Ray cluster does not answer any more"
AGAIN: Final = "Everything finished is kept: give the same command again once it is back."
THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
OBJECT_STORE: Final = 100_000_000  # bytes, in a cluster that we start: artifacts do not travel through Ray
BUSY_POLL: Final = 0.2
"""Seconds between two looks at the cluster while stages run on the driver's machine too."""
PORT_SECONDS: Final = 20.0
RESTARTS: Final = 3
"""Of a supervisor that died: each is followed by the stages that ran."""


class RayExecutor(Executor):
    def __init__(
        self, config: RayOptions, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener
    ) -> None:
        self.config, self.listener, self.make_run_stage = config, listener, make_run_stage
        self.driver = uuid.uuid4().hex
        self.connection = connect(config, resources)
        has_gpus = any(node["Resources"].get("GPU") for node in nodes())
        self.resources = replace(resources, cluster_gpus=has_gpus)
        self.name = supervisor_name(resources.folder, config.storage, self.driver)
        self.token = "" if resources.folder is None else token_of(resources.folder)
        self.stages: dict[str, Stage] = {}
        """In the cluster, by key."""
        self.failed: list[StageResult] = []
        self.restarts = 0
        self.request: Any = None
        self.supervisor = self._find_supervisor()

    def _find_supervisor(self) -> Any:
        """Beside the driver, so that it does not die for another machine; detached, so that it outlives the driver."""
        place = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        kind = ray.remote(Supervisor).options(
            name=self.name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_concurrency=10_000,
            scheduling_strategy=place,
            runtime_env={"env_vars": self._environment(1)},
        )
        for attempt in range(3):
            supervisor = kind.remote(self.name, self.config.engine_minutes * 60)
            try:
                running = ray.get(supervisor.hear.remote(self.driver))
            except RayActorError:  # one that ends because its runs are over
                if attempt == 2:
                    raise
                continue
            if running:
                log.warning(
                    "still running in the cluster, of an earlier command: %s", format_count(len(running), "stage")
                )
            return supervisor
        raise AssertionError

    def submit(self, stage: Stage) -> None:
        if stage.uses_ledger:
            self.pool.submit(stage)
            return
        needs = self._needs(stage)
        if not self.config.autoscale and (problem := too_large(needs)):
            self.failed.append(StageResult(stage, 0.0, problem))
            return
        self.stages[stage.key] = stage
        self._send(stage)

    def _needs(self, stage: Stage) -> StageResources:
        """The GPUs of a stage whose model is an engine's are that engine's."""
        needs = self.resources.of(stage)
        return needs._replace(gpus=0) if stage.local.get("engine") else needs

    def _send(self, stage: Stage) -> None:
        needs = self._needs(stage)
        order = StageOrder(
            needs,
            pickle.dumps(self.make_run_stage),
            self._environment(needs.threads),
            self._copies(self.config.scratch),
            self.resources.folder,
            self.token,
        )
        self.supervisor.submit.remote(self.driver, stage, order)

    def results(self) -> list[StageResult]:
        found, self.failed = self.failed, []
        while not found and (self.stages or self._pool_is_busy):
            if self._pool_is_busy:
                found += self.pool.results(0.0 if self.stages else None)
            if self.stages:
                found += self._listen(0.0 if found else BUSY_POLL if self._pool_is_busy else None)
        return found

    @property
    def _pool_is_busy(self) -> bool:
        return "pool" in self.__dict__ and self.pool.is_busy

    def _listen(self, seconds: float | None) -> list[StageResult]:
        """Results of what has happened in the cluster, after so many seconds at most."""
        try:
            self.request = self.request or self.supervisor.listen.remote(self.driver)
            if not ray.wait([self.request], timeout=seconds)[0]:
                return []
            events: list[Event] = ray.get(self.request)
            self.request = None
        except RayActorError as error:
            self.request = None
            self._replace_supervisor(error)
            return []
        except RayError as error:
            raise UserError(f"{GONE} ({error}). {AGAIN}") from error
        return [result for event in events for result in self._hear(event)]

    def _replace_supervisor(self, error: RayError) -> None:
        """With it died what it had started."""
        self.restarts += 1
        if self.restarts > RESTARTS or not ray.is_initialized():
            raise UserError(f"{GONE} ({error}). {AGAIN}") from error
        log.warning("the supervisor of the stages died; those that ran begin once more")
        self.supervisor = self._find_supervisor()
        for stage in self.stages.values():
            self._send(stage)

    def _hear(self, event: Event) -> list[StageResult]:
        stage = self.stages.get(event.stage)
        if stage is None:
            return []
        if event.name == "start":
            self.listener.on_start(stage.label)
        elif event.name == "progress":
            self.listener.on_progress(stage.label, *event.content)
        elif event.name == "log":
            log.log(*event.content)
        else:
            del self.stages[event.stage]
            return [self._fetched(event.content)]
        return []

    def _fetched(self, result: StageResult) -> StageResult:
        """With copies, the artifact is here too: what reads it next may be a stage on this machine, or the report."""
        if result.error is not None or self.config.storage is None:
            return result
        here = self.run_here(result.stage, lambda done, total, info: None)
        return replace(result, error=here.error)

    @cached_property
    def run_here(self) -> RunStage:
        """Finds in ``storage`` what is to be made."""
        return self.make_run_stage(copies=self._copies(None, here=True))

    @cached_property
    def pool(self) -> WorkerPool:
        """For stages that write the ledger."""
        engines = RayEngines(self.name, self._environment(1), self.connection.address)
        make = partial(self.make_run_stage, engines=engines, copies=self._copies(None, here=True))
        return WorkerPool(beside_the_cluster(self.resources), make, self.listener)

    def _copies(self, folder: str | None, here: bool = False) -> Copies | None:
        """``here``: in the store of this machine's runs."""
        url = self.config.storage
        if url is None or here:
            return None if url is None else Copies(url)
        return Copies(url, Path(folder) if folder else Path(tempfile.gettempdir()) / f"distilbench-{self.name}")

    def _environment(self, threads: int) -> dict[str, str]:
        values = handed(os.environ, self.config.environment)
        return {**values, **dict.fromkeys(THREADS, str(threads)), "TOKENIZERS_PARALLELISM": "false"}

    def shutdown(self, abort: bool) -> None:
        if "pool" in self.__dict__:
            self.pool.shutdown(abort)
        try:
            ray.get(self.supervisor.leave.remote(self.driver), timeout=30)
        except (RayError, GetTimeoutError) as error:
            log.debug("the supervisor did not hear that the command is over: %s", error)
        if self.connection.ours:
            ray.shutdown()


def beside_the_cluster(resources: Resources) -> Resources:
    """For stages that wait for answers on the driver's machine: no GPU, and no core of the cluster."""
    stages = {kind: replace(wish, gpus=0) for kind, wish in resources.stages.items()}
    return replace(resources, gpus=(), cluster_gpus=False, stages=stages)


def granted_gpus(resources: Resources) -> list[str]:
    """Of this machine, for a cluster that is started here: by default all."""
    names = visible_gpus()
    return [names[number] for number in resources.gpus] if resources.gpus else names


class Connection(NamedTuple):
    address: str
    ours: bool
    """Not one that this process had before."""


def connect(config: RayOptions, resources: Resources) -> Connection:
    """Raises UserError where there is no cluster."""
    # No reports of its use to Ray's makers, from a cluster that is started here.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # A later Ray leaves the GPUs of a machine visible to tasks that were given none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    if ray.is_initialized():
        return Connection(ray.get_runtime_context().gcs_address, ours=False)
    address, common = config.address, {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == AUTO:
        address = os.environ.get("RAY_ADDRESS") or AUTO
    if address == AUTO:
        with suppress(ConnectionError):
            ray.init(AUTO, **common)
            return Connection(ray.get_runtime_context().gcs_address, ours=True)
        log.warning("no Ray cluster runs here: one is started on this machine, and ends with the command")
        address = LOCAL
    settings: dict[str, Any] = {}
    if address == LOCAL:
        # Workers that nobody needs would be started with the cluster.
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        largest = max([resources.threads, *(kind.threads or 0 for kind in resources.stages.values())])
        settings = {"num_cpus": max(resources.workers * resources.threads, largest), "include_dashboard": False}
        gpus = granted_gpus(resources)
        settings |= {"object_store_memory": OBJECT_STORE, "num_gpus": len(gpus)}
        if resources.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    try:
        if address != LOCAL:
            check_port(address)
        ray.init(address, **common, **settings)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise UserError(
            f"no Ray cluster at {address!r} ({str(error).strip().splitlines()[0]}). Start one with `ray start "
            "--head --disable-usage-stats`, or set compute.executor_options.address to another, or to local."
        ) from error
    return Connection(ray.get_runtime_context().gcs_address, ours=True)


def check_port(address: str) -> None:
    """Raises OSError or ValueError where nobody listens: Ray itself would try for ten minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), PORT_SECONDS).close()


def nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def too_large(needs: StageResources) -> str | None:
    """Why no machine of the cluster can ever hold such a stage."""
    wanted = {"CPU": needs.threads, "GPU": needs.gpus, "memory": (needs.memory_gib or 0) * GIB}
    machines = [node["Resources"] for node in nodes()]
    if any(all(machine.get(name, 0) >= count for name, count in wanted.items()) for machine in machines):
        return None
    shown = "; ".join(describe(machine) for machine in machines[:8])
    return (
        f"it needs {describe(wanted)} on one machine, and no machine of the cluster has them ({shown}). Lower "
        "compute.threads or compute.stages.KIND, or set compute.executor_options.autoscale: true for a cluster that "
        "grows."
    )


def describe(amounts: Mapping[str, float]) -> str:
    """``4 cores, 1 GPU, 16.0 GiB``."""
    cores, gpus, memory = (amounts.get(name, 0) for name in ("CPU", "GPU", "memory"))
    words = [format_count(int(cores), "core"), format_count(int(gpus), "GPU")]
    return ", ".join([*words, *([f"{memory / GIB:.1f} GiB"] if memory else [])])


def token_of(folder: Path) -> str:
    """What a machine must find in ``folder`` to have the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{CLUSTER}.{uuid.uuid4().hex}"
    new.write_text(uuid.uuid4().hex, encoding="ascii")
    with suppress(FileExistsError):
        os.link(new, folder / CLUSTER)  # unlike a rename, it leaves that of an earlier command
    new.unlink()
    return (folder / CLUSTER).read_text(encoding="ascii")
