"""A recipe: one YAML file that states a whole experiment. Strictly checked, every mistake reported at once.

``load_recipe("pocket", ["train.learning_rate=1e-5"], registry)`` is the only way in. The names of methods, benchmarks
and judges, and their options, are checked against the registry that is passed; this file knows none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from harness.contracts.option_errors import FieldNames, Problem, RecipeError, from_pydantic
from harness.contracts.options import Strict
from harness.contracts.registry import Registry
from harness.contracts.target import Target
from harness.recipe.entries import (
    BenchmarkEntry,
    JudgeEntry,
    field_tree,
    read_benchmarks,
    read_compute,
    read_judges,
    read_part,
    read_prompts,
)
from harness.recipe.for_target import SECTION, Unfit, for_target, own_mistakes, said, section_problems
from harness.recipe.rows import MethodEntry, Rows, TunedTeacher
from harness.recipe.sections import (
    AskPart,
    Compute,
    Family,
    Prompts,
    RewardPart,
    RunName,
    SamplingPart,
    Statistics,
    Train,
)
from harness.recipe.yaml_source import Override, Source, read_source


class Recipe(Strict):
    """A whole experiment, checked, with every default filled in."""

    name: RunName
    """Folder under ``runs/``. Not inherited: a recipe that states none is named like its file."""
    title: str = ""
    """One line for the head of reports."""
    family: Family
    """Teacher and student."""
    prompts: Prompts = Prompts()
    """Training prompts."""
    sampling: SamplingPart = SamplingPart()
    """Responses to them."""
    reward: RewardPart = RewardPart()
    """The teacher's opinion of those."""
    train: Train = Train()
    """Optimisation settings of every method."""
    tuned_teacher: TunedTeacher | None = None
    """How the teacher is tuned first, for the methods that need that (DCKD, ADPA); default: ``recipe_rows.TUNED``."""
    methods: dict[str, MethodEntry] = Field(default_factory=dict)
    """Rows, in order."""
    benchmarks: Annotated[dict[str, BenchmarkEntry], Field(min_length=1)]
    """What is measured."""
    judges: dict[str, JudgeEntry] = Field(default_factory=dict)
    """Judges by a name of your own."""
    baseline: str | None = None
    """A row whose answers replace the official baseline's in pairwise benchmarks: head-to-head, and not official."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = (0,)
    """Training seeds; each is a repetition of training with everything random in it."""
    statistics: Statistics = Statistics()
    """Intervals and coverage."""
    compute: Compute = Compute()
    """Changes no result key."""
    ask: AskPart = AskPart()
    """Changes no result key, ``accept_failures`` apart."""
    targets: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What differs for a table or figure: sections of the recipe, ``rows`` and ``skip`` (``recipe_targets.py``)."""

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be at least one, and differ, got {list(self.seeds)}")
        return self

    def resolved(self) -> dict[str, Any]:
        """The recipe with all defaults written out: plain data that, dumped and loaded, gives this recipe again."""
        parts = ("name", "title", "family", "prompts", "sampling", "reward", "train")
        plain: dict[str, Any] = self.model_dump(mode="json", include=set(parts))
        plain = {part: plain[part] for part in parts} | {"prompts": self.prompts.plain()}
        if self.tuned_teacher is not None:
            tuned = self.tuned_teacher
            said = {"method": tuned.row.method, "pairs": tuned.pairs}
            written = tuned.row.plain(self.train, self.sampling)
            # Its settings are written out whole: its defaults are not those of the recipe's ``train``.
            plain["tuned_teacher"] = said | written | {"train": tuned.row.train.model_dump()}
        plain["methods"] = {name: entry.plain(self.train, self.sampling) for name, entry in self.methods.items()}
        plain["benchmarks"] = {
            name: ({"judge": entry.judge} if entry.judge else {}) | entry.config
            for name, entry in self.benchmarks.items()
        }
        plain["judges"] = {name: {"kind": entry.kind} | entry.config for name, entry in self.judges.items()}
        tail = ["baseline", "seeds", "statistics", "compute", "ask", *([SECTION] if self.targets else [])]
        return plain | {part: self.model_dump(mode="json", include={part})[part] for part in tail}

    def to_yaml(self) -> str:
        """``resolved()`` as YAML, sections in the order of the documentation."""
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True, width=120)


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
        Unfit: the target does not fit this recipe.
    """
    source = read_source(name_or_path, overrides)
    problems = section_problems(source.tree, registry.targets)
    made = source if target is None or problems else for_target(source, target, tuple(overrides))
    recipe, wrong = check_tree(made.tree, registry)
    problems += made.problems + wrong
    if target is None and not problems:
        problems += _in_targets(source, registry)
    if problems or recipe is None:
        raise RecipeError([_placed(problem, made) for problem in problems], name_or_path)
    return recipe


def _in_targets(source: Source, registry: Registry) -> list[Problem]:
    """Mistakes in what the section ``targets`` says: found now, not on the day when that target is made."""
    found: list[Problem] = []
    for name in source.tree.get(SECTION) or {}:
        try:
            made = for_target(source, registry.targets[name])
        except Unfit:  # said when it is asked for; a recipe may inherit a section that it cannot use
            continue
        found += own_mistakes(check_tree(made.tree, registry)[1], name, said(source.tree, name))
    return found


def check_tree(tree: Mapping[str, Any], registry: Registry) -> tuple[Recipe | None, list[Problem]]:
    """Check a merged tree (``harness.recipe.yaml_source``): the recipe, or ``None`` and all that is wrong with it."""
    judges, problems = read_judges(tree.get("judges"), registry)
    prompts, wrong = read_prompts(tree.get("prompts"), registry)
    problems += wrong
    train, _ = read_part(Train, tree.get("train"), ("train",))  # their mistakes are found with the whole, below
    drawn, _ = read_part(SamplingPart, tree.get("sampling"), ("sampling",))
    compute, wrong = read_compute(tree.get("compute"), registry)
    problems += wrong
    rows = Rows(registry, train or Train(), drawn or SamplingPart(), compute.launch)
    methods, tuned = rows.read(tree.get("methods")), rows.tuned(tree.get("tuned_teacher"))
    problems += rows.problems
    benchmarks, wrong = read_benchmarks(tree.get("benchmarks"), registry, tree.get("judges"))
    problems += wrong
    whole = {
        **tree,
        "prompts": prompts or Prompts(),
        "compute": compute,
        "methods": methods,
        "benchmarks": benchmarks,
        "judges": judges,
        "tuned_teacher": tuned,
    }
    if not tree.get("benchmarks"):
        del whole["benchmarks"]
    try:
        recipe = Recipe.model_validate(whole)
    except ValidationError as error:
        found = from_pydantic(error.errors(), (), FieldNames(field_tree(Recipe)))
        known = {problem.path for problem in problems} | ({"benchmarks"} if wrong else set())
        return None, problems + [problem for problem in found if problem.path not in known]
    return (recipe, []) if not problems else (None, problems)


def _placed(problem: Problem, source: Source) -> Problem:
    """``problem`` with the file and line (or ``--set``) of its path, or of the nearest path above it."""
    path = problem.path
    while path and not problem.place:
        if path in source.places:
            return replace(problem, place=source.places[path])
        path = path.rpartition("[" if path.endswith("]") else ".")[0]
    return problem
