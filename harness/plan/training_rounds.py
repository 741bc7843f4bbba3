"""How a row's student comes to be: its stages from the prompts to the trained checkpoint, round by round.

One round is: the current student answers the training prompts, the teacher rewards the answers, the student is trained
on them. A row with ``rounds: k`` does that k times, m = ``sampling.n`` responses each (PAD section 4.4; "k/m" in its
Table 2); with ``resample: false`` all rounds share one pool of k m responses of the first student, dealt out at
random into k disjoint blocks of m. Each round starts from the checkpoint of the round before with a fresh optimiser
and a whole learning-rate schedule, and for a method with a reference (DPO) that checkpoint is the reference. So rows
that differ in their rounds alone share the rounds that they have in common, unless one schedule spans all rounds
(``train: {schedule_over: run}``).

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
from dataclasses import replace

from harness.contracts.stage import Stage
from harness.stages.graph import Model
from harness.stages.kinds.reference_logps import reference_stage
from harness.stages.kinds.reward import reward_stage
from harness.stages.kinds.sample import sample_stage
from harness.stages.kinds.split_pool import split_pool_stage
from harness.stages.kinds.teacher_distributions import distributions_stage
from harness.stages.kinds.train import DISTRIBUTIONS, train_stage
from harness.stages.training_row import TrainingRow


def train_rounds(row: TrainingRow, start: Model, teachers: Mapping[str, Model]) -> Stage:
    """The train stage that leaves the row's student. ``teachers``: ``family`` untouched, ``tuned`` by preferences."""
    student = start
    for number in range(row.rounds):
        trained = train_round(row, number, student, round_data(row, number, student, start), teachers)
        student = replace(start, trained=trained)
    return trained


def round_data(row: TrainingRow, number: int, student: Model, start: Model) -> dict[str, Stage]:
    """The artifacts that hold what the method declared, in round ``number`` (from 0)."""
    needs, data, n = row.method.needs, {"prompts": row.prompts}, row.entry.sampling.n
    if "samples" in needs.responses:
        if row.entry.row_options.resample:
            samples = sample_stage(row, number, student, n, "samples")
        else:
            # The pool is the first student's: as many responses as all rounds together would draw.
            samples = split_pool_stage(row, number, sample_stage(row, 0, start, row.rounds * n, "samples"))
        data["samples"] = reward_stage(row, number, samples) if needs.signal == "response" else samples
    if "teacher" in needs.responses:
        # The teacher is the same in every round, so its answers are those of round 0.
        data["responses"] = sample_stage(row, 0, row.graph.model("teacher"), 1, "teacher")
    return data


def train_round(
    row: TrainingRow, number: int, student: Model, data: Mapping[str, Stage], teachers: Mapping[str, Model]
) -> Stage:
    """The model trained by the row's method on these data, after the stages that compute stored signals for it."""
    needs, teacher, signals = row.method.needs, None, dict[str, Stage]()
    if needs.signal == "token":
        stored = row.method.stored(row.entry.config)
        if stored is None:
            teacher = teachers[needs.teachers[0]]
        else:
            tokens = None  # the first teacher decides which tokens are kept for all
            for name in needs.teachers:
                store = distributions_stage(row, data, name, teachers[name], stored, tokens)
                signals[DISTRIBUTIONS + name] = store
                tokens = tokens or store
    if needs.reference and row.entry.train.backend != "trl":  # TRL computes it as it trains
        signals["reference"] = reference_stage(row, number, student, data)
    return train_stage(row, number, student, teacher, {**data, **signals})
