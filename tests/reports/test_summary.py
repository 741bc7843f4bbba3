"""Numbers of a table by hand: seeds, intervals, paired changes, Holm, coverage."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.contracts.benchmark import Metric
from harness.errors import UserError
from harness.stats import Draws, SeedNoise
from harness.types import Score
from reports.tables.score_table import p_text, score_table
from reports.tables.summary import NOT_COMPARED, scale, summarise, variance_shares
from reports.targets import TARGETS, find_target
from results.run.lineage import StudentTraining
from results.run.record import Cell, RowSpec, Run, RunFamily
from results.run.results import Results
from tests.reports import world
from tests.reports.world import table_of

TABLE1 = TARGETS["table1"]
METRIC = Metric("gsm8k.acc", "Acc.", "GSM8K")


def by_hand(rows: dict[str, list[Score | None]]) -> Results:
    """Results of one metric; the n-th score of a row is of seed n."""
    seeds = tuple(range(max(len(scores) for scores in rows.values())))
    specs = tuple(RowSpec(row, row.upper(), row in ("teacher", "student")) for row in rows)
    cells = tuple(Cell(row, METRIC.id, seed, "k", "e") for row, scores in rows.items() for seed in range(len(scores)))
    run = Run("r", {}, "", True, RunFamily("pocket", "t", "s"), specs, (METRIC,), seeds, cells)
    places = {(row, METRIC.id, seed): score for row, scores in rows.items() for seed, score in enumerate(scores)}
    by_place = {place: score for place, score in places.items() if score}
    missing = {place: "why" for place, score in places.items() if not score}
    return Results(run, by_place, missing)


def score_of(value: float | None, replicates: object, n: int = 100, unscored: int = 0, note: str = "") -> Score:
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
    summary = summarise(by_hand({"student": [score_of(40, base)], "kd": [score_of(46, base + difference)]}), TABLE1)
    cell = summary.cells["kd", "gsm8k.acc"]
    assert (cell.value, cell.low, cell.high) == (46, 41, 51)  # the score's own interval
    assert cell.change.delta == 6
    assert (cell.change.low, cell.change.high) == pytest.approx((5, 7))
    assert cell.change.p == cell.change.p_holm == pytest.approx(2 / 206)
    assert cell.change.significant
    assert summary.difference("kd", "student", "gsm8k.acc") == (
        6,
        cell.change.low,
        cell.change.high,
        cell.change.p,
        100,
    )
    assert summary.columns[0].detectable == pytest.approx((1.959964 + 0.841621) * math.sqrt(0.5 * 205 / 204))
    assert summary.cells["student", "gsm8k.acc"].change.delta is None


def test_seeds_are_averaged_and_widen_the_interval() -> None:
    """Seeds 49, 50 and 51 with replicates constant in b: mean 50, variance of a seed 1, of the mean 1/3; 2 degrees of
    freedom, t = 4.3027: 50 -+ 4.3027 / sqrt(3) = 47.516 and 52.484. Nobody trained the student: it adds nothing.
    """
    rows = {
        "student": [score_of(30, [30] * 400)],
        "kd": [score_of(49, [49] * 400), score_of(50, [50] * 400, n=90, unscored=1), score_of(51, [51] * 400)],
    }
    cell = summarise(by_hand(rows), TABLE1).cells["kd", "gsm8k.acc"]
    assert cell.value == 50
    assert (cell.low, cell.high) == pytest.approx((47.5159, 52.4841), abs=1e-4)
    assert (cell.n, cell.unscored, len(cell.values)) == (90, 1, 3)
    assert cell.values == {0: 49, 1: 50, 2: 51}
    assert cell.coverage == pytest.approx(290 / 291)
    assert (cell.change.delta, cell.change.low) == (20, pytest.approx(17.5159, abs=1e-4))


def test_an_interval_of_percentages_stays_within_0_and_100() -> None:
    rows = {"student": [score_of(30, [30] * 400)], "kd": [score_of(40, [40] * 400), score_of(60, [60] * 400)]}
    cell = summarise(by_hand(rows), TABLE1).cells["kd", "gsm8k.acc"]  # 50 -+ 12.7 * 10
    assert (cell.low, cell.high) == (0, 100)


def test_an_interval_of_points_stays_on_the_scale_of_its_unit() -> None:
    assert [scale(replace(METRIC, unit=unit)) for unit in ("%", "1-10", "1~10", "s", "")] == [
        (0, 100), (1, 10), (1, 10), None, None,
    ]  # fmt: skip
    results = by_hand({"kd": [score_of(4, [4] * 400), score_of(9, [9] * 400)]})
    points = replace(results, run=replace(results.run, columns=(replace(METRIC, unit="1-10"),)))
    summary = summarise(points, TABLE1)  # 6.5 -+ 12.7 * 2.5
    assert (summary.cells["kd", METRIC.id].low, summary.cells["kd", METRIC.id].high) == (1, 10)
    assert "clipped to the scale" in table_of(points).lines[0]
    inside = by_hand({"kd": [score_of(50, [50] * 400)]})
    assert "clipped" not in table_of(inside).lines[0]


def test_the_focus_row_has_a_family_of_tests_of_its_own() -> None:
    """PAD-PPD 50, KD 45 in all 399 replicates, DPO 49 in 392 and 51 in 7 of them, the student 40.

    Of PAD-PPD against KD p = 2 / 400, against DPO 2 * 8 / 400 = 0.04; Holm over these two: 0.01 and 0.04.
    """
    rows: dict[str, list[Score | None]] = {
        "student": [score_of(40, [40] * 399)],
        "kd": [score_of(45, [45] * 399)],
        "dpo": [score_of(49, [51] * 7 + [49] * 392)],
        "pad-ppd": [score_of(50, [50] * 399)],
    }
    summary = summarise(by_hand(rows), TABLE1)
    kd, dpo = summary.cells["kd", "gsm8k.acc"].focus, summary.cells["dpo", "gsm8k.acc"].focus
    assert (kd.delta, kd.low, kd.high) == (5, 5, 5)
    assert (kd.p_holm, dpo.p_holm) == pytest.approx((0.01, 0.04))
    assert dpo.low == pytest.approx(1.0) and dpo.delta == 1
    assert {summary.cells[row, "gsm8k.acc"].focus for row in ("pad-ppd", "student")} == {NOT_COMPARED}
    assert (summary.columns[0].focus_comparisons, summary.columns[0].comparisons) == (2, 3)
    table = table_of(by_hand(rows))
    assert {row.cells[0].text: row.cells[1].signs(notes=True) for row in table.rows} == {
        "STUDENT": "", "KD": "*†", "DPO": "*†", "PAD-PPD": "*",
    }  # fmt: skip
    assert [row.cells[1].signs(notes=False) for row in table.rows] == ["", "*", "*", "*"]  # one sign in the short form


def test_the_focus_rows_interval_is_turned_with_its_difference() -> None:
    """PAD-PPD 50 minus KD: of 999 replicates 100 are 1, 799 are 5 and 100 are 6: 5 [1, 6], not 5 [-6, -1] or [6, 1]."""
    rows: dict[str, list[Score | None]] = {
        "kd": [score_of(45, [49] * 100 + [45] * 799 + [44] * 100)],
        "pad-ppd": [score_of(50, [50] * 999)],
    }
    focus = summarise(by_hand(rows), TABLE1).cells["kd", METRIC.id].focus
    assert (focus.delta, focus.low, focus.high) == (5, 1, 6)


def test_a_p_value_is_printed_on_its_side_of_five_per_cent() -> None:
    """Two digits, but 0.0499 would be 0.05, which is not significant; 0.05 itself is not either."""
    numbers = (0.0499, 0.04996, 0.05, 0.0512, 0.0444, 0.3349, 1.0, 0.00002)
    texts = ("0.0499", "0.04996", "0.05", "0.051", "0.044", "0.33", "1")
    assert [p_text(p) for p in numbers] == [*(f"p = {text}" for text in texts), "p < 0.0001"]


def test_rows_that_cannot_be_told_from_the_best_are_tied() -> None:
    """Best: DPO 50. KD is below it in all replicates (p = 2/400), SimPO in half of them (p = 1): SimPO is tied."""
    rows: dict[str, list[Score | None]] = {
        "teacher": [score_of(90, [90] * 399)],
        "kd": [score_of(45, [45] * 399)],
        "simpo": [score_of(49.5, [49] * 200 + [51] * 199)],
        "dpo": [score_of(50, [50] * 399)],
    }
    summary = summarise(by_hand(rows), TABLE1)
    assert {row.id for row in summary.rows if summary.cells[row.id, METRIC.id].tied} == {"simpo"}
    assert (summary.columns[0].best, summary.columns[0].best_comparisons) == (("dpo",), 2)


def test_variance_is_split_by_where_it_comes_from() -> None:
    """Two seeds, replicates 0 and 4 in both: the mean over seeds varies by 8. Noise: spread 5, rest 2, so seed 3.

    Of the mean: seed 3/2 = 1.5, rest 2/2 = 1, question 8 - 1 = 7; together 9.5. Each answer judged twice, variance 40
    of one verdict, 20 questions: 40 / 2 / 20 = 1 of a seed's score, 0.5 of the mean: the judge's half of the rest.
    """
    draws = [Draws(np.array([2.0, 2.0]), np.array([[0.0, 4.0], [0.0, 4.0]]))]
    noise = SeedNoise(5.0, 2.0, 1)
    plain = variance_shares(noise, draws, [score_of(2, [0, 4])] * 2)
    assert plain == {"seed": pytest.approx(1.5 / 9.5), "question": pytest.approx(7 / 9.5),
                     "answer": pytest.approx(1 / 9.5), "judge": None}  # fmt: skip
    judged = replace(score_of(2, [0, 4], n=20), detail={"judge_repeats": 2.0, "judge_variance": 40.0})
    parts = variance_shares(noise, draws, [judged, judged])
    assert parts is not None and list(parts.values()) == pytest.approx([part / 9.5 for part in (1.5, 7, 0.5, 0.5)])
    assert variance_shares(None, draws, []) is None


def test_the_judges_noise_in_the_split_is_that_of_trained_rows() -> None:
    """Only the student, which nobody trained, was judged twice: of the trained rows the noise is not known."""
    twice = {"judge_repeats": 2.0, "judge_variance": 40.0}
    rows: dict[str, list[Score | None]] = {
        "student": [replace(score_of(30, [29, 31] * 200), detail=twice)] * 2,
        "kd": [score_of(40, [38, 42] * 200), score_of(44, [43, 45] * 200)],
    }
    shares = summarise(by_hand(rows), TABLE1).columns[0].shares
    assert shares is not None and shares["judge"] is None
    rows["kd"] = [replace(each, detail=twice) for each in rows["kd"] if each]
    shares = summarise(by_hand(rows), TABLE1).columns[0].shares
    assert shares is not None and shares["judge"] is not None


def test_one_seed_among_several_has_the_seeds_noise_in_its_interval() -> None:
    """KD 38 and 42: a seed's variance 8 about its mean, known with one degree of freedom (t = 12.706). DPO has one
    seed only: 60 -+ 12.706 sqrt(8) holds all of it, so no footnote says that its interval is over questions only.
    The student's is.
    """
    rows: dict[str, list[Score | None]] = {
        "student": [score_of(30, [30] * 400)],
        "kd": [score_of(38, [38] * 400), score_of(42, [42] * 400)],
        "dpo": [score_of(60, [60] * 400), None],
    }
    results = by_hand(rows)
    metric = replace(METRIC, unit="")  # no scale, so that no end is cut
    results = replace(results, run=replace(results.run, columns=(metric,)))
    summary = summarise(results, TABLE1)
    cell = summary.cells["dpo", METRIC.id]
    assert (cell.low, cell.high) == pytest.approx((60 - 12.7062 * 8**0.5, 60 + 12.7062 * 8**0.5), abs=1e-3)
    table = table_of(results)
    texts = dict(table.footnotes)
    notes = {row.cells[0].text: [texts[mark] for mark in row.cells[0].marks] for row in table.rows}
    only = "one seed: the interval is over questions only"
    assert notes == {"STUDENT": [only], "KD": [], "DPO": []}
    alone = by_hand({"student": rows["student"], "dpo": [*rows["dpo"]]})  # no row has several: then it is questions'
    table = table_of(alone)
    texts = dict(table.footnotes)
    assert [only in [texts[mark] for mark in row.cells[0].marks] for row in table.rows] == [True, True]


def test_a_seed_without_any_verdict_counts_in_what_is_missing() -> None:
    """Seed 0 has all 100 verdicts and is 50, seed 1 none and could be 0 to 100: 25 to 75, half covered."""
    nothing = replace(score_of(None, [], n=0, unscored=100), detail={"lowest": 0.0, "highest": 100.0})
    rows: dict[str, list[Score | None]] = {"kd": [score_of(50, [50] * 99), nothing]}
    cell = summarise(by_hand(rows), TABLE1, min_coverage=0.4).cells["kd", METRIC.id]
    assert (cell.value, cell.unscored, cell.coverage, cell.bounds) == (50, 100, 0.5, (25, 75))
    assert table_of(by_hand(rows), 0.4).rows[0].cells[1].lines[-2:] == ("coverage 50%", "could be 25.0-75.0")
    assert summarise(by_hand(rows), TABLE1).cells["kd", METRIC.id].refused


def test_what_missing_verdicts_could_make_of_a_value() -> None:
    """Seed 0 could be 40 to 60, seed 1 has all verdicts and is 50: the mean of the bounds is 45 to 55."""
    gap = replace(score_of(50, [50] * 99, n=90, unscored=10), detail={"lowest": 40.0, "highest": 60.0})
    rows: dict[str, list[Score | None]] = {"kd": [gap, score_of(50, [50] * 99)]}
    cell = summarise(by_hand(rows), TABLE1, min_coverage=0.5).cells["kd", METRIC.id]
    assert cell.bounds == (45, 55)
    assert table_of(by_hand(rows), 0.5).rows[0].cells[1].lines[1:] == ("coverage 95%", "could be 45.0-55.0")
    refused = summarise(by_hand(rows), TABLE1).cells["kd", METRIC.id]
    assert refused.refused and refused.bounds is None
    rows = {"kd": [replace(gap, n=99, unscored=1)]}  # enough to be shown unasked: then nothing is said beside it
    assert table_of(by_hand(rows)).rows[0].cells[1].lines == ("[45.0, 55.0]",)


def test_few_optimiser_steps_are_said_below_the_table() -> None:
    """dpo made 2 steps with one seed and 3 with the other, kd 5: only dpo's are few."""
    results = world.make(("student", "dpo", "kd"), (0, 1), replicates=50)
    made = {("dpo", 0): 2, ("dpo", 1): 3, ("kd", 0): 5, ("kd", 1): 5}
    curves = {place: tuple({"step": step} for step in range(count)) for place, count in made.items()}
    trainings = {place: StudentTraining({"train": 1.0}, 1, curve) for place, curve in curves.items()}
    summary = summarise(Results(results.run, results.scores, trainings=trainings), TARGETS["table1"])
    assert summary.steps == {"dpo": 2, "kd": 5}
    (line,) = [line for line in score_table(summary, results).lines if "optimiser step" in line]
    assert line == "Only 2 optimiser steps (DPO): the options of a loss hardly matter."
    assert not any("optimiser step" in line for line in table_of(results).lines)


