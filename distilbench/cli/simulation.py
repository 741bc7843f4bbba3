"""What ``plan --simulate`` prints: a column per cluster, what it rests on, and a picture of each schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from distilbench.cli.screen import console_of, duration

if TYPE_CHECKING:
    from distilbench.simulation import Simulation

PATH_STEPS = 12


def show_simulations(simulations: Sequence[Simulation], pictures: Sequence[Path]) -> None:
    from rich.table import Table

    console = console_of()
    console.print(f"simulated on {simulations[0].device}, from now to the last score:", style="bold")
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for simulation in simulations:
        table.add_column(simulation.cluster.name, justify="right", no_wrap=True)
    columns = [figures(simulation) for simulation in simulations]
    for name in columns[0]:
        table.add_row(name, *(column.get(name, "") for column in columns))
    console.print(table)
    for simulation in simulations:
        console.print(f"critical path on {simulation.cluster.name}: {path_line(simulation)}", soft_wrap=True)
    for text in dict.fromkeys(text for simulation in simulations for text in simulation.remarks):
        console.print(f"note: {text}", soft_wrap=True)
    console.print("it rests on:")
    for text in dict.fromkeys(text for simulation in simulations for text in simulation.basis):
        console.print(f"  {text}", soft_wrap=True)
    for picture in pictures:
        typer.echo(f"picture: {picture}")


def figures(simulation: Simulation) -> Mapping[str, str]:
    """The numbers of one cluster by their names."""
    timeline, bounds = simulation.timeline, simulation.timeline.bound()
    busiest = max(timeline.busy, key=timeline.busy.__getitem__, default="")
    total = None if None in (simulation.gpu_dollars, simulation.judge_dollars) else (
        (simulation.gpu_dollars or 0.0) + (simulation.judge_dollars or 0.0)
    )  # fmt: skip
    on_gpus = {
        "GPU-hours at work": f"{simulation.gpu_hours:,.1f}",
        "GPU-hours paid": f"{simulation.reserved_gpu_hours:,.1f}",
        "GPU cost": dollars(simulation.gpu_dollars),
    }
    return {
        "wall time": duration(simulation.seconds),
        **(on_gpus if simulation.cluster.gpus else {}),
        "judge cost": dollars(simulation.judge_dollars),
        **({"cost": dollars(total)} if simulation.cluster.gpus else {}),
        "storage at the end": size(timeline.stored_bytes),
        "storage at most": size(timeline.peak_bytes),
        "busiest resource": f"{busiest} {timeline.busy.get(busiest, 0.0):.0%}",
        "bottleneck": timeline.bottleneck,
        "no schedule is below": duration(max(bounds.values())),
    }


def path_line(simulation: Simulation) -> str:
    spans = simulation.path
    longest = sorted(spans, key=lambda span: -span.seconds)[:PATH_STEPS]
    steps = [f"{span.job.label} {duration(span.seconds)}" for span in spans if span in longest]
    waiting = simulation.seconds - sum(span.seconds for span in spans)
    return " > ".join(steps) + (f" (and {duration(waiting)} of waiting for room)" if waiting >= 0.05 else "")


def dollars(amount: float | None) -> str:
    return "unknown" if amount is None else f"${amount:,.2f}"


def size(count: int) -> str:
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))
    number, unit = next((pair for pair in units if count >= pair[0]), units[-1])
    return f"{count / number:,.2f} {unit}" if unit == "TB" else f"{count / number:,.1f} {unit}"
