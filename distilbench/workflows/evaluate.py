"""Evaluate models as they are: they answer, a judge judges, and the table comes with intervals. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from distilbench.plugins import load_registry
from distilbench.workflows.finished_run import FinishedRun
from distilbench.workflows.plan import PlannedRun, WorkPlan
from distilbench.workflows.reproduce import execute
from distilbench.workflows.specs import EvaluationOptions, candidate, judge_problem, recipe_of
from harness.contracts.executor import RunListener
from harness.contracts.options import options_from
from harness.errors import UserError
from harness.plan.evaluation import Candidate, make_evaluation
from reports.targets import EVAL
from results.run.record import Run, RunFamily, check_runs
from results.store.store import ArtifactStore

WITHOUT_TRAINING = ("name", "title", "benchmarks", "judges", "baseline", "seeds", "statistics", "compute", "ask")
"""Sections of the recipe that mean something where nothing is trained."""


def evaluate(
    models: Sequence[str],
    judge: str | None = None,
    *,
    min_coverage: float | None = None,
    force: bool = False,
    listener: RunListener | None = None,
    **options: Unpack[EvaluationOptions],
) -> FinishedRun:
    """Evaluate models without training, and write the table under ``runs/NAME/report``.

    Args:
        models: ``[ROW=]MODEL`` each: a folder, a hub id, ``pocket:NAME``, ``NAME@http://HOST/v1`` or ``NAME@openai``
            for a server, or ``answers:FOLDER`` for answers made elsewhere.
        judge: ``NAME@URL``, ``NAME@openai``, the id of a known model, a checkpoint, ``pocket``, or ``{kind: ...}``.

    Raises:
        UserError: before anything is asked, with everything that is wrong.
    """
    work = plan_evaluation(models, judge, **options)
    if not force:
        refuse_unreachable(work)
    finished = execute(work, force=force, listener=listener, edit=without_training)
    finished.write(min_coverage)
    return finished


def plan_evaluation(models: Sequence[str], judge: str | None = None, **options: Unpack[EvaluationOptions]) -> WorkPlan:
    """What ``evaluate`` would do. A baseline that is none of the models only answers."""
    runs, plugins = Path(options.get("runs", "runs")), tuple(options.get("plugins", ()))
    check_runs(runs)
    registry = load_registry(plugins)
    candidates: list[Candidate] = []
    for text in models:  # one after the other: a name depends on those that are taken
        candidates.append(candidate(text, [model.row for model in candidates]))
    rows = [model.row for model in candidates]
    recipe = recipe_of(candidates, judge, options, registry)
    baseline = options.get("baseline")
    if baseline is not None:
        known = next((model.row for model in candidates if baseline in (model.row, model.text)), None)
        if known is None:  # it answers, and is no row of the table
            candidates.append(candidate(baseline, rows))
        recipe = replace(recipe, baseline=known or candidates[-1].row)
    plan = make_evaluation(recipe, registry, candidates, rows)
    return WorkPlan((PlannedRun(recipe, registry, plan, ArtifactStore(runs / "store"), runs, plugins, EVAL),))


def refuse_unreachable(work: WorkPlan) -> None:
    """Raise UserError, before anything is asked, for a server whose answers are needed and that does not answer."""
    registry = work.runs[0].registry
    endpoints = [stage.local["endpoint"] for stage in work.missing if "endpoint" in stage.local]
    problems = []
    # Every benchmark has its own answer stage of the same server: one request per server is enough.
    for model, endpoint in {endpoint["config"]["model"]: endpoint for endpoint in endpoints}.items():
        config = options_from(registry.judges[endpoint["kind"]].config, endpoint["config"])
        problem = judge_problem(endpoint["kind"], config, registry)
        problems += [f"  - {model}: {problem}"] if problem else []
    if problems:
        raise UserError("nothing was started, because of:\n" + "\n".join(problems))


def without_training(record: Run) -> Run:
    """A record as the tables of an evaluation should show it: models instead of a family, nothing about training."""
    recipe = {key: value for key, value in record.recipe.items() if key in WITHOUT_TRAINING}
    models = ", ".join(row.title for row in record.rows)
    notes = tuple(note for note in record.notes if not note.startswith("prompts"))
    return replace(record, recipe=recipe, family=RunFamily("evaluation", "", models), notes=notes)
