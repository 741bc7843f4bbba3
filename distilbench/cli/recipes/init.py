"""``init``: six questions, and a recipe that answers them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import Plugins, Runs
from distilbench.cli.screen import say
from harness.errors import UserError

if TYPE_CHECKING:
    from distilbench.new_recipe import InitQuestion

app = typer.Typer()
_MODELS = "TEACHER,STUDENT (hub ids or folders), or pocket (default)."
_DATA = "Training prompts: a source (`distilbench list sources`), or a file of yours (JSON lines, CSV, TSV, Parquet)."
_BENCHMARKS = "Benchmarks, separated by commas, or NAME=KIND:FILE with questions of yours; default: the paper's four."
_JUDGE = "A known model (`distilbench judge list`), NAME@http://HOST/v1, a checkpoint's folder, pocket, or {kind: ...}."
_BUDGET = "Dollars that judging may cost, or none."
_GPUS = "GPUs of the machine that runs it: how many (4), which (0,2), all, or none."
_QUESTIONS = "Which questions to ask: pocket or official; default: pocket for pocket's models, else official."
_YES = "Ask nothing: use the defaults for everything that is not given."


@app.command(epilog="Example: distilbench init mine.yaml --models ./big,./small --data prompts.jsonl --gpus 2 --yes")
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recipe to write.")] = Path("mine.yaml"),
    models: Annotated[str | None, typer.Option(help=_MODELS)] = None,
    data: Annotated[str | None, typer.Option(help=_DATA)] = None,
    benchmarks: Annotated[str | None, typer.Option(help=_BENCHMARKS)] = None,
    judge: Annotated[str | None, typer.Option(help=_JUDGE)] = None,
    budget: Annotated[str | None, typer.Option(help=_BUDGET)] = None,
    gpus: Annotated[str | None, typer.Option(help=_GPUS)] = None,
    questions: Annotated[str | None, typer.Option(metavar="pocket|official", help=_QUESTIONS)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=_YES)] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    plugins: Plugins = None,
    runs: Runs = Path("runs"),
) -> None:
    """Write a recipe from six answers: models, data, benchmarks, judge, budget, GPUs. Then plan it.

    What is not given as an option is asked; without a terminal, or with --yes, it has its default.
    """
    from distilbench import new_recipe
    from distilbench.workflows.plan import plan

    given = {"models": models, "data": data, "benchmarks": benchmarks, "judge": judge, "budget": budget, "gpus": gpus}
    answers = new_recipe.start(file, questions, plugins or (), force=force)
    is_asked = not yes and sys.stdin.isatty() and sys.stdout.isatty()
    known = {name: text for name, text in given.items() if text is not None}
    for note in new_recipe.answer_all(known, answers, ask if is_asked else None):
        say(note, err=True, label="note: ")
    written = new_recipe.write_recipe(file, answers, force)
    try:
        work = plan(recipe=str(file), plugins=plugins or (), runs=runs)
        problems = [finding.text for finding in work.findings if finding.problem]
    except UserError as error:  # a model that is neither here nor on the hub, say: the recipe is written all the same
        problems = [str(error)]
    for problem in problems:
        say(problem, label="problem: ", style="bold red")
    option = "".join(f" --plugin {shlex.quote(plugin)}" for plugin in plugins or ())
    state = "before it can run, mend the problems above" if problems else "its plan has no problem"
    say(f"{state}. Next: distilbench plan table1 --recipe {shlex.quote(str(file))}{option}")
    say(f"files: {', '.join(map(str, written))}", err=True)


def ask(question: InitQuestion, default: str, problem: str) -> str:
    """One line from the terminal; an empty one is the default."""
    if problem:
        say(problem, err=True, label="error: ", style="bold red")
    say(question.text, label="")
    return input(f"  [{default}] ").strip() or default
