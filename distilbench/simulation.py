"""Play plans on stated clusters (``plan --simulate``): how long, how many GPU-hours, what it costs, where it waits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Unpack, cast

from distilbench.workflows.plan import RunOptions, WorkPlan, plan
from distilbench.workflows.specs import overrides_of
from harness.contracts.stage import Cost, Stage, Work
from harness.errors import UserError
from harness.hardware import DEVICES, weight_bytes
from harness.models.backends import TRANSFORMERS
from harness.models.published_sizes import size
from harness.plan.plan import Plan
from harness.plan.simulation import Cluster, SimulatedStage, Span, Timeline, play
from harness.plan.throughput import OTHER, JudgeRate, Speeds, load_throughputs
from harness.run.scheduler import results_of
from harness.stages import STAGES
from harness.stages.kind import DiskUse
from harness.text import format_count
from reports.figures.gantt import gantt
from reports.figures.style import figure_bytes, figure_style
from results.store.locks import write_atomic

GIB: Final = 1 << 30
_WORD = re.compile(r"(gpus|workers|memory)=([0-9]+(?:\.[0-9]+)?(?:,[0-9]+)*)")
_FORM = "write gpus=1,8,64 for GPUs or workers=1,2 for a CPU machine, and after a space workers=16 or memory=256 (GiB)"
CPU: Final = "cpu"
MOST: Final = 100_000


@dataclass(frozen=True)
class Simulation:
    """Plans played on one cluster. ``remarks``: what would not fit it."""

    timeline: Timeline
    device: str
    gpu_price: float | None
    """Dollars per GPU and hour; ``None``: not known."""
    judge_dollars: float | None
    basis: tuple[str, ...]
    """What the durations rest on, in sentences."""
    remarks: tuple[str, ...]

    @property
    def cluster(self) -> Cluster:
        return self.timeline.cluster

    @property
    def seconds(self) -> float:
        """Wall time, from the first stage to the end of the last."""
        return self.timeline.seconds

    @property
    def gpu_hours(self) -> float:
        """GPU-hours in use."""
        return self.timeline.gpu_seconds / 3600

    @property
    def reserved_gpu_hours(self) -> float:
        """GPU-hours of the whole cluster, from the first stage to the last."""
        return self.cluster.gpus * self.seconds / 3600

    @property
    def gpu_dollars(self) -> float | None:
        return None if self.gpu_price is None else self.gpu_price * self.reserved_gpu_hours

    @property
    def path(self) -> Sequence[Span]:
        """The critical path."""
        return self.timeline.critical_path


def simulate(
    works: Sequence[WorkPlan],
    clusters: str | Sequence[Cluster],
    *,
    device: str | None = None,
    rates: str | Path | None = None,
    gpu_price: float | None = None,
) -> list[Simulation]:
    """Play what is still to do of plans, together, on each of ``clusters`` (``gpus=1,8,64``, ``workers=1,2``).

    ``device``: whose rates count, by default ``compute.gpu`` of the recipe and ``cpu`` without GPUs; ``rates``: a file
    of rates that go before the shipped ones; ``gpu_price``: dollars per GPU-hour. Raises UserError for a cluster that
    cannot be read, an unknown device, and a model whose size is not known.
    """
    compute = works[0].first.recipe.compute
    table = load_throughputs(None if rates is None else Path(rates))
    simulations, recipes = [], {work.first.recipe.name for work in works}
    for cluster in read_clusters(clusters, compute.workers) if isinstance(clusters, str) else clusters:
        name = device or (compute.gpu if cluster.gpus else CPU)
        if name is None:
            raise UserError(
                f"--simulate gpus={cluster.gpus}: name the GPU, --set compute.gpu=NAME, one of {', '.join(DEVICES)}."
            )
        chosen = Speeds(name, table)
        maker = _Maker(chosen, cluster, table.judges)
        if works[0].first.graph.registry.executors[compute.executor].queues:
            text = (
                f"reserved machines from the first stage to the last: no job waits in the queue of {compute.executor}"
            )
            maker.basis[text] = None
        jobs, dollars = [], []
        for stage_plan, stage, cost in pending(works):
            dollars.append(cost.dollars)
            suffix = f" ({stage_plan.recipe.name})" if len(recipes) > 1 else ""
            jobs.append(maker.job(stage_plan, stage, cost, suffix))
        if maker.unknown:
            raise UserError(f"--simulate: the size of {', '.join(sorted(maker.unknown))} is not known: get its files.")
        timeline = play(jobs, cluster, chosen.startup.worker, chosen.with_peers)
        price = gpu_price if gpu_price is not None or chosen.price is None else chosen.price.dollars_per_hour
        judge_dollars = None if None in dollars else sum(amount or 0.0 for amount in dollars)
        if gpu_price is None and chosen.price is not None and cluster.gpus:
            maker.basis[f"price: ${chosen.price.dollars_per_hour:g} per GPU-hour ({chosen.price.source})"] = None
        simulations.append(Simulation(timeline, name, price, judge_dollars, tuple(maker.basis), tuple(maker.remarks)))
    return simulations


def plan_grid(
    targets: str, recipes: Sequence[str], judges: Sequence[str], **options: Unpack[RunOptions]
) -> list[WorkPlan]:
    """A plan per recipe and judge. ``judges``: names of the recipes' judges, each of which judges all that judges
    judge; none: as the recipes say. Raises UserError."""
    works = []
    for recipe in recipes:
        work = plan(targets, recipe, **options)
        changes = overrides_of(options.get("set", ()))
        for judge in judges or [""]:
            names = [name for name, entry in work.first.recipe.benchmarks.items() if entry.judge is not None]
            further = [(f'benchmarks."{name}".judge', judge) for name in names if judge]
            changed: RunOptions = {**options, "set": cast("Any", [*changes, *further])}
            works.append(plan(targets, recipe, **changed) if judge else work)
    return works


def draw(simulations: Sequence[Simulation], works: Sequence[WorkPlan], folder: Path | None = None) -> list[Path]:
    """Write a picture of each schedule, by default under the first run's folder. Raises UserError where that fails."""
    names = " and ".join(dict.fromkeys(work.first.recipe.name for work in works))
    targets = ", ".join(dict.fromkeys(target for work in works for target in work.plans))
    paths = []
    for simulation in simulations:
        cluster, busy = simulation.cluster, simulation.timeline.busy
        place = (folder or works[0].folder / "simulation") / f"{cluster.name.replace(' ', '-').lower()}.png"
        seconds, idle = simulation.seconds, cluster.gpus - simulation.timeline.gpus_in_use
        length = f"{seconds / 3600:,.1f} hours" if seconds > 7200 else f"{seconds / 60:.1f} minutes"
        shares = ", ".join(f"{name} {share:.0%}" for name, share in busy.items() if share >= 0.005)
        note = f"{length} on {simulation.device}; outlined: the critical path"
        note += f"; {format_count(idle, 'GPU')} never in use" * bool(idle) + f"\nin use: {shares}"
        with figure_style():
            data = figure_bytes(gantt(simulation.timeline, f"{names}, {targets}: {cluster.name}", note), "png")
        try:
            paths.append(write_atomic(place, data))
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise UserError(f"{place}: {reason}. Name a folder that can be written with --pictures.") from error
    return paths


