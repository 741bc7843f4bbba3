"""The sources of training prompts, one file each (``SOURCES`` is the table of contents), and which one a run uses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from harness.contracts.source import Pin, PromptSource
from harness.errors import UserError
from harness.prompts import gsm8k_train, jsonl, pocket, ultrafeedback
from harness.types import Prompt

SOURCES: dict[str, PromptSource] = {
    source.name: source for source in (pocket.SOURCE, ultrafeedback.SOURCE, gsm8k_train.SOURCE, jsonl.SOURCE)
}

C = TypeVar("C")


@dataclass(frozen=True)
class ResolvedSource:
    source: PromptSource
    config: Any
    pin: Pin
    note: str | None = None
    absence: str = ""
    """Why the source cannot be reached. A plan goes on without it; nothing can run."""

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def pairs(self) -> bool:
        return self.pin.pairs


def resolve_source(source: PromptSource[C], config: C, fallback: PromptSource | None = None) -> ResolvedSource:
    """Pin ``source``, or ``fallback`` where it cannot be reached. Raises UserError for a mistake in a user's file."""
    try:
        return ResolvedSource(source, config, source.pin(config))
    except UserError as error:
        if source.hub is None:  # a mistake in the user's own file, which no fallback may hide
            raise
        if fallback is None:
            reason = f"{error} Or set prompts.fallback to a source that needs no network."
            return ResolvedSource(source, config, Pin({}, source.pairs), absence=reason)
    note = f"training prompts: {fallback.name} instead of {source.name}, which could not be reached"
    if options := ", ".join(f"{name} {value}" for name, value in vars(config).items() if value is not None):
        note += f" ({options})"
    fallback_config = fallback.config()
    return ResolvedSource(fallback, fallback_config, fallback.pin(fallback_config), note)


def load_prompts(
    source: PromptSource[C],
    config: C,
    identity: Mapping[str, object],
    seed: int,
    n: int,
    keep: Callable[[Prompt], bool] = lambda prompt: True,
    refused: Mapping[str, str] = MappingProxyType({}),
) -> list[Prompt]:
    """The first n that pass ``keep``; fewer only by those that it put into ``refused``. Raises UserError when the
    source cannot be read or holds too few."""
    prompts: list[Prompt] = []
    prompt_count = 0
    for prompt in source.prompts(config, identity, seed):  # may be endless
        prompt_count += 1
        if keep(prompt):
            prompts.append(prompt)
        if len(prompts) == n:
            return prompts
    if prompts and len(prompts) + len(refused) >= n:
        return prompts
    if refused:
        name, reason = next(iter(refused.items()))
        raise UserError(
            f"prompts.n = {n}, but {len(refused)} of {prompt_count} prompts are refused: {name}: {reason}. Set a "
            "smaller prompts.n, or choose other prompts."
        )
    raise UserError(
        f"prompts.n = {n}, but source {source.name!r} has only {len(prompts)} prompts of at most "
        f"prompts.max_prompt_tokens ({prompt_count} in all). Set prompts.n to at most that."
    )
