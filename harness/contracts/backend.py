"""The contract of a backend: a way to get at models, in this process or behind a server.

A backend is one entry of ``BACKENDS`` (``harness/models/backends.py``), of the entry-point group
``distilbench.backends``, or of a ``--plugin`` file. It says as data what its models can do, so that a plan knows before
anything is loaded which stages they can serve.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from harness.contracts.judge import JudgeError
from harness.contracts.model import Capability, Checkpoint, GeneratesText, Progress
from harness.types import Reply, Request

O = TypeVar("O")  # noqa: E741, the type of a backend's options


class AskServer(Protocol):
    """Requests to a server through the judges' client: stored replies are not paid for twice, budgets hold."""

    def __call__(
        self,
        kind: str,
        options: Mapping[str, Any],
        requests: Sequence[Request],
        progress: Callable[[int], None] | None = None,
    ) -> list[Reply | JudgeError]:
        """One outcome per request, in order. ``kind`` and ``options``: a judge kind as a recipe configures it.

        ``progress`` is called with how many more requests have an outcome.
        """


@dataclass(frozen=True)
class Services:
    """What a run lends to a backend."""

    progress: Progress | None = None
    ask: AskServer | None = None
    """``None`` outside of a run: there is no ledger to ask through."""


@dataclass(frozen=True)
class Backend(Generic[O]):
    """One way to get at models."""

    name: str
    summary: str
    capabilities: frozenset[Capability]
    """What every model of this backend can do; ``load`` returns an object with these protocols
    (``harness.contracts.model.PROTOCOLS``)."""
    config: type[O]
    """Frozen dataclass of its options, a docstring under each field."""
    load: Callable[[Checkpoint | None, O, Services], GeneratesText]
    """(checkpoint, options, services) -> model. ``None``: a model that its server knows by name (``by_name``).

    Raises UserError when the model is not there or cannot be read right.
    """

    by_name: bool = False
    """Its models are known to a server by name and not loaded from a checkpoint: nothing that a run trains can be
    answered with, so it serves ``distilbench eval`` alone."""

    def missing(self, needed: Collection[Capability]) -> list[Capability]:
        """Capabilities that a stage needs and this backend's models lack, in alphabetical order."""
        return sorted(set(needed) - self.capabilities)
