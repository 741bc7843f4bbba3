"""PRO against arithmetic done by hand.

n = 3, scores (0, -1, -3), mean log-probabilities (-1, -2, -3), one token each:
    k=1: T_12 = 1, T_13 = 3 = T_11:  L_1 = -3 * (-1) + log(e^-3 + e^(1 * -2) + e^(3 * -3))
                                         = log(1 + e + e^-6) = log 3.720761 = 1.313928
    k=2: T_23 = 2 = T_22:            L_2 = log(1 + e^(-6 + 4)) = log(1 + e^-2) = 0.126928
SFT: w (n-1)^2 NLL = 0.05 * 4 * 1 = 0.2.
"""

import math

import pytest
import torch

from harness.contracts.method import DroppedPrompt
from methods import pad_vpd, pro
from tests.tiny import tiny_batch, tiny_group


def parts(
    logp: torch.Tensor, lengths: list[int], scores: list[float], config: pro.ProOptions
) -> dict[str, torch.Tensor]:
    loss = pro.loss(tiny_batch(lengths, signals={"score": scores}), {"logp": logp}, config)
    assert {term.per for term in loss.terms} == {"prompt"}
    return {term.name: term.total for term in loss.terms}


def test_loss_by_hand() -> None:
    found = parts(torch.tensor([-1.0, -2.0, -3.0]), [1, 1, 1], [0.0, -1.0, -3.0], pro.ProOptions())
    assert found["ranking"].item() == pytest.approx(1.313928 + 0.126928, abs=1e-6)
    assert found["sft"].item() == pytest.approx(0.2)


def test_rows_of_several_tokens_are_ranked_by_their_mean() -> None:
    """Tokens (-0.5, -1.5), (-2), (-2, -3, -4): means -1, -2, -3, as above. SFT, summed: 0.05 * 4 * 2 = 0.4."""
    logp = torch.tensor([-0.5, -1.5, -2.0, -2.0, -3.0, -4.0])
    found = parts(logp, [2, 1, 3], [0.0, -1.0, -3.0], pro.ProOptions())
    assert found["ranking"].item() == pytest.approx(1.313928 + 0.126928, abs=1e-6)
    assert found["sft"].item() == pytest.approx(0.4)


def test_sft_is_a_sum_over_tokens_unless_asked() -> None:
    """Best row -1, -3: sum 4, mean 2; times 0.05 * (2-1)^2."""
    logp, lengths, scores = torch.tensor([-1.0, -3.0, -2.0]), [2, 1], [0.0, -1.0]
    assert parts(logp, lengths, scores, pro.ProOptions())["sft"].item() == pytest.approx(0.2)
    assert parts(logp, lengths, scores, pro.ProOptions(sft_reduction="mean"))["sft"].item() == pytest.approx(0.1)


def test_gaps_are_clipped() -> None:
    logp = torch.tensor([-1.0, -2.0])
    far = parts(logp, [1, 1], [0.0, -18.0], pro.ProOptions())["ranking"]
    torch.testing.assert_close(far, parts(logp, [1, 1], [0.0, -5.0], pro.ProOptions())["ranking"])


def test_gaps_of_probabilities_and_their_scale() -> None:
    """p_sel = 0.8 and 0.2, s = (-1, -2): gap 0.6: L = log(1 + e^(0.6 * -1)) = log 1.548812 = 0.437488; twice the scale:
    log(1 + e^-1.2) = log 1.301194 = 0.263282. Scores (0, -1), scaled by 3: log(1 + e^-3) = 0.048587."""
    logp, scores = torch.tensor([-1.0, -2.0]), [math.log(0.8), math.log(0.2)]
    found = parts(logp, [1, 1], scores, pro.ProOptions(gap="probability"))["ranking"]
    assert found.item() == pytest.approx(0.437488, abs=1e-6)
    twice = parts(logp, [1, 1], scores, pro.ProOptions(gap="probability", gap_scale=2.0))["ranking"]
    assert twice.item() == pytest.approx(0.263282, abs=1e-6)
    thrice = parts(logp, [1, 1], [0.0, -1.0], pro.ProOptions(gap_scale=3.0))["ranking"]
    assert thrice.item() == pytest.approx(0.048587, abs=1e-6)


def test_without_gaps_it_is_vpd() -> None:
    logp, scores = torch.tensor([-1.0, -0.5, -2.0, -1.5]), [3.0, 2.0, 1.0, 0.0]
    ours = parts(logp, [1] * 4, scores, pro.ProOptions(gap="none", beta=10.0, sft_weight=0.0))
    batch = tiny_batch([1] * 4, signals={"score": scores})
    vpd = pad_vpd.loss(batch, {"logp": logp}, pad_vpd.PadVpdOptions(beta=10.0)).terms[0].total
    torch.testing.assert_close(ours["ranking"], vpd)
    assert ours["sft"] == 0


def test_rows_are_sorted_and_identical_responses_dropped() -> None:
    rows = pro.METHOD.rows(tiny_group([("ba", -2.0), ("be", -0.5), ("bi", -4.0)]), pro.ProOptions())
    assert not isinstance(rows, DroppedPrompt)
    assert [(row.text, row.signals["score"]) for row in rows] == [("be", -0.5), ("ba", -2.0), ("bi", -4.0)]
    assert pro.METHOD.rows(tiny_group([("ba", -2.0)] * 3), pro.ProOptions()) == DroppedPrompt(
        "all responses are identical"
    )
    assert pro.METHOD.rows(tiny_group([("ba", None), ("be", -1.0)]), pro.ProOptions()) == DroppedPrompt(
        "a response has no teacher score"
    )
