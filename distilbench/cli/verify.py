"""``view``, ``verify``, ``explain``, ``pocket premises``: look at a number, check it, trace it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from distilbench.cli.help import HelpGroup
from distilbench.cli.options import (
    WORK_OPTIONS,
    Force,
    Plugins,
    RecipeName,
    RunArgument,
    RunName,
    Runs,
    Seeds,
    takes,
)
from distilbench.cli.screen import say
from harness.errors import UserError
from harness.text import format_count

if TYPE_CHECKING:
    from distilbench.premises import PremiseOptions

app = typer.Typer()
pocket = typer.Typer(cls=HelpGroup, help="The pocket world: what it can test.", no_args_is_help=True)
app.add_typer(pocket, name="pocket")
_QUESTION = "Id of a question: its answer, the judge's replies and the exact requests."
_VIEWED = "Runs: names under --runs, folders or recipes; default: all."
_PORT = "Port on 127.0.0.1; default: 8377, or a free one if that is taken. 0: a free one."


@app.command(epilog="Example: distilbench view pocket")
def view(
    words: Annotated[list[str] | None, typer.Argument(metavar="RUN", help=_VIEWED)] = None,
    runs: Runs = Path("runs"),
    port: Annotated[int | None, typer.Option(min=0, max=65535, help=_PORT)] = None,
    plugins: Plugins = None,
) -> None:
    """Show runs in a browser, while they run and after: stages, loss curves, answers, verdicts, cost, tables, and
    several runs side by side. Only this machine can read it; nothing is run or written. Ctrl-C ends it."""
    try:
        from distilbench.viewing.server import view as view_runs
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UserError("view needs starlette and uvicorn: pip install 'distilbench[view]'.") from error

    view_runs(words or (), runs, port, plugins or (), lambda text: say(text, err=True))


@app.command(epilog="Example: distilbench verify pocket")
def verify(run: RunArgument = "pocket", runs: Runs = Path("runs"), plugins: Plugins = None) -> None:
    """Check a finished run: checksums of all files behind its cells, every reply read again, every score made again.

    Nothing is run or written. Exit code 1 where something differs; the file and the cell are named.
    """
    from distilbench.workflows.verify import verify as verify_run
    from results.run.find import find_run

    verification = verify_run(find_run(run, runs).path, plugins=plugins or ())
    say(f"checksums of {format_count(verification.artifacts, 'artifact')} compared")
    gap = f" ({verification.without_reply} have no reply in the ledger)" if verification.without_reply else ""
    say(f"{format_count(verification.judgments, 'judgment')} read again{gap}")
    if verification.without_request:
        say(f"requests of {verification.without_request} are not in the ledger, not compared")
    say(f"{verification.equal} of {format_count(verification.scores, 'score')} recomputed, equal to 1e-9")
    if verification.files:
        folder, names = Path(verification.files[0]).parent, [Path(file).name for file in verification.files]
        say(f"made again and compared with {folder}/: {', '.join(names)}")
    for text in verification.not_compared:
        say(f"not compared: {text}")
    for text in verification.remarks:
        say(f"note: {text}")
    if verification.missing:
        count, examples = format_count(len(verification.missing), "artifact"), ", ".join(verification.missing[:3])
        say(f"{count} cleared away, not checked: {examples}")
    for problem in verification.problems:
        say(f"DIFFERS {problem}", err=True)
    if verification.problems:
        raise typer.Exit(1)


@app.command(epilog="Example: distilbench explain table1 dpo mt_bench.score --question mt_bench-test-3")
def explain(
    target: Annotated[str, typer.Argument(help="The table that the cell is in.")],
    row: Annotated[str, typer.Argument(help="The row, as a recipe names it.")],
    metric: Annotated[str, typer.Argument(help="The column, such as alpaca_eval.lc.")],
    question: Annotated[str | None, typer.Option(help=_QUESTION)] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="One training seed; default: all.")] = None,
    run: RunName = "pocket",
    runs: Runs = Path("runs"),
    plugins: Plugins = None,
) -> None:
    """Show where a number comes from: its judgments, answers and checkpoint, and with --question every verdict on it;
    without, the questions with the highest and lowest shares."""
    from distilbench.workflows.verify import explain as explain_cell
    from results.run.find import find_run

    folder = find_run(run, runs).folder
    parts, again = explain_cell(folder, target, row, metric, seed=seed, question=question, plugins=plugins or ())
    for part in parts:
        say(f"{row}, {metric}, seed {part.seed}")
        for heading, text in part.lines:
            say(f"  {heading}: {text}".replace("\n", "\n    "))
    say("to make the table again:")
    say("  " + on_lines(again))


def on_lines(command: str) -> str:
    """With each option on a line of its own; what a shell's quotes hold stays whole."""
    breaks = {" && ": "\n  ", " --": " \\\n      --"}
    return re.sub(r""""'"|'[^']*'| && | --""", lambda found: breaks.get(found[0], found[0]), command)


@pocket.callback()
def pocket_commands() -> None: ...


@pocket.command(epilog="Example: distilbench pocket premises --seeds 0,1,2")
@takes({"seeds": (Seeds, None), **WORK_OPTIONS})
def premises(
    recipe: RecipeName = "pocket",
    out: Annotated[Path | None, typer.Option(help="A JSON file for the numbers.")] = None,
    force: Force = False,
    **options: Unpack[PremiseOptions],
) -> None:
    """Measure the seven conditions under which pocket can test the paper's claims, and say which hold.

    The rows of Table 1 that they need are run, where they are missing.
    """
    from distilbench.cli.screen import Display, spending
    from distilbench.premises import premises as measure

    with Display(spent=spending(options["runs"])) as display:
        found = measure(recipe, force=force, listener=display, **options)
    for premise in found:
        verdict = {True: "holds", False: "does not hold", None: "to know"}[premise.holds]
        bound = f" ({premise.bound})" if premise.bound else ""
        say(f"{premise.name} {verdict}: {premise.claim}{bound}")
        width = max(map(len, premise.numbers))
        for name, value in premise.numbers.items():
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
            say(f"   {name:<{width}}  {shown}")
    if out is not None:
        out.write_text(json.dumps([asdict(premise) for premise in found], indent=1) + "\n", encoding="utf-8")
