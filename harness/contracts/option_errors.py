"""What is wrong in a recipe, all of it at once: each mistake with its path, value, rule, choices and remedy.

Pydantic finds most mistakes; this file turns its reports into the words that the rest of the harness uses.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError

_NAMES = {
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
    """What stands there, printable; ``None`` where nothing does."""
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


def near(value: str, choices: Iterable[str]) -> str:
    """The choice that ``value`` is closest to, or an empty string."""
    return next(iter(difflib.get_close_matches(value, list(choices), n=1, cutoff=0.5)), "")


def unknown_name(path: str, what: str, value: object, choices: Iterable[str], remedy: str = "") -> Problem:
    """The mistake of a name that is not among ``choices``."""
    names = tuple(sorted(choices))
    return Problem(
        path,
        f"is not the name of a {what}",
        show(value),
        names or ("none",),
        near(value, names) if isinstance(value, str) else "",
        remedy,
    )


def dotted(parts: Iterable[object]) -> str:
    """Path parts as one dotted path: ``a.b`` and ``a[2]``."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def from_pydantic(errors: Iterable[Mapping[str, Any]], base: Sequence[object], fields: FieldNames) -> list[Problem]:
    """Pydantic's ``error.errors()`` as problems under the path ``base``.

    A value that fits no branch of a union comes as one report per branch; they are merged into one problem.
    """
    grouped: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for error in errors:
        grouped.setdefault(fields.clean(tuple(error["loc"])), []).append(error)
    return [_problem((*base, *loc), loc, group, fields) for loc, group in grouped.items()]


class FieldNames:
    """The field names of a model, nested by path: for "did you mean" and to drop pydantic's union tags from paths."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self.tree = tree

    def at(self, loc: Sequence[object]) -> tuple[str, ...]:
        """The names that may stand at ``loc``; empty where anything may, or nothing is known."""
        node: Any = self.tree
        for part in loc:
            node = node.get(part) if isinstance(node, Mapping) else None
        return tuple(node) if isinstance(node, Mapping) else ()

    def clean(self, loc: tuple[object, ...]) -> tuple[object, ...]:
        """``loc`` up to the last part that the user wrote (pydantic appends names of validators and union branches)."""
        node: Any = self.tree
        kept: list[object] = []
        for part in loc:
            if not isinstance(node, Mapping) and not isinstance(part, int):
                break
            kept.append(part)
            node = node.get(part) if isinstance(node, Mapping) else None
        return tuple(kept)


def _problem(
    path: tuple[object, ...], loc: tuple[object, ...], group: list[Mapping[str, Any]], fields: FieldNames
) -> Problem:
    """One problem from all of pydantic's reports about one place."""
    error = group[0]
    kind, value = error["type"], show(error.get("input"))
    where = dotted(path)
    if kind == "unexpected_keyword_argument":
        names = fields.at(loc[:-1])
        return Problem(where, "is an unknown key", choices=names, near=near(str(loc[-1]), names))
    if kind == "missing":
        return Problem(where, "is required and missing", remedy=f"Add the line `{path[-1]}: ...`.")
    if kind == "literal_error":
        names = tuple(part.strip().strip("'") for part in error["ctx"]["expected"].replace(" or ", ", ").split(","))
        meant = near(str(error.get("input")), names)
        # The other branches of a union: ``null``, or a list of one's own instead of a name.
        others = dict.fromkeys(_NAMES[other["type"]] for other in group[1:] if other["type"] in _NAMES)
        return Problem(where, "is not one of the choices", value, (*names, *others), meant)
    if kind == "value_error":
        return Problem(where, str(error["ctx"]["error"]), value if _scalar(error.get("input")) else None)
    expected = list(dict.fromkeys(_NAMES[report["type"]] for report in group if report["type"] in _NAMES))
    if expected and len(expected) == len(group):
        return Problem(where, f"must be {' or '.join(expected)}", value)
    message = next(report["msg"] for report in group if report["type"] not in _NAMES)
    return Problem(where, re.sub(r"^\w+ should", "must", message).removesuffix(" after validation"), value)


def _scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool)
