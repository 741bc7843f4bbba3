"""Agreement of judges: kappa, AC1 and alpha by hand, human agreement as AlpacaEval counts it, real annotations."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from reports.judge_comparison.agreement import agree, gwet, kappas, krippendorff, quadratic
from reports.judge_comparison.annotations import annotation_panel
from reports.judge_comparison.humans import HUMANS, human_agreement, leave_one_out
from reports.judge_comparison.panel import ITEM
from reports.judge_comparison.ranking import plain_rates, rank_agreement

ASSETS = os.environ.get("DISTILBENCH_ASSETS")


def matrix(columns):
    """Verdicts of judges on items of as many questions."""
    table = pd.DataFrame(columns, dtype=float)
    table.index = pd.MultiIndex.from_tuples([("m", 0, str(n), "") for n in range(len(table))], names=ITEM)
    return table


def together(table, paired=True, replicates=200):
    return agree((table, table.notna()), tuple(table.columns), paired, replicates, 0)


def test_kappa_and_ac1_by_hand():
    """20 both model, 15 both baseline, 5 + 10 apart: agreement 35/50 = 0.7. Shares of model: 0.5 and 0.6, so chance
    is 0.5 * 0.6 + 0.5 * 0.4 = 0.5 and kappa (0.7 - 0.5) / 0.5 = 0.4. AC1 over three labels: mean shares 0.55, 0.45
    and 0, chance 2 * 0.55 * 0.45 / 2 = 0.2475, so 0.4525 / 0.7525 = 0.60133."""
    a, b = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    found = together(matrix({"a": a, "b": b}))
    assert found.agreement == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert found.ac1 == pytest.approx(0.4525 / 0.7525)
    assert found.confusion == ((0, 0, 0), (0, 15, 10), (0, 5, 20))
    assert found.kappa_interval.low < 0.4 < found.kappa_interval.high
    assert (found.mean_a, found.mean_b) == (0.5, 0.6)


def test_ties_are_a_label_of_their_own_and_left_out_of_decided():
    """tie/tie, tie/model, model/model, baseline/baseline: 3 of 4 agree; of the two that neither calls a tie, both."""
    found = together(matrix({"a": [0.5, 0.5, 0.9, 0.2], "b": [0.5, 0.9, 0.8, 0.1]}))
    assert (found.agreement, found.n_decided, found.agreement_decided, found.kappa_decided) == (0.75, 2, 1.0, 1.0)


def test_one_label_has_no_kappa_but_agreement():
    found = together(matrix({"a": [1, 1, 1], "b": [1, 1, 1]}))
    assert (found.agreement, found.kappa, found.ac1, found.spearman) == (1.0, None, 1.0, None)


def test_missing_verdicts_are_dropped_in_pairs_and_counted():
    """Four items, one verdict missing on each side, on different items: two are left, two were dropped."""
    table = matrix({"a": [1, np.nan, 0, 1], "b": [1, 1, np.nan, 0]})
    found = agree((table, table.notna() | True), ("a", "b"), True, 0, 0)
    assert (found.n, found.dropped, found.agreement) == (2, 2, 0.5)
    with pytest.raises(ValueError, match="no item in common"):
        together(matrix({"a": [1, np.nan], "b": [np.nan, 1]}))


def test_bootstrap_formulas_equal_scikit_learn():
    """The vectorised kappas (plain and with quadratic weights) of a table are scikit-learn's of the same verdicts."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, 6, 200)
    y = np.clip(x + rng.integers(-1, 2, 200), 1, 5)
    table = np.array([[((x == i) & (y == j)).sum() for j in range(1, 6)] for i in range(1, 6)], dtype=float)
    assert kappas(table[None])[0] == pytest.approx(cohen_kappa_score(x, y))
    weights = quadratic(np.arange(1.0, 6.0))
    assert kappas(table[None], weights)[0] == pytest.approx(cohen_kappa_score(x, y, weights="quadratic"))
    graded = together(matrix({"a": x, "b": y}), paired=False)
    assert graded.kappa == pytest.approx(cohen_kappa_score(x, y, weights="quadratic"))
    assert graded.kappa_interval.low < graded.kappa < graded.kappa_interval.high
    assert (graded.ac1, graded.levels) == (None, ("1", "2", "3", "4", "5"))


def test_weighted_kappa_counts_grades_that_nobody_gave():
    """Grades 1 and 10 alone, one of four apart: every disagreement is the largest one, so it is plain kappa:
    observed 0.75, chance 0.5 * 0.75 + 0.5 * 0.25 = 0.5, kappa 0.5."""
    assert together(matrix({"a": [1, 1, 10, 10], "b": [1, 1, 1, 10]}), paired=False).kappa == pytest.approx(0.5)


