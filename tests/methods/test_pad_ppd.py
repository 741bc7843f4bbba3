"""PAD-PPD against arithmetic done by hand.

n = 2, beta = 1, teacher scores (log 3, 0), student (0, log 3): P = (3/4, 1/4), Q = (1/4, 3/4), M = (1/2, 1/2).
    KL(P||M) = KL(Q||M) = 0.130812 (see test_kd.py), so JSD = 0.130812
    AG   = KL(M||P) = KL(M||Q) = 1/2 log(2/3) + 1/2 log 2 = 0.143841
    KL(P||Q) = 3/4 log 3 - 1/4 log 3 = 1/2 log 3 = 0.549306 = KL(Q||P)
"""

import itertools
import math
import random
import statistics
from dataclasses import replace

import pytest
import torch

from harness.contracts.method import DroppedPrompt
from harness.errors import UserError
from methods import pad_ppd, plackett_luce
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


def test_a_sharp_student_that_is_wrong_learns_little() -> None:
    """n = 2, a teacher that is sure, a student that is wrong by 0.9 nats: with s = sigmoid(-0.9 beta_s) the gradient by
    the margin is beta_s s (1 - s) log(s / (1 + s)) / 2. beta_s = 10: s = 0.000123, -0.00555; beta_s = 1: s = 0.289,
    -0.154. One beta of 1 for both sides would leave this teacher 5 of its 50 nats."""
    for student_beta, by_hand in ((10.0, -0.00555), (1.0, -0.154)):
        logp = torch.tensor([-0.9, 0.0], requires_grad=True)
        loss_of(logp, [5.0, 0.0], pad_ppd.PadPpdOptions(student_beta=student_beta)).backward()
        assert logp.grad is not None and logp.grad[0].item() == pytest.approx(by_hand, rel=0.005)


@pytest.mark.parametrize("scores", [[5.0, 3.0], [-0.01, -0.03]])
def test_standardised_pairs_are_one_apart_from_their_mean(scores: list[float]) -> None:
    """Scores (1, -1) at any margin; beta = log 3 / 2 makes them log 3 apart: P = (3/4, 1/4), JSD 0.130812 as above."""
    config = pad_ppd.PadPpdOptions(beta=math.log(3) / 2, student_beta=1.0, standardise_teacher=True)
    assert loss_of(torch.tensor([0.0, math.log(3)]), scores, config).item() == pytest.approx(0.130812, abs=1e-6)


def test_standardised_triple_by_hand() -> None:
    """(0, -1, -2) has standard deviation sqrt(2/3); beta = sqrt(2/3) log 2 makes the scores (log 2, 0, -log 2), weights
    4 : 2 : 1. Rankings, best first: 8/21, 4/21, 8/35, 2/35, 2/21, 1/21. A student that likes all alike gives each 1/6:
    KL(Q||P) = -log 6 - (1/6) log(8 * 4 * 8 * 2 * 2 * 1 / (21^4 * 35^2)) = -1.791759 + 2.059552 = 0.267793."""
    config = pad_ppd.PadPpdOptions(beta=math.sqrt(2 / 3) * math.log(2), standardise_teacher=True, divergence="kl_st")
    assert loss_of(torch.full((3,), -0.7), [0.0, -1.0, -2.0], config).item() == pytest.approx(0.267793, abs=1e-6)


def test_standardised_sharpness_is_that_of_the_documentation() -> None:
    """Four equally spaced rewards have standard deviation sqrt(5)/2 steps: at beta b neighbours are g = 2b / sqrt(5)
    nats apart, and their ranking has probability 1 / prod_{k=2..4} (1 + e^-g + ... + e^-(k-1)g)."""
    for beta, value in ((1.0, 0.27), (3.0, 0.81)):
        scores = beta * pad_ppd.standardised(torch.tensor([[0.3, 0.2, 0.1, 0.0]], dtype=torch.float64))
        g = 2 * beta / math.sqrt(5)
        hand = math.prod(1 / sum(math.exp(-i * g) for i in range(k)) for k in (2, 3, 4))
        assert plackett_luce.log_probability(scores).exp().item() == pytest.approx(hand, abs=1e-9)
        assert hand == pytest.approx(value, abs=0.005)


