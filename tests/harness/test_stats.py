"""Statistics by hand: resampling, intervals over seeds, Holm, detectable difference."""

import numpy as np
import pytest

from harness import stats


def test_resamples_depend_on_their_arguments_alone() -> None:
    first = stats.resamples(5, 20, seed=1)
    np.random.default_rng(0).random(100)
    assert (first == stats.resamples(5, 20, seed=1)).all()
    assert (first != stats.resamples(5, 20, seed=2)).any()
    assert first.shape == (20, 5) and first.min() >= 0 and first.max() < 5


def test_percentile_interval_of_1_to_999() -> None:
    """The 25th of 999 is the 25 / (999 + 1) = 2.5% quantile, the 975th the 97.5% one."""
    assert stats.percentile_interval(np.arange(1.0, 1000.0)) == pytest.approx((25.0, 975.0))
    with pytest.raises(ValueError, match="needs replicates"):
        stats.percentile_interval([])


@pytest.mark.parametrize("size", [1, 2, 3, 39, 40, 999, 1000])
def test_the_ends_of_an_interval_are_numpys_to_the_last_digit(size: int) -> None:
    for seed in range(50):
        values = np.random.default_rng(seed).normal(size=size).round(seed % 3 or 17)
        low, high = np.percentile(values, [2.5, 97.5], method="weibull")
        assert stats.percentile_interval(values) == (low, high)


def test_one_replicate_without_a_number_leaves_no_interval() -> None:
    assert np.isnan(stats.percentile_interval([1.0, float("nan"), *range(98)])).all()


def test_an_interval_over_few_questions_is_as_wide_as_one_by_t() -> None:
    """80 questions: t = 1.99045 at 79 degrees of freedom, times sqrt(80 / 79) = 2.00301, and Phi(-2.00301) = 2.2588%.

    Of 1..999 that is 0.022588 * 1000 = 22.59. Replicates of a mean spread by s / sqrt(n) * sqrt((n - 1) / n), where s
    is the sample's standard deviation: 2.00301 of those are t standard errors.
    """
    assert stats.percentile_interval(np.arange(1.0, 1000.0), 80) == pytest.approx((22.588, 977.412), abs=1e-3)
    values = np.random.default_rng(0).normal(size=80)
    low, high = stats.percentile_interval(values[stats.resamples(80, 40_000, 1)].mean(axis=1), 80)
    by_t = 2 * 1.99045 * values.std(ddof=1) / np.sqrt(80)
    assert high - low == pytest.approx(by_t, rel=0.02)
    assert stats.percentile_interval([1.0, 2.0], 1) == (1.0, 2.0)  # one question: no t, as without n


def draws(values: list[float], grid: list[list[float]], trained: bool = True) -> stats.Draws:
    return stats.Draws(np.array(values), np.array(grid), trained)


def test_the_noise_of_seeds_is_pooled_over_methods() -> None:
    """Row A: seeds 1 and 3, squares (1-2)^2 + (3-2)^2 = 2; its replicates do not vary. Row B: seeds 5 and 5, squares 0;
    its replicates lie -1, 1 and 1, -1 about their mean over seeds, variances 2 and 2.

    Degrees of freedom 1 + 1. Spread (2 + 0) / 2 = 1, residual (0 + 2 + 2) / 2 = 2, so nothing is left for the seed. Of
    A alone: spread 2 / 1, residual 0, seed 2. An untrained row and one of a single seed add nothing.
    """
    a = draws([1, 3], [[1, 1], [3, 3]])
    b = draws([5, 5], [[4, 6], [6, 4]])
    untrained, single = draws([0, 9], [[0, 0], [9, 9]], trained=False), draws([7], [[6, 8]])
    both = stats.seed_noise([a, untrained, b, single])
    assert both == stats.SeedNoise(1.0, 2.0, 2)
    assert both is not None and both.seed == 0.0
    alone = stats.seed_noise([a])
    assert alone == stats.SeedNoise(2.0, 0.0, 1)
    assert alone is not None and alone.seed == 2.0
    assert stats.seed_noise([untrained, single]) is None


