"""The paper's claims on pocket (``studies/pocket_claims.py``): the measures by hand, and a run on few prompts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.pocket.scorer import score
from harness.pocket.tasks import recognise
from harness.pocket.world import iter_prompts
from harness.types import Group, Prompt, Response
from studies import pocket_claims, pocket_claims_statistics
from studies.pocket_claims_statistics import ALPHAS, MEASURES, estimate, moments, replicates

SHIPPED = Path(__file__).resolve().parents[1] / "studies" / "pocket_claims.json"


def measured(rewards: list[float], scores: list[float]) -> dict[str, float]:
    found = moments(torch.tensor([rewards]).double(), torch.tensor([scores]).double(), 1.0, 1.0).mean(0)
    return {name: float(measure(found)) for name, measure in MEASURES.items()}


def test_margins_by_hand() -> None:
    """Student 3, 2, 0: margins d = 1, 3, 2. Teacher 4, 0, 2: margins t = 4, 2, -2 (pairs 12, 13, 23).

    sum td = 4 + 6 - 4 = 6, sum t^2 = 24, sum d^2 = 14: slope 6/24, correlation 6 / sqrt(24 * 14).
    Order: two of three pairs agree, tau = (2 - 1) / 3. Sizes |t| = 4, 2, 2 and |d| = 1, 3, 2, means 8/3 and 2:
    covariance (4 + 6 + 4)/3 - 16/3 = -2/3, variances 8 - 64/9 = 8/9 and 14/3 - 4 = 2/3.
    """
    found = measured([3.0, 2.0, 0.0], [4.0, 0.0, 2.0])
    assert found["slope"] == pytest.approx(0.25)
    assert found["correlation"] == pytest.approx(6 / math.sqrt(336))
    assert found["order"] == pytest.approx(1 / 3)
    assert found["size"] == pytest.approx(-2 / 3 / math.sqrt(8 / 9 * 2 / 3))


def test_divergence_by_hand() -> None:
    """n = 2, beta 2 and 4: P = sigmoid(2 * 1), Q = sigmoid(4 * -0.5); JSD from the entropy of the mixture."""
    p, q = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))

    def entropy(x: float) -> float:
        return -x * math.log(x) - (1 - x) * math.log(1 - x)

    found = moments(torch.tensor([[0.0, 0.5]]).double(), torch.tensor([[1.0, 0.0]]).double(), 2.0, 4.0)
    assert found[0, 0] == pytest.approx(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2, abs=1e-12)


def test_following_margins_and_following_the_order_alone_are_told_apart() -> None:
    """A student at half the teacher's margins, and one that has the order with even steps."""
    half, steps = measured([0.0, -0.5, -2.0], [0.0, -1.0, -4.0]), measured([0.0, -1.0, -2.0], [0.0, -1.0, -4.0])
    assert half["slope"] == pytest.approx(0.5) and half["correlation"] == half["size"] == pytest.approx(1)
    assert steps["order"] == half["order"] == 1 and steps["correlation"] < 0.98 and steps["size"] < 0.9


def test_differences_are_paired() -> None:
    """The same data twice, shifted by 1: the difference is 1 in every replicate, though each alone varies."""
    data = [np.random.default_rng(seed).normal(size=(20, 1)) for seed in range(3)]
    one, two = (replicates([each + shift for each in data], lambda x: x[..., 0]) for shift in (0.0, 1.0))
    assert estimate(two, one) == [1.0, 1.0, 1.0]
    value, low, high = estimate(one)
    assert low < value < high


