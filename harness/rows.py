"""Rows of a user's own file: JSON lines, a JSON array, CSV, TSV or Parquet. Mistakes are told line by line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.errors import UserError
from harness.text import parse_json, replace_in_json
from harness.types import Json

FORMS: Final = "JSON lines, a JSON array, CSV, TSV or Parquet"
_BOM: Final = b"\xef\xbb\xbf"
_DELIMITERS: Final = (";", "\t", "|", ",")
_LONGEST_CELL: Final = 10_000_000  # of a CSV; the standard library stops at 131,072, which a long document passes
_OTHER: Final = {b"\x1f\x8b": "compressed (gzip)", b"PK\x03\x04": "a zip archive or a spreadsheet", b"%PDF": "a PDF"}


@dataclass(frozen=True)
class RowFile:
    """``rows``: place in the file (``line 3``) and row. ``problems``: of lines that are no row, each with its line."""

    digest: str
    rows: tuple[tuple[str, dict[str, Json]], ...]
    problems: tuple[str, ...]
    columns: tuple[str, ...] = ()
    """Of a table, as its first line names them."""


def read_rows(path: str, option: str) -> RowFile:
    """``option``: who names the file, for messages (``prompts.path``). Raises UserError where no row can be read."""
    try:
        content = Path(path).expanduser().read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{option} = {path!r} is not a file that can be read ({reason}). Give a file: {FORMS}."
        ) from error
    if kind := next((kind for start, kind in _OTHER.items() if content.startswith(start)), ""):
        raise UserError(f"{option} = {path!r} is {kind}; needed are {FORMS}.")
    rows: list[tuple[str, dict[str, Json]]] = []
    problems: list[str] = []
    columns: list[str] = []
    for place, row in _parsed(path, option, content, columns):
        if isinstance(row, dict):
            rows.append((place, replace_in_json(row)))
        else:
            problems.append(f"{place}: {row}")
    return RowFile(hashlib.sha256(content).hexdigest(), tuple(rows), tuple(problems), tuple(columns))


def line_number(problem: str) -> int:
    """Of ``line 3: ...``, to list problems in the order of the file."""
    return int(problem.partition(":")[0].rpartition(" ")[2])


def _parsed(path: str, option: str, content: bytes, columns: list[str]) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Place and row, or what is wrong there. Puts the names of a table's first line into ``columns``."""
    if content.startswith(b"PAR1"):
        yield from _parquet(path, option, content)
    elif (suffix := Path(path).suffix.lower()) in (".csv", ".tsv"):
        yield from _table(path, option, content, "\t" if suffix == ".tsv" else ",", columns)
    else:
        yield from _json(content.removeprefix(_BOM))


def _json(content: bytes) -> Iterator[tuple[str, dict[str, Any] | str]]:
    if content.lstrip().startswith(b"["):
        try:
            elements = parse_json(content)
        except ValueError:
            pass  # the line says what is wrong
        else:
            for number, element in enumerate(elements, 1):
                yield f"element {number}", element if isinstance(element, dict) else _no_object(element)
            return
    # Bytes are split, not text: a JSON string may hold U+2028, which ends a line for str.splitlines.
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            at = f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}"
            yield f"line {number}", f"not UTF-8 ({at}). Save the file as UTF-8"
        except json.JSONDecodeError as error:
            yield f"line {number}", f"not JSON ({error.msg[:1].lower()}{error.msg[1:]}, at character {error.colno})"
        except ValueError as error:  # a number of thousands of digits, brackets without end
            yield f"line {number}", str(error)
        else:
            yield f"line {number}", value if isinstance(value, dict) else _no_object(value)


def _no_object(value: object) -> str:
    return f"a {type(value).__name__}, not an object"


def _table(
    path: str, option: str, content: bytes, delimiter: str, names: list[str]
) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Cells are texts, an empty one is missing."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = f"byte {error.start + 1} is 0x{content[error.start]:02x}"
        raise UserError(f"{option} = {path!r} is not UTF-8 ({at}). Save it as UTF-8.") from error
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        first_line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:  # a quote that is not closed swallows the rest
            yield f"line {first_line}", f"not {delimiter!r}-separated: {error}"
            return
        if cells is None:
            return
        if not names:
            names += [cell.strip() for cell in cells]
            other = next((sign for sign in _DELIMITERS if sign != delimiter and sign in "".join(names)), "")
            if len(names) == 1 and other:
                form = "tabs (.tsv)" if delimiter == "\t" else "commas (.csv)"
                text = f"{option} = {path!r}, line 1: the columns seem to be divided by {other!r}, and not by {form}"
                raise UserError(f"{text}. Save it with {form}.")
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled or not any(names):
                raise UserError(f"{option} = {path!r}: the first line must hold a name for each column, all different.")
        elif any(cell.strip() for cell in cells):
            row = {name: cell for name, cell in zip(names, cells, strict=False) if cell != ""}
            fits = len(cells) == len(names)
            yield f"line {first_line}", row if fits else f"{len(cells)} cells, and there are {len(names)} columns"


def _parquet(path: str, option: str, content: bytes) -> Iterator[tuple[str, dict[str, Any] | str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(pa.BufferReader(content)).to_pylist()
    except Exception as error:  # of damaged bytes: errors of many classes, also of Python's own
        raise UserError(f"{option} = {path!r} is a Parquet file that cannot be read: {error}") from error
    for number, row in enumerate(rows, 1):
        yield f"row {number}", {name: value for name, value in row.items() if value is not None}
