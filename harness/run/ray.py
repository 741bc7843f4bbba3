"""Executor ``ray``: stages are tasks of a Ray cluster, each with GPUs, cores and memory of its own.

    driver ---- submit, events ----> Supervisor, beside the driver ----> run_on_node, a task per stage
      |                                  |                                   | address(spec)
      +---- WorkerPool: judges           +----> EngineActor, one per spec <--+

The supervisor owns the tasks and outlives the driver (the command), so the same command finds what runs. Stages that
write the ledger, an SQLite file, run on the driver's machine. Artifacts travel through a shared file system, or are
copied through ``storage``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Final

from harness.contracts.executor import Executor, ExecutorKind, MakeRunStage, Resources
from harness.contracts.stage import RunListener, Stage
from harness.errors import UserError
from harness.run.ray_options import RayOptions

INSTALL: Final = "pip install 'distilbench[ray]', on each machine of the cluster"
PACKAGES: Final = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
"""Schemes of ``storage`` that fsspec reads with another package."""


class RayKind(ExecutorKind[RayOptions]):
    name = "ray"
    summary = "tasks of a Ray cluster, on many machines (pip install 'distilbench[ray]')"
    config = RayOptions
    this_machine = False

    def check(self, config: RayOptions, resources: Resources, stages: Sequence[Stage]) -> Iterable[str]:
        if find_spec("ray") is None:
            yield f"the executor ray needs the package ray: {INSTALL}"
        scheme = (config.storage or "").partition("://")[0]
        if scheme in PACKAGES and find_spec(PACKAGES[scheme]) is None:
            yield f"storage {config.storage} needs the package {PACKAGES[scheme]}: pip install it on each machine"

    def start(
        self, config: RayOptions, resources: Resources, make_run_stage: MakeRunStage, listener: RunListener
    ) -> Executor:
        for problem in self.check(config, resources, ()):
            raise UserError(problem)
        from harness.run.ray_driver import RayExecutor

        return RayExecutor(config, resources, make_run_stage, listener)


EXECUTOR = RayKind()
