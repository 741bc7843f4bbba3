"""Rankings under several judges: ties, tests as the run's own tables make them, conclusions, one baseline at a time."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from harness.stats import contrast, percentile_interval, seed_noise
from harness.types import Score
from reports.judge_comparison.compare import by_baseline, compare
from reports.judge_comparison.load_run import estimates
from reports.judge_comparison.panel import Estimate
from reports.judge_comparison.ranking import (
    comparisons,
    conclusion,
    difference,
    interval,
    noise_of,
    rank_agreement,
    ranking,
    significant,
)
from reports.judge_comparison.tables import grids
from tests.reports.panels import panel


def rates(values, spread=1.0, count=1000, questions=100):
    """Rows with normal replicates about their values."""
    rng = np.random.default_rng(0)
    return {row: Estimate(value, value + spread * rng.normal(size=count), questions) for row, value in values.items()}


@pytest.mark.parametrize(("rows", "count"), [(9, 1000), (4, 100)])
def test_many_pairs_or_few_replicates_can_be_significant(rows, count):
    """Ten points apart, standard error 1.4. The bootstrap's smallest p is 2 / 1001 (2 / 101); times 36 (6) pairs it is
    above 0.05. Student's t of 7 and more standard errors on 99 degrees of freedom is not."""
    found = rates({f"m{n}": 10.0 * n for n in range(rows)}, count=count)
    signs = significant(found, comparisons(list(found), "", ()))
    assert len(signs) == rows * (rows - 1) // 2
    assert set(signs.values()) == {-1}


def test_a_difference_that_every_question_shows_is_significant():
    """Every resample says the same: no error at all. 40 questions that all point one way: 2 * 0.5^40."""
    one, other = (Estimate(value, np.full(100, value), 40) for value in (100.0, 0.0))
    assert difference(one, other, None).p == pytest.approx(0.5**39)


def test_differences_are_corrected_for_their_number():
    """14 of 999 replicates at or below 0: p = 2 * 15 / 1000 = 0.03. Alone it is significant; among three comparisons,
    two of which show nothing, it is 0.09 after Holm. In a family of its own it is not corrected for the other's."""
    zero = np.zeros(999)
    drawn = np.concatenate([np.full(14, -1.0), np.full(985, 3.0)])
    null = np.resize([1.0, -1.0], 999)
    found = {"s": Estimate(0.0, zero, 100), "a": Estimate(2.0, drawn, 100), "b": Estimate(0.0, null, 100)}
    found["c"] = Estimate(0.0, -null, 100)
    assert difference(found["a"], found["s"], None).p == pytest.approx(0.03)
    family = [("a", "s"), ("b", "s"), ("c", "s")]
    assert significant(found, [family[:1]])["a", "s"] == 1
    assert significant(found, [family])["a", "s"] == 0
    assert significant(found, [family[:1], family[1:]])["a", "s"] == 1


def test_what_is_compared_is_what_the_tables_compare():
    """Trained rows with the student, and the focus row with the other trained rows; the teacher is not trained."""
    rows = ["teacher", "student", "dpo", "kd", "pad"]
    against = [("dpo", "student"), ("kd", "student"), ("pad", "student")]
    assert comparisons(rows, "student", ("teacher", "student")) == [against]
    focus = [("pad", "dpo"), ("pad", "kd")]
    assert comparisons(rows, "student", ("teacher", "student"), "pad") == [against, focus]
    assert comparisons(rows, "student", ("teacher", "student"), "none") == [against]


def scored(values, count=1000, n=805, unscored=0):
    """Entrant to its score, standard error 1.2 over questions."""
    rng = np.random.default_rng(1)
    return {
        name: [Score("wr", v, None, None, n, unscored, replicates=tuple(v + 1.2 * rng.normal(size=count)))]
        for name, v in values.items()
    }


