"""The judge models that are known by name: what they cost, how much they read, what they refuse, until when they serve.

A table to be kept, not a truth: prices change and models are retired, so each price says when and where it was read,
and an unknown one stays unknown. It is used for OpenAI's own endpoint only (a server of your own that calls its model
"gpt-4" has neither these prices nor these quirks), and any option given in a recipe overrides it.

    distilbench judge list
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Literal

BATCH_DISCOUNT: Final = 0.5
"""Share of the price that the Batch API charges."""
WARN_DAYS: Final = 90
"""A model that is retired within so many days is remarked on before a run."""


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens."""

    prompt: float
    completion: float
    as_of: str
    """``YYYY-MM``."""
    source: str


@dataclass(frozen=True)
class Quirks:
    """What a model takes differently from the plain protocol."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: float | None = None
    """The only temperature that it takes."""
    logprobs: bool = True
    """Whether it reports log-probabilities."""
    thinking_tokens: int = 0
    """Room for thinking that comes out of the token limit: added to the limit of the protocol."""


@dataclass(frozen=True)
class JudgeModel:
    """One dated model."""

    id: str
    context: int
    """Tokens of prompt and reply together."""
    price: Price | None
    """``None``: not known."""
    quirks: Quirks = Quirks()
    retired: date | None = None
    """The day it is switched off, as announced."""
    substitute: str | None = None
    """A known model that reads the same protocol, with log-probabilities where this one has them. Scores by a
    substitute are not comparable with scores by the model itself."""
    aliases: tuple[str, ...] = ()
    """Undated names that stand for this version, for now."""
    note: str = ""


_DEPRECATIONS: Final = "https://developers.openai.com/api/docs/deprecations"
RETIREMENTS: Final = (f"{_DEPRECATIONS}, as of 2026-10", _DEPRECATIONS)
"""Where the retirement dates below were read, and where to look them up."""
_MODEL_PAGE: Final = "https://developers.openai.com/api/docs/models/"
_THINKS: Final = Quirks("max_completion_tokens", 1.0, False, 4096)


def _openai(prompt: float, completion: float, as_of: str, page: str) -> Price:
    return Price(prompt, completion, as_of, _MODEL_PAGE + page)


_MODELS: Final = (
    JudgeModel(
        "gpt-4-1106-preview", 128_000, _openai(10, 30, "2024-04", "gpt-4-turbo"),
        retired=date(2026, 10, 23), substitute="gpt-4.1-2025-04-14",
        note="the judge of AlpacaEval 2, Arena-Hard v0.1 and the PAD paper",
    ),
    JudgeModel(
        "gpt-4-turbo-2024-04-09", 128_000, _openai(10, 30, "2024-04", "gpt-4-turbo"),
        retired=date(2026, 10, 23), substitute="gpt-4.1-2025-04-14", aliases=("gpt-4-turbo",),
    ),
    JudgeModel(
        "gpt-4-0613", 8_192, _openai(30, 60, "2026-10", "gpt-4"),
        retired=date(2026, 10, 23), substitute="gpt-4.1-2025-04-14", aliases=("gpt-4",),
        note="the judge of MT-Bench",
    ),
    JudgeModel(
        "gpt-3.5-turbo-0125", 16_385, _openai(0.5, 1.5, "2024-04", "gpt-3.5-turbo"),
        retired=date(2026, 10, 23), substitute="gpt-4.1-mini-2025-04-14", aliases=("gpt-3.5-turbo",),
    ),
    JudgeModel(
        "gpt-4o-2024-08-06", 128_000, _openai(2.5, 10, "2026-03", "gpt-4o"),
        retired=date(2027, 1, 14), aliases=("gpt-4o",),
    ),
    JudgeModel(
        "gpt-4o-2024-11-20", 128_000, _openai(2.5, 10, "2026-03", "gpt-4o"), retired=date(2027, 1, 14)
    ),
    JudgeModel(
        "gpt-4o-mini-2024-07-18", 128_000, _openai(0.15, 0.6, "2026-03", "gpt-4o-mini"),
        retired=date(2027, 1, 14), aliases=("gpt-4o-mini",),
    ),
    JudgeModel(
        "gpt-4.1-2025-04-14", 1_047_576, _openai(2, 8, "2026-03", "gpt-4.1"),
        retired=date(2027, 1, 14), aliases=("gpt-4.1",),
        note="one of the last with log-probabilities of a plain reply; the judge of Arena-Hard v2.0",
    ),
    JudgeModel(
        "gpt-4.1-mini-2025-04-14", 1_047_576, _openai(0.4, 1.6, "2026-03", "gpt-4.1-mini"),
        retired=date(2027, 1, 14), aliases=("gpt-4.1-mini",),
    ),
    JudgeModel(
        "gpt-5-2025-08-07", 400_000, _openai(1.25, 10, "2026-03", "gpt-5"), _THINKS,
        retired=date(2026, 12, 11), aliases=("gpt-5",),
    ),
    JudgeModel(
        "gpt-5-mini-2025-08-07", 400_000, _openai(0.25, 2, "2026-03", "gpt-5-mini"), _THINKS,
        retired=date(2026, 12, 11), aliases=("gpt-5-mini",),
    ),
)  # fmt: skip

MODELS: Final[dict[str, JudgeModel]] = {model.id: model for model in _MODELS}
"""By dated id."""
_BY_ALIAS: Final = {alias: model for model in _MODELS for alias in model.aliases}


def today() -> date:
    return datetime.now(UTC).date()


def find(name: str) -> JudgeModel | None:
    """The model of this id or undated name, or ``None`` where it is not known."""
    return MODELS.get(name) or _BY_ALIAS.get(name)


def remarks(name: str, day: date) -> list[str]:
    """What to know before judging with this model on this day: an undated name, a retirement."""
    model = find(name)
    if model is None:
        return []
    notes = []
    if name != model.id:
        notes.append(f"{name} is an undated name, for now of {model.id}; name the dated model to be reproducible")
    if model.retired is not None and (left := (model.retired - day).days) <= WARN_DAYS:
        instead = f"; a substitute is {model.substitute} (other scores!)" if model.substitute else ""
        when = "was to be retired on" if left < 0 else f"is retired in {left} days, on"
        notes.append(f"{model.id} {when} {model.retired.isoformat()} ({RETIREMENTS[0]}){instead}")
    return notes
