"""Benchmark preference distillation, from Python (``docs/python.md``). A name is loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers and editors; at run time __getattr__ imports what is used
    from distilbench.searching import FinishedSearch, Search, plan_search, search
    from distilbench.simulation import simulate
    from distilbench.workflows.answers import export_answers, import_answers, read_import
    from distilbench.workflows.compare_judges import compare_annotations, compare_judges, plan_judge_comparison
    from distilbench.workflows.evaluate import evaluate, plan_evaluation
    from distilbench.workflows.finished_run import FinishedRun, load
    from distilbench.workflows.page import write_page
    from distilbench.workflows.plan import WorkPlan, plan
    from distilbench.workflows.report import report
    from distilbench.workflows.reproduce import reproduce, run
    from harness.errors import UserError

_MODULES = {
    "distilbench.searching": ("FinishedSearch", "Search", "plan_search", "search"),
    "distilbench.simulation": ("simulate",),
    "distilbench.workflows.answers": ("export_answers", "import_answers", "read_import"),
    "distilbench.workflows.compare_judges": ("compare_annotations", "compare_judges", "plan_judge_comparison"),
    "distilbench.workflows.evaluate": ("evaluate", "plan_evaluation"),
    "distilbench.workflows.finished_run": ("FinishedRun", "load"),
    "distilbench.workflows.page": ("write_page",),
    "distilbench.workflows.plan": ("WorkPlan", "plan"),
    "distilbench.workflows.report": ("report",),
    "distilbench.workflows.reproduce": ("reproduce", "run"),
    "harness.errors": ("UserError",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "FinishedRun", "FinishedSearch", "Search", "UserError", "WorkPlan", "compare_annotations", "compare_judges",
    "evaluate", "export_answers", "import_answers", "load", "plan", "plan_evaluation", "plan_judge_comparison",
    "plan_search", "read_import", "report", "reproduce", "run", "search", "simulate", "write_page",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
