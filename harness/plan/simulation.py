"""Play a graph of stages on a stated cluster: a discrete-event simulation with the rules of the scheduler and of the
executors. Pure: jobs in, a timeline out.

A job starts when what it waits for is done and there is room: its GPUs, or, without a GPU, one of ``workers``; its
memory. Jobs with GPUs stand in one line, the others in another, in the order in which they became ready. Scores start
when everything else is done. Jobs that ask one judge share its rate; jobs on one CPU slow each other down.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from harness.errors import UserError
from harness.text import format_count

_END: Final = 1e-9  # seconds that are none


@dataclass(frozen=True)
class Cluster:
    workers: int
    """Jobs without a GPU that run at once."""
    gpus: int = 0
    memory_gib: float | None = None
    """In all; ``None``: enough."""

    @property
    def name(self) -> str:
        return format_count(self.gpus, "GPU") if self.gpus else format_count(self.workers, "worker")


@dataclass(frozen=True)
class SimulatedStage:
    key: str
    label: str
    kind: str
    waits_for: frozenset[str]
    seconds: float
    """Of its work, alone."""
    gpus: int = 0
    memory_gib: float = 0.0
    judge: str = ""
    """The endpoint that it asks."""
    judge_seconds: float = 0.0
    """That the endpoint needs for its calls when it does nothing else; ``seconds`` is the most that calls in flight
    allow."""
    server: str = ""
    """What must be served on its GPUs first: started where another server, or none, is there."""
    server_seconds: float = 0.0
    last: bool = False
    stored_bytes: int = 0
    scratch_bytes: int = 0
    """While it runs."""


class Span(NamedTuple):
    job: SimulatedStage
    start: float
    end: float
    lanes: tuple[int, ...]
    """Its GPUs, or the worker that ran it."""

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass
class _Running:
    job: SimulatedStage
    start: float
    fixed: float
    """Seconds to go until its work begins."""
    remainder: float = 1.0
    """Share of its work that is left."""
    lanes: tuple[int, ...] = ()
    speed: float = 0.0


@dataclass(frozen=True)
class Timeline:
    cluster: Cluster
    spans: Sequence[Span]
    """By start."""

    @property
    def seconds(self) -> float:
        return max((span.end for span in self.spans), default=0.0)

    @property
    def gpu_seconds(self) -> float:
        """That GPUs were busy."""
        return sum(span.seconds * span.job.gpus for span in self.spans)

    @property
    def gpus_in_use(self) -> int:
        """GPUs that had any work."""
        return len({lane for span in self.spans if span.job.gpus for lane in span.lanes})

    @cached_property
    def busy(self) -> dict[str, float]:
        """Resource to the share of the whole time in which it was in full use."""
        if not self.seconds:
            return {}
        shares: dict[str, float] = {}
        if self.cluster.gpus:
            shares["GPUs"] = self.gpu_seconds / self.cluster.gpus / self.seconds
        free_spans = [span for span in self.spans if not span.job.gpus]
        if free_spans:
            shares["workers"] = sum(span.seconds for span in free_spans) / self.cluster.workers / self.seconds
        for span in self.spans:
            if span.job.judge_seconds:
                name = f"judge {span.job.judge}"
                shares[name] = shares.get(name, 0.0) + span.job.judge_seconds / self.seconds
        return shares

    @cached_property
    def critical_path(self) -> list[Span]:
        """From the first to the last: each ended last of those that the next one waited for."""
        spans = {span.job.key: span for span in self.spans}
        path = [max(self.spans, key=lambda span: span.end)] if self.spans else []
        while path:
            job, start = path[-1].job, path[-1].start
            keys = {span.job.key for span in self.spans if not span.job.last} if job.last else job.waits_for
            before = [spans[key] for key in keys if key in spans and spans[key].end <= start + _END]
            if not before:
                break
            path.append(max(before, key=lambda span: span.end))
        return path[::-1]

    @property
    def stored_bytes(self) -> int:
        return sum(span.job.stored_bytes for span in self.spans)

    @cached_property
    def peak_bytes(self) -> int:
        """The most that lies on the disk: what is finished, and what running jobs keep."""
        events = [(span.start, span.job.scratch_bytes) for span in self.spans]
        events += [(span.end, span.job.stored_bytes - span.job.scratch_bytes) for span in self.spans]
        return max(itertools.accumulate((change for _, change in sorted(events))), default=0)

    def bound(self) -> dict[str, float]:
        """Resource to the seconds that it needs alone: no schedule is shorter than the longest of them. ``critical
        path``: the longest chain of jobs, each alone with endless resources."""
        seconds = {name: share * self.seconds for name, share in self.busy.items()}
        if free_jobs := [span.job for span in self.spans if not span.job.gpus]:  # without their waits for judges
            seconds["workers"] = sum(job.seconds for job in free_jobs) / self.cluster.workers
        ends: dict[str, float] = {}
        before_last = 0.0
        for span in sorted(self.spans, key=lambda span: (span.job.last, span.start, span.end)):
            job = span.job
            begin = before_last if job.last else max((ends.get(key, 0.0) for key in job.waits_for), default=0.0)
            ends[job.key] = begin + max(job.seconds, job.judge_seconds) + job.server_seconds
            if not job.last:
                before_last = max(before_last, ends[job.key])
        return {**seconds, "critical path": max(ends.values(), default=0.0)}

    @property
    def bottleneck(self) -> str:
        """The resource, or ``critical path``, that needs the most seconds."""
        bounds = self.bound()
        return max(bounds, key=bounds.__getitem__) if self.spans else ""


class _Room:
    """What is free, as executor ``processes`` gives it out. A worker stays on its GPUs, and the server that it started,
    until another needs its place."""

    def __init__(self, cluster: Cluster) -> None:
        self.free = {True: set(range(cluster.gpus)), False: set(range(cluster.workers))}
        """By whether they are GPUs."""
        self.memory = float("inf") if cluster.memory_gib is None else cluster.memory_gib
        self.used_memory = 0.0
        self.idle: dict[tuple[bool, tuple[int, ...]], SimulatedStage] = {}
        """Workers to their last job; the one that was used last is last."""
        self.servers: dict[tuple[int, ...], str] = {}

    def has_place(self, job: SimulatedStage) -> bool:
        return len(self.free[job.gpus > 0]) >= max(1, job.gpus)

    def has_memory(self, job: SimulatedStage) -> bool:
        """What needs more than there is runs alone."""
        return not self.used_memory or self.used_memory + job.memory_gib <= self.memory

    def take(self, job: SimulatedStage) -> tuple[tuple[int, ...], bool]:
        """The GPUs or the worker, and whether a worker must be started."""
        on_gpus, count = job.gpus > 0, max(1, job.gpus)
        self.used_memory += job.memory_gib
        able = [worker for worker in self.idle if worker[0] == on_gpus and len(worker[1]) == count]
        if able:
            worker = max(reversed(able), key=lambda worker: self.idle[worker].kind == job.kind)
            self.idle.pop(worker)
        else:
            taken = {lane for workers_on_gpus, lanes in self.idle if workers_on_gpus == on_gpus for lane in lanes}
            worker = on_gpus, tuple(sorted(sorted(self.free[on_gpus], key=lambda lane: (lane in taken, lane))[:count]))
            for other in [other for other in self.idle if other[0] == on_gpus and set(other[1]) & set(worker[1])]:
                self.idle.pop(other)
                self.servers.pop(other[1], None)
        self.free[on_gpus] -= set(worker[1])
        return worker[1], not able

    def give(self, job: SimulatedStage, lanes: tuple[int, ...]) -> None:
        self.used_memory -= job.memory_gib
        self.free[job.gpus > 0] |= set(lanes)
        self.idle[job.gpus > 0, lanes] = job

    def start_seconds(self, job: SimulatedStage, lanes: tuple[int, ...]) -> float:
        """Until the job's server answers on these GPUs; a job that computes in its own process needs the place too."""
        if job.server and self.servers.get(lanes) == job.server:
            return 0.0
        if job.gpus:
            self.servers.pop(lanes, None)
        if job.server:
            self.servers[lanes] = job.server
        return job.server_seconds