def test_holm_runs_over_the_methods_of_a_column() -> None:
    """399 replicates; dpo is always above (p = 2/400), kd is below in 7 of them (p = 2 * 8 / 400 = 0.04).

    Holm over two: dpo 2 * 0.005 = 0.01, kd 1 * 0.04 = 0.04. With a third, equal to the student (p = 1): 0.015, 0.08, 1.
    The teacher is no comparison.
    """
    base = [40.0] * 399
    rows: dict[str, list[Score | None]] = {
        "teacher": [score_of(60, [60] * 399)],
        "student": [score_of(40, base)],
        "kd": [score_of(41, [39] * 7 + [41] * 392)],
        "dpo": [score_of(45, [45] * 399)],
    }
    cells = summarise(by_hand(rows), TABLE1).cells
    assert cells["dpo", "gsm8k.acc"].change.p_holm == pytest.approx(0.01)
    assert cells["kd", "gsm8k.acc"].change.p_holm == pytest.approx(0.04)
    summary = summarise(by_hand({**rows, "pro": [score_of(40, base)]}), TABLE1)
    adjusted = [summary.cells[row, "gsm8k.acc"].change.p_holm for row in ("dpo", "kd", "pro")]
    assert adjusted == pytest.approx([0.015, 0.08, 1.0])
    assert summary.cells["teacher", "gsm8k.acc"].change.p is None
    assert summary.columns[0].comparisons == 3
    assert summary.columns[0].best == ("dpo",)


