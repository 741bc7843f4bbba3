"""ADPA against arithmetic done by hand.

Vocabulary of 3; tuned teacher (0.6, 0.3, 0.1), untouched teacher (0.3, 0.3, 0.4), student (0.5, 0.25, 0.25).
    A = (log 2, 0, log 1/4) = (0.693147, 0, -1.386294)
    k = 3:           E_q[A] = 0.5 * 0.693147 - 0.25 * 1.386294 = 0
    k = 1:           0.5 * 0.693147 = 0.346574
    k = 1, the rest: tuned 0.4, untouched 0.7, student 0.5: 0.346574 + 0.5 log(4/7) = 0.346574 - 0.279808 = 0.066766
    clipped to [0, 1], k = 3: 0.5 * 0.693147 + 0.25e-8 + 0.25e-8 = 0.346574
    clipped to [-1, 0.5], k = 3: 0.5 * 0.5 - 0.25 * 1 = 0
"""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.contracts.method import DroppedPrompt, TopK
from harness.contracts.options import Problem
from harness.training.stored_signals import rest_of
from harness.types import Group, Prompt, Response
from methods import adpa, adpa_plus
from tests.methods.test_folded import top
from tests.tiny import tiny_batch

TUNED = torch.tensor([[0.6, 0.3, 0.1]]).log()
BEFORE = torch.tensor([[0.3, 0.3, 0.4]]).log()
STUDENT = torch.tensor([[0.5, 0.25, 0.25]]).log()


def taught(tuned: torch.Tensor, before: torch.Tensor, k: int) -> dict[str, TopK]:
    """Both stores at the tuned teacher's k most probable tokens, as the stages leave them."""
    first = top(tuned, k)
    kept = before.gather(-1, first.ids)
    return {"tuned": first, "family": TopK(first.ids, kept, rest_of(kept))}


@pytest.mark.parametrize(
    ("k", "options", "expected"),
    [
        (3, {}, 0.0),
        (1, {}, 0.346574),
        (1, {"rest_bin": True}, 0.066766),
        (3, {"clip_advantage": "unit"}, 0.346574),
        (3, {"clip_advantage": (-1.0, 0.5)}, 0.0),
    ],
)
def test_expected_advantage_by_hand(k: int, options: dict[str, Any], expected: float) -> None:
    config = adpa.AdpaOptions(top_k=k, **options)
    found = adpa.expected_advantage(STUDENT, taught(TUNED, BEFORE, k), config)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_loss_by_hand() -> None:
    """gamma 2: advantage -2 (0.5 + 1.5) = -4 on the own row; cross-entropy 1 + 2 = 3 on the golden one."""
    terms = {"logp": torch.tensor([-1.0, -2.0, -9.0, -9.0]), "advantage": torch.tensor([7.0, 7.0, 0.5, 1.5])}
    loss = adpa.loss(tiny_batch([2, 2], roles=("golden", "own")), terms, adpa.AdpaOptions(gamma=2.0))
    values = {term.name: (term.total.item(), term.per) for term in loss.terms}
    assert values == {"ce": (3.0, "token:golden"), "advantage": (-4.0, "token:own")}


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 7))
def test_minus_expected_advantage_is_a_difference_of_divergences(seed: int, k: int) -> None:
    """-E_q[A] = KL(q || tuned) - KL(q || before): over all tokens, and over k bins and the rest where it is a bin."""
    generator = torch.Generator().manual_seed(seed)
    q, tuned, before = (torch.randn(4, 7, generator=generator, dtype=torch.float64).log_softmax(-1) for _ in range(3))
    both = taught(tuned, before, k)
    found = -adpa.expected_advantage(q, both, adpa.AdpaOptions(top_k=k, rest_bin=k < 7))

    def merged(logps: torch.Tensor) -> torch.Tensor:
        """The k tokens and the sum of the others, as probabilities."""
        kept = logps.gather(-1, both["tuned"].ids).exp()
        return kept if k == 7 else torch.cat([kept, 1 - kept.sum(-1, keepdim=True)], -1)

    student = merged(q)
    kl = [(student * (student.log() - merged(p).log())).sum(-1) for p in (tuned, before)]
    torch.testing.assert_close(found, kl[0] - kl[1], atol=1e-9, rtol=1e-9)


def test_the_gradient_goes_through_the_whole_student() -> None:
    """d E_q[A] / d logit_v = q_v (A_v - E_q[A]); here E = 0, so q * A: (0.346574, 0, -0.346574)."""
    logits = STUDENT.clone().requires_grad_()
    adpa.expected_advantage(logits.log_softmax(-1), taught(TUNED, BEFORE, 3), adpa.AdpaOptions()).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([0.346574, 0.0, -0.346574], abs=1e-6)


def test_rows_are_the_golden_answer_and_the_students_own() -> None:
    prompt = Prompt("p", ({"role": "user", "content": "ba"},), golden="be")
    own = Response("bi", finished=False, tokens=1)
    rows = adpa.rows(Group(prompt, samples=(own,)), adpa.AdpaOptions())
    assert not isinstance(rows, DroppedPrompt)
    assert [(row.text, row.role, row.finished) for row in rows] == [("be", "golden", True), ("bi", "own", False)]
    assert adpa.rows(Group(prompt), adpa.AdpaOptions()) == DroppedPrompt("no student answer")
    empty = Group(prompt, samples=(dataclasses.replace(own, text=" "),))
    assert adpa.rows(empty, adpa.AdpaOptions()) == DroppedPrompt("student answer empty")
    nothing = Group(dataclasses.replace(prompt, golden=None), samples=(own,))
    assert adpa.rows(nothing, adpa.AdpaOptions()) == DroppedPrompt("no golden answer")


def test_plus_differs_in_where_it_starts() -> None:
    assert adpa_plus.METHOD.needs == dataclasses.replace(adpa.METHOD.needs, start="dckd")
    assert adpa.METHOD.needs.start is None
    assert adpa_plus.METHOD.loss is adpa.METHOD.loss


@pytest.mark.parametrize(("written", "read"), [("unit", "unit"), ([-2, 2], (-2.0, 2.0)), ("none", "none")])
def test_a_recipe_may_write_bounds_as_a_list(written: Any, read: Any) -> None:
    from harness.contracts.options import read_options

    config, problems = read_options(adpa.AdpaOptions, {"clip_advantage": written}, ("methods", "adpa"))
    assert problems == [] and config is not None and config.clip_advantage == read
    _, problems = read_options(adpa.AdpaOptions, {"clip_advantage": "half"}, ("methods", "adpa"))
    assert len(problems) == 1 and isinstance(problems[0], Problem)