def test_the_rule_judges_rewards() -> None:
    """A right and a wrong answer. Log-likelihood likes the wrong one by 1, the question the right one by 3.

    rhat margin = 3 alpha - (1 - alpha) = 4 alpha - 1: wrong up to alpha 0.2, right from 0.3.
    """
    prompt = next(prompt for prompt in iter_prompts(0, split="dev") if recognise(prompt.messages).kind == "sum")
    texts = (prompt.golden, prompt.rejected)
    right, wrong = (score(prompt.messages, text) for text in texts)
    assert right > wrong
    samples = (Response(texts[0], True, 3, -2.0, -1.0), Response(texts[1], True, 3, -1.0, -4.0))
    group = Group(Prompt(prompt.id, prompt.messages), samples)
    same = Group(Prompt("same", prompt.messages), (samples[0], samples[0]))
    (row,) = pocket_claims.by_the_rule([group, same])
    agrees = [alpha >= 0.3 for alpha in ALPHAS]
    assert row[: len(ALPHAS)].tolist() == pytest.approx([1.0 if good else -1.0 for good in agrees])
    assert row[len(ALPHAS) : -1].tolist() == pytest.approx([0.0 if good else right - wrong for good in agrees])
    assert row[-1] == pytest.approx((right - wrong) / 2)


@pytest.mark.slow
def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """32 prompts in two steps, 11 held-out ones: all numbers, both figures, and drawing them again."""
    words = ["--seeds", "1", "--held-out", "11", "--points", "2", "--rows", "pad-ppd,dpo"]
    words += ["--set", "prompts.n=32", "--set", "sampling.n=2"]
    place = ["--out", str(tmp_path / "c.json"), "--figures", str(tmp_path)]
    pocket_claims.main([*words, *place])
    found = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert "pad-ppd less dpo, end" in capsys.readouterr().out
    check(found)
    assert found["training"]["pad-ppd"]["step"] == [0, 2]
    start, end = ([found["training"][row]["jsd"][point] for row in ("pad-ppd", "dpo")] for point in (0, 1))
    assert start[0] == start[1] and end[0] != end[1] and start[0] != end[0]
    figures = sorted(tmp_path.glob("*.png"))
    assert [figure.name for figure in figures] == ["pocket-claims-reward.png", "pocket-claims-training.png"]
    before = figures[0].read_bytes()
    figures[0].unlink()
    page = tmp_path / "page.md"
    page.write_text(f"a\n{pocket_claims.BEGIN}\nold\n{pocket_claims.END}\nb\n", encoding="utf-8")
    pocket_claims.main(["--redraw", *place, "--page", str(page)])
    assert figures[0].read_bytes() == before
    text = page.read_text(encoding="utf-8")
    assert text.startswith("a\n") and text.endswith("\nb\n") and "old" not in text
    assert "| 0.8 | " in text and "| trained by `dpo` | " in text and "| pad-ppd less dpo, end | " in text


@pytest.mark.skipif(not SHIPPED.is_file(), reason="run `python -m studies.pocket_claims --page docs/methods.md`")
def test_what_is_shipped_is_whole() -> None:
    """Nine points for four rows, from the recipe's own learning rates."""
    from distilbench.plugins import load_registry
    from harness.recipe.recipe import load_recipe

    found = json.loads(SHIPPED.read_text(encoding="utf-8"))
    check(found)
    assert [len(row["step"]) for row in found["training"].values()] == [9] * 4
    recipe = load_recipe("pocket", (), load_registry())
    assert found["temperature"] == recipe.sampling.temperature
    for row, rate in found["learning_rates"].items():
        assert recipe.methods[row].train.learning_rate == rate, "run studies/pocket_claims.py again"


def check(found: dict) -> None:  # type: ignore[type-arg]
    """Every number lies in its interval, every divergence in [0, log 2], every correlation in [-1, 1]."""
    tables = [found["reward"]["spearman"], found["reward"]["regret"]]
    tables += [measures[name] for measures in found["training"].values() for name in pocket_claims_statistics.MEASURES]
    tables += [list(measures.values()) for measures in found["contrasts"].values()]
    assert all(low <= high for table in tables for _, low, high in table)
    for measures in found["training"].values():
        assert all(0 <= value <= math.log(2) for value, _, _ in measures["jsd"])
        assert all(-1 <= value <= 1 for name in ("correlation", "order", "size") for value, _, _ in measures[name])
