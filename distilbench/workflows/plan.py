"""A recipe becomes a plan: what would run, what of it is in the store, what the rest costs, what stands in the way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict, Unpack

from distilbench.plugins import load_registry
from distilbench.workflows.specs import overrides_of
from harness.contracts.benchmark import Metric, against
from harness.contracts.stage import Cost, Stage
from harness.contracts.target import Target
from harness.errors import UserError, near, unknown_choice
from harness.plan.plan import Plan, make_plan
from harness.plan.preflight import check
from harness.recipe.reader import PLUGIN
from harness.recipe.recipe import NotApplicable, Recipe, load_recipe
from harness.recipe.sections import MODELS
from harness.run.scheduler import all_stages, pending_stages
from harness.stages.kind import PlanIssue
from harness.stats import FEW_QUESTIONS
from reports.tables.power import Variances, detected, pilot_variances, questions_needed, seeds_needed
from reports.tables.summary import scale
from reports.targets import find_target, find_targets
from results.run.find import find_run
from results.run.lineage import Lineage
from results.run.record import Run, check_runs, read_run, recorded_targets, runs_of, section
from results.run.results import read_scored
from results.store.store import ArtifactStore

if TYPE_CHECKING:
    from harness.recipe.yaml_source import Override

ALL = "all"  # among ``methods``: every row of the recipe, and every method that is known
_STATED = re.compile(r"([\w.-]+)=([0-9]+(?:\.[0-9]+)?)(?:/([0-9]+(?:\.[0-9]+)?))?")
SHORTCUTS = {"baseline": "baseline", "max_cost": "ask.max_cost", "executor": "compute.executor"}


class WorkOptions(TypedDict, total=False):
    """Keyword arguments of every function that plans work; each has the meaning of the command's option."""

    set: Mapping[str, object] | Sequence[str]
    """Changes of the recipe: ``{"train.learning_rate": 5e-5}`` or ``["train.learning_rate=5e-5"]``."""
    max_cost: float | None
    """Dollars that judging may cost."""
    executor: str | None
    """What runs the stages (``distilbench list executors``), in place of the recipe's."""
    plugins: Sequence[str]
    """Python files or modules with entries of your own."""
    runs: str | Path
    """Folder of all runs, their store, and the ledger of judge calls; by default ``runs``."""


class RunOptions(WorkOptions, total=False):
    """Keyword arguments of ``plan``, ``run`` and ``reproduce``."""

    methods: Sequence[str]
    """Rows to make after the two models, or ``["all"]``; by default those of the target that the recipe has."""
    seeds: Sequence[int]
    """Training seeds, in place of the recipe's."""
    baseline: str | None
    """The row whose answers all others are compared with, in place of the benchmarks' own baselines."""
    limit: int | None
    """Questions of each benchmark that are asked, at most; a larger limit holds those of a smaller one."""


