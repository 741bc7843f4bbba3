"""The contract of a source of training prompts: where prompts come from, what pins them, and what they carry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic

from harness.contracts.options import C
from harness.types import Prompt


@dataclass(frozen=True)
class Pin:
    """The content of a source at one moment. ``pairs``: whether prompts have a chosen and a rejected answer."""

    identity: Mapping[str, object]
    """Plain JSON values that decide the content (a commit, a sha256): they enter the key of the prompts stage, beside
    a plug-in's code."""
    pairs: bool
    golden: bool = True
    """Whether any prompt has a golden answer."""
    size: int | None = None
    """Prompts in it, or more than it can have; ``None``: not known before it is read."""
    prompt_characters: int | None = None
    """Mean of its prompts, for estimates of cost; ``None``: not known."""


class PromptSource(ABC, Generic[C]):
    """An entry of SOURCES (``docs/add-a-source.md``); ``C``: its options beside ``prompts.source``. Never a benchmark's
    test questions."""

    name: str
    summary: str
    config: type[C]
    hub: str | None = None
    """Id of the hub data set that it reads; ``None``: it needs no network."""
    assets: tuple[str, ...] = ()
    size: int | None = None
    """Of the source in every state: as in ``Pin``."""
    pairs: bool = False
    """Whether prompts have a chosen (``golden``) and a rejected answer; here for a plan without the source."""

    lengths: tuple[int, int] | None = None
    """Tokens of a prompt (with its chat template) and of a response to it, means, for estimates of cost; ``None``: not
    known."""

    def pin(self, config: C) -> Pin:
        """What it holds now. Raises UserError where it cannot be reached, or holds a mistake."""
        return Pin({}, self.pairs, size=self.size)

    @abstractmethod
    def prompts(self, config: C, identity: Mapping[str, object], seed: int) -> Iterable[Prompt]:
        """All prompts, with unique ids, in an order drawn with ``seed``: equal arguments give equal prompts on any
        machine. ``identity``: as ``pin`` gave it. Raises UserError where the source cannot be read."""
