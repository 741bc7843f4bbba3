"""Biases by hand, on pocket judges of stated bias, and where data are extreme or missing."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.judge_comparison.bias import (
    NOTHING,
    ONE_JUDGE,
    OTHER_JUDGES,
    TRUTH,
    bias_effects,
    gives_probabilities,
    is_flagged,
)
from reports.judge_comparison.panel import JudgeProfile, Panel, judgment_frame
from reports.tables.judge_family import family_of, leakage_warning, own_family_rows
from results.run.record import RunFamily

SCRIPT = Path(__file__).parents[3] / "studies" / "judge_biases.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("judge_biases", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def simulated(study):
    """One seed of the study, on 60 of its 100 questions."""
    return study.simulate(1, study.BENCHMARK.questions(study.CONFIG)[:60])


@pytest.mark.parametrize("use_truth", [True, False])
@pytest.mark.parametrize("name", ["position", "length", "own"])
def test_stated_biases_are_measured(study, simulated, name, use_truth):
    """The interval holds the stated log-odds, and the bias is flagged (20 seeds: studies/judge_biases.json)."""
    effect = study.measure(simulated, name, use_truth)[name]
    assert effect.low <= study.BIASES[name] <= effect.high
    assert effect.high - effect.low < 0.6
    assert is_flagged(effect)
    assert (effect.unit, effect.given) == ("log-odds", TRUTH if use_truth else OTHER_JUDGES)


def test_an_unbiased_judge_is_not_flagged(study, simulated):
    """On this seed; 2 of 20 are flagged for something, as often as a 5% test errs (studies/judge_biases.json)."""
    assert not any(map(is_flagged, study.measure(simulated, "fair", use_truth=True).values()))


def test_without_truth_and_other_judges_only_position_is_flagged(study, simulated):
    """Longer answers may be better ones: with nothing to hold quality fixed, no other effect is called a bias. With
    one other judge its taste and this one's cannot be told apart."""
    for other_judges, quality_source in (((), NOTHING), (("other-1",), ONE_JUDGE)):
        for judge in ("length", "position"):
            seen = simulated.judgments[simulated.judgments["judge"].isin([judge, *other_judges])]
            effects = bias_effects(replace(simulated, judgments=seen), "alpaca_eval", judge, use_truth=False)
            by_measure = {effect.measure: effect for effect in effects}
            assert by_measure["length"].given == quality_source
            assert not is_flagged(by_measure["length"])
            assert is_flagged(by_measure["position"]) == (judge == "position")


def test_verdicts_without_probabilities_are_measured_on_their_own_scale(study, simulated):
    won = (np.sign(simulated.judgments["verdict"] - 0.5) + 1) / 2
    hard = replace(simulated, judgments=simulated.judgments.assign(verdict=won))
    effect = study.measure(hard, "position", use_truth=True)["position"]
    assert (effect.unit, effect.given) == ("log-odds of verdicts", TRUTH)
    assert is_flagged(effect)
    assert effect.value > 0
    relative = study.measure(hard, "position", use_truth=False)["position"]
    assert (relative.unit, relative.given) == ("share of verdicts", OTHER_JUDGES)
    assert not gives_probabilities(hard.judgments["verdict"].to_numpy())
    assert gives_probabilities(simulated.judgments["verdict"].to_numpy())


def panel_of(judges, truth=True, count=60, paired=True, words=None):
    """Answers of normal quality and length (SD 50) of rows a and b. Judge name to verdict(item, order, rng)."""
    rng = np.random.default_rng(0)
    lines = []
    for row in "ab":
        for question in range(count):
            z, size = rng.normal(size=2)
            item = {"benchmark": "b", "row": row, "seed": 0, "question": f"{question:03d}", "turn": "", "repeat": 0}
            features = {"length": 50 * size, "words": 10 * size, "same": 0.0, "quality": z}
            item |= {**features, "quality": z if truth else float("nan")}
            for judge, verdict in judges.items():
                for order in (0.0, 1.0) if paired else (float("nan"),):
                    call = {"judge": judge, "part": f"o{order}", "model_first": order}
                    lines.append({**item, **call, "verdict": verdict(features, order, rng)})
    profiles = {name: JudgeProfile(length_words=words) for name in judges}
    return Panel(judgment_frame(lines), {"b": paired}, profiles)


