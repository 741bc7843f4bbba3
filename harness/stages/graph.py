"""The stages of one recipe, and what its names stand for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from harness.contracts.benchmark import ConfiguredBenchmark
from harness.contracts.judge import ConfiguredJudge
from harness.contracts.method import Method
from harness.contracts.model import Capability, Checkpoint
from harness.contracts.options import json_data
from harness.contracts.registry import Registry
from harness.contracts.stage import Cost, Ref, Stage, Work
from harness.errors import UserError
from harness.models.backends import TRANSFORMERS
from harness.models.published_sizes import resolve_or_placeholder, size
from harness.prompts import ResolvedSource, resolve_source
from harness.recipe.recipe import Recipe
from harness.recipe.sections import MODELS, MethodEntry
from harness.stats import seed_of
from harness.text import format_count

CHARS_PER_TOKEN = 4
LOADED = TRANSFORMERS.name
TEMPLATE_TOKENS = 10
PROMPT_TOKENS = 200
"""Length of a training prompt where its source does not say: UltraFeedback's mean is about 160, with the chat template
a little more."""


@dataclass(frozen=True)
class Model:
    name: str
    checkpoint: Checkpoint
    """The weights, or those that its training started from."""
    trained: Stage | None = None


class BackendUse(NamedTuple):
    params: dict[str, object]
    """For the key of a stage."""
    local: dict[str, Any]


class StageGraph:
    """The stages of one recipe by key, each once, and the models, benchmarks and judges that the recipe names."""

    def __init__(self, recipe: Recipe, registry: Registry) -> None:
        self.recipe = recipe
        self.registry = registry
        self.stages: dict[str, Stage] = {}
        self.models: dict[str, Checkpoint] = {
            "teacher": resolve_or_placeholder(recipe.family.teacher),
            "student": resolve_or_placeholder(recipe.family.student),
        }
        # Read now, not when the first stage needs it: a mistake in the user's own file must show when a plan is made.
        prompts, sources = recipe.prompts, registry.sources
        fallback = sources[prompts.fallback] if prompts.fallback else None
        self.source: ResolvedSource = resolve_source(sources[prompts.source], prompts.config, fallback)
        size = self.source.pin.size
        if size is not None and prompts.n > size:
            has = f"at most {format_count(size, 'prompt')}"
            raise UserError(
                f"prompts.n = {prompts.n}: the source {self.source.name!r} has {has}; set a smaller prompts.n."
            )

    def add(self, stage: Stage) -> Stage:
        return self.stages.setdefault(stage.key, stage)

    def add_with_models(
        self,
        kind: str,
        params: Mapping[str, object],
        inputs: Mapping[str, Ref],
        models: Mapping[str, Model],
        local: Mapping[str, Any],
        **labels: Any,
    ) -> Stage:
        """``labels``: other fields of ``Stage``; ``local["tokenizers"]``: checkpoints for the tokenizer alone."""
        compute = self.recipe.compute
        # A checkpoint counts by its content, so that it can lie anywhere; what a train stage leaves is an input.
        fingerprints = {role: m.checkpoint.fingerprint for role, m in models.items() if m.trained is None}
        trained_refs = {role: model.trained.ref for role, model in models.items() if model.trained is not None}
        local_values = {
            "device": compute.device,
            "batch_tokens": compute.batch_tokens,
            "trust_remote_code": self.recipe.family.trust_remote_code,
            **local,
            "models": {role: model.checkpoint for role, model in models.items()} | dict(local.get("tokenizers", {})),
        }
        all_params, all_inputs = {**params, **fingerprints}, {**inputs, **trained_refs}
        return self.add(Stage(kind, all_params, all_inputs, local=local_values, **labels))

    def backend_use(self, kind: str, needs: Collection[Capability], model: Model) -> BackendUse:
        """What serves ``model`` in a stage of this kind: the recipe's choice, or, where that lacks what the stage
        needs, the checkpoint in the stage's own process."""
        family, backends, remark = self.recipe.family, self.registry.backends, ""
        name, options = family.backend_choice(model.name if model.name in MODELS else "student", kind)
        if lack := ", ".join(backends[name].lacking_capabilities(needs)):
            remark = f"stage {kind} runs with {LOADED}: the backend {name} does not offer {lack}"
            name, options = LOADED, {}
        backend = backends[name]
        key, rest = backend.split(options)
        local = {"backend": name, "backend_options": rest, "engine": backend.engine}
        local |= {"gpus": backend.gpus(options)} if backend.engine else {}
        local |= {"remark": remark} if remark else {}
        params = {"dtype": family.dtype, "backend": {"name": name, "options": key}}
        return BackendUse({**params, **self.registry.code_param("backends", name)}, local)

    def model(self, name: str) -> Model:
        return Model(name, self.models[name])

    @cached_property
    def benchmarks(self) -> dict[str, ConfiguredBenchmark]:
        entries, table = self.recipe.benchmarks, self.registry.benchmarks
        loaded: dict[str, ConfiguredBenchmark] = {}
        problems: list[str] = []
        for name, entry in entries.items():
            benchmark = table[entry.kind].named(name, entry.config)
            try:
                loaded[name] = ConfiguredBenchmark.load(benchmark, entry.config)
                loaded[name].benchmark.pins(entry.config)
            except UserError as error:  # all columns' mistakes at once
                problems.append(str(error) if benchmark.official else f"benchmarks.{name}: {error}")
        if problems:
            raise UserError("\n".join(problems))
        return loaded

    @cached_property
    def judges(self) -> dict[str, ConfiguredJudge]:
        entries = self.recipe.judges
        return {name: self.registry.judge(entry.kind, entry.config) for name, entry in entries.items()}

    def version_params(self, benchmark: str) -> dict[str, object]:
        """What tells in keys which code asks and reads."""
        code = self.registry.code_param("benchmarks", self.recipe.benchmarks[benchmark].kind)
        return {"benchmark_version": self.benchmarks[benchmark].benchmark.version, **code}

    def judge_of(self, benchmark: str) -> ConfiguredJudge | None:
        name = self.recipe.benchmarks[benchmark].judge
        return None if name is None else self.judges[name]

    def baseline_of(self, benchmark: str) -> str | None:
        """The row whose answers replace the protocol's baseline: the column's own, or the recipe's."""
        entry = self.recipe.benchmarks[benchmark]
        return (entry.baseline or self.recipe.baseline) if self.registry.benchmarks[entry.kind].pairwise else None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of a training prompt in estimates of cost."""
        lengths, characters = self.source.source.lengths, self.source.pin.prompt_characters
        if lengths is not None:
            return lengths[0]
        return PROMPT_TOKENS if characters is None else characters // CHARS_PER_TOKEN + TEMPLATE_TOKENS

    @property
    def response_tokens(self) -> int:
        """Tokens of one response in estimates of cost: where the source does not say, half of
        ``sampling.max_new_tokens``."""
        lengths, limit = self.source.source.lengths, self.recipe.sampling.max_new_tokens
        return max(1, limit // 2) if lengths is None else min(lengths[1], limit)

    @property
    def row_tokens(self) -> int:
        return self.prompt_tokens + self.response_tokens


def model_cost(stage: Stage, role: str, read: int, written: int = 0, responses: int = 0) -> Cost:
    model_size = size(stage.local["models"][role])
    parameters = None if model_size is None else model_size.parameters
    work = [work for work in (Work("read", parameters, read), Work("write", parameters, written)) if work.tokens]
    return Cost(responses=responses, tokens=read + written, work=tuple(work))


EXECUTION_ONLY = frozenset({"micro_batch", "gradient_checkpointing", "packing", "checkpoint_minutes", "report_to"})
"""Training settings that decide no weight (memory for time, who is told): outside the key."""


@dataclass(frozen=True)
class TrainingRow:
    """A row of the recipe under one seed. Rounds are numbered from 0 here, and from 1 in labels."""

    graph: StageGraph
    name: str
    entry: MethodEntry
    seed: int
    prompts: Stage
    gates: tuple[Ref, ...]

    @property
    def method(self) -> Method:
        return self.graph.registry.methods[self.entry.method]

    @property
    def rounds(self) -> int:
        return self.entry.row_options.rounds

    @property
    def row_params(self) -> dict[str, object]:
        train = self.entry.train
        return {
            "method": self.entry.method,
            "method_version": self.method.version,
            **self.graph.registry.code_param("methods", self.entry.method),
            "rows": self.entry.row_config,
            "options": {"dtype": train.dtype, "max_length": train.max_length},
        }

    def labels(self, number: int) -> dict[str, Any]:
        return {"row": self.name, "round": number + 1 if self.rounds > 1 else None, "seed": self.seed}

    def round_seed(self, *names: str, number: int) -> int:
        # The first round's is the same whether there are more rounds or not: rows of other rounds share it.
        return seed_of(*names, self.seed) if number == 0 else seed_of(*names, self.seed, "round", number)

    def add(
        self,
        kind: str,
        number: int,
        params: Mapping[str, object],
        data: Mapping[str, Stage],
        models: Mapping[str, Model],
        local: Mapping[str, Any] = MappingProxyType({}),
        **labels: Any,
    ) -> Stage:
        """Add a stage that reads the method's rows. ``data``: role to what holds them, and to stored signals."""
        train = {name: value for name, value in json_data(self.entry.train).items() if name in EXECUTION_ONLY}
        samples = data["samples"].local["samples"] if "samples" in data else 0
        inputs = {role: stage.ref for role, stage in data.items()}
        local_values = {"train": train, "samples": samples, **local}
        labels = {**self.labels(number), **labels}
        return self.graph.add_with_models(kind, params, inputs, models, local_values, gates=self.gates, **labels)
