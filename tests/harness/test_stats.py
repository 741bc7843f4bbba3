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


def test_percentile_interval_of_0_to_1000() -> None:
    """The 2.5th percentile of 0..1000 is 25, the 97.5th 975."""
    assert stats.percentile_interval(np.arange(1001.0)) == stats.Interval(25.0, 975.0)
    with pytest.raises(ValueError, match="needs replicates"):
        stats.percentile_interval([])


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
