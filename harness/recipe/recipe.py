"""A recipe: one YAML file that states a whole experiment. Strictly checked, every mistake reported at once.

``load_recipe("pocket", ["train.learning_rate=1e-5"], registry)`` is the only way in. The names of methods, benchmarks
and judges, and their options, are checked against the registry that is passed; this file knows none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, field, replace
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator

from harness.contracts.judge import AskOptions
from harness.contracts.option_errors import Problem, RecipeError
from harness.contracts.options import Seed, options, plain, require
from harness.contracts.registry import Registry
from harness.contracts.target import Target
from harness.recipe.for_target import SECTION, NotApplicable, for_target, section_problems, stated_in_section
from harness.recipe.reader import SectionReader
from harness.recipe.sections import (
    JUDGE,
    BenchmarkEntry,
    Compute,
    Family,
    FolderName,
    JudgeEntry,
    MethodEntry,
    Prompts,
    RewardOptions,
    SamplingOptions,
    Statistics,
    TunedTeacher,
)
from harness.recipe.yaml_source import Override, Source, read_source
from harness.training.options import TrainOptions


def _run_name(text: str) -> str:
    taken = text.lower() == "store" or text.lower().startswith("ledger.sqlite")
    require(not taken, "is taken: runs/store and runs/ledger.sqlite hold what all runs share; choose another name")
    return text


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    require(len(set(seeds)) == len(seeds) > 0, f"must be at least one, and differ, got {list(seeds)}")
    return seeds


@options
class Heading:
    """The keys of a recipe that are no sections."""

    name: Annotated[FolderName, AfterValidator(_run_name)]
    """Folder under ``runs/``. Not inherited: a recipe that states none is named like its file."""
    title: str = ""
    """One line for the head of reports."""
    baseline: str | None = None
    """A row whose answers replace the official baseline's in pairwise benchmarks: head-to-head, and not official."""
    seeds: Annotated[tuple[Seed, ...], AfterValidator(_distinct)] = (0,)
    """Training seeds; each is a repetition of training with everything random in it."""