def test_what_questions_do_to_all_seeds_alike_is_not_the_rest() -> None:
    """Seeds 1 and 3; replicates -9 and 11 for the one, -7 and 13 for the other: a resample moves both by the same.

    About their mean over seeds (-8, 12) both lie a constant 1 away: residual 0, and the seed keeps the whole spread, 2.
    """
    assert stats.seed_noise([draws([1, 3], [[-9, 11], [-7, 13]])]) == stats.SeedNoise(2.0, 0.0, 1)


def test_one_seed_is_the_bootstrap_over_questions() -> None:
    """1..999 minus a constant 25: percentiles 0 and 950; 25 replicates at or below 0: 2 * 26 / 1000.

    With 80 questions the levels are 2.2588% and 97.7412%, as in ``percentile_interval``.
    """
    ours, theirs = draws([500], [list(range(1, 1000))]), draws([25], [[25] * 999], trained=False)
    result = stats.contrast(ours, theirs, 1, None)
    assert (result.value, result.low, result.high) == pytest.approx((475, 0, 950))
    assert result.p == pytest.approx(2 * 26 / 1000)
    assert np.isinf(result.freedom)
    wider = stats.contrast(ours, theirs, 80, None)
    assert (wider.low, wider.high) == pytest.approx((22.588 - 25, 977.412 - 25), abs=1e-3)


def test_seeds_alone_by_hand() -> None:
    """Seeds 1 and 3 and no question noise: variance of the mean 2 / 2 = 1, one degree of freedom (Cauchy).

    95%: 2 -+ tan(0.475 pi) = 2 -+ 12.706; p of 2 is 1 - 2 atan(2) / pi = 0.2952.
    """
    a = draws([1, 3], [[1, 1], [3, 3]])
    result = stats.contrast(a, None, 100, stats.seed_noise([a]))
    assert (result.error, result.freedom) == (1.0, 1.0)
    assert (result.low, result.high) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)
    assert result.p == pytest.approx(1 - 2 * np.arctan(2) / np.pi)


def test_seeds_and_questions_by_hand() -> None:
    """Replicates 0 and 4 (variance 8) against a constant 0; seeds: spread 3, residual 1, so 2 for the one seed.

    Variance 8 + 2 = 10. Degrees of freedom 10^2 / (3^2 / 4 + 8^2 / (9 - 1)) = 100 / 10.25 = 9.756, t = 2.236. The
    percentiles 0 and 4 lie 2 from the middle; stretched by 2.236 sqrt(10) / (1.960 sqrt(8)) = 1.2755.
    """
    ours, theirs = draws([2], [[0, 4]]), draws([0], [[0, 0]], trained=False)
    result = stats.contrast(ours, theirs, 9, stats.SeedNoise(3.0, 1.0, 4))
    assert result.error == pytest.approx(10**0.5)
    assert result.freedom == pytest.approx(100 / 10.25)
    assert result.high - 2 == pytest.approx(2 * 1.2755, rel=1e-3)
    assert result.low == pytest.approx(4 - result.high)
    untrained = stats.contrast(theirs, theirs, 9, stats.SeedNoise(3.0, 1.0, 4))
    assert (untrained.value, untrained.error, untrained.p) == (0, 0, 1)


