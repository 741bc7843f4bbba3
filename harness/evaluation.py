"""A plan without training: models (in this process or behind a server) answer the benchmarks, and are judged.

The stages, the store and the ledger are those of every run: what a run answered and judged already is not done again
here, nor the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from harness.builder import Builder, Entrant
from harness.checkpoint import resolve
from harness.endpoint import Endpoint
from harness.plan import Plan
from harness.recipe import Recipe
from harness.registry import Registry
from harness.stage import Stage
from harness.stages.work import build
from harness.stats import seed_of

PLACEHOLDER = "pocket:student"
"""What stands in a recipe's family where there is none: an evaluation trains nothing."""


@dataclass(frozen=True)
class Candidate:
    """A model to evaluate."""

    row: str
    """Its name in tables and stages."""
    checkpoint: str | None = None
    """``pocket:NAME``, a folder, or a hub id; ``None``: it is behind a server."""
    endpoint: Endpoint | None = None

    @property
    def text(self) -> str:
        """Where it is from, for people."""
        return self.checkpoint or str((self.endpoint or Endpoint("", {})).config.get("model", ""))


class EvaluationBuilder(Builder):
    """Makes the stages of an evaluation. Raises UserError for a checkpoint that is not there."""

    def __init__(self, recipe: Recipe, registry: Registry, candidates: Sequence[Candidate]) -> None:
        super().__init__(recipe, registry)
        self.endpoints: dict[str, Endpoint] = {}
        for each in candidates:
            if each.endpoint is not None:
                self.endpoints[each.row] = each.endpoint
            else:
                self.models[each.row] = resolve(str(each.checkpoint))

    def entrant(self, row: str, seed: int) -> Entrant:
        """Answers and judgments of one model."""
        answers = {name: self.answer(row, None, name, seed) for name in self.recipe.benchmarks}
        return Entrant(row, seed, answers, self.judgments(row, answers, seed))

    def answer(self, row: str, trained: Stage | None, benchmark: str, seed: int) -> Stage:
        """A model's answers to one benchmark; a server's are keyed by its address and model."""
        if row not in self.endpoints:
            return super().answer(row, None, benchmark, seed)
        endpoint = self.endpoints[row]
        adapter, values = self.registry.benchmarks[benchmark], asdict(self.configs[benchmark])
        params = {
            "benchmark": benchmark,
            "benchmark_version": adapter.version,
            "config": {name: values[name] for name in adapter.answer_fields},
            "questions": self.asked(benchmark, whole=False),
            "endpoint": endpoint.identity(self.registry),
            "seed": seed_of("answer", seed),
        }
        local = {"config": self.recipe.benchmarks[benchmark].config, "ask": self.recipe.ask.options()}
        local["endpoint"] = {"kind": endpoint.kind, "config": dict(endpoint.config)}
        stage = self.add(Stage("answer", f"answer {benchmark} {row} seed {seed}", params, local=local))
        kind = self.registry.judges[endpoint.kind]
        half = stage.price.tokens // 2
        dollars = kind.price(build(kind.config, endpoint.config), half, stage.price.tokens - half)
        self.stages[stage.key] = replace(stage, price=replace(stage.price, dollars=dollars))
        return self.stages[stage.key]


def make_evaluation(recipe: Recipe, registry: Registry, candidates: Sequence[Candidate], rows: Sequence[str]) -> Plan:
    """The plan that evaluates ``rows``; further candidates only answer (a baseline that is no row)."""
    builder = EvaluationBuilder(recipe, registry, candidates)
    entrants = [builder.entrant(row, seed) for seed in recipe.seeds for row in rows]
    for benchmark in recipe.benchmarks:
        present = [entrant for entrant in entrants if benchmark in entrant.judgments]
        if present:
            builder.score(benchmark, present)
    titles: Mapping[str, str] = {each.row: each.row for each in candidates}
    return Plan(recipe, tuple(rows), tuple(builder.stages.values()), tuple(entrants), builder, titles)