def next_job(lines: Mapping[bool, deque[tuple[int, SimulatedStage]]], room: _Room) -> SimulatedStage | None:
    """The next one for which there is room, taken out of its line: those with GPUs stand in one, the others in another.
    Where one waits for memory, none that came later takes it away."""
    memory_waits = False
    for line in sorted(filter(None, lines.values()), key=lambda line: line[0][0]):
        job = line[0][1]
        has_memory = not job.memory_gib or (not memory_waits and room.has_memory(job))
        memory_waits = memory_waits or not has_memory
        if has_memory and room.has_place(job):
            return line.popleft()[1]
    return None


class _Agenda:
    """Which jobs are ready: when what they wait for is done, in the order of the plan; the last when all others are."""

    def __init__(self, jobs: Sequence[SimulatedStage]) -> None:
        keys = {job.key for job in jobs}
        self.order = {job.key: number for number, job in enumerate(jobs)}
        self.waits = {job.key: len(job.waits_for & keys) for job in jobs}
        self.readers: dict[str, list[SimulatedStage]] = {}
        for job in jobs:
            for key in job.waits_for & keys:
                self.readers.setdefault(key, []).append(job)
        self.last = [job for job in jobs if job.last]
        self.first_left = len(jobs) - len(self.last)
        self.ready = [job for job in jobs if not self.waits[job.key] and not job.last]

    def take(self) -> list[SimulatedStage]:
        ready = sorted(self.ready, key=lambda job: self.order[job.key])
        if not self.first_left:
            ready, self.last = [*ready, *self.last], []
        self.ready = []
        return ready

    def finish(self, job: SimulatedStage) -> None:
        self.first_left -= not job.last
        for reader in self.readers.get(job.key, ()):
            self.waits[reader.key] -= 1
            if not self.waits[reader.key] and not reader.last:
                self.ready.append(reader)