@options
class Recipe(Heading):
    """A whole experiment, checked, with every default filled in."""

    _: KW_ONLY
    family: Family
    """Teacher and student."""
    prompts: Prompts
    """Training prompts."""
    sampling: SamplingOptions = SamplingOptions()
    """Responses to them."""
    reward: RewardOptions = RewardOptions()
    """The teacher's opinion of those."""
    train: TrainOptions = TrainOptions()
    """Optimisation settings of every method."""
    tuned_teacher: TunedTeacher | None = None
    """How the teacher is tuned first, for the methods that need that (DCKD, ADPA); default: ``reader.TUNED``."""
    methods: Mapping[str, MethodEntry] = field(default_factory=dict)
    """Rows, in order."""
    benchmarks: Mapping[str, BenchmarkEntry]
    """What is measured."""
    judges: Mapping[str, JudgeEntry] = field(default_factory=dict)
    """Judges by a name of your own."""
    statistics: Statistics = Statistics()
    """Intervals and coverage."""
    compute: Compute = Compute()
    """Changes no result key."""
    ask: AskOptions = AskOptions()
    """Changes no result key, ``accept_failures`` apart."""
    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What differs for a table or figure: sections of the recipe, ``rows`` and ``skip`` (``for_target.py``)."""

    def resolved(self) -> dict[str, Any]:
        """The recipe with all defaults written out: plain data that, dumped and loaded, gives this recipe again."""
        tree: dict[str, Any] = {"name": self.name, "title": self.title}
        tree |= {part: plain(getattr(self, part)) for part in ("family", "prompts", "sampling", "reward", "train")}
        tree["prompts"] |= tree["prompts"].pop("config")
        if self.tuned_teacher is not None:
            training, pairs = self.tuned_teacher.training, self.tuned_teacher.pairs
            row = training.resolved(self.train, self.sampling)
            # Its settings are written out whole: its defaults are not those of the recipe's ``train``.
            tree["tuned_teacher"] = {"method": training.method, "pairs": pairs, **row, "train": plain(training.train)}
        tree["methods"] = {name: entry.resolved(self.train, self.sampling) for name, entry in self.methods.items()}
        tree["benchmarks"] = {
            name: ({JUDGE: entry.judge} if entry.judge else {}) | plain(entry.config)
            for name, entry in self.benchmarks.items()
        }
        tree["judges"] = {name: {"kind": entry.kind} | plain(entry.config) for name, entry in self.judges.items()}
        tree |= {"baseline": self.baseline, "seeds": list(self.seeds)}
        tree |= {part: plain(getattr(self, part)) for part in ("statistics", "compute", "ask")}
        return tree | ({SECTION: plain(self.targets)} if self.targets else {})

    def to_yaml(self) -> str:
        """``resolved()`` as YAML, sections in the order of the documentation."""
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True, width=120)


SECTIONS: Mapping[str, type] = {"reward": RewardOptions, "statistics": Statistics, "ask": AskOptions}
"""Sections that no other section and no table of the registry decides about."""
HEADING = frozenset(field.name for field in dataclasses.fields(Heading))


def load_recipe(
    name_or_path: str, overrides: Sequence[Override], registry: Registry, target: Target | None = None
) -> Recipe:
    """Read, extend, override and check a recipe.

    Args:
        overrides: ``path=value`` with the value in YAML, or (path, value); applied in order.
        target: read the recipe as this target needs it: with what its section ``targets`` says of it, and its rows.

    Raises:
        RecipeError: everything that is wrong, as one numbered list.
        NotApplicable: the target does not fit this recipe.
    """
    source = resolved = read_source(name_or_path, overrides)
    if target is not None and not section_problems(source.tree, registry.targets):
        resolved = for_target(source, target, overrides)
    recipe, mistakes = check_tree(resolved.tree, registry)
    problems = resolved.problems + mistakes
    if target is None and not problems:
        problems = _in_targets(source, registry)
    if problems or recipe is None:
        raise RecipeError([_placed(problem, resolved) for problem in problems], name_or_path)
    return recipe


def _in_targets(source: Source, registry: Registry) -> list[Problem]:
    """Mistakes in the section ``targets``: reported now, not on the day when that target is made."""
    problems: list[Problem] = []
    for name in source.tree.get(SECTION) or {}:
        try:
            tree = for_target(source, registry.targets[name]).tree
        except NotApplicable:  # reported when it is made; a recipe may inherit a section that it cannot use
            continue
        problems += stated_in_section(check_tree(tree, registry)[1], name, source.places)
    return problems


def check_tree(tree: Mapping[str, Any], registry: Registry) -> tuple[Recipe | None, list[Problem]]:
    """Check a merged tree (``harness.recipe.yaml_source``): the recipe, or ``None`` and all that is wrong with it."""
    reader = SectionReader(registry)
    reader.problems += section_problems(tree, registry.targets)
    known = {field.name for field in dataclasses.fields(Recipe)}
    for key in ("family", "benchmarks"):
        if not tree.get(key):
            reader.add((key,), "is required and missing", remedy=f"Add the line `{key}: ...`.")
    # With the keys that nobody knows, so that these are reported with what was probably meant.
    stated = {key: value for key, value in tree.items() if key in HEADING or key not in known}
    heading = reader.options(Heading, stated, (), sorted(known))
    read: dict[str, Any] = {name: reader.options(kind, tree.get(name), (name,)) for name, kind in SECTIONS.items()}
    read["family"] = reader.family(tree["family"]) if tree.get("family") else None
    read["prompts"] = reader.prompts(tree.get("prompts"))
    read["judges"] = reader.judges(tree.get("judges"))
    read["benchmarks"] = reader.benchmarks(tree.get("benchmarks"), tree.get("judges"))
    # Before the rows, which are read over these.
    read |= reader.common(tree)
    read["methods"] = reader.rows(tree.get("methods"))
    read["tuned_teacher"] = reader.tuned_teacher(tree.get("tuned_teacher"))
    if reader.problems or heading is None:
        return None, reader.problems
    return Recipe(**vars(heading), **read, targets=tree.get(SECTION) or {}), []


def _placed(problem: Problem, source: Source) -> Problem:
    """``problem`` with the file and line (or ``--set``) of its path, or of the nearest path above it."""
    path = problem.path
    while path and not problem.place:
        if path in source.places:
            return replace(problem, place=source.places[path])
        path = path.rpartition("[" if path.endswith("]") else ".")[0]
    return problem
