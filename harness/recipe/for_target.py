"""The section ``targets`` of a recipe, and a recipe as one target needs it.

``targets.NAME`` holds what differs for a table or figure: any section of the recipe (another family, fewer seeds), and
two keys of its own: ``rows`` chooses among the target's trained rows, ``skip`` says why the target does not fit this
recipe. ``for_target`` merges the mapping into the recipe, adds the target's variants of its rows, and leaves out the
benchmarks that no column asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.contracts.option_errors import Problem, show, unknown_name
from harness.contracts.target import Target
from harness.errors import UserError
from harness.recipe.rows import MODELS
from harness.recipe.yaml_source import Override, Source, Tree, merge, named, override_all

SECTION = "targets"
OWN_KEYS = ("rows", "skip")


class NotApplicable(UserError):
    """This target does not fit this recipe, and the message says why."""


def check_fit(tree: Mapping[str, Any], target: Target) -> None:
    """Raises NotApplicable where the recipe skips a target, or does not say which family it is about."""
    section = tree.get(SECTION) or {}
    skip = section.get(target.name, {}).get("skip")
    if skip:
        raise NotApplicable(f"{target.label} does not fit the recipe {tree.get('name')!r}: {skip}")
    if target.name in section:
        return
    if target.requires_listing:
        raise NotApplicable(f"{target.label} {target.requires_listing}")
    if target.needs_own_family:
        remedy = f"Say which under targets.{target.name}.family, or list {target.name} there when it is the recipe's."
        raise NotApplicable(
            f"{target.label} ({target.title}) is about a family of its own, and the recipe {tree.get('name')!r} does "
            f"not say which. {remedy}"
        )


def for_target(source: Source, target: Target, overrides: tuple[Override, ...] = ()) -> Source:
    """The recipe as this target needs it. ``overrides`` (``--set``) have the last word over its section.

    Raises NotApplicable where the target does not fit. The section must be free of ``section_problems``.
    """
    check_fit(source.tree, target)
    values = (source.tree.get(SECTION) or {}).get(target.name, {})
    over = {key: value for key, value in values.items() if key not in OWN_KEYS}
    problems = list(source.problems)
    # The lines of ``targets.NAME.x`` become the lines of ``x``, so that mistakes are reported where they stand.
    head = f"{SECTION}.{target.name}."
    moved = {path.removeprefix(head): place for path, place in source.places.items() if path.startswith(head)}
    result = Source(named(merge(source.tree, over), problems), {**source.places, **moved})
    override_all(result, overrides)
    result.problems = problems  # those of the overrides are among them already
    result.tree.pop(SECTION, None)
    methods = _rows(result.tree, target)
    if "rows" in values:
        left_out = set(target.rows) - set(MODELS) - set(values["rows"])
        methods = {row: options for row, options in methods.items() if row not in left_out}
    result.tree["methods"] = methods
    _benchmarks(result.tree, target)
    return result


def _rows(tree: Tree, target: Target) -> Tree:
    """The recipe's rows and the target's variants of them, each with whatever the recipe says of the variant itself."""
    section = tree.get("methods")
    rows: Tree = dict(section) if isinstance(section, Mapping) else {}
    base_rows: Tree = dict(rows)
    for row, variant in target.variants.items():
        base = base_rows.get(variant.of)
        options = dict(base) if isinstance(base, Mapping) else {}
        method = options.get("method", variant.of)
        options = {key: value for key, value in options.items() if key not in ("optional", "title")}
        override = base_rows.get(row)
        changed = merge(options, variant.changes)
        rows[row] = {**merge(changed, override if isinstance(override, Mapping) else {}), "method": method}
    return rows


def _benchmarks(tree: Tree, target: Target) -> None:
    """Leave out the benchmarks that the target has no column of. Raises NotApplicable when none is left."""
    section = tree.get("benchmarks")
    if target.open or not target.columns or not isinstance(section, Mapping):
        return
    wanted = {column.split(".")[0] for column in target.columns}
    measured = {name: options for name, options in section.items() if name in wanted}
    if not measured:
        names = ", ".join(sorted(wanted - {"cost"}))
        raise NotApplicable(
            f"{target.label} needs the benchmark {names}, which the recipe {tree.get('name')!r} does not have."
        )
    tree["benchmarks"] = measured


def section_problems(tree: Mapping[str, Any], targets: Mapping[str, Target]) -> list[Problem]:
    """What is wrong with the section itself: names, kinds of values, rows that a target does not have."""
    section = tree.get(SECTION)
    if section is None:
        return []
    if not isinstance(section, Mapping):
        return [Problem(SECTION, "must be a mapping from targets to what differs for them", show(section))]
    problems = []
    for name, values in section.items():
        path = f"{SECTION}.{name}"
        if name not in targets:
            problems.append(unknown_name(path, "target", name, targets))
        elif not isinstance(values, Mapping):
            problems.append(Problem(path, "must be a mapping of what differs for it", show(values)))
        else:
            problems += _own_keys(path, values, targets[name])
    return problems


def _own_keys(path: str, values: Mapping[str, Any], target: Target) -> list[Problem]:
    """What is wrong with ``rows``, ``skip`` and keys that a target cannot change."""
    problems = []
    skip, rows = values.get("skip"), values.get("rows")
    if "skip" in values and not (isinstance(skip, str) and skip):
        problems.append(Problem(f"{path}.skip", "must be text: why the target does not fit", show(skip)))
    trained = [row for row in target.rows if row not in MODELS]
    if "rows" in values and not (isinstance(rows, list) and rows):
        problems.append(Problem(f"{path}.rows", "must be a list of rows", show(rows), tuple(trained)))
    elif isinstance(rows, list):
        problems += [unknown_name(f"{path}.rows", "row of it", row, trained) for row in rows if row not in trained]
    for key in ("name", "extends", SECTION):
        if key in values:
            problems.append(Problem(f"{path}.{key}", "cannot differ between the targets of a recipe"))
    return problems


def stated_in_section(problems: Sequence[Problem], target: str, places: Mapping[str, str]) -> list[Problem]:
    """The problems with what a target's section itself says, under their path in it.

    Others are left for the day when the target is made: a recipe may inherit sections that it never uses.
    """
    inside = [replace(problem, path=f"{SECTION}.{target}.{problem.path}") for problem in problems]
    # An item of a list has no place of its own where ``--set`` wrote the list.
    return [problem for problem in inside if {problem.path, problem.path.partition("[")[0]} & places.keys()]
