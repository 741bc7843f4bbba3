"""``compare-judges``: other judges on the answers of a run, or annotations made elsewhere, compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.judge_options import (
    Annotations,
    Budget,
    Humans,
    Judges,
    Own,
    Repeats,
    Simulated,
    judge_entries,
    judges_of,
    own_rows_of,
    split,
)
from harness.cli.options import MaxCost, Plugins, Runs, check_runs, words
from harness.errors import UserError
from harness.words import counted

if TYPE_CHECKING:
    import pandas as pd

    from harness.cli.rejudging import Task
    from harness.registry import Registry
    from harness.types import Request
    from reports.judges.compare import Comparison
    from reports.judges.panel import Panel
    from results.store import ArtifactStore

FOLDER = "judges"
"""Under ``runs/NAME``: what was compared, and the tables."""
PEOPLE = 4
"""Simulated annotators of an answer, as many as AlpacaEval's."""
POCKET_JUDGES = {
    "noise-0.5": "{kind: pocket}",
    "noise-2": "{kind: pocket, noise: 2.0}",
    "noise-4": "{kind: pocket, noise: 4.0}",
    "noise-8": "{kind: pocket, noise: 8.0}",
}
"""The judges of pocket's Table 5: log-odds of noise."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "compare-judges",
        epilog="Example: distilbench compare-judges --run pocket --judges main,gpt-4.1,small=llama@http://HOST/v1",
    )(compare_judges)


def compare_judges(
    judges: Judges = None,
    run: Annotated[
        str, typer.Option(help="The run whose answers are judged: NAME or NAME/TARGET under --runs.")
    ] = "pocket",
    annotations: Annotations = None,
    humans: Humans = None,
    simulate_humans: Simulated = None,
    benchmarks: Annotated[str | None, typer.Option(help="Only these benchmarks of the run.")] = None,
    repeats: Repeats = 2,
    own: Own = None,
    budget: Budget = None,
    max_cost: MaxCost = None,
    plugins: Plugins = None,
    runs: Runs = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Folder of the tables; default: runs/NAME/TARGET/judges.")] = None,
    replicates: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the questions.")] = 1000,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would be asked and what it costs.")] = False,
) -> None:
    """Compare judges: do they agree, do they rank the methods alike, what are they biased by, what do they cost.

    A run's answers are judged again in both orders, through the ledger, so nothing is asked twice; tables come as
    text, Markdown, LaTeX, CSV and JSON, with figures.
    """
    from reports.judges.compare import compare

    chosen = split(judges or "")
    if annotations:
        from reports.judges.annotations import annotation_panel

        panel, teacher = annotation_panel(annotations, chosen), ""
        place = runs / f"{FOLDER}-{annotations[0].stem}"
    else:
        from reports.judges.load import load_panel
        from results.store import ArtifactStore

        check_runs(runs)
        store, folder = ArtifactStore(runs / "store"), run_folder(runs, run)
        place = folder / FOLDER
        wanted = (chosen, words(benchmarks), repeats)
        if not judge_again(folder, store, wanted, own_rows_of(own), (max_cost, plugins or ()), plan_only):
            return
        panel, teacher = load_panel(place, store)
    panel, said = people(panel, humans, simulate_humans)
    show(compare(panel, said, budget=budget, teacher=teacher, replicates=replicates), out or place)


def run_folder(runs: Path, name: str) -> Path:
    """Where the run ``NAME/TARGET`` lies; of ``NAME`` its main table, or the one target that there is.

    Raises UserError where there is no such run, or which one is meant is not clear.
    """
    from results.run import described, place

    folder = runs / name
    if (folder / "run.json").is_file():
        return folder
    targets = described(folder)
    if not targets:
        known = sorted({path.parent.parent.name for path in runs.glob("*/*/run.json")})
        raise UserError(f"--run {name}: no such run under {runs}; there are: {', '.join(known) or 'none'}.")
    if len(targets) > 1 and "table1" not in targets:
        raise UserError(f"--run {name}: which of its targets? {', '.join(f'{name}/{each}' for each in targets)}.")
    return place(folder, "table1" if "table1" in targets else targets[0])


def people(panel: Panel, humans: Path | None, simulated: int | None) -> tuple[Panel, pd.DataFrame | None]:
    """Human annotations from a file, simulated ones, or none; the panel says which. Raises UserError for both."""
    from reports.judges.annotations import read_humans
    from reports.judges.simulated import describe_humans, simulated_humans

    if humans and simulated:
        raise UserError("--humans and --simulate-humans: give one of them.")
    if humans:
        return panel, read_humans(humans, next((name for name in panel.benchmarks if panel.paired[name]), None), panel)
    if simulated:
        panel = replace(panel, notes=(*panel.notes, describe_humans(simulated)))
        return panel, simulated_humans(panel, simulated, seed=0)
    return panel, None


def table5(folder: Path, store: ArtifactStore, humans: Path | None = None, plugins: Sequence[str] = ()) -> Comparison:
    """Target ``table5`` on the answers of a run: its comparison, whose ``humans`` and ``reports.judges.table5`` it is.

    With ``humans`` the run's own judges; without, pocket judges of several noise levels and simulated people.

    Args:
        folder: ``runs/NAME/table5``, with a finished ``run.json``.
    """
    from reports.judges.compare import compare
    from reports.judges.load import load_panel

    named = () if humans else tuple(f"{name}={spec}" for name, spec in POCKET_JUDGES.items())
    names = (named, () if humans else ("alpaca_eval",), 1)
    judge_again(folder, store, names, {}, (None, plugins), plan_only=False)
    panel, teacher = load_panel(folder / FOLDER, store)
    panel, said = people(panel, humans, None if humans else PEOPLE)
    return compare(panel, said, teacher=teacher)


def compared_again(folder: Path, store: ArtifactStore) -> Comparison | None:
    """The comparison that was made of a run, from what is stored; ``None`` where none was."""
    from reports.judges.compare import compare
    from reports.judges.load import load_panel

    if not (folder / FOLDER / "sources.json").is_file():
        return None
    panel, teacher = load_panel(folder / FOLDER, store)
    panel, said = people(panel, None, PEOPLE if folder.name == "table5" else None)
    return compare(panel, said, teacher=teacher)


def write_judges(folder: Path, store: ArtifactStore, out: Path) -> None:
    """Target ``table5``: print it, and write ``table5.*`` into ``out`` and all else under ``folder/judges``."""
    from rich.console import Console

    from reports.judges.render import terminal
    from reports.judges.table import write_comparison
    from reports.judges.table5 import table5 as grid
    from reports.judges.table5 import write_table5

    comparison = table5(folder, store)
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(terminal([grid(comparison)]))
    for path in [*write_table5(comparison, out), *write_comparison(comparison, folder / FOLDER)]:
        typer.echo(f"wrote {path}", err=True)


def show(comparison: Comparison, folder: Path) -> None:
    """Print the tables on stdout and write the files; their paths go to stderr."""
    from rich.console import Console

    from reports.judges.table import screen, write_comparison

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(screen(comparison))
    for path in write_comparison(comparison, folder):
        typer.echo(f"wrote {path}", err=True)


def judge_again(
    folder: Path,
    store: ArtifactStore,
    wanted: tuple[Sequence[str], Sequence[str], int],
    own: dict[str, list[str]],
    more: tuple[float | None, Sequence[str]],
    plan_only: bool,
) -> bool:
    """Do the judging that is missing, and describe it in ``folder/judges``; false when it was only planned.

    Args:
        folder: ``runs/NAME/TARGET``.
        wanted: judges, benchmarks, repeats.
        own: judge to the rows of its own family.
        more: dollars that may be spent, plug-ins.
    """
    from harness.cli import rejudging
    from harness.cli.wiring import load_registry
    from results.run import read_run

    names, benchmarks, repeats = wanted
    max_cost, plugins = more
    run, registry = read_run(folder / "run.json"), load_registry(plugins)
    entries = judge_entries(names or judges_of(run), run, registry)
    unknown = [name for name in own if name not in entries]
    if unknown:
        raise UserError(f"--own {unknown[0]}=...: no judge of this name is compared; there are: {', '.join(entries)}.")
    judged = rejudging.judged_benchmarks(run, store, registry, benchmarks, repeats)
    ask = {**run.recipe.get("ask", {}), "max_cost": max_cost}
    ask.pop("accept_failures", None)
    tasks = [rejudging.task(name, entry, each, registry, ask) for name, entry in entries.items() for each in judged]
    known: dict[str, list[Request]] = {}
    for made in tasks:
        rejudging.estimate(made, store, registry, store.root.parent / "ledger.sqlite", known)
    bill(tasks, max_cost)
    if plan_only:
        return False
    _check(tasks, registry)
    failed = rejudging.execute(tasks, run, registry, store, tuple(plugins))
    done = [made for made in tasks if store.done(made.score)]
    if failed:
        broken = ", ".join(sorted({made.judge for made in tasks if made not in done}))
        typer.echo(
            f"{counted(failed, 'stage')} failed, see above; without a whole result: {broken}. The same command goes on",
            err=True,
        )
    if failed or not done:
        raise typer.Exit(1)
    content = rejudging.describe(done, run, registry, store, own)
    rejudging.write_description(folder / FOLDER, content, rejudging.features(done, store))
    return True


def bill(tasks: Sequence[Task], max_cost: float | None) -> None:
    """Say on stderr what will be asked. Raises UserError where it costs more than ``max_cost``, or nobody knows."""
    total: float | None = 0.0
    for name in dict.fromkeys(made.judge for made in tasks):
        mine = [made for made in tasks if made.judge == name]
        prices = [made.dollars for made in mine]
        cost = None if None in prices else sum(price for price in prices if price is not None)
        asked, stored = sum(made.asked for made in mine), sum(made.stored for made in mine)
        shown = "price not known" if cost is None else f"${cost:,.2f}"
        if not asked and not stored:
            typer.echo(f"{name}: all verdicts are stored", err=True)
        else:
            calls = counted(asked, "call")
            typer.echo(f"{name}: {calls} to make ({shown}), {stored:,} more are in the ledger", err=True)
        total = None if total is None or cost is None else total + cost
    if max_cost is not None and (total is None or total > max_cost):
        what = "cannot be priced (give price_in and price_out)" if total is None else f"is estimated at ${total:,.2f}"
        raise UserError(
            f"judging {what}, --max-cost allows ${max_cost:g}: raise it, or name fewer judges or benchmarks."
        )


def _check(tasks: Sequence[Task], registry: Registry) -> None:
    """Raises UserError, before anything is asked, that lists the judges which do not answer."""
    from harness.stages.work import build

    problems = []
    for name, entry in {made.judge: made.entry for made in tasks if made.asked}.items():
        kind = registry.judges[entry.kind]
        problem = kind.make(build(kind.config, entry.config)).check()
        problems += [f"  - {name}: {problem}"] if problem else []
    if problems:
        raise UserError("nothing was asked, because of:\n" + "\n".join(problems))
