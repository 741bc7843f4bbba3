"""A table as JSON: every number behind it, for scripts and for the page. Keys are in a fixed order, missing is null."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from reports.formats.markdown_csv import numbers_of, verdict_of
from reports.tables.cell import CellSummary
from reports.tables.legend import clean
from reports.tables.summary import ColumnSummary, Summary
from reports.tables.view import TableView
from results.run.record import Run

FORMAT = 1
"""Raised when a key changes its meaning."""


def to_json(summary: Summary, view: TableView, run: Run) -> str:
    """One object: what the run was, columns, rows with their cells, and the table's own lines.

    Numbers are in the metric's unit, to six decimals; a cell's ``seeds`` has the value under each training seed, and
    its other numbers go by the names of the CSV. Nothing here depends on when or how fast the run was made.
    """
    metrics = [column.metric.id for column in summary.columns]
    cells = {
        row.id: {
            metric: _cell(summary.cells[row.id, metric], column)
            for metric, column in zip(metrics, summary.columns, strict=True)
        }
        for row in summary.rows
    }
    whole = {
        "format": FORMAT,
        "target": summary.target.name,
        "title": view.title,
        "run": {
            "name": run.name, "family": asdict(run.family), "finished": run.finished, "seeds": list(run.seeds),
            "judges": dict(run.judges), "protocols": [asdict(card) for card in run.cards],
        },
        "reference": summary.target.reference,
        "focus": summary.target.focus,
        "min_coverage": summary.min_coverage,
        "columns": [_column(column) for column in summary.columns],
        "rows": [{**asdict(row), "cells": cells[row.id]} for row in summary.rows],
        "absent": list(summary.absent),
        "legend": list(view.legend),
        "footnotes": dict(view.footnotes),
    }  # fmt: skip
    return json.dumps(_plain(whole), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _column(column: ColumnSummary) -> dict[str, Any]:
    return {
        **asdict(column.metric), "best": list(column.best), "detectable": column.detectable,
        "tests_against_reference": column.comparisons, "tests_of_focus": column.focus_comparisons,
        "tests_against_best": column.best_comparisons,
        "variance": None if column.split is None else asdict(column.split), "warnings": list(column.warnings),
    }  # fmt: skip


def _cell(cell: CellSummary, column: ColumnSummary) -> dict[str, Any]:
    beside, (length, baseline, cut) = cell.beside, cell.lengths or (None, None, None)
    numbers = {name: value for name, value in numbers_of(cell, column).items() if name != "detectable"}
    return {
        **numbers, "n": cell.n, "unscored": cell.unscored, "refused": cell.refused,
        "seeds": {str(seed): value for seed, value in cell.by_seed.items()}, "tied_with_best": cell.tied,
        "verdict": verdict_of(cell), "not_comparable": list(beside.why) if beside else [],
        "doubts": list(beside.doubts) if beside and not beside.why else [],
        "published_note": beside.note if beside else "", "mean_length": length, "baseline_length": baseline,
        "truncated": cut, "categories": dict(cell.categories), "notes": list(cell.notes),
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Floats rounded, text without control characters, all the way down."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
