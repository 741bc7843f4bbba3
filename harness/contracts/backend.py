"""The contract of a backend: a way to get at models, in this process or behind a server, an entry of ``BACKENDS``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol

from harness.contracts.engine import EngineSpec
from harness.contracts.judge import CallOutcome
from harness.contracts.model import Capability, Checkpoint, GeneratesText, Progress
from harness.contracts.options import C
from harness.journal import Journal
from harness.types import Request


class AskServer(Protocol):
    """Requests to a server through the judges' client: stored replies are not paid for twice, budgets hold."""

    def __call__(
        self,
        kind: str,
        options: Mapping[str, object],
        requests: Sequence[Request],
        progress: Callable[[int], None] | None = None,
    ) -> list[CallOutcome]: ...


@dataclass(frozen=True)
class Services:
    """What a run lends to a backend; ``ask`` is ``None`` outside of a run, where there is no ledger."""

    progress: Progress | None = None
    ask: AskServer | None = None
    journal: Journal = field(default_factory=Journal)
    """A backend that works in batches keeps each one here (``Journal.once``): a stage that was killed then goes on."""
    serve: Callable[[EngineSpec], str] | None = None
    """Base URL of a live server (``EngineHost.address``); ``None`` outside of a run: the backend starts its own."""
    notes: dict[str, object] = field(default_factory=dict)
    """What the backend found out that belongs to the stage's measurements: the version of a server."""


@dataclass(frozen=True)
class Backend(Generic[C]):
    name: str
    summary: str
    capabilities: frozenset[Capability]
    config: type[C]
    load: Callable[[Checkpoint | None, C, Services], GeneratesText]
    """(checkpoint, options, services) -> model; ``None`` with ``by_name``. Raises UserError: absent, or not read
    right."""
    by_name: bool = False
    """A server knows its models by name: it serves ``eval`` alone."""

    def lacking_capabilities(self, capabilities: Collection[Capability]) -> list[Capability]:
        return sorted(set(capabilities) - self.capabilities)
