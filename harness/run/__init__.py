"""The executors, one file each, and the scheduler that feeds them. ``EXECUTORS`` is the table of contents."""

from __future__ import annotations

from typing import Any

from harness.contracts.executor import ExecutorKind
from harness.run import inline, processes

EXECUTORS: dict[str, ExecutorKind[Any]] = {kind.name: kind for kind in (processes.EXECUTOR, inline.EXECUTOR)}