def test_coverage_below_the_minimum_is_refused_and_not_compared() -> None:
    rows: dict[str, list[Score | None]] = {
        "student": [score_of(40, [40.0] * 99)],
        "kd": [score_of(46, [46.0] * 99, n=91, unscored=9)],
        "dpo": [score_of(45, [45.0] * 99, n=98, unscored=2)],
    }
    summary = summarise(by_hand(rows), TABLE1)
    refused = summary.cells["kd", "gsm8k.acc"]
    assert refused.refused
    assert refused.value is refused.change.delta is refused.change.p is None
    assert refused.coverage == pytest.approx(0.91)
    assert summary.columns[0].comparisons == 1
    assert summary.cells["dpo", "gsm8k.acc"].value == 45  # exactly 98%
    assert summarise(by_hand(rows), TABLE1, min_coverage=0.5).cells["kd", "gsm8k.acc"].value == 46


def test_half_judged_questions_are_refused_like_missing_ones() -> None:
    """All 100 questions count, each with one of two verdicts: 50 of 100. Two seeds, the other whole: 150 of 200."""
    half = replace(
        score_of(46, [46.0] * 99), detail={"verdicts": 200.0, "verdicts_missing": 100.0, "questions_covered": 50}
    )
    results = by_hand({"kd": [half], "dpo": [half, score_of(46, [46.0] * 99)]})
    cells = summarise(results, TABLE1).cells
    assert cells["kd", METRIC.id].refused and cells["kd", METRIC.id].coverage == pytest.approx(0.5)
    assert cells["dpo", METRIC.id].refused and cells["dpo", METRIC.id].coverage == pytest.approx(0.75)
    assert [cells["kd", METRIC.id].total(name) for name in ("verdicts", "verdicts_missing")] == [200, 100]
    assert results.frame().loc[lambda table: table.row == "kd", "coverage"].tolist()[0] == pytest.approx(0.5)


