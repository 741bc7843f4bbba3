"""``plan``, ``run`` and ``reproduce``: the commands that look at, or do, what a recipe says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    ALL,
    Baseline,
    MaxCost,
    Methods,
    MinCoverage,
    Overrides,
    Plugins,
    RecipeName,
    Runs,
    Seeds,
    Target,
    check_runs,
    words,
)
from harness.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.plan import Plan
    from harness.preflight import Finding
    from harness.recipe import Recipe
    from harness.registry import Registry
    from harness.run import Outcome
    from results.run import Run
    from results.store import ArtifactStore

ORDER = (
    *("prompts", "overlap", "sample", "block", "pairs", "reward", "reference", "distributions", "train"),
    *("answer", "judge", "score"),
)
"""Kinds of stages along the way of the data."""
Force = Annotated[bool, typer.Option("--force", help="Run although the checks before it found problems.")]


@dataclass(frozen=True)
class Job:
    """Everything that the three commands share: what is asked for, and where its artifacts lie."""

    recipe: Recipe
    registry: Registry
    plan: Plan
    store: ArtifactStore
    runs: Path
    plugins: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """``runs/NAME``: ``run.json`` and ``report/``."""
        return self.runs / self.recipe.name


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: distilbench plan table1 --recipe smollm2 --set prompts.n=8")(plan)
    app.command(epilog="Example: distilbench run --recipe mine.yaml --methods dpo,pad-ppd --seeds 0")(run)
    app.command(epilog="Example: distilbench reproduce table1 --set train.learning_rate=5e-5")(reproduce)


def plan(
    target: Target = "table1",
    recipe: RecipeName = "pocket",
    overrides: Overrides = None,
    methods: Methods = None,
    seeds: Seeds = None,
    plugins: Plugins = None,
    runs: Runs = Path("runs"),
    max_cost: MaxCost = None,
    baseline: Baseline = None,
    every: Annotated[bool, typer.Option("--all", help="List every stage too, with what it reads.")] = False,
) -> None:
    """Show the stages of a run, which of them are done, what the rest will cost, and what stands in the way.

    Nothing is trained, generated or asked; PyTorch is not even loaded.
    """
    job = prepare(target, recipe, judged(overrides, max_cost, baseline), (methods, seeds), plugins, runs)
    if every:
        show_stages(job)
    if show_plan(job):
        raise typer.Exit(1)


def run(
    recipe: RecipeName = "pocket",
    overrides: Overrides = None,
    methods: Methods = None,
    seeds: Seeds = None,
    plugins: Plugins = None,
    runs: Runs = Path("runs"),
    max_cost: MaxCost = None,
    baseline: Baseline = None,
    force: Force = False,
) -> None:
    """Do what a recipe says: sample, reward, train, answer, judge, score. What is done already is not done again.

    Stop it whenever you like: the same command goes on where it was.
    """
    job = prepare("table1", recipe, judged(overrides, max_cost, baseline), (methods, seeds), plugins, runs)
    finish(execute(job, force))


def reproduce(
    target: Target = "table1",
    recipe: RecipeName = "pocket",
    overrides: Overrides = None,
    methods: Methods = None,
    seeds: Seeds = None,
    plugins: Plugins = None,
    runs: Runs = Path("runs"),
    min_coverage: MinCoverage = None,
    max_cost: MaxCost = None,
    baseline: Baseline = None,
    force: Force = False,
) -> None:
    """Reproduce a table of the paper: run what is missing, print the table, and write its files.

    The files go to runs/NAME/report. A second time there is nothing to compute.
    """
    from harness.cli.showing import write_target

    job = prepare(target, recipe, judged(overrides, max_cost, baseline), (methods, seeds), plugins, runs)
    outcome = execute(job, force)
    coverage = job.recipe.statistics.min_coverage if min_coverage is None else min_coverage
    write_target(job.folder, job.store, target, coverage)
    finish(outcome)


def judged(overrides: list[str] | None, max_cost: float | None, baseline: str | None) -> list[str]:
    """``--set`` options with those that ``--max-cost`` and ``--baseline`` stand for."""
    own = {"ask.max_cost": max_cost, "baseline": baseline}
    return [*(overrides or []), *(f"{path}={value}" for path, value in own.items() if value is not None)]


def prepare(
    target: str,
    recipe: str,
    overrides: list[str] | None,
    chosen: tuple[str | None, str | None],
    plugins: list[str] | None,
    runs: Path,
) -> Job:
    """Read everything and make the plan. ``chosen``: the options ``--methods`` and ``--seeds`` as given."""
    from harness.cli.describe import rows_of
    from harness.cli.wiring import load_registry
    from harness.plan import make_plan
    from harness.recipe import load_recipe
    from reports.targets import find_target
    from results.store import ArtifactStore

    check_runs(runs)
    methods, seeds = chosen
    changes = [*(overrides or []), *([f"seeds=[{seeds}]"] if seeds else [])]
    registry = load_registry(plugins or ())
    loaded = load_recipe(recipe, with_chosen(changes, words(methods), registry), registry)
    if loaded.baseline is not None and (both := both_orders(loaded)):
        loaded = load_recipe(recipe, with_chosen([*both, *changes], words(methods), registry), registry)
    rows = rows_of(find_target(target).rows, loaded, words(methods))
    made = make_plan(loaded, registry, rows)
    return Job(loaded, registry, made, ArtifactStore(runs / "store"), runs, tuple(plugins or ()))


def with_chosen(changes: list[str], chosen: list[str], registry: Registry) -> list[str]:
    """``--methods`` may name a method that the recipe does not list (a plug-in's): it gets its default options.

    ``all``: every method that there is.
    """
    if ALL in chosen:
        chosen = [*chosen, *registry.methods]
    return [*(f"methods.{name}={{}}" for name in chosen if name in registry.methods), *changes]


def both_orders(recipe: Recipe) -> list[str]:
    """Head-to-head is asked in both orders where a benchmark has that option (``--set`` has the last word)."""
    return [f"benchmarks.{name}.order=both" for name, spec in recipe.benchmarks.items() if "order" in spec.config]


def show_stages(job: Job) -> None:
    """One line per stage: done or to do, key, label, and the stages it reads."""
    from harness.run import needed

    labels = {stage.key: stage.label for stage in job.plan.stages}
    left = {stage.key for stage in needed(job.plan, job.store)}
    for stage in job.plan.stages:
        state = "to do" if stage.key in left else "done "
        reads = list(dict.fromkeys(labels[name.split("/")[1]] for name in stage.inputs.values()))
        shown = reads[:3] + ([f"{len(reads) - 3} more"] if len(reads) > 3 else [])
        typer.echo(f"{state} {stage.key[:8]} {stage.label}" + (f"  <- {'; '.join(shown)}" if reads else ""))


def show_plan(job: Job) -> bool:
    """Print stages by kind, the bill and the findings; whether something stands in the way."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from harness.cli.describe import bill
    from harness.preflight import check
    from harness.price import total
    from harness.run import needed

    todo = needed(job.plan, job.store)
    left = {stage.key for stage in todo}
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "reads", "in all", "done", "to do", "responses", "k tokens", "judge calls"):
        table.add_column(column, justify="left" if column in ("stage", "reads") else "right")
    kinds = {stage.kind for stage in job.plan.stages}
    for kind in [*(kind for kind in ORDER if kind in kinds), *sorted(kinds - set(ORDER))]:
        stages = [stage for stage in job.plan.stages if stage.kind == kind]
        missing = [stage for stage in stages if stage.key in left]
        price = total(missing)
        costs = (price.responses, price.tokens // 1000, price.judge_calls)
        counts = (len(stages), len(stages) - len(missing), len(missing))
        reads = dict.fromkeys(name.split("/")[0] for stage in stages for name in stage.inputs.values())
        table.add_row(kind, ", ".join(reads), *map(str, counts), *(f"{cost:,}" if cost else "" for cost in costs))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    console.print(Text(f"{job.recipe.name}: {job.recipe.title}", style="bold"), soft_wrap=True)
    console.print(
        Text(f"rows: {', '.join(job.plan.rows)}; seeds: {', '.join(map(str, job.recipe.seeds))}"), soft_wrap=True
    )
    console.print(table)
    said = f"to do: {bill(todo)}" if todo else "nothing to do: every score is in the store"
    console.print(Text(said), soft_wrap=True)
    findings = check(job.plan, job.registry, todo, job.runs, job.store)
    for finding in findings:
        head = ("problem: ", "bold red") if finding.problem else ("note: ", "bold")
        console.print(Text.assemble(head, finding.text), soft_wrap=True)
    return any(finding.problem for finding in findings)


def execute(job: Job, force: bool, described: Callable[[Run], Run] = lambda run: run) -> Outcome:
    """Run what is missing, with progress, and describe the run in ``run.json`` (``described`` has the last word).

    Raises UserError, before anything runs, when a check found a problem and ``force`` is not set.
    """
    from harness.cli.describe import describe
    from harness.cli.logs import verbosity
    from harness.cli.progress import Display
    from harness.cli.wiring import workplace
    from harness.preflight import check
    from harness.run import needed
    from harness.run import run as run_plan
    from results.run import write_run

    findings = check(job.plan, job.registry, needed(job.plan, job.store), job.runs, job.store)
    refuse([each for each in findings if each.problem], force)
    store = job.runs / "store"
    # A run that is killed can be reported too: its file says what it was to become.
    write_run(job.folder / "run.json", described(describe(job.plan, job.registry, job.store)))
    with Display() as display:
        setup = partial(workplace, job.plugins, store, verbosity())
        outcome = run_plan(job.plan, job.store, job.runs / "ledger.sqlite", setup, display)
    write_run(job.folder / "run.json", described(describe(job.plan, job.registry, job.store, outcome)))
    return outcome


def refuse(problems: Sequence[Finding], force: bool) -> None:
    """Raises UserError that lists the problems; with ``force`` only when one of them cannot be passed over."""
    stopping = [each for each in problems if not (force and each.forceable)]
    if not stopping:
        return
    listed = "\n".join(f"  - {each.text}" for each in stopping)
    remedy = ", or run all the same with --force" if all(each.forceable for each in stopping) else ""
    raise UserError(f"nothing was started, because of:\n{listed}\nMend it{remedy}.")


def finish(outcome: Outcome) -> None:
    """One line on what was done; exit code 1 when something failed."""
    from harness.cli.progress import duration

    done = f"{outcome.total} stages: {outcome.cached} were done already, {len(outcome.ran)} ran now"
    typer.echo(f"{done} ({duration(outcome.seconds)})", err=True)
    if outcome.failed:
        blocked = f", {len(outcome.blocked)} more wait for them" if outcome.blocked else ""
        typer.echo(f"{len(outcome.failed)} failed{blocked}: see above; the same command tries them again.", err=True)
        raise typer.Exit(1)
