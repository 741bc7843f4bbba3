"""``assets pull | verify | status | rebuild``: the files of the official question sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.assets import Standing

app = typer.Typer(
    no_args_is_help=True,
    help="Fetch and check the files of the official question sets. They are looked for in the folder that the "
    "environment variable DISTILBENCH_ASSETS names, then in the user's cache; none of them ships with distilbench.",
)


def complete_asset(incomplete: str) -> list[str]:
    """Names in the manifest."""
    from harness.assets import manifest

    return [name for name in manifest() if name.startswith(incomplete)]


Names = Annotated[list[str] | None, typer.Argument(help="Files; default: all.", autocompletion=complete_asset)]


@app.command()
def status(names: Names = None) -> None:
    """Say of every file whether it is there and the pinned one (unchanged files are not read again)."""
    from harness.assets import status as standings

    show(standings(names))


@app.command()
def verify(names: Names = None) -> None:
    """Read every file again and compare its sha256 with the pinned one. Exit code 1 when one is wrong or missing."""
    from harness.assets import verify as standings

    if any(each.state != "ok" for each in show(standings(names))):
        raise typer.Exit(1)


@app.command()
def pull(names: Names = None) -> None:
    """Download what is missing from its pinned public source, checked by sha256. Exit code 1 when one is missing."""
    from harness.assets import pull as fetch

    with downloads() as advance:
        found = fetch(names, advance)
    if any(each.state != "ok" for each in show(found)):
        raise typer.Exit(1)


@app.command()
def rebuild(
    fetch: Annotated[bool, typer.Option("--fetch", help="Pull missing sources first (some 110 MB).")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where to write; default: the assets folder.")] = None,
) -> None:
    """Compute the reconstructed length-control files again from their pinned sources.

    Exit code 1 when a source is missing or a value differs from the pinned file.
    """
    from judges.benchmarks.alpaca_eval.recover_difficulties import rebuild as compute

    with downloads() as advance:
        found = compute(folder, fetch, advance)
    for each in found:
        typer.echo(f"{each.file}  {each.state}: {each.message}")
    if any(each.state in ("different", "source missing") for each in found):
        raise typer.Exit(1)


@contextmanager
def downloads() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar per file that comes down, for as long as the ``with`` block lasts."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def advance(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(file)
            progress.update(tasks[file], completed=done, total=total)

        yield advance


def show(standings: list[Standing]) -> list[Standing]:
    """One line per file, and for what is not fine what to do."""
    if not standings:
        raise UserError("no such asset: `distilbench assets status` lists them.")
    width = max(len(each.file) for each in standings)
    for each in standings:
        typer.echo(f"{each.file:<{width}}  {each.state:<8}{each.path or ''}")
    for each in standings:
        if each.message:
            typer.echo(f"\n{each.message}", err=True)
    good = sum(each.state == "ok" for each in standings)
    typer.echo(f"{good} of {len(standings)} files are there and whole", err=True)
    return standings
