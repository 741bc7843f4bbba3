"""``search``: try settings of a recipe's rows on development questions, each row with the same budget.

A trial is a row like any other: a variant of the recipe's, whose stages have ordinary keys. So trials share the store
with every run, any executor makes them, and the same command finds again what a killed one has finished.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import yaml

from distilbench.plugins import load_registry
from distilbench.searching.questions import check_questions, development_questions, load_tests, untested
from distilbench.workflows.execute import describe, ready_to_run, refuse, title_of, watched
from distilbench.workflows.plan import ALL, WorkOptions, WorkPlan, both_orders, changes_of, limits
from harness.contracts.options import RecipeError
from harness.contracts.registry import Registry
from harness.contracts.stage import RunListener
from harness.contracts.target import Variant
from harness.errors import NOT_FINITE, UNWRITABLE, UserError, unknown_choice
from harness.plan.plan import plan_rows
from harness.plan.trials import ROUND, RandomSampler, Sampler, TpeSampler, Trial, TrialPlanner
from harness.recipe.reader import SECTION, TARGET_KEYS
from harness.recipe.recipe import MOST_TRAININGS, Recipe, load_recipe
from harness.recipe.sections import BenchmarkEntry
from harness.recipe.space import Choices, Space, own_value, parse_space, row_changes, settle_space
from harness.recipe.yaml_source import Override, as_mapping, merge, read_overrides, shipped_recipes
from harness.run.scheduler import RunOutcome, run_plans
from harness.stages.kinds import train
from harness.text import format_count
from reports.tables.search import RowSearch, SearchBudget, overview_table, with_objective
from reports.tables.table import Table
from reports.targets import SEARCH
from reports.write import make_search_table, write_table
from results.run.record import check_runs
from results.run.results import Results, read_scored
from results.run.search_notes import settings
from results.store.locks import write_atomic

TRIALS = 16
SAMPLERS = ("random", "tpe")
DEV = "dev"


class SearchOptions(WorkOptions, total=False):
    """Keyword arguments of ``plan_search`` and ``search``, besides those of ``WorkOptions``."""

    space: Sequence[str]
    """``KNOB=DOMAIN; ...`` for every row, or ``ROW: KNOB=DOMAIN; ...``; by default ``Method.space``."""
    trials: int
    """Settings tried for every row, the recipe's own included; by default 16."""
    seeds: Sequence[int]
    """Training seeds of every trial; by default the recipe's."""
    on: str
    """``dev``, or a JSON-lines file of prompts of your own."""
    sampler: str
    """``random`` or ``tpe``."""
    round_size: int | None
    """Trials that are proposed at once, for ``tpe``."""
    seed: int
    """Seed of the sampler; by default 0."""
    baseline: str | None
    limit: int | None
    """Questions of each benchmark, at most."""


