"""The simulation of the tables' statistics, small: see ``studies/table_statistics.json`` for the whole of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studies.table_statistics import SETTINGS, coverage

STORED = Path(__file__).parents[1] / "studies" / "table_statistics.json"


@pytest.mark.parametrize("name", ["one seed", "three seeds, small seed effect"])
def test_intervals_and_tests_are_about_right(name: str) -> None:
    """40 columns of 8 rows: 320 intervals (standard error 1.2 points if independent), 40 families (3.4 points)."""
    found = coverage(SETTINGS[name], runs=40, replicates=200)
    assert 0.89 <= found["interval_of_value"]["rate"] <= 0.995
    assert 0.90 <= found["interval_of_change"]["rate"] <= 0.995
    assert found["family_wise_error_against_student"]["rate"] <= 0.15
    assert found["family_wise_error_of_focus"]["rate"] <= 0.15


def test_what_is_stored_holds_what_the_tables_say() -> None:
    stored = json.loads(STORED.read_text())
    assert set(stored["settings"]) == set(SETTINGS)
    for name, found in stored["settings"].items():
        most = 0.13 if "uneven" in name else 0.06  # the price of pooling, which docs/tables.md states
        assert 0.93 <= found["interval_of_change"]["rate"] <= 0.98, name
        assert found["family_wise_error_against_student"]["rate"] <= most, name
        assert found["family_wise_error_of_focus"]["rate"] <= most, name
        assert found["best_row_left_out"]["rate"] <= 0.05, name
    assert stored["verdicts"]["agrees_when_outside_of_margin"]["rate"] <= 0.05
