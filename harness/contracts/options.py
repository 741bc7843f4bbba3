"""Options of methods, benchmarks and judges: plain frozen dataclasses, filled from a recipe and checked strictly.

Third parties write only the dataclass. Rules beyond types live in its ``__post_init__`` (a ``ValueError`` there is
reported with the option's path). The same reading of numbers serves the recipe itself.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import operator
import textwrap
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from harness.contracts.option_errors import FieldNames, Problem, from_pydantic
from harness.errors import UserError


def _number(value: object) -> object:
    """YAML 1.1 reads ``1e-6`` (no dot) as text; whoever writes it means the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Number = Annotated[float, BeforeValidator(_number), AfterValidator(_finite)]
"""A float field of a recipe: whole numbers and ``1e-6`` are numbers; true, nan and inf are not."""


class Strict(BaseModel):
    """Base of everything a recipe holds: frozen, no unknown keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


Plain = dict[str, Any]


def read_config(
    kind: type[Any], values: Mapping[str, Any], path: Sequence[object], beside: Sequence[str] = ()
) -> tuple[Plain, list[Problem]]:
    """All options of ``kind(**values)`` as plain data, after strict checks; or ({}, what is wrong, under ``path``).

    ``beside``: keys that may stand there too and were read already, for "did you mean".

    Raises:
        TypeError: ``kind`` is no dataclass (a mistake of the plug-in, not of the recipe).
    """
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"the config of {path[-1] if path else '?'} must be a dataclass type, got {kind!r}")
    model = _model(kind)
    fields = FieldNames(dict.fromkeys((*(field.name for field in dataclasses.fields(kind)), *beside)))
    try:
        checked = model.model_validate(dict(values))
    except ValidationError as error:
        return {}, from_pydantic(error.errors(), path, fields)
    given = {name: getattr(checked, _safe(name)) for name in values}
    try:
        return config_values(kind(**given)), []
    except (ValueError, UserError) as error:
        return {}, from_pydantic([{"type": "value_error", "loc": (), "ctx": {"error": error}}], path, fields)


def config_values(config: Any) -> dict[str, Any]:
    """All options of a config with their values, as plain YAML and JSON data (tuples become lists)."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(config))
    return plain


def explanations(kind: type[Any]) -> dict[str, str]:
    """Option -> the docstring under it, in one line; options without one are left out. Inherited ones come first."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(part):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for node, after in itertools.pairwise(statements):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                text = (
                    after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
                )
                found |= {node.target.id: " ".join(text.split())} if isinstance(text, str) else {}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if not isinstance(value, str | int | float | bool | None) else value


@functools.lru_cache(maxsize=128)
def _model(kind: type[Any]) -> type[Strict]:
    """A strict pydantic model with the fields of a dataclass. Made once: making one takes milliseconds."""
    hints = get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        info = Field(default=None, alias=field.name) if optional else Field(alias=field.name)
        fields[_safe(field.name)] = (_readable(hints[field.name]), info)
    return create_model(kind.__name__, __base__=Strict, **fields)


def _safe(name: str) -> str:
    """Field names that pydantic keeps for itself (``model_``, ``copy``, ``json``) are free for the dataclass."""
    return f"option_{name}"


def _readable(hint: Any) -> Any:
    """A type hint with every ``float`` lenient as in ``Number`` and every tuple readable from a YAML list."""
    if hint is float:
        return Number
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(_readable(arguments[0]), *arguments[1:])]
    if origin in (Union, types.UnionType):
        return functools.reduce(operator.or_, [_readable(each) for each in arguments])
    if origin is tuple:
        inner = tuple(each if each is Ellipsis else _readable(each) for each in arguments)
        return Annotated[types.GenericAlias(tuple, inner), Field(strict=False)]
    if isinstance(origin, type) and issubclass(origin, Mapping | Sequence):
        return types.GenericAlias(origin, tuple(_readable(each) for each in arguments))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _model(hint)
    return hint
