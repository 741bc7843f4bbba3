"""Judges compared by hand: agreement, kappa, repeats, flips; rankings and conclusions; accuracy, files and figures."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from distilbench.workflows.page import judges_of
from harness.errors import UserError
from harness.stats import Draws, contrast, seed_noise
from reports.judge_comparison.agreement import consistency, pair_agreement
from reports.judge_comparison.annotations import annotation_panel
from reports.judge_comparison.bias import OTHER_JUDGES, TRUTH
from reports.judge_comparison.compare import JudgeComparison, compare_panel
from reports.judge_comparison.figures import cost_points
from reports.judge_comparison.panel import (
    ITEM,
    JudgeProfile,
    Number,
    Panel,
    QuestionBootstrap,
    RowScore,
    judgment_frame,
)
from reports.judge_comparison.ranking import (
    OWN_TABLE,
    differences,
    mean_scores,
    noise_of,
    pair_tests,
    planned_comparisons,
    rank_correlation,
    ranking,
    spearmans,
)
from reports.judge_comparison.reference import (
    HUMAN_MAJORITY,
    HUMANS,
    judge_reference,
    leave_one_out,
    simulated_humans,
)
from reports.judge_comparison.run_panel import own_tests, run_panel
from reports.judge_comparison.tables import (
    comparison_tables,
    conclusion_table,
    judges_table,
    rank_table,
    read_comparison,
    summary_of,
    table5,
    write_comparison,
)
from reports.tables.summary import Comparison
from reports.targets import TARGETS
from tests.reports import world

Call = tuple[str, str, object, str, float]


def panel(calls: Iterable[Call], judges: Sequence[str] = (), truth: Mapping[str, float] = {}, paired=True) -> Panel:
    """From (judge, row, question, turn, verdict); ``truth``: question to true quality. The same call twice is a repeat.

    The turn stands for the baseline, as in annotation files.
    """
    frame = judgment_frame(
        {"judge": judge, "benchmark": "b", "row": row, "seed": 0, "question": str(question), "turn": turn, "part": "p",
         "repeat": 0, "verdict": verdict, "quality": truth.get(str(question)), "same": 0.0}
        for judge, row, question, turn, verdict in calls
    )  # fmt: skip
    frame["repeat"] = frame.groupby(["judge", *ITEM]).cumcount()
    names = judges or list(dict.fromkeys(frame["judge"]))
    return Panel(frame, {"b": paired}, {name: JudgeProfile(name) for name in names})


def matrix(columns: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Verdicts of judges on items of as many questions, as ``Panel.matrix``."""
    table = pd.DataFrame(columns, dtype=float)
    table.index = pd.MultiIndex.from_tuples([("b", "m", 0, str(n), "") for n in range(len(table))], names=ITEM)
    return table


def row_scores(
    values: Mapping[str, float], spread: float = 0.1, seed: int = 0, questions: int = 100, coverage: float = 1.0
) -> dict[str, RowScore]:
    """Scores of one seed with independent replicates of this standard error."""
    rng = np.random.default_rng(seed)
    grids = {row: (value + spread * rng.normal(size=400))[None, :] for row, value in values.items()}
    return {
        row: RowScore(Draws(np.array([float(value)]), grids[row]), questions, coverage) for row, value in values.items()
    }


ASSETS = os.environ.get("DISTILBENCH_ASSETS")


def compare(table, paired=True):
    """Agreement and kappa of the two judges."""
    bootstrap = QuestionBootstrap(table.index.get_level_values("question"), 200, 0)
    return pair_agreement(table, "b", paired, bootstrap)


