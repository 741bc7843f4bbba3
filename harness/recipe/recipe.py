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

from harness.contracts.judge import AskSettings
from harness.contracts.option_errors import Problem, RecipeError
from harness.contracts.options import Seed, options, plain, read_options, require
from harness.contracts.registry import Registry
from harness.contracts.target import Target
from harness.recipe.for_target import SECTION, NotApplicable, for_target, section_problems, stated_in_section
from harness.recipe.rows import MethodEntry, Rows, TunedTeacher
from harness.recipe.sections import (
    JUDGE,
    BenchmarkEntry,
    Compute,
    Family,
    FolderName,
    JudgeEntry,
    Prompts,
    RewardOptions,
    SamplingOptions,
    Statistics,
    check_backend,
    read_benchmarks,
    read_compute,
    read_judges,
    read_prompts,
    read_section,
)
from harness.recipe.yaml_source import Override, Source, read_source
from harness.training.options import Hyperparameters


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
    train: Hyperparameters = Hyperparameters()
    """Optimisation settings of every method."""
    tuned_teacher: TunedTeacher | None = None
    """How the teacher is tuned first, for the methods that need that (DCKD, ADPA); default: ``rows.TUNED``."""
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
    ask: AskSettings = AskSettings()
    """Changes no result key, ``accept_failures`` apart."""
    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What differs for a table or figure: sections of the recipe, ``rows`` and ``skip`` (``for_target.py``)."""

    def resolved(self) -> dict[str, Any]:
        """The recipe with all defaults written out: plain data that, dumped and loaded, gives this recipe again."""
        head: dict[str, Any] = {"name": self.name, "title": self.title}
        for part in ("family", "prompts", "sampling", "reward", "train"):
            head[part] = plain(getattr(self, part))
        head["prompts"] |= head["prompts"].pop("config")
        if self.tuned_teacher is not None:
            tuned = self.tuned_teacher
            row = tuned.training.resolved(self.train, self.sampling)
            # Its settings are written out whole: its defaults are not those of the recipe's ``train``.
            row |= {"train": plain(tuned.training.train)}
            head["tuned_teacher"] = {"method": tuned.training.method, "pairs": tuned.pairs} | row
        head["methods"] = {name: entry.resolved(self.train, self.sampling) for name, entry in self.methods.items()}
        head["benchmarks"] = {
            name: ({JUDGE: entry.judge} if entry.judge else {}) | plain(entry.config)
            for name, entry in self.benchmarks.items()
        }
        head["judges"] = {name: {"kind": entry.kind} | plain(entry.config) for name, entry in self.judges.items()}
        head |= {"baseline": self.baseline, "seeds": list(self.seeds)}
        tail = {part: plain(getattr(self, part)) for part in ("statistics", "compute", "ask")}
        return head | tail | ({SECTION: plain(self.targets)} if self.targets else {})

    def to_yaml(self) -> str:
        """``resolved()`` as YAML, sections in the order of the documentation."""
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True, width=120)


SECTIONS: Mapping[str, type[Any]] = {
    "family": Family,
    "sampling": SamplingOptions,
    "reward": RewardOptions,
    "train": Hyperparameters,
    "statistics": Statistics,
    "ask": AskSettings,
}
"""Sections that need no registry to be read."""
HEADING = frozenset(field.name for field in dataclasses.fields(Heading))


def load_recipe(
    name_or_path: str, overrides: Sequence[Override], registry: Registry, target: Target | None = None
) -> Recipe:
    """Read, extend, override and check a recipe.

    Args:
        name_or_path: a shipped recipe's name, or the path of a YAML file.
        overrides: ``path=value`` with the value in YAML, or (path, value); applied in order.
        registry: the methods, benchmarks, kinds of judges and targets that may be named.
        target: read the recipe as this target needs it: with what its section ``targets`` says of it, and its rows.

    Raises:
        RecipeError: everything that is wrong, as one numbered list.
        NotApplicable: the target does not fit this recipe.
    """
    source = read_source(name_or_path, overrides)
    unreadable = section_problems(source.tree, registry.targets)
    resolved = source if target is None or unreadable else for_target(source, target, tuple(overrides))
    recipe, wrong = check_tree(resolved.tree, registry)
    problems = resolved.problems + wrong
    if target is None and not problems:
        problems += _in_targets(source, registry)
    if problems or recipe is None:
        raise RecipeError([_placed(problem, resolved) for problem in problems], name_or_path)
    return recipe


def _in_targets(source: Source, registry: Registry) -> list[Problem]:
    """Mistakes in what the section ``targets`` says: found now, not on the day when that target is made."""
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
    read: dict[str, Any] = {}
    problems = section_problems(tree, registry.targets)
    for name, kind in SECTIONS.items():
        if name != "family" or name in tree:
            read[name], wrong = read_section(kind, tree.get(name), (name,))
            problems += wrong
    known = {field.name for field in dataclasses.fields(Recipe)}
    stated = {key: value for key, value in tree.items() if key in HEADING or key not in known}
    missing = [key for key in ("family", "benchmarks") if not tree.get(key)]
    problems += [Problem(key, "is required and missing", remedy=f"Add the line `{key}: ...`.") for key in missing]
    heading, wrong = read_options(Heading, stated, (), sorted(known))
    problems += wrong
    read["prompts"], wrong = read_prompts(tree.get("prompts"), registry)
    problems += wrong
    problems += check_backend(read["family"], registry) if read.get("family") else []
    read["judges"], wrong = read_judges(tree.get("judges"), registry)
    problems += wrong
    read["compute"], wrong = read_compute(tree.get("compute"), registry)
    problems += wrong
    # Where these two are wrong, rows are read over the defaults, so that mistakes of their own are still reported.
    train, drawn = (read[name] or SECTIONS[name]() for name in ("train", "sampling"))
    rows = Rows(registry, train, drawn, read["compute"].launch)
    read["methods"], read["tuned_teacher"] = rows.read(tree.get("methods")), rows.tuned(tree.get("tuned_teacher"))
    read["benchmarks"], wrong = read_benchmarks(tree.get("benchmarks"), registry, tree.get("judges"))
    problems += rows.problems + wrong
    if problems or heading is None:
        return None, problems
    return Recipe(**vars(heading), **read, targets=tree.get(SECTION) or {}), []


def _placed(problem: Problem, source: Source) -> Problem:
    """``problem`` with the file and line (or ``--set``) of its path, or of the nearest path above it."""
    path = problem.path
    while path and not problem.place:
        if path in source.places:
            return replace(problem, place=source.places[path])
        path = path.rpartition("[" if path.endswith("]") else ".")[0]
    return problem
