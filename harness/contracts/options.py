"""Options from YAML to the loss: frozen dataclasses that pydantic checks when they are made."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, TypeAlias, dataclass_transform, get_args, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass, is_pydantic_dataclass
from typing_extensions import TypeVar

from harness.errors import UserError, near
from harness.records import adapter

T = TypeVar("T")
C = TypeVar("C", default=Any)
"""The options of an entry of a table of contents."""

LEAST, MOST = 1e-9, 10**9
"""Of a number without limits of its own: beyond them a float32 loses it, and no run ends."""
LONGEST_PATH, MOST_SHOWN = 300, 50
"""Characters of an option's path, and mistakes, that a message shows."""


def not_tiny(value: float) -> float:
    require(value == 0 or value >= LEAST, f"must be 0 or at least {LEAST:g}")
    return value


def _not_cold(value: float) -> float:
    require(value == 0 or value >= 0.01, "must be 0 (greedy) or at least 0.01")
    return value


def _path_length(text: str) -> str:
    fits = len(text) <= 4096 and all(len(part.encode()) <= 255 for part in text.split("/"))
    require(fits, "is longer than a path can be: 4,096 characters, and 255 for each folder")
    return text


Positive = Annotated[float, Field(gt=0, le=MOST), AfterValidator(not_tiny)]
NotNegative = Annotated[float, Field(ge=0, le=MOST), AfterValidator(not_tiny)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Nucleus = Annotated[float, Field(ge=1e-6, le=1)]
Temperature = Annotated[float, Field(ge=0, le=100), AfterValidator(_not_cold)]
Signed = Annotated[float, Field(ge=-MOST, le=MOST)]
PositiveTemperature = Annotated[float, Field(ge=0.01, le=100)]
Seconds = Annotated[float, Field(ge=0.01, le=MOST)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Repeats = Annotated[int, Field(ge=1, le=1000)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
PathText = Annotated[str, AfterValidator(_path_length)]
"""A path, or text that may be one."""

# Strict: ``epochs: "2"`` or ``true`` for 1 is a mistake in a recipe, not a value to convert.
_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def options(kind: type[T]) -> type[T]:
    """Make a class a frozen dataclass that refuses unknown names, wrong types, nan and inf. Nothing is converted, but a
    whole number fills a ``float`` and a list a tuple."""
    # mypy takes pydantic's word that it is another type.
    options_class: Any = dataclass(kind, frozen=True, config=_CONFIG)
    return options_class  # type: ignore[no-any-return]


@options
class NoOptions:
    """The config class of an entry without options: any key is refused."""


def is_options(kind: object) -> bool:
    return isinstance(kind, type) and is_pydantic_dataclass(kind)


class InvalidOption(UserError, ValueError):
    """An option that breaks a rule of its class."""


def require(holds: bool, problem: str) -> None:
    """For ``__post_init__``: raises InvalidOption with ``problem`` (the value and the rule) unless it ``holds``."""
    if not holds:
        raise InvalidOption(problem)


def read_options(
    kind: type[T], values: Mapping[str, object], path: Sequence[object], other_names: Sequence[str] = ()
) -> tuple[T | None, list[Problem]]:
    """``kind(**values)``; or ``None`` and everything that is wrong, under ``path``. ``other_names``: keys that the
    caller reads, for "did you mean". Raises UserError where ``kind`` is not made with ``@options``."""
    if not is_options(kind):
        raise UserError(
            f"the options of {'.'.join(map(str, path)) or '?'} are a {kind!r}, which checks nothing: put @options "
            "(from harness.contracts.options) above the class, in the place of @dataclass(frozen=True)"
        )
    hashable: Any = kind  # mypy does not take a type for one
    try:
        # Through JSON, because pydantic's strict mode takes a list for a tuple from JSON but not from Python.
        text = json.dumps(values, ensure_ascii=False, default=str).encode("utf-8", "replace")
        config: Any = adapter(hashable).validate_json(text)
        return config, []
    except ValidationError as error:
        return None, from_pydantic(error.errors(), path, {**field_tree(kind), **dict.fromkeys(other_names)})


def options_from(kind: type[T], values: Mapping[str, object]) -> T:
    """What ``json_data`` wrote, read back. Raises UserError."""
    config, problems = read_options(kind, values, ())
    if config is None:
        raise UserError(f"{kind.__qualname__}: {' '.join(map(str, problems))}")
    return config


def json_data(config: object) -> dict[str, Any]:
    """All options as JSON data; tuples become lists."""
    values: dict[str, Any] = adapter(Any).dump_python(config, mode="json")
    return values


def field_tree(kind: type) -> Fields:
    tree: dict[str, Fields | None] = {}
    for name, hint in get_type_hints(kind).items():
        options_types = [inner_type for inner_type in (hint, *get_args(hint)) if is_options(inner_type)]
        tree[name] = field_tree(options_types[0]) if options_types else None
    return tree


def explanations(kind: type) -> Mapping[str, str]:
    """Option -> the docstring under it, in one line; options without one are left out."""
    texts: dict[str, str] = {}
    # Read from the source only when somebody asks: pydantic's ``use_attribute_docstrings`` does it for every class at
    # import, and forgets those of a base class.
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for field, below in itertools.pairwise(getattr(definition, "body", [])):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = " ".join(text.split())
    return texts


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
"""Pydantic's error types -> what was expected."""


@dataclasses.dataclass(frozen=True)
class Problem:
    path: str
    """Where in the recipe: ``methods.dpo.beta``."""
    rule: str
    """What must hold, as a clause: ``must be a number``."""
    value: str | None = None
    choices: tuple[str, ...] = ()
    near: str = ""
    """The choice that was probably meant."""
    remedy: str = ""
    place: str = ""
    """File and line, or ``--set``."""

    def __str__(self) -> str:
        path = self.path if len(self.path) <= LONGEST_PATH else self.path[: LONGEST_PATH - 3] + "..."
        if self.value is not None:
            subject = " = ".join(part for part in (path, self.value) if part) + ": "
        else:  # a sentence where the rule is a verb; a class's own check may say anything
            verb = self.rule.split(" ")[0] in ("is", "must", "has", "goes", "cannot")
            subject = path and path + (" " if verb else ": ")
        parts = [f"{subject}{self.rule}."]
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
        subject = recipe if recipe.startswith("--") else f"the recipe {recipe!r}"
        if any(problem.place == "--set" for problem in self.problems):
            subject += " with your --set"
        head = f"{subject} has {count} mistake{'s' if count != 1 else ''}:"
        lines = [f"{number:3d}. {problem}" for number, problem in enumerate(self.problems[:MOST_SHOWN], 1)]
        if count > MOST_SHOWN:
            lines.append(f"     and {count - MOST_SHOWN:,} more")
        super().__init__("\n".join([head, *lines]))


def show(value: object) -> str:
    """A value as one short printable line (hostile or huge values must not flood the terminal)."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def unknown_name(path: str, noun: str, value: object, choices: Iterable[str], remedy: str = "") -> Problem:
    """The mistake of a name that is not among ``choices``."""
    names = tuple(sorted(choices))
    guess = near(value, names) if isinstance(value, str) else ""
    return Problem(path, f"is not the name of a {noun}", show(value), names or ("none",), guess, remedy)


def dotted_path(parts: Iterable[object]) -> str:
    """``a.b`` and ``a[2]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


Report = Mapping[str, Any]
Fields: TypeAlias = Mapping[str, "Fields | None"]
"""The options of a class: name -> ``None``, or the options of the class that is nested there."""


def from_pydantic(errors: Iterable[Report], base: Sequence[object], fields: Fields) -> list[Problem]:
    """Pydantic's reports as problems under the path ``base``; those of the branches of one union are merged."""
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
    error, dotted = group[0], dotted_path(path)
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    types = list(dict.fromkeys(TYPES[report["type"]] for report in group if report["type"] in TYPES))
    if kind == "unexpected_keyword_argument":
        return Problem(dotted, "is an unknown key", choices=names, near=near(str(path[-1]), names))
    if kind == "missing":
        return Problem(dotted, "is required and missing", remedy=f"Add the line `{path[-1]}: ...`.")
    if kind == "literal_error":
        choices = tuple(re.findall(r"'([^']*)'", context["expected"]))
        # The other branches of a union: ``null``, or a list of one's own instead of a name.
        return Problem(dotted, "is not one of the choices", show(value), (*choices, *types), near(str(value), choices))
    if kind == "value_error":
        return Problem(dotted, str(context["error"]), show(value) if isinstance(value, str | int | float) else None)
    messages = [report["msg"] for report in group if report["type"] not in TYPES]
    if not messages:
        return Problem(dotted, f"must be {' or '.join(types)}", show(value))
    rule = re.sub(r"^\w+ should", "must", messages[0]).replace(" after validation", "")
    limits = [limit for name, limit in context.items() if name in ("ge", "gt", "le", "lt")]
    if limits:  # 1,000,000 and 1e-30, where pydantic writes all zeros
        limit_text = f"{limits[0]:g}" if isinstance(limits[0], float) else f"{limits[0]:,}"
        rule = f"{rule.rpartition(' ')[0]} {limit_text}"
    return Problem(dotted, rule, show(value))