def test_kappa_by_hand():
    """20 both model, 15 both baseline, 5 + 10 apart: agreement 35/50 = 0.7. Shares of model: 0.5 and 0.6, so chance
    is 0.5 * 0.6 + 0.5 * 0.4 = 0.5 and kappa (0.7 - 0.5) / 0.5 = 0.4."""
    agreement, kappa = compare(matrix({"a": [1] * 25 + [0] * 25, "b": [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15}))
    assert (agreement.value, agreement.n) == (pytest.approx(0.7), 50)
    assert kappa.value == pytest.approx(0.4)
    assert kappa.low < 0.4 < kappa.high


def test_a_tie_is_a_label_of_its_own():
    """tie/tie, tie/model, model/model, baseline/baseline: 3 of 4 agree."""
    assert compare(matrix({"a": [0.5, 0.5, 0.9, 0.2], "b": [0.5, 0.9, 0.8, 0.1]}))[0].value == 0.75


def test_one_label_has_agreement_but_no_kappa():
    assert [number.value for number in compare(matrix({"a": [1, 1, 1], "b": [1, 1, 1]}))] == [1.0, None]


def test_items_without_a_verdict_of_both_are_left_out():
    """Four items, one verdict missing on each side, on different items: two are left."""
    agreement, _ = compare(matrix({"a": [1, np.nan, 0, 1], "b": [1, 1, np.nan, 0]}))
    assert (agreement.n, agreement.value) == (2, 0.5)
    assert compare(matrix({"a": [1, np.nan], "b": [np.nan, 1]})) == []


def test_kappas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.integers(1, 6, 200)
    y = np.clip(x + rng.integers(-1, 2, 200), 1, 5)
    weighted = cohen_kappa_score(x, y, weights="quadratic")
    assert compare(matrix({"a": x, "b": y}), paired=False)[1].value == pytest.approx(weighted)
    won, other = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    assert compare(matrix({"a": won, "b": other}))[1].value == pytest.approx(cohen_kappa_score(won, other))


def test_weighted_kappa_counts_grades_that_nobody_gave():
    """Grades 1 and 10 alone, one of four apart: every disagreement is the largest one, so it is plain kappa:
    observed 0.75, chance 0.5 * 0.75 + 0.5 * 0.25 = 0.5, kappa 0.5."""
    _, kappa = compare(matrix({"a": [1, 1, 10, 10], "b": [1, 1, 1, 10]}), paired=False)
    assert kappa.value == pytest.approx(0.5)


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_take_the_question_as_the_unit(paired):
    """Each of 12 questions nine times over says nothing new: the same intervals."""
    rng = np.random.default_rng(0)
    table = matrix({name: rng.integers(0, 2, 12) if paired else rng.integers(1, 6, 12) for name in "ab"})
    often = pd.concat([table.set_index(table.index.set_levels([f"m{n}"], level="row")) for n in range(9)])
    for few, nine in zip(compare(table, paired), compare(often, paired), strict=True):
        assert nine.n == 9 * few.n
        assert (nine.low, nine.high) == pytest.approx((few.low, few.high))


def test_one_question_has_no_interval():
    table = matrix({"a": [1, 0], "b": [1, 1]})
    table.index = pd.MultiIndex.from_tuples([("b", row, 0, "0", "") for row in "xy"], names=table.index.names)
    assert compare(table)[0].low is None


def steady(verdicts, equal_answers=()):
    """Measure to number, from (question, model first, verdict, repeat) of one judge; ``equal_answers``: questions."""
    frame = judgment_frame(
        {"judge": "j", "benchmark": "b", "row": "m", "seed": 0, "question": q, "turn": "", "part": f"o{model_first}",
         "repeat": repeat, "model_first": model_first, "verdict": verdict, "same": q in equal_answers}
        for q, model_first, verdict, repeat in verdicts
    )  # fmt: skip
    return {number.measure: number for number in consistency(frame, True, QuestionBootstrap(frame["question"], 100, 0))}


def test_noise_and_order_by_hand():
    """Two repeats in either order of one item: labels 1 0 | 0 0. Repeats: one of two pairs differs. Orders: of 2 * 2
    pairs, those with the first 1 differ: two. Flips beyond noise: 0.5 - 0.5 = 0."""
    numbers = steady([("q", 1, 0.9, 0), ("q", 1, 0.1, 1), ("q", 0, 0.2, 0), ("q", 0, 0.3, 1)])
    assert {name: (number.value, number.n) for name, number in numbers.items()} == {
        "unparsed": (0.0, 4), "repeats differ": (0.5, 2), "flips": (0.5, 4), "flips beyond noise": (0.0, 2),
    }  # fmt: skip


def test_two_orders_of_equal_answers_are_one_request_and_no_flip():
    verdicts = [("q", 1, 0.8, 0), ("q", 0, 0.2, 0), ("r", 1, 0.8, 0), ("r", 0, 0.7, 0)]
    assert steady(verdicts)["flips"].value == 0.5
    assert steady(verdicts, equal_answers="q")["flips"].value == 0.0


def test_unparsed_verdicts_are_counted():
    numbers = steady([("a", 1, 0.9, 0), ("b", 1, 0.9, 0), ("c", 1, 0.8, 0), ("d", 1, float("nan"), 0)])
    assert (numbers["unparsed"].value, numbers["flips"].value) == (0.25, None)


@pytest.mark.assets
@pytest.mark.skipif(ASSETS is None, reason="DISTILBENCH_ASSETS is not set: the real annotations are not here")
def test_real_judges_agree_as_scikit_learn_and_scipy_say():
    """Annotations of AlpacaEval by up to four judges: each number of every pair to 1e-6, and the models' rankings."""
    folder = Path(ASSETS) / "alpaca_eval"
    expected = json.loads((folder / "multi_judge_dev.expected.json").read_text())
    panel = annotation_panel([folder / "multi_judge_dev.parquet"])
    lines = panel.judgments
    pairs = [(pair, lines["row"] == pair["model"]) for pair in expected["pairs"]]
    pairs += [(pair, lines["row"].isin(pair["models"])) for pair in expected["pooled_same_baseline"]]
    for pair, rows in pairs:
        # Some pairs have different baselines; they are compared here on purpose, as the expected numbers are.
        table = replace(panel, judgments=lines[rows].assign(turn="")).matrix("annotations")
        agreement, kappa = compare(table[[pair["annotator_a"], pair["annotator_b"]]])
        our_numbers = {"n": agreement.n, "agreement": agreement.value, "cohen_kappa": kappa.value}
        assert our_numbers == {name: pytest.approx(pair[name], abs=1e-6) for name in our_numbers}
    # The expected rankings count a model's ties with itself, which comparisons of ours leave out.
    table = replace(panel, judgments=lines.assign(turn="b: " + lines["turn"])).matrix("annotations")
    scores = mean_scores(table, 1.0, QuestionBootstrap(table.index.get_level_values("question"), 100, 0))
    for pair in expected["model_level"]:
        (correlation,) = rank_correlation("", pair["annotator_a"], pair["annotator_b"], scores)
        assert (correlation.value, correlation.n) == (pytest.approx(pair["spearman"], abs=1e-6), len(pair["models"]))


def test_spearmans_of_replicates_are_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (50, 6)).astype(float), rng.normal(size=(50, 6))  # with ties on one side
    assert spearmans(x, y) == pytest.approx([spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)])


def test_rank_correlation_by_hand():
    """a > b > c against b > a > c: rho = 1 - 6 * 2 / (3 * 8) = 0.5."""
    scores = {"x": row_scores({"a": 3, "b": 2, "c": 1}), "y": row_scores({"a": 2, "b": 3, "c": 1})}
    (correlation,) = rank_correlation("m", "x", "y", scores)
    assert (correlation.value, correlation.n) == (pytest.approx(0.5), 3)
    assert correlation.low is not None
    assert rank_correlation("m", "x", "y", {**scores, "x": {"a": scores["x"]["a"]}}) == []
    flat = row_scores({"a": 2, "b": 2}, spread=0.0)
    assert rank_correlation("m", "x", "y", {**scores, "x": flat})[0].value is None  # no warning either
    two = row_scores({"a": 2, "b": 1, "c": 1}, spread=0.0)  # two distinct values correlate fully with themselves
    assert rank_correlation("m", "x", "y", {"x": two, "y": two})[0].value is None


