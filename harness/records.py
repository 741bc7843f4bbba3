"""JSON lines of the frozen records in ``harness.types``, checked when they are read back."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.errors import UserError
from harness.text import parse_json, replace_surrogates

T = TypeVar("T")


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def first_mistakes(error: ValidationError) -> str:
    """The first five, each with its place."""
    lines = ((".".join(map(str, mistake["loc"])), mistake["msg"]) for mistake in error.errors()[:5])
    return "; ".join(f"{place}: {text}" if place else text for place, text in lines)


def write_records(path: Path, records: Iterable[Any]) -> int:
    """Returns how many. The file is there whole, or as it was before."""
    count = 0
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            for record in records:
                # NaN is refused: it is not JSON and never a score.
                line = json.dumps(dataclasses.asdict(record), ensure_ascii=False, allow_nan=False)
                file.write(replace_surrogates(line) + "\n")
                count += 1
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return count


def read_records(path: Path, kind: type[T]) -> list[T]:
    """Read what ``write_records`` wrote. Raises UserError naming file and line where a line does not fit."""
    records: list[T] = []
    record_type: Any = kind
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                try:
                    records.append(adapter(record_type).validate_json(whole_characters(line)))
                except ValidationError as error:
                    raise _mistake(error, kind, f"{path}, line {number}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text behind line {len(records)} ({error.reason})") from error
    return records


def record(row: Any, kind: type[T], location: str) -> T:
    """One record from parsed JSON. Raises UserError that begins with ``location``."""
    record_type: Any = kind
    try:
        result: T = adapter(record_type).validate_python(row)
    except ValidationError as error:
        raise _mistake(error, kind, location) from error
    return result


def _mistake(error: ValidationError, kind: type[T], location: str) -> UserError:
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"])
    place = f"{location}: {field}" if field else location
    return UserError(f"{place}: {problem['msg']} (a {kind.__name__} was expected)")


def whole_characters(line: str) -> str:
    if "\\ud" not in line.lower():
        return line
    try:
        return replace_surrogates(json.dumps(parse_json(line), ensure_ascii=False))
    except ValueError:
        return line  # no JSON: pydantic says where it breaks
