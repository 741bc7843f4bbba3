"""Makes the stages of a plan: which parameters and inputs decide each artifact, and what is shared.

Each method of ``Builder`` is one arrow of the way of the data (``docs/architecture.md``); the arrows from samples to a
trained student are in ``harness/plan/training_stages.py``. What stands in ``params`` is part of a stage's key; what
stands in ``local`` only says how to do it on this machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from harness.contracts.baseline import pairwise
from harness.contracts.benchmark import Benchmark, questions_hash
from harness.contracts.model import Checkpoint
from harness.contracts.options import plain
from harness.contracts.registry import Registry
from harness.contracts.stage import Ref, Stage
from harness.errors import UserError
from harness.models.published_sizes import placeholder_questions, resolve_or_placeholder
from harness.models.vocabulary import checkpoint_difference
from harness.plan.cost import Pricer
from harness.plan.training_stages import Chain
from harness.prompts.resolve import planned_source
from harness.recipe.recipe import Recipe
from harness.recipe.rows import MODELS
from harness.stats import seed_of
from harness.types import Question


@dataclass(frozen=True)
class Entrant:
    """One row of the table under one seed: the stages that answer and judge it, or why there are none."""

    row: str
    seed: int
    answers: Mapping[str, Stage] = field(default_factory=dict)
    """Benchmark id to its answer stage."""
    judgments: Mapping[str, Stage] = field(default_factory=dict)
    unavailable: str | None = None
    """Why this row cannot exist in this family: "needs a shared vocabulary"."""

    @property
    def name(self) -> str:
        """Unique within a plan: ``dpo/0``."""
        return f"{self.row}/{self.seed}"


class Builder:
    """Makes stages and remembers them by key; asking twice for the same thing gives the same stage."""

    def __init__(self, recipe: Recipe, registry: Registry) -> None:
        self.recipe = recipe
        self.registry = registry
        self.stages: dict[str, Stage] = {}
        self.hashes: dict[tuple[str, bool], str] = {}
        self.models: dict[str, Checkpoint] = {
            "teacher": resolve_or_placeholder(recipe.family.teacher),
            "student": resolve_or_placeholder(recipe.family.student),
        }
        prompts, sources = recipe.prompts, registry.sources
        source, fallback = sources[prompts.source], sources[prompts.fallback] if prompts.fallback else None
        self.source = planned_source(source, prompts.config, fallback)
        self.absent: dict[str, str] = {}
        """Benchmark to why its questions are not here; stand-ins of the stated number and length are planned with."""
        self.tuned_on: str | None = None
        """What the tuned teacher is tuned on, once a row has asked for it."""

    @cached_property
    def configs(self) -> dict[str, Any]:
        """Benchmark id to its config."""
        return {name: spec.config for name, spec in self.recipe.benchmarks.items()}

    @cached_property
    def questions(self) -> dict[str, list[Question]]:
        """Benchmark id to its questions, loaded once."""
        found: dict[str, list[Question]] = {}
        for name, config in self.configs.items():
            try:
                found[name] = self.registry.benchmarks[name].questions(config)
            except UserError as error:
                official = (
                    getattr(config, "questions", None) == "official" and getattr(config, "baseline", None) is None
                )
                stated = placeholder_questions(name, getattr(config, "limit", None)) if official else None
                if stated is None:
                    raise
                found[name], self.absent[name] = stated, str(error)
        return found

    def asked(self, benchmark: str, whole: bool) -> str:
        """``questions_hash`` of a benchmark, computed once."""
        if (benchmark, whole) not in self.hashes:
            self.hashes[benchmark, whole] = questions_hash(self.questions[benchmark], whole)
        return self.hashes[benchmark, whole]

    @cached_property
    def pricer(self) -> Pricer:
        """Prices the stages."""
        return Pricer(self.recipe, self.registry, self.questions, self.configs, self.models)

    @cached_property
    def vocabulary(self) -> str | None:
        """``None`` when teacher and student share their vocabulary, else what differs."""
        return checkpoint_difference(self.models["student"], self.models["teacher"])

    def add(self, stage: Stage, n: int | None = None) -> Stage:
        """The stage with this key, priced and remembered. ``n``: responses per prompt, where not the recipe's."""
        if stage.key not in self.stages:
            price = self.pricer.price(stage, self.recipe.sampling.n if n is None else n)
            self.stages[stage.key] = dataclasses.replace(stage, price=price)
        return self.stages[stage.key]

    def local(self, *models: str, **more: Any) -> dict[str, Any]:
        """What a stage needs on this machine; outside its key."""
        compute, family = self.recipe.compute, self.recipe.family
        return {
            "device": compute.device,
            "batch_tokens": compute.batch_tokens,
            "trust_remote_code": family.trust_remote_code,
            "models": {name: asdict(self.models[name]) for name in models},
            **more,
        }

    def prompts(self) -> Stage:
        """The training prompts, one set for all rows and seeds."""
        spec, source = self.recipe.prompts, self.source
        params = {"source": source.name, "n": spec.n, "seed": spec.seed, "identity": dict(source.pin.identity)}
        params |= {"max_prompt_tokens": spec.max_prompt_tokens, "tokenizer": self.models["student"].tokenizer}
        local = self.local("student", source=plain(source.config))
        return self.add(Stage("prompts", params, local=local))

    def overlap(self) -> Stage:
        """The check of training prompts against test questions; sampling and training wait for it."""
        benchmarks = {name: plain(config) for name, config in self.configs.items()}
        hashes = {name: self.asked(name, whole=False) for name in self.questions}
        params = {"benchmarks": benchmarks, "questions": hashes, "allowed": self.recipe.prompts.allow_overlap}
        inputs = {"prompts": self.prompts().ref}
        return self.add(Stage("overlap", params, inputs, version=2))

    @property
    def gate(self) -> tuple[Ref, ...]:
        """What sampling and training wait for, beside their inputs."""
        return (self.overlap().ref,)

    def local_model(self, model: str) -> dict[str, Any]:
        """``local`` of a stage that reads one family model under the role ``model``."""
        return {**self.local(), "models": {"model": asdict(self.models[model])}}

    def trained(self, row: str, seed: int) -> Stage:
        """The student of one row under one seed."""
        return Chain(self, row, self.recipe.methods[row], seed).trained()

    def tuned_teacher(self) -> Stage:
        """The family's teacher after preference tuning: one for all rows and seeds.

        Raises UserError where the recipe does not say how, or wants pairs that its prompts do not have.
        """
        spec = self.recipe.tuned_teacher
        if spec is None:
            raise UserError("a method needs a tuned teacher: say in tuned_teacher.method which method tunes it.")
        if spec.pairs == "dataset" and not self.source.pairs:
            raise UserError(
                f"tuned_teacher.pairs = 'dataset', but prompts from {self.source.name!r} have no rejected answers. "
                "Set tuned_teacher.pairs=samples: the teacher's own answers, ranked by it."
            )
        from_dataset = spec.pairs == "dataset" or (spec.pairs == "auto" and self.source.pairs)
        dataset, own = "the prompts' chosen and rejected answers", "its own answers, ranked by it"
        self.tuned_on = dataset if from_dataset else own
        return Chain(self, "tuned teacher", spec.training, seed=0).tuned(from_dataset)

    def obstacle(self, row: str) -> str | None:
        """Why a row cannot exist with this family and these prompts, or ``None``."""
        entry = self.recipe.methods[row]
        needs = self.registry.methods[entry.method].needs
        if needs.shared_vocabulary and self.vocabulary:
            return f"needs a shared vocabulary ({self.vocabulary})"
        if "rejected" in needs.responses and not self.source.pairs:
            return f"needs rejected answers (prompts from {self.source.name!r} have none)"
        start = entry.row_options.start or needs.start
        below = None if start is None else self.obstacle(start)
        return below and f"starts from {start}, which {below}"

    def entrant(self, row: str, seed: int) -> Entrant:
        """All stages of one row under one seed up to its judgments."""
        obstacle = None if row in MODELS else self.obstacle(row)
        if obstacle:
            return Entrant(row, seed, unavailable=obstacle)
        trained = None if row in MODELS else self.trained(row, seed)
        answers = {name: self.answer(row, trained, name, seed) for name in self.recipe.benchmarks}
        return Entrant(row, seed, answers, self.judgments(row, answers, seed))

    def judgments(self, row: str, answers: Mapping[str, Stage], seed: int) -> dict[str, Stage]:
        """A row's judge stages; the baseline is not compared with itself."""
        own = row == self.recipe.baseline
        return {n: self.judge(row, stage, n, seed) for n, stage in answers.items() if not (own and self.compares(n))}

    def compares(self, benchmark: str) -> bool:
        """Whether a benchmark compares answers with those of the recipe's own baseline."""
        if self.recipe.baseline is None:
            return False
        return pairwise(self.registry.benchmarks[benchmark], self.questions[benchmark], self.configs[benchmark])

    def baseline(self, benchmark: str) -> dict[str, Ref]:
        """The input ``baseline`` of judge and score stages: one answer set for all rows, of the first seed."""
        if self.recipe.baseline is None or not self.compares(benchmark):
            return {}
        row, seed = self.recipe.baseline, self.recipe.seeds[0]
        trained = None if row not in self.recipe.methods else self.trained(row, seed)
        return {"baseline": self.answer(row, trained, benchmark, seed).ref}

    def answer(self, row: str, trained: Stage | None, benchmark: str, seed: int) -> Stage:
        """A model's answers to one benchmark."""
        adapter, config = self.registry.benchmarks[benchmark], self.configs[benchmark]
        params = {
            "benchmark": benchmark,
            "benchmark_version": adapter.version,
            "config": chosen(config, adapter.answer_fields),
            "questions": self.asked(benchmark, whole=False),
            "dtype": self.recipe.family.dtype,
            "seed": seed_of("answer", seed),
        }
        spec = plain(config)
        inputs: dict[str, Ref] = {}
        if trained is None:
            params["model"] = self.models[row].fingerprint
            local = {**self.local_model(row), "config": spec}
        else:
            inputs, local = {"model": trained.ref}, self.local(config=spec)
        return self.add(Stage("answer", params, inputs, row=row, seed=seed, local=local))

    def judge(self, row: str, answers: Stage, benchmark: str, seed: int) -> Stage:
        """The judgments on one model's answers."""
        adapter, config = self.registry.benchmarks[benchmark], self.configs[benchmark]
        spec = self.recipe.benchmarks[benchmark]
        params: dict[str, Any] = {
            "benchmark": benchmark,
            "benchmark_version": adapter.version,
            "config": chosen(config, adapter.judge_fields),
            "questions": self.asked(benchmark, whole=True),
        }
        local: dict[str, Any] = {"config": plain(config)}
        if adapter.judged:
            judge = self.recipe.judges[str(spec.judge)]
            kind = self.registry.judges[judge.kind]
            params["judge"] = {"kind": judge.kind, **kind.identity(judge.config)}
            params["accept_failures"] = self.recipe.ask.accept_failures
            local["judge"] = {"kind": judge.kind, "config": plain(judge.config)}
            local["ask"] = plain(self.recipe.ask)
        baseline = self.baseline(benchmark)
        if baseline:
            params["baseline"] = self.recipe.baseline
        inputs = {"answers": answers.ref, **baseline}
        return self.add(Stage("judge", params, inputs, row=row, seed=seed, local=local))

    def score(self, benchmark: str, entrants: Sequence[Entrant]) -> Stage:
        """Scores of all entrants on one benchmark."""
        adapter: Benchmark = self.registry.benchmarks[benchmark]
        params = {
            "benchmark": benchmark,
            "benchmark_version": adapter.version,
            "config": plain(self.configs[benchmark]),
            "questions": self.asked(benchmark, whole=True),
            "entrants": [entrant.name for entrant in entrants],
            "replicates": self.recipe.statistics.replicates,
            "seed": seed_of("bootstrap", benchmark),
        }
        inputs = self.baseline(benchmark)
        if inputs:
            params["baseline"] = self.recipe.baseline
        for entrant in entrants:
            inputs[f"answers:{entrant.name}"] = entrant.answers[benchmark].ref
            inputs[f"judgments:{entrant.name}"] = entrant.judgments[benchmark].ref
        return self.add(Stage("score", params, inputs, version=4))


def chosen(config: Any, fields: Sequence[str]) -> dict[str, Any]:
    """The named fields of a config dataclass, as plain values."""
    values = plain(config)
    return {name: values[name] for name in fields}
