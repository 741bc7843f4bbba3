"""``doctor`` and ``assets``: what this machine has and lacks, and the files of the official question sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import Overrides, Plugins, RecipeName, Runs
from harness import assets
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.assets import AssetStatus

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}

files = typer.Typer(
    no_args_is_help=True,
    help="Fetch and check the files of the official question sets. They are looked for in the folder that the "
    "environment variable DISTILBENCH_ASSETS names, then in the user's cache; none of them ships with distilbench.",
)


def register(app: typer.Typer) -> None:
    app.command()(doctor)
    app.add_typer(files, name="assets")


def doctor(
    recipe: RecipeName = "pocket", overrides: Overrides = None, plugins: Plugins = None, runs: Runs = Path("runs")
) -> None:
    """Check Python, packages, PyTorch, disk, memory, question files, hub and judges, for one recipe.

    Every line is ok, warn or fail, with what to do about it. Exit code 1 when one fails.
    """
    from rich.text import Text

    from distilbench.cli.screen import console_of
    from distilbench.workflows.machine import examine

    console = console_of()
    failed = False
    for finding in examine(recipe, changes=overrides or [], plugins=plugins or [], runs=runs):
        failed = failed or finding.state == "fail"
        console.print(Text.assemble((f"{finding.state:<5}", STYLES[finding.state]), finding.text), soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"      -> {finding.remedy}"), soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def complete_asset(incomplete: str) -> list[str]:
    return [name for name in assets.manifest() if name.startswith(incomplete)]


Names = Annotated[list[str] | None, typer.Argument(help="Files; default: all.", autocompletion=complete_asset)]


@files.command()
def status(names: Names = None) -> None:
    """Say of every file whether it is there and the pinned one (unchanged files are not read again)."""
    show(assets.status(names))


@files.command()
def verify(names: Names = None) -> None:
    """Read every file again and compare its sha256 with the pinned one. Exit code 1 when one is wrong or missing."""
    if any(asset.state != "ok" for asset in show(assets.verify(names))):
        raise typer.Exit(1)


@files.command()
def pull(names: Names = None) -> None:
    """Download what is missing from its pinned public source, checked by sha256. Exit code 1 when one is missing."""
    with downloads() as advance:
        statuses = assets.pull(names, advance)
    if any(asset.state != "ok" for asset in show(statuses)):
        raise typer.Exit(1)


@contextmanager
def downloads() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar per file that comes down, for as long as the ``with`` block lasts."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def advance(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(file)
            progress.update(tasks[file], completed=done, total=total)

        yield advance


def show(statuses: list[AssetStatus]) -> list[AssetStatus]:
    """One line per file, and for what is not fine what to do."""
    if not statuses:
        raise UserError("no such asset: `distilbench assets status` lists them.")
    width = max(len(asset.file) for asset in statuses)
    for asset in statuses:
        typer.echo(f"{asset.file:<{width}}  {asset.state:<8}{asset.path or ''}")
    for asset in statuses:
        if asset.message:
            typer.echo(f"\n{asset.message}", err=True)
    good = sum(asset.state == "ok" for asset in statuses)
    typer.echo(f"{good} of {len(statuses)} files are there and whole", err=True)
    return statuses
