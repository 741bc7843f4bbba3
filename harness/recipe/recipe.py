"""A recipe: one YAML file that states a whole experiment; all mistakes are reported at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, field, replace
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator

from harness.contracts.judge import AskOptions
from harness.contracts.options import Problem, RecipeError, Seed, json_data, options, require
from harness.contracts.registry import Registry
from harness.contracts.target import Target
from harness.errors import UserError
from harness.recipe import sections
from harness.recipe.reader import SECTION, TARGET_KEYS, SectionReader
from harness.recipe.yaml_source import (
    Override,
    Source,
    Tree,
    as_mapping,
    expand_name_lists,
    merge,
    over_like,
    override_all,
    read_source,
)
from harness.training.options import TrainOptions

MOST_TRAININGS = 2000
"""In one recipe: a plan of them is made in seconds."""


def _run_name(text: str) -> str:
    is_free = text.lower() != "store" and not text.lower().startswith("ledger.sqlite")
    require(is_free, "is taken: runs/store and runs/ledger.sqlite hold what all runs share; choose another name")
    return text


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    require(len(set(seeds)) == len(seeds) > 0, f"must be at least one, and differ, got {list(seeds)}")
    return seeds


@options
class Heading:
    """The keys of a recipe that are no sections."""

    name: Annotated[sections.FolderName, AfterValidator(_run_name)]
    """Folder under ``runs/``. Not inherited: a recipe that states none is named like its file."""
    title: str = ""
    """One line for the head of a plan. Not inherited either: it says what this very recipe is."""
    baseline: str | None = None
    """A row whose answers replace the official baseline's in pairwise benchmarks: head-to-head, and not official."""
    seeds: Annotated[tuple[Seed, ...], AfterValidator(_distinct)] = (0,)
    """Training seeds; each is a repetition of training with everything random in it."""