@dataclass(frozen=True, eq=False)
class Search:
    """What is to be searched, checked. ``spaces``: by row; ``skipped``: rows that are not searched, and why; ``notes``:
    remarks on the questions."""

    recipe: str
    changes: tuple[Override, ...]
    registry: Registry
    base: Recipe
    spaces: Mapping[str, Space]
    budget: SearchBudget
    benchmarks: Mapping[str, BenchmarkEntry]
    on: str
    sampler: str
    round_size: int | None
    seed: int
    runs: Path
    plugins: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.runs / self.base.name / SEARCH.name

    def own(self, row: str) -> Trial:
        entry = self.base.methods[row]
        return Trial(row, 0, {knob: own_value(row, entry, knob) for knob in self.spaces[row]})

    def work(self, trials: Sequence[Trial]) -> WorkPlan:
        """The stages of these trials. Raises RecipeError for values that a row cannot have."""
        variants = {
            trial.name: Variant(trial.row, row_changes(trial.values) | {"title": f"{trial.row}, trial {trial.number}"})
            for trial in trials
        }
        target = replace(SEARCH, rows=tuple(variants), variants=variants)
        recipe = replace(load_recipe(self.recipe, self.changes, self.registry, target), benchmarks=self.benchmarks)
        plan = plan_rows(TrialPlanner(recipe, self.registry), list(variants))
        return WorkPlan({SEARCH.name: plan}, self.runs, self.plugins)

    def rounds(self) -> Iterator[tuple[list[Trial], Mapping[str, Sampler]]]:
        """Every round's trials of all rows. Whoever takes one tells the samplers its scores before the next."""
        # Proposals that do not depend on results need no rounds.
        make = RandomSampler if self.round_size is None else TpeSampler
        samplers: dict[str, Sampler] = {row: make(space, self.seed) for row, space in self.spaces.items()}
        size = self.round_size or self.budget.trials
        for first in range(0, self.budget.trials, size):
            numbers = range(first, min(first + size, self.budget.trials))
            trials: list[Trial] = []
            for row, sampler in samplers.items():
                drawn = [number for number in numbers if number]
                trials += [self.own(row)] if 0 in numbers else []
                proposals = zip(drawn, sampler.propose(drawn), strict=True)
                trials += [Trial(row, number, values) for number, values in proposals]
            yield trials, samplers

    def results(self, work: WorkPlan, outcome: RunOutcome) -> Results:
        """The scores that are there, with the column that trials are chosen by."""
        run = describe(work.first, work.store, outcome)
        return with_objective(read_scored(replace(run, finished=False), work.store, self.folder / "run.json"))

    def by_row(self, trials: Sequence[Trial], results: Results) -> list[RowSearch]:
        """The trials of each row with their scores."""
        found = []
        for row, space in self.spaces.items():
            of_row = tuple(trial for trial in trials if trial.row == row)
            budget = replace(self.budget, trials=len(of_row))  # fewer where a failure stopped the search
            title = title_of(row, self.base, self.registry)
            own_results = only_rows(results, {trial.name for trial in of_row})
            found.append(RowSearch(row, title, of_row, space, budget, own_results))
        return found

    def tell(self, trials: Sequence[Trial], samplers: Mapping[str, Sampler], results: Results) -> None:
        for row in self.by_row(trials, results):
            for trial in row.trials:
                samplers[row.row].tell(trial.number, trial.values, row.value(trial))

    @cached_property
    def planned(self) -> tuple[WorkPlan, int]:
        """All trials, and how many of each row are known already. Those that wait for results stand at random values:
        they cost about the same."""
        trials: list[Trial] = []
        known = 0
        for batch, samplers in self.rounds():
            work = self.work(batch)
            trials += batch
            known = len(trials) // len(self.spaces)
            if self.round_size is None or work.pending_stages:
                break
            self.tell(batch, samplers, self.results(work, RunOutcome(len(work.stages), len(work.stages))))
        rest = range(known, self.budget.trials)
        for row, space in self.spaces.items():
            trials += map(Trial, [row] * len(rest), rest, RandomSampler(space, self.seed).propose(rest))
        return self.work(trials), known


