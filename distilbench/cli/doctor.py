"""``doctor`` and ``assets``: what this machine has and lacks, and the files of the official question sets."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from distilbench.cli.options import Overrides, Plugins, RecipeName, Runs
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.assets import Standing
    from harness.contracts.registry import Registry
    from harness.recipe.recipe import Recipe

GIB = 1 << 30
_TIMEOUT = 3.0
"""Seconds to wait for the model hub."""


files = typer.Typer(
    no_args_is_help=True,
    help="Fetch and check the files of the official question sets. They are looked for in the folder that the "
    "environment variable DISTILBENCH_ASSETS names, then in the user's cache; none of them ships with distilbench.",
)


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    state: Literal["ok", "warn", "fail"]
    what: str
    remedy: str = ""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(doctor)
    app.add_typer(files, name="assets")


def doctor(
    recipe: RecipeName = "pocket", overrides: Overrides = None, plugins: Plugins = None, runs: Runs = Path("runs")
) -> None:
    """Check Python, packages, PyTorch, disk, memory, question files, hub and judges, for one recipe.

    Every line is ok, warn or fail, with what to do about it. Exit code 1 when one fails.
    """
    from rich.text import Text

    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    console = Console()
    failed = 0
    for finding in findings(recipe, overrides or [], plugins or [], runs):
        failed += finding.state == "fail"
        line = Text.assemble((f"{finding.state:<5}", colours[finding.state]), finding.what)
        console.print(line, soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"      -> {finding.remedy}"), soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def findings(recipe: str, overrides: Sequence[str], plugins: Sequence[str], runs: Path) -> Iterator[Finding]:
    """All checks, as they are made. One that cannot be made is a finding, not the end."""
    checks: list[Callable[[], Iterator[Finding]]] = [folders, python, packages, torch, lambda: room(runs), questions]
    for check in checks:
        yield from check()
    try:
        from distilbench.plugins import load_registry
        from harness.recipe.recipe import load_recipe

        registry = load_registry(plugins)
        loaded = load_recipe(recipe, overrides, registry)
    except (UserError, ImportError) as error:
        yield Finding("fail", f"recipe {recipe}: {error}", "Mend the recipe; `distilbench recipe check` says the same.")
        return
    yield Finding("ok", f"recipe {recipe}: fine")
    yield from hub(loaded, registry)
    yield from judges(loaded, registry)


def folders() -> Iterator[Finding]:
    """Whether the generic package names are ours."""
    from distilbench.plugins import check_folders

    try:
        check_folders()
        yield Finding("ok", "packages harness, methods, judges, results, reports, recipes are distilbench's")
    except UserError as error:
        yield Finding("fail", str(error), "A virtual environment of its own has no such conflicts.")


def python() -> Iterator[Finding]:
    """The interpreter, and whether it is in a virtual environment."""
    version = platform.python_version()
    own = sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ
    advice = "" if own else "Generic package names are safest in a virtual environment: python -m venv .venv"
    yield Finding("ok" if own else "warn", f"Python {version} on {platform.platform(terse=True)}", advice)


def packages() -> Iterator[Finding]:
    """Installed versions against the ranges that this distribution states."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    try:
        stated = [Requirement(text) for text in requires("distilbench") or []]
    except PackageNotFoundError:
        yield Finding("warn", "distilbench itself is not installed", "Run `pip install -e .` in the checkout.")
        return
    wanted = [each for each in stated if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = []
    for each in wanted:
        try:
            found = version(each.name)
        except PackageNotFoundError:
            wrong.append(f"{each.name} is missing (needs {each.specifier})")
            continue
        if not each.specifier.contains(found, prereleases=True):
            wrong.append(f"{each.name} {found} is outside of {each.specifier}")
    if wrong:
        yield Finding(
            "fail", "packages: " + "; ".join(wrong), "Run `pip install -e . -c constraints.txt` in the checkout."
        )
    else:
        yield Finding("ok", f"packages: all {len(wanted)} within the stated ranges")


def torch() -> Iterator[Finding]:
    """Whether PyTorch loads, and on what."""
    try:
        import torch as library
    except Exception as error:  # noqa: BLE001 - a broken installation raises whatever its loader finds first
        remedy = "Install it again; on a machine without a GPU use the CPU build, see the README."
        yield Finding("fail", f"torch cannot be imported: {type(error).__name__}: {error}", remedy)
        return
    cores, threads = os.cpu_count() or 1, library.get_num_threads()
    if library.cuda.is_available():
        names = ", ".join(library.cuda.get_device_name(index) for index in range(library.cuda.device_count()))
        bf16 = "with" if library.cuda.is_bf16_supported() else "without"
        yield Finding("ok", f"torch {library.__version__} on {names} ({bf16} bfloat16)")
    else:
        yield Finding("ok", f"torch {library.__version__} on the CPU: {threads} threads, {cores} cores, no CUDA device")


def room(runs: Path) -> Iterator[Finding]:
    """Free disk where runs go, and memory."""
    place = runs.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / GIB
    remedy = "Free some space, or point --runs (or DISTILBENCH_RUNS) elsewhere."
    yield Finding(
        "ok" if free > 2 else "warn" if free > 0.3 else "fail",
        f"disk: {free:.1f} GiB free at {place}",
        "" if free > 2 else remedy,
    )
    if not os.access(place, os.W_OK):
        yield Finding("fail", f"{place} cannot be written", "Point --runs (or DISTILBENCH_RUNS) to a folder of yours.")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    free = available() or total
    tight = "Set compute.workers=1 if a worker is killed." if free < 3 else ""
    yield Finding("warn" if tight else "ok", f"memory: {free:.1f} of {total:.1f} GiB available", tight)


def available() -> float | None:
    """Available memory in GiB as Linux counts it; ``None`` elsewhere."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    match = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(match[1]) * 1024 / GIB if match else None


def questions() -> Iterator[Finding]:
    """The official question files; pocket needs none of them."""
    from harness.assets import folders as places
    from harness.assets import status

    standings = status()
    good = sum(each.state == "ok" for each in standings)
    wrong = [each.file for each in standings if each.state == "wrong"]
    where = ", ".join(str(place) for place in places())
    text = f"official questions: {good} of {len(standings)} files in {where}"
    if wrong:
        yield Finding("fail", f"{text}; not the pinned ones: {', '.join(wrong)}", "See `distilbench assets verify`.")
    elif good < len(standings):
        yield Finding("warn", text, "Only recipes with official questions need them: `distilbench assets pull`.")
    else:
        yield Finding("ok", text)


def hub(recipe: Recipe, registry: Registry) -> Iterator[Finding]:
    """Whether the model hub answers, where the recipe needs it."""
    import urllib.error
    import urllib.request

    names = [recipe.family.teacher, recipe.family.student]
    remote = [name for name in names if not name.startswith(("pocket:", "/", ".", "~")) and not Path(name).is_dir()]
    dataset = registry.sources[recipe.prompts.source].hub
    if not remote and dataset is None:
        yield Finding("ok", "model hub: not needed by this recipe")
        return
    needs = ", ".join(dict.fromkeys([*remote, *([dataset] if dataset else [])]))
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        yield Finding(
            "warn", f"model hub: HF_HUB_OFFLINE is set; {needs} must be in the cache", "Unset it to download."
        )
        return
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if not address.startswith(("https://", "http://")):
        yield Finding("fail", f"model hub: HF_ENDPOINT is {address!r}", "It must start with https:// or http://.")
        return
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the scheme is checked above
        urllib.request.urlopen(request, timeout=_TIMEOUT).close()  # noqa: S310
        yield Finding("ok", f"model hub: {address} answers (needed for {needs})")
    except urllib.error.HTTPError as error:
        yield Finding("ok", f"model hub: {address} answers with {error.code} (needed for {needs})")
    except OSError as error:
        remedy = "Use local folders (family.student=./folder) and prompts.fallback, or mend the connection."
        yield Finding("warn", f"model hub: {address} does not answer ({error}); needed for {needs}", remedy)


def judges(recipe: Recipe, registry: Registry) -> Iterator[Finding]:
    """Whether the recipe's judges can be reached."""
    from harness.stages.context import build

    for name, entry in recipe.judges.items():
        kind = registry.judges[entry.kind]
        try:
            judge = kind.make(build(kind.config, entry.config))
            wrong = judge.check()
        except UserError as error:
            wrong = str(error)
        if wrong:
            yield Finding("fail", f"judge {name} ({entry.kind}): {wrong}", "Start it, or name another under judges.")
        else:
            yield Finding("ok", f"judge {name} ({entry.kind}): {judge.model} at {judge.endpoint}")


def complete_asset(incomplete: str) -> list[str]:
    """Names in the manifest."""
    from harness.assets import manifest

    return [name for name in manifest() if name.startswith(incomplete)]


Names = Annotated[list[str] | None, typer.Argument(help="Files; default: all.", autocompletion=complete_asset)]


@files.command()
def status(names: Names = None) -> None:
    """Say of every file whether it is there and the pinned one (unchanged files are not read again)."""
    from harness.assets import status as standings

    show(standings(names))


@files.command()
def verify(names: Names = None) -> None:
    """Read every file again and compare its sha256 with the pinned one. Exit code 1 when one is wrong or missing."""
    from harness.assets import verify as standings

    if any(each.state != "ok" for each in show(standings(names))):
        raise typer.Exit(1)


@files.command()
def pull(names: Names = None) -> None:
    """Download what is missing from its pinned public source, checked by sha256. Exit code 1 when one is missing."""
    from harness.assets import pull as fetch

    with downloads() as advance:
        found = fetch(names, advance)
    if any(each.state != "ok" for each in show(found)):
        raise typer.Exit(1)


@files.command()
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