def test_tied_rows_are_counted_below_a_rank_correlation(comparison):
    def line(**ranks):
        scores = [
            Number("score", "m", judge, "", row, float(-rank), rank=rank)
            for judge, places in ranks.items()
            for row, rank in zip("abcd", places, strict=False)
        ]
        pair = Number("rank correlation", "m", "x", "y", value=None if "z" in ranks else 0.95, n=3)
        return rank_table(replace(comparison, numbers=(*scores, pair)), "m").lines_below(False)[-1]

    start = "Spearman's rank correlation of x and y over 3 rows"
    # The fourth row is x's alone, so its tie with the third is not among the rows compared.
    assert line(x=(1, 2, 3, 3), y=(1, 2, 2)) == f"{start} (2 tied under y): 0.95"
    assert line(x=(1, 2, 3), y=(1, 2, 3), z=(1,)) == f"{start}: n/a, fewer than 3 distinct values"


def test_ties_share_their_rank():
    """a 3, b 2, c 2, d 1: ranks 1 2 2 4."""
    scores = row_scores({"d": 1, "b": 2, "a": 3, "c": 2}, spread=0.0)
    assert {number.row: number.rank for number in ranking("m", "j", scores)} == {"a": 1, "b": 2, "c": 2, "d": 4}


def test_planned_comparisons_are_those_of_the_tables():
    """Trained rows with the student, and the focus row with the other trained rows; the teacher is not trained."""
    rows, untrained = ["teacher", "student", "dpo", "kd", "pad"], ("teacher", "student")
    against = [("dpo", "student"), ("kd", "student"), ("pad", "student")]
    assert planned_comparisons(rows, "student", untrained, "") == [against]
    assert planned_comparisons(rows, "student", untrained, "pad") == [against, [("pad", "dpo"), ("pad", "kd")]]
    assert planned_comparisons(["a", "b"], "", (), "") == [[("a", "b")]]


def test_seeds_count_as_in_the_tables():
    """Seeds at 41, 46 and 54: their mean, 47, is 5 above the student's, with a standard error of 6.6 / sqrt(3) = 3.8
    between seeds on 2 degrees of freedom. Questions alone (1.2 / sqrt 3 each) would call that significant."""
    rng = np.random.default_rng(1)

    def score(values, trained):
        seeds = np.array(values, dtype=float)
        return RowScore(Draws(seeds, seeds[:, None] + 1.2 * rng.normal(size=(3, 1000)), trained), 805)

    scores = {"dpo": score([41, 46, 54], True), "student": score([41.5, 42.0, 42.5], False)}
    assert not pair_tests(scores, [[("dpo", "student")]])["dpo", "student"].significant
    assert noise_of(scores) == seed_noise([score.draws for score in scores.values()])
    expected = contrast(scores["dpo"].draws, None, 805, noise_of(scores))
    dpo = next(score for score in ranking("m", "j", scores) if score.row == "dpo")
    assert (dpo.low, dpo.high) == (expected.low, expected.high)


def test_what_the_tables_refuse_is_not_tested():
    """From fewer than 30 questions, or below 98% of them scored, nothing is tested."""
    values, family = {"a": 50.0, "s": 10.0}, [[("a", "s")]]
    test = pair_tests(row_scores(values, questions=30), family)["a", "s"]
    assert (test.delta, test.significant) == (40.0, True)
    assert pair_tests(row_scores(values, questions=29), family) == {}
    assert pair_tests(row_scores(values, coverage=0.97), family) == {}


def test_many_pairs_can_be_significant():
    """400 replicates bound a bootstrap's p at 0.005; Holm over 45 pairs needs 0.0011 of the first."""
    scores = row_scores({str(n): 10.0 * n for n in range(10)})
    tests = pair_tests(scores, planned_comparisons(list(scores), "", (), ""))
    assert len(tests) == 45
    assert all(test.significant and test.delta < 0 for test in tests.values())


PLANNED = [[(row, "student") for row in "abcd"], [("d", row) for row in "abc"]]
"""As in a run's tables: every row against the student, the focus row d against every other one."""


def comparison_of(scores, own=None, judges=("first", "other")):
    """Only the differences of a comparison, on a benchmark asked in both orders twice."""
    numbers = differences("b.wr", scores, PLANNED, judges[0], own or {})
    titles = {"a": "A", "b": "B", "c": "C", "d": "D", "student": "S", "b.wr": "WR"}
    profiles = {judge: JudgeProfile("m") for judge in judges}
    return JudgeComparison(
        "run r", profiles, titles, {"b": True}, tuple(numbers), {"b": "in both orders twice"}, None, {}
    )


def table_rows(comparison):
    """First cell, and every test as change, line below."""
    return [[(cell.text, *cell.lines) for cell in row.cells] for row in conclusion_table(comparison).rows]


def test_conclusions_are_confirmed_lost_or_reversed():
    """Errors are 0.1 each, so a difference of 0.01 is nothing and one of 1 is ten errors."""
    first = row_scores({"student": 0, "a": 1, "b": 1, "c": 1.5, "d": 0})
    other = row_scores({"student": 0, "a": 1, "b": 0.01, "c": -1, "d": 0}, seed=1)
    comparison = comparison_of({"first": first, "other": other})
    verdicts = {
        (found["other"].row, found["other"].against): found["other"].verdict for found in comparison.conclusions
    }
    # d lies below a, b and c under the first judge, as the student does.
    assert verdicts == {(row, worse): verdict for worse in ("student", "d") for row, verdict in
                        zip("abc", ("confirmed", "not significant", "reversed"), strict=True)}  # fmt: skip
    (sentence,) = summary_of(comparison)
    assert sentence == (
        "Under other the conclusions do not hold: 2 of 6 significant differences confirmed; not significant: "
        "B > S on WR, B > D on WR; reversed: C > S on WR, C > D on WR."
    )
    alike = comparison_of(
        {"first": first, "other": row_scores({"student": 0, "a": 1, "b": 1, "c": 1.5, "d": 0}, seed=2)}
    )
    assert summary_of(alike) == ["Under other the conclusions hold: 6 of 6 significant differences confirmed."]


