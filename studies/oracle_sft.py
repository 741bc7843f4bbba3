"""Controls, not rows: fine-tuning on one of the student's own samples, the best by pocket's own rule, or any.

    distilbench reproduce table1 --plugin studies/oracle_sft.py --methods oracle-sft,random-sft

``oracle-sft`` may peek: if even this does not lift the student, the instrument is broken. ``random-sft`` knows nothing
at all: what it gains comes from training on samples of a lower temperature than that of the benchmark answers, and
every method that learns from samples has the same for nothing. See ``studies/pocket_controls.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.contracts.method import Batch, DroppedPrompt, Loss, Method, Needs, Row, Term
from harness.contracts.options import options
from harness.types import Group

if TYPE_CHECKING:
    from torch import Tensor


@options
class Config:
    """Nothing to choose."""


Rows = Callable[[Group, Any], "list[Row] | DroppedPrompt"]


def rows(group: Group, config: Config) -> list[Row] | DroppedPrompt:
    """The best of the student's samples by the world's rule; ties go to the first."""
    from harness.pocket.scorer import score

    best = max(group.samples, key=lambda response: score(group.prompt.messages, response.text))
    if not best.finished or not best.text:
        return DroppedPrompt("the best sample is empty or unfinished")
    return [Row.of(best)]


def any_row(group: Group, config: Config) -> list[Row] | DroppedPrompt:
    """The first of the student's samples, which is as good as a random one."""
    sample = group.samples[0]
    return [Row.of(sample)] if sample.finished and sample.text else DroppedPrompt("the sample is empty or unfinished")


def loss(batch: Batch, terms: Mapping[str, Tensor], config: Any) -> Loss:
    """Token-mean negative log-likelihood."""
    return Loss((Term("nll", -terms["logp"].sum(), per="token"),))


def control(name: str, title: str, rows: Rows) -> Method:
    """Fine-tuning on what ``rows`` picks."""
    return Method(
        name=name,
        title=title,
        paper="no paper: a control of the pocket world",
        needs=Needs(responses=("samples",)),
        config=Config,
        rows=rows,
        loss=loss,
    )


METHODS = {
    method.name: method
    for method in (
        control("oracle-sft", "SFT on the best (control)", rows),
        control("random-sft", "SFT on any (control)", any_row),
    )
}