def test_none_is_none_with_its_reasons() -> None:
    rows: dict[str, list[Score | None]] = {
        "student": [score_of(40, [40.0] * 99), None],
        "kd": [score_of(None, [], n=0, unscored=0, note="needs 100 questions"), None],
    }
    cells = summarise(by_hand(rows), TABLE1).cells
    assert cells["kd", "gsm8k.acc"].value is None
    assert cells["kd", "gsm8k.acc"].notes == ("why", "needs 100 questions")
    assert cells["student", "gsm8k.acc"].value == 40
    assert "1 of 2 seeds" in cells["student", "gsm8k.acc"].notes


def test_scores_without_replicates_have_a_change_but_no_test() -> None:
    cell = summarise(by_hand({"student": [score_of(40, [])], "kd": [score_of(46, [])]}), TABLE1).cells[
        "kd", "gsm8k.acc"
    ]
    assert (cell.change.delta, cell.change.p, cell.change.significant) == (6, None, False)


def test_what_cannot_be_paired_is_an_error() -> None:
    with pytest.raises(UserError, match="98, 99 bootstrap replicates cannot be paired"):
        summarise(by_hand({"student": [score_of(40, [40] * 99)], "kd": [score_of(46, [46] * 98)]}), TABLE1)
    with pytest.raises(UserError, match="between 0 and 1"):
        summarise(by_hand({"student": [score_of(40, [40] * 99)]}), TABLE1, min_coverage=98)


