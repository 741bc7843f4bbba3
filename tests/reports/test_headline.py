"""What a table says in words: the numbers of its sentences, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.contracts.benchmark import Metric
from harness.types import Score
from reports.tables.headline import difference, headline
from reports.tables.score_table import score_table
from reports.tables.summary import summarise
from reports.targets import TARGETS
from results.run.record import Cell, RowSpec, Run, RunFamily
from results.run.results import Results
from tests.reports import world

LC, WR, GSM8K = (
    Metric("alpaca_eval.lc", "LC", "AlpacaEval 2"),
    Metric("alpaca_eval.wr", "WR", "AlpacaEval 2"),
    Metric("gsm8k.acc", "Acc.", "GSM8K"),
)
TITLES = {"student": "Student", "kd": "Standard KD", "dpo": "DPO", "pad-ppd": "PAD w/ PPD"}
BASE = np.linspace(35, 45, 205)
APART = np.tile([1.0, 1.5, 2.0, 2.5, 3.0], 41)
"""Of paired replicates that never cross 0: p = 2 (0 + 1) / (205 + 1) = 0.0097, and 0.029 after Holm over 3 rows."""
NEAR = np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 41)
"""Of replicates as often above 0 as below it: p = 1."""


def results(columns: dict[Metric, dict[str, tuple[float, object]]], n: int = 100) -> Results:
    """One seed; each row's value and replicates."""
    rows = list(next(iter(columns.values())))
    specs = tuple(RowSpec(row, TITLES[row], row == "student") for row in rows)
    cells = tuple(Cell(row, metric.id, 0, "k", "e") for row in rows for metric in columns)
    run = Run("r", {}, "", True, RunFamily("pocket", "t", "s"), specs, tuple(columns), (0,), cells)
    scores = {
        (row, metric.id, 0): Score(
            metric.id, value, value - 5, value + 5, n, 0, replicates=tuple(float(one) for one in np.asarray(draws))
        )
        for metric, by_row in columns.items()
        for row, (value, draws) in by_row.items()
    }
    return Results(run, scores)


def said(of: Results, target: str = "table1") -> tuple[str, ...]:
    return headline(summarise(of, TARGETS[target]))


def test_the_focus_row_against_the_best_other_row() -> None:
    """PAD w/ PPD 46.1, DPO 42.0, Standard KD 41.0: 4.1 above DPO; the replicates of the difference cross 0."""
    rows = {
        "student": (40.0, BASE), "kd": (41.0, BASE + NEAR), "dpo": (42.0, BASE - NEAR), "pad-ppd": (46.1, BASE)
    }  # fmt: skip
    first, *rest = said(results({LC: rows}))
    assert first == "PAD w/ PPD is 4.1 points above DPO, the next best trained row, on AlpacaEval 2: not significant."
    assert rest == [f"No row is significantly above {row} on AlpacaEval 2." for row in ("Student", "PAD w/ PPD")]


def test_rows_are_counted_by_column() -> None:
    """LC: every row is 1 to 3 above Student, DPO 1 to 3 above the focus row too. GSM8K: nothing differs."""
    clear = {
        "student": (40.0, BASE), "kd": (42.0, BASE + APART), "dpo": (44.0, BASE + 2 * APART),
        "pad-ppd": (42.0, BASE + APART),
    }  # fmt: skip
    same = {row: (80.0, BASE + sign * NEAR) for row, sign in zip(TITLES, (0, 1, -1, 2), strict=True)}
    assert said(results({LC: clear, WR: clear, GSM8K: same})) == (
        "PAD w/ PPD is 2.0 points below DPO, the best other trained row, on AlpacaEval 2 LC: significant.",
        "Significantly above Student: all 3 rows on AlpacaEval 2 LC and AlpacaEval 2 WR; no row on GSM8K.",
        "Significantly above PAD w/ PPD: DPO on AlpacaEval 2 LC and AlpacaEval 2 WR; no row on GSM8K.",
    )


def test_rows_below_are_named() -> None:
    """Two of three rows are 1 to 3 below Student; Holm's third comparison is as clear as the others."""
    rows = {
        "student": (40.0, BASE), "kd": (38.0, BASE - APART), "dpo": (38.0, BASE - APART), "pad-ppd": (40.0, BASE + NEAR)
    }  # fmt: skip
    sentences = said(results({LC: rows}))
    assert "No row is significantly above Student on AlpacaEval 2." in sentences
    assert "Significantly below Student: 2 of 3 rows on AlpacaEval 2." in sentences


