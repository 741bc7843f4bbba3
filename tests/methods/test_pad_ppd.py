"""PAD-PPD against arithmetic done by hand.

n = 2, beta = 1, teacher scores (log 3, 0), student (0, log 3): P = (3/4, 1/4), Q = (1/4, 3/4), M = (1/2, 1/2).
    KL(P||M) = KL(Q||M) = 0.130812 (see test_kd.py), so JSD = 0.130812
    AG   = KL(M||P) = KL(M||Q) = 1/2 log(2/3) + 1/2 log 2 = 0.143841
    KL(P||Q) = 3/4 log 3 - 1/4 log 3 = 1/2 log 3 = 0.549306 = KL(Q||P)
"""

import math

import pytest
import torch

from harness.contracts.method import DroppedPrompt
from harness.errors import UserError
from methods import pad_ppd
from tests.tiny import tiny_batch, tiny_group

DIVERGENCES = ("jsd", "ag", "kl_ts", "kl_st")


def loss_of(logp: torch.Tensor, scores: list[float], config: pad_ppd.PadPpdOptions, prompts: int = 1) -> torch.Tensor:
    batch = tiny_batch([1] * len(scores), prompts=prompts, signals={"score": scores})
    (term,) = pad_ppd.loss(batch, {"logp": logp}, config).terms
    assert term.per == "prompt"
    return term.total


@pytest.mark.parametrize(
    ("divergence", "value"), [("jsd", 0.130812), ("ag", 0.143841), ("kl_ts", 0.549306), ("kl_st", 0.549306)]
)
def test_loss_by_hand(divergence: str, value: float) -> None:
    config = pad_ppd.PadPpdOptions(beta=1.0, divergence=divergence)  # type: ignore[arg-type]
    found = loss_of(torch.tensor([0.0, math.log(3)]), [math.log(3), 0.0], config)
    assert found.item() == pytest.approx(value, abs=1e-6)


def test_each_side_has_its_own_scale() -> None:
    """Teacher 2 (log 3 / 2, 0), student 4 (0, log 3 / 4): (log 3, 0) and (0, log 3) as above. Without its own scale
    the student has the teacher's: 2 (0, log 3 / 2)."""
    log3 = math.log(3)
    own = pad_ppd.PadPpdOptions(beta=2.0, student_beta=4.0)
    assert loss_of(torch.tensor([0.0, log3 / 4]), [log3 / 2, 0.0], own).item() == pytest.approx(0.130812, abs=1e-6)
    one = pad_ppd.PadPpdOptions(beta=2.0)
    assert loss_of(torch.tensor([0.0, log3 / 2]), [log3 / 2, 0.0], one).item() == pytest.approx(0.130812, abs=1e-6)


def test_rows_of_several_tokens_count_by_their_mean() -> None:
    """Tokens (-1, -1) and (log 3 - 1): means -1 and log 3 - 1, which differ by log 3 as above: JSD 0.130812."""
    batch = tiny_batch([2, 1], signals={"score": [math.log(3), 0.0]})
    logp = torch.tensor([-1.0, -1.0, math.log(3) - 1])
    (term,) = pad_ppd.loss(batch, {"logp": logp}, pad_ppd.PadPpdOptions(beta=1.0)).terms
    assert term.total.item() == pytest.approx(0.130812, abs=1e-6)


def test_drawn_rankings_give_the_same_loss() -> None:
    """Of the hand-made case above, JSD 0.130812: 20,000 drawn rankings within 5 / sqrt(20000)."""
    logp, scores = torch.tensor([0.0, math.log(3)]), [math.log(3), 0.0]
    drawn = loss_of(logp, scores, pad_ppd.PadPpdOptions(beta=1.0, numerics="mc", draws=20_000)).item()
    assert drawn == pytest.approx(0.130812, abs=0.035) and drawn != pytest.approx(0.130812, abs=1e-6)


def test_rows_keep_the_order_of_sampling_and_carry_the_reward() -> None:
    rows = pad_ppd.METHOD.rows(tiny_group([("ba", -2.0), ("be", -1.0)]), pad_ppd.PadPpdOptions())
    assert not isinstance(rows, DroppedPrompt) and [row.text for row in rows] == ["ba", "be"]
    assert [row.signals["score"] for row in rows] == pytest.approx([-0.2 - 1.6, -0.2 - 0.8])
    assert pad_ppd.METHOD.rows(tiny_group([("ba", -2.0)] * 2), pad_ppd.PadPpdOptions()) == DroppedPrompt(
        "all responses are identical"
    )


def test_responses_are_counted_before_anything_is_sampled() -> None:
    """n! rankings to n = 8, drawn rankings to 64; the message says what takes as many."""
    pad_ppd.check(pad_ppd.PadPpdOptions(), 8)
    pad_ppd.check(pad_ppd.PadPpdOptions(numerics="mc"), 64)
    with pytest.raises(UserError, match=r"^pad-ppd: 9 responses .* 'exact' takes up to 8; numerics 'mc' .* up to 64$"):
        pad_ppd.check(pad_ppd.PadPpdOptions(divergence="kl_st"), 9)
    with pytest.raises(UserError, match=r"65 responses per prompt; numerics 'mc' takes up to 64$"):
        pad_ppd.check(pad_ppd.PadPpdOptions(numerics="mc"), 65)
    with pytest.raises(UserError, match="needs at least 2 responses per prompt, not 1"):
        pad_ppd.check(pad_ppd.PadPpdOptions(), 1)
    with pytest.raises(ValueError, match="numerics = 'mc' is for divergence 'jsd'"):
        pad_ppd.PadPpdOptions(numerics="mc", divergence="ag")