def test_a_conclusion_of_the_runs_own_table_is_checked_with_the_first_judge():
    """The table stars d > a with p = 0.0499; the first judge, asked here, sees a difference of half an error."""
    again = row_scores({"student": 0, "a": 1.0, "d": 1.05})
    other = row_scores({"student": 0, "a": 1, "d": 2}, seed=1)
    tests = {pair: pair_tests(again, PLANNED)[pair] for pair in (("a", "student"), ("d", "student"))}
    own = {**tests, ("d", "a"): Comparison(0.3, 0.01, 0.59, 0.0499, 0.0499)}
    comparison = comparison_of({"first": again, "other": other}, own)
    p = pair_tests(again, PLANNED)["d", "a"].p_holm
    assert 0.5 < p < 1
    assert "\n".join(summary_of(comparison)) == (
        "Under first, asked here, the conclusions of the run's own table hold in part: 2 of 3 significant differences "
        "confirmed; not significant: D > A on WR.\n"
        "D > A on WR: significant in the run's own table (p = 0.0499), not when first is asked in both orders twice "
        f"(p = {p:.2g}).\nUnder other the conclusions hold: 3 of 3 significant differences confirmed."
    )
    focus = table_rows(comparison)[-1]
    assert focus[:2] == [("D > A", "WR"), ("+0.30 [0.01, 0.59]", "p = 0.0499, significant")]
    assert focus[2][1] == f"p = {p:.2g}, not significant" and focus[3][1] == "p < 0.0001, confirmed"
    titles = [column.title for column in conclusion_table(comparison).columns]
    assert titles == ["Better > worse", "own table", "first, asked here", "other"]
    records = {number.judge: (number.row, number.against, number.verdict) for number in comparison.select("difference")
               if (number.row, number.against) == ("d", "a")}  # fmt: skip
    assert records == {
        OWN_TABLE: ("d", "a", "significant"), "first": ("d", "a", "not significant"), "other": ("d", "a", "confirmed")
    }  # fmt: skip


def test_the_runs_own_tests_are_those_that_its_table_stars():
    """8 rows against the student and PAD-PPD against 7 others, in 5 columns: 75 pairs, with the table's signs."""
    results = world.make()
    table, tests = world.table_of(results), own_tests(results, TARGETS["table1"])
    assert sum(map(len, tests.values())) == 75
    marked = {
        (row["id"], metric): shown.sign + shown.other_signs
        for row, shown_row in zip(table.data["rows"], table.rows, strict=True)
        for metric, shown in zip(tests, shown_row.cells[1:], strict=True)
    }
    for metric, by_pair in tests.items():
        stars = {row for (row, base), test in by_pair.items() if base == "student" and test.significant}
        assert stars == {row for (row, on), signs in marked.items() if on == metric and "*" in signs}
        daggers = {row for (focus, row), test in by_pair.items() if row != "student" and test.significant}
        assert daggers == {row for (row, on), signs in marked.items() if on == metric and set("†‡") & set(signs)}


def test_a_difference_below_the_reference_puts_the_better_row_first():
    """a is 3 below the student in the table; under the judge 1 above: reversed. Interval ends change with the sign."""
    own = {("a", "student"): Comparison(-3.0, -4.0, -2.5, 0.001, 0.002)}
    comparison = comparison_of({"first": row_scores({"student": 0, "a": 1})}, own, ("first",))
    (own_cell, again) = table_rows(comparison)[0][1:]
    assert table_rows(comparison)[0][0][0] == "S > A"
    assert own_cell == ("+3.00 [2.50, 4.00]", "p = 0.002, significant")
    assert again[0].startswith("-1.00 [") and again[1].endswith(", reversed")
    assert "reversed when first is asked in both orders twice" in summary_of(comparison)[1]


def test_what_only_the_first_judge_finds_is_a_conclusion_too():
    own = {("a", "student"): Comparison(0.3, -0.1, 0.7, 0.1, 0.2)}
    comparison = comparison_of({"first": row_scores({"student": 0, "a": 1})}, own, ("first",))
    assert table_rows(comparison)[0][1] == ("+0.30 [-0.10, 0.70]", "p = 0.2, not significant")
    (sentence,) = summary_of(comparison)
    end = "significant when first is asked in both orders twice (p < 0.0001), not in the run's own table (p = 0.2)."
    assert sentence == f"A > S on WR: {end}"


def test_without_a_difference_there_is_no_conclusion():
    flat = row_scores({"student": 0, "a": 0}, spread=0.0)
    flat_judges = comparison_of({"first": flat, "other": flat})
    assert summary_of(flat_judges) == ["No difference is significant under first: there is no conclusion to check."]
    few = comparison_of({judge: row_scores({"a": 20, "student": 10}, questions=3) for judge in ("first", "other")})
    assert summary_of(few) == ["No difference of two rows could be tested: too few questions or verdicts."]


def test_a_pair_that_a_judge_did_not_score_is_not_tested():
    apart = comparison_of({"first": row_scores({"student": 0, "a": 1}), "other": row_scores({"student": 0})})
    assert table_rows(apart)[0][2] == ("-", "not tested")
    (sentence,) = summary_of(apart)
    rest = "0 of 1 significant difference confirmed; not tested: A > S on WR."
    assert sentence == f"Under other the conclusions cannot be checked: {rest}"


