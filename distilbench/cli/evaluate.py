"""``eval``: judge models without training any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from distilbench.cli.options import WORK_OPTIONS, Force, Listed, MinCoverage, Notes, takes, words
from distilbench.cli.plan import show_plan
from distilbench.cli.reproduce import exit_if_failed, show_outcome, show_tables

if TYPE_CHECKING:
    from distilbench.workflows.plan import WorkOptions

app = typer.Typer()
Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        metavar="[NAME=]MODEL",
        help="A folder, a hub id, pocket:NAME, NAME@http://HOST/v1 for a server (NAME@openai for OpenAI), or "
        "answers:FOLDER for answers made elsewhere. Repeat it for several.",
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(help="Who judges: NAME@URL, NAME@openai, a known model, a checkpoint, pocket, or {kind: ...}."),
]
Benchmarks = Annotated[str | None, typer.Option(help="Benchmarks, separated by commas; default: the paper's four.")]
Baseline = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Compare with this model's answers instead of the official baseline's."),
]


@app.command("eval", epilog="Example: distilbench eval --model pocket:student --judge pocket --limit 50")
@takes(WORK_OPTIONS)
def evaluate(
    models: Models,
    judge: Judge = None,
    benchmarks: Benchmarks = None,
    baseline: Baseline = None,
    questions: Annotated[str | None, typer.Option(help="pocket or official; default: by model.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many questions of each benchmark.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Ask the judge this often about each answer.")] = None,
    max_calls: Annotated[int | None, typer.Option(min=0, help="Calls that this command may make.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the answers' sampling.")] = 0,
    name: Annotated[str | None, typer.Option(help="Folder of the results under --runs.")] = None,
    min_coverage: MinCoverage = None,
    notes: Notes = False,
    plan_only: Listed = False,
    force: Force = False,
    **options: Unpack[WorkOptions],
) -> None:
    """Evaluate models without training: they answer, the judge judges, and the table comes with intervals.

    Stop it whenever you like: the same command goes on where it was, and nothing is asked twice.
    """
    from distilbench.cli.screen import Display
    from distilbench.workflows.evaluate import EvaluationOptions, plan_evaluation
    from distilbench.workflows.evaluate import evaluate as evaluate_models

    all_options: EvaluationOptions = {
        **options, "benchmarks": words(benchmarks), "baseline": baseline, "questions": questions, "limit": limit,
        "repeats": repeats, "max_calls": max_calls, "seed": seed, "name": name,
    }  # fmt: skip
    if plan_only:
        show_plan(plan_evaluation(models, judge, **all_options))
        return
    with Display() as display:
        finished = evaluate_models(
            models, judge, min_coverage=min_coverage, notes=notes, force=force, listener=display, **all_options
        )
    show_outcome(finished)
    show_tables(finished, min_coverage, notes)
    exit_if_failed(finished)
