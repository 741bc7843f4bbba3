"""``compare-judges``: other judges on the answers of a run, or annotations made elsewhere, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.judge_specs import (
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
    refuse_for_annotations,
    split,
)
from distilbench.cli.options import MaxCost, Plugins, Runs, words
from distilbench.workflows.compared import FOLDER, check_names, check_people, compared_again, keep_options, people
from distilbench.workflows.plan import check_runs
from harness.errors import UserError
from harness.text import counted

if TYPE_CHECKING:
    from distilbench.workflows.rejudging import Task
    from harness.contracts.registry import Registry
    from harness.types import Request
    from reports.judge_comparison.compare import Comparison
    from reports.judge_comparison.panel import Panel
    from results.store.store import ArtifactStore

PEOPLE = 4
"""Simulated annotators of an answer, as many as AlpacaEval's."""
POCKET_JUDGES = {
    "noise-0.5": "{kind: pocket}",
    "noise-2": "{kind: pocket, noise: 2.0, seed: 2}",
    "noise-4": "{kind: pocket, noise: 4.0, seed: 4}",
    "noise-8": "{kind: pocket, noise: 8.0, seed: 8}",
}
"""The judges of pocket's Table 5: log-odds of noise. Each has a seed of its own: judges with the same one share their
draws, and would err together."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "compare-judges",
        epilog="Example: distilbench compare-judges --run pocket --judges main,gpt-4.1,small=llama@http://HOST/v1",
    )(compare_judges)


def compare_judges(
    judges: Judges = None,
    run: Annotated[
        str | None,
        typer.Option(help="The run whose answers are judged: NAME or NAME/TARGET under --runs (default: pocket)."),
    ] = None,
    annotations: Annotations = None,
    humans: Humans = None,
    simulate_humans: Simulated = None,
    benchmarks: Annotated[str | None, typer.Option(help="Only these benchmarks of the run.")] = None,
    repeats: Repeats = None,
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
    chosen = split(judges or "")
    if humans and simulate_humans:
        raise UserError("--humans and --simulate-humans: give one of them.")
    if annotations:
        from reports.judge_comparison.annotations import annotation_panel
        from reports.judge_comparison.compare import compare

        for_runs = {
            "--run": run, "--benchmarks": benchmarks, "--repeats": repeats, "--max-cost": max_cost,
            "--plugin": plugins or None, "--simulate-humans": simulate_humans,
        }  # fmt: skip
        refuse_for_annotations([name for name, value in for_runs.items() if value is not None])
        panel, said = people(annotation_panel(annotations, chosen, own_rows_of(own)), humans, None)
        if plan_only:
            plan_annotations(panel)
            return
        place = out or runs / f"{FOLDER}-{annotations[0].stem}"
        show(compare(panel, said, budget=budget, replicates=replicates), place)
        return
    from results.store.store import ArtifactStore

    check_runs(runs)
    store, folder = ArtifactStore(runs / "store"), run_folder(runs, run or "pocket")
    wanted = Wanted(
        chosen, words(benchmarks), repeats or 2, own_rows_of(own), max_cost, tuple(plugins or ()), humans,
        simulate_humans,
    )  # fmt: skip
    if not judge_again(folder, store, wanted, plan_only):
        return
    keep_options(folder, store, humans, simulate_humans, budget, replicates)
    comparison = compared_again(folder, store)
    if comparison is not None:
        show(comparison, out or folder / FOLDER)


def plan_annotations(panel: Panel) -> None:
    """Say on stderr what annotations there are: nobody is asked."""
    for name in panel.judges:
        calls = panel.calls[panel.calls["judge"] == name]
        answers = counted(len(calls.drop_duplicates(["row", "seed", "question", "turn"])), "answer")
        typer.echo(f"{name}: {counted(len(calls), 'annotation')} of {answers}, nothing to ask", err=True)


def run_folder(runs: Path, name: str) -> Path:
    """Where the run ``NAME/TARGET`` lies; of ``NAME`` its main table, or the one target that there is.

    Raises UserError where there is no such run, or which one is meant is not clear.
    """
    from results.run.record import described, place

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


def table5(folder: Path, store: ArtifactStore) -> Comparison:
    """Target ``table5`` on the answers of a run: pocket judges of several noise levels, and simulated people.

    Args:
        folder: ``runs/NAME/table5``, with a finished ``run.json``.
    """
    names = tuple(f"{name}={spec}" for name, spec in POCKET_JUDGES.items())
    judge_again(folder, store, Wanted(names, ("alpaca_eval",), 1, simulated=PEOPLE))
    keep_options(folder, store, simulated=PEOPLE)
    comparison = compared_again(folder, store)
    if comparison is None:
        raise UserError(f"{folder}: the comparison that was just made is gone; another process removed it.")
    return comparison


def write_judges(folder: Path, store: ArtifactStore, out: Path) -> None:
    """Target ``table5``: print it, and write ``table5.*`` into ``out`` and all else under ``folder/judges``."""
    from rich.console import Console

    from reports.judge_comparison.render import terminal
    from reports.judge_comparison.table5 import table5 as grid
    from reports.judge_comparison.table5 import write_table5
    from reports.judge_comparison.write import write_comparison

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

    from reports.judge_comparison.write import screen, write_comparison

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(screen(comparison))
    for path in write_comparison(comparison, folder):
        typer.echo(f"wrote {path}", err=True)


@dataclass(frozen=True)
class Wanted:
    """What is to be judged, and how."""

    judges: Sequence[str] = ()
    """Empty: the run's own."""
    benchmarks: Sequence[str] = ()
    """Empty: all that a judge judges."""
    repeats: int = 2
    own: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Judge to the rows of its own family."""
    max_cost: float | None = None
    """Dollars."""
    plugins: tuple[str, ...] = ()
    humans: Path | None = None
    """Annotations that must fit the answers."""
    simulated: int | None = None
    """How many people are to be simulated."""


def judge_again(folder: Path, store: ArtifactStore, wanted: Wanted, plan_only: bool = False) -> bool:
    """Do the judging that is missing, and describe it in ``folder/judges``; false when it was only planned.

    Args:
        folder: ``runs/NAME/TARGET``.
    """
    from distilbench.plugins import load_registry
    from distilbench.workflows import rejudging
    from distilbench.workflows.rejudged import features
    from reports.judge_comparison.annotations import check_own
    from results.run.record import read_run

    run, registry = read_run(folder / "run.json"), load_registry(wanted.plugins)
    entries = judge_entries(wanted.judges or judges_of(run), run, registry)
    check_names(list(entries))
    judged = rejudging.judged_benchmarks(run, store, registry, wanted.benchmarks, wanted.repeats)
    rows = dict.fromkeys(entrant.rpartition("/")[0] for each in judged for entrant in each.judges)
    check_own(wanted.own, list(entries), list(rows))
    check_people(judged, store, wanted.humans, wanted.simulated)
    ask = {**run.recipe.get("ask", {}), "max_cost": wanted.max_cost}
    ask.pop("accept_failures", None)
    tasks = [rejudging.task(name, entry, each, registry, ask) for name, entry in entries.items() for each in judged]
    known: dict[str, list[Request]] = {}
    for made in tasks:
        rejudging.estimate(made, store, registry, store.root.parent / "ledger.sqlite", known)
    bill(tasks, wanted.max_cost, registry)
    if plan_only:
        return False
    _check(tasks, registry)
    failed = rejudging.execute(tasks, run, registry, store, wanted.plugins)
    done = [made for made in tasks if store.done(made.score)]
    if failed:
        broken = ", ".join(sorted({made.judge for made in tasks if made not in done}))
        typer.echo(
            f"{counted(failed, 'stage')} failed, see above; without a whole result: {broken}. The same command goes on",
            err=True,
        )
    if failed or not done:
        raise typer.Exit(1)
    content = rejudging.describe(done, run, registry, store, wanted.own)
    rejudging.write_description(folder / FOLDER, content, features(done, store))
    return True


def bill(tasks: Sequence[Task], max_cost: float | None, registry: Registry) -> None:
    """Say on stderr what will be asked. Raises UserError where it costs more than ``max_cost``, or nobody knows."""
    total = 0.0
    dark = []
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
        total += cost or 0.0
        dark += [mine[0]] if cost is None else []
    if max_cost is not None and dark:
        raise UserError(unpriced(dark, registry))
    if max_cost is not None and total > max_cost:
        raise UserError(
            f"judging is estimated at ${total:,.2f}, --max-cost allows ${max_cost:g}: raise it, or name fewer judges "
            "or benchmarks."
        )


def unpriced(tasks: Sequence[Task], registry: Registry) -> str:
    """Why ``--max-cost`` cannot be kept with these judges, one task each, and how to give their prices."""
    made = tasks[0]
    config = registry.judges[made.entry.kind].config
    remedy = "leave them out, or --max-cost"
    if {"price_in", "price_out"} <= set(config.__dataclass_fields__):
        named = {name: getattr(made.entry.config, name, None) for name in ("model", "base_url")}
        options = "".join(f"{name}: {value}, " for name, value in named.items() if value)
        remedy = (
            "give their dollars per million tokens (0 for a server of your own), as in "
            f'--judges "{made.judge}={{kind: {made.entry.kind}, {options}price_in: 0, price_out: 0}}", or {remedy}'
        )
    return f"--max-cost: no price is known of {', '.join(each.judge for each in tasks)}: {remedy}."


def _check(tasks: Sequence[Task], registry: Registry) -> None:
    """Raises UserError, before anything is asked, that lists the judges which do not answer."""

    problems = []
    for name, entry in {made.judge: made.entry for made in tasks if made.asked}.items():
        kind = registry.judges[entry.kind]
        problem = kind.make(entry.config).check()
        problems += [f"  - {name}: {problem}"] if problem else []
    if problems:
        raise UserError("nothing was asked, because of:\n" + "\n".join(problems))
