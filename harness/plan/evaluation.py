"""A plan without training: models (in this process or behind a server) answer the benchmarks, and are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.contracts.registry import Registry
from harness.contracts.stage import Stage
from harness.models.checkpoint import resolve
from harness.models.server_model import ServerOptions
from harness.plan.plan import Plan, PlannedRow, Planner, plan_rows
from harness.recipe.recipe import Recipe
from harness.stages.kinds.answer import file_answer_stage, server_answer_stage

PLACEHOLDER = "pocket:student"


@dataclass(frozen=True)
class Candidate:
    row: str
    checkpoint: str | None = None
    """``pocket:NAME``, a folder, or a hub id; ``None``: it is behind a server."""
    endpoint: ServerOptions | None = None
    answers: Mapping[str, Path] = field(default_factory=dict)
    """Files of ``Answer`` records by benchmark; then there is no model."""

    @property
    def text(self) -> str:
        if self.answers:
            return f"answers of {self.row}"
        return self.checkpoint or (self.endpoint.model if self.endpoint else "")


class EvaluationPlanner(Planner):
    """Plans answers of candidates. Raises UserError for a checkpoint that is not there."""

    def __init__(self, recipe: Recipe, registry: Registry, candidates: Sequence[Candidate]) -> None:
        super().__init__(recipe, registry)
        self.candidates = {candidate.row: candidate for candidate in candidates}
        for row, candidate in self.candidates.items():
            if not candidate.answers and candidate.endpoint is None:
                self.graph.models[row] = resolve(str(candidate.checkpoint))

    def row(self, row: str, seed: int) -> PlannedRow:
        files = self.candidates[row].answers
        return self.judged(row, seed, [name for name in self.recipe.benchmarks if not files or name in files])

    def answers(self, row: str, benchmark: str, seed: int) -> Stage:
        candidate = self.candidates.get(row)
        if candidate is not None and candidate.answers:
            return file_answer_stage(self.graph, benchmark, candidate.answers.get(benchmark), row, seed)
        if candidate is not None and candidate.endpoint is not None:
            return server_answer_stage(self.graph, benchmark, candidate.endpoint, row, seed)
        return super().answers(row, benchmark, seed)


def make_evaluation(recipe: Recipe, registry: Registry, candidates: Sequence[Candidate], rows: Sequence[str]) -> Plan:
    """The plan that evaluates ``rows``; further candidates only answer (a baseline that is no row)."""
    titles = {candidate.row: candidate.row for candidate in candidates}
    return plan_rows(EvaluationPlanner(recipe, registry, candidates), rows, titles)
