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
from dataclasses import dataclass, replace
from typing import Any

from harness.contracts.method import Method
from harness.contracts.stage import Ref, Stage
from harness.recipe.sections import MethodEntry
from harness.stages.graph import Model, StageGraph
from harness.stages.kinds.reference_logps import reference_stage
from harness.stages.kinds.reward import reward_stage
from harness.stages.kinds.sample import sample_stage
from harness.stages.kinds.split_pool import split_pool_stage
from harness.stages.kinds.teacher_distributions import distributions_stage
from harness.stages.kinds.train import DISTRIBUTIONS, TrainingRound, train_stage
from harness.stats import seed_of


@dataclass(frozen=True)
class TrainingRow:
    graph: StageGraph
    name: str
    entry: MethodEntry
    seed: int
    prompts: Stage
    after: tuple[Ref, ...]
    """What sampling and training wait for, beside their inputs."""
    start: Model
    """The model that the first round starts from."""
    teachers: Mapping[str, Model]
    """Those that the method names: ``family`` untouched, ``tuned`` by preferences."""

    @property
    def method(self) -> Method:
        return self.graph.registry.methods[self.entry.method]

    def last_round(self) -> Stage:
        """The train stage that leaves the row's student."""
        student = self.start
        for number in range(self.entry.row_options.rounds):
            student = replace(student, trained=self.train(number, student, self.data(number, student)))
        if student.trained is None:
            raise ValueError(f"row {self.name!r} has no round")
        return student.trained

    def data(self, number: int, student: Model) -> dict[str, Stage]:
        """The artifacts that hold what the method declared, in round ``number`` (from 0)."""
        needs, data = self.method.needs, {"prompts": self.prompts}
        if "samples" in needs.responses:
            samples = self.samples(number, student)
            data["samples"] = self.reward(samples, number) if needs.signal == "response" else samples
        if "teacher" in needs.responses:
            # The teacher is the same in every round, so its answers are those of round 0.
            data["responses"] = self.sample(self.graph.model("teacher"), 1, "teacher", 0)
        return data

    def samples(self, number: int, student: Model) -> Stage:
        """The student's responses for one round: fresh ones, or its block of the pool."""
        rounds, n = self.entry.row_options.rounds, self.entry.sampling.n
        if self.entry.row_options.resample:
            return self.sample(student, n, "samples", number)
        # The pool is the first student's: as many responses as all rounds together would draw.
        pool = self.sample(self.start, rounds * n, "samples", 0)
        return split_pool_stage(self.graph, pool, number, rounds, **self.labels(number))

    def sample(self, model: Model, n: int, field: str, number: int) -> Stage:
        seeds = self.seed, self.round_seed("sample", field, number=number)
        return sample_stage(self.graph, self.prompts, model, self.entry.sampling, n, field, seeds, self.after)

    def reward(self, samples: Stage, number: int) -> Stage:
        return reward_stage(self.graph, samples, self.graph.model("teacher"), self.round_seed("reward", number=number))

    def train(self, number: int, student: Model, data: Mapping[str, Stage]) -> Stage:
        """The model trained by the row's method on these data."""
        this = TrainingRound(self.graph, self.entry, number, student, data, self.after, self.labels(number))
        needs, teacher, signals = self.method.needs, None, dict[str, Ref]()
        if needs.signal == "token":
            stored = self.method.stored(self.entry.config)
            if stored is None:
                teacher = self.teachers[needs.teachers[0]]
            else:
                tokens = None  # the first teacher decides which tokens are kept for all
                for name in needs.teachers:
                    store = distributions_stage(this, name, self.teachers[name], stored, tokens).ref
                    signals[DISTRIBUTIONS + name] = store
                    tokens = tokens or store
        if needs.reference and self.entry.train.backend != "trl":  # TRL computes it as it trains
            signals["reference"] = reference_stage(this).ref
        return train_stage(this, signals, teacher, self.round_seed("train", number=number))

    def labels(self, number: int) -> dict[str, Any]:
        return {"row": self.name, "round": number + 1 if self.entry.row_options.rounds > 1 else None, "seed": self.seed}

    def round_seed(self, *names: str, number: int) -> int:
        """A seed for one step of one round; the first round's is the same whether there are more rounds or not."""
        # Otherwise rows of other rounds could not share their first round.
        return seed_of(*names, self.seed) if number == 0 else seed_of(*names, self.seed, "round", number)
