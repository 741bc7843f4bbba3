"""The paper's own numbers: ``published_table("table1")["gemma2", "pad-ppd", "alpaca_eval.lc"].value``.

From "Capturing Nuanced Preferences: Preference-Aligned Distillation for Small Language Models" (arXiv 2502.14272,
ACL Findings 2025). The files ``published/table*.csv`` hold one number per line with protocol, place and date, and,
where the paper contradicts itself or its released code, a note. Family ``any`` stands for every family.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.errors import UserError, unknown

FOLDER = Path(__file__).parent
TABLES = tuple(f"table{number}" for number in range(1, 7))
PAPER = "PAD (arXiv 2502.14272)"
_COLUMNS = ["table", "family", "row", "metric", "value", "protocol", "source", "date", "note"]


@dataclass(frozen=True)
class Published:
    value: float
    """In the metric's unit: per cent, points of 1 to 10, hours."""
    source: str
    """Where in the paper, and when it was published."""
    protocol: str
    """How it was measured, as far as the paper says."""
    note: str = ""
    """A known conflict or doubt; belongs into a footnote. Empty when there is none."""


Key = tuple[str, str, str]
"""Family, row (a method id, ``pad-ppd-1x4``, a hyperparameter, a judge), metric."""


@cache
def published_table(table: str) -> Mapping[Key, Published]:
    """All numbers of a table. Raises UserError for an unknown table or a file that does not fit."""
    if table not in TABLES:
        raise unknown("published table", table, TABLES)
    path = FOLDER / f"{table}.csv"
    numbers: dict[Key, Published] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise UserError(f"{path}: the columns are {reader.fieldnames}, expected {_COLUMNS}")
            for line in reader:
                key = (line["family"], line["row"], line["metric"])
                if key in numbers:
                    raise UserError(f"{path}, line {reader.line_num}: {', '.join(key)} is there twice")
                source = f"{PAPER}, {line['source']}, {line['date']}"
                numbers[key] = Published(float(line["value"]), source, line["protocol"], line["note"])
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Reinstall distilbench.") from error
    return numbers


def in_paper(table: str, family: str) -> bool:
    """Whether the paper's table has numbers for this family. Raises UserError for an unknown table."""
    return any(key[0] == family for key in published_table(table))
