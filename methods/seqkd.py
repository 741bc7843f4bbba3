"""Sequence-level knowledge distillation: cross-entropy on what the teacher wrote.

    L = - mean_t log q(y_t | x, y_<t),    y ~ p(. | x)

Mean over the response tokens of the whole step. Kim and Rush 2016, arXiv 1606.07947 (who take the beam-search output;
language-model practice samples). Only text crosses over, so the vocabularies may differ.
"""

from collections.abc import Sequence

from harness.contracts.method import Batch, DroppedPrompt, Loss, Method, Needs, Row, Tensors, Term, Trl
from harness.contracts.options import options
from harness.types import Group


@options
class SeqkdOptions:
    keep_unfinished: bool = False
    """Train on answers that were cut at the token limit too, without an end-of-turn token: for tiny trial runs."""


def rows(group: Group, config: SeqkdOptions) -> Sequence[Row] | DroppedPrompt:
    """The teacher's first answer that has text and ended by itself: a cut answer would teach never to stop."""
    if not group.teacher:
        return DroppedPrompt("no teacher answer")
    nonempty = [answer for answer in group.teacher if answer.text.strip()]
    if not nonempty:
        return DroppedPrompt("teacher answer empty")
    finished = [answer for answer in nonempty if answer.finished]
    if not finished and not config.keep_unfinished:
        return DroppedPrompt("teacher answer unfinished")
    answer = (finished or nonempty)[0]
    return [Row.of(answer)]


def loss(batch: Batch, terms: Tensors, config: object) -> Loss:
    return Loss((Term("ce", -terms["logp"].sum(), per="token"),))


METHOD = Method(
    name="seqkd",
    title="SeqKD",
    paper="Kim and Rush 2016, Sequence-Level Knowledge Distillation, arXiv 1606.07947",
    needs=Needs(responses=("teacher",)),
    config=SeqkdOptions,
    rows=rows,
    loss=loss,
    trl=Trl("sft"),
    row_fields=("keep_unfinished",),
)
