"""DCKD against arithmetic done by hand.

Vocabulary of 3, q uniform (1/3 each), p = (0.7, 0.2, 0.1), k = 1: bins (0.7; 0.3) against (1/3; 2/3):
    KL = 0.7 log 2.1 + 0.3 log 0.45 = 0.519356 - 0.239552 = 0.279803
With w = 2, w_c = 0.1, w_r = 0.3, two chosen tokens and one rejected one, all with that KL and log q = -log 3:
    ce          = 2 * 1.098612 = 2.197225       over 2 tokens
    kl_chosen   = 2 * 0.1 * 2 * 0.279803 = 0.111921
    kl_rejected = 2 * 0.3 * 1 * 0.279803 = 0.167882
"""

import dataclasses

import pytest
import torch

from harness.contracts.method import DroppedPrompt, TopK
from harness.types import Group, Prompt
from methods import dckd
from tests.methods.test_folded import top
from tests.tiny import tiny_batch

TEACHER = torch.tensor([[0.7, 0.2, 0.1]]).log()


def repeated(stored: TopK, count: int) -> TopK:
    return TopK(*(values.repeat(count, *[1] * (values.dim() - 1)) for values in stored))


def test_terms_and_loss_by_hand() -> None:
    config = dckd.DckdOptions(weight=2.0, chosen_weight=0.1, rejected_weight=0.3, top_k=1)
    taught = {"tuned": repeated(top(TEACHER, 1), 3)}
    terms = dckd.token_terms(torch.zeros(3, 3), torch.tensor([0, 1, 2]), taught, config)
    assert terms["kl"].tolist() == pytest.approx([0.279803] * 3, abs=1e-6)
    assert terms["logp"].tolist() == pytest.approx([-1.098612] * 3, abs=1e-6)
    loss = dckd.loss(tiny_batch([2, 1], roles=("chosen", "rejected")), terms, config)
    values = {term.name: (term.total.item(), term.per) for term in loss.terms}
    assert values["ce"] == (pytest.approx(2.197225, abs=1e-5), "token:chosen")
    assert values["kl_chosen"] == (pytest.approx(0.111921, abs=1e-5), "token:chosen")
    assert values["kl_rejected"] == (pytest.approx(0.167882, abs=1e-5), "token:rejected")


def test_rows_are_the_datasets_pair() -> None:
    prompt = Prompt("p", ({"role": "user", "content": "ba"},), golden="be", rejected="bi")
    rows = dckd.rows(Group(prompt), dckd.DckdOptions())
    assert not isinstance(rows, DroppedPrompt)
    assert [(row.text, row.role) for row in rows] == [("be", "chosen"), ("bi", "rejected")]
    for field, reason in (("golden", "no golden answer"), ("rejected", "no rejected answer")):
        for empty in (None, " "):
            group = Group(dataclasses.replace(prompt, **{field: empty}))
            assert dckd.rows(group, dckd.DckdOptions()) == DroppedPrompt(reason)
