"""``verify`` and ``explain``: can a number be believed, and where does it come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distilbench.cli.options import Plugins, RecipeName, Runs
from harness.text import format_count

app = typer.Typer()
_QUESTION = "Id of a question: its answer, the judge's replies and the exact requests."
_RUN = "Folder of a run (runs/NAME), or of one target of it."


@app.command(epilog="Example: distilbench verify runs/pocket")
def verify(run: Annotated[Path, typer.Argument(help=_RUN)], plugins: Plugins = None) -> None:
    """Check a finished run: checksums of all files behind its cells, every reply read again, every score made again.

    Nothing is run or written. Exit code 1 where something differs; the file and the cell are named.
    """
    from distilbench.workflows.verify import verify as verify_run

    verification = verify_run(run, plugins=plugins or ())
    typer.echo(f"checksums of {format_count(verification.artifacts, 'artifact')} compared")
    gap = f" ({verification.without_reply} have no reply in the ledger)" if verification.without_reply else ""
    typer.echo(f"{format_count(verification.judgments, 'judgment')} read again{gap}")
    if verification.without_request:
        typer.echo(f"requests of {verification.without_request} are not in the ledger, not compared")
    typer.echo(f"{verification.equal} of {format_count(verification.scores, 'score')} recomputed, equal to 1e-9")
    for table in verification.tables:
        typer.echo(f"compared with {table}")
    if verification.missing:
        count, examples = format_count(len(verification.missing), "artifact"), ", ".join(verification.missing[:3])
        typer.echo(f"{count} cleared away, not checked: {examples}")
    for problem in verification.problems:
        typer.echo(f"DIFFERS {problem}", err=True)
    if verification.problems:
        raise typer.Exit(1)


@app.command(epilog="Example: distilbench explain table1 dpo mt_bench.score --question mt_bench-test-3")
def explain(
    target: Annotated[str, typer.Argument(help="The table that the cell is in.")],
    row: Annotated[str, typer.Argument(help="The row, as a recipe names it.")],
    metric: Annotated[str, typer.Argument(help="The column, such as alpaca_eval.lc.")],
    question: Annotated[str | None, typer.Option(help=_QUESTION)] = None,
    recipe: RecipeName = "pocket",
    runs: Runs = Path("runs"),
    plugins: Plugins = None,
) -> None:
    """Say where a number comes from: its judgments, answers and checkpoint, and with --question every verdict on it."""
    from distilbench.cli.screen import printable
    from distilbench.workflows.report import run_folder
    from distilbench.workflows.verify import explain as explain_cell

    folder = run_folder(runs, recipe)
    for part in explain_cell(folder, target, row, metric, question=question, plugins=plugins or ()):
        typer.echo(f"{row}, {metric}, seed {part.seed}")
        for heading, text in part.lines:
            typer.echo(f"  {heading}: {printable(text)}".replace("\n", "\n    "))
