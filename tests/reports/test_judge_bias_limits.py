"""Biases where data are extreme, doubled or missing, and where quality is known from other judges' verdicts only."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from harness.stats import Interval
from reports.judge_comparison.answer_quality import NOTHING, ONE, OTHERS, TRUTH, logit, relevant
from reports.judge_comparison.bias import FEW, effects
from reports.judge_comparison.compare import compare
from reports.judge_comparison.panel import Facts, Panel, frame
from reports.judge_comparison.regression import independent, least_squares
from reports.judge_comparison.tables import bias_words, biases

NAN = float("nan")


def made(judges, features=None, truth=True, count=60, rows=("a", "b"), seed=0, correlation=0.0):
    """Answers of normal quality and length (standard deviation 50), judged in both orders.

    ``judges``: name to a function of (one item's features, the order, a random generator) to a verdict.
    """
    rng = np.random.default_rng(seed)
    calls, items = [], []
    for row in rows:
        for question in range(count):
            z, other = rng.normal(size=2)
            size = 50 * (correlation * z + math.sqrt(1 - correlation**2) * other)
            item = {"benchmark": "b", "row": row, "seed": 0, "question": f"{question:03d}", "turn": ""}
            known = {"length": size, "words": size / 5, "lists": 0.0, "markdown": 0.0, "same": 0.0, "quality": z}
            known |= features(question) if features else {}
            items.append({**item, **known, "quality": z if truth else NAN})
            for judge, verdict in judges.items():
                for order in (0.0, 1.0):
                    asked = {"judge": judge, "part": f"o{order}", "repeat": 0, "model_first": order}
                    calls.append({**item, **asked, "verdict": verdict(known, order, rng)})
    return Panel(frame(calls), pd.DataFrame(items), {"b": True}, {name: Facts() for name in judges})


def soft(sharpness, noise=0.5, position=0.0, length=0.0):
    """A judge that gives its probability."""

    def verdict(item, order, rng):
        saturated = np.tanh(np.nan_to_num(item["length"]) / 50)
        u = sharpness * item["quality"] + position * (2 * order - 1) + length * saturated
        return float(1 / (1 + np.exp(-u - noise * rng.normal())))

    return verdict


def hard(*options, **named):
    """A judge that draws won or lost from its probability."""
    p = soft(*options, **named)
    return lambda item, order, rng: float(rng.random() < p(item, order, rng))


def by_name(panel, judge):
    return {effect.name: effect for effect in effects(panel, "b", judge)}


EXTREME = {
    "position": lambda item, order, rng: order,  # always the first
    "length": lambda item, order, rng: float(item["length"] > 0),  # always the longer
}


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("name", list(EXTREME))
def test_the_most_biased_judges_are_the_first_to_be_flagged(name, truth):
    """A column that separates the verdicts has infinite log-odds; the bias is found all the same, and no other."""
    panel = made({name: EXTREME[name], "o1": hard(2), "o2": hard(2)}, truth=truth)
    found = by_name(panel, name)
    assert [each for each, effect in found.items() if effect.flagged] == [name]
    assert found[name].given == (TRUTH if truth else OTHERS)
    if name == "position":  # 120 flips one way: half the log of 120.5 / 0.5
        assert found[name].value == pytest.approx(math.log(241) / 2)
        assert (found["length"].value, found["length"].p) == (0.0, 1.0)
    else:
        assert found[name].unit == "share of verdicts"
        assert found[name].value > 0.5


def test_a_judge_without_noise_shows_its_position_bias():
    """The sign of quality + 0.5 for the first place: truth and place separate its verdicts without a gap."""
    panel = made({"sharp": lambda item, order, rng: float(item["quality"] + 0.5 * (2 * order - 1) > 0)})
    found = by_name(panel, "sharp")
    assert [name for name, effect in found.items() if effect.flagged] == ["position"]
    assert set(found) == {"position", "length"}


def test_a_judge_without_noise_is_not_flagged_for_what_goes_with_quality():
    """Verdicts are a step in the truth, lengths nearly: a straight line in the truth would leave +0.16 to length."""
    panel = made({"sharp": lambda item, order, rng: float(item["quality"] > 0)})
    items = panel.items.assign(length=50 * (np.tanh(2 * panel.items["quality"]) + panel.items["length"] / 50))
    found = by_name(Panel(panel.calls, items, panel.paired, panel.judges), "sharp")
    assert found["length"].unit == "share of verdicts"
    assert found["length"].value == pytest.approx(0, abs=0.05)
    assert not found["length"].flagged


def test_two_features_that_go_together_are_one_effect_and_erase_no_other():
    """Whoever writes a list writes markdown: the effect is of lists or markdown, position and length are measured."""
    both = lambda question: dict.fromkeys(("lists", "markdown"), float(question % 3 - 1))  # noqa: E731
    panel = made({"j": soft(2, position=1.0)}, both)
    found = by_name(panel, "j")
    assert found["position"].value == pytest.approx(1.0, abs=0.15)  # noise 0.5 on 240 calls: errors of 0.04
    assert found["position"].flagged
    assert set(found) == {"position", "length", "lists"}
    assert found["lists"].also == ("markdown",)
    assert "lists or markdown" in bias_words([found["lists"]])
    (row,) = biases(compare(panel, replicates=100).benchmarks[0], "AlpacaEval 2").rows
    assert row[4:] == ("as lists", "log-odds, given the truth")


def test_an_item_without_a_length_is_left_out_and_length_is_measured():
    lost = lambda question: {"length": NAN} if question == 0 else {}  # noqa: E731
    effect = by_name(made({"j": soft(2, length=1.0)}, lost), "j")["length"]
    assert effect.flagged
    assert by_name(made({"j": soft(2)}, lambda question: {"length": NAN}), "j").keys() == {"position"}


def test_a_feature_of_a_few_answers_is_not_measured():
    """19 answers with a list are too few, 20 are enough."""
    for count in (FEW - 1, FEW):
        some = lambda question, count=count: {"lists": float(question < count)}  # noqa: E731
        assert ("lists" in by_name(made({"j": soft(2)}, some, rows=("a",)), "j")) == (count == FEW)


def fair(others, seeds=range(4), judge=hard(4)):
    """(estimates of length, seeds in which anything is flagged) of a judge without bias; longer answers are better."""
    found = []
    options = {"truth": False, "count": 150, "rows": ("a", "b", "c"), "correlation": 0.4}
    for seed in seeds:
        panel = made({"fair": judge, **others}, seed=seed, **options)
        found.append(by_name(panel, "fair"))
    return [each["length"] for each in found], sum(any(e.flagged for e in each.values()) for each in found)


def test_an_unbiased_judge_of_hard_verdicts_is_not_flagged_where_longer_answers_are_better():
    """Without an instrument the length of better answers would be taken for a bias (about +0.06 of verdicts)."""
    lengths, flagged = fair({"o1": hard(4), "o2": hard(4)})
    assert {(effect.unit, effect.given) for effect in lengths} == {("share of verdicts", OTHERS)}
    assert flagged <= 1
    assert abs(np.mean([effect.value for effect in lengths])) < 0.035


def test_probabilities_and_verdicts_of_others_are_one_quality():
    """One other judge gives probabilities, one only won or lost: both in shares of verdicts, in the same direction.
    The judge's own position bias stays in log-odds."""
    lengths, flagged = fair({"o1": soft(3), "o2": hard(3)}, judge=soft(3))
    assert {effect.unit for effect in lengths} == {"share of verdicts"}
    assert flagged <= 1
    assert abs(np.mean([effect.value for effect in lengths])) < 0.02
    panel = made({"j": soft(2, position=0.7), "o1": soft(2), "o2": hard(2)}, truth=False)
    position = by_name(panel, "j")["position"]
    assert position.unit == "log-odds"
    assert position.interval.low <= 0.7 <= position.interval.high


def test_halves_of_unequal_sharpness_have_slopes_of_their_own():
    """Others of slope 4 and 1: a common slope would leave some of quality to length (about +0.4 log-odds)."""
    lengths, flagged = fair({"o1": soft(4), "o2": soft(1)}, range(2), judge=soft(2))
    assert flagged == 0
    assert max(abs(effect.value) for effect in lengths) < 0.15


def test_a_stated_length_bias_of_hard_verdicts_is_flagged():
    panel = made({"j": hard(2, length=1.5), "o1": hard(2), "o2": hard(2)}, truth=False, count=150)
    effect = by_name(panel, "j")["length"]
    assert effect.flagged
    assert 0.1 < effect.value < 0.5


def test_one_other_judge_or_others_that_guess_are_no_quality():
    """One other judge has a taste of its own, and of two that toss coins neither is an instrument: nothing is flagged
    but position."""
    alone = by_name(made({"j": soft(2, length=1.0, position=1.0), "o1": soft(2)}, truth=False), "j")
    assert {effect.given for effect in alone.values()} == {ONE}
    assert [name for name, effect in alone.items() if effect.flagged] == ["position"]
    pair = made({name: soft(2, length=1.0, position=1.0) for name in ("j", "o1")}, truth=False)
    assert "Mind its bias: position." in compare(pair, replicates=100).choice.reason
    guess = by_name(made({"j": soft(2, length=1.0), "o1": hard(0, 0), "o2": hard(0, 0)}, truth=False), "j")
    assert {effect.given for effect in guess.values()} == {NOTHING}
    assert not any(effect.flagged for effect in guess.values())


def test_relevance_by_hand():
    """Residuals about the mean (1, -1, 1, -1) and (1, -1, 0, 0): r = 2 / sqrt(4 * 2) = 0.707, r^2 = 1/2, so
    F = 1 * (items - 2): above 10 from 13 items on."""
    base = np.ones((4, 1))
    one, two = np.array([1.0, -1, 1, -1]), np.array([1.0, -1, 0, 0])
    assert not relevant(base, (one, two), 12)
    assert relevant(base, (one, two), 13)
    assert not relevant(base, (one, -two), 1000)
    assert not relevant(base, (one, np.ones(4)), 1000)


def test_columns_that_others_determine_are_left_out():
    base = np.ones((4, 1))
    first, second = np.array([1.0, 2, 3, 4]), np.array([1.0, 0, 0, 1])
    assert list(independent(base, {"a": first, "b": 2 * first + 3, "c": second, "d": np.full(4, 7.0)})) == ["a", "c"]


def test_no_effect_without_noise_is_no_effect():
    """Verdicts that are all 0.1: what is left of a slope is a rounding error, and its error is none."""
    x = np.column_stack([np.ones(6), np.arange(6) / 7])
    fit = least_squares(("a", "b"), x, np.full(6, 0.1), np.arange(6), 6)
    assert fit.effect("b") == (0.0, 0.0, Interval(0.0, 0.0), 1.0)


def test_not_measured_is_not_none_found():
    """A judge whose order, texts and quality nobody knows has not been cleared of anything."""
    assert bias_words([]) == "not measured"
    panel = made({"j": soft(2), "o1": soft(2)}, truth=False)
    panel.calls["model_first"] = NAN
    found = effects(panel, "b", "j")
    assert [effect.name for effect in found] == ["length"]
    assert bias_words(found) == "not measured"
    compared = compare(panel, replicates=100)
    assert "Its biases could not be measured here" in compared.choice.reason
    notes = biases(compared.benchmarks[0], "AlpacaEval 2").notes
    assert any("cannot be told apart" in note for note in notes)
    assert bias_words(effects(made({"j": soft(2)}), "b", "j")) == "none found of position, length"
    flagged = SimpleNamespace(name="own", also=(), flagged=True, sound=True)
    assert bias_words([flagged, *found]) == "own"


def test_a_stated_length_bias_is_measured_on_its_own_scale():
    """tanh of words / 10, as the judge's config says; else of characters in standard deviations."""
    panel = made({"j": soft(2)})
    assert by_name(panel, "j")["length"].per == "tanh(characters / SD)"
    panel = Panel(panel.calls, panel.items, panel.paired, {"j": Facts(length_words=10.0)})
    found = by_name(panel, "j")["length"]
    assert found.per == "tanh(words / 10)"
    lines = panel.calls.merge(panel.items, on=["benchmark", "row", "seed", "question", "turn"])
    ones, place = np.ones(len(lines)), 2 * lines["model_first"] - 1
    x = np.column_stack([ones, place, np.tanh(lines["words"] / 10), lines["quality"]])
    assert found.value == pytest.approx(np.linalg.lstsq(x, logit(lines["verdict"].to_numpy()), rcond=None)[0][2])
    assert "tanh(words / 10)" in " ".join(biases(compare(panel, replicates=100).benchmarks[0], "AlpacaEval 2").notes)
