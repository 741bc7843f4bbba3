"""Standard KD against arithmetic done by hand.

Two tokens, student logits (0, 0), teacher logits (log 3, 0), so q = (1/2, 1/2), p = (3/4, 1/4); label 0:
    CE         = log 2                                              = 0.693147
    KL(p||q)   = 3/4 log(3/2) + 1/4 log(1/2)  = 0.304099 - 0.173287 = 0.130812
    KL(q||p)   = 1/2 log(2/3) + 1/2 log 2     = -0.202733 + 0.346574 = 0.143841
tau = 2: p = (sqrt 3, 1) / (1 + sqrt 3) = (0.633975, 0.366025),
    KL         = 0.633975 log 1.267949 + 0.366025 log 0.732051 = 0.150506 - 0.114165 = 0.036341
"""

import dataclasses
import math

import pytest
import torch

from harness.contracts.method import DistributionStorage, DroppedPrompt, TopK
from harness.training.stored_signals import rest_of
from methods import kd
from tests.tiny import tiny_batch, tiny_group

STUDENT = torch.tensor([[0.0, 0.0]])
TEACHER = torch.tensor([[math.log(3), 0.0]])
LABEL = torch.tensor([0])


def terms(config: kd.KdOptions) -> dict[str, torch.Tensor]:
    return kd.token_terms(STUDENT, LABEL, TEACHER, config)


@pytest.mark.parametrize(
    ("config", "kl"),
    [
        (kd.KdOptions(), 0.130812),
        (kd.KdOptions(direction="reverse"), 0.143841),
        (kd.KdOptions(temperature=2.0), 0.036341),
    ],
)
def test_terms_by_hand(config: kd.KdOptions, kl: float) -> None:
    found = terms(config)
    assert found["logp"].item() == pytest.approx(-0.693147, abs=1e-6)
    assert found["kl"].item() == pytest.approx(kl, abs=1e-6)


def test_loss_by_hand() -> None:
    """0.3 * 0.693147 + 0.7 * 4 * 0.036341 = 0.207944 + 0.101755."""
    config = kd.KdOptions(weight=0.7, temperature=2.0)
    loss = kd.loss(tiny_batch([1]), terms(config), config)
    values = {term.name: term.total.item() for term in loss.terms}
    assert values == pytest.approx({"ce": 0.207944, "kl": 0.101755}, abs=1e-5)
    assert {term.per for term in loss.terms} == {"token"}


def stored(logits: torch.Tensor, config: kd.KdOptions) -> dict[str, TopK]:
    """The live teacher's logits as a store would keep them."""
    values = (logits / config.temperature).log_softmax(-1).topk(int(config.top_k or 0))
    return {"family": TopK(values.indices, values.values, rest_of(values.values))}


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_store_of_all_tokens_is_the_live_teacher(direction: str, temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 7, generator=generator) for _ in range(2))
    labels = torch.arange(5)
    live = kd.KdOptions(direction=direction, temperature=temperature)  # type: ignore[arg-type]
    kept = dataclasses.replace(live, top_k=7)
    expected = kd.token_terms(student, labels, teacher, live)
    found = kd.token_terms(student, labels, stored(teacher, kept), kept)
    torch.testing.assert_close(found["logp"], expected["logp"])
    torch.testing.assert_close(found["kl"], expected["kl"], atol=1e-5, rtol=1e-4)


def test_stored_terms_by_hand() -> None:
    """Two tokens and k = 1: the other one is the rest, so nothing is lost: 0.130812, as with the live teacher."""
    config = kd.KdOptions(top_k=1)
    terms = kd.token_terms(STUDENT, LABEL, stored(TEACHER, config), config)
    assert terms["kl"].item() == pytest.approx(0.130812, abs=1e-6)
    assert kd.METHOD.storage(config) == DistributionStorage(1, 1.0) and kd.METHOD.storage(kd.KdOptions()) is None


def test_rows() -> None:
    rows = kd.reference_rows(tiny_group([], golden="ba be"), kd.KdOptions())
    assert not isinstance(rows, DroppedPrompt) and [row.text for row in rows] == ["ba be"] and rows[0].finished
    assert kd.reference_rows(tiny_group([]), kd.KdOptions()) == DroppedPrompt("no golden answer")
