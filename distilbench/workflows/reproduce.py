"""Run what is missing of a recipe, and make its tables: ``run``, ``reproduce``, and ``load`` for a run made before.

run = distilbench.reproduce("table1", recipe="pocket")
print(run.table())
run.frame()          # tidy scores
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Unpack

from distilbench.workflows.finished_run import FinishedRun
from distilbench.workflows.plan import RunOptions, WorkPlan, plan, refuse
from distilbench.workflows.record import describe
from distilbench.workflows.workers import set_up_worker, verbosity
from harness.contracts.executor import RunListener
from harness.run.scheduler import run_plans
from results.run.record import Run, write_run


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
    """Run what tables and figures of the paper are missing, and write them under ``runs/NAME/report``.

    What is in the store is not computed again.

    Args:
        targets: ``table1``, several with commas, or ``all``.
        recipe: a shipped recipe's name, or the path of a YAML file.
        min_coverage: refuse cells with a smaller share of scored questions; default: the recipe's.
        notes: write what the table's JSON has to say under it too: other tests, power, variance, protocols.
        force: run although the checks before it found problems.
        listener: is told of progress.

    Raises:
        UserError: before anything runs, with everything that is wrong.
    """
    finished = execute(plan(targets, recipe, **options), force=force, listener=listener)
    finished.write(min_coverage, notes)
    return finished


def run(
    recipe: str = "pocket",
    *,
    force: bool = False,
    listener: RunListener | None = None,
    **options: Unpack[RunOptions],
) -> FinishedRun:
    """Run a recipe without writing its tables: sample, reward, train, answer, judge, score."""
    return execute(plan("table1", recipe, **options), force=force, listener=listener)


def execute(
    work: WorkPlan,
    *,
    force: bool = False,
    listener: RunListener | None = None,
    edit: Callable[[Run], Run] = lambda record: record,
) -> FinishedRun:
    """Run the missing stages of a plan, and record each of its runs in its ``run.json``.

    Args:
        edit: has the last word on what a record says.

    Raises:
        UserError: before anything runs, when a check found a problem and ``force`` does not pass it over.
    """
    refuse(work.findings, force)
    if work.missing:
        for target, plan in work.plans.items():  # a run that is killed can be reported too: its record says what it was
            write_run(work.record(target), edit(describe(plan, work.store)))
    setup = partial(set_up_worker, work.plugins, work.store.root, verbosity())
    plans, ledger = list(work.plans.values()), work.runs / "ledger.sqlite"
    outcome = run_plans(plans, work.first.graph.registry, work.store, ledger, setup, listener or RunListener())
    records: dict[str, Run] = {}
    # Recorded again after the run: scores are keyed by the rows that did not fail, which nobody knew before.
    for target, plan in work.plans.items():
        records[target] = edit(describe(plan, work.store, outcome.of(plan)))
        write_run(work.record(target), records[target])
    return FinishedRun(work.folder, work.store, records, outcome, work)