def test_a_pair_is_one_test_whichever_row_the_plan_names_first():
    """Without a reference row the plan has all pairs in the order of the rows: (a, d); the own table tests d - a."""
    scores = {"first": row_scores({"a": 0, "d": 1}), "other": row_scores({"a": 0, "d": -1}, seed=1)}
    own = {("d", "a"): Comparison(1.5, 1.0, 2.0, 0.001, 0.001)}
    numbers = differences("b.wr", scores, planned_comparisons(["a", "d"], "student", (), "d"), "first", own)
    assert [(number.judge, number.row, number.against, number.verdict) for number in numbers] == [
        (OWN_TABLE, "d", "a", "significant"), ("first", "d", "a", "confirmed"), ("other", "d", "a", "reversed")
    ]  # fmt: skip


def test_models_as_they_are_are_compared_in_all_pairs():
    """A model may be called as the reference of the tables: none of the rows was trained, so that is no plan."""
    assert planned_comparisons(["student", "b"], "student", ["student", "b"], "") == [[("student", "b")]]


def test_a_trained_reference_makes_the_families_of_its_table():
    """Table 2: three settings against the first, not the six pairs of four; every pair is that of the own table."""
    rows = TARGETS["table2"].rows
    assert planned_comparisons(rows, TARGETS["table2"].reference, (), "") == [[(row, rows[0]) for row in rows[1:]]]
    results = world.make()
    target = replace(TARGETS["table1"], reference="dpo")
    panel = run_panel(results, {"first": results}, {"first": JudgeProfile()}, {}, None, target)
    own = {pair for tests in panel.own.values() for pair in tests}
    assert own == {pair for family in panel.comparisons for pair in family}


def annotated(baselines, judges=("x", "y"), questions=40):
    """Rows a and b, the better one wins on all questions but every seventh; the baseline's own answers tie."""
    for question in range(questions):
        for baseline in baselines:
            for judge in judges:
                yield judge, baseline, question, baseline, 0.5
                yield judge, "a", question, baseline, float(question % 7 == 0)
                yield judge, "b", question, baseline, float(question % 7 != 0)


def test_each_baseline_has_a_ranking():
    """b wins 34 of 40: 85%. The baseline itself is not ranked: it would tie with itself."""
    one_baseline = compare_panel(panel(annotated("B")), replicates=200)
    scores = {number.row: number.value for number in one_baseline.select("score", on="b.wr", judge="x")}
    assert scores == pytest.approx({"b": 85.0, "a": 15.0})
    two = compare_panel(panel(annotated("BC")), replicates=200).conclusions
    assert [(found["y"].on, found["y"].row, found["y"].against, found["y"].verdict) for found in two] == [
        (f"b.wr against {baseline}", "b", "a", "confirmed") for baseline in "BC"
    ]


def test_a_first_judge_without_verdicts_is_not_replaced():
    silent = [("first", row, question, "", np.nan) for _, row, question, _, _ in annotated("B", ("x",))]
    judged_calls = [
        (judge, row, question, "", verdict) for judge, row, question, _, verdict in annotated("B") if row != "B"
    ]
    comparison = compare_panel(panel([*silent, *judged_calls], judges=("first", "x", "y")), replicates=200)
    assert comparison.conclusions == []
    assert any(note.startswith("first gave no verdict on b.wr") for note in comparison.notes)


def test_one_question_shows_nothing():
    """All verdicts of one question agree in every resample: no interval, no test."""
    comparison = compare_panel(panel([(j, r, 0, "", float(r == "a")) for r in "ab" for j in "xy"]), replicates=200)
    assert {number.low for number in comparison.select("score", "rank correlation", "accuracy")} == {None}
    assert comparison.conclusions == []


def people(votes):
    """Human annotations: question to their verdicts."""
    return pd.DataFrame(
        [("b", "m", 0, question, "", f"h{n}", float(v)) for question, question_votes in votes.items()
         for n, v in enumerate(question_votes)],
        columns=[*ITEM, "annotator", "verdict"],
    )  # fmt: skip


def reference_of(compared_panel, humans=None, judge_numbers=(), budget=None):
    """The reference; (judge, measure) to number."""
    reference, numbers = judge_reference(compared_panel, humans, 400, 0, judge_numbers, budget)
    return reference, {(number.judge, number.measure): number for number in numbers}


def accuracies(numbers):
    return {judge: (number.value, number.n) for (judge, measure), number in numbers.items() if measure == "accuracy"}


def against_humans(votes, verdicts):
    compared_panel = panel([("j", "m", question, "", verdict) for question, verdict in verdicts])
    reference, numbers = reference_of(compared_panel, people(votes))
    assert reference.basis == HUMAN_MAJORITY
    return accuracies(numbers)


def test_human_agreement_leaves_one_out():
    """AlpacaEval's own example: votes 1111 and 2221. On the first item each is right (4 of 4), on the second the three
    2s are (their others' mode is 2) and the 1 is not: 3 of 4. Mean 0.875. A judge that says baseline twice: 1 and 0."""
    accuracies = against_humans({"q": [0, 0, 0, 0], "r": [1, 1, 1, 0]}, [("q", 0.3), ("r", 0.0)])
    assert accuracies == {"j": (0.5, 2), HUMANS: (pytest.approx(0.875), 2)}


def test_tied_modes_count_in_equal_parts():
    """Votes 1 1 2 2: without a 2 the mode is 1, so every human is wrong; a judge is right half of the time. With three
    votes 1, 2, tie: without the tie two modes remain, each with half."""
    accuracies = against_humans({"q": [0, 0, 1, 1]}, [("q", 1.0)])
    assert accuracies == {"j": (0.5, 1), HUMANS: (0.0, 1)}
    assert leave_one_out(np.array([0.0, 1.0, 0.5]))[2].tolist() == [0.5, 0.0, 0.5]


