"""The section ``targets`` of a recipe, and a recipe as one target needs it.

``targets.NAME`` holds what differs for a table or figure: any section of the recipe (another family, fewer seeds), and
two keys of its own: ``rows`` chooses among the target's trained rows, ``skip`` says why the target does not fit this
recipe. ``for_target`` merges the mapping into the recipe, adds the target's variants of its rows, and leaves out the
benchmarks that no column asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from harness.contracts.option_errors import Problem, show, unknown_name
from harness.contracts.options import options, read_options
from harness.contracts.target import Target
from harness.errors import UserError
from harness.recipe.sections import MODELS
from harness.recipe.yaml_source import Override, Source, Tree, as_mapping, merge, named, override_all

SECTION = "targets"


@options
class TargetOptions:
    """What ``targets.NAME`` says beside sections of the recipe."""

    rows: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Which of the target's trained rows are made."""
    skip: Annotated[str, Field(min_length=1)] | None = None
    """Why the target does not fit this recipe."""


OWN_KEYS = tuple(TargetOptions.__dataclass_fields__)


class NotApplicable(UserError):
    """This target does not fit this recipe, and the message says why."""


def check_fit(tree: Mapping[str, Any], target: Target) -> None:
    """Raises NotApplicable where the recipe skips a target, or does not say which family it is about."""
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


def for_target(source: Source, target: Target, overrides: Sequence[Override] = ()) -> Source:
    """The recipe as this target needs it. ``overrides`` (``--set``) have the last word over its section.

    Raises NotApplicable where the target does not fit. The section must be free of ``section_problems``.
    """
    check_fit(source.tree, target)
    values = as_mapping(source.tree.get(SECTION)).get(target.name, {})
    over = {key: value for key, value in values.items() if key not in OWN_KEYS}
    problems = list(source.problems)
    # The lines of ``targets.NAME.x`` become the lines of ``x``, so that mistakes are reported where they stand.
    head = f"{SECTION}.{target.name}."
    moved = {path.removeprefix(head): place for path, place in source.places.items() if path.startswith(head)}
    result = Source(named(merge(source.tree, over), problems), {**source.places, **moved})
    override_all(result, overrides)
    result.problems = problems  # those of the overrides are among them already
    result.tree.pop(SECTION, None)
    left_out = set(target.rows).difference(MODELS, values["rows"]) if values.get("rows") else set()
    rows = _rows(as_mapping(result.tree.get("methods")), target)
    result.tree["methods"] = {row: options for row, options in rows.items() if row not in left_out}
    _benchmarks(result.tree, target)
    return result


def _rows(section: Mapping[str, Any], target: Target) -> Tree:
    """The recipe's rows and the target's variants of them, each with whatever the recipe says of the variant itself."""
    rows = dict(section)
    for row, variant in target.variants.items():
        base = as_mapping(section.get(variant.of))
        options = {key: value for key, value in base.items() if key not in ("optional", "title")}
        changed = merge(merge(options, variant.changes), as_mapping(section.get(row)))
        rows[row] = {**changed, "method": base.get("method", variant.of)}
    return rows


def _benchmarks(tree: Tree, target: Target) -> None:
    """Leave out the benchmarks that the target has no column of. Raises NotApplicable when none is left."""
    section = tree.get("benchmarks")
    if target.open or not target.columns or not isinstance(section, Mapping):
        return
    needed = {column.split(".")[0] for column in target.columns}
    tree["benchmarks"] = {name: options for name, options in section.items() if name in needed}
    if not tree["benchmarks"]:
        names = ", ".join(sorted(needed - {"cost"}))
        raise NotApplicable(
            f"{target.label} needs the benchmark {names}, which the recipe {tree.get('name')!r} does not have."
        )


def section_problems(tree: Mapping[str, Any], targets: Mapping[str, Target]) -> list[Problem]:
    """What is wrong with the section itself: names, kinds of values, rows that a target does not have."""
    section = tree.get(SECTION)
    if not isinstance(section, Mapping | None):
        return [Problem(SECTION, "must be a mapping from targets to what differs for them", show(section))]
    problems: list[Problem] = []
    for name, values in (section or {}).items():
        path = f"{SECTION}.{name}"
        if name not in targets:
            problems.append(unknown_name(path, "target", name, targets))
        elif not isinstance(values, Mapping):
            problems.append(Problem(path, "must be a mapping of what differs for it", show(values)))
        else:
            own = {key: value for key, value in values.items() if key in OWN_KEYS}
            read, wrong = read_options(TargetOptions, own, (SECTION, name))
            trained = [row for row in targets[name].rows if row not in MODELS]
            rows = read.rows or () if read else ()
            problems += wrong
            problems += [unknown_name(f"{path}.rows", "row of it", row, trained) for row in rows if row not in trained]
            rule = "cannot differ between the targets of a recipe"
            problems += [Problem(f"{path}.{key}", rule) for key in ("name", "extends", SECTION) if key in values]
    return problems


def stated_in_section(problems: Sequence[Problem], target: str, places: Mapping[str, str]) -> list[Problem]:
    """The problems with what a target's section itself says, under their path in it.

    Others are left for the day when the target is made: a recipe may inherit sections that it never uses.
    """
    inside = [replace(problem, path=f"{SECTION}.{target}.{problem.path}") for problem in problems]
    # An item of a list has no place of its own where ``--set`` wrote the list.
    return [problem for problem in inside if {problem.path, problem.path.partition("[")[0]} & places.keys()]
