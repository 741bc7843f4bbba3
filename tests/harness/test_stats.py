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


def test_an_interval_over_few_questions_is_as_wide_as_one_by_t() -> None:
    """80 questions: t = 1.99045 at 79 degrees of freedom, times sqrt(80 / 79) = 2.00301, and Phi(-2.00301) = 2.2588%.

    Of 1..999 that is 0.022588 * 1000 = 22.59. Replicates of a mean spread by s / sqrt(n) * sqrt((n - 1) / n), where s
    is the sample's standard deviation: 2.00301 of those are t standard errors.
    """
    assert stats.expanded_tail(80) == pytest.approx(0.022588, abs=1e-6)
    assert stats.percentile_interval(np.arange(1.0, 1000.0), 80) == pytest.approx((22.588, 977.412), abs=1e-3)
    values = np.random.default_rng(0).normal(size=80)
    low, high = stats.percentile_interval(values[stats.resamples(80, 40_000, 1)].mean(axis=1), 80)
    by_t = 2 * 1.99045 * values.std(ddof=1) / np.sqrt(80)
    assert high - low == pytest.approx(by_t, rel=0.02)
    assert stats.percentile_interval([1.0, 2.0], 1) == (1.0, 2.0)  # one question: no t, as without n


def test_one_seed_is_returned_unchanged() -> None:
    assert stats.over_seeds([[1.0, 2.0, 3.0]], seed=0).tolist() == [1.0, 2.0, 3.0]


def test_variance_over_seeds_is_unbiased() -> None:
    """Three seeds with estimates 0, 3, 6 and no question noise: their variance is 9, that of the mean 9/3 = 3.

    A plain redraw of 3 from 3 gives 3 * (2/3) = 2; the correction restores 3 (20,000 draws: standard error 0.03).
    """
    values = stats.over_seeds([[0.0] * 20_000, [3.0] * 20_000, [6.0] * 20_000], seed=0)
    assert values.mean() == pytest.approx(3.0, abs=0.05)
    assert values.var() == pytest.approx(3.0, abs=0.15)


def test_p_value_counts_the_smaller_tail() -> None:
    """999 replicates, 9 of them at or below 0: 2 * (9 + 1) / (999 + 1) = 0.02."""
    assert stats.two_sided_p(np.array([-1.0] * 9 + [1.0] * 990)) == pytest.approx(0.02)
    assert stats.two_sided_p([0.0, 0.0]) == 1.0


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.04 with m = 3: 3*0.01 = 0.03, max(0.03, 2*0.02) = 0.04, max(0.04, 0.04) = 0.04."""
    assert stats.holm({"a": 0.04, "b": 0.01, "c": 0.02}) == pytest.approx({"b": 0.03, "c": 0.04, "a": 0.04})


def test_detectable_difference() -> None:
    """(1.960 + 0.842) x 2 points of standard error."""
    assert stats.detectable(2.0) == pytest.approx(5.603, abs=0.001)


def test_seed_of_parts_is_stable_and_separates() -> None:
    assert stats.seed_of("sample", 0) == stats.seed_of("sample", 0)
    assert stats.seed_of("ab", "c") != stats.seed_of("a", "bc")