def test_seeds_count_as_in_the_tables_of_the_run():
    """Seeds at 41, 46 and 54: their mean, 47, is 5 above the student's, with a standard error of 6.6 / sqrt(3) = 3.8
    between seeds on 2 degrees of freedom. Questions alone (1.2 / sqrt 3 each) would call that significant."""
    scores = scored({"student/0": 41.5, "student/1": 42.0, "student/2": 42.5, "dpo/0": 41, "dpo/1": 46, "dpo/2": 54})
    found = estimates(scores, ("student",))["wr"]
    assert (found["dpo"].value, found["student"].value) == (47.0, 42.0)
    noise = noise_of(found)
    assert noise == seed_noise([found["dpo"].draws, found["student"].draws])
    assert noise.freedom == 2  # the student's seeds are answers drawn anew
    made = difference(found["dpo"], found["student"], noise)
    assert made == contrast(found["dpo"].seeds, found["student"].seeds, 805, noise)
    assert significant(found, [[("dpo", "student")]]) == {("dpo", "student"): 0}
    low, high = interval(found["dpo"], noise)
    alone = contrast(found["dpo"].seeds, None, 805, noise)
    assert (low, high) == (alone.low, alone.high)
    assert high - low > 20  # t of 2 degrees of freedom, 4.3, times 3.8 either way


def test_what_the_tables_refuse_is_not_tested():
    """Below 98% of the questions scored, or from fewer than 30 of them, nothing is tested."""
    whole, part = scored({"s/0": 10.0}), scored({"a/0": 50.0}, unscored=95)
    found = estimates(whole | part)["wr"]
    assert found["a"].covered == pytest.approx(805 / 900)
    assert significant(found, [[("a", "s")]]) == {}
    few = rates({"a": 50.0, "s": 10.0}, questions=29)
    assert significant(few, [[("a", "s")]]) == {}
    assert significant(rates({"a": 50.0, "s": 10.0}, questions=30), [[("a", "s")]]) == {("a", "s"): 1}
    said = conclusion(("y", "x"), few, few, [[("a", "s")]], {})
    assert said.verdict == "nothing to survive"
    assert "30 questions" in said.line


def test_intervals_know_how_many_questions_there_are():
    """Of 20 questions a percentile interval is widened, of one there is none."""
    drawn = np.random.default_rng(0).normal(size=1000)
    assert interval(Estimate(0.0, drawn, 20), None) == percentile_interval(drawn, 20)
    assert percentile_interval(drawn, 20) != percentile_interval(drawn)
    assert interval(Estimate(0.0, drawn, 1), None) is None
    assert interval(Estimate(0.0, np.append(drawn, np.nan), 20), None) == percentile_interval(drawn, 20)