@dataclass(frozen=True)
class WorkPlan:
    """Plans by target, at least one, over one store; what they share is done once. ``unfit``: why others are out.

    ``distilbench.plan`` makes it, and ``simulate`` takes it. A ``Stage`` has a ``label`` for people.
    """

    plans: Mapping[str, Plan]
    runs: Path
    plugins: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()

    @property
    def first(self) -> Plan:
        """For what all plans share: the recipe's name, its ``compute`` section, the registry."""
        return next(iter(self.plans.values()))

    @property
    def folder(self) -> Path:
        """``runs/NAME``: holds ``report/`` and a folder per target."""
        return self.runs / self.first.recipe.name

    def record(self, target: str) -> Path:
        return self.folder / target / "run.json"

    @cached_property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.runs / "store")

    @cached_property
    def stages(self) -> list[Stage]:
        """Every stage once, inputs before their readers."""
        return all_stages(list(self.plans.values()))

    @cached_property
    def pending_stages(self) -> list[Stage]:
        """The stages to run: scores, answers and judgments that are not in the store, and what these need."""
        stages = {stage.key: stage for plan in self.plans.values() for stage in pending_stages(plan, self.store)}
        return list(stages.values())

    @cached_property
    def findings(self) -> list[PlanIssue]:
        """The checks before a run: problems, which would stop it, and notes."""
        texts: dict[str, PlanIssue] = {}
        pending = {stage.key for stage in self.pending_stages}
        for plan in self.plans.values():
            # Work that two plans share is checked with the first, so that disk and cost are not counted twice.
            unchecked_stages = [stage for stage in plan.stages if stage.key in pending]
            pending -= {stage.key for stage in unchecked_stages}
            texts |= {
                finding.text: finding for finding in check(plan, unchecked_stages, self.runs, lambda: self.stored_calls)
            }
        return [*texts.values(), *(PlanIssue(False, text) for text in self.changed_code)]

    @cached_property
    def changed_code(self) -> list[str]:
        """For each entry of a plug-in with another code than stages in the store had: what follows."""
        stages = [(stage, *code_and_rest(stage)) for stage in self.pending_stages]
        stored: dict[str, list[tuple[dict[str, str], object]]] = {stage.kind: [] for stage, code, _ in stages if code}
        for ref in (ref for kind in stored for ref in self.store.list(kind)):
            with suppress(KeyError, UserError):  # cleared away, or damaged
                stored[ref.kind].append(code_and_rest(Stage.of(self.store.meta(*ref))))
        names: dict[str, None] = {}
        for stage, code, rest in stages:
            olds = [set(old.values()) for old, old_rest in stored.get(stage.kind, ()) if old_rest == rest]
            changed = [text for text in code.values() if olds and not any(text in old for old in olds)]
            names |= dict.fromkeys(text.rpartition(" ")[0] for text in changed)
        consequence = "has changed since stages in the store were made: they are made again, with all that reads them"
        return [f"the code of {name!r} {consequence}" for name in names]

    def power(
        self,
        pilot: str | Path | None = None,
        spreads: Sequence[str] = (),
        detect: Sequence[str] = (),
        against: str | None = None,
    ) -> dict[str, list[ColumnPower]]:
        """By target, the smallest change that is detected in each column whose reference row is judged.

        Variances: those stated in ``spreads`` (``METRIC=SD[/SD_OF_SEEDS]``: of a question's change, of a score over
        training seeds), else of the ``pilot`` (a finished run's folder; by default this recipe's own run, if it is
        there), else the benchmark's. ``detect`` (``3``, or ``METRIC=3``): changes for which the seeds and the questions
        are told that detect them. ``against``: a row, in place of the target's reference. Raises UserError for a pilot
        that cannot be read, for a spread or a change that is none, for a row that no plan has, and for a column or a
        row of which no change is tested.
        """
        stated, wanted = _read_spreads(spreads, self), _read_changes(detect, self)
        if against is not None and against not in (rows := {row for plan in self.plans.values() for row in plan.rows}):
            raise unknown_choice("row in --against", against, rows)
        found: dict[str, list[ColumnPower]] = {}
        for name, plan in self.plans.items():
            if not (target := find_target(name)).compares_judges:
                target = replace(target, reference=against or target.reference)
                found[name] = list(_columns(plan, target, stated, wanted, _pilot(self, target, pilot)))
        shown = {column.metric.id for columns in found.values() for column in columns}
        absent = [metric for metric in {**stated, **wanted} if metric and metric not in shown]
        if absent or (not shown and (wanted or against is not None)):
            what = (f" of {', '.join(absent)}" if absent else "") + (f" from {against}" if against else "")
            choices = f"choose of {', '.join(sorted(shown))}" if shown else "no trained row is judged beside that row"
            raise UserError(f"{', '.join(self.plans)} will test no change{what}: {choices}.")
        return found

    def cost(self, stages: Iterable[Stage]) -> Cost:
        """An estimate, to a factor of about two, of these of ``stages`` together, without ``stored_calls``."""
        return Cost.total(
            self._plan_by_key[stage.key].costs([stage])[0].without(self.stored_calls.get(stage.key, 0))
            for stage in stages
        )

    @cached_property
    def stored_calls(self) -> dict[str, int]:
        """By key of a stage to run whose answers are there: its judge calls whose replies are in the ledger.

        The judgments may have been made by an older rule, in part, or in one order of two.
        """
        file = self.runs / "ledger.sqlite"
        stages = [stage for stage in self.pending_stages if stage.uses_ledger and stage.inputs]
        if not stages or not file.is_file():
            return {}
        from judges.ledger.ledger import Ledger

        found: dict[str, int] = {}
        # What cannot be read is no reply; the run says what is wrong with it.
        with suppress(UserError), Ledger(file, create=False) as ledger:
            for stage in stages:
                with suppress(UserError, KeyError):
                    keys = self._request_keys(stage)
                    replies = ledger.get(keys)
                    found[stage.key] = sum(key in replies for key in keys)
        return found

    def _request_keys(self, stage: Stage) -> list[str]:
        """Of its judge calls. Raises UserError or KeyError where answers or the judge are not there."""
        from judges.ledger.ledger import request_key

        plan, lineage = self._plan_by_key[stage.key], Lineage(self.store)
        name = stage.params["benchmark"]
        benchmark, judging = plan.graph.benchmarks[name], plan.graph.judge_of(name)
        if judging is None:
            return []
        judge = judging.make()
        answers = lineage.answers(stage.inputs["answers"])
        questions = benchmark.questions
        if "baseline" in stage.inputs:
            baseline = lineage.answers(stage.inputs["baseline"])
            questions = against(questions, list(baseline.values()), stage.params["baseline"])
        return [
            request_key(judge.endpoint, judge.model, request)
            for question in questions
            for request in benchmark.benchmark.requests(question, answers[question.id], benchmark.config)
        ]

    @cached_property
    def _plan_by_key(self) -> dict[str, Plan]:
        return {key: plan for plan in self.plans.values() for key in plan.graph.stages}


