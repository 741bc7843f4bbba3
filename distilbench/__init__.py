"""Benchmark preference distillation: reproduce a table, evaluate models, compare judges.

    import distilbench

    run = distilbench.reproduce("table1", recipe="pocket")
    print(run.table())
    run.frame()

Every name is loaded when it is first used, so importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distilbench.workflows.finished_run import FinishedRun
    from distilbench.workflows.plan import WorkPlan, plan
    from distilbench.workflows.report import report, write_page
    from distilbench.workflows.reproduce import load, reproduce, run
    from harness.errors import UserError

_HOMES = {
    "FinishedRun": "distilbench.workflows.finished_run",
    "UserError": "harness.errors",
    "WorkPlan": "distilbench.workflows.plan",
    "load": "distilbench.workflows.reproduce",
    "plan": "distilbench.workflows.plan",
    "report": "distilbench.workflows.report",
    "reproduce": "distilbench.workflows.reproduce",
    "run": "distilbench.workflows.reproduce",
    "write_page": "distilbench.workflows.report",
}
"""Exported name to the module that defines it."""

__all__ = [
    "FinishedRun", "UserError", "WorkPlan", "load", "plan", "report", "reproduce", "run", "write_page",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