def test_a_single_vote_is_no_majority():
    """q has two votes for the baseline, r one: only q counts, and the judge is right there."""
    accuracies = against_humans({"q": [0, 0], "r": [1]}, [("q", 0.0), ("r", 0.0)])
    assert accuracies["j"] == (1.0, 1)


def test_a_tie_of_a_judge_counts_one_half():
    assert against_humans({"q": [1, 1, 1]}, [("q", 0.5)])["j"] == (0.5, 1)


def test_where_the_truth_is_a_tie_no_judge_is_right_or_wrong():
    """Truths +, 0, -: x is right on the first and wrong on the last, y says tie on the first (one half) and is right on
    the last. Of two items: 0.5 and 0.75. The tie in the middle counts for nobody."""
    calls = [("x", "m", 0, "", 1.0), ("x", "m", 1, "", 0.0), ("x", "m", 2, "", 1.0)]
    calls += [("y", "m", 0, "", 0.5), ("y", "m", 1, "", 0.0), ("y", "m", 2, "", 0.0)]
    reference, numbers = reference_of(panel(calls, truth={"0": 0.3, "1": 0.0, "2": -0.2}))
    assert reference.basis == TRUTH
    assert accuracies(numbers) == {"x": (0.5, 2), "y": (0.75, 2)}


def test_the_other_judges_count_alike():
    """x says model, y model, z baseline: x is near y (1) and far from z (0), mean 0.5; z is far from both."""
    calls = [("x", "m", 0, "", 1.0), ("y", "m", 0, "", 1.0), ("z", "m", 0, "", 0.0)]
    reference, numbers = reference_of(panel(calls))
    assert reference.basis == OTHER_JUDGES
    assert accuracies(numbers) == {"x": (0.5, 1), "y": (0.5, 1), "z": (0.0, 1)}


def test_grades_have_no_reference():
    assert reference_of(panel([("x", "m", 0, "", 7.0)], paired=False)) == (None, {})


def recommendation(wrong, prices, budget=None, judge_numbers=()):
    """Judges that are wrong on the first so many of 200 questions; the truth is model, baseline, model, ..."""
    calls = [(j, "m", q, "", float((q % 2 == 0) == (q >= count))) for j, count in wrong.items() for q in range(200)]
    compared_panel = panel(calls, truth={str(q): 1.0 - 2 * (q % 2) for q in range(200)})
    compared_panel = replace(
        compared_panel, judges={name: JudgeProfile(name, dollars=prices.get(name)) for name in wrong}
    )
    reference, numbers = reference_of(compared_panel, None, judge_numbers, budget)
    return reference, {judge: numbers[judge, "reference kappa"].value for judge in wrong}


def test_the_cheapest_judge_as_good_as_the_best_is_recommended():
    """best is wrong on 10 of 200, near on 11 (one question more: the paired interval ends at 0), poor on 40."""
    prices = {"best": 100.0, "near": 10.0, "poor": 1.0}
    reference, kappas = recommendation({"best": 10, "near": 11, "poor": 40}, prices)
    assert kappas["best"] == pytest.approx(0.9)  # 95% agree, half by chance
    assert reference.recommended == "near"
    assert reference.reason == (
        "near: agrees with the truth on 94.5% of 200 items, not significantly less than best (95.0%); $2.00 for 200 "
        "calls. Biases: not measured."
    )
    # 200 calls: best costs $20, near $2, poor $0.20
    assert recommendation({"best": 10, "near": 11, "poor": 40}, prices, budget=1.0)[0].recommended == "poor"
    assert recommendation({"best": 10, "near": 11}, prices, budget=1.0)[0].reason == (
        "none within $1. Left out: best: $20.00; near: $2.00."
    )
    assert recommendation({"best": 10, "poor": 40}, {"poor": 1.0})[0].recommended == "best"  # dearer, but better


def test_an_untrustworthy_judge_is_never_recommended():
    """Right on 110 of 200 with balanced labels: kappa 0.1. Flips of 30% beyond noise rule the other one out as well."""
    reference, kappas = recommendation({"coin": 90, "good": 0}, {"coin": 0.0, "good": 9.0})
    assert (reference.recommended, kappas["coin"]) == ("good", pytest.approx(0.1))
    flips = [Number("flips", "b", "good", value=0.45), Number("flips beyond noise", "b", "good", value=0.3)]
    none, _ = recommendation({"coin": 90, "good": 0}, {}, judge_numbers=flips, budget=0.0)
    assert none.recommended is None
    assert re.fullmatch(
        r"none of these can be trusted\. Left out: coin: kappa 0\.10 \[-0\.0\d, 0\.2\d\] is not surely above 0\.2; "
        r"good: 30% of pairs flip with the order beyond noise, must be below 30%\.",
        none.reason,
    )
    # Noise is no bias: it is forgiven as far as repeats show it, and else nobody knows.
    assert recommendation({"good": 0}, {}, judge_numbers=[flips[0]])[0].recommended is None
    less = replace(flips[1], value=0.29)
    assert recommendation({"good": 0}, {}, judge_numbers=[flips[0], less])[0].recommended == "good"


def asked_in_orders(verdicts, dollars, repeats=1):
    """Judge to its verdict on question q where the model's answer is shown first, and second; the truth alternates."""
    frame = judgment_frame(
        {"judge": judge, "benchmark": "b", "row": "m", "seed": 0, "question": str(q), "turn": "",
         "part": f"order{order}", "repeat": repeat, "model_first": float(order), "verdict": rule(q, order),
         "quality": 1.0 - 2 * (q % 2), "same": 0.0}
        for judge, rule in verdicts.items() for q in range(600) for order in (0, 1) for repeat in range(repeats)
    )  # fmt: skip
    profiles = {judge: JudgeProfile(judge, dollars=dollars[judge]) for judge in verdicts}
    return Panel(frame, {"b": True}, profiles, one_order=frozenset(["b"]))


