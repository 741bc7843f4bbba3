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
from reports.judge_comparison.panel import QuestionBootstrap, calls_frame
from reports.judge_comparison.ranking import mean_scores, rank_correlation
from tests.reports.judge_comparison.panels import matrix

ASSETS = os.environ.get("DISTILBENCH_ASSETS")


def compare(table, paired=True):
    return pair_agreement(table, paired, QuestionBootstrap(table.index.get_level_values("question"), 200, 0))


def test_kappa_by_hand():
    """20 both model, 15 both baseline, 5 + 10 apart: agreement 35/50 = 0.7. Shares of model: 0.5 and 0.6, so chance
    is 0.5 * 0.6 + 0.5 * 0.4 = 0.5 and kappa (0.7 - 0.5) / 0.5 = 0.4."""
    found = compare(matrix({"a": [1] * 25 + [0] * 25, "b": [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15}))
    assert (found.agreement.value, found.agreement.n) == (pytest.approx(0.7), 50)
    assert found.kappa.value == pytest.approx(0.4)
    assert found.kappa.interval.low < 0.4 < found.kappa.interval.high


def test_a_tie_is_a_label_of_its_own():
    """tie/tie, tie/model, model/model, baseline/baseline: 3 of 4 agree."""
    assert compare(matrix({"a": [0.5, 0.5, 0.9, 0.2], "b": [0.5, 0.9, 0.8, 0.1]})).agreement.value == 0.75


def test_one_label_has_agreement_but_no_kappa():
    found = compare(matrix({"a": [1, 1, 1], "b": [1, 1, 1]}))
    assert (found.agreement.value, found.kappa.value) == (1.0, None)


def test_items_without_a_verdict_of_both_are_left_out():
    """Four items, one verdict missing on each side, on different items: two are left."""
    found = compare(matrix({"a": [1, np.nan, 0, 1], "b": [1, 1, np.nan, 0]}))
    assert (found.agreement.n, found.agreement.value) == (2, 0.5)
    assert compare(matrix({"a": [1, np.nan], "b": [np.nan, 1]})) is None


def test_kappas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.integers(1, 6, 200)
    y = np.clip(x + rng.integers(-1, 2, 200), 1, 5)
    weighted = cohen_kappa_score(x, y, weights="quadratic")
    assert compare(matrix({"a": x, "b": y}), paired=False).kappa.value == pytest.approx(weighted)
    won, other = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    assert compare(matrix({"a": won, "b": other})).kappa.value == pytest.approx(cohen_kappa_score(won, other))


def test_weighted_kappa_counts_grades_that_nobody_gave():
    """Grades 1 and 10 alone, one of four apart: every disagreement is the largest one, so it is plain kappa:
    observed 0.75, chance 0.5 * 0.75 + 0.5 * 0.25 = 0.5, kappa 0.5."""
    found = compare(matrix({"a": [1, 1, 10, 10], "b": [1, 1, 1, 10]}), paired=False)
    assert found.kappa.value == pytest.approx(0.5)


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_take_the_question_as_the_unit(paired):
    """Each of 12 questions nine times over says nothing new: the same intervals."""
    rng = np.random.default_rng(0)
    table = matrix({name: rng.integers(0, 2, 12) if paired else rng.integers(1, 6, 12) for name in "ab"})
    often = pd.concat([table.set_index(table.index.set_levels([f"m{n}"], level="row")) for n in range(9)])
    one, nine = compare(table, paired), compare(often, paired)
    assert nine.agreement.n == 9 * one.agreement.n
    for number in ("agreement", "kappa"):
        assert getattr(nine, number).interval == pytest.approx(getattr(one, number).interval)


def test_one_question_has_no_interval():
    table = matrix({"a": [1, 0], "b": [1, 1]})
    table.index = pd.MultiIndex.from_tuples([(row, 0, "0", "") for row in "xy"], names=table.index.names)
    assert compare(table).agreement.interval is None


def calls(verdicts):
    """(question, model first, verdict, repeat) as calls of one judge."""
    return calls_frame([
        {"judge": "j", "benchmark": "b", "row": "m", "seed": 0, "question": q, "turn": "", "part": f"o{first}",
         "repeat": repeat, "model_first": first, "verdict": verdict}
        for q, first, verdict, repeat in verdicts
    ])  # fmt: skip


def steady(verdicts, same=0.0):
    frame = calls(verdicts)
    questions = list(dict.fromkeys(frame["question"]))
    items = pd.DataFrame({"benchmark": "b", "row": "m", "seed": 0, "question": questions, "turn": "", "same": same})
    return consistency(frame, items, True, QuestionBootstrap(questions, 100, 0))


def test_noise_and_order_by_hand():
    """Two repeats in either order of one item: labels 1 0 | 0 0. Repeats: one of two pairs differs. Orders: of 2 * 2
    pairs, those with the first 1 differ: two. Flips beyond noise: 0.5 - 0.5 = 0."""
    found = steady([("q", 1, 0.9, 0), ("q", 1, 0.1, 1), ("q", 0, 0.2, 0), ("q", 0, 0.3, 1)])
    assert (found.repeats_differ.value, found.repeats_differ.n) == (0.5, 2)
    assert (found.flips.value, found.flips.n) == (0.5, 4)
    assert (found.flips_beyond_noise.value, found.unparsed.value) == (0.0, 0.0)


def test_two_orders_of_equal_answers_are_one_request_and_no_flip():
    verdicts = [("q", 1, 0.8, 0), ("q", 0, 0.2, 0), ("r", 1, 0.8, 0), ("r", 0, 0.7, 0)]
    assert steady(verdicts).flips.value == 0.5
    assert steady(verdicts, same=[1.0, 0.0]).flips.value == 0.0


def test_unparsed_verdicts_are_counted():
    found = steady([("a", 1, 0.9, 0), ("b", 1, 0.9, 0), ("c", 1, 0.8, 0), ("d", 1, float("nan"), 0)])
    assert (found.unparsed.value, found.flips.value) == (0.25, None)


@pytest.mark.assets
@pytest.mark.skipif(ASSETS is None, reason="DISTILBENCH_ASSETS is not set: the real annotations are not here")
def test_real_judges_agree_as_scikit_learn_and_scipy_say():
    """Annotations of AlpacaEval by up to four judges: each number of every pair to 1e-6, and the models' rankings."""
    folder = Path(ASSETS) / "alpaca_eval"
    expected = json.loads((folder / "multi_judge_dev.expected.json").read_text())
    panel = annotation_panel([folder / "multi_judge_dev.parquet"])
    pairs = [(pair, panel.calls["row"] == pair["model"]) for pair in expected["pairs"]]
    pairs += [(pair, panel.calls["row"].isin(pair["models"])) for pair in expected["pooled_same_baseline"]]
    for pair, rows in pairs:
        # Some pairs have different baselines; they are compared here on purpose, as the expected numbers are.
        table = replace(panel, calls=panel.calls[rows].assign(turn="")).matrix("annotations")
        found = compare(table[[pair["annotator_a"], pair["annotator_b"]]])
        ours = {"n": found.agreement.n, "agreement": found.agreement.value, "cohen_kappa": found.kappa.value}
        assert ours == {name: pytest.approx(pair[name], abs=1e-6) for name in ours}
    # The expected rankings count a model's ties with itself, which comparisons of ours leave out.
    table = replace(panel, calls=panel.calls.assign(turn="b: " + panel.calls["turn"])).matrix("annotations")
    scores = mean_scores(table, 1.0, QuestionBootstrap(table.index.get_level_values("question"), 100, 0))
    for pair in expected["model_level"]:
        names = (pair["annotator_a"], pair["annotator_b"])
        found = rank_correlation(names, scores[names[0]], scores[names[1]])
        assert (found.spearman.value, found.spearman.n) == (
            pytest.approx(pair["spearman"], abs=1e-6),
            len(pair["models"]),
        )
