"""Rankings under several judges: ties, rank correlation, tests as the run's tables make them, conclusions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from harness.stats import Draws, contrast, seed_noise
from reports.judge_comparison.compare import compare_panel
from reports.judge_comparison.panel import RowScore
from reports.judge_comparison.ranking import (
    best_row,
    check_conclusion,
    noise_of,
    planned_comparisons,
    rank_correlation,
    ranking,
    significant,
    spearmans,
)
from tests.reports.judge_comparison.panels import panel, row_scores


def test_spearmans_of_replicates_are_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (50, 6)).astype(float), rng.normal(size=(50, 6))  # with ties on one side
    assert spearmans(x, y) == pytest.approx([spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)])


def test_rank_correlation_by_hand():
    """a > b > c against b > a > c: rho = 1 - 6 * 2 / (3 * 8) = 0.5."""
    scores = {"x": row_scores({"a": 3, "b": 2, "c": 1}), "y": row_scores({"a": 2, "b": 3, "c": 1})}
    (found,) = rank_correlation("m", "x", "y", scores)
    assert (found.value, found.n) == (pytest.approx(0.5), 3)
    assert found.low is not None
    assert rank_correlation("m", "x", "y", {**scores, "x": {"a": scores["x"]["a"]}}) == []
    flat = row_scores({"a": 2, "b": 2}, spread=0.0)
    assert rank_correlation("m", "x", "y", {**scores, "x": flat})[0].value is None  # no warning either


def test_ties_share_their_rank():
    """a 3, b 2, c 2, d 1: ranks 1 2 2 4."""
    scores = row_scores({"d": 1, "b": 2, "a": 3, "c": 2}, spread=0.0)
    assert {each.row: each.rank for each in ranking("m", "j", scores)} == {"a": 1, "b": 2, "c": 2, "d": 4}
    assert best_row(scores) == "a"
    assert best_row(row_scores({"a": 2, "b": 2}, spread=0.0)) is None
    assert best_row(row_scores({"a": 2})) is None


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
    assert significant(scores, [[("dpo", "student")]]) == {("dpo", "student"): 0}
    assert noise_of(scores) == seed_noise([each.draws for each in scores.values()])
    expected = contrast(scores["dpo"].draws, None, 805, noise_of(scores))
    found = next(each for each in ranking("m", "j", scores) if each.row == "dpo")
    assert (found.low, found.high) == (expected.low, expected.high)


def test_what_the_tables_refuse_is_not_tested():
    """From fewer than 30 questions, or below 98% of them scored, nothing is tested."""
    values, family = {"a": 50.0, "s": 10.0}, [[("a", "s")]]
    assert significant(row_scores(values, questions=30), family) == {("a", "s"): 1}
    assert significant(row_scores(values, questions=29), family) == {}
    assert significant(row_scores(values, coverage=0.97), family) == {}


def test_many_pairs_can_be_significant():
    """400 replicates bound a bootstrap's p at 0.005; Holm over 45 pairs needs 0.0011 of the first."""
    scores = row_scores({str(n): 10.0 * n for n in range(10)})
    signs = significant(scores, planned_comparisons(list(scores), "", (), ""))
    assert len(signs) == 45
    assert set(signs.values()) == {-1}


def test_conclusions_are_confirmed_lost_or_reversed():
    first = row_scores({"student": 0, "a": 1, "b": 1, "c": 1.5})
    other = row_scores({"student": 0, "a": 1, "b": 0.01, "c": -1}, seed=1)
    planned = planned_comparisons(list(first), "student", ("student",), "")
    found = check_conclusion("m", "other", "first", {"first": first, "other": other}, planned)
    assert [found.confirmed, found.lost, found.reversed] == [((row, "student"),) for row in "abc"]
    assert (found.verdict, found.best) == ("does not hold", ("c", "a"))
    assert found.text({"a": "A", "student": "S"}) == (
        "under other the conclusion does not hold: 1 of 3 significant differences confirmed, not significant: b > S, "
        "reversed: c > S, best row A, not c."
    )
    alike = {"first": first, "other": row_scores({"student": 0, "a": 1, "b": 1, "c": 1.5}, seed=2)}
    same = check_conclusion("m", "other", "first", alike, planned)
    assert same.verdict == "holds"
    assert "3 of 3 significant differences confirmed, best row the same (c)" in same.text({})


def test_without_a_difference_there_is_no_conclusion():
    flat = row_scores({"student": 0, "a": 0}, spread=0.0)
    found = check_conclusion("m", "y", "x", {"x": flat, "y": flat}, [[("a", "student")]])
    assert found.verdict == "nothing to check"
    assert "shows no significant difference" in found.text({})
    apart = {"x": row_scores({"a": 20}), "y": row_scores({"b": 20})}
    assert "scored no two rows" in check_conclusion("m", "y", "x", apart, [[("a", "b")]]).text({})


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
    one = compare_panel(panel(annotated("B")), replicates=200)
    scores = {each.row: each.value for each in one.select("score", on="b.wr", judge="x")}
    assert scores == pytest.approx({"b": 85.0, "a": 15.0})
    two = compare_panel(panel(annotated("BC")), replicates=200).conclusions
    assert [(each.metric, each.confirmed) for each in two] == [
        (f"b.wr against {baseline}", (("b", "a"),)) for baseline in "BC"
    ]


def test_a_first_judge_without_verdicts_is_not_replaced():
    silent = [("first", row, question, "", np.nan) for _, row, question, _, _ in annotated("B", ("x",))]
    known = [(judge, row, question, "", verdict) for judge, row, question, _, verdict in annotated("B") if row != "B"]
    found = compare_panel(panel([*silent, *known], judges=("first", "x", "y")), replicates=200)
    assert found.conclusions == ()
    assert any(note.startswith("first gave no verdict on b.wr") for note in found.notes)


def test_one_question_shows_nothing():
    """All verdicts of one question agree in every resample: no interval, no test."""
    found = compare_panel(panel([(j, r, 0, "", float(r == "a")) for r in "ab" for j in "xy"]), replicates=200)
    assert {each.low for each in found.select("score", "rank correlation", "accuracy")} == {None}
    assert found.conclusions[0].verdict == "nothing to check"
