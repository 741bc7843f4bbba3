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
    """The content of a source at one moment."""

    identity: Mapping[str, object]
    """Plain JSON values that decide the content (a commit, a sha256): they enter the key of the prompts stage. Empty
    where the package or the asset manifest pins it."""
    pairs: bool
    """Whether its prompts come with a chosen (``golden``) and a rejected answer."""


class PromptSource(ABC, Generic[C]):
    """An entry of SOURCES. ``C``: its options, which stand beside ``prompts.source``. Benchmark test questions are
    never a source."""

    name: str
    summary: str
    config: type[C]
    hub: str | None = None
    """Id of the hub data set that it reads; ``None``: it needs no network."""
    assets: tuple[str, ...] = ()
    """Files of ``harness.assets`` that it reads."""
    pairs: bool = False
    """``Pin.pairs``, for a plan that is made while the source cannot be reached."""

    def pin(self, config: C) -> Pin:
        """The content as it is now. Raises UserError where it cannot be reached, or holds a mistake."""
        return Pin({}, self.pairs)

    @abstractmethod
    def prompts(self, config: C, identity: Mapping[str, object], seed: int) -> Iterable[Prompt]:
        """All prompts of the content that ``identity`` pins, in an order drawn with ``seed``, with unique ids.

        The first n that are short enough are trained on: equal arguments must give equal prompts on any machine.
        Raises UserError where the source cannot be read.
        """
