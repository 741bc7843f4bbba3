"""From a recipe to a graph of stages: pure and fast (no torch). Keys decide which stages rows share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from harness.contracts.method import DroppedPrompt
from harness.contracts.registry import Registry
from harness.contracts.stage import Cost, Ref, Stage
from harness.errors import UserError, unknown_choice
from harness.models.checkpoint import resolve
from harness.models.published_sizes import checkpoint_difference
from harness.models.server_model import ServerOptions
from harness.recipe.recipe import Recipe
from harness.recipe.sections import MODELS
from harness.stages import STAGES
from harness.stages.graph import Model, StageGraph, TrainingRow
from harness.stages.kinds.answer import answer_stage, file_answer_stage, server_answer_stage
from harness.stages.kinds.contamination import contamination_stage
from harness.stages.kinds.judge import judge_stage
from harness.stages.kinds.prompts import dataset_pairs_stage, prompts_stage
from harness.stages.kinds.reward import reward_stage
from harness.stages.kinds.sample import sample_stage, split_pool_stage
from harness.stages.kinds.score import score_stage
from harness.stages.kinds.stored_signals import distributions_stage, reference_stage
from harness.stages.kinds.train import DISTRIBUTIONS, train_stage
from harness.types import Group, Prompt

TUNED = "tuned teacher"
PLACEHOLDER = "pocket:student"  # in a recipe's family where there is none: an evaluation trains nothing


@dataclass(frozen=True)
class PlannedRow:
    """A row under one seed: its answer and judge stages by benchmark, or why it is not available."""

    row: str
    seed: int
    answers: Mapping[str, Stage] = field(default_factory=dict)
    judgments: Mapping[str, Stage] = field(default_factory=dict)
    unavailable: str | None = None
    """Why: "needs a shared vocabulary"."""

    @property
    def name(self) -> str:
        return f"{self.row}/{self.seed}"


class Planner:
    """Adds the stages of a recipe's rows to one graph, so that rows share equal stages."""

    def __init__(self, recipe: Recipe, registry: Registry) -> None:
        self.graph = StageGraph(recipe, registry)
        self.recipe, self.registry = recipe, registry
        self.tuned_on = ""
        """Method and data of the tuned teacher; empty where no row has needed it."""
        self._students: dict[tuple[str, int], Stage] = {}

    @cached_property
    def vocabulary(self) -> str | None:
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
            start, start_model = entry.row_options.start or needs.start, self.graph.model("student")
            if start is not None:
                start_model = replace(start_model, trained=self.student(start, seed))
            family = self.graph.model("teacher")
            teachers: dict[str, Model] = {
                name: replace(family, trained=self.tuned_teacher) if name == "tuned" else family
                for name in (needs.teachers if needs.signal == "token" else ())
            }
            training = TrainingRow(self.graph, row, entry, seed, self.prompts, self.gate)
            self._students[row, seed] = train_rounds(training, start_model, teachers)
        return self._students[row, seed]

    @cached_property
    def tuned_teacher(self) -> Stage:
        """One for all rows and seeds. Raises UserError without a method for it, or with pairs that the source lacks."""
        spec, source, teacher = self.recipe.tuned_teacher, self.graph.source, self.graph.model("teacher")
        if spec is None:
            raise UserError("a method needs a tuned teacher: say in tuned_teacher.method which method tunes it.")
        if spec.pairs == "dataset" and not source.pairs:
            raise UserError(
                f"tuned_teacher.pairs = 'dataset', but prompts from {source.name!r} have no rejected answers. "
                "Set tuned_teacher.pairs=samples: the teacher's own answers, ranked by it."
            )
        row = TrainingRow(self.graph, TUNED, spec.training, 0, self.prompts, self.gate)
        if spec.pairs == "dataset" or (spec.pairs == "auto" and source.pairs):
            self.tuned_on = f"{spec.training.method} on the prompts' chosen and rejected answers"
            data = {"prompts": self.prompts, "samples": dataset_pairs_stage(self.graph, self.prompts)}
        else:
            self.tuned_on = f"{spec.training.method} on its own answers, ranked by it"
            data = round_data(row, 0, teacher, teacher)
        return train_round(row, 0, teacher, data, {})

    def obstacle(self, row: str) -> str | None:
        entry, source = self.recipe.methods[row], self.graph.source
        needs = self.registry.methods[entry.method].needs
        if needs.signal == "token" and self.vocabulary:
            return f"needs a shared vocabulary ({self.vocabulary})"
        if "golden" in needs.responses and not source.pin.golden:
            # A method that would drop every prompt without a golden answer has nothing to train on.
            blank = Group(Prompt("blank", ({"role": "user", "content": "-"},)))
            if isinstance(self.registry.methods[entry.method].rows(blank, entry.config), DroppedPrompt):
                return f"needs golden answers (prompts from {source.name!r} have none)"
        if "rejected" in needs.responses and not source.pairs:
            return f"needs rejected answers (prompts from {source.name!r} have none)"
        start = entry.row_options.start or needs.start
        start_obstacle = None if start is None else self.obstacle(start)
        return start_obstacle and f"starts from {start}, which {start_obstacle}"

    def row(self, row: str, seed: int) -> PlannedRow:
        obstacle = None if row in MODELS else self.obstacle(row)
        if obstacle:
            return PlannedRow(row, seed, unavailable=obstacle)
        return self.plan_row(row, seed, self.recipe.benchmarks)

    def plan_row(self, row: str, seed: int, benchmarks: Iterable[str]) -> PlannedRow:
        answers = {name: self.answers(row, name, seed) for name in benchmarks}
        judgments = {
            name: judge_stage(self.graph, name, stage, self.baseline(name))
            for name, stage in answers.items()
            if row != self.graph.baseline_of(name)
        }
        return PlannedRow(row, seed, answers, judgments)

    def baseline(self, benchmark: str) -> Stage | None:
        row = self.graph.baseline_of(benchmark)
        # One opponent for all rows and seeds: an opponent per seed would add its own noise between seeds.
        return None if row is None else self.answers(row, benchmark, self.recipe.seeds[0])

    def answers(self, row: str, benchmark: str, seed: int) -> Stage:
        model = self.graph.model("student" if row in self.recipe.methods else row)
        if row in self.recipe.methods:
            model = replace(model, trained=self.student(row, seed))
        return answer_stage(self.graph, benchmark, model, row, seed)

    def scores(self, benchmark: str, rows: Sequence[PlannedRow]) -> dict[str, Stage]:
        """The score stage of each of these rows that is judged on ``benchmark``, by ``PlannedRow.name``: one for all,
        because length control shares terms among them."""
        judged_rows = [row for row in rows if benchmark in row.judgments]
        if not judged_rows:
            return {}
        stage = score_stage(self.graph, benchmark, [row.judgments[benchmark] for row in judged_rows])
        return {row.name: stage for row in judged_rows}


