"""Biases of judges, their noise, rankings and the choice of one: by hand, and on pocket judges of stated bias."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, spearmanr

from reports.judge_comparison.answer_features import has_list, has_markdown
from reports.judge_comparison.answer_quality import TRUTH, is_soft
from reports.judge_comparison.bias import conditional_position, effects
from reports.judge_comparison.compare import compare
from reports.judge_comparison.model_families import family_of, leakage_warning, own_rows
from reports.judge_comparison.panel import ITEM, Estimate, Facts, Panel, frame
from reports.judge_comparison.ranking import comparisons, conclusion, kendalls, rank_agreement, ranking, spearmans
from reports.judge_comparison.recommendation import Standing, Yardstick, choose
from reports.judge_comparison.regression import least_squares, logistic
from reports.judge_comparison.reliability import reliability
from reports.judge_comparison.tables import grids

SCRIPT = Path(__file__).parents[2] / "studies" / "judge_biases.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("judge_biases", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def simulated(script):
    """One seed of the stored benchmark, on 60 of its 100 questions."""
    return script.simulate(1, script.BENCHMARK.questions(script.CONFIG)[:60])


@pytest.mark.parametrize("use_truth", [True, False])
@pytest.mark.parametrize("name", ["position", "length", "own"])
def test_stated_biases_are_measured(script, simulated, name, use_truth):
    """The interval holds the stated log-odds, and the bias is flagged (20 seeds: studies/judge_biases.json)."""
    found = script.measure(simulated, name, use_truth)[name]
    assert found.interval.low <= script.STATED[name] <= found.interval.high
    assert found.interval.high - found.interval.low < 0.6
    assert found.flagged
    assert (found.unit, found.given) == ("log-odds", "the truth" if use_truth else "the other judges")


def test_an_unbiased_judge_is_not_flagged(script, simulated):
    assert not any(effect.flagged for effect in script.measure(simulated, "fair", use_truth=True).values())


def test_without_truth_and_without_other_judges_only_position_is_flagged(script, simulated):
    """Longer answers may be better ones: with nothing to hold quality fixed, no other effect is called a bias."""
    alone = replace(simulated, calls=simulated.calls[simulated.calls["judge"] == "length"])
    found = {e.name: e for e in effects(alone, "alpaca_eval", "length", script.Setting(use_truth=False))}
    assert found["length"].given == "nothing"
    assert not found["length"].flagged
    held = replace(simulated, calls=simulated.calls[simulated.calls["judge"] == "position"])
    found = {e.name: e for e in effects(held, "alpaca_eval", "position", script.Setting(use_truth=False))}
    assert found["position"].flagged
    held = replace(held, items=held.items.assign(quality=np.nan), judges={"position": held.judges["position"]})
    (row,) = grids(compare(held, replicates=100))[0].rows
    assert row[4] == "position"


def test_hard_verdicts_are_measured_on_their_own_scale(script, simulated):
    """The same judges, asked only who wins: logistic regression, a unit that says so, the biased one still flagged."""
    won = (np.sign(simulated.calls["verdict"] - 0.5) + 1) / 2
    hard = replace(simulated, calls=simulated.calls.assign(verdict=won))
    found = script.measure(hard, "position", use_truth=True)["position"]
    assert (found.unit, found.given) == ("log-odds of verdicts", TRUTH)
    assert found.flagged
    assert found.value > 0
    assert not is_soft(hard.calls["verdict"].to_numpy())
    assert is_soft(simulated.calls["verdict"].to_numpy())


def lines(verdicts):
    """(question, model first, verdict, repeat) as calls of one judge."""
    rows = [
        {"judge": "j", "benchmark": "b", "row": "m", "seed": 0, "question": q, "turn": "", "part": f"o{first}",
         "repeat": repeat, "model_first": first, "verdict": verdict}
        for q, first, verdict, repeat in verdicts
    ]  # fmt: skip
    return frame(rows)


def items(questions, **columns):
    made = pd.DataFrame({"benchmark": "b", "row": "m", "seed": 0, "question": list(questions), "turn": ""})
    for name in ("length", "words", "lists", "markdown", "quality", "same"):
        made[name] = columns.get(name, 0.0)
    return made


def test_position_from_flips_by_hand():
    """Three pairs in which the first place wins twice, one in which it loses twice, two that do not flip: half the log
    of (3 + 0.5) / (1 + 0.5)."""
    first, second, same = [(1, 1.0), (0, 0.0)], [(1, 0.0), (0, 1.0)], [(1, 1.0), (0, 1.0)]
    pairs = [first, first, first, second, same, same]
    calls = lines([(str(n), order, verdict, 0) for n, pair in enumerate(pairs) for order, verdict in pair])
    value, error, interval, _ = conditional_position(calls)
    assert value == pytest.approx(math.log(3.5 / 1.5) / 2)
    assert interval.low < value < interval.high
    assert error > 0


def test_position_is_uncertain_where_all_flips_go_one_way():
    """40 flips for the first place and none for the second: half of log(40.5 / 0.5) = 2.197, and an error of at least
    sqrt(1 / 40.5 + 1 / 0.5) / 2 = 0.711: nobody knows how seldom the other kind is."""
    calls = lines([(str(n), order, float(order), 0) for n in range(40) for order in (0, 1)])
    value, error, _, p = conditional_position(calls)
    assert value == pytest.approx(math.log(81) / 2)
    assert error == pytest.approx(math.sqrt(1 / 40.5 + 2) / 2)
    assert p < 0.01


def test_noise_and_order_by_hand():
    """Two repeats in either order of one item: labels 1 0 | 0 0. Repeats: one of two pairs differs. Orders: of 2 * 2
    pairs, those with the first 1 differ: two. Flips beyond noise: 0.5 - 0.5 = 0."""
    calls = lines([("q", 1, 0.9, 0), ("q", 1, 0.1, 1), ("q", 0, 0.2, 0), ("q", 0, 0.3, 1)])
    found = reliability(calls, items("q"), True, 100, 0)
    assert (found.repeat_disagreement.value, found.repeat_disagreement.n) == (0.5, 2)
    assert (found.flip.value, found.flip.n) == (0.5, 4)
    assert (found.flip_excess.value, found.flip_excess.interval) == (0.0, (0.0, 0.0))
    assert found.unparsed.value == 0.0


def test_two_orders_of_the_same_answer_are_one_request_and_no_flip():
    """Equal answers: both orders are the same messages, the ledger gives one reply, and one of them looks flipped."""
    calls = lines([("q", 1, 0.8, 0), ("q", 0, 0.2, 0), ("r", 1, 0.8, 0), ("r", 0, 0.7, 0)])
    assert reliability(calls, items("qr"), True, 100, 0).flip.value == 0.5
    assert reliability(calls, items("qr", same=[1.0, 0.0]), True, 100, 0).flip.value == 0.0


def test_unparsed_and_longer_wins_by_hand():
    """Four calls, one without a verdict: 25%. Of three, the longer answer (length +1, -1, +1) wins twice."""
    calls = lines([("a", 1, 0.9, 0), ("b", 1, 0.9, 0), ("c", 1, 0.8, 0), ("d", 1, float("nan"), 0)])
    found = reliability(calls, items("abcd", length=[1.0, -1.0, 1.0, 1.0]), True, 100, 0)
    assert found.unparsed.value == 0.25
    assert (found.longer.value, found.longer.n) == (pytest.approx(2 / 3), 3)
    assert found.lists.value is None  # nobody wrote one
    listed = reliability(calls, items("abcd", length=1.0, lists=[-1.0, -1.0, 0.0, 1.0]), True, 100, 0)
    assert (listed.lists.value, listed.lists.n) == (0.0, 2)  # a and b lose to an answer without, which has won
    assert found.flip.value is None


def test_logistic_regression_by_hand():
    """One of four wins at x = 0, three of four at x = 1: log-odds -log 3, and 2 log 3 more."""
    x = np.column_stack([np.ones(8), np.repeat([0.0, 1.0], 4)])
    fit = logistic(("a", "b"), x, np.array([1.0, 0, 0, 0, 1, 1, 1, 0]), np.arange(8), 8)
    assert fit.values == pytest.approx([-math.log(3), 2 * math.log(3)])
    separated = np.repeat([0.0, 1.0], 4)
    assert logistic(("a", "b"), x, separated, np.arange(8), 8) is None


def test_clustered_errors_of_a_mean_by_hand():
    """The mean of clusters (1, 1), (3, 3): residuals -1 and 1, sums -2 and 2, variance (4 + 4) / 4^2 * 2 / 1 = 1."""
    fit = least_squares(("mean",), np.ones((4, 1)), np.array([1.0, 1, 3, 3]), np.array([0, 0, 1, 1]), 2)
    value, error, _, _ = fit.effect("mean")
    assert (value, error) == (2.0, pytest.approx(1.0))


def test_instruments_undo_the_shrinking_of_a_noisy_regressor():
    """y = q, both halves q + noise of the same variance: least squares halves the slope, the other half restores it.
    4,000 lines: the standard errors are about 0.014 and 0.03; four of those are allowed."""
    rng = np.random.default_rng(0)
    q = rng.normal(size=4000)
    one, two = (q + rng.normal(size=4000) for _ in range(2))
    x, z = (np.column_stack([np.ones(4000), each]) for each in (one, two))
    plain = least_squares(("a", "b"), x, q, np.arange(4000), 4000)
    mended = least_squares(("a", "b"), x, q, np.arange(4000), 4000, z)
    assert plain.values[1] == pytest.approx(0.5, abs=0.06)
    assert mended.values[1] == pytest.approx(1.0, abs=0.12)
    assert least_squares(("a", "b"), np.ones((4, 2)), np.ones(4), np.arange(4), 4) is None


def rates(values, spread=0.1, count=400, seed=0):
    rng = np.random.default_rng(seed)
    return {row: Estimate(value, value + spread * rng.normal(size=count)) for row, value in values.items()}


def test_rank_correlations_of_replicates_are_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (50, 6)).astype(float), rng.normal(size=(50, 6))  # with ties on one side
    assert spearmans(x, y) == pytest.approx([spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)])
    assert kendalls(x, y) == pytest.approx([kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)])


def test_rankings_and_their_agreement_by_hand():
    """a > b > c against b > a > c: one of three pairs is swapped, tau 1/3, rho 1 - 6 * 2 / (3 * 8) = 0.5."""
    left, right = rates({"a": 3, "b": 2, "c": 1}), rates({"a": 2, "b": 3, "c": 1})
    found = rank_agreement(("x", "y"), left, right)
    assert (found.kendall, found.spearman) == (pytest.approx(1 / 3), pytest.approx(0.5))
    assert found.same_top == 0.0
    first = ranking("x", left)
    assert (list(first.values), first.top, first.top_stability) == (["a", "b", "c"], "a", 1.0)
    assert rank_agreement(("x", "y"), {"a": left["a"]}, right) is None


def test_conclusions_are_kept_lost_or_reversed():
    first = rates({"student": 0, "a": 1, "b": 1, "c": 1})
    planned = comparisons(list(first), "student", ("student",))
    assert planned == [[("a", "student"), ("b", "student"), ("c", "student")]]
    other = rates({"student": 0, "a": 1, "b": 0.01, "c": -1}, seed=1)
    found = conclusion(("other", "first"), first, other, planned, {"a": "A", "student": "S"})
    assert (found.kept, found.lost, found.reversed) == (("A > S",), ("b > S",), ("c > S",))
    assert found.verdict == "does not survive"
    again = conclusion(
        ("other", "first"), first, rates({row: e.value for row, e in first.items()}, seed=2), planned, {}
    )
    assert again.verdict == "survives"
    assert again.line.startswith("Under other it survives: 3 of 3 significant differences are found again")
    nothing = conclusion(("other", "first"), rates({"student": 0, "a": 0}), other, [[("a", "student")]], {})
    assert nothing.verdict == "nothing to survive"
    assert comparisons(["a", "b"], "", ()) == [[("a", "b")]]


def yardstick():
    """Three judges: good and cheap cannot be told apart, bad is worse."""
    rng = np.random.default_rng(0)
    values = {"good": 0.90, "cheap": 0.89, "bad": 0.70}
    drawn = {name: value + 0.02 * rng.normal(size=400) for name, value in values.items()}
    standings = {name: Standing(name, value, None, 500) for name, value in values.items()}
    return Yardstick("the human majority", standings, drawn)


def test_the_choice_is_the_cheapest_that_is_not_worse():
    """10, 1 and 0.1 dollars per 1,000 calls, 2,000 calls: 20, 2 and 0.2 dollars."""
    judges = {"good": Facts(dollars=10.0), "cheap": Facts(dollars=1.0), "bad": Facts(dollars=0.1)}
    found = choose(judges, yardstick(), None, 2000, {"cheap": ["length"]})
    assert found.judge == "cheap"
    assert "not significantly less than good" in found.reason
    assert "$2.00 for 2,000 calls" in found.reason
    assert "Mind its bias: length" in found.reason
    tight = choose(judges, yardstick(), 1.0, 2000, {})
    assert tight.judge == "bad"
    assert "good: $20.00" in tight.reason
    assert "could not be measured" in tight.reason
    assert choose(judges, yardstick(), 0.01, 2000, {}).judge is None
    unknown = judges | {"cheap": Facts(), "bad": Facts()}
    assert choose(unknown, yardstick(), 50.0, 2000, {"good": []}).judge == "good"
    assert choose(judges, None, None, 2000, {}).judge is None


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("meta-llama/Llama-3.1-70B-Instruct", "llama"), ("google/gemma-2-9b-it", "gemma"), ("gpt-4.1-mini", "gpt"),
        ("Qwen2.5-72B-Instruct", "qwen"), ("o3-mini", "gpt"), ("pocket-judge-1", ""), ("my-judge", ""),
        ("deepseek-ai/judge-7b", "deepseek"), ("weighted_alpaca_eval_gpt4_turbo", "gpt"),
    ],
)  # fmt: skip
def test_families_are_told_by_names(name, family):
    assert family_of(name) == family


def test_a_judge_of_the_teachers_family_is_warned_of():
    assert "preference leakage" in leakage_warning("j", "gemma", "gemma")
    assert leakage_warning("j", "gemma", "llama") is None
    assert leakage_warning("j", "", "") is None
    assert own_rows("gemma", "gemma", "llama", ["dpo"]) == ("teacher", "dpo")
    assert own_rows("llama", "gemma", "llama", ["dpo"]) == ("student", "dpo")
    assert own_rows("gemma", "gemma", "gemma", ["dpo"]) == ()  # all of them: nothing to compare with
    assert own_rows("", "", "", ["dpo"]) == ()


def test_lists_and_markdown_are_seen():
    assert has_list("Here:\n- one\n- two")
    assert has_list("1. a\n2) b")
    assert not has_list("- only one")
    assert has_markdown("# Title\ntext")
    assert has_markdown("this is **bold**")
    assert not has_markdown("#### 42")  # a word problem's answer, no heading
    assert not has_markdown("2 * 3 * 4")


def test_grades_are_measured_in_points():
    """Grades that rise by 2 with the answer's saturated length at equal true quality: the slope is 2."""
    rng = np.random.default_rng(0)
    length = rng.normal(1000, 100, 80)  # tanh of lengths not centred would be 1 for all
    made = items([str(n) for n in range(80)], length=length, quality=0.5)
    grades = 5 + 2 * np.tanh((length - length.mean()) / length.std()) + 0.1 * rng.normal(size=80)
    rows = [
        {"judge": "j", "benchmark": "b", "row": "m", "seed": 0, "question": str(n), "turn": "", "part": "turn1",
         "repeat": 0, "model_first": float("nan"), "verdict": grade}
        for n, grade in enumerate(grades)
    ]  # fmt: skip
    made["quality"] = rng.uniform(size=80)
    panel = Panel(frame(rows), made, {"b": False}, {"j": Facts()})
    (found,) = effects(panel, "b", "j")
    assert (found.name, found.unit) == ("length", "points")
    assert found.value == pytest.approx(2.0, abs=0.12)
    assert set(ITEM) <= set(panel.items.columns)
