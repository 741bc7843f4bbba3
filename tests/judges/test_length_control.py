"""The length-controlled GLM: equal to the official fits, solved to its optimum, with an interval that holds."""

import json

import numpy as np
import pytest

from judges.benchmarks.alpaca_eval.length_control import (
    WEAK_COST,
    JudgedRows,
    bootstrap,
    contributions,
    fit_exactly,
    fit_official,
    is_confounded,
    joint_difficulty,
    length_feature,
    read_length_files,
    solve,
)
from judges.benchmarks.scoring import sigmoid


def simulated(n: int, seed: int) -> JudgedRows:
    """Instructions with a known length effect (-1), difficulty effect (1) and ability (-0.5); soft preferences."""
    rng = np.random.default_rng(seed)
    delta = rng.normal(-100, 300, n).round()
    difficulty = rng.normal(0, 1, n)
    logit = -length_feature(delta) + difficulty - 0.5 + rng.normal(0, 1, n)
    return JudgedRows(sigmoid(logit), delta, difficulty)


def counts_for(n: int, replicates: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(replicates)]).astype(float)


def test_length_feature_by_hand() -> None:
    """Differences 100, 0, -100 have sample standard deviation 100: tanh(1), 0, tanh(-1)."""
    assert length_feature(np.array([100.0, 0.0, -100.0])) == pytest.approx([np.tanh(1), 0, -np.tanh(1)])
    assert (length_feature(np.array([7.0, 7.0])) == 0).all()


@pytest.mark.parametrize("cost", [1e-4, 0.05, 2.0, 1e4])
def test_the_solver_meets_the_optimality_conditions(cost: float) -> None:
    """|gradient_j| <= 1 where a coefficient is 0, gradient_j = -sign(coef_j) elsewhere (L1 stationarity)."""
    rows = simulated(150, 1)
    x = np.column_stack([length_feature(rows.delta), rows.difficulty, np.ones(150)])
    weight = counts_for(150, 6, 2)
    coef = solve(x[:, 0], x[:, 1], x[:, 2], rows.preference, weight, np.full(6, cost))
    p = sigmoid(coef @ x.T)
    gradient = cost * (weight * (p - rows.preference)) @ x
    zero = coef == 0
    assert (np.abs(gradient[zero]) <= 1 + 1e-6).all()
    assert gradient[~zero] == pytest.approx(-np.sign(coef[~zero]), abs=1e-4 * max(1, cost))
    assert zero.all() == (cost == 1e-4)


def test_separable_preferences_and_equal_lengths_do_not_break_the_fit() -> None:
    rows = JudgedRows(np.ones(120), np.full(120, 30.0), np.zeros(120))
    fit = fit_exactly(rows)
    assert fit.coef[0] == 0 and fit.coef[1] == 0 and 95 < fit.value <= 100
    assert np.isfinite(bootstrap(rows, fit, counts_for(120, 20, 0))).all()
    assert np.isfinite(contributions(rows, fit)).all()


@pytest.mark.parametrize(("wins", "expected"), [(50, 50.0), (55, 54.99), (100, 99.99)])
def test_without_gamed_rows_the_penalty_takes_nothing_away(wins: int, expected: float) -> None:
    """100 verdicts, equal lengths: LC is the win rate. At C = 100 the loss has the slope 100 * 100 * (p - y), the

    penalty 1, so p is 0.0001 nearer to a half: 55 wins are 54.99%, 100 are 99.99%. The error is the binomial one.
    """
    rows = JudgedRows((np.arange(100) < wins).astype(float), np.full(100, 30.0), np.zeros(100))
    fit = fit_exactly(rows)
    assert fit.cost == WEAK_COST == 100 and fit.value == pytest.approx(expected, abs=1e-3)
    draws = bootstrap(rows, fit, counts_for(100, 300, 0))
    spread = np.sqrt(wins * (100 - wins) / 100)
    assert draws.std() == pytest.approx(spread, rel=0.15, abs=1e-6)
    assert contributions(rows, fit).std() / 10 == pytest.approx(spread, rel=0.02, abs=1e-2)


