"""Numbers of a table by hand: seeds, intervals, paired changes, Holm, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.benchmark import Metric
from harness.errors import UserError
from harness.types import Score
from reports.summary import summarise
from reports.targets import TARGETS, find_target
from results.frames import Results
from results.run import Cell, Family, RowSpec, Run
from tests.reports import world

TABLE1 = TARGETS["table1"]
METRIC = Metric("gsm8k.acc", "Acc.", "GSM8K")


def by_hand(rows: dict[str, list[Score | None]]) -> Results:
    """Results of one metric; the n-th score of a row is of seed n."""
    seeds = tuple(range(max(len(scores) for scores in rows.values())))
    specs = tuple(RowSpec(row, row.upper(), row in ("teacher", "student")) for row in rows)
    cells = tuple(Cell(row, METRIC.id, seed, "k", "e") for row, scores in rows.items() for seed in range(len(scores)))
    run = Run("r", {}, "", True, Family("pocket", "t", "s"), specs, (METRIC,), seeds, cells)
    found = {(row, METRIC.id, seed): one for row, scores in rows.items() for seed, one in enumerate(scores) if one}
    missing = {
        (row, METRIC.id, seed): "why" for row, scores in rows.items() for seed, one in enumerate(scores) if not one
    }
    return Results(run, found, missing)


def one(value: float | None, replicates: object, n: int = 100, unscored: int = 0, note: str = "") -> Score:
    draws = tuple(float(draw) for draw in np.asarray(replicates, dtype=float))
    low, high = (value - 5, value + 5) if value is not None else (None, None)
    return Score(METRIC.id, value, low, high, n, unscored, note, replicates=draws)


def test_one_seed_by_hand() -> None:
    """Student 40, method 46, paired replicates differ by 5.0, 5.5, ..., 7.0 (41 of each of 5 values).

    change = 6; interval = percentiles of the differences = [5, 7]; p = 2 (0 + 1) / (205 + 1); one comparison, so Holm
    changes nothing. SE = std of {5, 5.5, 6, 6.5, 7} = sqrt(0.5) (with 204 instead of 205 below the line).
    """
    base = np.linspace(35, 45, 205)
    difference = np.tile([5.0, 5.5, 6.0, 6.5, 7.0], 41)
    summary = summarise(by_hand({"student": [one(40, base)], "kd": [one(46, base + difference)]}), TABLE1)
    cell = summary.cells["kd", "gsm8k.acc"]
    assert (cell.value, cell.low, cell.high) == (46, 41, 51)  # the score's own interval
    assert cell.delta == 6
    assert (cell.delta_low, cell.delta_high) == pytest.approx((5, 7))
    assert cell.p == cell.p_holm == pytest.approx(2 / 206)
    assert cell.significant
    assert summary.columns[0].detectable == pytest.approx((1.959964 + 0.841621) * math.sqrt(0.5 * 205 / 204))
    assert summary.cells["student", "gsm8k.acc"].delta is None


def test_seeds_are_averaged_and_widen_the_interval() -> None:
    """Seeds 40 and 60 with replicates constant in b: the mean is 50; redrawing two seeds gives 40, 50, 60, and the
    deviations are scaled by sqrt(2): 50 -+ 10 * 1.41421 = 35.86 and 64.14."""
    rows = {"student": [one(30, [30] * 400)], "kd": [one(40, [40] * 400), one(60, [60] * 400, n=90, unscored=1)]}
    cell = summarise(by_hand(rows), TABLE1).cells["kd", "gsm8k.acc"]
    assert cell.value == 50
    assert (cell.low, cell.high) == pytest.approx((50 - 10 * math.sqrt(2), 50 + 10 * math.sqrt(2)))
    assert (cell.n, cell.unscored, cell.seeds) == (90, 1, 2)
    assert cell.coverage == pytest.approx(190 / 191)
    assert cell.delta == 20


def test_holm_runs_over_the_methods_of_a_column() -> None:
    """399 replicates; dpo is always above (p = 2/400), kd is below in 7 of them (p = 2 * 8 / 400 = 0.04).

    Holm over two: dpo 2 * 0.005 = 0.01, kd 1 * 0.04 = 0.04. With a third, equal to the student (p = 1): 0.015, 0.08, 1.
    The teacher is no comparison.
    """
    base = [40.0] * 399
    rows: dict[str, list[Score | None]] = {
        "teacher": [one(60, [60] * 399)],
        "student": [one(40, base)],
        "kd": [one(41, [39] * 7 + [41] * 392)],
        "dpo": [one(45, [45] * 399)],
    }
    cells = summarise(by_hand(rows), TABLE1).cells
    assert cells["dpo", "gsm8k.acc"].p_holm == pytest.approx(0.01)
    assert cells["kd", "gsm8k.acc"].p_holm == pytest.approx(0.04)
    summary = summarise(by_hand({**rows, "pro": [one(40, base)]}), TABLE1)
    adjusted = [summary.cells[row, "gsm8k.acc"].p_holm for row in ("dpo", "kd", "pro")]
    assert adjusted == pytest.approx([0.015, 0.08, 1.0])
    assert summary.cells["teacher", "gsm8k.acc"].p is None
    assert summary.columns[0].comparisons == 3
    assert summary.columns[0].best == ("dpo",)


def test_coverage_below_the_minimum_is_refused_and_not_compared() -> None:
    rows: dict[str, list[Score | None]] = {
        "student": [one(40, [40.0] * 99)],
        "kd": [one(46, [46.0] * 99, n=91, unscored=9)],
        "dpo": [one(45, [45.0] * 99, n=98, unscored=2)],
    }
    summary = summarise(by_hand(rows), TABLE1)
    refused = summary.cells["kd", "gsm8k.acc"]
    assert refused.refused
    assert refused.value is refused.delta is refused.p is None
    assert refused.coverage == pytest.approx(0.91)
    assert summary.columns[0].comparisons == 1
    assert summary.cells["dpo", "gsm8k.acc"].value == 45  # exactly 98%
    assert summarise(by_hand(rows), TABLE1, min_coverage=0.5).cells["kd", "gsm8k.acc"].value == 46


def test_a_refused_student_withholds_every_change() -> None:
    rows: dict[str, list[Score | None]] = {
        "student": [one(40, [40.0] * 99, n=1, unscored=9)],
        "kd": [one(46, [46.0] * 99)],
    }
    cell = summarise(by_hand(rows), TABLE1).cells["kd", "gsm8k.acc"]
    assert cell.value == 46
    assert cell.delta is cell.p is None


def test_none_is_none_with_its_reasons() -> None:
    rows: dict[str, list[Score | None]] = {
        "student": [one(40, [40.0] * 99), None],
        "kd": [one(None, [], n=0, unscored=0, note="needs 100 questions"), None],
    }
    cells = summarise(by_hand(rows), TABLE1).cells
    assert cells["kd", "gsm8k.acc"].value is None
    assert cells["kd", "gsm8k.acc"].notes == ("why", "needs 100 questions")
    assert cells["student", "gsm8k.acc"].value == 40
    assert "1 of 2 seeds" in cells["student", "gsm8k.acc"].notes


def test_scores_without_replicates_have_a_change_but_no_test() -> None:
    cell = summarise(by_hand({"student": [one(40, [])], "kd": [one(46, [])]}), TABLE1).cells["kd", "gsm8k.acc"]
    assert (cell.delta, cell.p, cell.significant) == (6, None, False)


def test_what_cannot_be_paired_is_an_error() -> None:
    with pytest.raises(UserError, match="98, 99 bootstrap replicates cannot be paired"):
        summarise(by_hand({"student": [one(40, [40] * 99)], "kd": [one(46, [46] * 98)]}), TABLE1)
    with pytest.raises(UserError, match="between 0 and 1"):
        summarise(by_hand({"student": [one(40, [40] * 99)]}), TABLE1, min_coverage=98)


def test_few_questions_and_few_replicates_are_said() -> None:
    rows: dict[str, list[Score | None]] = {"student": [one(40, [40] * 20)], "kd": [one(46, [46] * 20)]}
    (warning,) = summarise(by_hand(rows), TABLE1).columns[0].warnings
    assert "20 bootstrap replicates are too few" in warning  # 2 / 21 > 0.05
    rows = {"student": [one(40, [40] * 999, n=3)], "kd": [one(46, [46] * 999, n=3)]}
    summary = summarise(by_hand(rows), TABLE1)
    assert "only 3 questions" in summary.columns[0].warnings[0]
    cell = summary.cells["kd", "gsm8k.acc"]  # p would be 0.002
    assert (cell.delta, cell.p, cell.significant) == (6, None, False)


def test_rows_come_in_the_targets_order_and_others_after() -> None:
    summary = summarise(world.make(rows=("my-method", "pad-ppd", "student", "teacher")), TABLE1)
    assert [row.id for row in summary.rows] == ["teacher", "student", "pad-ppd", "my-method"]
    assert "kd" in summary.absent
    with pytest.raises(UserError, match="Did you mean 'table1'"):
        find_target("tabel1")
