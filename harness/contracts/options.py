"""Options from YAML to the loss: frozen dataclasses that pydantic checks when they are made.

Sections of a recipe and the options of all entries are made with ``@options``. Rules that types cannot express go into
``__post_init__``, through ``require``.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, dataclass_transform, get_args, get_type_hints

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass, is_pydantic_dataclass
from typing_extensions import TypeVar

from harness.contracts.option_errors import Fields, Problem, from_pydantic
from harness.errors import UserError
from harness.records import adapter

T = TypeVar("T")
C = TypeVar("C", default=Any)
"""The options of an entry of a table of contents. The kind of entry alone is one of any options."""

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]

# Strict: ``epochs: "2"`` or ``true`` for 1 is a mistake in a recipe, not a value to convert.
_CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def options(kind: type[T]) -> type[T]:
    """Make a class a frozen dataclass that refuses unknown names, wrong types, nan and inf.

    No type is converted, but a whole number fills a ``float``, and a list of YAML or JSON fills a tuple.
    """
    checked: Any = dataclass(kind, frozen=True, config=_CONFIG)  # mypy takes pydantic's word that it is another type
    return checked  # type: ignore[no-any-return]


@options
class NoOptions:
    """For an entry that has none."""


def is_options(kind: object) -> bool:
    """Whether this is a class made with ``@options``."""
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
    """``kind(**values)`` for values from YAML or JSON; or ``None`` and everything that is wrong, under ``path``.

    ``other_names``: keys of the same mapping that the caller reads, for "did you mean". Raises UserError where ``kind``
    is not made with ``@options`` (a mistake of the plug-in, not of the recipe).
    """
    if not is_options(kind):
        raise UserError(
            f"the options of {'.'.join(map(str, path)) or '?'} are a {kind!r}, which checks nothing: put @options "
            "(from harness.contracts.options) above the class, in the place of @dataclass(frozen=True)"
        )
    hashable: Any = kind  # mypy does not take a type for one
    try:
        # Through JSON, because pydantic's strict mode takes a list for a tuple from JSON but not from Python.
        text = json.dumps(values, ensure_ascii=False, default=str).encode("utf-8", "replace")
        read: Any = adapter(hashable).validate_json(text)
        return read, []
    except ValidationError as error:
        return None, from_pydantic(error.errors(), path, {**field_tree(kind), **dict.fromkeys(other_names)})


def options_from(kind: type[T], values: Mapping[str, object]) -> T:
    """What ``plain`` wrote, read back. Raises UserError."""
    config, problems = read_options(kind, values, ())
    if config is None:
        raise UserError(f"{kind.__qualname__}: {' '.join(map(str, problems))}")
    return config


def plain(config: object) -> dict[str, Any]:
    """All options with their values as JSON data; tuples become lists."""
    values: dict[str, Any] = adapter(Any).dump_python(config, mode="json")
    return values


def field_tree(kind: type) -> Fields:
    """The options of a class, and those of the classes made with ``@options`` that are nested in it."""
    tree: dict[str, Fields | None] = {}
    for name, hint in get_type_hints(kind).items():
        nested = [part for part in (hint, *get_args(hint)) if is_options(part)]
        tree[name] = field_tree(nested[0]) if nested else None
    return tree


def explanations(kind: type) -> dict[str, str]:
    """Option -> the docstring under it, in one line; options without one are left out."""
    texts: dict[str, str] = {}
    # Read from the source only when somebody asks: pydantic's ``use_attribute_docstrings`` does it for every class at
    # import, and forgets those of a base class.
    for part in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(part):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        for field, below in itertools.pairwise(getattr(definition, "body", [])):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = " ".join(text.split())
    return texts