def test_lengths_that_say_nothing_are_told_from_lengths_that_do() -> None:
    """All 100 characters shorter, give or take 2: tanh(-100 / 2) = -1. At -+ 25 it is tanh(4 -+ 1), of spread 0.01; at

    -+ 40 tanh(2.5 -+ 1), from 0.91 to 1.
    """
    noise = np.random.default_rng(0).normal(0, 1, 200)
    assert is_confounded(-100 + 2 * noise) and is_confounded(100 + 25 * noise)
    assert not is_confounded(100 + 40 * noise) and not is_confounded(100 * noise)
    assert not is_confounded(np.full(200, 100.0)) and not is_confounded(np.zeros(200))


def test_far_lengths_widen_the_interval_and_do_not_narrow_it() -> None:
    """Lengths 2 standard deviations off: the feature is 0.84 -+ 0.25, so LC has 1 + (0.84 / 0.25)^2 = 12 times the

    variance of the win rate, whose interval is 9 points wide. 40 samples at 60%: 38 of their intervals should hold it.
    """
    inside, widths = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows = JudgedRows(rng.beta(0.6, 0.4, 200), rng.normal(600, 300, 200), np.zeros(200))
        draws = bootstrap(rows, fit_exactly(rows), counts_for(200, 60, seed))
        low, high = np.percentile(draws, [2.5, 97.5])
        inside += low <= 60 <= high
        widths.append(high - low)
    assert inside >= 33 and np.median(widths) == pytest.approx(9 * np.sqrt(12), rel=0.2)


def test_bootstrap_of_the_sample_itself_is_the_estimate() -> None:
    rows = simulated(200, 3)
    fit = fit_exactly(rows)
    assert bootstrap(rows, fit, np.ones((2, 200))) == pytest.approx(fit.value, abs=1e-6)


def test_joint_difficulties_are_recovered() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, 150)
    length = rng.uniform(-1, 1, (8, 150))
    preference = sigmoid(rng.normal(0, 1, (8, 1)) - 0.7 * length + truth)
    preference[0, :10] = np.nan
    difficulty = joint_difficulty(preference, length)
    assert np.corrcoef(difficulty, truth)[0, 1] > 0.97 and np.isfinite(difficulty).all()


@pytest.mark.assets
@pytest.mark.parametrize(
    ("models", "fits"), [pytest.param(None, 28, marks=pytest.mark.slow), (("phi-2", "claude-2.1", "jina-chat"), 4)]
)
def test_equal_to_the_official_fits_of_the_development_models(assets, models, fits: int) -> None:
    """Re-scores real annotations (20,926 in all). Stated tolerance: 1e-6 with liblinear called alike."""
    import pandas as pd

    folder = assets / "alpaca_eval"
    gamed, difficulty = read_length_files(
        str(folder / "df_gamed_recovered.csv"), str(folder / "instruction_difficulty_recovered.csv")
    )
    expected = json.loads((folder / "annotations_dev.expected.json").read_text())["models"]
    frame = pd.read_parquet(folder / "annotations_dev.parquet").sort_values(["model", "row"])
    checked = 0
    for name, table in frame.groupby("model"):
        if name == "gpt4_1106_preview" or (models and name not in models):
            continue
        preference = table["preference"].to_numpy() - 1
        delta = (table["len_1"] - table["len_2"]).to_numpy(dtype=float)
        by_key = {
            "v1_official_row_index": difficulty[: len(table)],
            "v1_instruction_index": difficulty[table["index"].to_numpy()],
        }
        for key in by_key.keys() & expected[name]["lc"].keys():
            rows, known = JudgedRows(preference, delta, by_key[key], gamed), expected[name]["lc"][key]
            fit = fit_official(rows)
            assert fit.value == pytest.approx(known["length_controlled_winrate"], abs=1e-6)
            assert fit.official_error == pytest.approx(known["lc_standard_error"], abs=1e-6)
            assert fit.cost == pytest.approx(known["C"]) and fit.coef == pytest.approx(known["coef"], abs=1e-6)
            assert fit_exactly(rows, fit.cost, fit.coef).value == pytest.approx(fit.value, abs=0.02)
            leaderboard = (expected[name].get("leaderboard") or {}).get("length_controlled_winrate")
            if leaderboard is not None and key == "v1_official_row_index":
                assert fit.value == pytest.approx(leaderboard, abs=0.2)
            checked += 1
    assert checked == fits
