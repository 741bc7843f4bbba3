"""What a plan is, on the screen: stages by kind, the bill, what several targets share, what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from distilbench.cli.reproduce import Job
    from harness.contracts.stage import Stage
    from harness.plan.preflight import Finding

ORDER = (
    *("prompts", "overlap", "sample", "block", "pairs", "reward", "reference", "distributions", "train"),
    *("answer", "judge", "score"),
)
"""Kinds of stages along the way of the data."""


def show_stages(job: Job) -> None:
    """One line per stage: done or to do, key, label, and the stages it reads."""
    from harness.run.scheduler import needed

    labels = {stage.key: stage.label for stage in job.plan.stages}
    left = {stage.key for stage in needed(job.plan, job.store)}
    for stage in job.plan.stages:
        state = "to do" if stage.key in left else "done "
        reads = list(dict.fromkeys(labels[name.split("/")[1]] for name in stage.inputs.values()))
        shown = reads[:3] + ([f"{len(reads) - 3} more"] if len(reads) > 3 else [])
        typer.echo(f"{state} {stage.key[:8]} {stage.label}" + (f"  <- {'; '.join(shown)}" if reads else ""))


def show_plan(job: Job) -> bool:
    """``show_plans`` for one job."""
    return show_plans([job])


def show_plans(jobs: Sequence[Job]) -> bool:
    """Print stages by kind, the bill and the findings; whether something stands in the way."""
    from rich.console import Console
    from rich.text import Text

    from distilbench.workflows.run_record import bill
    from harness.run.scheduler import union

    first = jobs[0]
    todo = to_do(jobs)
    stages = union([job.plan for job in jobs])
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)

    def say(*parts: str | tuple[str, str]) -> None:
        console.print(Text.assemble(*parts), soft_wrap=True)

    say((f"{first.recipe.name}: {first.recipe.title}", "bold"))
    for job in jobs:
        seeds = ", ".join(map(str, job.recipe.seeds))
        head = f"{job.target}: {len(job.plan.stages)} stages; " if len(jobs) > 1 else ""
        say(f"{head}rows: {', '.join(job.plan.rows) or 'none'}; seeds: {seeds}")
    if len(jobs) > 1:
        every = sum(len(job.plan.stages) for job in jobs)
        say(f"all: {every} stages, {len(stages)} different ones: {every - len(stages)} shared")
    show_kinds(console, stages, {stage.key for stage in todo})
    say(f"to do: {bill(todo)}" if todo else "nothing to do: every score is in the store")
    for line in gpu_lines(jobs, todo):
        say(line)
    found = findings(jobs)
    for finding in found:
        say(("problem: ", "bold red") if finding.problem else ("note: ", "bold"), finding.text)
    return any(finding.problem for finding in found)


def to_do(jobs: Sequence[Job]) -> list[Stage]:
    """The stages of all jobs that are still to run, each once."""
    from harness.run.scheduler import needed

    return list({stage.key: stage for job in jobs for stage in needed(job.plan, job.store)}.values())


def gpu_lines(jobs: Sequence[Job], todo: Sequence[Stage]) -> list[str]:
    """GPU-hours and training memory of what is to do, for the device that the recipe names; and what they rest on."""
    from harness.hardware.gpu import DEVICES, SHARE, hours
    from harness.models.published_sizes import size
    from harness.plan.cost import total

    device = jobs[0].recipe.compute.gpu
    if device is None or not todo:
        return []
    price = total(todo)
    took = "unknown" if price.peak_flops is None else f"about {hours(price.peak_flops, device):,.0f}"
    words = {"train": "training", "read": "reading", "write": "writing"}
    shares = ", ".join(f"{share:.0%} {words[doing]}" for doing, share in SHARE.items())
    lines = [f"GPU-hours: {took} on {device} ({DEVICES[device].tflops:g} TFLOP/s at {shares}), judges apart"]
    if price.peak_bytes != 0:
        needed = "unknown" if price.peak_bytes is None else f"about {price.peak_bytes / (1 << 30):,.0f} GiB"
        lines.append(f"memory: {needed} to train a row in one process; {device} has {DEVICES[device].gib} GiB")
    models = {each.location: each for job in jobs for each in job.plan.builder.models.values()}
    stated = [name for name, each in models.items() if (found := size(each)) is not None and found.stated]
    if stated:
        lines.append(
            f"sizes as stated in harness/models/published_sizes.json, files not here: {', '.join(sorted(stated))}"
        )
    return lines


def show_kinds(console: Console, stages: Sequence[Stage], left: set[str]) -> None:
    """A table with a line per kind of stage. ``left``: keys of those to do."""
    from rich.table import Table

    from harness.plan.cost import total

    table = Table(box=None, pad_edge=False)
    for column in ("stage", "reads", "in all", "done", "to do", "responses", "k tokens", "judge calls"):
        table.add_column(column, justify="left" if column in ("stage", "reads") else "right")
    kinds = {stage.kind for stage in stages}
    for kind in [*(kind for kind in ORDER if kind in kinds), *sorted(kinds - set(ORDER))]:
        some = [stage for stage in stages if stage.kind == kind]
        missing = [stage for stage in some if stage.key in left]
        price = total(missing)
        costs = (price.responses, price.tokens // 1000, price.judge_calls)
        counts = (len(some), len(some) - len(missing), len(missing))
        reads = dict.fromkeys(name.split("/")[0] for stage in some for name in stage.inputs.values())
        table.add_row(kind, ", ".join(reads), *map(str, counts), *(f"{cost:,}" if cost else "" for cost in costs))
    console.print(table)


def findings(jobs: Sequence[Job]) -> list[Finding]:
    """What the checks before a run say of all jobs, each thing once. Work that two jobs share counts for the first."""
    from harness.plan.preflight import check
    from harness.run.scheduler import needed

    found: dict[str, Finding] = {}
    seen: set[str] = set()
    for job in jobs:
        own = [stage for stage in needed(job.plan, job.store) if stage.key not in seen]
        seen |= {stage.key for stage in own}
        found |= {each.text: each for each in check(job.plan, job.registry, own, job.runs, job.store)}
    return list(found.values())
