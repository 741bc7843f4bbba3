"""How a row's student comes to be: its stages from the prompts to the trained checkpoint, round by round.

One round is: the current student answers the training prompts, the teacher rewards the answers, the student is trained
on them. A row with ``rounds: k`` does that k times, m = ``sampling.n`` responses each (PAD section 4.4; "k/m" in its
Table 2); with ``resample: false`` all rounds share one pool of k m responses of the first student, dealt out at
random into k disjoint blocks of m. Each round is a train stage of its own: it starts from the checkpoint of the round
before with a fresh optimiser and a whole learning-rate schedule, and for a method with a reference (DPO) that
checkpoint is the reference. So rows that differ in their rounds alone share the rounds that they have in common. With
``train: {schedule_over: run}`` one schedule spans all rounds; such rows share nothing but the first samples.

What is true of the decomposition. Rankings of disjoint blocks of responses are independent under Plackett-Luce, and
each is Plackett-Luce with the same scores. So for the distributions P (teacher) and Q (student) over the k block
rankings together, KL(P || Q) is exactly the sum of the blocks' KLs. The JSD is not: the mixture of two products is no
product. What holds is JSD(P, Q) <= sum of the blocks' JSDs, at most log 2 on the left and up to k log 2 on the right;
the rounds minimise that upper bound (the paper's Appendix A claims equality). Comparisons between blocks are dropped
altogether, and from the second round on the student of a block is the one that the blocks before have trained.
``tests/methods/test_rounds.py`` shows each of these in numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.contracts.method import Method, Needs, Stored
from harness.contracts.options import plain
from harness.contracts.stage import Ref, Stage
from harness.recipe.rows import MethodEntry
from harness.stats import seed_of

if TYPE_CHECKING:
    from harness.plan.stage_graph import Builder

HOW = frozenset({"micro_batch", "gradient_checkpointing", "packing", "checkpoint_minutes"})
"""Training settings that trade memory for time and decide nothing: outside the key."""
ROUNDS = frozenset({"schedule_over"})
"""Settings that decide something with rounds alone: then they come into the key as what they mean for a round."""


@dataclass(frozen=True)
class Model:
    """A model at some point of a run: a checkpoint of the family, or what a train stage leaves."""

    name: str
    """``teacher`` or ``student``: whose weights it has, or had before it was trained."""
    stage: Stage | None = None

    def named(self, seed: int, variant: str) -> dict[str, Any]:
        """Row, round and seed of a stage in which it writes."""
        row, number = (self.name, None) if self.stage is None else (self.stage.row, self.stage.round)
        return {"row": row, "round": number, "seed": seed, "variant": variant}


@dataclass(frozen=True)
class Use:
    """A model in a role of a stage: what of it goes into the key, and what beside it."""

    params: Mapping[str, str]
    inputs: Mapping[str, Ref]
    models: Mapping[str, Any]


@dataclass(frozen=True)
class Chain:
    """The stages of one row under one seed. ``row`` names it in labels."""

    builder: Builder
    row: str
    entry: MethodEntry
    seed: int

    @property
    def method(self) -> Method:
        """The row's method."""
        return self.builder.registry.methods[self.entry.method]

    @property
    def needs(self) -> Needs:
        """What it declares."""
        return self.method.needs

    def trained(self) -> Stage:
        """The train stage of the last round."""
        first = current = self.start()
        for number in range(self.entry.row_options.rounds):
            inputs = self.data(number, first, current)
            current = Model("student", self.train(number, current, inputs))
        if current.stage is None:
            raise ValueError(f"row {self.row!r} has no round")
        return current.stage

    def start(self) -> Model:
        """The model that the first round starts from."""
        row = self.entry.row_options.start or self.needs.start
        return Model("student", None if row is None else self.builder.trained(row, self.seed))

    def data(self, number: int, first: Model, current: Model) -> dict[str, Ref]:
        """The artifacts that fill what the method declared, in round ``number`` (from 0)."""
        inputs = {"prompts": self.builder.prompts().ref}
        if "samples" in self.needs.responses:
            drawn = self.drawn(number, first, current)
            rewarded = self.needs.signal == "response"
            inputs["samples"] = (self.reward(drawn, number) if rewarded else drawn).ref
        if "teacher" in self.needs.responses:
            inputs["responses"] = self.sample("teacher", Model("teacher"), 1, 0).ref
        return inputs

    def drawn(self, number: int, first: Model, current: Model) -> Stage:
        """The student's responses for one round: fresh ones, or its block of the pool."""
        rounds, n = self.entry.row_options.rounds, self.entry.sampling.n
        if self.entry.row_options.resample:
            return self.sample("samples", current, n, number)
        pool = self.sample("samples", first, rounds * n, 0)
        params = {"block": number, "blocks": rounds, "seed": seed_of("block", self.seed)}
        stage = Stage("block", params, {"samples": pool.ref}, **self.named(number, variant=f"n={n}"))
        return self.builder.add(stage, n=n)

    def sample(self, field: str, model: Model, n: int, number: int) -> Stage:
        """n responses of a model to each training prompt, as the student's samples or as the teacher's answers."""
        spec = self.entry.sampling
        use = self.use(model=model)
        params = {
            "field": field,
            **use.params,
            "dtype": self.builder.recipe.family.dtype,
            "n": n,
            "temperature": spec.temperature if field == "samples" else spec.teacher_temperature,
            "top_p": spec.top_p,
            "max_new_tokens": spec.max_new_tokens,
            "seed": self.numbered("sample", field, number=number),
        }
        inputs = {"prompts": self.builder.prompts().ref, **use.inputs}
        own = "" if n == self.builder.recipe.sampling.n or field == "teacher" else f"n={n}"
        drawn_from = model.named(self.seed, own)
        stage = Stage("sample", params, inputs, **drawn_from, local=self.local(use), after=self.builder.gate)
        return self.builder.add(stage, n=n)

    def reward(self, samples: Stage, number: int) -> Stage:
        """What the teacher says of the samples."""
        spec = self.builder.recipe.reward
        use = self.use(teacher=Model("teacher"))
        params = {
            **use.params,
            "dtype": self.builder.recipe.family.dtype,
            **plain(spec),
            "seed": self.numbered("reward", number=number),
        }
        same = {"row": samples.row, "round": samples.round, "seed": samples.seed, "variant": samples.variant}
        stage = Stage("reward", params, {"samples": samples.ref}, **same, local=self.local(use))
        return self.builder.add(stage, n=self.entry.sampling.n)

    def tuned(self, from_dataset: bool) -> Stage:
        """The family's teacher trained by the row's method: on the prompt source's pairs, or on its own responses."""
        teacher = Model("teacher")
        if from_dataset:
            prompts = {"prompts": self.builder.prompts().ref}
            samples = self.builder.add(Stage("pairs", {}, prompts), n=2)
        else:
            samples = self.reward(self.sample("samples", teacher, self.entry.sampling.n, 0), 0)
        return self.train(0, teacher, {"prompts": self.builder.prompts().ref, "samples": samples.ref})

    def train(self, number: int, model: Model, inputs: Mapping[str, Ref]) -> Stage:
        """The model trained by the row's method on what ``data`` gave."""
        params: dict[str, Any] = {
            "method": self.entry.method,
            "method_version": self.method.version,
            "config": plain(self.entry.config),
            "options": self.options() | self.position(number),
            "seed": self.numbered("train", number=number),
        }
        roles = {"student": model}
        reads = dict(inputs)
        if self.needs.signal == "token":
            stored = self.method.stored(self.entry.config)
            if stored is None:
                roles["teacher"] = self.taught_by(self.needs.teachers[0])
            else:
                reads |= self.distributions(stored, inputs)
        if "rollouts" in self.needs.responses:
            params["options"]["max_new_tokens"] = self.entry.sampling.max_new_tokens
        if self.needs.reference and self.entry.train.backend != "trl":  # TRL computes it as it trains
            reads["reference"] = self.reference(number, model, inputs).ref
        use = self.use(**roles)
        compute = self.builder.recipe.compute
        local = self.local(use, train=self.how(), launch=compute.launch, processes=compute.processes)
        reads, named = {**reads, **use.inputs}, self.named(number)
        stage = Stage("train", {**params, **use.params}, reads, **named, local=local, after=self.builder.gate)
        return self.builder.add(stage, n=self.entry.sampling.n)

    def taught_by(self, teacher: str) -> Model:
        """The family's teacher, or the tuned one."""
        return Model("teacher", self.builder.tuned_teacher() if teacher == "tuned" else None)

    def distributions(self, stored: Stored, inputs: Mapping[str, Ref]) -> dict[str, Ref]:
        """A store of token distributions for each teacher that the method names; the first decides the tokens."""
        found: dict[str, Ref] = {}
        for teacher in self.needs.teachers:
            # Only the tokenizer of the student matters here, so the rows of all rounds and starts can share a store.
            params = {
                **self.rows_params(),
                "tokenizer": self.builder.models["student"].tokenizer,
                "top_k": stored.top_k,
                "temperature": stored.temperature,
            }
            use = self.use(teacher=self.taught_by(teacher))
            reads = {**inputs, **use.inputs} | ({"tokens": next(iter(found.values()))} if found else {})
            local = self.local(use, train=self.how())
            local["models"]["student"] = asdict(self.builder.models["student"])
            params |= use.params
            named = {"row": self.row, "seed": self.seed, "variant": f"{teacher} teacher"}
            stage = Stage("distributions", params, reads, **named, local=local, after=self.builder.gate)
            found[f"distributions:{teacher}"] = self.builder.add(stage, n=self.entry.sampling.n).ref
        return found

    def reference(self, number: int, model: Model, inputs: Mapping[str, Ref]) -> Stage:
        """Log-probabilities of the rows under the model that the round starts from, computed once."""
        use = self.use(student=model)
        params = {**self.rows_params(), **use.params}
        reads, named = {**inputs, **use.inputs}, self.named(number)
        local, after = self.local(use, train=self.how()), self.builder.gate
        return self.builder.add(Stage("reference", params, reads, **named, local=local, after=after))

    def rows_params(self) -> dict[str, Any]:
        """What decides the rows of a method, and how a model reads them."""
        options = self.options()
        return {
            "method": self.entry.method,
            "method_version": self.method.version,
            "rows": self.entry.row_config,
            "options": {name: options[name] for name in ("dtype", "max_length")},
        }

    def options(self) -> dict[str, Any]:
        """The training settings that decide the student."""
        return {key: value for key, value in plain(self.entry.train).items() if key not in HOW | ROUNDS}

    def position(self, number: int) -> dict[str, Any]:
        """Which part of the learning-rate schedule a round is, where one schedule spans all rounds."""
        rounds = self.entry.row_options.rounds
        return {"schedule_segment": [number, rounds]} if rounds > 1 and self.entry.train.schedule_over == "run" else {}

    def how(self) -> dict[str, Any]:
        """The training settings that trade memory for time."""
        return {key: value for key, value in plain(self.entry.train).items() if key in HOW}

    def use(self, **roles: Model) -> Use:
        """These models in these roles: a checkpoint by its fingerprint, a trained one as an input."""
        at_hand = {role: self.builder.models[each.name] for role, each in roles.items() if each.stage is None}
        trained = {role: each.stage for role, each in roles.items() if each.stage is not None}
        return Use(
            params={role: checkpoint.fingerprint for role, checkpoint in at_hand.items()},
            inputs={role: stage.ref for role, stage in trained.items()},
            models={role: asdict(checkpoint) for role, checkpoint in at_hand.items()},
        )

    def local(self, use: Use, **more: Any) -> dict[str, Any]:
        """``local`` of a stage with these models."""
        return {**self.builder.local(**more), "models": dict(use.models)}

    def numbered(self, *names: str, number: int) -> int:
        """A seed for one step of one round; the first round's is the same whether there are more rounds or not."""
        return seed_of(*names, self.seed) if number == 0 else seed_of(*names, self.seed, "round", number)

    def named(self, number: int, variant: str = "") -> dict[str, Any]:
        """Row, round and seed of a stage."""
        shown = number + 1 if self.entry.row_options.rounds > 1 else None
        return {"row": self.row, "round": shown, "seed": self.seed, "variant": variant}