def plan(targets: str = "table1", recipe: str = "pocket", **options: Unpack[RunOptions]) -> WorkPlan:
    """Plan targets (one, several with commas, or ``all``) of a recipe (a shipped name or a YAML file). Runs nothing.

    Raises UserError that lists everything that is wrong with recipe, plug-ins and options; or no target fits.
    """
    runs, plugins = Path(options.get("runs", "runs")), tuple(options.get("plugins", ()))
    check_runs(runs)
    registry = load_registry(plugins)
    methods = options.get("methods", ())
    # A method that the recipe does not list (a plug-in's) becomes a row with its default options.
    method_names = [name for name in (registry.methods if ALL in methods else methods) if name in registry.methods]
    changes: list[Override] = [*((f'methods."{name}"', {}) for name in method_names), *changes_of(options)]
    if seeds := options.get("seeds"):
        changes.append(("seeds", list(seeds)))
    plans: dict[str, Plan] = {}
    # ``all`` makes what a family can have: a target that does not fit is named, and no error unless it is the only one.
    unfit: list[str] = []
    for target in find_targets(targets):
        try:
            resolved_recipe = load_recipe(recipe, changes, registry, target)
            if further := [*both_orders(resolved_recipe), *limits(resolved_recipe, options.get("limit"))]:
                resolved_recipe = load_recipe(recipe, [*further, *changes], registry, target)
        except NotApplicable as error:
            unfit.append(str(error))
        else:
            plans[target.name] = make_plan(resolved_recipe, registry, rows_of(target, resolved_recipe, methods))
    if not plans:
        raise UserError("\n".join(unfit))
    return WorkPlan(plans, runs, plugins, tuple(unfit))


def both_orders(recipe: Recipe) -> list[Override]:
    """Changes by which benchmarks are judged in both orders where a recipe names a baseline."""
    # The judges' position bias would decide between two models that are this close. Only a checked recipe knows which
    # of its benchmarks have the option.
    names = [
        name
        for name, entry in recipe.benchmarks.items()
        if (recipe.baseline or entry.baseline) is not None and hasattr(entry.config, "order")
    ]
    return [(f'benchmarks."{name}".order', "both") for name in names]


def limits(recipe: Recipe, limit: int | None) -> list[Override]:
    """Changes by which benchmarks ask at most so many questions, where they have the option."""
    configs = {name: entry.config for name, entry in recipe.benchmarks.items() if hasattr(entry.config, "limit")}
    return [
        (f'benchmarks."{name}".limit', limit)
        for name, config in configs.items()
        if limit is not None and (config.limit is None or config.limit > limit)
    ]


