"""Best-of-n fine-tuning: cross-entropy on the one of the student's n responses that the teacher prefers.

    L = - mean_t log q(y_t | x, y_<t),    y = argmax of log p_sel among the n samples

Mean over the response tokens of the whole step. Tells how much of a preference method's gain comes from the favourite
alone (rejection-sampling fine-tuning, Touvron et al. 2023, arXiv 2307.09288; their scorer is a reward model).
"""

from collections.abc import Sequence

from harness.contracts.method import DroppedPrompt, Method, Needs, Row, Trl
from harness.contracts.options import options
from harness.types import Group
from methods import ranking, seqkd


@options
class BestOfNOptions:
    keep_unfinished: bool = False
    """Train on a favourite that was cut at the token limit too, without an end-of-turn token."""


def rows(group: Group, config: BestOfNOptions) -> Sequence[Row] | DroppedPrompt:
    scores = ranking.teacher_scores(group)
    if isinstance(scores, DroppedPrompt):
        return scores
    best = group.samples[ranking.descending(scores)[0]]
    # The runner-up does not take its place: the row would then no longer be the best of n.
    if not best.text.strip():
        return DroppedPrompt("the teacher's favourite is empty")
    if not (best.finished or config.keep_unfinished):
        return DroppedPrompt("the teacher's favourite is unfinished")
    return [Row.of(best)]


METHOD = Method(
    name="best-of-n",
    title="Best-of-n SFT",
    paper="Touvron et al. 2023, Llama 2: Open Foundation and Fine-Tuned Chat Models (section 3.2.3), arXiv 2307.09288",
    needs=Needs(responses=("samples",), signal="response", rounds=True),
    config=BestOfNOptions,
    rows=rows,
    loss=seqkd.loss,
    trl=Trl("sft"),
    row_fields=("keep_unfinished",),
)
