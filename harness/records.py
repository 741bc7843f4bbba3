"""JSON lines of the frozen records in ``harness.types``, checked when they are read back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.errors import UserError

T = TypeVar("T")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def write_records(path: Path, records: Iterable[Any]) -> int:
    """One JSON object per line; returns how many. NaN is refused: it is not JSON and never a score."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(dataclasses.asdict(record), ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def read_records(path: Path, kind: type[T]) -> list[T]:
    """Read what ``write_records`` wrote. Raises UserError naming file and line where a line does not fit."""
    records: list[T] = []
    anything: Any = kind
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                records.append(_adapter(anything).validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise UserError(
                    f"{path}, line {number}: {where}: {first['msg']} (a {kind.__name__} was expected)"
                ) from error
    return records