def test_without_the_focus_row_the_best_row_stands_first() -> None:
    rows = {"student": (40.0, BASE), "kd": (42.0, BASE + APART), "dpo": (44.0, BASE + 2 * APART)}
    first, second = said(results({LC: rows}))
    assert first == "DPO is 2.0 points above Standard KD, the next best trained row, on AlpacaEval 2: significant."
    assert second == "Significantly above Student: both rows on AlpacaEval 2."


def test_few_questions_are_not_tested() -> None:
    rows = {"student": (40.0, BASE), "dpo": (42.0, BASE + APART), "pad-ppd": (44.0, BASE + 2 * APART)}
    assert said(results({LC: rows}, n=20)) == (
        "PAD w/ PPD is 2.0 points above DPO, the next best trained row, on AlpacaEval 2: not tested.",
        "No difference from Student was tested.",
    )


def test_one_trained_row_stands_against_the_reference() -> None:
    rows = {"student": (40.0, BASE), "dpo": (42.0, BASE + APART)}
    assert said(results({LC: rows}))[0] == "DPO is 2.0 points above Student on AlpacaEval 2: significant."


def test_rows_that_print_the_same_value_are_level_and_not_significant() -> None:
    """Both are the best of the column, so neither is marked as tied with the best."""
    rows = {"student": (40.0, BASE), "kd": (42.0, BASE + NEAR), "dpo": (42.0, BASE - NEAR)}
    first, *_ = said(results({LC: rows}))
    assert first == "Standard KD is level with DPO, the next best trained row, on AlpacaEval 2: not significant."


def test_without_the_reference_one_trained_row_was_compared_with_nothing() -> None:
    teacher = {"dpo": (42.0, BASE), "teacher": (60.0, BASE + APART)}
    of = results({LC: {"dpo": teacher["dpo"], "student": teacher["teacher"]}})
    specs = (RowSpec("dpo", "DPO"), RowSpec("teacher", "Teacher", True))
    cells = tuple(Cell(row.id, LC.id, 0, "k", "e") for row in specs)
    scores = {("dpo", LC.id, 0): of.scores["dpo", LC.id, 0], ("teacher", LC.id, 0): of.scores["student", LC.id, 0]}
    first, *_ = said(Results(replace(of.run, rows=specs, cells=cells), scores))
    assert first == "Teacher is 18.0 points above DPO, the next best row, on AlpacaEval 2: not tested."


def test_one_row_is_a_value_and_no_row_is_nothing() -> None:
    alone = results({LC: {"student": (40.123, BASE)}})
    assert said(alone)[0] == "Student has 40.12 on AlpacaEval 2 [35.12, 45.12]."
    assert said(replace(alone, scores={}, missing_scores=dict.fromkeys(alone.scores, "why"))) == ()


@pytest.mark.parametrize(
    ("delta", "unit", "text"),
    [
        (4.06, "%", "4.1 points above"), (-0.96, "%", "1.0 point below"), (0.04, "%", "level with"),
        (-0.364, "1-10", "0.36 points below"),
    ],
)  # fmt: skip
def test_a_difference_in_words(delta: float, unit: str, text: str) -> None:
    assert difference(delta, Metric("a.b", "B", "A", unit=unit)) == text


def test_the_table_has_the_sentences_and_a_tip_for_every_sign() -> None:
    table = world.table_of(world.make())
    assert table.summary == table.data["summary"] or list(table.summary) == table.data["summary"]
    signed = [cell for row in table.rows for cell in row.cells if cell.change or cell.signs(True)]
    assert len(signed) == 8 * 5 and all(cell.tips for cell in signed)
    kd = table.rows[2].cells[1]
    assert kd.tips[0].startswith("change from Student: +") and "after Holm over 8 rows" in kd.tips[0]
    assert ("†" in kd.other_signs) == any(tip.startswith("†: PAD-PPD is significantly better") for tip in kd.tips)
    unfinished = world.make()
    unfinished = replace(unfinished, run=replace(unfinished.run, finished=False))
    assert score_table(summarise(unfinished, TARGETS["table1"]), unfinished).summary[0].startswith("This run is not")
