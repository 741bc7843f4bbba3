"""``eval``: judge models without training any: a folder, a hub id, a model behind a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distilbench.cli.options import MaxCost, MinCoverage, Overrides, Plugins, Runs, words
from harness.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distilbench.cli.model_specs import Asked
    from distilbench.cli.reproduce import Job
    from harness.plan.evaluation import Candidate
    from results.run.record import Run

TARGET = "eval"
KEPT = ("name", "title", "benchmarks", "judges", "baseline", "seeds", "statistics", "compute", "ask")
"""Parts of the recipe that mean something without training."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval", epilog="Example: distilbench eval --model pocket:student --judge pocket --limit 50")(evaluate)


def evaluate(
    models: Annotated[
        list[str],
        typer.Option(
            "--model", "-m", metavar="[NAME=]MODEL",
            help="A folder, a hub id, pocket:NAME, NAME@http://HOST/v1 for a server (NAME@openai for OpenAI), or "
            "answers:FOLDER for answers made elsewhere. "
            "Repeat it for several.",
        ),
    ],
    judge: Annotated[
        str | None,
        typer.Option(help="Who judges: NAME@URL, NAME@openai, a known model, a checkpoint, pocket, or {kind: ...}."),
    ] = None,
    benchmarks: Annotated[
        str | None, typer.Option(help="Benchmarks, separated by commas; default: the paper's four.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Compare with this model's answers instead of the official baseline's."),
    ] = None,
    questions: Annotated[str | None, typer.Option(help="pocket or official; default: by model.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many questions of each benchmark.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Ask the judge this often about each answer.")] = None,
    max_cost: MaxCost = None,
    max_calls: Annotated[int | None, typer.Option(min=0, help="Calls that this command may make.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the answers' sampling.")] = 0,
    name: Annotated[str | None, typer.Option(help="Folder of the results under --runs.")] = None,
    overrides: Overrides = None,
    plugins: Plugins = None,
    runs: Runs = Path("runs"),
    min_coverage: MinCoverage = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would be asked and what it costs.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run although the checks before it found problems.")] = False,
) -> None:  # fmt: skip
    """Evaluate models without training: they answer, the judge judges, and the table comes with intervals.

    Stop it whenever you like: the same command goes on where it was, and nothing is asked twice.
    """
    from distilbench.cli.model_specs import Asked
    from distilbench.cli.plan import show_plan
    from distilbench.cli.report import write_target
    from distilbench.cli.reproduce import execute, finish

    budgets = {"ask.max_cost": max_cost, "ask.max_calls": max_calls}
    changes = [*(overrides or []), *(f"{path}={value}" for path, value in budgets.items() if value is not None)]
    asked = Asked(models, judge, words(benchmarks), baseline, questions, limit, repeats, seed, name, changes)
    job, candidates = prepare(asked, plugins, runs)
    if plan_only:
        if show_plan(job):
            raise typer.Exit(1)
        return
    if not force:
        refuse_unreachable(job, candidates)
    outcome = execute(job, force, described)
    coverage = job.recipe.statistics.min_coverage if min_coverage is None else min_coverage
    write_target(job.folder, job.store, TARGET, coverage)
    finish(outcome)


def prepare(asked: Asked, plugins: list[str] | None, runs: Path) -> tuple[Job, list[Candidate]]:
    """Candidates, recipe and plan. A baseline that is none of the models only answers."""
    from distilbench.cli.model_specs import candidate, recipe_of
    from distilbench.cli.reproduce import Job
    from distilbench.plugins import load_registry
    from harness.plan.evaluation import make_evaluation
    from results.store.store import ArtifactStore

    registry = load_registry(plugins or ())
    candidates: list[Candidate] = []
    for text in asked.models:
        candidates.append(candidate(text, [each.row for each in candidates]))
    rows = [each.row for each in candidates]
    recipe = recipe_of(asked, candidates, registry)
    if asked.baseline is not None:
        known = next((each.row for each in candidates if asked.baseline in (each.row, each.text)), None)
        if known is None:
            candidates.append(candidate(asked.baseline, rows))
        recipe = recipe.model_copy(update={"baseline": known or candidates[-1].row})
    plan = make_evaluation(recipe, registry, candidates, rows)
    job = Job(recipe, registry, plan, ArtifactStore(runs / "store"), runs, tuple(plugins or ()), TARGET)
    return job, candidates


def refuse_unreachable(job: Job, candidates: Sequence[Candidate]) -> None:
    """Raise UserError, before anything is asked, for a server whose answers are needed and that is not there."""
    from harness.run.scheduler import needed
    from harness.stages.context import build

    waiting = {stage.local["endpoint"]["config"]["model"] for stage in needed(job.plan, job.store)
               if stage.kind == "answer" and "endpoint" in stage.local}  # fmt: skip
    problems = []
    for each in candidates:
        if each.endpoint is not None and each.text in waiting:
            kind = job.registry.judges[each.endpoint.kind]
            problem = kind.make(build(kind.config, each.endpoint.config)).check()
            problems += [f"  - {each.row}: {problem}"] if problem else []
    if problems:
        raise UserError("nothing was started, because of:\n" + "\n".join(problems))


def described(run: Run) -> Run:
    """The run as its tables should describe it: models instead of a family, and no section about training."""
    from dataclasses import replace

    from results.run.record import Family

    recipe: dict[str, Any] = {key: value for key, value in run.recipe.items() if key in KEPT}
    models = ", ".join(row.title for row in run.rows)
    notes = tuple(note for note in run.notes if not note.startswith("prompts"))
    return replace(run, recipe=recipe, family=Family("evaluation", "", models), notes=notes)
