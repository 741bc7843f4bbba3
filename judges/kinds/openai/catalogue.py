"""The judge models that are known by name: what they cost, how much they read, what they refuse, until when they serve.

The table is ``catalogue.json``. It is used for OpenAI's own endpoint only: a server of your own that calls its model
"gpt-4" has neither these prices nor these quirks. Any option given in a recipe overrides it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, Literal

from harness.records import adapter

BATCH_DISCOUNT: Final = 0.5  # share of the price that the Batch API charges
WARN_DAYS: Final = 90  # a model that is retired within so many days is remarked on before a run


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens."""

    prompt: float
    completion: float
    as_of: str  # ``YYYY-MM``
    source: str


@dataclass(frozen=True)
class Quirks:
    """What a model takes differently from the plain protocol."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: float | None = None  # the only temperature that it takes
    logprobs: bool = True
    thinking_tokens: int = 0  # room for thinking that comes out of the token limit: added to the limit of the protocol


@dataclass(frozen=True)
class JudgeModel:
    id: str
    context: int  # tokens of prompt and reply together
    price: Price | None = None
    quirks: Quirks = Quirks()
    retired: date | None = None
    substitute: str | None = None  # reads the same protocol, with log-probabilities where this model has them
    aliases: tuple[str, ...] = ()
    note: str = ""


_TABLE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
RETIREMENTS: Final[str] = _TABLE["retirements"]  # where the retirement dates were read, and when
MODELS: Final[dict[str, JudgeModel]] = {
    model.id: model for model in adapter(tuple[JudgeModel, ...]).validate_python(_TABLE["models"])
}  # by dated id
_BY_ALIAS: Final = {alias: model for model in MODELS.values() for alias in model.aliases}


def today() -> date:
    return datetime.now(UTC).date()


def find(name: str) -> JudgeModel | None:
    """By id or undated name."""
    return MODELS.get(name) or _BY_ALIAS.get(name)


def remarks(name: str, day: date) -> list[str]:
    """What to know before judging with this model on this day: an undated name, a retirement."""
    if (model := find(name)) is None:
        return []
    notes = []
    if name != model.id:
        notes.append(f"{name} is an undated name, for now of {model.id}; name the dated model to be reproducible")
    if model.retired is not None and (days_left := (model.retired - day).days) <= WARN_DAYS:
        substitute_note = f"; a substitute is {model.substitute} (other scores!)" if model.substitute else ""
        phrase = "was to be retired on" if days_left < 0 else f"is retired in {days_left} days, on"
        notes.append(f"{model.id} {phrase} {model.retired.isoformat()} ({RETIREMENTS}){substitute_note}")
    return notes
