"""A stage is data: a kind, a version, parameters, and references to its inputs. Its key is the hash of those: whatever
changes results must be in ``params``, and nothing else may be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, Self


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


Doing = Literal["train", "read", "write"]


class Work(NamedTuple):
    """Tokens that a model of so many weights (``None``: not known) is trained on, reads in one pass, or writes."""

    doing: Doing
    parameters: int | None
    tokens: int
    flops: float = 2.0
    """Per weight and token."""


@dataclass(frozen=True)
class Cost:
    """To a factor of about two; ``None``: price or size of a model not known. ``work``: what models do for ``tokens``;
    ``peak_bytes``: that training needs in one process; ``judge_written``: those of ``judge_tokens`` that are replies;
    ``replicates``: of scores, resamples for all entrants together."""

    responses: int = 0
    tokens: int = 0
    judge_calls: int = 0
    judge_tokens: int = 0
    judge_written: int = 0
    replicates: int = 0
    dollars: float | None = 0.0
    work: tuple[Work, ...] = ()
    peak_bytes: float | None = 0.0

    def without(self, calls: int) -> Self:
        """Where so many of the judge calls need not be made: they are as long, and cost as much, as the others."""
        if not calls or not self.judge_calls:
            return self
        share = max(0.0, 1 - calls / self.judge_calls)
        names = ("judge_calls", "judge_tokens", "judge_written")
        counts: dict[str, Any] = {name: round(getattr(self, name) * share) for name in names}
        dollars = None if self.dollars is None and share else (self.dollars or 0.0) * share
        return replace(self, **counts, dollars=dollars)

    @classmethod
    def total(cls, costs: Iterable[Cost]) -> Self:
        """The sum, and the largest memory; what is unknown of one is ``None``."""
        rows = list(costs)
        tokens: dict[tuple[Doing, int | None, float], int] = {}
        for work in (work for row in rows for work in row.work):
            sort = work.doing, work.parameters, work.flops
            tokens[sort] = tokens.get(sort, 0) + work.tokens
        sums: dict[str, object] = {"work": tuple(Work(*sort[:2], count, sort[2]) for sort, count in tokens.items())}
        for cost_field in (cost_field for cost_field in fields(cls) if cost_field.name not in sums):
            values = [getattr(row, cost_field.name) for row in rows]
            # Stages that run one after the other use the same memory again.
            reduce = max if cost_field.name == "peak_bytes" else sum
            sums[cost_field.name] = None if None in values else reduce([0, *values])
        return cls(**sums)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Stage:
    kind: str
    params: Mapping[str, Any]
    """Plain JSON values: everything that decides the artifact besides its inputs."""
    inputs: Mapping[str, Ref] = field(default_factory=dict)
    version: int = 1
    row: str = ""
    """Of a shared stage, the first that needs it. ``row``, ``round``, ``seed``, ``variant`` are not in the key."""
    round: int | None = None
    """From 1; ``None`` where the row has one round only."""
    seed: int | None = None
    """Of the row (``params["seed"]`` is derived from it)."""
    variant: str = ""
    local: Mapping[str, Any] = field(default_factory=dict)
    """To run it *here*: where a checkpoint lies, device, batch sizes; not in the key."""
    gates: tuple[Ref, ...] = ()
    """Stages to finish first of which nothing is read; not in the key."""

    @classmethod
    def of(cls, marker: Mapping[str, Any]) -> Self:
        """From the artifact's marker (``meta.json``)."""
        inputs = {role: Ref.parse(text) for role, text in marker["inputs"].items()}
        labels = {name: marker[name] for name in ("row", "round", "seed")}
        return cls(marker["kind"], marker["params"], inputs, marker["version"], **labels)

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
        return Ref(self.kind, self.key)

    @property
    def waits_for(self) -> tuple[Ref, ...]:
        return (*self.inputs.values(), *self.gates)

    @property
    def uses_ledger(self) -> bool:
        """Whether it asks a judge or a server. The ledger is SQLite: such a stage runs on the driver's machine."""
        return "ask" in self.local

    @property
    def label(self) -> str:
        """For people: ``train dpo round 2 seed 0``."""
        number = "" if self.round is None else f"round {self.round}"
        seed = "" if self.seed is None else f"seed {self.seed}"
        words = [self.kind, str(self.params.get("benchmark", "")), self.row, number, self.variant, seed]
        return " ".join(word for word in words if word)


class Store(Protocol):
    def has(self, stage: Stage) -> bool: ...

    def path(self, kind: str, key: str, part: str = "") -> Path:
        """The artifact's folder, or a file or folder in it that is to be read. Raises KeyError when the artifact is
        not there, UserError when ``part`` is not what its stage wrote."""

    def copied(self, url: str, folder: Path | None = None) -> Self:
        """This store, or one in ``folder``, whose artifacts are copied from and to ``url``."""

    def scratch(self, stage: Stage) -> Path:
        """For checkpoints of a stage in the making; removed once its artifact is there."""

    def write(self, stage: Stage, fill: Callable[[Path], Mapping[str, Any]]) -> Path:
        """Run ``fill(folder)`` and move the folder in whole, its marker (with what ``fill`` returns) last. Of
        concurrent writers of one key, the second waits and finds the work done."""


class RunListener:
    """Hears of stages, by label, in the process that started the run; this one shows nothing."""

    def on_plan(self, total: int, cached: int, kinds: Mapping[str, int] = MappingProxyType({})) -> None:
        """``kinds``: of the stages to run, how many there are of each."""

    def on_start(self, label: str) -> None: ...
    def on_progress(self, label: str, done: int, total: int, info: str) -> None: ...
    def on_finish(self, label: str, seconds: float) -> None: ...
    def on_finish_elsewhere(self, label: str) -> None: ...
    def on_failure(self, label: str, error: str) -> None: ...
