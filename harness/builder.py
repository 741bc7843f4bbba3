"""Makes the stages of a plan: which parameters and inputs decide each artifact, and what is shared.

Each method of ``Builder`` is one arrow of the way of the data (``docs/architecture.md``). What stands in ``params`` is
part of a stage's key; what stands in ``local`` only says how to do it on this machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from harness.benchmark import Benchmark
from harness.checkpoint import Checkpoint, resolve
from harness.method import Method
from harness.price import Pricer
from harness.prompt_source import resolve_source
from harness.recipe import Recipe
from harness.registry import Registry
from harness.stage import Stage
from harness.stages.baseline import pairwise
from harness.stages.work import build, questions_hash
from harness.stats import seed_of
from harness.tokenizer_files import difference
from harness.types import Question

HOW = frozenset({"micro_batch", "gradient_checkpointing"})
"""Training settings that trade memory for time and decide nothing: outside the key."""

MODELS = ("teacher", "student")
"""Rows that are not trained: the family's two checkpoints."""


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
            "teacher": resolve(recipe.family.teacher),
            "student": resolve(recipe.family.student),
        }
        self.source = resolve_source(recipe.prompts)

    @cached_property
    def configs(self) -> dict[str, Any]:
        """Benchmark id to its config."""
        return {
            name: build(self.registry.benchmarks[name].config, spec.config)
            for name, spec in self.recipe.benchmarks.items()
        }

    @cached_property
    def questions(self) -> dict[str, list[Question]]:
        """Benchmark id to its questions, loaded once."""
        return {name: self.registry.benchmarks[name].questions(config) for name, config in self.configs.items()}

    def asked(self, benchmark: str, whole: bool) -> str:
        """``questions_hash`` of a benchmark, computed once."""
        if (benchmark, whole) not in self.hashes:
            self.hashes[benchmark, whole] = questions_hash(self.questions[benchmark], whole)
        return self.hashes[benchmark, whole]

    @cached_property
    def pricer(self) -> Pricer:
        """Prices the stages."""
        return Pricer(self.recipe, self.registry, self.questions, self.configs)

    @cached_property
    def vocabulary(self) -> str | None:
        """``None`` when teacher and student share their vocabulary, else what differs."""
        return difference(self.models["teacher"], self.models["student"])

    def add(self, stage: Stage) -> Stage:
        """The stage with this key, priced and remembered."""
        if stage.key not in self.stages:
            self.stages[stage.key] = dataclasses.replace(stage, price=self.pricer.price(stage))
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
        spec = self.recipe.prompts
        params = {"source": self.source.source, "n": spec.n, "seed": spec.seed, "revision": self.source.revision}
        params |= {"max_prompt_tokens": spec.max_prompt_tokens, "tokenizer": self.models["student"].tokenizer}
        local = self.local("student", path=spec.path)
        return self.add(Stage("prompts", "training prompts", params, local=local))

    def overlap(self) -> Stage:
        """The check of training prompts against test questions; sampling and training wait for it."""
        benchmarks = {name: spec.config for name, spec in self.recipe.benchmarks.items()}
        hashes = {name: self.asked(name, whole=False) for name in self.questions}
        params = {"benchmarks": benchmarks, "questions": hashes, "allowed": self.recipe.prompts.allow_overlap}
        return self.add(Stage("overlap", "overlap of prompts and questions", params, {"prompts": ref(self.prompts())}))

    @property
    def gate(self) -> tuple[str, ...]:
        """What sampling and training wait for, beside their inputs."""
        return (self.overlap().key,)

    def sample(self, field: str, model: str, seed: int) -> Stage:
        """Responses to the training prompts: the student's n samples, or the teacher's answers."""
        spec = self.recipe.sampling
        own = field == "samples"
        params = {
            "field": field,
            "model": self.models[model].fingerprint,
            "dtype": self.recipe.family.dtype,
            "n": spec.n if own else 1,
            "temperature": spec.temperature if own else spec.teacher_temperature,
            "top_p": spec.top_p,
            "max_new_tokens": spec.max_new_tokens,
            "seed": seed_of("sample", field, seed),
        }
        label = f"sample {model} seed {seed}"
        inputs = {"prompts": ref(self.prompts())}
        return self.add(Stage("sample", label, params, inputs, local=self.local_model(model), after=self.gate))

    def local_model(self, model: str) -> dict[str, Any]:
        """``local`` of a stage that reads one family model under the role ``model``."""
        return {**self.local(), "models": {"model": asdict(self.models[model])}}

    def reward(self, seed: int) -> Stage:
        """What the teacher says of the student's samples."""
        spec = self.recipe.reward
        params = {
            "teacher": self.models["teacher"].fingerprint,
            "dtype": self.recipe.family.dtype,
            "mcq": spec.mcq,
            "floor": spec.floor,
            "max_response_chars": spec.max_response_chars,
            "shuffle": spec.shuffle,
            "seed": seed_of("reward", seed),
        }
        inputs = {"samples": ref(self.sample("samples", "student", seed))}
        return self.add(Stage("reward", f"reward seed {seed}", params, inputs, local=self.local("teacher")))

    def train(self, name: str, seed: int) -> Stage:
        """A student trained by one method."""
        method = self.registry.methods[name]
        entry = self.recipe.methods[name]
        needs = method.needs
        params: dict[str, Any] = {
            "method": name,
            "method_version": method.version,
            "config": entry.config,
            "options": self.train_options(name),
            "student": self.models["student"].fingerprint,
            "seed": seed_of("train", seed),
        }
        inputs = self.train_inputs(method, seed)
        roles = ["student"]
        if needs.signal == "token":
            roles.append("teacher")
            params["teacher"] = self.models["teacher"].fingerprint
        if "rollouts" in needs.responses:
            params["options"]["max_new_tokens"] = self.recipe.sampling.max_new_tokens
        if needs.reference:
            inputs["reference"] = ref(self.reference(method, seed, inputs))
        local = self.local(*roles, train=self.train_local(name))
        return self.add(Stage("train", f"train {name} seed {seed}", params, inputs, local=local, after=self.gate))

    def train_options(self, name: str) -> dict[str, Any]:
        """The training settings that decide the student."""
        return {key: value for key, value in self.recipe.methods[name].train.model_dump().items() if key not in HOW}

    def train_local(self, name: str) -> dict[str, Any]:
        """The training settings that trade memory for time."""
        return {key: value for key, value in self.recipe.methods[name].train.model_dump().items() if key in HOW}

    def train_inputs(self, method: Method, seed: int) -> dict[str, str]:
        """The artifacts that fill what a method declared."""
        needs = method.needs
        inputs = {"prompts": ref(self.prompts())}
        if "samples" in needs.responses:
            sampled = self.reward(seed) if needs.signal == "response" else self.sample("samples", "student", seed)
            inputs["samples"] = ref(sampled)
        if "teacher" in needs.responses:
            inputs["responses"] = ref(self.sample("teacher", "teacher", seed))
        return inputs

    def reference(self, method: Method, seed: int, inputs: Mapping[str, str]) -> Stage:
        """Log-probabilities of a method's rows under the student it starts from, computed once."""
        options = self.train_options(method.name)
        params = {
            "method": method.name,
            "method_version": method.version,
            "rows": self.recipe.methods[method.name].row_config,
            "student": self.models["student"].fingerprint,
            "options": {name: options[name] for name in ("dtype", "max_length")},
        }
        label = f"reference {method.name} seed {seed}"
        local = self.local("student", train=self.train_local(method.name))
        return self.add(Stage("reference", label, params, dict(inputs), local=local, after=self.gate))

    def entrant(self, row: str, seed: int) -> Entrant:
        """All stages of one row under one seed up to its judgments."""
        if row not in MODELS and self.registry.methods[row].needs.shared_vocabulary and self.vocabulary:
            return Entrant(row, seed, unavailable=f"needs a shared vocabulary ({self.vocabulary})")
        trained = None if row in MODELS else self.train(row, seed)
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

    def baseline(self, benchmark: str) -> dict[str, str]:
        """The input ``baseline`` of judge and score stages: one answer set for all rows, of the first seed."""
        if self.recipe.baseline is None or not self.compares(benchmark):
            return {}
        row, seed = self.recipe.baseline, self.recipe.seeds[0]
        trained = None if row not in self.recipe.methods else self.train(row, seed)
        return {"baseline": ref(self.answer(row, trained, benchmark, seed))}

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
        spec = self.recipe.benchmarks[benchmark].config
        label = f"answer {benchmark} {row} seed {seed}"
        if trained is None:
            params["model"] = self.models[row].fingerprint
            return self.add(Stage("answer", label, params, local={**self.local_model(row), "config": spec}))
        return self.add(Stage("answer", label, params, {"model": ref(trained)}, local=self.local(config=spec)))

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
        local: dict[str, Any] = {"config": spec.config}
        if adapter.judged:
            judge = self.recipe.judges[str(spec.judge)]
            kind = self.registry.judges[judge.kind]
            params["judge"] = {"kind": judge.kind, **kind.identity(build(kind.config, judge.config))}
            params["accept_failures"] = self.recipe.ask.accept_failures
            local["judge"] = {"kind": judge.kind, "config": judge.config}
            local["ask"] = self.recipe.ask.options()
        label = f"judge {benchmark} {row} seed {seed}"
        baseline = self.baseline(benchmark)
        if baseline:
            params["baseline"] = self.recipe.baseline
        return self.add(Stage("judge", label, params, {"answers": ref(answers), **baseline}, local=local))

    def score(self, benchmark: str, entrants: Sequence[Entrant]) -> Stage:
        """Scores of all entrants on one benchmark."""
        adapter: Benchmark = self.registry.benchmarks[benchmark]
        params = {
            "benchmark": benchmark,
            "benchmark_version": adapter.version,
            "config": self.recipe.benchmarks[benchmark].config,
            "questions": self.asked(benchmark, whole=True),
            "entrants": [entrant.name for entrant in entrants],
            "replicates": self.recipe.statistics.replicates,
            "seed": seed_of("bootstrap", benchmark),
        }
        inputs = self.baseline(benchmark)
        if inputs:
            params["baseline"] = self.recipe.baseline
        for entrant in entrants:
            inputs[f"answers:{entrant.name}"] = ref(entrant.answers[benchmark])
            inputs[f"judgments:{entrant.name}"] = ref(entrant.judgments[benchmark])
        return self.add(Stage("score", f"score {benchmark}", params, inputs))


def ref(stage: Stage) -> str:
    """How a stage names an input: kind and key."""
    return f"{stage.kind}/{stage.key}"


def chosen(config: Any, fields: Sequence[str]) -> dict[str, Any]:
    """The named fields of a config dataclass, as plain values."""
    values = asdict(config)
    return {name: values[name] for name in fields}