@options
class Recipe(Heading):
    _: KW_ONLY
    family: sections.Family
    prompts: sections.Prompts
    sampling: sections.SamplingOptions = sections.SamplingOptions()
    reward: sections.RewardOptions = sections.RewardOptions()
    train: TrainOptions = TrainOptions()
    tuned_teacher: sections.TunedTeacher | None = None
    """How the teacher is tuned first, for the methods that need that (DCKD, ADPA); default: ``reader.TUNED``."""
    methods: Mapping[str, sections.MethodEntry] = field(default_factory=dict)
    """Rows, in order."""
    benchmarks: Mapping[str, sections.BenchmarkEntry]
    judges: Mapping[str, sections.JudgeEntry] = field(default_factory=dict)
    """Judges by a name of your own."""
    statistics: sections.Statistics = sections.Statistics()
    compute: sections.Compute = sections.Compute()
    """Changes no result key."""
    ask: AskOptions = AskOptions()
    """Changes no result key, ``accept_failures`` apart."""
    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What differs for a table or figure: sections of the recipe, ``rows`` and ``skip`` (``for_target``)."""

    def to_tree(self) -> dict[str, Any]:
        """The recipe with all defaults written out: plain data that, dumped and loaded, gives this recipe again."""
        tree: dict[str, Any] = {"name": self.name, "title": self.title}
        tree |= {name: json_data(getattr(self, name)) for name in ("family", "prompts", "sampling", "reward", "train")}
        tree["prompts"] |= tree["prompts"].pop("config")
        if self.tuned_teacher is not None:
            training, pairs = self.tuned_teacher.training, self.tuned_teacher.pairs
            row = training.to_tree(self.train, self.sampling)
            # Its settings are written out whole: its defaults are not those of the recipe's ``train``.
            tree["tuned_teacher"] = {
                "method": training.method,
                "pairs": pairs,
                **row,
                "train": json_data(training.train),
            }
        tree["methods"] = {name: entry.to_tree(self.train, self.sampling) for name, entry in self.methods.items()}
        tree["benchmarks"] = {name: entry.to_tree(name) for name, entry in self.benchmarks.items()}
        tree["judges"] = {name: {"kind": entry.kind} | json_data(entry.config) for name, entry in self.judges.items()}
        tree |= {"baseline": self.baseline, "seeds": list(self.seeds)}
        tree |= {name: json_data(getattr(self, name)) for name in ("statistics", "compute", "ask")}
        return tree | ({SECTION: json_data(self.targets)} if self.targets else {})

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_tree(), sort_keys=False, allow_unicode=True, width=120)


class NotApplicable(UserError):
    """This target does not fit this recipe, and the message says why."""


def load_recipe(
    name_or_path: str, overrides: Sequence[Override], registry: Registry, target: Target | None = None
) -> Recipe:
    """Raises RecipeError with everything that is wrong; NotApplicable where the target does not fit."""
    source = effective_source = read_source(name_or_path, overrides)
    section = SectionReader(registry)
    section.targets(source.tree.get(SECTION))
    if target is not None and not section.problems:
        effective_source = for_target(source, target, overrides)
    recipe, mistakes = check_tree(effective_source.tree, registry)
    problems = effective_source.problems + mistakes
    if target is None and not problems:
        problems = _target_problems(source, registry)
    if problems or recipe is None:
        raise RecipeError([_with_place(problem, effective_source) for problem in problems], name_or_path)
    return recipe


def check_tree(tree: Mapping[str, Any], registry: Registry) -> tuple[Recipe | None, list[Problem]]:
    """The recipe of the tree of an effective source, or ``None`` and all that is wrong with it."""
    reader = SectionReader(registry)
    heads, fields = ({field.name for field in dataclasses.fields(kind)} for kind in (Heading, Recipe))
    for key in ("family", "benchmarks"):
        if not tree.get(key):
            reader.add((key,), "is required and missing", remedy=f"Add the line `{key}: ...`.")
    # With the keys that nobody knows, so that these are reported with what was probably meant.
    heading_values = {key: value for key, value in tree.items() if key in heads or key not in fields}
    heading = reader.options(Heading, heading_values, (), sorted(fields))
    # The common sections come before the rows, which are read over them.
    parts: dict[str, Any] = {
        "family": reader.family(tree.get("family")),
        "prompts": reader.prompts(tree.get("prompts")),
        **reader.common(tree),
        "reward": reader.options(sections.RewardOptions, tree.get("reward"), ("reward",)),
        "statistics": reader.options(sections.Statistics, tree.get("statistics"), ("statistics",)),
        "ask": reader.options(AskOptions, tree.get("ask"), ("ask",)),
        "judges": reader.judges(tree.get("judges")),
        "benchmarks": reader.benchmarks(tree.get("benchmarks"), tree.get("judges"), tree.get("methods")),
        "methods": reader.rows(tree.get("methods")),
        "tuned_teacher": reader.tuned_teacher(tree.get("tuned_teacher")),
        "targets": reader.targets(tree.get(SECTION)),
    }
    if reader.problems or heading is None:
        return None, reader.problems
    trainings = len(heading.seeds) * sum(entry.row_options.rounds for entry in parts["methods"].values())
    if trainings > MOST_TRAININGS:
        rule = f"rows, their rounds and seeds make {trainings:,} trainings, and {MOST_TRAININGS:,} are the most"
        return None, [Problem("seeds", rule)]
    return Recipe(**vars(heading), **parts), []


def _with_place(problem: Problem, source: Source) -> Problem:
    path = problem.path
    while path and not problem.place:
        if path in source.places:
            return replace(problem, place=source.places[path])
        path = path.rpartition("[" if path.endswith("]") else ".")[0]
    return problem


def _target_problems(source: Source, registry: Registry) -> list[Problem]:
    """Mistakes in the section ``targets``: reported now, not on the day when that target is made."""
    problems: list[Problem] = []
    for name in as_mapping(source.tree.get(SECTION)):
        try:
            tree = for_target(source, registry.targets[name]).tree
        except NotApplicable:  # reported when it is made; a recipe may inherit a section that it cannot use
            continue
        mistakes = check_tree(tree, registry)[1]
        mistakes = [replace(mistake, path=f"{SECTION}.{name}.{mistake.path}") for mistake in mistakes]
        # Only what the section itself states. An item of a list has no place of its own where ``--set`` wrote the list.
        problems += [
            mistake for mistake in mistakes if {mistake.path, mistake.path.partition("[")[0]} & source.places.keys()
        ]
    return problems


def for_target(source: Source, target: Target, overrides: Sequence[Override] = ()) -> Source:
    """The recipe with the target's section and rows; ``overrides`` have the last word. Raises NotApplicable."""
    check_fit(source.tree, target)
    values = as_mapping(source.tree.get(SECTION)).get(target.name, {})
    changes = {key: value for key, value in values.items() if key not in TARGET_KEYS}
    problems = list(source.problems)
    # The lines of ``targets.NAME.x`` become the lines of ``x``, so that mistakes are reported where they stand.
    head = f"{SECTION}.{target.name}."
    target_places = {path.removeprefix(head): place for path, place in source.places.items() if path.startswith(head)}
    target_source = Source(expand_name_lists(merge(source.tree, changes), problems), {**source.places, **target_places})
    override_all(target_source, overrides)
    target_source.problems = problems  # those of the overrides are among them already
    target_source.tree.pop(SECTION, None)
    left_out = set(target.rows).difference(sections.MODELS, values["rows"]) if values.get("rows") else set()
    rows = _rows(as_mapping(target_source.tree.get("methods")), target)
    target_source.tree["methods"] = {row: options for row, options in rows.items() if row not in left_out}
    benchmarks = target_source.tree.get("benchmarks")
    if target.columns and not target.open and isinstance(benchmarks, Mapping):
        benchmark_names = {column.split(".")[0] for column in target.columns}
        # Whatever no column asks for is not run.
        benchmarks = {name: options for name, options in benchmarks.items() if name in benchmark_names}
        target_source.tree["benchmarks"] = benchmarks
        if not benchmarks:
            names, recipe = ", ".join(sorted(benchmark_names - {"cost"})), repr(target_source.tree.get("name"))
            raise NotApplicable(f"{target.label} needs the benchmark {names}, which the recipe {recipe} does not have.")
    return target_source


def _rows(section: Mapping[str, Any], target: Target) -> Tree:
    section = over_like(section)
    rows = dict(section)
    for row, variant in target.variants.items():
        base = as_mapping(section.get(variant.of))
        options = {key: value for key, value in base.items() if key not in ("optional", "title")}
        variant_options = merge(merge(options, variant.changes), as_mapping(section.get(row)))
        rows[row] = {**variant_options, "method": base.get("method", variant.of)}
    return rows


def check_fit(tree: Mapping[str, Any], target: Target) -> None:
    section, recipe = as_mapping(tree.get(SECTION)), repr(tree.get("name"))
    if skip := section.get(target.name, {}).get("skip"):
        raise NotApplicable(f"{target.label} does not fit the recipe {recipe}: {skip}")
    if target.name in section:
        return
    if target.requires_listing:
        raise NotApplicable(f"{target.label} {target.requires_listing}")
    if target.needs_own_family:
        raise NotApplicable(
            f"{target.label} ({target.title}) is about a family of its own, and the recipe {recipe} does not say "
            f"which. Say which under targets.{target.name}.family, or list {target.name} there when it is the recipe's."
        )
