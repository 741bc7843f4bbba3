"""GPU-hours and memory by hand: 2, 4, 6 or 8 FLOPs per weight and token, 16 or 4 bytes per weight."""

from __future__ import annotations

import pytest

from distilbench.plugins import load_registry
from harness.contracts.stage import Cost, Work
from harness.hardware import DEVICES, Size, hours, training_bytes, training_factor, weight_bytes
from harness.models.published_sizes import size
from harness.plan.plan import make_plan
from harness.recipe.recipe import load_recipe


def test_hours() -> None:
    """10^9 weights, 10^9 tokens: 6 x 10^18 FLOPs at 35% of 312 x 10^12 a second are 54,945 s, 15.26 h."""
    work = [Work("train", 10**9, 10**9, training_factor(adapters=False, checkpointing=False))]
    assert hours(work, "A800-80GB") == pytest.approx(6e18 / (0.35 * 312e12) / 3600)
    assert hours(work, "A800-80GB") == pytest.approx(15.26, abs=0.01)
    assert hours([Work("write", 10**9, 10**6)], "H200") == pytest.approx(2e15 / (0.1 * 989e12) / 3600)
    assert hours([*work, Work("read", None, 1)], "H200") is None


@pytest.mark.parametrize(
    ("adapters", "checkpointing", "factor"), [(False, False, 6), (False, True, 8), (True, False, 4), (True, True, 6)]
)
def test_factors(adapters: bool, checkpointing: bool, factor: float) -> None:
    assert training_factor(adapters, checkpointing) == factor


def test_memory() -> None:
    """1,000 weights at 16 bytes; 2 layers x 34 x 8 wide x 10 tokens = 5,440; a teacher of 500 weights at 2 bytes."""
    size = Size(1000, 2, 8, stated=True)
    assert training_bytes(size, 10, "bfloat16", False, False) == 16_000 + 5_440
    assert weight_bytes(Size(500, None, None, stated=True), "bfloat16") == 1_000
    # checkpointing keeps 2 bytes a layer, width and token (2 x 2 x 8 x 10 = 320) and one layer whole (2,720)
    assert training_bytes(size, 10, "bfloat16", False, True) == pytest.approx(16_000 + 320 + 2_720)
    assert training_bytes(size, 10, "bfloat16", True, False) == 4_000 + 5_440


def test_the_total_adds_work_and_takes_the_largest_memory() -> None:
    read, write = Work("read", 5, 10), Work("write", 5, 1)
    total = Cost.total([Cost(work=(read, write), peak_bytes=3.0), Cost(work=(Work("read", 5, 7),), peak_bytes=2.0)])
    assert (total.work, total.peak_bytes) == ((Work("read", 5, 17), write), 3.0)
    assert Cost.total([Cost(peak_bytes=3.0), Cost(peak_bytes=None)]).peak_bytes is None
    assert Cost.total([]).peak_bytes == 0


def test_stages_of_pocket_are_priced_by_the_weights_that_they_use() -> None:
    """512 prompts of 24 tokens, responses of 34. SimPO trains on two of the four, MiniLLM on one that both models
    draw; KD's teacher reads along."""
    registry = load_registry()
    rows = ("student", "simpo", "pro", "kd", "minillm")
    plan = make_plan(load_recipe("pocket", ["seeds=[0]"], registry), registry, rows)
    prices = {stage.label: cost for stage, cost in zip(plan.stages, plan.costs(plan.stages), strict=True)}
    student, teacher = (size(plan.graph.models[name]) for name in ("student", "teacher"))
    assert student is not None and student.parameters == 365_856 and teacher is not None
    small, large, row = student.parameters, teacher.parameters, 24 + 34
    assert prices["train simpo seed 0"].work == (Work("train", small, 512 * 2 * row, 6.0),)
    assert prices["train pro seed 0"].work == (Work("train", small, 512 * 4 * row, 6.0),)
    assert prices["train kd seed 0"].work == (
        Work("train", small, 512 * row, 6.0), Work("read", large, 512 * row)
    )  # fmt: skip
    assert sorted(prices["train minillm seed 0"].work) == sorted((
        Work("train", small, 512 * row, 6.0), Work("read", large, 512 * row),
        Work("read", small, 512 * 24), Work("read", large, 512 * 24),
        Work("write", small, 512 * 34), Work("write", large, 512 * 34),
    ))  # fmt: skip
    assert prices["sample student seed 0"].work == (
        Work("read", small, 512 * 4 * 24), Work("write", small, 512 * 4 * 34)
    )  # fmt: skip
    assert DEVICES["A800-80GB"].gib == 80
