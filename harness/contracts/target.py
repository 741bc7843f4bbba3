"""The contract of a target: a table or figure of the paper, as the grid of rows that it needs and how to show them.

Most rows are the recipe's; the others are *variants* of these (another alpha, more rounds, another n). What differs by
family stands in the recipe's section ``targets`` (``harness/recipe/recipe.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """A row made from a row of the recipe (or, where it has none of that name, from the method with its defaults)."""

    of: str
    """Row id: its options, training settings and learning rate are taken over."""
    changes: Mapping[str, Any]
    """What is merged over them, as a recipe would write it: ``{"rounds": 2, "sampling": {"n": 2}}``."""


@dataclass(frozen=True)
class Point:
    """Where a row stands in a figure with curves."""

    series: str
    """Row id that gives the curve its name and colour: ``pad-ppd``."""
    x: float


@dataclass(frozen=True)
class Target:
    name: str
    label: str
    """``Table 1``: its name in the paper."""
    title: str
    rows: tuple[str, ...]
    """Row ids, top to bottom."""
    columns: tuple[str, ...]
    """Metric ids, left to right. Only their benchmarks are run, unless the target is ``open``."""
    reference: str = "student"
    """The row that every trained method is compared with."""
    focus: str | None = None
    """The method that the paper is about, to be compared with every other one."""
    published: str | None = None
    """The paper's table to print beside (``results.published``)."""
    open: bool = False
    """Whether further rows and columns of the recipe are appended (a method of your own, another benchmark)."""
    lengths: bool = False
    """Whether mean answer length and truncation rate stand in the cells of win rates; a run with a baseline of its own
    always has them."""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    """Those of ``rows`` that no recipe has."""
    layout: str = "table"
    """A name in ``reports.write.BUILDERS``, which makes the table of this target: ``costs``: training time and memory
    beside the scores. ``curves``: a table too, and a figure of lines. ``settings``: no scores; the recipe beside the
    paper's."""
    compares_judges: bool = False
    """Whether its table is of other judges on the answers of these rows; then it has no layout."""
    points: Mapping[str, Point] = field(default_factory=dict)
    """Of ``curves``: row id to its place."""
    axis: str = ""
    """Of ``curves``: what x is."""
    needs_own_family: bool = False
    """Whether it is about another teacher or student than the recipe's main table: the recipe must then list it."""
    requires_listing: str = ""
    """Why a recipe must list this target in its section ``targets`` for it to fit; empty: it need not."""
    notes: tuple[str, ...] = ()
    """What the paper leaves open and how it is read here; printed under the table."""