def test_teachers_rounding_is_no_preference() -> None:
    """A group without spread stays at 0, ties stay ties, and below 0.001 nats a spread is not made larger than by 1000:
    (2e-6, 0) becomes (0.001, -0.001)."""
    rows = [[-3.0, -3.0, -3.0], [1.0, 0.0, 0.0]]
    constant, tied = pad_ppd.standardised(torch.tensor(rows, dtype=torch.float64)).tolist()
    assert constant == [0.0, 0.0, 0.0]
    assert tied == pytest.approx([math.sqrt(2), -math.sqrt(0.5), -math.sqrt(0.5)])
    tiny = pad_ppd.standardised(torch.tensor([[2e-6, 0.0]], dtype=torch.float64))
    assert tiny[0].tolist() == pytest.approx([0.001, -0.001])
    logp = torch.tensor([0.0, -0.5, -1.0], requires_grad=True)
    loss = loss_of(logp, [-3.0] * 3, pad_ppd.PadPpdOptions(standardise_teacher=True))
    loss.backward()
    assert loss > 0 and logp.grad is not None and logp.grad[0] > 0 > logp.grad[2]  # towards no preference


def test_a_standardised_teacher_still_widens_margins() -> None:
    """n = 2, P = (3/4, 1/4), a student without preference: d KL(P||Q) / d r_1 = beta_s (Q_1 - P_1) = 2 (1/2 - 3/4). A
    student divided by its own spread has scores (1, -1) at margin 0.1 as at 0.5: no gradient. In larger groups the
    gradient along r, the direction in which all margins grow, is 0, and with the teacher's spread alone it is not."""
    config = pad_ppd.PadPpdOptions(beta=math.log(3) / 2, student_beta=2.0, standardise_teacher=True, divergence="kl_ts")
    logp = torch.tensor([-1.0, -1.0], requires_grad=True)
    loss_of(logp, [5.0, 3.0], config).backward()
    assert logp.grad is not None and logp.grad.tolist() == pytest.approx([-0.5, 0.5], abs=1e-6)

    teacher = pad_ppd.standardised(torch.tensor([[-1.0, -2.0]], dtype=torch.float64))
    for margin in (0.1, 0.5):
        pair = torch.tensor([[0.0, -margin]], dtype=torch.float64, requires_grad=True)
        plackett_luce.jsd(teacher, 3 * pad_ppd.standardised(pair)).sum().backward()
        assert pair.grad is not None and pair.grad.abs().max() < 1e-12

    teacher = pad_ppd.standardised(torch.tensor([[-1.0, -2.0, -2.5, -4.0]], dtype=torch.float64))
    along = []
    for scale in (pad_ppd.standardised, lambda rewards: rewards):
        rewards = torch.tensor([[-0.7, -0.9, -0.6, -1.0]], dtype=torch.float64, requires_grad=True)
        plackett_luce.jsd(teacher, scale(rewards)).sum().backward()
        assert rewards.grad is not None
        along.append(((rewards - rewards.mean()) * rewards.grad).sum().item())
    assert abs(along[0]) < 1e-12 and along[1] < -0.001


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_scales_against_an_enumeration(divergence: str) -> None:
    """The whole loss in pure Python: ``statistics.pstdev``, softmax picks, and the definitions of the divergences."""
    config = pad_ppd.PadPpdOptions(
        beta=1.7,
        student_beta=0.6,
        standardise_teacher=True,
        divergence=divergence,  # type: ignore[arg-type]
    )
    draw = random.Random(5)
    for n in (2, 3, 4, 5):
        scores = [draw.uniform(-6, 0) for _ in range(n)]
        rewards = [draw.uniform(-4, 0) for _ in range(n)]
        p = ranking_probabilities([1.7 * score / statistics.pstdev(scores) for score in scores])
        q = ranking_probabilities([0.6 * reward for reward in rewards])
        m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        expected = {
            "jsd": (kl(p, m) + kl(q, m)) / 2,
            "ag": (kl(m, p) + kl(m, q)) / 2,
            "kl_ts": kl(p, q),
            "kl_st": kl(q, p),
        }
        batch = replace(tiny_batch([1] * n), signals={"score": torch.tensor(scores, dtype=torch.float64)})
        (term,) = pad_ppd.loss(batch, {"logp": torch.tensor(rewards, dtype=torch.float64)}, config).terms
        assert term.total.item() == pytest.approx(expected[divergence], rel=1e-10)


def ranking_probabilities(scores: list[float]) -> list[float]:
    """Of every ranking: each pick has the share of its weight among what is left."""
    return [
        math.prod(weight / math.fsum(order[place:]) for place, weight in enumerate(order))
        for order in itertools.permutations(math.exp(score) for score in scores)
    ]


def kl(p: list[float], q: list[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_drawn_rankings_of_standardised_pairs_differ_between_prompts() -> None:
    """Both prompts have teacher scores (1, -1): with the same noise their estimates would be the same number."""
    config = pad_ppd.PadPpdOptions(beta=1.0, standardise_teacher=True, numerics="mc", draws=50)
    logp = torch.tensor([0.0, -0.1])
    first, second = (loss_of(logp, scores, config).item() for scores in ([5.0, 3.0], [2.0, 1.0]))
    assert first != second


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
