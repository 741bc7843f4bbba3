"""From a recipe to a graph of stages: pure and fast (no torch), so that everything is known before anything is trained.

``make_plan`` expands rows x seeds x benchmarks into stages whose keys decide what is shared: every method of one seed
reads the same samples and rewards, a changed judge re-judges and does not re-train (``harness/plan/stage_graph.py``).
What each stage costs is estimated in ``harness/plan/cost.py``; whether it can run at all is checked in
``harness/plan/preflight.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.contracts.registry import Registry
from harness.contracts.stage import Stage
from harness.errors import unknown
from harness.plan.stage_graph import Builder, Entrant
from harness.recipe.recipe import Recipe
from harness.recipe.rows import MODELS


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do."""

    recipe: Recipe
    rows: tuple[str, ...]
    stages: tuple[Stage, ...]
    """In an order in which every input comes before its reader; score stages are last."""
    entrants: tuple[Entrant, ...]
    builder: Builder
    titles: Mapping[str, str] = field(default_factory=dict)
    """Row to what tables call it, where it is neither of the family nor a method."""

    def score_stage(self, benchmark: str, entrants: Sequence[Entrant]) -> Stage:
        """The score stage over these entrants (a run in which a row failed scores the others)."""
        return self.builder.score(benchmark, entrants)


def make_plan(recipe: Recipe, registry: Registry, rows: Sequence[str]) -> Plan:
    """Expand a recipe into stages for these rows (``teacher``, ``student``, method ids).

    Raises UserError for a row that is neither a model nor a method of the recipe.
    """
    for row in rows:
        if row not in MODELS and row not in recipe.methods:
            raise unknown("row", row, [*MODELS, *recipe.methods], f"Rows are the methods of recipe {recipe.name!r}.")
    if recipe.baseline is not None and recipe.baseline not in (*MODELS, *recipe.methods):
        raise unknown("baseline", recipe.baseline, [*MODELS, *recipe.methods], "A baseline is a row of the recipe.")
    builder = Builder(recipe, registry)
    entrants = [builder.entrant(row, seed) for seed in recipe.seeds for row in rows]
    for benchmark in recipe.benchmarks:
        present = [entrant for entrant in entrants if benchmark in entrant.judgments]
        if present:
            builder.score(benchmark, present)
    return Plan(recipe, tuple(rows), tuple(builder.stages.values()), tuple(entrants), builder)
