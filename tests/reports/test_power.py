"""What a planned run will detect: by hand, and as the table of the pilot itself says it."""

import math

import pytest

from harness.stats import detectable
from reports.tables.power import Variances, pilot_variances, questions_needed, seeds_needed
from reports.tables.summary import summarise
from reports.targets import TARGETS
from tests.reports.world import make

Z = 1.959964 + 0.841621


def test_questions_alone_by_hand() -> None:
    """A spread of 50 over 100 questions is an error of 5; four times the questions halve it. One seed adds nothing."""
    assert Variances(2500).detectable(100, 1, 8) == pytest.approx(5 * Z, rel=1e-6)
    assert Variances(2500).detectable(400, 3, 8) == pytest.approx(2.5 * Z, rel=1e-6)
    assert Variances(2500, seed=9.0).detectable(100, 1, 8) == pytest.approx(5 * Z, rel=1e-6)


def test_seeds_by_hand() -> None:
    """Three seeds of spread 3: variance 25 + 9 / 3 = 28, on 28^2 / (3^2 / 16 + 25^2 / 99) degrees of freedom.

    Answers drawn anew are averaged: 2500 = 1600 + 900 leaves (1600 + 300) / 100 = 19 with three seeds. A trained
    reference has seeds of its own.
    """
    freedom = 28**2 / (3**2 / 16 + 25**2 / 99)
    assert Variances(2500, seed=9.0).detectable(100, 3, 8) == pytest.approx(detectable(math.sqrt(28), freedom))
    assert Variances(1600, 900).detectable(100, 3, 8) == pytest.approx(math.sqrt(19) * Z, rel=1e-6)
    freedom = 31**2 / (6**2 / 16 + 25**2 / 99)
    assert Variances(2500, seed=9.0).detectable(100, 3, 8, 2) == pytest.approx(detectable(math.sqrt(31), freedom))


def test_questions_and_seeds_for_a_change() -> None:
    """A spread of 50 detects 3 points with n = (50 Z / 3)^2 = 2180.3 questions, so 2,181. Seeds of spread 3 on all
    questions of the world still leave 2.8 * 3 / sqrt(3) = 4.9 points with three seeds: no number of questions suffices.
    With more seeds, one fewer than is told does not detect it."""
    alone = [Variances(2500)]
    assert questions_needed(3, alone, 1, 8, 1, 30) == math.ceil((50 * Z / 3) ** 2) == 2181
    assert questions_needed(40, alone, 1, 8, 1, 100) == 100
    noisy = [Variances(2500, seed=9.0)]
    assert questions_needed(3, noisy, 3, 8, 1, 30) is None
    seeds = seeds_needed(3, noisy, 10_000, 8, 1)
    assert seeds is not None and seeds >= 2
    assert noisy[0].detectable(10_000, seeds, 8) <= 3 < noisy[0].detectable(10_000, seeds - 1, 8)
    assert seeds_needed(3, noisy, 100, 8, 1) is None  # questions alone: 50 / 10 * Z = 14 points
    # Two seeds of one row have one degree of freedom: with ever more questions that of the seeds is the only one left.
    few = [Variances(400, seed=1.0)]
    needed = questions_needed(4.5, few, 2, 1, 1, 30)
    assert needed is not None and few[0].detectable(needed, 2, 1) <= 4.5 < few[0].detectable(needed - 1, 2, 1)
    assert 200 < needed < 400 and few[0].detectable(1_000_000, 2, 1) > 9
    assert questions_needed(3.5, few, 2, 1, 1, 30) is None  # the least of all is 3.7, with about 700 questions
    assert seeds_needed(3, [], 100, 8, 1) is None and questions_needed(3, [], 1, 8, 1, 30) is None


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_pilot_of_the_same_size_says_what_its_own_table_says(seeds: tuple[int, ...]) -> None:
    results = make(seeds=seeds)
    variances = pilot_variances(results, TARGETS["table1"])
    for column in summarise(results, TARGETS["table1"]).columns:
        rows = variances[column.metric.id]
        same = max(row.detectable(150, len(seeds), 8) for row in rows)
        assert len(rows) == 8 and same == pytest.approx(column.detectable, rel=1e-9)
        assert max(row.detectable(600, len(seeds), 8) for row in rows) < same
        assert len(seeds) == 1 or max(row.detectable(150, 2, 8) for row in rows) > same