@dataclass(frozen=True, eq=False)
class FinishedSearch:
    """What a search found. ``searches``: of each row, its trials with their values, scores and the ``best``;
    ``outcome``: of all rounds; ``unfinished``: what stopped the search before its end; ``unwritten``: why there are no
    files, where nothing may be written."""

    search: Search
    searches: tuple[RowSearch, ...]
    outcome: RunOutcome
    unfinished: str = ""
    unwritten: list[str] = field(default_factory=list)

    @cached_property
    def tables(self) -> list[Table]:
        """One for each row, and after several what was found for each."""
        tables = [make_search_table(row) for row in self.searches]
        return [*tables, overview_table(self.searches)] if len(tables) > 1 else tables

    @property
    def recipe(self) -> str:
        """A recipe that extends the searched one with the best values, and says how they were found."""
        search = self.search
        rows = {row.row: self._row(row, row.best) for row in self.searches if row.best is not None}
        # A shipped recipe goes by its name, another by where it lies from here: the project may be moved.
        is_shipped, file = search.recipe in shipped_recipes(), Path(search.recipe).expanduser()
        parent = search.recipe if is_shipped else os.path.relpath(file.resolve(), search.folder.resolve())
        name = f"{search.base.name}-searched"
        tree = {"extends": parent, "name": name, "title": f"{search.base.title or search.base.name}, searched"}
        text = yaml.safe_dump({**tree, "methods": rows}, sort_keys=False, allow_unicode=True, width=120)
        return f"# {command_of(search)}\n# {self.next_command}\n{text}"

    @property
    def file(self) -> Path:
        """Where ``recipe`` is written."""
        name = "-".join(row.row for row in self.searches) if len(self.searches) <= 3 else ALL
        return self.search.folder / f"{name}.yaml"

    @property
    def next_command(self) -> str:
        """The command that makes the table of ``recipe``."""
        words = ["distilbench", "reproduce", "table1", "--recipe", str(self.file), *plugin_words(self.search)]
        return shlex.join(words)

    def _row(self, row: RowSearch, best: Trial) -> dict[str, Any]:
        search = self.search
        # A search that was stopped has tried what it has scores of.
        scored = [trial for trial in row.trials if row.value(trial) is not None]
        tried = scored if self.unfinished else row.trials
        trained = search.work([best]).first.recipe
        searched = {
            "trials": len(tried), "seeds": list(search.budget.seeds), "questions": search.budget.on,
            "sampler": search.budget.sampler, "values": dict(best.values),
            "space": {knob: str(domain) for knob, domain in row.space.items()},
            "settings": settings(trained, trained.methods[best.name], search.registry, best.values),
        }  # fmt: skip
        # What only says where and how stages run changes no result.
        others = ("seeds", "compute.", "ask.")
        changes = [f"{path}={value}" for path, value in stated(search.changes) if not path.startswith(others)]
        section = dict(search.base.targets.get(SEARCH.name, {}))
        for_searches = as_mapping(section.pop("methods", {}))
        kept = (*TARGET_KEYS, "seeds", "compute", "ask", "benchmarks")
        changes += [f"{SECTION}.{SEARCH.name}.{key}={json.dumps(section[key])}" for key in section if key not in kept]
        # What was changed in the row is the row's: without it the recipe would not train what was searched.
        own = as_mapping(read_overrides(search.changes)[0].get("methods"))
        own_options = merge(as_mapping(for_searches.get(row.row)), as_mapping(own.get(row.row)))
        return merge(own_options, row_changes(best.values)) | {
            "searched": searched | ({"set": changes} if changes else {})
        }

    def write(self) -> list[Path]:
        """Tables, pictures and the recipe, in ``runs/NAME/search``."""
        try:
            paths = [path for table in self.tables for path in write_table(table, self.search.folder)]
            if any(row.best is not None for row in self.searches):
                paths.append(write_atomic(self.file, self.recipe.encode()))
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            self.unwritten.append(f"{self.search.folder}: {(error.strerror or '').lower()}")
            return []
        return paths


def stated(changes: Sequence[Override]) -> list[tuple[str, str]]:
    """Paths and values, as ``--set`` takes them, of what was changed in the recipe; without ``methods.NAME={}``, which
    adds a row by its name."""
    pairs: list[tuple[str, str]] = []
    for change in changes:
        if isinstance(change, str):
            path, _, text = change.partition("=")
            pairs.append((path.strip(), text))
        elif change[1] != {}:
            pairs.append((change[0], json.dumps(change[1])))  # null and true, where Python writes None and True
    return pairs


def plugin_words(search: Search) -> list[str]:
    return [word for plugin in search.plugins for word in ("--plugin", plugin)]


def command_of(search: Search) -> str:
    """The command that gives the search again."""
    words = ["distilbench", "search", *search.spaces, "--recipe", search.recipe, *plugin_words(search)]
    for row, space in search.spaces.items():
        words += ["--space", f"{row}: " + "; ".join(f"{knob}={domain}" for knob, domain in space.items())]
    words += ["--trials", str(search.budget.trials), "--seeds", ",".join(map(str, search.budget.seeds))]
    words += ["--on", search.on, "--sampler", search.sampler, "--seed", str(search.seed)]
    words += ["--round", str(search.round_size)] if search.round_size else []
    for path, value in stated(search.changes):
        words += ["--set", f"{path}={value}"] if path != "seeds" else []
    return shlex.join(words)


