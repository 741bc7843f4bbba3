"""``plan``, ``run`` and ``reproduce``: the commands that look at, or do, what a recipe says.

Several targets (``reproduce all``) are several plans over one store, run together: what they share is done once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import (
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

    from harness.contracts.registry import Registry
    from harness.plan.plan import Plan
    from harness.plan.preflight import Finding
    from harness.recipe.recipe import Recipe
    from harness.run.scheduler import Outcome
    from results.run.record import Run
    from results.store.store import ArtifactStore

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
    target: str = "table1"
    """A name in ``reports.targets.TARGETS``."""

    @property
    def folder(self) -> Path:
        """``runs/NAME``: ``report/``, and a folder per target."""
        return self.runs / self.recipe.name

    @property
    def place(self) -> Path:
        """``runs/NAME/TARGET``: ``run.json``."""
        from results.run.record import place

        return place(self.folder, self.target)


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
    from distilbench.cli.plan import show_plans, show_stages

    asked = judged(overrides, max_cost, baseline), (methods, seeds), plugins, runs
    jobs, unfit = prepare_all(target, recipe, *asked)
    for job in jobs if every else ():
        show_stages(job)
    problems = show_plans(jobs)
    say_unfit(unfit)
    if problems:
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
    """Reproduce tables and figures of the paper: run what is missing, print them, write them in several formats.

    One target, several with commas between them, or all. The files go to runs/NAME/report. A second time there is
    nothing to compute.
    """
    from distilbench.cli.report import write_target

    asked = judged(overrides, max_cost, baseline), (methods, seeds), plugins, runs
    jobs, unfit = prepare_all(target, recipe, *asked)
    outcome = execute_all(jobs, force)
    for job in jobs:
        coverage = job.recipe.statistics.min_coverage if min_coverage is None else min_coverage
        write_target(job.folder, job.store, job.target, coverage)
    say_shared(jobs)
    say_unfit(unfit)
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
    """Read everything and make the plan. ``chosen``: the options ``--methods`` and ``--seeds`` as given.

    Raises Unfit for a target that this recipe does not fit.
    """
    from distilbench.plugins import load_registry
    from distilbench.workflows.run_record import rows_of
    from harness.plan.plan import make_plan
    from harness.recipe.recipe import load_recipe
    from reports.targets import find_target
    from results.store.store import ArtifactStore

    check_runs(runs)
    methods, seeds = chosen
    wanted = find_target(target)
    changes = [*(overrides or []), *([f"seeds=[{seeds}]"] if seeds else [])]
    registry = load_registry(plugins or ())
    loaded = load_recipe(recipe, with_chosen(changes, words(methods), registry), registry, wanted)
    if loaded.baseline is not None and (both := both_orders(loaded)):
        loaded = load_recipe(recipe, with_chosen([*both, *changes], words(methods), registry), registry, wanted)
    made = make_plan(loaded, registry, rows_of(wanted, loaded, words(methods)))
    return Job(loaded, registry, made, ArtifactStore(runs / "store"), runs, tuple(plugins or ()), target)


def prepare_all(
    targets: str,
    recipe: str,
    overrides: list[str] | None,
    chosen: tuple[str | None, str | None],
    plugins: list[str] | None,
    runs: Path,
) -> tuple[list[Job], list[str]]:
    """A job for each target of ``all``, of one name, or of several; and why the others do not fit the recipe.

    Raises UserError where none is left: a target that was named alone must fit.
    """
    from harness.recipe.for_target import Unfit
    from reports.targets import find_targets

    jobs: list[Job] = []
    unfit: list[str] = []
    for target in find_targets(targets):
        try:
            jobs.append(prepare(target.name, recipe, overrides, chosen, plugins, runs))
        except Unfit as error:
            unfit.append(str(error))
    if not jobs:
        raise UserError("\n".join(unfit))
    return jobs, unfit


def say_unfit(unfit: Sequence[str]) -> None:
    """One line for each target that the recipe does not fit."""
    for text in unfit:
        typer.echo(f"left out: {text}", err=True)


def say_shared(jobs: Sequence[Job]) -> None:
    """How many stages each target has in common with the other targets and runs of this store."""
    from results.run.record import shared

    for job in jobs:
        counts = shared(job.runs, job.place)
        either, total = counts.pop(""), len(job.plan.stages)
        most = sorted(counts.items(), key=lambda item: -item[1])[:3]
        named = f" ({', '.join(f'{name} {count}' for name, count in most)})" if most else ""
        typer.echo(f"{job.target}: {total} stages, {either} of them shared with other targets or runs{named}", err=True)
    if len(jobs) > 1:
        from harness.run.scheduler import union

        every, different = sum(len(job.plan.stages) for job in jobs), len(union([job.plan for job in jobs]))
        typer.echo(
            f"{len(jobs)} targets: {every} stages, {different} different ones: {every - different} shared", err=True
        )


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


def execute(job: Job, force: bool, described: Callable[[Run], Run] = lambda run: run) -> Outcome:
    """``execute_all`` for one job."""
    return execute_all([job], force, described)


def execute_all(jobs: Sequence[Job], force: bool, described: Callable[[Run], Run] = lambda run: run) -> Outcome:
    """Run what is missing, with progress, and describe each run in its ``run.json`` (``described`` has the last word).

    Raises UserError, before anything runs, when a check found a problem and ``force`` is not set.
    """
    from distilbench.cli.logs import verbosity
    from distilbench.cli.plan import findings
    from distilbench.cli.progress import Display
    from distilbench.plugins import workplace
    from distilbench.workflows.run_record import describe
    from harness.run.scheduler import run_all
    from results.run.record import write_run

    first = jobs[0]
    refuse([each for each in findings(jobs) if each.problem], force)
    store = first.runs / "store"
    for job in jobs:  # a run that is killed can be reported too: its file says what it was to become
        write_run(job.place / "run.json", described(describe(job.plan, job.registry, job.store)))
    with Display() as display:
        setup = partial(workplace, first.plugins, store, verbosity())
        plans = [job.plan for job in jobs]
        outcome = run_all(plans, first.store, first.runs / "ledger.sqlite", setup, display)
    for job in jobs:
        came = outcome.of(job.plan)
        write_run(job.place / "run.json", described(describe(job.plan, job.registry, job.store, came)))
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
    from distilbench.cli.progress import duration

    done = f"{outcome.total} stages: {outcome.cached} were done already, {len(outcome.ran)} ran now"
    typer.echo(f"{done} ({duration(outcome.seconds)})", err=True)
    if outcome.failed:
        blocked = f", {len(outcome.blocked)} more wait for them" if outcome.blocked else ""
        typer.echo(f"{len(outcome.failed)} failed{blocked}: see above; the same command tries them again.", err=True)
        raise typer.Exit(1)
