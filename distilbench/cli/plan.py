"""``plan``: what a recipe would do, what of it is done, what the rest costs, and what stands in the way; and how long
it would take on other machines (``--simulate``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

from distilbench.cli.options import RUN_OPTIONS, RecipeName, Target, complete_rows, takes, words
from distilbench.cli.screen import duration, say, show_table
from harness.contracts.stage import Cost
from harness.errors import UserError
from harness.hardware import DEVICES, SHARE, hours, visible_gpus
from harness.text import format_count
from reports.targets import find_target

if TYPE_CHECKING:
    from distilbench.simulation import Simulation
    from distilbench.workflows.plan import ColumnPower, RunOptions, WorkPlan

app = typer.Typer()
_PILOT = "A run (its name, folder or recipe) whose variances are used; default: this recipe's own, if there is one."
_SPREAD = (
    "Standard deviation of a column's change over questions (and, after the slash, of its score over training seeds)."
)
_DETECT = "Print how many seeds, and how many questions, detect a change of so many points, in every column or in one."
_AGAINST = "Take changes from this row instead of the student."
_SIMULATE = (
    "Play the stages that are still to run on clusters of so many GPUs (gpus=1,8,64) or on a CPU machine with so many "
    "workers (workers=1,2): time, GPU-hours, cost, bottleneck, a picture. Then --recipe takes several, with commas."
)
_JUDGES = "With --simulate: judges of the recipe, each of which judges every judged benchmark."
_RATES = "With --simulate: your own measured rates, used before the shipped ones (docs/scale.md)."
_PRICE = "With --simulate: dollars per GPU-hour; default: a list price (harness/plan/throughputs.json)."
_PICTURES = "With --simulate: folder of the pictures; default: runs/NAME/simulation."
COLUMNS = ("stage", "reads", "total", "done", "to do", "responses", "k tokens", "judge calls")
SHOWN_INPUTS = 3
SHOWN_ROWS = 24
SHOWN_HOURS = 0.05  # fewer would be printed as 0.0
PATH_STEPS = 12


@app.command(epilog="Example: distilbench plan table1 --recipe smollm2 --set prompts.n=8")
@takes(RUN_OPTIONS)
def plan(
    target: Target = "table1",
    recipe: RecipeName = "pocket",
    every: Annotated[bool, typer.Option("--all", help="List every stage too, with what it reads.")] = False,
    pilot: Annotated[str | None, typer.Option(metavar="RUN", help=_PILOT)] = None,
    spread: Annotated[list[str] | None, typer.Option(metavar="METRIC=SD[/SD]", help=_SPREAD)] = None,
    detect: Annotated[list[str] | None, typer.Option(metavar="[METRIC=]POINTS", help=_DETECT)] = None,
    against: Annotated[str | None, typer.Option(metavar="ROW", help=_AGAINST, autocompletion=complete_rows)] = None,
    simulate: Annotated[str | None, typer.Option(metavar="gpus=N,N", help=_SIMULATE)] = None,
    judges: Annotated[str | None, typer.Option(metavar="NAME,NAME", help=_JUDGES, callback=words)] = None,
    rates: Annotated[Path | None, typer.Option(metavar="FILE", help=_RATES)] = None,
    gpu_price: Annotated[float | None, typer.Option(min=0.0, metavar="DOLLARS", help=_PRICE)] = None,
    pictures: Annotated[Path | None, typer.Option(metavar="FOLDER", help=_PICTURES)] = None,
    **options: Unpack[RunOptions],
) -> None:
    """Show the stages of a run, what is done and what the rest costs, the smallest change that each column will
    detect, and what stands in the way.

    Nothing is trained, generated or asked.
    """
    from distilbench.workflows.plan import plan as plan_work

    if simulate is not None:
        show_simulation(target, recipe, list(judges or ()), simulate, rates, gpu_price, pictures, options)
        return
    useless = {"--judges": judges or None, "--rates": rates, "--gpu-price": gpu_price, "--pictures": pictures}
    if given := [name for name, value in useless.items() if value is not None]:
        raise UserError(f"{', '.join(given)}: only with --simulate.")
    work = plan_work(target, recipe, **options)
    if every:
        show_stages(work)
    # Of a run that is done, the table itself says what it detects.
    is_wanted = bool(work.pending_stages or pilot or spread or detect or against)
    power = work.power(pilot, spread or (), detect or (), against) if is_wanted else {}
    show_plan(work, power=power, against=against, simulates=True)


def show_simulation(
    target: str, recipes: str, judges: Sequence[str], clusters: str, rates: Path | None, gpu_price: float | None,
    pictures: Path | None, options: RunOptions,
) -> None:  # fmt: skip
    """Play the plans of the recipes, separated by commas, on each cluster; draw the schedules."""
    from distilbench.simulation import draw, plan_grid, simulate

    works = plan_grid(target, words(recipes), judges, **options)
    simulations = simulate(works, clusters, rates=rates, gpu_price=gpu_price)
    show_simulations(simulations, draw(simulations, works, pictures))


def show_stages(work: WorkPlan) -> None:
    labels = {stage.key: stage.label for stage in work.stages}
    pending_keys = {stage.key for stage in work.pending_stages}
    for stage in work.stages:
        state = "to do" if stage.key in pending_keys else "done "
        reads = list(dict.fromkeys(labels[ref.key] for ref in stage.inputs.values()))
        hidden_count = len(reads) - SHOWN_INPUTS
        inputs = reads[:SHOWN_INPUTS] + ([f"{hidden_count} more"] if hidden_count > 0 else [])
        say(f"{state} {stage.key[:8]} {stage.label}" + (f"  <- {'; '.join(inputs)}" if reads else ""))


def show_plan(
    work: WorkPlan, noun: str = "targets", power: Mapping[str, Sequence[ColumnPower]] = {},
    against: str | None = None, simulates: bool = False,
) -> None:  # fmt: skip
    """Print stages by kind, the cost, the ``power`` by target (of changes from ``against``) and the findings. Exit
    code 1 where a problem stands in the way. ``simulates``: the command has ``--simulate``, which knows the time on a
    CPU."""
    say(label=f"{work.first.recipe.name}: {work.first.recipe.title}")
    several = len(work.plans) > 1
    for target, plan in work.plans.items():
        head = f"{target}: {len(plan.stages)} stages; " if several else ""
        names = [*plan.rows[:SHOWN_ROWS], *([f"{len(plan.rows) - SHOWN_ROWS} more"] * (len(plan.rows) > SHOWN_ROWS))]
        say(f"{head}rows: {', '.join(names) or 'none'}; seeds: {', '.join(map(str, plan.recipe.seeds))}")
    if several:
        say(shared_line(work, noun))
    total = show_kinds(work)
    say(
        f"to do: {cost_line(total, sum(work.stored_calls.values()))}"
        if work.pending_stages
        else "nothing to do: every score is in the store"
    )
    for line in gpu_lines(work, total) if work.pending_stages else ():
        say(line)
    compute = work.first.recipe.compute
    is_here = work.first.graph.registry.executors[compute.executor].this_machine
    if simulates and work.pending_stages and is_here and compute.device in ("auto", "cpu") and not visible_gpus():
        say(f"time on a CPU: add --simulate workers={compute.workers}")
    for name, columns in power.items():
        show_power(work, name, columns, against)
    for finding in work.findings:
        label, style = ("problem: ", "bold red") if finding.problem else ("note: ", "bold")
        say(finding.text, label=label, style=style)
    show_unfit(work)
    if any(finding.problem for finding in work.findings):
        raise typer.Exit(1)


def show_kinds(work: WorkPlan) -> Cost:
    """Print a line for each kind of stage; what the pending ones cost together."""
    from harness.stages import STAGES

    totals: list[Cost] = []
    pending_keys = {stage.key for stage in work.pending_stages}
    rows: list[tuple[str, ...]] = []
    for kind in STAGES:
        stages = [stage for stage in work.stages if stage.kind == kind]
        if not stages:
            continue
        pending = [stage for stage in stages if stage.key in pending_keys]
        total = work.cost(pending)
        totals.append(total)
        # Zeros are left blank: most kinds have one of the three costs.
        costs = (total.responses, total.tokens // 1000, total.judge_calls)
        counts = (len(stages), len(stages) - len(pending), len(pending))
        reads = dict.fromkeys(ref.kind for stage in stages for ref in stage.inputs.values())
        shown_reads = list(reads) if len(reads) <= SHOWN_INPUTS else [*list(reads)[:SHOWN_INPUTS], "..."]
        shown_costs = (f"{cost:,}" if cost else "" for cost in costs)
        rows.append((kind, ", ".join(shown_reads), *map(str, counts), *shown_costs))
    show_table(COLUMNS, rows, left=("stage", "reads"), dropped="reads")
    return Cost.total(totals)


def show_power(work: WorkPlan, target: str, columns: Sequence[ColumnPower], against: str | None = None) -> None:
    if not columns:
        return
    seeds = len(work.plans[target].recipe.seeds)
    title = f"{target}: smallest change from {against or find_target(target).reference} that is detected with 80% power"
    say(f"{title} ({format_count(seeds, 'seed')}, 5% two-sided, before Holm)")
    rows = []
    for column in columns:
        metric = column.metric
        change = "?" if column.is_unknown else "n/a" if column.too_few else "none"
        change = change if column.change is None else f"{column.change:.{metric.digits}f}"
        rows.append((f"{metric.group} {metric.title}", f"{column.questions:,}", change, column.basis))
    show_table(("column", "questions", "change", "variance"), rows, left=("column", "variance"))
    if seeds == 1:
        say("of this seed's students only: another seed may differ by more")
    elif lacking := [column.metric.id for column in columns if not column.knows_seeds]:
        scope = "" if len(lacking) == len(columns) else f"{', '.join(lacking)}: "
        remedy = "take it from a run of several seeds (--pilot RUN) or state it (--spread METRIC=SD/SD_OF_SEEDS)"
        say(f"{scope}without the variance of training seeds, which is unknown: {remedy}")
    if few := {column.metric.id: column.too_few for column in columns if column.too_few}:
        say(f"n/a: too few questions ({', '.join(f'{name} needs {least}' for name, least in few.items())})")
    if unknown := [column.metric.id for column in columns if column.is_unknown]:
        remedy = "a short run measures it (--pilot RUN), or state a guess"
        say(f"?: the variance of {', '.join(unknown)} is not known: {remedy} (--spread {unknown[0]}=SD)")
    if any(column.basis.startswith("assumed") for column in columns):
        say("some variances are assumed, not measured: even a short run is a better source (--pilot RUN)")
    for doubt in dict.fromkeys(doubt for column in columns for doubt in column.doubts):
        say(f"note: {doubt}")
    show_needs([column for column in columns if column.wanted is not None], seeds)


def show_needs(columns: Sequence[ColumnPower], seeds: int) -> None:
    """Seeds and questions that detect the wanted changes."""
    if not columns:
        return
    say(f"to detect a change: seeds at the plan's questions, questions at its {format_count(seeds, 'seed')}")
    rows = []
    for column in columns:
        unknown = "?" if column.is_unknown else "n/a"
        needs = (
            unknown if number is None else f"{number:,}" for number in (column.seeds_needed, column.questions_needed)
        )
        rows.append((f"{column.metric.group} {column.metric.title}", f"{column.wanted:g}", *needs))
    show_table(("column", "change", "seeds", "questions"), rows, left=("column",))
    if any(None in (column.seeds_needed, column.questions_needed) and not column.is_unknown for column in columns):
        say(
            "n/a: no number up to 100 seeds, or of questions, suffices (or the plan has too few questions to be tested)"
        )


def cost_line(cost: Cost, stored_calls: int) -> str:
    dollars = "unknown" if cost.dollars is None else f"${cost.dollars:,.2f}"
    parts = [
        f"{cost.responses:,} responses",
        f"{million(cost.tokens)} model tokens",
        f"{cost.judge_calls:,} judge calls" + (f" ({million(cost.judge_tokens)} tokens)" if cost.judge_calls else ""),
    ]
    if stored_calls:
        parts.append(f"{stored_calls:,} more are answered from the ledger")
    return ", ".join([*parts, f"judge cost {dollars}"])


def million(count: int) -> str:
    """A count of tokens: ``6.30 M``, and a small one with all its digits."""
    digits = 1 if count >= 10**8 else 2
    return f"{count / 1e6:,.{digits}f} M" if count >= 10**5 else f"{count:,}"


def gpu_lines(work: WorkPlan, total: Cost) -> list[str]:
    """GPU-hours and training memory on the device that the recipe names, with the assumptions behind them. What would
    be printed as zero is left out."""
    from harness.models.published_sizes import size

    device = work.first.recipe.compute.gpu
    if device is None:
        return []
    gpu_hours = hours(total.work, device)
    lines: list[str] = []
    verbs = {"train": "training", "read": "reading", "write": "writing"}
    shares = ", ".join(f"{share:.0%} {verbs[name]}" for name, share in SHARE.items())
    if gpu_hours is None or gpu_hours >= SHOWN_HOURS:
        amount = "unknown" if gpu_hours is None else f"about {gpu_hours:,.{0 if gpu_hours >= 10 else 1}f}"
        lines += [f"GPU-hours: {amount} on {device} ({DEVICES[device].tflops:g} TFLOP/s at {shares}), without judges"]
    gib = None if total.peak_bytes is None else total.peak_bytes / (1 << 30)
    if gib is None or gib >= 0.5:
        amount = "unknown" if gib is None else f"about {gib:,.0f} GiB"
        lines.append(f"memory: {amount} to train a row in one process; {device} has {DEVICES[device].gib} GiB")
    models = {model.location: model for plan in work.plans.values() for model in plan.graph.models.values()}
    # A published size is a promise that no file here has confirmed.
    published_names = [
        name for name, model in models.items() if (model_size := size(model)) is not None and model_size.stated
    ]
    if published_names:
        lines.append(
            f"sizes as in harness/models/published_sizes.json, files not here: {', '.join(sorted(published_names))}"
        )
    return lines


def shared_line(work: WorkPlan, noun: str = "targets") -> str:
    total, different = sum(len(plan.stages) for plan in work.plans.values()), len(work.stages)
    without = f" ({total} if they shared none)" if total > different else ""
    return f"{len(work.plans)} {noun}: {format_count(different, 'stage')}{without}"


def show_unfit(work: WorkPlan) -> None:
    for text in work.unfit:
        say(f"left out: {text}", err=True)


# Simulations: a column per cluster, what it rests on, and a picture of each schedule


def show_simulations(simulations: Sequence[Simulation], pictures: Sequence[Path]) -> None:
    say(label=f"simulated on {simulations[0].device}, from now to the last score:")
    columns = [figures(simulation) for simulation in simulations]
    rows = [(name, *(column.get(name, "") for column in columns)) for name in columns[0]]
    show_table(("", *(simulation.cluster.name for simulation in simulations)), rows, left=("",))
    for simulation in simulations:
        say(f"critical path on {simulation.cluster.name}: {path_line(simulation)}")
    for text in dict.fromkeys(text for simulation in simulations for text in simulation.remarks):
        say(f"note: {text}")
    say("it rests on:")
    for text in dict.fromkeys(text for simulation in simulations for text in simulation.basis):
        say(f"  {text}")
    for picture in pictures:
        say(f"picture: {picture}")


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
