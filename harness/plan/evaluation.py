"""A plan without training: models (in this process or behind a server) answer the benchmarks, and are judged.

The stages, the store and the ledger are those of every run: what a run answered and judged already is not done again
here, nor the other way round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from harness.contracts.options import options_from, plain
from harness.contracts.registry import Registry
from harness.contracts.stage import Price, Stage
from harness.errors import UserError
from harness.models.checkpoint import resolve
from harness.models.server_model import ServerOptions
from harness.plan.plan import Plan
from harness.plan.stage_graph import Builder, Entrant
from harness.recipe.recipe import Recipe
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
    endpoint: ServerOptions | None = None
    answers: Mapping[str, Path] = field(default_factory=dict)
    """Benchmark to a file of answers made elsewhere (``Answer`` records); then there is no model."""

    @property
    def text(self) -> str:
        """Where it is from, for people."""
        if self.answers:
            return f"answers of {self.row}"
        return self.checkpoint or (self.endpoint.model if self.endpoint else "")


class EvaluationBuilder(Builder):
    """Makes the stages of an evaluation. Raises UserError for a checkpoint that is not there."""

    def __init__(self, recipe: Recipe, registry: Registry, candidates: Sequence[Candidate]) -> None:
        super().__init__(recipe, registry)
        self.endpoints: dict[str, ServerOptions] = {}
        self.given: dict[str, Mapping[str, Path]] = {each.row: each.answers for each in candidates if each.answers}
        for each in candidates:
            if each.answers:
                continue
            if each.endpoint is not None:
                self.endpoints[each.row] = each.endpoint
            else:
                self.models[each.row] = resolve(str(each.checkpoint))

    def entrant(self, row: str, seed: int) -> Entrant:
        """Answers and judgments of one model."""
        able = [name for name in self.recipe.benchmarks if row not in self.given or name in self.given[row]]
        answers = {name: self.answer(row, None, name, seed) for name in able}
        return Entrant(row, seed, answers, self.judgments(row, answers, seed))

    def answer(self, row: str, trained: Stage | None, benchmark: str, seed: int) -> Stage:
        """A model's answers to one benchmark; a server's are keyed by its address, a file's by its content."""
        if row in self.given:
            return self.answer_given(row, benchmark, seed)
        if row not in self.endpoints:
            return super().answer(row, None, benchmark, seed)
        endpoint = self.endpoints[row]
        kind = self.registry.judges[endpoint.kind]
        config = options_from(kind.config, endpoint.config)
        adapter, values = self.registry.benchmarks[benchmark], asdict(self.configs[benchmark])
        params = {
            "benchmark": benchmark,
            "benchmark_version": adapter.version,
            "config": {name: values[name] for name in adapter.answer_fields},
            "questions": self.asked(benchmark, whole=False),
            "endpoint": {"kind": endpoint.kind, **kind.identity(config)},
            "seed": seed_of("answer", seed),
        }
        local = {"config": plain(self.configs[benchmark]), "ask": plain(self.recipe.ask)}
        local["endpoint"] = {"kind": endpoint.kind, "config": dict(endpoint.config)}
        stage = self.add(Stage("answer", params, row=row, seed=seed, local=local))
        half = stage.price.tokens // 2
        dollars = kind.price(config, half, stage.price.tokens - half)
        self.stages[stage.key] = replace(stage, price=replace(stage.price, dollars=dollars))
        return self.stages[stage.key]

    def answer_given(self, row: str, benchmark: str, seed: int) -> Stage:
        """Answers from a file. Raises UserError where there is none for this benchmark."""
        file = self.given[row].get(benchmark)
        if file is None or not file.is_file():
            raise UserError(f"there are no answers of {row!r} to {benchmark}" + (f": no file {file}" if file else "."))
        params = {
            "benchmark": benchmark,
            "questions": self.asked(benchmark, whole=False),
            "given": hashlib.sha256(file.read_bytes()).hexdigest(),
            "config": {},
        }
        local = {"config": plain(self.configs[benchmark]), "given": str(file.absolute())}
        stage = self.add(Stage("answer", params, row=row, seed=seed, local=local))
        self.stages[stage.key] = replace(stage, price=Price())
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