@dataclass(frozen=True)
class Plan:
    """What a recipe's table needs: stages in order, and its rows with the stages that they come from."""

    recipe: Recipe
    rows: tuple[str, ...]
    entrants: tuple[PlannedRow, ...]
    planner: Planner
    stages: tuple[Stage, ...]
    """In an order in which every input comes before its reader; score stages are last."""
    scores: tuple[Stage, ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    """Row to what tables call it, where it is neither of the family nor a method."""
    _known_costs: dict[str, Cost] = field(default_factory=dict, repr=False, compare=False)

    @property
    def graph(self) -> StageGraph:
        return self.planner.graph

    def costs(self, stages: Iterable[Stage]) -> list[Cost]:
        known = self._known_costs  # asked for several times: by kind, and for the memory
        return [known.get(s.key) or known.setdefault(s.key, STAGES[s.kind].cost(s, self.graph)) for s in stages]


def make_plan(recipe: Recipe, registry: Registry, rows: Sequence[str]) -> Plan:
    """Raises UserError for a row that is neither a model nor a method of the recipe."""
    choices = [*MODELS, *recipe.methods]
    for row in rows:
        if row not in choices:
            raise unknown_choice("row", row, choices, f"Rows are the methods of recipe {recipe.name!r}.")
    if recipe.baseline not in (None, *choices):
        raise unknown_choice("baseline", str(recipe.baseline), choices, "A baseline is a row of the recipe.")
    return plan_rows(Planner(recipe, registry), rows)


def plan_rows(planner: Planner, rows: Sequence[str], titles: Mapping[str, str] | None = None) -> Plan:
    recipe = planner.recipe
    entrants = [planner.row(row, seed) for seed in recipe.seeds for row in rows]
    # After all rows: a score reads other entrants of its benchmark too.
    stages_by_row = [stage for name in recipe.benchmarks for stage in planner.scores(name, entrants).values()]
    scores = tuple({stage.key: stage for stage in stages_by_row}.values())
    stages = tuple(planner.graph.stages.values())
    return Plan(recipe, tuple(rows), tuple(entrants), planner, stages, scores, titles or {})


def train_rounds(row: TrainingRow, start: Model, teachers: Mapping[str, Model]) -> Stage:
    """The row's student (PAD section 4.4; "k/m" in its Table 2: k rounds, m responses); a fresh optimiser per round.

    Rankings of disjoint blocks of responses are independent under Plackett-Luce, so KL(P || Q) of all these rankings
    together is the sum of the blocks' KLs. The JSD is not: the sum, which rounds minimise, is an upper bound of the
    joint one (Appendix A claims equality). Neither bounds the divergence of one ranking of all responses.
    ``tests/methods/test_rounds.py`` has the numbers.
    """
    student = start
    for number in range(row.rounds):
        stage = train_round(row, number, student, round_data(row, number, student, start), teachers)
        student = replace(start, trained=stage)
    return stage


def round_data(row: TrainingRow, number: int, student: Model, start: Model) -> dict[str, Stage]:
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
    needs, teacher, signals = row.method.needs, None, dict[str, Stage]()
    if needs.signal == "token":
        storage = row.method.storage(row.entry.config)
        if storage is None:
            teacher = teachers[needs.teachers[0]]
        else:
            tokens = None  # the first teacher decides which tokens are kept for all
            for name in needs.teachers:
                store = distributions_stage(row, data, name, teachers[name], storage, tokens)
                signals[DISTRIBUTIONS + name] = store
                tokens = tokens or store
    if needs.reference and not row.entry.train.with_trl:  # TRL computes it as it trains
        signals["reference"] = reference_stage(row, number, student, data)
    return train_stage(row, number, student, teacher, {**data, **signals})


@dataclass(frozen=True)
class Candidate:
    row: str
    checkpoint: str | None = None
    """``pocket:NAME``, a folder, or a hub id; ``None``: it is behind a server."""
    endpoint: ServerOptions | None = None
    answers: Mapping[str, Path] = field(default_factory=dict)
    """Files of ``Answer`` records by benchmark; then there is no model."""

    @property
    def text(self) -> str:
        if self.answers:
            return f"answers of {self.row}"
        return self.checkpoint or (self.endpoint.model if self.endpoint else "")


class EvaluationPlanner(Planner):
    """Plans answers of candidates. Raises UserError for a checkpoint that is not there."""

    def __init__(self, recipe: Recipe, registry: Registry, candidates: Sequence[Candidate]) -> None:
        super().__init__(recipe, registry)
        self.candidates = {candidate.row: candidate for candidate in candidates}
        for row, candidate in self.candidates.items():
            if not candidate.answers and candidate.endpoint is None:
                self.graph.models[row] = resolve(str(candidate.checkpoint))

    def row(self, row: str, seed: int) -> PlannedRow:
        files = self.candidates[row].answers
        return self.plan_row(row, seed, [name for name in self.recipe.benchmarks if not files or name in files])

    def answers(self, row: str, benchmark: str, seed: int) -> Stage:
        candidate = self.candidates.get(row)
        if candidate is not None and candidate.answers:
            return file_answer_stage(self.graph, benchmark, candidate.answers.get(benchmark), row, seed)
        if candidate is not None and candidate.endpoint is not None:
            return server_answer_stage(self.graph, benchmark, candidate.endpoint, row, seed)
        return super().answers(row, benchmark, seed)


def make_evaluation(recipe: Recipe, registry: Registry, candidates: Sequence[Candidate], rows: Sequence[str]) -> Plan:
    """The plan that evaluates ``rows``; further candidates only answer (a baseline that is no row)."""
    titles = {candidate.row: candidate.row for candidate in candidates}
    return plan_rows(EvaluationPlanner(recipe, registry, candidates), rows, titles)
