"""``reproduce``: run what is missing of a recipe, and write its tables; ``run`` only runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Unpack

from distilbench.workflows.compare_judges import ComparisonOptions, compare_judges
from distilbench.workflows.execute import execute
from distilbench.workflows.finished_run import FinishedRun
from distilbench.workflows.plan import RunOptions, plan
from harness.contracts.stage import RunListener


def reproduce(
    targets: str = "table1",
    recipe: str = "pocket",
    *,
    min_coverage: float | None = None,
    notes: bool = False,
    force: bool = False,
    listener: RunListener | None = None,
    **options: Unpack[RunOptions],
) -> FinishedRun:
    """Run what is missing of ``targets`` (``table1``, several with commas, or ``all``), and write their tables and
    figures under ``runs/NAME/report``; with ``notes`` also other tests, power, variance and protocols.

    ``recipe``: a shipped name or a YAML file; ``min_coverage``: cells with a smaller share of scored questions are
    refused; ``force``: run in spite of problems. Raises UserError, before anything runs, with everything that is wrong;
    or as ``FinishedRun.write`` does.
    """
    finished = execute(plan(targets, recipe, **options), force=force, listener=listener)
    compare = partial(run_judge_comparison, finished, options.get("plugins", ()), force=force, listener=listener)
    finished.write(min_coverage, notes, compare)
    return finished


def run(
    recipe: str = "pocket", *, force: bool = False, listener: RunListener | None = None, **options: Unpack[RunOptions]
) -> FinishedRun:
    """Run a recipe without writing its tables: sample, reward, train, answer, judge, score."""
    return execute(plan("table1", recipe, **options), force=force, listener=listener)


def run_judge_comparison(
    finished: FinishedRun, plugins: Sequence[str], target: str, *, force: bool, listener: RunListener | None
) -> None:
    """Have the judges asked that a target's table compares. Nothing is asked twice."""
    options: ComparisonOptions = {"repeats": 1, "runs": finished.folder.parent, "plugins": plugins}
    options["max_cost"] = finished.records[target].recipe.get("ask", {}).get("max_cost")
    compare_judges(f"{finished.folder.name}/{target}", force=force, listener=listener, **options)
