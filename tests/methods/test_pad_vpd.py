"""PAD-VPD against arithmetic done by hand.

beta = 10, mean log-probabilities (-0.1, -0.2, -0.4) in the teacher's order, so beta r = (-1, -2, -4):
    L = log(1 + e^-1 + e^-3) + log(1 + e^-2) = log 1.417666 + log 1.135335 = 0.349012 + 0.126928 = 0.475940
n = 2: L = -log sigmoid(beta (r_1 - r_2)).
"""

import math

import pytest
import torch

from harness.contracts.method import DroppedPrompt
from harness.types import Group, Prompt, Response
from methods import pad_vpd
from tests.tiny import tiny_batch, tiny_group


def loss_of(logp: torch.Tensor, n: int, config: pad_vpd.PadVpdOptions | None = None) -> torch.Tensor:
    batch = tiny_batch([1] * n, signals={"score": [float(-i) for i in range(n)]})
    (term,) = pad_vpd.loss(batch, {"logp": logp}, config or pad_vpd.PadVpdOptions()).terms
    assert term.per == "prompt"
    return term.total


def test_loss_by_hand() -> None:
    assert loss_of(torch.tensor([-0.1, -0.2, -0.4]), 3).item() == pytest.approx(0.475940, abs=1e-5)
    assert loss_of(torch.tensor([-0.1, -0.2]), 2).item() == pytest.approx(math.log1p(math.exp(-1)), abs=1e-6)


def test_rows_of_several_tokens_count_by_their_mean() -> None:
    """Tokens (-0.05, -0.15), (-0.2), (-0.3, -0.4, -0.5): means -0.1, -0.2, -0.4, as above."""
    batch = tiny_batch([2, 1, 3], signals={"score": [0.0, -1.0, -2.0]})
    logp = torch.tensor([-0.05, -0.15, -0.2, -0.3, -0.4, -0.5])
    (term,) = pad_vpd.loss(batch, {"logp": logp}, pad_vpd.PadVpdOptions()).terms
    assert term.total.item() == pytest.approx(0.475940, abs=1e-5)


def test_rows_follow_the_calibrated_reward() -> None:
    """alpha = 0.8: rhat = 0.2 mean_logp + 0.8 log_psel: a = -0.2 * 1 - 0.8 * 1 = -1.0; b = -0.2 * 0.1 - 0.8 * 1.1 =
    -0.9. log p_sel alone (alpha = 1) puts a first."""
    samples = (
        Response("ba", True, 2, mean_logp=-1.0, log_psel=-1.0),
        Response("be", True, 2, mean_logp=-0.1, log_psel=-1.1),
    )
    group = Group(Prompt("p", ({"role": "user", "content": "bo"},)), samples)
    rows = pad_vpd.METHOD.rows(group, pad_vpd.PadVpdOptions())
    assert not isinstance(rows, DroppedPrompt)
    assert [row.text for row in rows] == ["be", "ba"]
    assert [row.signals["score"] for row in rows] == pytest.approx([-0.9, -1.0])
    alone = pad_vpd.METHOD.rows(group, pad_vpd.PadVpdOptions(alpha=1.0))
    assert not isinstance(alone, DroppedPrompt) and [row.text for row in alone] == ["ba", "be"]


def test_ties_keep_their_order_and_are_counted() -> None:
    rows = pad_vpd.METHOD.rows(tiny_group([("ba", -2.0), ("be", -1.0), ("bi", -2.0)]), pad_vpd.PadVpdOptions())
    assert not isinstance(rows, DroppedPrompt) and [row.text for row in rows] == ["be", "ba", "bi"]
    batch = tiny_batch([1] * 6, prompts=2, signals={"score": [-1.0, -2.0, -2.0, 0.0, -1.0, -2.0]})
    logs = pad_vpd.loss(batch, {"logp": torch.zeros(6)}, pad_vpd.PadVpdOptions()).logs
    assert logs["ties"] == 1


def test_a_score_without_weight_may_be_missing() -> None:
    samples = tuple(Response(text, True, 2, mean_logp=None, log_psel=-1.0) for text in ("ba", "be"))
    group = Group(Prompt("p", ({"role": "user", "content": "bo"},)), samples)
    assert not isinstance(pad_vpd.METHOD.rows(group, pad_vpd.PadVpdOptions(alpha=1.0)), DroppedPrompt)
    assert pad_vpd.METHOD.rows(group, pad_vpd.PadVpdOptions()) == DroppedPrompt("a response has no teacher score")