def test_ties_share_their_rank():
    """a 3, b 2, c 2, d 1: ranks 1 2 2 4. Where all tie there is no best row, no correlation, and no warning."""
    found = ranking("x", rates({"d": 1, "b": 2, "a": 3, "c": 2}, spread=0.0))
    assert found.ranks == {"a": 1, "b": 2, "c": 2, "d": 4}
    assert (found.top, found.top_stability) == ("a", 1.0)
    flat = rates({"a": 2, "b": 2}, spread=0.0)
    tied = ranking("x", flat)
    assert (tied.ranks, tied.top, tied.top_stability) == ({"a": 1, "b": 1}, "", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair = rank_agreement(("x", "y"), flat, rates({"a": 1, "b": 2}))
    assert (pair.spearman, pair.kendall, pair.same_top, pair.spearman_interval) == (None, None, None, None)


def test_resamples_that_tie_for_the_best_row_count_in_part():
    """a is best in one of four resamples and ties with b in two: (1 + 2 / 2) / 4 = 0.5. Under another judge b is always
    best: the same row in (0 + 1/2 + 1/2 + 1) / 4 = 0.5."""
    one = {"a": Estimate(1.5, np.array([2.0, 1, 1, 0])), "b": Estimate(1.0, np.ones(4))}
    assert ranking("x", one).top_stability == 0.5
    two = {"a": Estimate(0.0, np.zeros(4)), "b": Estimate(1.0, np.ones(4))}
    assert rank_agreement(("x", "y"), one, two).same_top == 0.5


def test_the_best_row_is_said_when_it_changes():
    first, other = rates({"s": 0.0, "a": 20.0, "b": 30.0}), rates({"s": 0.0, "a": 30.0, "b": 20.0})
    planned = [[("a", "s"), ("b", "s")]]
    found = conclusion(("y", "x"), first, other, planned, {"a": "A", "b": "B"})
    assert found.same_top is False
    assert found.line == (
        "Under y it survives: 2 of 2 significant differences are found again; best row A, not B."
    )  # fmt: skip
    assert conclusion(("y", "x"), first, first, planned, {}).same_top is True
    level = conclusion(("y", "x"), first, rates({"s": 0.0, "a": 30.0, "b": 30.0}), planned, {})
    assert level.same_top is None
    assert level.line.endswith("several rows tie for the best.")


def test_one_row_in_common_is_no_conclusion():
    first, other = rates({"a": 20.0, "b": 0.0}), rates({"b": 20.0, "c": 0.0})
    found = conclusion(("y", "x"), first, other, [[("a", "b")]], {})
    assert (found.verdict, found.same_top) == ("nothing to survive", None)
    assert found.line == "Under y: 1 row in common with x, too few to compare."


def annotated(baselines=("B",), judges=("x", "y"), questions=40):
    """Rows a and b, the better one wins on all questions but every seventh; the baseline's own answers tie."""
    for question in range(questions):
        for baseline in baselines:
            for judge in judges:
                yield judge, baseline, question, baseline, 0.5
                yield judge, "a", question, baseline, float(question % 7 == 0)
                yield judge, "b", question, baseline, float(question % 7 != 0)


def test_rows_are_ranked_against_one_baseline_and_never_against_themselves():
    """6 of 40 questions are multiples of 7: b has 85%, a 15%. Two baselines give two rankings."""
    found = compare(panel(annotated()), replicates=200)
    assert [part.metric for part in found.metrics] == ["annotations.wr"]
    assert found.metrics[0].rankings["x"].values == pytest.approx({"b": 85.0, "a": 15.0})
    two = compare(panel([*annotated(("B", "C"))]), replicates=200)
    assert [part.metric for part in two.metrics] == ["annotations.wr against B", "annotations.wr against C"]
    assert set(two.metrics[1].rankings["x"].values) == {"a", "b"}
    assert two.metrics[1].conclusions[0].kept == ("a < b",)


def test_baselines_that_are_not_named_differ_by_question_and_are_one():
    table = panel([("x", "a", n, f"digest {n}", 1.0) for n in range(10)]).matrix("annotations")
    assert [name for name, _ in by_baseline(table)] == [""]


def test_a_first_judge_without_verdicts_is_not_replaced():
    """No conclusion is drawn from the second judge in its place, and it is said."""
    silent = [("first", row, question, "", np.nan) for _, row, question, _, _ in annotated(("B",), ("x",))]
    given = [(judge, row, question, "", verdict) for judge, row, question, _, verdict in annotated() if row != "B"]
    found = compare(panel([*silent, *given], judges=("first", "x", "y")), replicates=200)
    assert found.metrics[0].conclusions == ()
    assert any(note.startswith("first gave no verdict on annotations.wr: no conclusion") for note in found.notes)


def test_nothing_but_ties_is_said_to_be_that():
    calls = [(judge, row, question, "", 0.5) for question in range(40) for row in "abc" for judge in "xy"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare(panel(calls), replicates=200)
    ranks, pairs = (next(g for g in grids(found) if g.name.startswith(n)) for n in ("ranks", "rank-agreement"))
    assert [row[1] for row in ranks.rows] == ["1. 50.00 [50.00, 50.00]"] * 3
    assert ranks.notes == ("x: no best row, all tie", "y: no best row, all tie")
    assert pairs.rows[0][3:] == ("-", "-", "-")
    one = replace(found.metrics[0], rankings={"x": ranking("x", rates({"a": 1.0}))}, intervals={"x": {}})
    assert "x: one row, no ranking" in next(
        grid for grid in grids(replace(found, metrics=(one,))) if grid.name.startswith("ranks")
    ).notes  # fmt: skip


def test_one_question_shows_nothing():
    """All verdicts of one question agree in every resample: no interval, no test, no recommendation by it."""
    found = compare(panel([(j, r, 0, "", float(r == "a")) for r in "ab" for j in "xy"]), replicates=200)
    (metric,) = found.metrics
    assert metric.intervals["x"] == {"a": None, "b": None}
    assert metric.conclusions[0].verdict == "nothing to survive"
    assert metric.agreements[0].spearman_interval is None
    (pair,) = found.benchmarks[0].agreements
    assert (pair.agreement_interval, pair.kappa_interval, found.benchmarks[0].alpha.interval) == (None, None, None)
    assert found.yardstick.standings["x"].interval is None
