"""``report``: tables and the page from what is in the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import MinCoverage, Notes, Plugins, RecipeName, Runs, Target

if TYPE_CHECKING:
    from distilbench.workflows.finished_run import FinishedRun


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: distilbench report table1 --recipe pocket --min-coverage 0.9 --html")(report)


def report(
    target: Target = "table1",
    recipe: RecipeName = "pocket",
    runs: Runs = Path("runs"),
    min_coverage: MinCoverage = None,
    html: Annotated[
        bool,
        typer.Option("--html", help="Also write report.html: tables, figures, run card, all questions and answers."),
    ] = False,
    notes: Notes = False,
    plugins: Plugins = None,
) -> None:
    """Make tables again from what is in the store. Nothing is run.

    The recipe may be a shipped name, a YAML file, or the name of a folder under runs/.
    """
    from distilbench.workflows.report import report as make

    finished = make(target, recipe, runs=runs, min_coverage=min_coverage, html=html, notes=notes, plugins=plugins or ())
    show_tables(finished, min_coverage, notes, page=html)


def show_tables(finished: FinishedRun, min_coverage: float | None, notes: bool = False, page: bool = False) -> None:
    """Print every table, and one line on stderr with where the files are."""
    from distilbench.cli.screen import console_of
    from reports.formats.terminal import TerminalTable

    console = console_of()
    folder = finished.folder / "report"
    for name in finished.targets:
        if name in finished.score_tables:
            console.print(TerminalTable(finished.table(name, min_coverage), notes))
        else:
            from distilbench.workflows.compare_judges import write_table5

            console.print(TerminalTable(write_table5(finished, name)))
    files = ", ".join(f"{name}.*" for name in finished.targets) + (", report.html" if page else "")
    typer.echo(f"files: {folder}/ ({files})", err=True)
