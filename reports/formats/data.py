"""A table's numbers for scripts: tidy CSV, and JSON with everything behind each cell."""

from __future__ import annotations

import csv
import io
import json

from harness.text import clean, escape_formula
from reports.tables.table import Table


def to_csv(table: Table) -> str:
    """One line per cell, missing numbers empty."""
    out = io.StringIO()
    if table.records:
        writer = csv.DictWriter(out, list(table.records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _field(value) for name, value in record.items()} for record in table.records)
    return out.getvalue()


def _field(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(rounded(value))
    # before the numbers would be reached: in Python True is an int, and CSV readers want 1
    if isinstance(value, bool):
        return int(value)
    return escape_formula(clean(value)) if isinstance(value, str) else value


def rounded(value: float) -> float:
    """To six decimals; a small number, a learning rate or a p-value, to six digits. Below 1e-12 all is round-off, which
    another machine has otherwise."""
    return round(value, 6) if abs(value) >= 0.1 else float(f"{value:.6g}") if abs(value) >= 1e-12 else 0.0


def to_json(table: Table) -> str:
    """One object with keys in a fixed order; floats as ``rounded``, text without control characters."""
    return json.dumps(_round_floats(table.data), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _round_floats(value: object) -> object:
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        # most of a table's JSON is missing numbers: they need no call
        return {clean(str(key)): None if item is None else _round_floats(item) for key, item in value.items()}
    return [_round_floats(item) for item in value] if isinstance(value, list | tuple) else value
