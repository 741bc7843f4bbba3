"""``reproduce``: run what is missing of a recipe, and write its tables; ``run`` only runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Unpack

from distilbench.workflows.compare_judges import ComparisonOptions, compare_judges
from distilbench.workflows.execute import execute
from distilbench.workflows.finished_run import FinishedRun
from distilbench.workflows.plan import RunOptions, plan
from harness.contracts.stage import Ref, RunListener
from harness.errors import UserError
from results.run.record import read_run, recorded_targets
from results.run.students import link_students, student_name


def reproduce(
    targets: str = "table1",
    recipe: str = "pocket",
    *,
    min_coverage: float | None = None,
    force: bool = False,
    listener: RunListener | None = None,
    **options: Unpack[RunOptions],
) -> FinishedRun:
    """Run what is missing of ``targets`` (``table1``, several with commas, or ``all``), and write their tables and
    figures under ``runs/NAME/report``.

    ``recipe``: a shipped name or a YAML file; ``min_coverage``: cells with a smaller share (0 to 1) of scored questions
    are refused, by default the recipe's; ``force``: run in spite of problems; ``listener``: hears of progress. Raises
    UserError, before anything runs, with everything that is wrong; or as ``FinishedRun.write`` does. A stage that fails
    stops only those that need it, and is in ``outcome.errors``.
    """
    finished = execute(plan(targets, recipe, **options), force=force, listener=listener)
    name_students(finished)
    compare = partial(run_judge_comparison, finished, options.get("plugins", ()), force=force, listener=listener)
    finished.write(min_coverage, compare=compare)
    return finished


def run(
    recipe: str = "pocket", *, force: bool = False, listener: RunListener | None = None, **options: Unpack[RunOptions]
) -> FinishedRun:
    """Run a recipe without writing its tables: sample, reward, train, answer, judge, score. Arguments and errors are
    those of ``reproduce``."""
    finished = execute(plan("table1", recipe, **options), force=force, listener=listener)
    name_students(finished)
    return finished


def name_students(finished: FinishedRun) -> None:
    """Give all students of this recipe's targets, those of earlier commands too, their names beside the run."""
    students: dict[str, Ref] = {}
    # The main table has the plain names; where another one trains a row otherwise, its target is in the name.
    for target in sorted(recorded_targets(finished.folder), key=lambda name: name != "table1"):
        for row, seed, stage in trained(finished, target):
            name = student_name(row, seed)
            if students.setdefault(name, stage) != stage:
                students[f"{name}.{target}"] = stage
    link_students(finished.folder, students, finished.store)


def trained(finished: FinishedRun, target: str) -> Iterator[tuple[str, int, Ref]]:
    """Row, seed and the stage that trained the student: of a plan also where nothing was scored."""
    if finished.work is not None and target in finished.work.plans:
        planned = finished.work.plans[target]
        for entrant in planned.entrants:
            if entrant.row in planned.recipe.methods and not entrant.unavailable:
                yield entrant.row, entrant.seed, planned.planner.student(entrant.row, entrant.seed).ref
        return
    with suppress(UserError):  # an older or damaged record names nothing
        for (row, _, seed), source in finished.lineage.sources(read_run(finished.folder / target / "run.json")).items():
            if source.student is not None:
                yield row, seed, source.student


def run_judge_comparison(
    finished: FinishedRun, plugins: Sequence[str], target: str, *, force: bool, listener: RunListener | None
) -> None:
    """Have the judges asked that a target's table compares. Nothing is asked twice."""
    options: ComparisonOptions = {"repeats": 1, "runs": finished.folder.parent, "plugins": plugins}
    options["max_cost"] = finished.records[target].recipe.get("ask", {}).get("max_cost")
    compare_judges(f"{finished.folder.name}/{target}", force=force, listener=listener, **options)