def code_and_rest(stage: Stage) -> tuple[dict[str, str], object]:
    """The code of plug-ins in a stage's key, and all else that is in it."""
    code = {name: value for name, value in stage.params.items() if name.endswith("_code")}
    rest = {name: value for name, value in stage.params.items() if name not in code}
    return code, (rest, dict(stage.inputs), stage.version)


def changes_of(options: WorkOptions, shortcuts: Mapping[str, str] = SHORTCUTS) -> list[Override]:
    """The changes of the recipe that the options stand for: ``set``, then one for each of ``shortcuts``."""
    values_by_name: Mapping[str, object] = options
    values = {path: values_by_name.get(name) for name, path in shortcuts.items()}
    return [*overrides_of(options.get("set", ())), *((p, value) for p, value in values.items() if value is not None)]


def rows_of(target: Target, recipe: Recipe, selection: Sequence[str]) -> list[str]:
    """The rows to make: those chosen, after the two models, or the target's that the recipe has.

    An ``open`` target takes the recipe's other rows too: optional ones when they are chosen, and when ``all`` is.
    """
    if not selection or ALL in selection:
        names = [name for name, row in recipe.methods.items() if selection or not row.row_options.optional]
        if not target.open:
            names = [name for name in recipe.methods if name in target.rows]
        rows = [row for row in target.rows if row in MODELS or row in names]
        return rows + [name for name in names if name not in rows]
    choices = [*MODELS, *recipe.methods]
    unknown_names = [name for name in selection if name not in choices]
    if unknown_names:
        guesses = [f"Did you mean {guess!r} for {name!r}? " for name in unknown_names if (guess := near(name, choices))]
        choice = f"{''.join(guesses)}It has: {', '.join(choices)}. {PLUGIN}"
        raise UserError(f"--methods: the recipe has no {', '.join(unknown_names)}. {choice}")
    models = [name for name in MODELS if target.open or name in target.rows]
    return [*(name for name in models if name not in selection), *selection]


@dataclass(frozen=True)
class ColumnPower:
    """``change``: at 80% power, in the metric's unit; ``None``: none of its scale, or ``is_unknown``."""

    metric: Metric
    questions: int
    change: float | None
    basis: str
    """Where the variances come from, in words."""
    knows_seeds: bool
    """Whether the variance of training seeds is in it."""
    is_unknown: bool = False
    """Whether no variance is known at all."""
    too_few: int = 0
    """Questions below which there is no score, or no test, where the plan has fewer."""
    wanted: float | None = None
    """A change to detect: at the plan's questions it needs ``seeds_needed``, at its seeds ``questions_needed``;
    ``None``: no number suffices, or it is not known."""
    seeds_needed: int | None = None
    questions_needed: int | None = None
    doubts: tuple[str, ...] = ()
    """Why the pilot's variances may not be those of this plan."""


def _read_spreads(spreads: Iterable[str], work: WorkPlan) -> dict[str, Variances]:
    metrics = {metric.id for plan in work.plans.values() for metric, _ in _metrics(plan)}
    stated: dict[str, Variances] = {}
    for text in spreads:
        match = _STATED.fullmatch(text.strip())
        if match is None:
            raise UserError(f"--spread {text}: write METRIC=SD or METRIC=SD/SD_OF_SEEDS, as in mt_bench.score=3/0.2.")
        metric, question, seed = match.groups()
        if metric not in metrics:
            raise unknown_choice("metric in --spread", metric, metrics)
        stated[metric] = Variances(float(question) ** 2, seed=float(seed) ** 2 if seed else None)
    return stated


def _read_changes(changes: Iterable[str], work: WorkPlan) -> dict[str, float]:
    """By metric; under the empty name that of all others."""
    metrics = {metric.id for plan in work.plans.values() for metric, _ in _metrics(plan)}
    wanted: dict[str, float] = {}
    for text in changes:
        metric, _, points = text.strip().rpartition("=")
        if metric and metric not in metrics:
            raise unknown_choice("metric in --detect", metric, metrics)
        try:
            wanted[metric] = float(points)
        except ValueError:
            wanted[metric] = 0.0
        if not 0 < wanted[metric] < float("inf"):
            raise UserError(f"--detect {text}: write a change above 0, as in 3 or mt_bench.score=0.3.")
    return wanted


