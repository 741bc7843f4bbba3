"""The paper's own numbers: ``published_table("table1")["gemma2", "pad-ppd", "alpaca_eval.lc"].value``. "Capturing
Nuanced Preferences: Preference-Aligned Distillation for Small Language Models" (arXiv 2502.14272, ACL Findings 2025).
One number per line of ``table*.csv``. Family ``any`` stands for every family."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.errors import unknown_choice

TABLES = tuple(f"table{number}" for number in range(1, 7))
PAPER = "PAD (arXiv 2502.14272)"


class PublishedNumber(NamedTuple):
    value: float  # in the metric's unit: per cent, points of 1 to 10, hours
    source: str  # where in the paper, and when it was published
    protocol: str  # how it was measured, as far as the paper says
    note: str = ""  # a known conflict or doubt; belongs into a footnote


@cache
def published_table(table: str) -> Mapping[tuple[str, str, str], PublishedNumber]:
    """By family, row (a method id, ``pad-ppd-1x4``, a setting, a judge) and metric. Raises UserError: unknown table."""
    if table not in TABLES:
        raise unknown_choice("published table", table, TABLES)
    with (Path(__file__).parent / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return {
            (line["family"], line["row"], line["metric"]): PublishedNumber(
                float(line["value"]), f"{PAPER}, {line['source']}, {line['date']}", line["protocol"], line["note"]
            )
            for line in csv.DictReader(file)
        }


def in_paper(table: str, family: str) -> bool:
    """Whether the table has numbers for this family. Raises UserError for an unknown table."""
    return any(key[0] == family for key in published_table(table))
