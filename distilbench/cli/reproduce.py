"""``run``, ``reproduce``, ``eval``, ``search`` and ``report``: run what is missing, and print the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from distilbench.cli.options import (
    RUN_OPTIONS,
    WORK_OPTIONS,
    Baseline,
    Force,
    Limit,
    Listed,
    MinCoverage,
    Notes,
    Plugins,
    RecipeName,
    RunName,
    Runs,
    Seeds,
    Target,
    complete_rows,
    takes,
    words,
)
from distilbench.cli.plan import cost_line, shared_line, show_plan, show_unfit
from distilbench.cli.screen import Display, console_of, duration, say, spending
from harness.errors import PERMANENT, UserError
from harness.text import format_count

if TYPE_CHECKING:
    from distilbench.searching import FinishedSearch, Search, SearchOptions
    from distilbench.workflows.evaluate import EvaluationOptions
    from distilbench.workflows.finished_run import FinishedRun
    from distilbench.workflows.plan import RunOptions
    from reports.tables.table import Table

app = typer.Typer()
_MODEL = (
    "A folder, a hub id, pocket:NAME, NAME@http://HOST/v1 for a server (NAME@openai for OpenAI), or answers:FOLDER for "
    "answers made elsewhere. Repeat it for several."
)
_JUDGE = "Who judges: NAME@URL, NAME@openai, a known model, a checkpoint, pocket, or {kind: ...}."
_BENCHMARKS = "Benchmarks, separated by commas; default: the paper's four."
_BASELINE = "Compare with this model's answers instead of the official baseline's."
_HTML = "Also write report.html: tables, figures, run card, all questions and answers."
_AGAINST = "Print instead each other row's change from this one: 95% interval, p after Holm, smallest detectable."
_OUT = "Folder of the files; default: runs/NAME/report."
EVAL_OPTIONS: Mapping[str, tuple[object, object]] = {
    "benchmarks": (Annotated[str | None, typer.Option(help=_BENCHMARKS, callback=words)], None),
    "baseline": (Annotated[str | None, typer.Option(metavar="MODEL", help=_BASELINE)], None),
    "questions": (Annotated[str | None, typer.Option(help="pocket or official; default: by model.")], None),
    "limit": (Limit, None),
    "repeats": (Annotated[int | None, typer.Option(min=1, help="Ask the judge this often about each answer.")], None),
    "max_calls": (Annotated[int | None, typer.Option(min=0, help="Calls that this command may make.")], None),
    "seed": (Annotated[int, typer.Option(min=0, help="Seed of the answers' sampling.")], 0),
    "name": (Annotated[str | None, typer.Option(help="Folder of the results under --runs.")], None),
    **WORK_OPTIONS,
}

_ROWS = "Rows of the recipe, separated by commas or blanks, or all."
_SPACE = (
    "What to vary: 'train.learning_rate=log(1e-5, 1e-3); beta=log(0.1x, 10x)', also uniform(a, b) and {a, b}; "
    "0.1x: a tenth of the recipe's value. For one row: 'ROW: ...'. Default: what each method states."
)
_TRIALS = "Settings tried for each row; the first is the recipe's own."
_ON = "dev (development questions), or a JSON-lines file of your own prompts with golden answers."
_SAMPLER = "random, or tpe (needs Optuna, the extra search)."
_ROUND = "With tpe: trials of a row that are proposed at once; default 4. Results depend on it, not on the workers."
SEARCH_OPTIONS: Mapping[str, tuple[object, object]] = {
    "space": (Annotated[list[str] | None, typer.Option(metavar="SPACE", help=_SPACE)], []),
    "trials": (Annotated[int, typer.Option(min=2, help=_TRIALS)], 16),
    "seeds": (Seeds, None),
    "on": (Annotated[str, typer.Option(metavar="dev|FILE", help=_ON)], "dev"),
    "sampler": (Annotated[str, typer.Option(help=_SAMPLER)], "random"),
    "round_size": (Annotated[int | None, typer.Option("--round", min=1, help=_ROUND)], None),
    "seed": (Annotated[int, typer.Option(min=0, help="Seed of the sampler.")], 0),
    "baseline": (Baseline, None),
    "limit": (Limit, None),
    **WORK_OPTIONS,
}


@app.command(epilog="Example: distilbench run --recipe mine.yaml --methods dpo,pad-ppd --seeds 0")
@takes(RUN_OPTIONS)
def run(recipe: RecipeName = "pocket", force: Force = False, **options: Unpack[RunOptions]) -> None:
    """Run a recipe: sample, reward, train, answer, judge, score. Nothing is done twice.

    Stop it whenever you like: the same command resumes where it stopped.
    """
    from distilbench.workflows.reproduce import run as run_recipe

    with Display(spent=spending(options["runs"])) as display:
        finished_run = run_recipe(recipe, force=force, listener=display, **options)
    show_run(finished_run)


@app.command(epilog="Example: distilbench reproduce table1 --set train.learning_rate=5e-5")
@takes(RUN_OPTIONS)
def reproduce(
    target: Target = "table1",
    recipe: RecipeName = "pocket",
    min_coverage: MinCoverage = None,
    notes: Notes = False,
    force: Force = False,
    **options: Unpack[RunOptions],
) -> None:
    """Reproduce tables and figures of the paper: run what is missing, print them, write them to runs/NAME/report.

    One target, several with commas between them, or all.
    """
    from distilbench.workflows.reproduce import reproduce as reproduce_targets

    with Display(spent=spending(options["runs"])) as display:
        finished_run = reproduce_targets(
            target, recipe, min_coverage=min_coverage, force=force, listener=display, **options
        )
    show_run(finished_run, lambda: show_tables(finished_run, min_coverage, notes))


@app.command("eval", epilog="Example: distilbench eval --model pocket:student --judge pocket --limit 50")
@takes(EVAL_OPTIONS)
def evaluate(
    models: Annotated[list[str], typer.Option("--model", "-m", metavar="[NAME=]MODEL", help=_MODEL)],
    judge: Annotated[str | None, typer.Option(help=_JUDGE)] = None,
    min_coverage: MinCoverage = None,
    notes: Notes = False,
    plan_only: Listed = False,
    force: Force = False,
    **options: Unpack[EvaluationOptions],
) -> None:
    """Evaluate models without training: they answer, the judge judges, and the table comes with intervals.

    Stop it whenever you like: the same command resumes where it stopped, and nothing is asked twice.
    """
    from distilbench.workflows import evaluate as workflow

    if plan_only:
        show_plan(workflow.plan_evaluation(models, judge, **options))
        return
    with Display(spent=spending(options["runs"])) as display:
        finished_run = workflow.evaluate(
            models, judge, min_coverage=min_coverage, force=force, listener=display, **options
        )
    show_run(finished_run, lambda: show_tables(finished_run, min_coverage, notes))


@app.command(epilog="Example: distilbench search pad-ppd --space 'beta=log(0.1, 30)' --trials 16 --seeds 0,1")
@takes(SEARCH_OPTIONS)
def search(
    rows: Annotated[list[str], typer.Argument(help=_ROWS, metavar="ROW...", autocompletion=complete_rows)],
    recipe: RecipeName = "pocket",
    plan_only: Listed = False,
    force: Force = False,
    **options: Unpack[SearchOptions],
) -> None:
    """Search the options of methods on development questions, with the same budget for every row; test questions are
    never seen. Prints all trials, and writes tables, pictures and a recipe with the best values to runs/NAME/search.

    Stop it whenever you like: the same command tries the same settings and finds the finished ones.
    """
    from distilbench.searching import plan_search, run_search

    searching = plan_search(words(",".join(rows)), recipe, **options)
    if plan_only:
        show_search(searching, is_error=False)
        show_plan(searching.planned[0])
        return
    work, known = searching.planned
    show_search(searching, is_error=True)
    rest = searching.budget.trials - known
    if searching.round_size and rest:
        note = f"the values of the last {rest} of each row depend on results: random ones stand for them in this price"
        say(f"note: {note}", err=True)
    if work.pending_stages:
        say(f"to do: {cost_line(work.cost(work.pending_stages), sum(work.stored_calls.values()))}", err=True)
    with Display(spent=spending(options["runs"])) as display:
        finished = run_search(searching, force=force, listener=display)
    show_trials(finished)


@app.command(epilog="Example: distilbench report table1 --run pocket --min-coverage 0.9 --html")
def report(
    target: Target = "table1",
    run: RunName = "pocket",
    runs: Runs = Path("runs"),
    min_coverage: MinCoverage = None,
    html: Annotated[bool, typer.Option("--html", help=_HTML)] = False,
    notes: Notes = False,
    plugins: Plugins = None,
    out: Annotated[Path | None, typer.Option(help=_OUT)] = None,
    against: Annotated[str | None, typer.Option(metavar="ROW", help=_AGAINST, autocompletion=complete_rows)] = None,
) -> None:
    """Make tables again from what is in the store. Nothing is run. A file that was different is kept beside the new one
    (table1.csv.before)."""
    from distilbench.workflows.report import report as make_report

    finished_run = make_report(
        target, run, runs=runs, min_coverage=min_coverage, html=html, plugins=plugins or (), out=out
    )
    show_tables(finished_run, min_coverage, notes, page=html, against=against)


def show_run(finished_run: FinishedRun, show: Callable[[], None] = lambda: None) -> None:
    """Say how many stages ran, show the tables, and end with exit code 1 where a stage failed or nothing is scored."""
    # The summary comes first, so that the tables are the last thing on the screen.
    if finished_run.work is not None and finished_run.outcome is not None:
        outcome = finished_run.outcome
        if len(finished_run.work.plans) > 1:
            say(shared_line(finished_run.work), err=True)
        show_unfit(finished_run.work)
        counts = f"{outcome.total} stages: {outcome.cached} were done already, {len(outcome.completed_keys)} ran now"
        others = f", {len(outcome.elsewhere_keys)} by another command meanwhile" if outcome.elsewhere_keys else ""
        say(f"{counts}{others} ({duration(outcome.seconds)})", err=True)
    try:
        show()
    finally:  # a table that cannot be made is another error than the stages that failed
        if finished_run.outcome is not None and (errors := finished_run.outcome.errors):
            blocked_count = len(finished_run.outcome.blocked_keys)
            waiting = f", {blocked_count} more wait for them" if blocked_count else ""
            way_on = "once that is fixed, the same command continues the run"
            if any(PERMANENT in text for text in errors.values()):
                way_on = f"{PERMANENT}, so change first what is named there"
            say(f"{len(errors)} failed{waiting}: see above; {way_on}.", err=True)
    if finished_run.outcome is not None and finished_run.outcome.errors:
        raise typer.Exit(1)
    if finished_run.is_unscored:
        say("nothing was scored: the notes of the table say why.", err=True)
        raise typer.Exit(1)


def show_tables(
    finished_run: FinishedRun,
    min_coverage: float | None,
    notes: bool = False,
    page: bool = False,
    against: str | None = None,
) -> None:
    """Print every table, or how its rows differ from the row ``against``, and one line on stderr with where the files
    are. Raises UserError for tables without one."""
    from reports.formats.terminal import TerminalTable

    console = console_of()
    names = [name for name in finished_run.targets if name not in finished_run.problems]
    for name, table in tables_of(finished_run, names, min_coverage, against):
        console.print(TerminalTable(table, notes))
        for sentence in finished_run.damage(name) if name in finished_run.score_tables else ():
            say(sentence, label="DAMAGED ", style="bold red")
    files = ", ".join(f"{name}.*" for name in names) + (", report.html" if page else "")
    if finished_run.kept:
        names_kept = ", ".join(path.name.rpartition(".before")[0] for path in finished_run.kept)
        say(f"were different: {names_kept}; the old ones are kept beside them (*.before)", err=True)
    for reason in finished_run.unwritten:
        say(f"no files: {reason}. report --out FOLDER writes them elsewhere.", err=True)
    if not finished_run.unwritten:
        say(f"files: {finished_run.report_folder}/ ({files})", err=True)
    if finished_run.problems:
        raise UserError("\n".join(finished_run.problems.values()))


def tables_of(
    finished_run: FinishedRun, names: Sequence[str], min_coverage: float | None, against: str | None
) -> Iterator[tuple[str, Table]]:
    """Of several targets, those that have the row ``against``; the others are named on stderr. Raises UserError."""
    if against is None:
        yield from ((name, finished_run.table(name, min_coverage)) for name in names)
        return
    refusals: dict[str, str] = {}
    for name in names:
        try:
            yield name, finished_run.against(against, name, min_coverage)
        except UserError as error:
            refusals[name] = str(error)
    if refusals and len(refusals) == len(names):
        raise UserError(next(iter(refusals.values())))
    for name, reason in refusals.items():
        say(f"{name}: {reason}", err=True, label="note: ")


def show_search(searching: Search, is_error: bool) -> None:
    """What is searched: on stderr where tables follow."""
    rows, questions = format_count(len(searching.spaces), "row"), ", ".join(searching.benchmarks)
    lines = [f"search of {rows}, each with {searching.budget}; questions: {questions}"]
    for row, space in searching.spaces.items():
        lines.append(f"  {row}: {'; '.join(f'{knob}={domain}' for knob, domain in space.items())}")
    lines += [f"note: {line}" for line in (*searching.skipped, *searching.notes)]
    for line in lines:
        say(line, err=is_error)


def show_trials(finished: FinishedSearch) -> None:
    """Print the tables, and end with exit code 1 where the search could not go on, or no trial has a score."""
    from reports.formats.terminal import TerminalTable

    outcome, console = finished.outcome, console_of()
    made = f"{outcome.total} stages: {outcome.cached} were done already, {len(outcome.completed_keys)} ran now"
    say(f"{made} ({duration(outcome.seconds)})", err=True)
    for table in finished.tables:
        console.print(TerminalTable(table, notes=True))
        console.print()
    for reason in finished.unwritten:
        say(f"no files: {reason}.", err=True)
    if not finished.unwritten:
        say(f"files: {finished.search.folder}/", err=True)
        if any(row.best is not None for row in finished.searches):
            say(f"next: {finished.next_command}", err=True)
    if finished.unfinished:
        say(f"UNFINISHED: {finished.unfinished}; see above. Once that is mended, the same command goes on.", err=True)
    if finished.unfinished or all(row.best is None for row in finished.searches):
        raise typer.Exit(1)
