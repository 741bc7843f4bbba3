"""``eval``: judge models without training any."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distilbench.cli.options import Force, MaxCost, MinCoverage, Overrides, Plugins, Runs, words


def register(app: typer.Typer) -> None:
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
    force: Force = False,
) -> None:  # fmt: skip
    """Evaluate models without training: they answer, the judge judges, and the table comes with intervals.

    Stop it whenever you like: the same command goes on where it was, and nothing is asked twice.
    """
    from distilbench.cli.report import show_tables
    from distilbench.cli.reproduce import finish, show_plan
    from distilbench.cli.screen import Display
    from distilbench.workflows.evaluate import EvaluationOptions, plan_evaluation
    from distilbench.workflows.evaluate import evaluate as evaluate_models

    options: EvaluationOptions = {
        "benchmarks": words(benchmarks), "baseline": baseline, "questions": questions, "limit": limit,
        "repeats": repeats, "seed": seed, "name": name, "max_cost": max_cost, "max_calls": max_calls,
        "set": overrides or [], "plugins": plugins or [], "runs": runs,
    }  # fmt: skip
    if plan_only:
        if show_plan(plan_evaluation(models, judge, **options)):
            raise typer.Exit(1)
        return
    with Display() as display:
        finished = evaluate_models(models, judge, min_coverage=min_coverage, force=force, listener=display, **options)
    finish(finished, lambda: show_tables(finished, min_coverage))
