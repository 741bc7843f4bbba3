"""SeqKD against arithmetic done by hand: log-probabilities -1, -2 | -3 give a total of 6 over 3 tokens."""

import torch

from harness.contracts.method import DroppedPrompt
from harness.types import Response
from methods import seqkd
from tests.tiny import tiny_batch, tiny_group


def answer(text: str, finished: bool = True) -> Response:
    return Response(text, finished=finished, tokens=3)


def test_loss_by_hand() -> None:
    logp = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    loss = seqkd.loss(tiny_batch([2, 1], prompts=2), {"logp": logp}, seqkd.SeqkdOptions())
    (term,) = loss.terms
    assert term.per == "token" and term.total.item() == 6.0
    term.total.backward()
    assert logp.grad is not None and logp.grad.tolist() == [-1.0, -1.0, -1.0]


def test_rows_take_the_first_finished_answer_with_text() -> None:
    group = tiny_group([], teacher=(answer(" "), answer("ba", finished=False), answer("be"), answer("bi")))
    rows = seqkd.rows(group, seqkd.SeqkdOptions())
    assert not isinstance(rows, DroppedPrompt) and [row.text for row in rows] == ["be"]


def test_unusable_answers_are_dropped_with_the_reason() -> None:
    cases = {
        (): "no teacher answer",
        (answer(""),): "teacher answer empty",
        (answer("ba", finished=False),): "teacher answer unfinished",
    }
    for teacher, reason in cases.items():
        assert seqkd.rows(tiny_group([], teacher=teacher), seqkd.SeqkdOptions()) == DroppedPrompt(reason)


def test_unfinished_answers_can_be_kept_without_an_end_of_turn() -> None:
    group = tiny_group([], teacher=(answer("ba", finished=False),))
    (row,) = seqkd.rows(group, seqkd.SeqkdOptions(keep_unfinished=True))
    assert (row.text, row.finished) == ("ba", False)