def test_few_questions_and_few_replicates_are_said() -> None:
    rows: dict[str, list[Score | None]] = {"student": [score_of(40, [40] * 20)], "kd": [score_of(46, [46] * 20)]}
    (warning,) = summarise(by_hand(rows), TABLE1).columns[0].warnings
    assert "20 bootstrap replicates are too few" in warning  # 2 / 21 > 0.05
    rows = {"student": [score_of(40, [40] * 999, n=3)], "kd": [score_of(46, [46] * 999, n=3)]}
    summary = summarise(by_hand(rows), TABLE1)
    assert "fewer than 30 questions" in summary.columns[0].warnings[0]
    cell = summary.cells["kd", "gsm8k.acc"]  # p would be 0.002
    assert (cell.change.delta, cell.change.p, cell.change.significant) == (6, None, False)


def test_thirty_questions_are_tested_and_of_two_rows_the_fewer_count() -> None:
    base = [40.0] * 999
    rows: dict[str, list[Score | None]] = {
        "student": [score_of(40, base, n=30)],
        "kd": [score_of(46, [46.0] * 999, n=30)],
    }
    assert summarise(by_hand(rows), TABLE1).cells["kd", METRIC.id].change.p == pytest.approx(2 / 1000)
    rows = {
        "student": [score_of(40, base, n=3)],
        "kd": [score_of(46, [46.0] * 999)],
        "dpo": [score_of(47, [47.0] * 999)],
    }
    summary = summarise(by_hand(rows), TABLE1)
    assert summary.cells["kd", METRIC.id].change.p is None
    assert (summary.columns[0].comparisons, summary.columns[0].detectable) == (0, None)
    rows = {
        "student": [score_of(40, base)],
        "kd": [score_of(46, [40.0, 52.0] * 499 + [46], n=3)],
        "dpo": [score_of(47, [45.0, 49.0] * 499 + [47])],
    }
    summary = summarise(by_hand(rows), TABLE1)
    assert summary.cells["kd", METRIC.id].change.p is None and summary.cells["dpo", METRIC.id].change.p is not None
    assert summary.columns[0].detectable == pytest.approx(2.801584 * 2, rel=1e-3)  # of the row that is tested


