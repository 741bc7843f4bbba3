"""``plan``, ``run`` and ``reproduce``: what a recipe would do, and doing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import (
    Baseline,
    Executor,
    Force,
    MaxCost,
    Methods,
    MinCoverage,
    Notes,
    Overrides,
    Plugins,
    RecipeName,
    Runs,
    Seeds,
    Target,
    run_options,
)
from harness.hardware.gpu import DEVICES, SHARE, hours
from harness.models.published_sizes import size

if TYPE_CHECKING:
    from rich.console import Console

    from distilbench.workflows.finished_run import FinishedRun
    from distilbench.workflows.plan import WorkPlan
    from harness.contracts.stage import Cost


def register(app: typer.Typer) -> None:
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
    executor: Executor = None,
    every: Annotated[bool, typer.Option("--all", help="List every stage too, with what it reads.")] = False,
) -> None:
    """Show the stages of a run, which of them are done, what the rest costs, and what stands in the way.

    Nothing is trained, generated or asked.
    """
    from distilbench.workflows.plan import plan as make

    work = make(target, recipe, **run_options(overrides, methods, seeds, plugins, runs, max_cost, baseline, executor))
    if every:
        show_stages(work)
    if show_plan(work):
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
    executor: Executor = None,
    force: Force = False,
) -> None:
    """Run a recipe: sample, reward, train, answer, judge, score. Nothing is done twice.

    Stop it whenever you like: the same command goes on where it was.
    """
    from distilbench.cli.screen import Display
    from distilbench.workflows.reproduce import run as run_recipe

    options = run_options(overrides, methods, seeds, plugins, runs, max_cost, baseline, executor)
    with Display() as display:
        finished = run_recipe(recipe, force=force, listener=display, **options)
    finish(finished)


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
    executor: Executor = None,
    force: Force = False,
    notes: Notes = False,
) -> None:
    """Reproduce tables and figures of the paper: run what is missing, print them, write them to runs/NAME/report.

    One target, several with commas between them, or all.
    """
    from distilbench.cli.report import show_tables
    from distilbench.cli.screen import Display
    from distilbench.workflows.reproduce import reproduce as reproduce_targets

    options = run_options(overrides, methods, seeds, plugins, runs, max_cost, baseline, executor)
    with Display() as display:
        finished = reproduce_targets(
            target, recipe, min_coverage=min_coverage, notes=notes, force=force, listener=display, **options
        )
    finish(finished, lambda: show_tables(finished, min_coverage, notes))


def show_stages(work: WorkPlan) -> None:
    """One line per stage: done or to do, key, label, and the stages it reads."""
    labels = {stage.key: stage.label for stage in work.stages}
    missing = {stage.key for stage in work.missing}
    for stage in work.stages:
        state = "to do" if stage.key in missing else "done "
        reads = list(dict.fromkeys(labels[ref.key] for ref in stage.inputs.values()))
        shown = reads[:3] + ([f"{len(reads) - 3} more"] if len(reads) > 3 else [])
        typer.echo(f"{state} {stage.key[:8]} {stage.label}" + (f"  <- {'; '.join(shown)}" if reads else ""))


def show_plan(work: WorkPlan) -> bool:
    """Print stages by kind, the cost and the findings; whether a problem stands in the way."""
    from rich.text import Text

    from distilbench.cli.screen import console_of

    console = console_of()

    def say(text: str, label: str = "", style: str = "") -> None:
        console.print(Text.assemble((label, style), text), soft_wrap=True)

    say("", f"{work.first.recipe.name}: {work.first.recipe.title}", "bold")
    several = len(work.plans) > 1
    for target, plan in work.plans.items():
        head = f"{target}: {len(plan.stages)} stages; " if several else ""
        say(f"{head}rows: {', '.join(plan.rows) or 'none'}; seeds: {', '.join(map(str, plan.recipe.seeds))}")
    if several:
        say(shared_line(work))
    show_kinds(console, work)
    cost = cost_line(work.cost(work.missing))
    say(f"to do: {cost}" if work.missing else "nothing to do: every score is in the store")
    for line in gpu_lines(work):
        say(line)
    for finding in work.findings:
        say(finding.text, *(("problem: ", "bold red") if finding.problem else ("note: ", "bold")))
    say_unfit(work)
    return any(finding.problem for finding in work.findings)


def show_kinds(console: Console, work: WorkPlan) -> None:
    """A table with a line per kind of stage, in the order of the data."""
    from rich.table import Table

    from harness.stages import STAGES

    missing = {stage.key for stage in work.missing}
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "reads", "in all", "done", "to do", "responses", "k tokens", "judge calls"):
        words = column in ("stage", "reads")
        # A train stage reads six kinds of stages: cut off, so that every kind has one line.
        table.add_column(
            column,
            justify="left" if words else "right",
            no_wrap=True,
            overflow="ellipsis",
            max_width=36 if column == "reads" else None,
        )
    for kind in STAGES:
        of_kind = [stage for stage in work.stages if stage.kind == kind]
        if not of_kind:
            continue
        to_do = [stage for stage in of_kind if stage.key in missing]
        total = work.cost(to_do)
        costs = (total.responses, total.tokens // 1000, total.judge_calls)
        counts = (len(of_kind), len(of_kind) - len(to_do), len(to_do))
        reads = dict.fromkeys(ref.kind for stage in of_kind for ref in stage.inputs.values())
        table.add_row(kind, ", ".join(reads), *map(str, counts), *(f"{cost:,}" if cost else "" for cost in costs))
    console.print(table)


def cost_line(cost: Cost) -> str:
    dollars = "unknown" if cost.dollars is None else f"${cost.dollars:,.2f}"
    return (
        f"{cost.responses:,} responses, {cost.tokens / 1e6:,.1f} M model tokens, "
        f"{cost.judge_calls:,} judge calls ({cost.judge_tokens / 1e6:,.2f} M tokens), judge cost {dollars}"
    )


def gpu_lines(work: WorkPlan) -> list[str]:
    """GPU-hours and training memory of what is to do, on the device that the recipe names; and what they rest on."""
    device = work.first.recipe.compute.gpu
    if device is None or not work.missing:
        return []
    total = work.cost(work.missing)
    took = "unknown" if total.peak_flops is None else f"about {hours(total.peak_flops, device):,.0f}"
    doing = {"train": "training", "read": "reading", "write": "writing"}
    shares = ", ".join(f"{share:.0%} {doing[name]}" for name, share in SHARE.items())
    lines = [f"GPU-hours: {took} on {device} ({DEVICES[device].tflops:g} TFLOP/s at {shares}), without judges"]
    if total.peak_bytes != 0:
        needed = "unknown" if total.peak_bytes is None else f"about {total.peak_bytes / (1 << 30):,.0f} GiB"
        lines.append(f"memory: {needed} to train a row in one process; {device} has {DEVICES[device].gib} GiB")
    models = {model.location: model for plan in work.plans.values() for model in plan.graph.models.values()}
    stated = [name for name, model in models.items() if (known := size(model)) is not None and known.stated]
    if stated:
        lines.append(f"sizes as in harness/models/published_sizes.json, files not here: {', '.join(sorted(stated))}")
    return lines


def shared_line(work: WorkPlan) -> str:
    every, different = sum(len(plan.stages) for plan in work.plans.values()), len(work.stages)
    return f"{len(work.plans)} targets: {every} stages, {different} different ones: {every - different} shared"


def say_unfit(work: WorkPlan) -> None:
    """One line on stderr for each target that the recipe does not fit."""
    for text in work.unfit:
        typer.echo(f"left out: {text}", err=True)


def finish(finished: FinishedRun, show: Callable[[], None] = lambda: None) -> None:
    """Say what ran, show the tables, and end with exit code 1 when a stage failed.

    The summary comes first, so that the tables are the last thing on the screen.
    """
    from distilbench.cli.screen import duration

    outcome, work = finished.outcome, finished.work
    if outcome is None or work is None:
        raise TypeError("a run that was loaded has nothing to finish")
    if len(work.plans) > 1:
        typer.echo(shared_line(work), err=True)
    say_unfit(work)
    done = f"{outcome.total} stages: {outcome.cached} were done already, {len(outcome.ran)} ran now"
    typer.echo(f"{done} ({duration(outcome.seconds)})", err=True)
    show()
    if outcome.failed:
        blocked = f", {len(outcome.blocked)} more wait for them" if outcome.blocked else ""
        typer.echo(f"{len(outcome.failed)} failed{blocked}: see above; the same command tries them again.", err=True)
        raise typer.Exit(1)
