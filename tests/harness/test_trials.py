"""Which values are tried: the same for equal arguments, whatever the order and the number of workers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.plan.trials import RandomSampler, Sampler, TpeSampler
from harness.recipe.space import Choices, Range, Space

SPACE: Space = {
    "beta": Range(0.1, 30, log=True), "n": Range(2, 8, log=False, integer=True), "kind": Choices(("a", "b")),
}  # fmt: skip


def test_random_trials_are_drawn_one_by_one() -> None:
    """More trials hold the fewer, in any order; another seed draws others; a shared knob has the same values."""
    sampler = RandomSampler(SPACE, 0)
    assert sampler.propose(range(1, 17))[:4] == sampler.propose(range(1, 5))
    assert sampler.propose([3, 1]) == [sampler.propose([3])[0], sampler.propose([1])[0]]
    assert RandomSampler(SPACE, 1).propose([1]) != sampler.propose([1])
    assert RandomSampler({"beta": SPACE["beta"]}, 0).propose([2])[0]["beta"] == sampler.propose([2])[0]["beta"]


def test_random_trials_cover_their_space() -> None:
    values = RandomSampler(SPACE, 0).propose(range(1, 401))
    betas = [math.log(one["beta"]) for one in values]
    # uniform in log from log 0.1 to log 30: the mean of 400 is within four standard errors of the middle
    middle, width = (math.log(0.1) + math.log(30)) / 2, math.log(300)
    assert abs(sum(betas) / 400 - middle) < 4 * width / math.sqrt(12 * 400)
    assert {one["n"] for one in values} == set(range(2, 9)) and {one["kind"] for one in values} == {"a", "b"}


def search(sampler: Sampler, trials: int, size: int) -> list[float]:
    """Betas that are tried where the score is best at beta = 1; every trial of a round is told after the round."""
    tried: list[float] = []
    for first in range(0, trials, size):
        numbers = [number for number in range(first, min(first + size, trials)) if number]
        batch: list[tuple[int, dict[str, Any]]] = [(0, {"beta": 10.0, "n": 4, "kind": "a"})] if first == 0 else []
        batch += zip(numbers, sampler.propose(numbers), strict=True)
        for number, values in batch:
            failed = number == 2
            sampler.tell(number, values, None if failed else -abs(math.log(values["beta"])))
            tried.append(values["beta"])
    return tried


def test_tpe_is_the_same_again_and_learns() -> None:
    pytest.importorskip("optuna")
    first, again = (search(TpeSampler(SPACE, seed=0), 32, 4) for _ in range(2))
    assert first == again
    assert search(TpeSampler(SPACE, seed=1), 8, 4) != first[:8]
    # the last eight lie nearer to the best place than the eight random ones of the beginning
    assert sum(abs(math.log(beta)) for beta in first[-8:]) < sum(abs(math.log(beta)) for beta in first[1:9])
    assert all(0.1 <= beta <= 30 for beta in first)


def test_a_recipes_own_value_may_lie_outside_of_the_space() -> None:
    """TPE cannot take it, and goes on without it."""
    pytest.importorskip("optuna")
    sampler = TpeSampler(SPACE, 0)
    sampler.tell(0, {"beta": 100.0, "n": 4, "kind": "a"}, 1.0)
    assert not sampler.study.trials
    sampler.tell(0, {"beta": 10.0, "n": 4, "kind": "a"}, 1.0)
    assert sampler.study.best_params == {"beta": 10.0, "n": 4, "kind": 0}
