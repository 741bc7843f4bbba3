"""Makes the stages of a recipe's rows: from the prompts to answers, judgments and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from harness.contracts.registry import Registry
from harness.contracts.stage import Ref, Stage
from harness.errors import UserError
from harness.models.vocabulary import checkpoint_difference
from harness.plan.training_rows import TrainingRow
from harness.recipe.recipe import Recipe
from harness.recipe.sections import MODELS
from harness.stages.graph import Model, StageGraph
from harness.stages.kinds.answer import answer_stage
from harness.stages.kinds.contamination import contamination_stage
from harness.stages.kinds.dataset_pairs import dataset_pairs_stage
from harness.stages.kinds.judge import judge_stage
from harness.stages.kinds.prompts import prompts_stage
from harness.stages.kinds.score import score_stage

TUNED = "tuned teacher"


@dataclass(frozen=True)
class PlannedRow:
    """One row of the table under one seed: the stages that answer and judge it, or why there are none."""

    row: str
    seed: int
    answers: Mapping[str, Stage] = field(default_factory=dict)
    """Benchmark to its answer stage."""
    judgments: Mapping[str, Stage] = field(default_factory=dict)
    """Benchmark to its judge stage."""
    unavailable: str | None = None
    """Why this row cannot exist in this family: "needs a shared vocabulary"."""

    @property
    def name(self) -> str:
        """Unique within a plan: ``dpo/0``."""
        return f"{self.row}/{self.seed}"


class Planner:
    """Plans rows one by one. What rows share is planned once."""

    def __init__(self, recipe: Recipe, registry: Registry) -> None:
        self.graph = StageGraph(recipe, registry)
        self.recipe, self.registry = recipe, registry
        self._students: dict[tuple[str, int], Stage] = {}

    @cached_property
    def vocabulary(self) -> str | None:
        """What differs between the vocabularies of teacher and student; ``None``: nothing."""
        return checkpoint_difference(self.graph.models["student"], self.graph.models["teacher"])

    @cached_property
    def prompts(self) -> Stage:
        return prompts_stage(self.graph)

    @cached_property
    def gate(self) -> tuple[Ref, ...]:
        """What sampling and training wait for: prompts that are test questions must stop the run before."""
        return (contamination_stage(self.graph, self.prompts).ref,)

    def student(self, row: str, seed: int) -> Stage:
        # Asked for by every benchmark and by rows that start from this one: a dictionary, not a walk for each.
        if (row, seed) not in self._students:
            entry = self.recipe.methods[row]
            needs = self.registry.methods[entry.method].needs
            start, first = entry.row_options.start or needs.start, self.graph.model("student")
            if start is not None:
                first = replace(first, trained=self.student(start, seed))
            family = self.graph.model("teacher")
            teachers: dict[str, Model] = {
                name: replace(family, trained=self.tuned_teacher) if name == "tuned" else family
                for name in (needs.teachers if needs.signal == "token" else ())
            }
            made = TrainingRow(self.graph, row, entry, seed, self.prompts, self.gate, first, teachers)
            self._students[row, seed] = made.last_round()
        return self._students[row, seed]

    @property
    def tuned_on_dataset(self) -> bool:
        """Whether the teacher is tuned on the source's pairs. Raises UserError for pairs that the source lacks."""
        spec, source = self.recipe.tuned_teacher, self.graph.source
        if spec is None:
            raise UserError("a method needs a tuned teacher: say in tuned_teacher.method which method tunes it.")
        if spec.pairs == "dataset" and not source.pairs:
            raise UserError(
                f"tuned_teacher.pairs = 'dataset', but prompts from {source.name!r} have no rejected answers. "
                "Set tuned_teacher.pairs=samples: the teacher's own answers, ranked by it."
            )
        return spec.pairs == "dataset" or (spec.pairs == "auto" and source.pairs)

    @cached_property
    def tuned_teacher(self) -> Stage:
        """The family's teacher after preference tuning: one for all rows and seeds."""
        from_dataset, spec = self.tuned_on_dataset, self.recipe.tuned_teacher
        if spec is None:
            raise AssertionError("checked above")
        teacher = self.graph.model("teacher")
        row = TrainingRow(self.graph, TUNED, spec.training, 0, self.prompts, self.gate, teacher, {})
        if from_dataset:
            samples = dataset_pairs_stage(self.graph, self.prompts)
        else:
            samples = row.reward(row.sample(teacher, spec.training.sampling.n, "samples", 0), 0)
        return row.train(0, teacher, {"prompts": self.prompts, "samples": samples})

    @property
    def tuned_on(self) -> str:
        """Method and data of the tuned teacher; empty where no row has needed it."""
        spec = self.recipe.tuned_teacher
        if spec is None or "tuned_teacher" not in vars(self):
            return ""
        dataset, own = "the prompts' chosen and rejected answers", "its own answers, ranked by it"
        return f"{spec.training.method} on {dataset if self.tuned_on_dataset else own}"

    def obstacle(self, row: str) -> str | None:
        """Why a row cannot exist with this family and these prompts, or ``None``."""
        entry, source = self.recipe.methods[row], self.graph.source
        needs = self.registry.methods[entry.method].needs
        if needs.shared_vocabulary and self.vocabulary:
            return f"needs a shared vocabulary ({self.vocabulary})"
        if "rejected" in needs.responses and not source.pairs:
            return f"needs rejected answers (prompts from {source.name!r} have none)"
        start = entry.row_options.start or needs.start
        below = None if start is None else self.obstacle(start)
        return below and f"starts from {start}, which {below}"

    def row(self, row: str, seed: int) -> PlannedRow:
        """All stages of one row under one seed up to its judgments."""
        obstacle = None if row in MODELS else self.obstacle(row)
        if obstacle:
            return PlannedRow(row, seed, unavailable=obstacle)
        return self.judged(row, seed, self.recipe.benchmarks)

    def judged(self, row: str, seed: int, benchmarks: Sequence[str] | Mapping[str, object]) -> PlannedRow:
        """Answers to these benchmarks and their judgments; the baseline is not compared with itself."""
        answers = {name: self.answers(row, name, seed) for name in benchmarks}
        judgments = {
            name: self.graph.add(
                judge_stage(
                    stage,
                    self.graph.benchmarks[name],
                    self.graph.judge_of(name),
                    self.recipe.ask,
                    self.baseline(name),
                )
            )
            for name, stage in answers.items()
            if row != self.recipe.baseline or not self.graph.compares(name)
        }
        return PlannedRow(row, seed, answers, judgments)

    def baseline(self, benchmark: str) -> Stage | None:
        """Answers of the recipe's own baseline: one set for all rows, of the first seed."""
        if self.recipe.baseline is None or not self.graph.compares(benchmark):
            return None
        # One opponent for all rows and seeds: an opponent per seed would add its own noise between seeds.
        return self.answers(self.recipe.baseline, benchmark, self.recipe.seeds[0])

    def answers(self, row: str, benchmark: str, seed: int) -> Stage:
        if row in self.recipe.methods:
            model = replace(self.graph.model("student"), trained=self.student(row, seed))
        else:
            model = self.graph.model(row)
        return answer_stage(self.graph, benchmark, model, row, seed)

    def scores(self, benchmark: str, rows: Sequence[PlannedRow]) -> Stage:
        judgments = [row.judgments[benchmark] for row in rows]
        replicates = self.recipe.statistics.replicates
        return self.graph.add(score_stage(self.graph.benchmarks[benchmark], judgments, replicates))