def hurried(q, order):
    """Right in both orders on 420 of 600, on the others only where the model is shown first."""
    return float((q % 2 == 0) == (q % 10 < 7 or order == 1))


def test_quality_and_price_are_of_the_same_asking():
    """One order is 600 calls at $0.10 per 1,000: $0.06, and right on 70% + 15% = 85%. Both are 1,200 calls, $0.12:
    on 30% of the items its two verdicts make a tie, so again 70% + 15%. The cheaper asking is recommended."""
    compared_panel = asked_in_orders({"x": hurried}, {"x": 0.1}, repeats=2)
    assert compared_panel.askings == {"one order": 600, "both orders": 1200}
    comparison = compare_panel(compared_panel, replicates=100)
    lines = [[cell.text for cell in row.cells] for row in judges_table(comparison).rows]
    assert [line[2] for line in lines] == ["one order", "both orders"]
    assert [line[3].partition(" ")[0] for line in lines] == ["85.0%", "85.0%"]
    assert [line[4] for line in lines] == ["0.06", "0.12"]
    assert {comparison.accuracies(asking)["x"].n for asking in comparison.askings} == {600}
    # 30% of pairs flip with the order: at the limit.
    assert comparison.reference.recommended is None
    assert "Left out: x: 30% of pairs flip" in comparison.reference.reason
    label, points, _ = cost_points(comparison)
    assert label == "dollars for one pass"
    assert points == {"x, one order": (pytest.approx(0.06), 85.0), "x, both orders": (pytest.approx(0.12), 85.0)}


def test_a_dearer_asking_that_is_better_is_recommended_within_the_budget():
    """On 20% of the items x follows the order, with a firm verdict for the right answer where it is shown first and a
    weak one against it where not: right on 90% in one order; the mean of both is right on all."""

    def x(q, order):
        right = float(q % 2 == 0)
        return right if q % 10 < 8 or (order == 1) == bool(right) else 0.6 - 0.2 * right

    compared_panel = asked_in_orders({"x": x}, {"x": 0.1})
    reference = compare_panel(compared_panel, replicates=100).reference
    assert (reference.recommended, reference.asking) == ("x", "both orders")
    assert reference.reason.startswith(
        "x, both orders: agrees with the truth on 100.0% of 600 items; $0.12 for 1,200 calls. Biases: "
    )
    reference = compare_panel(compared_panel, replicates=100, budget=0.1).reference
    assert (reference.recommended, reference.asking) == ("x", "one order")
    assert "on 90.0% of 600 items; $0.06 for 600 calls" in reference.reason
    assert reference.reason.endswith("Left out: x, both orders: $0.12.")


def test_a_judge_that_follows_the_order_is_never_recommended():
    """It takes the answer shown first in 73% of the pairs, and is right on the others: at any price."""

    def first(q, order):
        return float(order) if q % 100 < 73 else float(q % 2 == 0)

    reference = compare_panel(asked_in_orders({"first": first}, {"first": 0.0}), replicates=100).reference
    assert reference.recommended is None
    assert reference.reason == (
        "none of these can be trusted. Left out: first: 73% of pairs flip with the order beyond noise, must be below "
        "30%."
    )


def sparse(truth):
    """200 questions: ``good`` is wrong on 21 of them; ``rarely`` is right on 19 and silent on the rest."""
    right = [float(q % 2 == 0) for q in range(200)]
    calls = [("good", "m", q, "", abs(right[q] - (q < 21))) for q in range(200)]
    calls += [("rarely", "m", q, "", right[q] if q >= 181 else np.nan) for q in range(200)]
    return panel(calls, truth={str(q): 1.0 - 2 * (q % 2) for q in range(200)} if truth else {})


@pytest.mark.parametrize("truth", [True, False])
def test_a_judge_without_most_verdicts_is_left_out(truth):
    """Without a truth, the two agree on all 19 questions that both judged; 19 of 200 are still 9.5%."""
    reference, _ = reference_of(sparse(truth))
    share = "89.5% of 200 items" if truth else "100.0% of 19 items"
    assert reference.reason == (
        f"good: agrees with {reference.basis} on {share}; price unknown for 200 calls. Biases: not measured. "
        "Left out: rarely: 9.5% of the verdicts are there, 98% are needed."
    )


def test_judges_are_compared_on_the_same_items():
    """196 of 200 (98%) are enough; x is wrong on just those 4 that y lacks, so they are equal on the others."""
    right = [float(q % 2 == 0) for q in range(200)]
    calls = [("x", "m", q, "", abs(right[q] - (q < 4 or q == 10))) for q in range(200)]
    calls += [("y", "m", q, "", np.nan if q < 4 else abs(right[q] - (q in (20, 30)))) for q in range(200)]
    compared_panel = panel(calls, truth={str(q): 1.0 - 2 * (q % 2) for q in range(200)})
    bias = Number("length", "b", "x", given=TRUTH, p=0.01)
    reference, numbers = reference_of(compared_panel, judge_numbers=[bias])
    assert accuracies(numbers)["x"] == (0.975, 200)
    assert reference.reason == (  # 195 of 196, while y has 194
        "x: agrees with the truth on 99.5% of 196 items; price unknown for 200 calls. Biases: length."
    )


def test_the_budget_is_for_one_pass_without_repeats():
    """400 calls were made here, in two repeats that differ on 20 questions: one pass is 200 calls, at $50 per 1,000
    these are $10, and it is right on 95% (the mean of the repeats would be tied on 10% of the items)."""
    calls = [
        ("x", "m", q, "", float((q % 2 == 0) == (repeat == 0 or q >= 20))) for repeat in (0, 1) for q in range(200)
    ]
    compared_panel = panel(calls, truth={str(q): 1.0 - 2 * (q % 2) for q in range(200)})
    compared_panel = replace(compared_panel, judges={"x": JudgeProfile("x", dollars=50.0)})
    assert compared_panel.askings == {"once": 200}
    assert reference_of(compared_panel, budget=9.9)[0].recommended is None
    assert reference_of(compared_panel, budget=10.0)[0].reason.startswith(
        "x: agrees with the truth on 95.0% of 200 items; $10.00 for 200 calls."
    )