def play(
    jobs: Sequence[SimulatedStage],
    cluster: Cluster,
    worker_seconds: float = 0.0,
    together: Callable[[int], float] = lambda count: 1.0,
) -> Timeline:
    """``worker_seconds``: before the first job of a worker; ``together``: the speed of each of so many jobs on one CPU
    (without GPUs). Raises UserError where a job can never start."""
    check_room(jobs, cluster)
    agenda, room, running = _Agenda(jobs), _Room(cluster), list[_Running]()
    spans, now, arrivals = list[Span](), 0.0, itertools.count()
    lines = {True: deque[tuple[int, SimulatedStage]](), False: deque[tuple[int, SimulatedStage]]()}
    while True:
        for job in agenda.take():
            lines[job.gpus > 0].append((next(arrivals), job))
        while (chosen := next_job(lines, room)) is not None:
            lanes, is_new = room.take(chosen)
            fixed = room.start_seconds(chosen, lanes) + worker_seconds * is_new
            running.append(_Running(chosen, now, fixed, lanes=lanes))
        if not running:
            return Timeline(cluster, sorted(spans, key=lambda span: span.start))
        now += advance(running, together if not cluster.gpus else lambda count: 1.0)
        for entry in [entry for entry in running if entry.remainder <= _END and entry.fixed <= _END]:
            running.remove(entry)
            room.give(entry.job, entry.lanes)
            spans.append(Span(entry.job, entry.start, now, entry.lanes))
            agenda.finish(entry.job)


def advance(running: Sequence[_Running], together: Callable[[int], float]) -> float:
    """Move to the next event, the end of a start or of a job; the seconds that it takes."""
    asking: dict[str, int] = {}
    for entry in running:
        if entry.job.judge and entry.fixed <= _END:
            asking[entry.job.judge] = asking.get(entry.job.judge, 0) + 1
    cpu = together(len(running))
    for entry in running:
        seconds = entry.job.seconds / cpu
        if entry.job.judge and entry.fixed <= _END:
            seconds = max(seconds, asking[entry.job.judge] * entry.job.judge_seconds)
        entry.speed = 1.0 / max(seconds, _END)
    step = min(entry.fixed if entry.fixed > _END else entry.remainder / entry.speed for entry in running)
    for entry in running:
        if entry.fixed > _END:
            entry.fixed -= step
        else:
            entry.remainder -= step * entry.speed
    return step


def check_room(jobs: Sequence[SimulatedStage], cluster: Cluster) -> None:
    """Raises UserError where a job needs more GPUs than the whole cluster has."""
    wishes = {job.kind: job.gpus for job in jobs if job.gpus > cluster.gpus}
    if wishes:
        needs = "; ".join(f"a {kind} stage gets {gpus} (compute.stages.{kind}.gpus)" for kind, gpus in wishes.items())
        raise UserError(f"--simulate: {needs}; the cluster has {format_count(cluster.gpus, 'GPU')}.")
