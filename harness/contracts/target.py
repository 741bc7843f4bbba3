"""The contract of a target: a table or figure of the paper, as the rows that it needs and how to show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """The row ``of`` (or the method with its defaults) with ``changes`` merged as a recipe writes them."""

    of: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    series: str
    x: float


@dataclass(frozen=True)
class Target:
    name: str
    label: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    """Metric ids. Only their benchmarks are run, unless the target is ``open``."""
    reference: str = "student"
    focus: str | None = None
    published: str | None = None
    open: bool = False
    """Whether further rows and columns of the recipe are appended."""
    lengths: bool = False
    """Whether answer length and truncation rate stand in the cells of win rates."""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    layout: str = "table"
    """A name in ``reports.write.BUILDERS``."""
    compares_judges: bool = False
    """Whether its table is of other judges on the answers of these rows."""
    points: Mapping[str, Point] = field(default_factory=dict)
    """For ``curves``: row id to its place; ``axis`` says what x is."""
    axis: str = ""
    needs_own_family: bool = False
    """Whether it is about another teacher or student than the main table: the recipe must then list it."""
    requires_listing: str = ""
    """Why a recipe must list this target in its section ``targets``; empty: it need not."""
    notes: tuple[str, ...] = ()
