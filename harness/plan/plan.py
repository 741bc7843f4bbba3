"""From a recipe to a graph of stages: pure and fast (no torch), so that everything is known before anything is trained.

``make_plan`` expands rows x seeds x benchmarks into stages whose keys decide what is shared: every method of one seed
reads the same samples and rewards, a changed judge re-judges and does not re-train. What a stage costs and needs is
said by its kind (``harness/stages/kinds``); ``harness/plan/preflight.py`` asks them before a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.contracts.registry import Registry
from harness.contracts.stage import Cost, Stage
from harness.errors import unknown
from harness.plan.planner import PlannedRow, Planner
from harness.recipe.recipe import Recipe
from harness.recipe.sections import MODELS
from harness.stages import STAGES
from harness.stages.graph import StageGraph


@dataclass(frozen=True)
class Plan:
    recipe: Recipe
    rows: tuple[str, ...]
    entrants: tuple[PlannedRow, ...]
    planner: Planner
    stages: tuple[Stage, ...]
    """In an order in which every input comes before its reader; score stages are last."""
    scores: tuple[Stage, ...]
    """The score stages: what the run is for."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Row to what tables call it, where it is neither of the family nor a method."""

    @property
    def graph(self) -> StageGraph:
        """The stages by key, scores over fewer rows included, and what the recipe's names stand for."""
        return self.planner.graph

    def costs(self, stages: Iterable[Stage]) -> list[Cost]:
        return [STAGES[stage.kind].cost(stage, self.graph) for stage in stages]


def make_plan(recipe: Recipe, registry: Registry, rows: Sequence[str]) -> Plan:
    """Expand a recipe into stages for these rows (``teacher``, ``student``, method ids).

    Raises UserError for a row that is neither a model nor a method of the recipe.
    """
    for row in rows:
        if row not in MODELS and row not in recipe.methods:
            raise unknown("row", row, [*MODELS, *recipe.methods], f"Rows are the methods of recipe {recipe.name!r}.")
    if recipe.baseline is not None and recipe.baseline not in (*MODELS, *recipe.methods):
        raise unknown("baseline", recipe.baseline, [*MODELS, *recipe.methods], "A baseline is a row of the recipe.")
    return plan_rows(Planner(recipe, registry), rows, {})


def plan_rows(planner: Planner, rows: Sequence[str], titles: Mapping[str, str]) -> Plan:
    """The plan of these rows under every seed of the recipe."""
    recipe = planner.recipe
    entrants = [planner.row(row, seed) for seed in recipe.seeds for row in rows]
    scores = []
    # After all rows: a score reads every entrant of its benchmark, because length control shares terms among them.
    for benchmark in recipe.benchmarks:
        present = [entrant for entrant in entrants if benchmark in entrant.judgments]
        if present:
            scores.append(planner.scores(benchmark, present))
    stages = tuple(planner.graph.stages.values())
    return Plan(recipe, tuple(rows), tuple(entrants), planner, stages, tuple(scores), titles)
