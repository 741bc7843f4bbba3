"""``reproduce``: run what is missing of a recipe, and write its tables; ``run`` only runs, ``report`` only writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from distilbench.workflows.compare_judges import compare_judges
from distilbench.workflows.execute import execute
from distilbench.workflows.finished_run import FinishedRun, load
from distilbench.workflows.plan import RunOptions, plan
from harness.contracts.executor import RunListener
from harness.recipe.yaml_source import read_source
from reports.targets import ALL, find_targets
from results.run.record import check_runs, described


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
    refused; ``force``: run in spite of problems. Raises UserError, before anything runs, with everything that is wrong.
    """
    finished = execute(plan(targets, recipe, **options), force=force, listener=listener)
    judge_again(finished, options.get("plugins", ()))
    finished.write(min_coverage, notes)
    return finished


def run(
    recipe: str = "pocket", *, force: bool = False, listener: RunListener | None = None, **options: Unpack[RunOptions]
) -> FinishedRun:
    """Run a recipe without writing its tables: sample, reward, train, answer, judge, score."""
    return execute(plan("table1", recipe, **options), force=force, listener=listener)


def report(
    targets: str = "table1",
    recipe: str = "pocket",
    *,
    runs: str | Path = "runs",
    min_coverage: float | None = None,
    html: bool = False,
    notes: bool = False,
    plugins: Sequence[str] = (),
) -> FinishedRun:
    """Make tables (with ``html`` the page too) again from the store. ``recipe`` may be a folder's name under ``runs``.

    Raises UserError for a target that was not run, or scores that are gone.
    """
    check_runs(Path(runs))
    names = [target.name for target in find_targets(targets)]
    # A run can be reported when its recipe is gone: the name of a folder comes first.
    folder = Path(runs) / recipe
    if not described(folder):
        folder = Path(runs) / str(read_source(recipe).tree["name"])
    if targets == ALL:  # where there is none, the first one's error says what to run
        names = [name for name in names if name in described(folder)] or names[:1]
    finished = load(folder, names)
    judge_again(finished, plugins)
    finished.write(min_coverage, notes)
    if html:
        from distilbench.workflows.page import write_page

        write_page(finished, min_coverage, plugins)
    return finished


def judge_again(finished: FinishedRun, plugins: Sequence[str]) -> None:
    """Have the judges asked that the tables of some targets compare. Nothing is asked twice."""
    for name in finished.targets:
        if name not in finished.score_tables:
            compare_judges(f"{finished.folder.name}/{name}", repeats=1, runs=finished.folder.parent, plugins=plugins)
