"""What a stage may use while it runs: registry, store, output folder, progress."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.contracts.backend import AskServer, Services
from harness.contracts.judge import AskOptions, ConfiguredJudge, JudgeError
from harness.contracts.model import Checkpoint
from harness.contracts.options import options_from
from harness.contracts.registry import Registry
from harness.contracts.stage import Stage, Store
from harness.models.checkpoint import download, from_folder
from harness.records import read_records
from harness.types import Reply, Request

T = TypeVar("T")


@dataclass(frozen=True)
class StageContext:
    """What a stage may use: registry, store, output folder, progress."""

    registry: Registry
    store: Store
    ledger: Path
    folder: Path
    progress: Callable[[int, int, str], None]
    """(done, total, what) within this stage."""
    setup: Any = None
    """Makes registry and store again in a process that this stage starts (``harness.run.stage_runner.Setup``)."""
    started: float | None = None
    """When the run began, seconds since 1970: budgets count from there. ``None``: now."""

    def scratch(self, stage: Stage) -> Path:
        """A folder for this stage's checkpoints that outlives a killed process and goes when the stage is done."""
        return self.store.scratch(stage)

    def input(self, stage: Stage, role: str) -> Path:
        """Folder of the artifact that fills an input. Raises KeyError when the plan was wrong."""
        return self.store.path(*stage.inputs[role])

    def records(self, stage: Stage, role: str, file: str, kind: type[T]) -> list[T]:
        """The records in one file of an input."""
        return read_records(self.input(stage, role) / file, kind)

    def model(self, stage: Stage, role: str) -> Any:
        """Load the model in this role, by the recipe's backend.

        It has the protocols of the capabilities in ``StageKind.needs``: a plan whose backend lacks one does not run.
        """
        chosen = stage.params["backend"]
        backend = self.registry.backends[chosen["name"]]
        # What decides numbers is in the key (``params``); where and how much at once is not (``local``).
        shared = {"dtype": stage.params["dtype"]}
        shared |= {name: stage.local[name] for name in ("device", "batch_tokens", "trust_remote_code")}
        fields = {field.name for field in dataclasses.fields(backend.config)}
        values = {name: value for name, value in shared.items() if name in fields} | chosen["options"]
        services = Services(lambda done, total: self.progress(done, total, "rows"), self.asking(stage))
        return backend.load(self.checkpoint(stage, role), options_from(backend.config, values), services)

    def asking(self, stage: Stage) -> AskServer:
        """How a backend reaches a server on behalf of this stage: the ledger, the budgets and the client of judges."""
        settings = AskOptions(**stage.local.get("ask", {}))

        def ask(
            kind: str,
            options: Mapping[str, Any],
            requests: Sequence[Request],
            progress: Callable[[int], None] | None = None,
        ) -> list[Reply | JudgeError]:
            entry = self.registry.judges[kind]
            judge = ConfiguredJudge(entry, options_from(entry.config, options))
            client = entry.make(judge.config)
            return self.registry.ask(client, requests, self.ledger, settings, progress, judge.billing(self.started))

        return ask

    def checkpoint(self, stage: Stage, role: str) -> Checkpoint:
        """The model in this role, in a local folder: what a train stage left, or a checkpoint that recipes name."""
        if role in stage.inputs:
            return from_folder(f"trained:{stage.inputs[role].key[:8]}", self.input(stage, role) / "model")
        return download(stage.local["models"][role], stage.local["trust_remote_code"])