def test_gwet_with_three_labels():
    """Three labels, both judges always right on 10 each: chance is sum(1/3 * 2/3) / 2 = 1/3, AC1 = 1."""
    assert gwet(10 * np.eye(3)[None])[0] == pytest.approx(1.0)
    uniform = np.full((1, 3, 3), 1.0)  # agreement 1/3 = chance
    assert gwet(uniform)[0] == pytest.approx(0.0)


def test_krippendorffs_alpha_of_labels_by_hand():
    """Pairs 11 10 00 00: 8 verdicts, 3 ones. Observed: 2 ordered disagreements of 8 = 0.25; expected 2 * 3 * 5 / (8 *
    7) = 0.5357. Alpha = 1 - 0.25 / 0.5357 = 0.5333."""
    found = krippendorff(matrix({"a": [1, 1, 0, 0], "b": [1, 0, 0, 0]}), True, 0, 0)
    assert found.value == pytest.approx(1 - 14 / 30)
    assert (found.metric, found.items) == ("nominal", 4)


def test_krippendorffs_alpha_of_grades_with_missing_ones_by_hand():
    """(4, 5) and (7, 7, 9): within, 2 * 1 / 1 = 2 and 2 * (4 + 4) / 2 = 8, of 5 verdicts: 2. All pairs: 2 * (5 * 220 -
    32^2) = 152 over 5 * 4 = 7.6. Alpha = 1 - 2 / 7.6. An item with one verdict counts for nothing."""
    table = matrix({"a": [4, 7, 2], "b": [5, 7, np.nan], "c": [np.nan, 9, np.nan]})
    found = krippendorff(table, False, 0, 0)
    assert found.value == pytest.approx(1 - 2 / 7.6)
    assert found.items == 2


def people(votes):
    """Human annotations: question to their verdicts."""
    return pd.DataFrame(
        [("alpaca_eval", "m", 0, question, "", f"h{n}", float(v)) for question, each in votes.items()
         for n, v in enumerate(each)],
        columns=["benchmark", *ITEM, "annotator", "verdict"],
    )  # fmt: skip


def calls(verdicts, judge="j"):
    return pd.DataFrame(
        [(judge, "m", 0, question, "", v) for question, v in verdicts], columns=["judge", *ITEM, "verdict"]
    )


def test_human_agreement_leaves_one_out():
    """AlpacaEval's own example: votes 1111 and 2221. On the first item each is right (4 of 4), on the second the three
    2s are (their others' mode is 2) and the 1 is not: 3 of 4. Mean 0.875. A judge that says baseline twice: 1 and 0;
    its 0.3 is a baseline as a label, and 0.7 near it as a probability."""
    found, drawn = human_agreement(
        people({"q": [0, 0, 0, 0], "r": [1, 1, 1, 0]}), calls([("q", 0.3), ("r", 0.0)]), 50, 0
    )
    assert found[HUMANS].value == pytest.approx(0.875)
    assert (found["j"].value, found["j"].items, found["j"].calls) == (0.5, 2, 2)
    assert found["j"].soft == pytest.approx((0.7 + 0.0) / 2)
    assert len(drawn["j"]) == len(drawn[HUMANS]) == 50


def test_tied_modes_count_in_equal_parts():
    """Votes 1 1 2 2: without a 2 the mode is 1, so every human is wrong; a judge is right half of the time. With three
    votes 1, 2, tie: without the tie two modes remain, each with half."""
    found, _ = human_agreement(people({"q": [0, 0, 1, 1]}), calls([("q", 1.0)]), 0, 0)
    assert (found[HUMANS].value, found["j"].value) == (0.0, 0.5)
    assert leave_one_out(np.array([1.0, 2.0, 0.0]))[2].tolist() == [0.0, 0.5, 0.5]


def test_repeated_verdicts_of_a_judge_are_averaged_and_ties_count_half():
    """Humans say model. Calls: model (1), baseline (0), tie (0.5): mean 0.5."""
    found, _ = human_agreement(people({"q": [1, 1, 1]}), calls([("q", 0.9), ("q", 0.1), ("q", 0.5)]), 0, 0)
    assert found["j"].value == pytest.approx(0.5)
    assert found[HUMANS].value == 1.0


