"""Evaluate models as they are: they answer, a judge judges, and the table comes with intervals. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from distilbench.plugins import load_registry
from distilbench.workflows.execute import execute
from distilbench.workflows.finished_run import FinishedRun
from distilbench.workflows.plan import WorkOptions, WorkPlan, changes_of
from distilbench.workflows.specs import JUDGE, candidate, find_benchmark, judge_entry
from harness.contracts.options import RecipeError
from harness.contracts.registry import Registry
from harness.contracts.stage import RunListener
from harness.errors import UserError
from harness.plan.plan import PLACEHOLDER, Candidate, make_evaluation
from harness.recipe.recipe import Recipe, check_tree
from harness.recipe.yaml_source import expand_name_lists, merge, read_overrides
from judges import PAPER
from reports.targets import EVAL
from results.run.record import Run, RunFamily, check_runs

SHORTCUTS = {"max_cost": "ask.max_cost", "max_calls": "ask.max_calls", "executor": "compute.executor"}
WITHOUT_TRAINING = ("name", "title", "benchmarks", "judges", "baseline", "seeds", "statistics", "compute", "ask")
NAME_LENGTH = 60  # the name becomes a folder: file systems stop at 255 bytes, of which rows and targets need some


class EvaluationOptions(WorkOptions, total=False):
    """Keyword arguments of ``evaluate`` and ``plan_evaluation``, besides those of ``WorkOptions``."""

    benchmarks: Sequence[str]
    """By default the paper's four."""
    baseline: str | None
    """The model whose answers to compare with, in place of the official baseline's: one of ``models``, or another."""
    questions: str | None
    """``pocket`` or ``official``; by default pocket's for pocket's models."""
    limit: int | None
    """Questions of each benchmark that are asked, at most; a larger limit holds those of a smaller one."""
    repeats: int | None
    """How often the judge is asked about each answer."""
    max_calls: int | None
    """Judge calls that may be made."""
    seed: int
    """Seed of the answers' sampling; by default 0."""
    name: str | None
    """Folder of the results under ``runs``; by default made from the models' names."""


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

    A model is a folder, a hub id, ``pocket:NAME``, ``NAME@URL`` for an OpenAI-compatible server, or
    ``NAME=answers:FOLDER`` for answers made elsewhere. ``judge``: ``NAME@URL``, a checkpoint, ``pocket`` or another
    name; where rules grade it is not needed. Raises UserError, before anything is asked, with everything that is wrong.
    """
    work = plan_evaluation(models, judge, **options)
    finished_run = execute(work, force=force, listener=listener, edit=without_training)
    finished_run.write(min_coverage)
    return finished_run


def plan_evaluation(models: Sequence[str], judge: str | None = None, **options: Unpack[EvaluationOptions]) -> WorkPlan:
    """The plan of ``evaluate``, with its arguments and errors. A baseline that is none of the models only answers."""
    runs, plugins = Path(options.get("runs", "runs")), tuple(options.get("plugins", ()))
    check_runs(runs)
    registry = load_registry(plugins)
    candidates: list[Candidate] = []
    for text in models:  # one after the other: a name depends on the names before it
        candidates.append(candidate(text, [model.row for model in candidates]))
    rows = [model.row for model in candidates]
    recipe = evaluation_recipe(candidates, judge, options, registry)
    if (baseline := options.get("baseline")) is not None:
        baseline_row = next((model.row for model in candidates if baseline in (model.row, model.text)), None)
        if baseline_row is None:  # it answers, and is no row of the table
            candidates.append(candidate(baseline, rows))
        recipe = replace(recipe, baseline=baseline_row or candidates[-1].row)
    return WorkPlan({EVAL.name: make_evaluation(recipe, registry, candidates, rows)}, runs, plugins)


def evaluation_recipe(
    candidates: Sequence[Candidate], judge: str | None, options: EvaluationOptions, registry: Registry
) -> Recipe:
    benchmarks = {name: find_benchmark(name, registry) for name in options.get("benchmarks") or PAPER}
    judged_names = [name for name, benchmark in benchmarks.items() if benchmark.needs_judge]
    if judged_names and judge is None:
        raise UserError(
            f"{', '.join(judged_names)} need a judge: give --judge NAME@URL (any OpenAI-compatible server), "
            "--judge NAME@openai, a checkpoint, or pocket."
        )
    rows = "-".join(model.row for model in candidates)
    pocket = all(str(model.checkpoint).startswith("pocket:") for model in candidates)
    values: dict[str, object] = {
        "questions": options.get("questions") or ("pocket" if pocket else "official"),
        "limit": options.get("limit"),
        "repeats": options.get("repeats"),
        "order": "both" if options.get("baseline") else None,
    }
    sections: dict[str, dict[str, object]] = {}
    for name, benchmark in benchmarks.items():
        # GSM8K has no repeats and MT-Bench no order: an option applies to the benchmarks that know it.
        fields = benchmark.config.__dataclass_fields__
        sections[name] = {key: value for key, value in values.items() if value is not None and key in fields}
        sections[name] |= {"judge": JUDGE} if benchmark.needs_judge else {}
    tree: dict[str, object] = {
        "name": options.get("name") or "eval-" + rows[:NAME_LENGTH].strip("-."),
        "title": "Evaluation of " + ", ".join(model.text for model in candidates),
        "family": {"name": "evaluation", "teacher": PLACEHOLDER, "student": PLACEHOLDER},
        "benchmarks": sections,
        "seeds": [options.get("seed", 0)],
    }
    if judge is not None:  # also where only a column of --set asks it
        tree["judges"] = {JUDGE: judge_entry(judge, registry)}
    changes, problems = read_overrides(changes_of(options, SHORTCUTS))
    recipe, tree_problems = check_tree(expand_name_lists(merge(tree, changes), problems), registry)
    if problems or tree_problems or recipe is None:
        raise RecipeError([*problems, *tree_problems], "eval")
    return recipe


def without_training(record: Run) -> Run:
    recipe = {key: value for key, value in record.recipe.items() if key in WITHOUT_TRAINING}
    models = ", ".join(row.title for row in record.rows)
    return replace(record, recipe=recipe, family=RunFamily("evaluation", "", models))
