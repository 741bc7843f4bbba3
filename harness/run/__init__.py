"""The executors, one file each, and the scheduler that feeds them. ``EXECUTORS`` is the table of contents."""

from __future__ import annotations

from harness.contracts.executor import ExecutorKind
from harness.run import inline, processes, ray, slurm

EXECUTORS: dict[str, ExecutorKind] = {
    kind.name: kind for kind in (processes.EXECUTOR, ray.EXECUTOR, slurm.EXECUTOR, inline.EXECUTOR)
}
