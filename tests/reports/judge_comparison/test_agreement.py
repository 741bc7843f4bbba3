"""Agreement, kappa, repeats and flips by hand, against scikit-learn, and on real annotations."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from reports.judge_comparison.agreement import consistency, pair_agreement
from reports.judge_comparison.annotations import annotation_panel
from reports.judge_comparison.panel import QuestionBootstrap, judgment_frame
from reports.judge_comparison.ranking import mean_scores, rank_correlation
from tests.reports.judge_comparison.panels import matrix

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
    for one, nine in zip(compare(table, paired), compare(often, paired), strict=True):
        assert nine.n == 9 * one.n
        assert (nine.low, nine.high) == pytest.approx((one.low, one.high))


def test_one_question_has_no_interval():
    table = matrix({"a": [1, 0], "b": [1, 1]})
    table.index = pd.MultiIndex.from_tuples([("b", row, 0, "0", "") for row in "xy"], names=table.index.names)
    assert compare(table)[0].low is None


def steady(verdicts, same=()):
    """Measure to number, from (question, model first, verdict, repeat) of one judge; ``same``: where answers are."""
    frame = judgment_frame(
        {"judge": "j", "benchmark": "b", "row": "m", "seed": 0, "question": q, "turn": "", "part": f"o{first}",
         "repeat": repeat, "model_first": first, "verdict": verdict, "same": q in same}
        for q, first, verdict, repeat in verdicts
    )  # fmt: skip
    return {each.measure: each for each in consistency(frame, True, QuestionBootstrap(frame["question"], 100, 0))}


def test_noise_and_order_by_hand():
    """Two repeats in either order of one item: labels 1 0 | 0 0. Repeats: one of two pairs differs. Orders: of 2 * 2
    pairs, those with the first 1 differ: two. Flips beyond noise: 0.5 - 0.5 = 0."""
    found = steady([("q", 1, 0.9, 0), ("q", 1, 0.1, 1), ("q", 0, 0.2, 0), ("q", 0, 0.3, 1)])
    assert {name: (number.value, number.n) for name, number in found.items()} == {
        "unparsed": (0.0, 4), "repeats differ": (0.5, 2), "flips": (0.5, 4), "flips beyond noise": (0.0, 2),
    }  # fmt: skip


def test_two_orders_of_equal_answers_are_one_request_and_no_flip():
    verdicts = [("q", 1, 0.8, 0), ("q", 0, 0.2, 0), ("r", 1, 0.8, 0), ("r", 0, 0.7, 0)]
    assert steady(verdicts)["flips"].value == 0.5
    assert steady(verdicts, same="q")["flips"].value == 0.0


def test_unparsed_verdicts_are_counted():
    found = steady([("a", 1, 0.9, 0), ("b", 1, 0.9, 0), ("c", 1, 0.8, 0), ("d", 1, float("nan"), 0)])
    assert (found["unparsed"].value, found["flips"].value) == (0.25, None)


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
        ours = {"n": agreement.n, "agreement": agreement.value, "cohen_kappa": kappa.value}
        assert ours == {name: pytest.approx(pair[name], abs=1e-6) for name in ours}
    # The expected rankings count a model's ties with itself, which comparisons of ours leave out.
    table = replace(panel, judgments=lines.assign(turn="b: " + lines["turn"])).matrix("annotations")
    scores = mean_scores(table, 1.0, QuestionBootstrap(table.index.get_level_values("question"), 100, 0))
    for pair in expected["model_level"]:
        (found,) = rank_correlation("", pair["annotator_a"], pair["annotator_b"], scores)
        assert (found.value, found.n) == (pytest.approx(pair["spearman"], abs=1e-6), len(pair["models"]))
