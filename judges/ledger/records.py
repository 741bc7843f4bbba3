"""What a ledger tells of itself: what it holds of a judge, and the batch jobs that are under way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Served:
    """What the ledger holds of one judge: a line of ``judge status``."""

    endpoint: str
    model: str
    """The model id that was asked for."""
    served: str
    """The model id that the endpoint says it served."""
    replies: int
    prompt_tokens: int
    completion_tokens: int
    first: float
    """Time of the first reply, seconds since 1970."""
    last: float
    dollars: float
    """Sum over the replies whose cost is known."""
    unpriced: int
    """Replies whose cost is not known."""
    estimated: int
    """Replies whose cost is estimated from their texts, because the endpoint did not count tokens."""


@dataclass(frozen=True)
class StoredBatch:
    """A batch job handed to an endpoint: what was asked in it, and where to collect it."""

    token: str
    """Ours, written into the job, so that a job whose id was never noted can be found again."""
    endpoint: str
    model: str
    id: str | None
    """The endpoint's; ``None`` while it is not known that the job was made."""
    keys: tuple[str, ...]
    dollars: float | None
    """Estimate."""
    time: float