@pytest.mark.assets
@pytest.mark.skipif(ASSETS is None, reason="DISTILBENCH_ASSETS is not set: the real annotations are not here")
def test_real_judges_agree_as_the_official_tools_say():
    """Annotations of AlpacaEval by up to four judges: each number of every pair to 1e-6, and the models' rankings."""
    folder = Path(ASSETS) / "alpaca_eval"
    expected = json.loads((folder / "multi_judge_dev.expected.json").read_text())
    panel = annotation_panel([folder / "multi_judge_dev.parquet"], [])
    (benchmark,) = panel.benchmarks
    checked = [(pair, panel.calls["row"] == pair["model"]) for pair in expected["pairs"]]
    checked += [(pair, panel.calls["row"].isin(pair["models"])) for pair in expected["pooled_same_baseline"]]
    for pair, rows in checked:
        # some pairs have different baselines: they are compared on purpose here, as the expected numbers are
        part = replace(panel, calls=panel.calls[rows].assign(turn=""))
        names = (pair["annotator_a"], pair["annotator_b"])
        found = agree((part.matrix(benchmark), part.asked(benchmark)), names, True, 0, 0)
        difference = 100 * (found.mean_a - found.mean_b)
        ours = {
            "n": found.n, "n_dropped_null": found.dropped, "agreement": found.agreement, "cohen_kappa": found.kappa,
            "n_no_ties": found.n_decided, "agreement_no_ties": found.agreement_decided,
            "cohen_kappa_no_ties": found.kappa_decided, "spearman": found.spearman, "pearson": found.pearson,
            "win_rate_a": 100 * found.mean_a, "win_rate_b": 100 * found.mean_b, "mean_diff_a_minus_b": difference,
            "paired_se_diff": 100 * found.difference_error,
        }  # fmt: skip
        theirs = {name: pair[name] for name in ours}
        assert {name: value is None for name, value in ours.items()} == {n: v is None for n, v in theirs.items()}
        for name, value in ours.items():
            assert value == pytest.approx(theirs[name], abs=1e-6), (names, pair.get("model"), name)
        assert [list(line) for line in found.confusion] == pair["contingency_rows_a_cols_b_tie_base_model"]
    rates = plain_rates(panel.matrix(benchmark), 100, 0)
    for pair in expected["model_level"]:
        names = (pair["annotator_a"], pair["annotator_b"])
        found = rank_agreement(names, rates[names[0]], rates[names[1]])
        assert sorted(found.rows) == pair["models"]
        assert found.spearman == pytest.approx(pair["spearman"], abs=1e-6)
        assert found.kendall == pytest.approx(pair["kendall"], abs=1e-6)


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_take_the_question_as_the_unit(paired):
    """Each of 12 questions nine times over says nothing new: the same intervals, for two judges and for three."""
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, 2, 12) if paired else rng.integers(1, 6, 12) for name in "abc"}
    table = matrix(columns)
    copies = [table.set_index(table.index.set_levels([f"m{n}"], level="row")) for n in range(9)]
    often = pd.concat(copies)
    one, nine = (agree((each, each.notna()), ("a", "b"), paired, 300, 0) for each in (table, often))
    assert nine.agreement_interval == pytest.approx(one.agreement_interval)
    assert nine.kappa_interval == pytest.approx(one.kappa_interval)
    assert nine.n == 9 * one.n
    # alpha itself corrects for the number of verdicts, n / (n - 1): 36 of them or 324
    few, many = (krippendorff(each, paired, 300, 0) for each in (table, often))
    assert many.interval == pytest.approx(few.interval, abs=0.06)
    assert many.interval.high - many.interval.low > 0.9 * (few.interval.high - few.interval.low)


def test_one_tie_does_not_move_ac1_by_a_step():
    """One of 50 verdicts becomes a tie: agreement falls by 2 points, AC1 by little more."""
    a, b = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    before, after = together(matrix({"a": a, "b": b})), together(matrix({"a": a, "b": [0.5, *b[1:]]}))
    assert before.agreement - after.agreement == pytest.approx(0.02)
    assert abs(before.ac1 - after.ac1) < 0.03


def test_only_items_that_both_were_asked_about_can_be_unscored():
    """Four items; b was asked about three and gave no verdict on one of them: 2 compared, 1 dropped."""
    table = matrix({"a": [1, 1, 1, 1], "b": [1, 1, np.nan, np.nan]})
    asked = table.notna()
    asked.loc[asked.index[2], "b"] = True
    found = agree((table, asked), ("a", "b"), True, 0, 0)
    assert (found.n, found.dropped) == (2, 1)