class _Pilot(NamedTuple):
    variances: Mapping[str, list[Variances]]
    name: str
    doubts: tuple[str, ...]


def pilot_doubts(run: Run, prompts: int) -> Iterable[str]:
    """Why a pilot's variances may not be those of a plan that trains on so many prompts."""
    if len(run.seeds) == 2:
        yield "variance of seeds from 2 seeds: hardly known"
    n = section(run.recipe, "prompts").get("n")
    if n is not None and n != prompts:
        yield f"the pilot trained on {n} prompts, this plan on {prompts}: variances may differ"


def _pilot(work: WorkPlan, target: Target, pilot: str | Path | None) -> _Pilot:
    try:
        folder = work.folder if pilot is None else find_run(pilot, work.runs).folder
        tables = [name for name in recorded_targets(folder) if not find_target(name).compares_judges]
        name = target.name if target.name in tables else next(iter(tables), target.name)
        file = folder / name / "run.json"
        results = read_scored(read_run(file), ArtifactStore(runs_of(folder) / "store"), file)
        variances = pilot_variances(results, replace(find_target(name), reference=target.reference))
        return _Pilot(variances, str(folder), tuple(pilot_doubts(results.run, work.first.recipe.prompts.n)))
    except UserError:
        if pilot is not None:
            raise
        return _Pilot({}, "", ())  # the usual case: nothing has run


def _metrics(plan: Plan) -> Iterable[tuple[Metric, float | None]]:
    """Metrics with the benchmark's own spread."""
    for name in plan.recipe.benchmarks:
        benchmark = plan.graph.benchmarks[name].benchmark
        spreads: Sequence[float | None] = benchmark.spreads or (None,) * len(benchmark.metrics)
        yield from zip(benchmark.metrics, spreads, strict=True)


def _columns(
    plan: Plan, target: Target, stated: Mapping[str, Variances], wanted: Mapping[str, float], pilot: _Pilot
) -> Iterable[ColumnPower]:
    seeds = len(plan.recipe.seeds)
    for metric, spread in _metrics(plan):
        name = metric.id.partition(".")[0]
        judged = {entrant.row for entrant in plan.entrants if name in entrant.judgments}
        trained = judged - {*MODELS}
        has_changes = target.reference in judged and trained - {target.reference}
        if not has_changes or not (target.open or metric.id in target.columns):
            continue
        if metric.id in stated:
            variances, basis = [stated[metric.id]], "stated"
        elif metric.id in pilot.variances:
            variances, basis = pilot.variances[metric.id], f"as in {pilot.name}"
        else:
            variances, basis = [] if spread is None else [Variances(spread**2)], "assumed" if spread else "not known"
        if basis in ("stated", "assumed"):
            source = plan.graph.benchmarks[name].benchmark.spread_source if basis == "assumed" else ""
            basis += f": {variances[0].question ** 0.5:g} per question" + (f", from {source}" if source else "")
            basis += "" if variances[0].seed is None else f", {variances[0].seed ** 0.5:g} per seed"
        questions, sides = len(plan.graph.benchmarks[name].questions), 1 if target.reference in MODELS else 2
        change, least = detected(variances, questions, seeds, len(trained), sides), max(metric.least, FEW_QUESTIONS)
        limits, is_enough = scale(metric), questions >= least
        if not is_enough or (change is not None and limits is not None and change > limits[1] - limits[0]):
            change = None
        knows_seeds = all(row.seed is not None for row in variances)
        points = wanted.get(metric.id, wanted.get(""))
        needs: tuple[int | None, int | None] = (None, None)
        if points is not None:
            needs = (
                seeds_needed(points, variances, questions, len(trained), sides) if is_enough else None,
                questions_needed(points, variances, seeds, len(trained), sides, least),
            )
        doubts = pilot.doubts if basis == f"as in {pilot.name}" else ()
        yield ColumnPower(
            metric, questions, change, basis, knows_seeds, not variances, 0 if is_enough else least, points, *needs,
            doubts,
        )  # fmt: skip
