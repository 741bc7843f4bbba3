"""A kind of stage as one object: what it runs, what it costs, and what must hold before it can run.

Whoever plans, prices, checks or runs stages asks the kind and never looks at its name, so a new kind is one file in
``harness/stages/kinds`` and one line in ``harness.stages.STAGES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.contracts.model import Capability
from harness.contracts.stage import Cost, Stage, Store
from harness.stages.context import StageContext
from harness.stages.graph import StageGraph


@dataclass(frozen=True)
class PlanIssue:
    problem: bool
    """Whether it stops the run; otherwise it is a remark."""
    text: str
    forceable: bool = True
    """Whether ``--force`` passes it over. Exact overlap needs ``prompts.allow_overlap``, which is recorded."""


class TextLength(NamedTuple):
    """How long the texts are that a stage gives to its models, in tokens."""

    content: str
    """What the texts are, and which options decide their length."""
    longest: int
    usual: int
    """Length that is certain or usual: a shorter context stops the run, one between the two is a remark."""
    remedy: str


class DiskUse(NamedTuple):
    """Bytes that a stage writes."""

    kept: int = 0
    """Of the artifact."""
    scratch: int = 0
    """While it runs, to resume from."""


@dataclass(frozen=True)
class StageKind:
    name: str
    run: Callable[[Stage, StageContext], Mapping[str, object]]
    """Reads its inputs from the store, writes its output into ``context.folder`` and returns what it measured."""
    cost: Callable[[Stage, StageGraph], Cost] = lambda stage, graph: Cost()
    disk: Callable[[Stage, StageGraph], DiskUse | None] = lambda stage, graph: DiskUse()
    """Large files only; ``None``: the size of a model is not known."""
    texts: Callable[[Stage, StageGraph], Iterable[TextLength]] = lambda stage, graph: ()
    check: Callable[[Sequence[Stage], StageGraph], Iterable[PlanIssue]] = lambda stages, graph: ()
    """What stands in the way of these stages, all still to run."""
    recall: Callable[[Stage, Store], Iterable[PlanIssue]] = lambda stage, store: ()
    """What a finished artifact of this kind has to say before every later run."""
    needs: Mapping[str, frozenset[Capability]] = field(default_factory=dict)
    """Role of a model to what it must be able to do. A role in training needs the weights themselves."""
    training: bool = False
    """Whether it runs a model to make a student: its time is part of a row's training time."""