@pytest.mark.parametrize(("first", "second"), [(54.37, 65.20), (41.52 / 3, 65.20 / 7)])
def test_questions_whose_variance_is_round_off_have_none(first: float, second: float) -> None:
    """Two seeds of one question: every replicate is the same, but their mean over seeds may vary by round-off.

    Half the difference is the standard error (d^2 / 2 over 2 seeds), with one degree of freedom: the interval reaches
    12.706 of these from the value, to either side.
    """
    a = draws([first, second], [[first] * 999, [second] * 999])
    result = stats.contrast(a, None, 1, stats.seed_noise([a]))
    reach = 12.7062 * abs(second - first) / 2
    assert result.value == pytest.approx((first + second) / 2)
    assert (result.low, result.high) == pytest.approx((result.value - reach, result.value + reach), abs=1e-3)
    same = draws([0.1 + 0.2, 0.3], [[first + 1e-14, first]] * 2)  # the first is 5e-17 more
    noise = stats.seed_noise([same])
    assert noise is not None and noise.seed > 0
    assert stats.contrast(same, None, 1, noise).error == 0


def test_the_stretched_interval_lies_about_the_value() -> None:
    """As in ``test_seeds_and_questions_by_hand``, but the replicates 0 and 4 of a value 3 (a refit has such a bias).

    Their middle is 2: the percentiles lie 2 below and above it, so the interval is 3 -+ 2 * 1.2755.
    """
    ours, theirs = draws([3], [[0, 4]]), draws([0], [[0, 0]], trained=False)
    result = stats.contrast(ours, theirs, 9, stats.SeedNoise(3.0, 1.0, 4))
    assert (result.low, result.high) == pytest.approx((3 - 2 * 1.2755, 3 + 2 * 1.2755), rel=1e-3)


def test_seeds_without_noise_of_their_own_cost_no_degrees_of_freedom() -> None:
    """Spread 1 and residual 2: nothing is left for the seed, so the variance is the questions' 8, known from 9 of them.

    8^2 / (8^2 / (9 - 1)) = 8 degrees of freedom, where with the spread it would be 64 / (1^2 / 4 + 8) = 7.76.
    """
    result = stats.contrast(draws([2], [[0, 4]]), None, 9, stats.SeedNoise(1.0, 2.0, 4))
    assert result.freedom == pytest.approx(8)


def test_p_value_counts_the_smaller_tail() -> None:
    """999 replicates, 9 of them at or below 0: 2 * (9 + 1) / (999 + 1) = 0.02."""
    assert stats.two_sided_p(np.array([-1.0] * 9 + [1.0] * 990)) == pytest.approx(0.02)
    assert stats.two_sided_p([0.0, 0.0]) == 1.0


def test_holms_adjusted_p_values_never_fall() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04 with m = 4: 0.02, 3*0.01 = 0.03, 2*0.03 = 0.06, and 0.04 becomes 0.06."""
    result = stats.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert result == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_detectable_difference() -> None:
    """(1.960 + 0.842) x 2 points of standard error; with 4 degrees of freedom (2.776 + 0.941) x 2."""
    assert stats.detectable(2.0) == pytest.approx(5.603, abs=0.001)
    assert stats.detectable(2.0, 4) == pytest.approx(7.435, abs=0.001)


def test_seed_of_parts_is_stable_and_separates() -> None:
    assert stats.seed_of("sample", 0) == stats.seed_of("sample", 0)
    assert stats.seed_of("ab", "c") != stats.seed_of("a", "bc")


def test_students_t_is_scipys() -> None:
    from scipy.special import stdtr, stdtrit

    for freedom in (1, 1.5, 2, 4.7, 10, 50, 199, 1318):
        for level in (0.9, 0.975, 0.995):
            assert stats.t_quantile(level, freedom) == pytest.approx(stdtrit(freedom, level), rel=1e-11)
        for statistic in (0.0, 0.01, 1.0, 1.96, 5.0, 40.0):
            assert stats.t_test(-statistic, freedom) == pytest.approx(2 * stdtr(freedom, -statistic), rel=1e-11)
    assert stats.t_quantile(0.975, np.inf) == pytest.approx(1.959963984540054, rel=1e-14)
    assert stats.t_test(1.959963984540054, np.inf) == pytest.approx(0.05, rel=1e-14)