def plan_search(rows: Sequence[str] = (ALL,), recipe: str = "pocket", **options: Unpack[SearchOptions]) -> Search:
    """Check what is to be searched: rows of the recipe, or ``all``. ``Search.planned`` has the stages and their price.

    Raises UserError: an unknown row or knob, a space that is none, values that a row cannot have, questions that are
    among the test questions.
    """
    runs, plugins = Path(options.get("runs", "runs")), tuple(options.get("plugins", ()))
    check_runs(runs)
    registry = load_registry(plugins)
    names = [name for name in rows if name in registry.methods]
    changes = [*((f'methods."{name}"', {}) for name in names), *changes_of(options)]
    resolved = load_recipe(recipe, changes, registry)
    changes = [*both_orders(resolved), *limits(resolved, options.get("limit")), *changes]
    base = load_recipe(recipe, changes, registry)
    if seeds := options.get("seeds"):
        changes.append(("seeds", list(seeds)))
    searched = load_recipe(recipe, changes, registry, SEARCH)
    spaces, skipped = read_spaces(rows, base, registry, options.get("space", ()))
    sampler, round_size = options.get("sampler", "random"), options.get("round_size")
    if sampler not in SAMPLERS:
        raise unknown_choice("sampler", sampler, SAMPLERS)
    if sampler == "random" and round_size is not None:
        raise UserError("--round: random trials do not wait for each other, so they have no rounds; it is for tpe.")
    on, trials = options.get("on", DEV), options.get("trials", TRIALS)
    if trials < 2:
        raise UserError(f"--trials {trials}: the first is the recipe's own setting, so at least 2 are needed.")
    trainings = trials * len(spaces) * len(searched.seeds)
    if trainings > MOST_TRAININGS:
        rule = (
            f"{trials:,} trials of {format_count(len(spaces), 'row')} with {format_count(len(searched.seeds), 'seed')}"
        )
        raise UserError(f"--trials: {rule} make {trainings:,} trainings, and {MOST_TRAININGS:,} are the most.")
    # As written too: a benchmark that is left out of the search will be reported on all the same.
    tests = load_tests((base, load_recipe(recipe, (), registry)), registry)
    development = development_questions(base, searched, registry, tests, on, runs / base.name / SEARCH.name)
    budget = SearchBudget(trials, searched.seeds, development.name, sampler)
    search = Search(
        recipe, tuple(changes), registry, base, spaces, budget, development.benchmarks, on, sampler,
        (round_size or ROUND) if sampler == "tpe" else None, options.get("seed", 0), runs, plugins, tuple(skipped),
        (*development.remarks, *untested(development, tests)),
    )  # fmt: skip
    try:
        graph = search.work(corners(spaces)).first.graph
    except RecipeError as error:
        problems = [replace(one, path=re.sub(r"-trial-\d+", "", one.path), place="--space") for one in error.problems]
        raise RecipeError(list(dict.fromkeys(problems)), "--space") from error
    check_questions(graph, tests)
    return search


def corners(spaces: Mapping[str, Space]) -> list[Trial]:
    """The ends and the middle of every range and all choices, so that no trial of a later round turns out to be
    impossible."""
    trials = []
    for row, space in spaces.items():
        count = max(3, *(len(domain.values) for domain in space.values() if isinstance(domain, Choices)), 0)
        for number in range(count):
            values = {
                knob: domain.values[number % len(domain.values)]
                if isinstance(domain, Choices)
                else domain.at(number % 3 / 2)
                for knob, domain in space.items()
            }
            trials.append(Trial(row, number, values))
    return trials


def read_spaces(
    rows: Sequence[str], base: Recipe, registry: Registry, texts: Sequence[str]
) -> tuple[dict[str, Space], list[str]]:
    """The space of every row: given, else the method's own. Of ``all``, rows that cannot be searched are skipped."""
    everything = ALL in rows
    names = list(base.methods) if everything else list(dict.fromkeys(rows))
    for name in names:
        if name not in base.methods:
            raise unknown_choice("row", name, [*base.methods, ALL], f"Rows are the methods of recipe {base.name!r}.")
    if not names:
        raise UserError("search: name a row of the recipe, or all.")
    given = _texts_by_row(names, texts)
    planner_obstacles = _obstacles(base, registry, names)
    spaces: dict[str, Space] = {}
    skipped: list[str] = []
    for name in names:
        entry = base.methods[name]
        stated = registry.methods[entry.method].space
        text = given.get(name, "; ".join(f"{knob}={domain}" for knob, domain in stated.items()))
        is_absent = name not in given and not stated
        reason = planner_obstacles.get(name) or (f"{entry.method} states no space; give one (--space)" * is_absent)
        if reason and not everything:
            raise UserError(f"{name} cannot be searched: {reason}.")
        if reason:
            skipped.append(f"{name}: {reason}")
        else:
            spaces[name] = settle_space(parse_space(text), name, entry, registry)
    if not spaces:
        raise UserError(f"no row can be searched: {'; '.join(skipped)}.")
    return spaces, skipped


