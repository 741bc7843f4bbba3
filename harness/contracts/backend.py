"""The contract of a backend: a way to get at models, in this process or behind a server, an entry of ``BACKENDS``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, runtime_checkable

from harness.contracts.engine import EngineSpec
from harness.contracts.judge import CallOutcome
from harness.contracts.model import Capability, Checkpoint, GeneratesText, Progress
from harness.contracts.options import C, json_data, options_from
from harness.journal import Journal
from harness.types import Request

STATED: Final[Mapping[str, str]] = {
    "dtype": "family.dtype",
    "trust_remote_code": "family.trust_remote_code",
    "device": "compute.device",
    "batch_tokens": "compute.batch_tokens",
}
"""Options that backends get from elsewhere in a recipe, where the key of a stage has them or may do without."""


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


@runtime_checkable
class LoadsModel(Protocol):
    """A judge whose model a backend loads, with what a run lends to one."""

    services: Services


@dataclass(frozen=True)
class Backend(Generic[C]):
    """An entry of BACKENDS (``docs/add-a-backend.md``); ``C``: its options, ``family.backend_options`` in a recipe."""

    name: str
    summary: str
    capabilities: frozenset[Capability]
    config: type[C]
    load: Callable[[Checkpoint | None, C, Services], GeneratesText]
    """(checkpoint, options, services) -> model; ``None`` with ``by_name``. Raises UserError: absent, or not read
    right."""
    by_name: bool = False
    """A server knows its models by name: it serves ``eval`` alone."""
    deciding: tuple[str, ...] | None = None
    """Options that change numbers, for the key of a stage, where they differ from their defaults; ``None``: all. A
    plug-in's code is in the key too."""
    engine: bool = False
    """Whether a server computes, so that the stage's own process needs no GPU."""
    taken_gpus: Callable[[C], int] = lambda config: 1
    """How many a model of these options computes on."""
    problem: Callable[[C], str | None] = lambda config: None
    """What of these options cannot be had on this machine, with the remedy; nothing is started."""
    misfit: Callable[[C, Checkpoint], str | None] = lambda config, checkpoint: None
    """Why a model of this checkpoint cannot be had with these options, as far as its files say, with the remedy."""

    def gpus(self, values: Mapping[str, Any]) -> int:
        """``taken_gpus`` of options as a recipe says them."""
        return self.taken_gpus(options_from(self.config, values))

    def split(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options as a recipe says them: those that belong into a stage's key, and the others."""
        if self.deciding is None:
            return dict(values), {}
        given, usual = (json_data(options_from(self.config, options)) for options in (values, {}))
        key = {name: given[name] for name in self.deciding if given[name] != usual[name]}
        return key, {name: value for name, value in values.items() if name not in self.deciding}

    def lacking_capabilities(self, capabilities: Collection[Capability]) -> list[Capability]:
        return sorted(set(capabilities) - self.capabilities)