def pending(works: Iterable[WorkPlan]) -> Iterable[tuple[Plan, Stage, Cost]]:
    """Each stage that is still to run, once, without the judge calls that the ledger answers."""
    seen: set[str] = set()
    for work in works:
        plans = {key: plan for plan in work.plans.values() for key in plan.graph.stages}
        for stage in work.pending_stages:
            if stage.key not in seen:
                seen.add(stage.key)
                yield plans[stage.key], stage, work.cost([stage])


def read_clusters(text: str, workers: int) -> list[Cluster]:
    """From ``gpus=1,8,64 workers=16``; ``workers``: of the recipe, for what is not said. Raises UserError."""
    words = text.split()
    matches = [_WORD.fullmatch(word) for word in words]
    values = {match[1]: match[2].split(",") for match in matches if match}
    if not words or None in matches or len(values) < len(words) or not {"gpus", "workers"} & set(values):
        raise UserError(f"--simulate {text!r}: {_FORM}.")
    several = "gpus" if "gpus" in values else "workers"
    for name, numbers in values.items():
        if name != several and len(numbers) > 1:
            raise UserError(f"--simulate {text!r}: one number for {name}; several are for {several} alone.")
        wrong = [number for number in numbers if not 0 < float(number) <= MOST or (name != "memory" and "." in number)]
        if wrong:
            raise UserError(f"--simulate {text!r}: {name}={wrong[0]} must be a whole number from 1 to {MOST:,}.")
    memory = float(values["memory"][0]) if "memory" in values else None
    counts = list(dict.fromkeys(map(int, values[several])))
    if several == "workers":
        return [Cluster(count, 0, memory) for count in counts]
    return [Cluster(int(values.get("workers", [str(workers)])[0]), count, memory) for count in counts]


