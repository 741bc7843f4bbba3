"""A stage is data: a kind, a version, plain parameters, and references to its inputs. Its key is the hash of those.

Same key = same artifact = never computed twice. What must not change the key (row, round, costs, thread counts) stays
out of it; what does change results (seeds, dtype, a checkpoint's content hash) must be in ``params``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self


class Ref(NamedTuple):
    """An artifact: the kind of its stage and its key; ``kind/key`` in an artifact's inputs."""

    kind: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Self:
        kind, _, key = text.partition("/")
        return cls(kind, key)

    def __str__(self) -> str:
        return f"{self.kind}/{self.key}"


@dataclass(frozen=True)
class Cost:
    """What stages will cost, estimated before anything runs. Give or take a factor of two."""

    responses: int = 0
    """Responses to generate."""
    tokens: int = 0
    """Model tokens to process (prompt and generated, training counted once per epoch)."""
    judge_calls: int = 0
    judge_tokens: int = 0
    dollars: float | None = 0.0
    """``None``: the judge's price is not known."""
    peak_flops: float | None = 0.0
    """FLOPs that a GPU could have done at its peak in the time that the tokens take (``harness/hardware/gpu.py``);
    ``None``: the size of a model is not known."""
    peak_bytes: float | None = 0.0
    """Memory that training needs in one process; ``None``: the size of a model is not known."""

    @classmethod
    def total(cls, costs: Iterable[Cost]) -> Self:
        """The sum, and the largest memory; what is unknown of one is ``None``."""
        rows = list(costs)
        sums: dict[str, Any] = {}
        for part in fields(cls):
            values = [getattr(row, part.name) for row in rows]
            # Stages that run one after the other use the same memory again.
            over = max if part.name == "peak_bytes" else sum
            sums[part.name] = None if None in values else over([0, *values])
        return cls(**sums)


@dataclass(frozen=True)
class Stage:
    """One node of the plan."""

    kind: str
    """A name in ``harness.stages.STAGES``: ``prompts``, ``sample``, ``train``, ..."""
    params: Mapping[str, Any]
    """Plain JSON values; everything that decides the artifact besides its inputs."""
    inputs: Mapping[str, Ref] = field(default_factory=dict)
    """Role to the artifact that fills it."""
    version: int = 1
    """Raised when the code of this kind changes what it computes."""
    row: str = ""
    """Whose stage it is: a row of the recipe, a model of its family, or the tuned teacher. The first row that needs a
    shared stage names it. Not in the key, and so are ``round``, ``seed`` and ``variant``."""
    round: int | None = None
    """From 1; ``None`` where the row has one round only."""
    seed: int | None = None
    """Training seed of the row (``params["seed"]`` is derived from it)."""
    variant: str = ""
    """What tells it apart from a stage of the same row, round and seed: ``n=8``."""
    local: Mapping[str, Any] = field(default_factory=dict)
    """What the stage needs to run *here* (where a checkpoint lies, device, batch sizes); not part of the key."""
    after: tuple[Ref, ...] = ()
    """What must be done first though nothing of it is read (a check before expensive work); not in the key."""

    @classmethod
    def of(cls, marker: Mapping[str, Any]) -> Self:
        """The stage that made an artifact, from the artifact's marker (``meta.json``)."""
        inputs = {role: Ref.parse(text) for role, text in marker["inputs"].items()}
        named = {name: marker[name] for name in ("row", "round", "seed")}
        return cls(marker["kind"], marker["params"], inputs, marker["version"], **named)

    @cached_property
    def key(self) -> str:
        """Hex sha256 over kind, version, params and inputs (16 bytes of it)."""
        # Sorted, so that the order in which a dict was filled cannot make another artifact of the same content.
        inputs = {role: str(ref) for role, ref in self.inputs.items()}
        content = {"kind": self.kind, "version": self.version, "params": self.params, "inputs": inputs}
        # NaN is refused: it is no JSON, and unequal to itself. 128 bits are plenty, and paths stay short.
        return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()[:32]

    @cached_property
    def ref(self) -> Ref:
        """How another stage names it as an input."""
        return Ref(self.kind, self.key)

    @property
    def waits_for(self) -> tuple[Ref, ...]:
        """All that must be done before it can run."""
        return (*self.inputs.values(), *self.after)

    @property
    def label(self) -> str:
        """For people: ``train dpo round 2 seed 0``."""
        number = "" if self.round is None else f"round {self.round}"
        seed = "" if self.seed is None else f"seed {self.seed}"
        words = [self.kind, str(self.params.get("benchmark", "")), self.row, number, self.variant, seed]
        return " ".join(word for word in words if word)


class Store(Protocol):
    """Where artifacts live (``results.store.store.ArtifactStore``; a dict of folders in a test)."""

    def done(self, stage: Stage) -> bool:
        """Whether the artifact is there, whole."""

    def path(self, kind: str, key: str) -> Path:
        """Folder of a finished artifact. Raises KeyError when it is not there."""

    def scratch(self, stage: Stage) -> Path:
        """A folder for checkpoints of a stage in the making; removed once its artifact is there."""

    def write(self, stage: Stage, fill: Callable[[Path], Mapping[str, Any]]) -> Path:
        """Run ``fill(folder)`` in a folder beside the artifact's place and move it in whole, its marker last.

        ``fill`` returns what it measured (tokens, counts); it is stored with the provenance. Concurrent writers of
        one key wait for each other, and the second finds the work done.
        """