def test_a_difference_is_as_sure_as_the_fewer_questions_are() -> None:
    """100 questions of the one, 40 of the other: the percentiles are those of 40.

    Phi(-t_0.975(39) sqrt(40 / 39)) = Phi(-2.0227 * 1.01274) = Phi(-2.04846) = 2.0258%; of 1..999 that is 20.26.
    """
    rows: dict[str, list[Score | None]] = {
        "student": [score_of(0, [0] * 999)],
        "kd": [score_of(500, range(1, 1000), n=40)],
    }
    cell = summarise(by_hand(rows), TABLE1).cells["kd", METRIC.id]
    assert cell.change.low == pytest.approx(20.26, abs=0.01)


def test_one_row_and_a_measured_column_have_no_best() -> None:
    rows: dict[str, list[Score | None]] = {"student": [score_of(40, [40] * 99)], "kd": [score_of(46, [46] * 99)]}
    assert summarise(by_hand(rows), TABLE1).columns[0].best == ()
    results = by_hand({**rows, "dpo": [score_of(47, [47] * 99)]})
    assert summarise(results, TABLE1).columns[0].best == ("dpo",)
    hours = replace(results.run, columns=(replace(METRIC, unit="h", measured=True),))
    assert summarise(replace(results, run=hours), TABLE1).columns[0].best == ()


def test_the_legend_stands_on_its_own_where_the_student_has_no_value() -> None:
    """Then nothing is compared with it, and the first test that is left says what it is."""
    rows: dict[str, list[Score | None]] = {
        "student": [None],
        "kd": [score_of(45, [45] * 399)],
        "dpo": [score_of(46, [46] * 399)],
        "pad-ppd": [score_of(50, [50] * 399)],
    }
    table = table_of(by_hand(rows))
    assert table.lines[0] == "Value [95% interval over questions, seed 0 only]; bold: best trained row."
    assert "worse (Holm over the 2 comparisons" in table.detail_lines[0]
    assert not any(line.startswith("Detectable") for line in table.detail_lines)
    lines = table_of(by_hand({**rows, "student": [score_of(40, [40] * 399)]})).lines
    assert lines[0].startswith("Value (change from STUDENT) [95% interval")
    assert "*: significant (paired bootstrap, p < 0.05 after Holm over 3 rows)" in lines[0]