class _Maker:
    """Makes jobs of stages, and notes what their durations rest on."""

    def __init__(self, device: Speeds, cluster: Cluster, judges: Mapping[str, JudgeRate]) -> None:
        self.device, self.cluster, self.judges = device, cluster, judges
        self.basis: dict[str, None] = {}
        self.remarks: dict[str, None] = {}
        self.unknown: set[str] = set()
        self.last_keys: dict[int, set[str]] = {}

    def job(self, plan: Plan, stage: Stage, cost: Cost, suffix: str = "") -> SimulatedStage:
        """``suffix``: tells the plans of several recipes apart."""
        kind, startup = STAGES[stage.kind], self.device.startup
        wish = plan.recipe.compute.resources(plan.graph.registry.stages)
        resources = replace(wish, gpus=tuple(range(self.cluster.gpus))).of(stage)
        engine = stage.local.get("backend", TRANSFORMERS.name)  # training draws live responses itself
        seconds = startup.each + cost.replicates * startup.replicate + cost.judge_calls * startup.call
        seconds += sum(self.work_seconds(piece, engine, resources.gpus) for piece in cost.work)
        roles = [
            role
            for role in stage.local.get("models", {})
            if cost.work and role not in stage.local.get("tokenizers", {})
        ]
        gib = sum(self.weight_gib(stage, role) for role in roles)
        server, server_seconds = "", 0.0
        if stage.local.get("engine") and cost.work:
            served = [f"{role}={model_of(stage, role)}" for role in roles]
            server = " ".join([engine, *served])
            runs_already = bool(stage.local["backend_options"].get("server"))
            server_seconds = 0.0 if runs_already else startup.engine + gib * startup.gib
            if server_seconds:
                text = f"an engine's start: {startup.engine:g} s and {startup.gib:g} s per GiB of weights, "
                self.basis[f"{text}each time that a stage needs another model"] = None
        elif cost.work:
            seconds += startup.stage + gib * startup.gib
        self.check_memory(stage, cost, gib, resources.gpus)
        judge, judge_seconds, call_seconds = self.judging(plan, stage, cost) if cost.judge_calls else ("", 0.0, 0.0)
        disk = kind.disk(stage, plan.graph) or DiskUse()
        graph = plan.graph
        source, assumed = graph.source, "assumed, not measured"
        response_basis = prompt_basis = "as its source says" if source.source.lengths else assumed
        if source.pin.prompt_characters is not None:
            prompt_basis = "by the characters of the file"
        text = f"prompts of {graph.prompt_tokens} tokens ({prompt_basis}), responses of {graph.response_tokens} tokens "
        self.basis[f"{text}({response_basis}); recipe {plan.recipe.name!r}"] = None
        return SimulatedStage(
            stage.key, stage.label + suffix, stage.kind, frozenset(ref.key for ref in stage.waits_for),
            max(seconds, call_seconds), resources.gpus, resources.memory_gib or 0.0, judge, judge_seconds, server,
            server_seconds, stage.key in self.last(plan), disk.artifact, disk.scratch,
        )  # fmt: skip

    def last(self, plan: Plan) -> set[str]:
        return self.last_keys.setdefault(id(plan), results_of(plan))

    def work_seconds(self, work: Work, engine: str, gpus: int) -> float:
        duration = self.device.duration(work, engine, gpus)
        if duration is None:
            return 0.0
        self.basis[duration.basis] = None
        return duration.seconds

    def weight_gib(self, stage: Stage, role: str) -> float:
        checkpoint = stage.local["models"][role]
        found = size(checkpoint)
        if found is None:
            self.unknown.add(checkpoint.location)
            return 0.0
        return weight_bytes(found, stage.params.get("dtype", "float32")) / GIB

    def check_memory(self, stage: Stage, cost: Cost, gib: float, gpus: int) -> None:
        needed, name = max(gib, (cost.peak_bytes or 0.0) / GIB), self.device.name
        if gpus and name in DEVICES and needed > DEVICES[name].gib * gpus:
            text = f"memory: a {stage.kind} stage needs about {needed:,.0f} GiB, {gpus} x {name} have "
            text += f"{DEVICES[name].gib * gpus}; raise compute.stages.{stage.kind}.gpus"
            self.remarks[text] = None

    def judging(self, plan: Plan, stage: Stage, cost: Cost) -> tuple[str, float, float]:
        """The endpoint, the seconds that it needs for these calls, and those that the calls in flight need."""
        judge = plan.graph.judge_of(stage.params["benchmark"])
        kind = "" if judge is None else judge.kind.name
        model = kind if judge is None else str(judge.identity.get("model", kind))
        name = next((name for name in (model, kind) if name in self.judges), OTHER)
        rate, written = self.judges[name], cost.judge_written
        self.basis[f"judge {model}: {rate.text} ({rate.source})"] = None
        in_flight = plan.recipe.ask.concurrency
        call_seconds = (cost.judge_calls * rate.first_token + written / rate.stream) / in_flight
        return model, rate.seconds(cost.judge_calls, cost.judge_tokens - written, written), call_seconds


def model_of(stage: Stage, role: str) -> str:
    """What tells a model from others: the train stage that made it, or where it lies."""
    return stage.inputs[role].key if role in stage.inputs else str(stage.local["models"][role].location)
