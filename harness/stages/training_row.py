"""A row of the recipe under one seed: what the stages of its rounds are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from harness.contracts.method import Method
from harness.contracts.options import plain
from harness.contracts.stage import Ref, Stage
from harness.recipe.sections import MethodEntry
from harness.stages.graph import Model, StageGraph
from harness.stats import seed_of

EXECUTION_ONLY = frozenset({"micro_batch", "gradient_checkpointing", "packing", "checkpoint_minutes"})
"""Training settings that trade memory for time and decide nothing: outside the key."""
ROUNDS_ONLY = frozenset({"schedule_over"})
"""Settings that decide something with several rounds alone: the key has what they mean for a round."""


@dataclass(frozen=True)
class TrainingRow:
    """Rounds are numbered from 0 here, and from 1 in labels."""

    graph: StageGraph
    name: str
    entry: MethodEntry
    seed: int
    prompts: Stage
    after: tuple[Ref, ...]
    """What sampling and training wait for, beside their inputs."""

    @property
    def method(self) -> Method:
        return self.graph.registry.methods[self.entry.method]

    @property
    def rounds(self) -> int:
        return self.entry.row_options.rounds

    @property
    def options(self) -> dict[str, Any]:
        """The training settings that decide the student."""
        hidden = EXECUTION_ONLY | ROUNDS_ONLY
        return {name: value for name, value in plain(self.entry.train).items() if name not in hidden}

    @property
    def row_params(self) -> dict[str, Any]:
        """What decides the training rows of the method, and how a model reads them."""
        options = self.options
        return {
            "method": self.entry.method,
            "method_version": self.method.version,
            "rows": self.entry.row_config,
            "options": {name: options[name] for name in ("dtype", "max_length")},
        }

    def labels(self, number: int) -> dict[str, Any]:
        return {"row": self.name, "round": number + 1 if self.rounds > 1 else None, "seed": self.seed}

    def round_seed(self, *names: str, number: int) -> int:
        """A seed for one step of one round; the first round's is the same whether there are more rounds or not."""
        # Otherwise rows of other rounds could not share their first round.
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
        train = {name: value for name, value in plain(self.entry.train).items() if name in EXECUTION_ONLY}
        samples = data["samples"].local["samples"] if "samples" in data else 0
        inputs = {role: stage.ref for role, stage in data.items()}
        here = {"train": train, "samples": samples, **local}
        labels = {**self.labels(number), **labels}
        return self.graph.add_with_models(kind, params, inputs, models, here, after=self.after, **labels)