def test_without_a_truth_kappa_is_with_the_judge_that_agrees_most():
    """x and y give the same 100 labels; z is a coin, which makes neither of them doubtful."""
    calls = [(j, "m", q, "", float(q % 2)) for j in "xy" for q in range(100)]
    calls += [("z", "m", q, "", float(q // 2 % 2)) for q in range(100)]
    reference, numbers = reference_of(panel(calls))
    kappas = {judge: numbers[judge, "reference kappa"].value for judge in "xz"}
    assert kappas == {"x": 1.0, "z": pytest.approx(0.0)}
    assert reference.recommended == "x"


def test_simulated_people_prefer_the_better_answer():
    """An advantage of 0.5 is log-odds of 1.5: 82% of 400 people; a mirrored one 18%. The same seed, the same people."""
    compared_panel = panel([("j", "m", q, "", 1.0) for q in range(2)], truth={"0": 0.5, "1": -0.5})
    votes, (note,) = simulated_humans(compared_panel.judgments, 400)
    means = votes.groupby("question")["verdict"].mean()
    assert means.tolist() == pytest.approx([0.82, 0.18], abs=0.05)
    assert note.startswith("Humans: 400 simulated from the true scores")
    pd.testing.assert_frame_equal(simulated_humans(compared_panel.judgments, 400)[0], votes)
    with pytest.raises(UserError, match="only pocket's are"):
        simulated_humans(panel([("j", "m", 0, "", 1.0)]).judgments, 4)


@pytest.fixture
def comparison():
    """x and y agree on 36 of 40 answers; x costs ten times as much. Four people say baseline on all."""
    calls = [("x", "m", q, "", float(q >= 6)) for q in range(40)]
    calls += [("y", "m", q, "", float(q >= 2)) for q in range(40)]
    compared_panel = panel(calls)
    profiles = {"x": JudgeProfile("gpt-4", dollars=10.0), "y": JudgeProfile("o|dd", dollars=1.0)}
    humans = people({str(q): [0, 0, 0, 0] for q in range(40)})
    return compare_panel(
        replace(compared_panel, judges=profiles, source="run r", teacher="gpt-4"), humans, replicates=100
    )


def test_a_comparison_is_written_and_read_back(comparison, tmp_path):
    paths = write_comparison(comparison, tmp_path)
    names = {"judges.md", "judges.tex", "judges.csv", "judges.json"}
    figures = {f"judge-{name}.{kind}" for name in ("agreement", "cost") for kind in ("png", "pdf")}
    assert {path.name for path in paths} == names | figures == {path.name for path in tmp_path.iterdir()}
    assert read_comparison(tmp_path) == comparison
    with (tmp_path / "judges.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(comparison.frame()) == len(comparison.numbers)
    agreement = next(line for line in lines if line["measure"] == "agreement")
    assert (agreement["judge"], agreement["other"], float(agreement["value"]), agreement["n"]) == ("x", "y", 0.9, "40")
    text = (tmp_path / "judges.md").read_text()
    # Four people who always say the same: kappa 0.
    assert "Recommended: none of these can be trusted. Left out: x: kappa 0.00" in text
    assert "o\\|dd" in text  # a judge's name cannot break a table
    assert "the run's teacher itself: it may prefer" in text


def test_a_figure_of_an_earlier_comparison_is_removed(comparison, tmp_path):
    write_comparison(comparison, tmp_path)
    (tmp_path / "mine.md").write_text("notes")
    alone = compare_panel(panel([("x", "m", q, "", float(q % 2)) for q in range(6)]), replicates=100)
    write_comparison(alone, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "mine.md", "judges.md", "judges.tex", "judges.csv", "judges.json",
    }  # fmt: skip
    heads = [column.title for column in judges_table(alone).columns]
    assert heads[3] == "Agreement with reference: none available"
    assert read_comparison(tmp_path / "none") is None
    (tmp_path / "judges.json").write_text("{}")
    with pytest.raises(UserError, match=r"judges\.json does not fit"):
        read_comparison(tmp_path)


def test_costs_that_hardly_differ_are_no_figure(comparison):
    label, points, _ = cost_points(comparison)
    assert (label, points["x"][0]) == ("dollars for one pass", 0.4)  # 40 calls
    tokens = {"x": JudgeProfile(tokens=100.0), "y": JudgeProfile(tokens=104.0)}
    assert cost_points(replace(comparison, judges=tokens)) is None
    assert (
        cost_points(replace(comparison, judges=tokens | {"y": JudgeProfile(tokens=200.0)}))[0] == "tokens for one pass"
    )


def test_table5_stands_beside_the_paper(comparison):
    """x is GPT-4, which the paper has; y is not. Humans are a line of their own."""
    rows = {row.cells[0].text: [cell.text for cell in row.cells] for row in table5(comparison).rows}
    assert rows["x"][2] == "69.17, not comparable"
    assert rows["y"][2] == "-"
    assert rows[HUMANS][1].startswith("100.0%")
    assert rows["Qwen2.5-72B-Instruct (paper)"][2] == "67.51"


def test_the_page_has_all_tables_and_figures(comparison, tmp_path):
    write_comparison(comparison, tmp_path / "table1" / "judges")
    section = judges_of(tmp_path / "table1")
    assert section.title == "Judges compared, table1"
    assert section.html.count("<table") == len(comparison_tables(comparison)) == 5
    assert section.html.count("<img") == 2
    (tmp_path / "table1" / "judges" / "judges.json").write_text('{"judges": "<b>"}')
    section = judges_of(tmp_path / "table1")  # a file of another version costs only its own section
    assert 'class="warning"' in section.html and "judges.json does not fit: " in section.html