def _texts_by_row(names: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """``--space`` of each row: its own before that of all rows, in whatever order they are given."""
    own: dict[str, str] = {}
    common: list[str] = []
    for text in texts:
        row, colon, rest = text.partition(":")
        name = row.strip()
        if not colon or "=" in row:
            common.append(text)
        elif name not in names:
            raise unknown_choice("row in --space", name, names)
        elif name in own:
            raise UserError(f"--space: {name} has two spaces. Name all of its knobs in one, with ; between.")
        else:
            own[name] = rest
    if len(common) > 1:
        raise UserError("--space: two spaces for all rows. Name all knobs in one, with ; between.")
    return {**dict.fromkeys(names, *common), **own} if common else own


def _obstacles(base: Recipe, registry: Registry, names: Sequence[str]) -> dict[str, str]:
    planner = TrialPlanner(base, registry)
    return {name: reason for name in names if (reason := planner.obstacle(name))}


def search(
    rows: Sequence[str] = (ALL,),
    recipe: str = "pocket",
    *,
    force: bool = False,
    listener: RunListener | None = None,
    **options: Unpack[SearchOptions],
) -> FinishedSearch:
    """Run what is missing of a search, and write its tables, pictures and recipe to ``runs/NAME/search``."""
    return run_search(plan_search(rows, recipe, **options), force=force, listener=listener)


def run_search(searching: Search, *, force: bool = False, listener: RunListener | None = None) -> FinishedSearch:
    """Raises UserError, before anything runs, when a check found a problem and ``force`` does not pass it over."""
    refuse(searching.planned[0].findings, force)
    trials: list[Trial] = []
    total = RunOutcome(0, 0)
    unfinished = ""
    for batch, samplers in searching.rounds():
        work = searching.work(batch)
        with watched(work, listener) as recorder:
            outcome = run_plans(*ready_to_run(work), recorder)
        trials += batch
        total = _sum(total, outcome)
        # A training that diverges, in any of its rounds, is what its values are worth. Any other failure (a full disk,
        # a judge that is away) says nothing of them, and a sampler that learns would go on differently once it is
        # mended.
        names = {trial.name for trial in batch}
        trainings = {stage.key for stage in work.first.stages if stage.kind == train.KIND.name and stage.row in names}
        if others := [key for key, text in outcome.errors.items() if key not in trainings or NOT_FINITE not in text]:
            unfinished = f"{format_count(len(others), 'stage')} failed"
            break
        searching.tell(batch, samplers, searching.results(work, outcome))
    results = searching.results(searching.work(trials), total)
    searches = tuple(searching.by_row(trials, results))
    finished = FinishedSearch(searching, searches, total, unfinished)
    finished.write()
    return finished


def _sum(first: RunOutcome, second: RunOutcome) -> RunOutcome:
    return RunOutcome(
        first.total + second.total, first.cached + second.cached,
        [*first.completed_keys, *second.completed_keys], {**first.errors, **second.errors},
        [*first.blocked_keys, *second.blocked_keys], [*first.elsewhere_keys, *second.elsewhere_keys],
        first.seconds + second.seconds,
    )  # fmt: skip


def only_rows(results: Results, names: Collection[str]) -> Results:
    run = replace(
        results.run,
        rows=tuple(spec for spec in results.run.rows if spec.id in names),
        cells=tuple(cell for cell in results.run.cells if cell.row in names),
    )
    scores = {key: score for key, score in results.scores.items() if key[0] in names}
    reasons = {key: reason for key, reason in results.missing_scores.items() if key[0] in names}
    return replace(results, run=run, scores=scores, missing_scores=reasons)
