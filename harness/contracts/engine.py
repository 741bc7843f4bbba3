"""The contract of an engine host: who starts the servers that backends such as ``vllm`` speak to, and who ends them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import UserError


@dataclass(frozen=True)
class EngineSpec:
    """A server of one checkpoint. Equal specs are one server, so nothing that a stage alone needs is in here."""

    name: str
    """The backend's, for messages and the log."""
    command: tuple[str, ...]
    """``{host}`` and ``{port}`` stand where the host of engines writes its address."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables and values, besides those of the worker."""
    gpus: int = 0
    """GPUs that it takes; 0: it runs on the CPU."""
    health: str = "/health"
    """Path that answers with status 200 once the server can be asked."""
    start_seconds: float = 600.0
    """The longest that it may take until then."""
    keep: int = 1
    """How many servers may stand at once in one worker, this one among them."""


class EngineFailure(UserError):
    """A server that does not start, or died twice in one stage; with the last lines that it wrote."""


class EngineHost(Protocol):
    """Used by one stage at a time."""

    def address(self, spec: EngineSpec, log: Path) -> str:
        """Base URL (``http://127.0.0.1:PORT``) of a live server of this spec; waits until it can be asked. Asked again
        after a failed request, it starts a server that died once more, and once only in a stage. What the server writes
        is appended to ``log``. Raises EngineFailure."""

    def release(self) -> list[str]:
        """The stage is over: its servers may end when another needs their place. Returns what a reader of the stage's
        measurements must know (a server that died, and its last lines)."""

    def make_room(self) -> None:
        """End the servers that hold GPUs: the next stage computes in its own process."""

    def close(self) -> None:
        """End all servers."""
