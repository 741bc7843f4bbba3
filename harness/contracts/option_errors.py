"""What is wrong in a recipe, all of it at once: each mistake with its path, value, rule, choices and remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from harness.errors import UserError, near

TYPES: Final[Mapping[str, str]] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value lines)",
    "mapping_type": "a mapping (key: value lines)",
    "dataclass_type": "a mapping (key: value lines)",
    "finite_number": "a finite number",
    "none_required": "null",
}
"""Pydantic's error types for a wrong type -> what was expected, in a user's words."""


@dataclass(frozen=True)
class Problem:
    path: str
    """Where in the recipe: ``methods.dpo.beta``."""
    rule: str
    """What must hold, as a clause: ``must be a number``."""
    value: str | None = None
    """The value there, printable; ``None`` where there is none."""
    choices: tuple[str, ...] = ()
    near: str = ""
    """The choice that was probably meant."""
    remedy: str = ""
    place: str = ""
    """File and line, or ``--set``."""

    def __str__(self) -> str:
        parts = [f"{self.path}: " if self.path else ""]
        parts.append(f"{self.value} - " if self.value is not None else "")
        parts.append(f"{self.rule}.")
        parts.append(f" Did you mean {self.near!r}?" if self.near else "")
        parts.append(f" Choices: {', '.join(self.choices)}." if self.choices else "")
        parts.append(f" {self.remedy}" if self.remedy else "")
        parts.append(f" [{self.place}]" if self.place else "")
        return "".join(parts)


class RecipeError(UserError):
    """A recipe with mistakes. The message is a numbered list of all of them."""

    def __init__(self, problems: Sequence[Problem], recipe: str = "") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"the recipe {recipe!r} has {count} mistake{'s' if count != 1 else ''}:"
        lines = [f"{number:3d}. {problem}" for number, problem in enumerate(self.problems, 1)]
        super().__init__("\n".join([head, *lines]))


def show(value: object) -> str:
    """A value as one short printable line (hostile or huge values must not flood the terminal)."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def unknown_name(path: str, noun: str, value: object, choices: Iterable[str], remedy: str = "") -> Problem:
    """The mistake of a name that is not among ``choices``."""
    names = tuple(sorted(choices))
    meant = near(value, names) if isinstance(value, str) else ""
    return Problem(path, f"is not the name of a {noun}", show(value), names or ("none",), meant, remedy)


def dotted(parts: Iterable[object]) -> str:
    """Path parts as one dotted path: ``a.b`` and ``a[2]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


Report = Mapping[str, Any]
"""One of pydantic's ``ValidationError.errors()``."""
Fields: TypeAlias = Mapping[str, "Fields | None"]
"""The options of a class: name -> ``None``, or the options of the class that is nested there."""


def from_pydantic(errors: Iterable[Report], base: Sequence[object], fields: Fields) -> list[Problem]:
    """Pydantic's reports as problems under the path ``base``.

    A value that fits no branch of a union comes as one report per branch; they are merged into one problem.
    """
    groups: dict[tuple[object, ...], tuple[tuple[str, ...], list[Report]]] = {}
    for error in errors:
        # The path up to the last part that the user wrote: pydantic appends names of validators and union branches.
        node: Fields | None = fields
        names: tuple[str, ...] = ()
        path: list[object] = []
        for part in error["loc"]:
            if node is None and not isinstance(part, int):
                break
            path.append(part)
            names, node = tuple(node or ()), (node or {}).get(str(part))
        groups.setdefault((*base, *path), (names, []))[1].append(error)
    return [_problem(path, names, group) for path, (names, group) in groups.items()]


def _problem(path: tuple[object, ...], names: tuple[str, ...], group: Sequence[Report]) -> Problem:
    """One problem from all reports about one place. ``names``: the options that could stand there."""
    error, place = group[0], dotted(path)
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    types = list(dict.fromkeys(TYPES[report["type"]] for report in group if report["type"] in TYPES))
    if kind == "unexpected_keyword_argument":
        return Problem(place, "is an unknown key", choices=names, near=near(str(path[-1]), names))
    if kind == "missing":
        return Problem(place, "is required and missing", remedy=f"Add the line `{path[-1]}: ...`.")
    if kind == "literal_error":
        choices = tuple(re.findall(r"'([^']*)'", context["expected"]))
        # The other branches of a union: ``null``, or a list of one's own instead of a name.
        return Problem(place, "is not one of the choices", show(value), (*choices, *types), near(str(value), choices))
    if kind == "value_error":
        return Problem(place, str(context["error"]), show(value) if isinstance(value, str | int | float) else None)
    others = [report["msg"] for report in group if report["type"] not in TYPES]
    if not others:
        return Problem(place, f"must be {' or '.join(types)}", show(value))
    return Problem(place, re.sub(r"^\w+ should", "must", others[0]).removesuffix(" after validation"), show(value))