def test_an_effect_beyond_the_scale_is_not_called_detectable() -> None:
    """Two seeds far apart: with one degree of freedom t_0.975 = 12.7, and 100 points are all there is."""
    rows: dict[str, list[Score | None]] = {
        "student": [score_of(30, [29, 31] * 200)],
        "kd": [score_of(10, [9, 11] * 200), score_of(90, [89, 91] * 200)],
    }
    assert summarise(by_hand(rows), TABLE1).columns[0].detectable is None


def test_rows_come_in_the_targets_order_and_others_after() -> None:
    summary = summarise(world.make(rows=("my-method", "pad-ppd", "student", "teacher")), TABLE1)
    assert [row.id for row in summary.rows] == ["teacher", "student", "pad-ppd", "my-method"]
    assert "kd" in summary.absent
    with pytest.raises(UserError, match="Did you mean 'table1'"):
        find_target("tabel1")


def test_any_two_rows_are_tested_as_the_table_tests_its_own() -> None:
    """150 questions, 3 seeds: against the reference and the focus row the table has the same numbers, and the other way
    round their signs change; two rows that the table never compares have the difference of their values."""
    summary = summarise(world.make(), TABLE1)
    for metric in ("alpaca_eval.wr", "mt_bench.score"):
        for row in ("kd", "dpo", "pad-ppd"):
            told, change = summary.difference(row, "student", metric), summary.cells[row, metric].change
            assert told == (change.delta, change.low, change.high, change.p, 150)
        focus, told = summary.cells["dpo", metric].focus, summary.difference("pad-ppd", "dpo", metric)
        assert told == pytest.approx((focus.delta, focus.low, focus.high, focus.p, 150))
        back = summary.difference("dpo", "pad-ppd", metric)
        assert (back.change, back.low, back.high, back.p) == pytest.approx((-told[0], -told[2], -told[1], told[3]))
        values = [summary.cells[row, metric].value or 0.0 for row in ("teacher", "kd")]
        teacher = summary.difference("teacher", "kd", metric)
        assert teacher.change == pytest.approx(values[0] - values[1])
        assert teacher.low is not None and teacher.high is not None and teacher.low < teacher.change < teacher.high


def test_a_difference_without_a_test() -> None:
    few = by_hand({"student": [score_of(40, [39, 41], n=29)], "kd": [score_of(46, [45, 48])]})
    told = summarise(few, TABLE1).difference("kd", "student", METRIC.id)
    assert (told.change, told.p, told.n) == (6, None, 29) and told.low is not None
    plain = by_hand({"student": [score_of(40, [])], "kd": [score_of(46, [])]})
    assert summarise(plain, TABLE1).difference("kd", "student", METRIC.id) == (6, None, None, None, 100)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("kd", "studnet", METRIC.id), "unknown row 'studnet'. Did you mean 'student'"),
        (("kd", "student", "gsm8k"), "unknown metric 'gsm8k'. Did you mean 'gsm8k.acc'"),
        (("kd", "kd", METRIC.id), "kd is compared with itself"),
        (("dpo", "kd", METRIC.id), "dpo has no value of gsm8k.acc: why"),
        (("kd", "pro", METRIC.id), "pro has no value of gsm8k.acc: refused, too few verdicts"),
    ],
)
def test_a_difference_that_cannot_be_told(names: tuple[str, str, str], message: str) -> None:
    cell = score_of(46, [45, 48])
    rows = {"student": [cell], "kd": [cell], "dpo": [None], "pro": [score_of(46, [45, 48], unscored=100)]}
    with pytest.raises(UserError, match=message):
        summarise(by_hand(rows), TABLE1).difference(*names)


def test_of_rows_that_are_all_equal_none_is_best() -> None:
    """Two of three rows that print the same highest value are both best; of three equal ones none is."""
    results = world.make(("student", "kd", "seqkd", "dpo"), (0,))
    place = "gsm8k.acc"
    for row, value in (("kd", 40.0), ("seqkd", 50.0), ("dpo", 50.001)):
        results = world.with_score(results, (row, place, 0), value=value)
    column = summarise(results, TARGETS["table1"]).column(place)
    assert [cell.row.id for cell in column if cell.best] == ["seqkd", "dpo"]
    results = world.with_score(results, ("kd", place, 0), value=50.0)
    assert not [cell for cell in summarise(results, TARGETS["table1"]).column(place) if cell.best]
