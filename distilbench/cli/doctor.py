"""``doctor`` and ``assets``: what this machine has and lacks, and the files of the official question sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.help import HelpGroup
from distilbench.cli.options import Overrides, Plugins, RecipeName, Runs, completing
from distilbench.cli.screen import say
from harness import assets
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.assets import AssetStatus

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}

app = typer.Typer()
files = typer.Typer(
    cls=HelpGroup,
    no_args_is_help=True,
    help="Fetch and check the files of the official question sets. They are looked for in the folder that the "
    "environment variable DISTILBENCH_ASSETS names, then in the user's cache; none of them ships with distilbench.",
)
app.add_typer(files, name="assets")


@app.command()
def doctor(
    recipe: RecipeName = "pocket", overrides: Overrides = None, plugins: Plugins = None, runs: Runs = Path("runs")
) -> None:
    """Check Python, packages, PyTorch, disk, memory, question files, hub and judges, for one recipe.

    Every line is ok, warn or fail, with what to do about it. Exit code 1 when one fails.
    """
    from distilbench.workflows.check import examine

    states = set()
    # Printed one by one: the hub and the judges may take seconds to answer.
    for finding in examine(recipe, changes=overrides or [], plugins=plugins or [], runs=runs):
        states.add(finding.state)
        say(finding.text, label=f"{finding.state:<5}", style=STYLES[finding.state], hang=5)
        if finding.remedy:
            say(f"      -> {finding.remedy}", hang=3)
    if "fail" in states:
        raise typer.Exit(1)


Names = Annotated[
    list[str] | None, typer.Argument(help="Files; default: all.", autocompletion=completing(assets.manifest))
]


@files.command()
def status(names: Names = None) -> None:
    """Show whether each file is there and is the pinned one."""
    show_assets(assets.status(names))


@files.command()
def verify(names: Names = None) -> None:
    """Like status, with exit code 1 when a file is wrong or missing."""
    show_assets(assets.status(names), complete=True)


@files.command()
def pull(names: Names = None) -> None:
    """Download what is missing from its pinned public source, checked by sha256. Exit code 1 when one is missing."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def advance(file: str, received: int, total: int | None) -> None:
            if file not in tasks:  # its size is known only when the server has answered
                tasks[file] = progress.add_task(file)
            progress.update(tasks[file], completed=received, total=total)

        statuses = assets.pull(names, advance)
    show_assets(statuses, complete=True)


def show_assets(statuses: list[AssetStatus], complete: bool = False) -> None:
    """One line per file, and the remedy where there is one; ``complete``: exit code 1 where one is wrong or missing."""
    if not statuses:
        raise UserError("no such asset: `distilbench assets status` lists them.")
    width = max(len(asset.file) for asset in statuses)
    for asset in statuses:
        say(f"{asset.file:<{width}}  {asset.state:<8}{asset.path or ''}")
    # The first of each state: the remedy is the same for all of them, and there are more than 80 files.
    for message in {asset.state: asset.message for asset in reversed(statuses) if asset.message}.values():
        say(f"\n{message}", err=True)
    good = sum(asset.state == "ok" for asset in statuses)
    say(f"{good} of {len(statuses)} files are there and whole", err=True)
    if complete and good < len(statuses):
        raise typer.Exit(1)
