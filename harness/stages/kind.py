"""A kind of stage as one object, and what its ``run`` may use. A new kind is one file and one line in ``STAGES``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from harness.contracts.backend import AskServer, LoadsModel, Services
from harness.contracts.benchmark import ConfiguredBenchmark
from harness.contracts.engine import EngineHost, EngineSpec
from harness.contracts.judge import AskOptions, CallOutcome
from harness.contracts.model import Capability, Checkpoint
from harness.contracts.options import options_from
from harness.contracts.registry import Registry
from harness.contracts.stage import Cost, Stage, Store
from harness.journal import Journal
from harness.models.checkpoint import download, from_folder
from harness.records import read_records, write_records
from harness.stages.graph import StageGraph
from harness.types import Answer, Group, Judgment, Prompt, Request


@dataclass(frozen=True)
class PlanIssue:
    problem: bool
    """Otherwise it is a remark."""
    text: str
    forceable: bool = True
    """Exact overlap is not: it needs ``prompts.allow_overlap``, which is recorded."""


class TextLength(NamedTuple):
    """In tokens: the texts that a stage gives to its models, and the options that decide their length."""

    content: str
    longest: int
    usual: int
    """Length that is certain or usual: a shorter context stops the run, one between the two is a remark."""
    remedy: str


class DiskUse(NamedTuple):
    """Bytes of the artifact, and those to resume from while the stage runs."""

    artifact: int = 0
    scratch: int = 0


@dataclass(frozen=True)
class StageKind:
    name: str
    run: Callable[[Stage, StageContext], Mapping[str, object]]
    """Reads its inputs from the store, writes its output into ``context.folder`` and returns what it measured."""
    cost: Callable[[Stage, StageGraph], Cost] = lambda stage, graph: Cost()
    disk: Callable[[Stage, StageGraph], DiskUse | None] = lambda stage, graph: DiskUse()
    """Large files only; ``None``: the size of a model is not known."""
    texts: Callable[[Stage, StageGraph], Iterable[TextLength]] = lambda stage, graph: ()
    check: Callable[[Sequence[Stage], StageGraph], Iterable[PlanIssue]] = lambda stages, graph: ()
    needs: Mapping[str, frozenset[Capability]] = field(default_factory=dict)
    """Role of a model to what it must be able to do. A role in training needs the weights themselves."""
    training: bool = False
    """Whether it runs a model to make a student: its time is part of a row's training time."""

    @property
    def runs_model(self) -> bool:
        """Such a stage gets a GPU where there are GPUs."""
        return self.training or bool(self.needs)


T = TypeVar("T")
Setup = Callable[[], tuple[Registry, Store]]
"""Makes registry and store inside a worker; must be picklable (a ``functools.partial`` of a module's function)."""
FILES: Final[Mapping[type, str]] = {
    Prompt: "prompts.jsonl",
    Group: "groups.jsonl",
    Answer: "answers.jsonl",
    Judgment: "judgments.jsonl",
}


@dataclass(frozen=True)
class StageContext:
    registry: Registry
    store: Store
    ledger: Path
    folder: Path
    progress: Callable[[int, int, str], None]
    setup: Setup | None = None
    """For the processes that a training stage starts; needed where ``compute.launch`` is set."""
    start_time: float | None = None
    """When the run began, seconds since 1970: budgets count from there. ``None``: now."""
    journal: Journal = field(default_factory=Journal)
    """The pieces of the stage that are done, for a stage that takes long to go on from."""
    engines: EngineHost | None = None
    """Who starts the servers that the stage asks."""
    notes: dict[str, object] = field(default_factory=dict)
    """Of backends, for the stage's measurements."""

    def input(self, stage: Stage, role: str, part: str) -> Path:
        """A file or folder of an input, or ``.`` for all of it, to be read."""
        return self.store.path(*stage.inputs[role], part)

    def records(self, stage: Stage, role: str, kind: type[T]) -> list[T]:
        return read_records(self.input(stage, role, FILES[kind]), kind)

    def write(self, kind: type[T], records: Iterable[T]) -> None:
        write_records(self.folder / FILES[kind], records)

    def benchmark(self, name: str, options: Mapping[str, object]) -> ConfiguredBenchmark:
        benchmark, config = self.registry.benchmark(name, options)
        return ConfiguredBenchmark(benchmark, config, benchmark.questions(config))

    def model(self, stage: Stage, role: str) -> Any:
        """Of the recipe's backend, with the capabilities of ``StageKind.needs`` (preflight refuses other backends)."""
        backend_choice = stage.params["backend"]
        backend = self.registry.backends[backend_choice["name"]]
        # What decides numbers is in the key (``params``); where and how much at once is not (``local``).
        common = {"dtype": stage.params["dtype"]}
        common |= {name: stage.local[name] for name in ("device", "batch_tokens", "trust_remote_code")}
        names = {field.name for field in fields(backend.config)}
        values = {name: value for name, value in common.items() if name in names}
        values |= {**backend_choice["options"], **stage.local.get("backend_options", {})}
        options = options_from(backend.config, values)
        return backend.load(self.checkpoint(stage, role), options, self.services(stage, "rows"))

    def services(self, stage: Stage, noun: str) -> Services:
        def report(done: int, total: int, info: str = "") -> None:
            self.progress(done, total, f"{noun}, {info}" if info else noun)

        return Services(report, self.asking(stage), self.journal, self.serving(stage), self.notes)

    def serving(self, stage: Stage) -> Callable[[EngineSpec], str] | None:
        """Servers write their logs beside the stage."""
        engines = self.engines
        if engines is None:
            return None
        return lambda spec: engines.address(spec, self.store.scratch(stage) / f"{spec.name}.log")

    def asking(self, stage: Stage) -> AskServer:
        settings = AskOptions(**stage.local.get("ask", {}))

        def ask(
            kind: str,
            options: Mapping[str, object],
            requests: Sequence[Request],
            progress: Callable[[int], None] | None = None,
        ) -> list[CallOutcome]:
            judge = self.registry.judge(kind, options_from(self.registry.judges[kind].config, options))
            client = judge.make()
            if isinstance(client, LoadsModel):
                client.services = Services(serve=self.serving(stage), notes=self.notes)
            return self.registry.ask(client, requests, self.ledger, settings, progress, judge.billing(self.start_time))

        return ask

    def checkpoint(self, stage: Stage, role: str) -> Checkpoint:
        """In a local folder: what a train stage left, or a checkpoint that recipes name."""
        if role in stage.inputs:
            return from_folder(f"trained:{stage.inputs[role].key[:8]}", self.input(stage, role, "model"))
        return download(stage.local["models"][role], stage.local["trust_remote_code"])