def by_name(panel, judge):
    return {effect.measure: effect for effect in bias_effects(panel, "b", judge)}


def hard(item, order, rng):
    return float(rng.random() < 1 / (1 + math.exp(-2 * item["quality"])))


EXTREME = {
    "position": lambda item, order, rng: order,  # always the first
    "length": lambda item, order, rng: float(item["length"] > 0),  # always the longer
}


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("name", list(EXTREME))
def test_the_most_biased_judges_are_flagged(name, truth):
    """A regressor that separates the verdicts has infinite log-odds, but a finite share; no other bias is flagged."""
    effects = by_name(panel_of({name: EXTREME[name], "o1": hard, "o2": hard}, truth), name)
    assert [measure for measure, effect in effects.items() if is_flagged(effect)] == [name]
    assert (effects[name].unit, effects[name].given) == ("share of verdicts", TRUTH if truth else OTHER_JUDGES)
    assert effects[name].value > 0.4  # 0.5 per +-1 of position; per tanh of length more


def test_a_length_bias_of_a_grade_is_in_points():
    """Grades that rise by 2 with the answer's saturated length about its mean: the slope is 2."""
    grade = lambda item, order, rng: 5 + 2 * math.tanh(item["length"] / 50) + item["quality"] + 0.1 * rng.normal()  # noqa: E731
    (effect,) = by_name(panel_of({"j": grade}, paired=False), "j").values()
    assert (effect.measure, effect.unit, effect.per) == ("length", "points", "tanh(characters / SD)")
    assert effect.value == pytest.approx(2.0, abs=0.25)  # the sample's SD and mean are not exactly 50 and 0


def test_a_stated_length_bias_is_measured_in_its_own_words():
    assert by_name(panel_of({"j": hard}, words=10.0), "j")["length"].per == "tanh(words / 10)"


def test_an_answer_without_a_length_is_left_out():
    panel = panel_of({"j": hard})
    lines = panel.judgments
    for lengths, effects in (
        (lines["length"].where(lines["question"] != "000"), {"position", "length"}),
        (float("nan"), {"position"}),
    ):
        assert by_name(replace(panel, judgments=lines.assign(length=lengths)), "j").keys() == effects


def test_no_verdict_is_no_effect():
    assert by_name(panel_of({"j": lambda item, order, rng: float("nan")}), "j") == {}


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("meta-llama/Llama-3.1-70B-Instruct", "llama"), ("google/gemma-2-9b-it", "gemma"), ("gpt-4.1-mini", "gpt"),
        ("Qwen2.5-72B-Instruct", "qwen"), ("o3-mini", "gpt"), ("pocket-judge-1", ""), ("my-judge", ""),
        ("deepseek-ai/judge-7b", "deepseek"), ("weighted_alpaca_eval_gpt4_turbo", "gpt"),
        ("openai-community/gpt2-xl", "gpt2"), ("EleutherAI/gpt-neo-1.3B", ""),
    ],
)  # fmt: skip
def test_a_model_family_is_told_by_its_name(name, family):
    assert family_of(name) == family


def test_a_judge_of_the_teachers_family_is_warned_of():
    assert "teacher's family (gemma)" in leakage_warning("j", "gemma-3-27b", "google/gemma-2-9b-it")
    assert "the run's teacher itself" in leakage_warning("j", "pocket:teacher", "pocket:teacher")
    assert leakage_warning("j", "gemma-3-27b", "Llama-3.1-8B") is None
    assert leakage_warning("j", "", "") is None


def test_rows_of_a_judges_own_family():
    assert own_family_rows("gemma-3", RunFamily("f", "gemma-2-9b", "llama-3"), ["dpo"]) == ("teacher", "dpo")
    assert own_family_rows("llama-3", RunFamily("f", "gemma-2-9b", "llama-3"), ["dpo"]) == ("student", "dpo")
    assert (
        own_family_rows("gemma", RunFamily("f", "gemma-2-9b", "gemma-2-2b"), ["dpo"]) == ()
    )  # all: nothing to compare
    assert own_family_rows("", RunFamily("f", "t", "s"), ["dpo"]) == ()
