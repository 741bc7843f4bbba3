"""A method that may peek: fine-tuning on the response that pocket's own rule scores highest. A control, not a row.

    distilbench reproduce table1 --plugin benchmarks/oracle_sft.py --methods oracle-sft

If even this does not lift the student, the instrument is broken: there would be nothing in the samples to learn, or no
way to see it. See ``benchmarks/pocket_controls.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.method import Batch, Dropped, Loss, Method, Needs, Row, Term
from harness.types import Group

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


def rows(group: Group, config: Config) -> list[Row] | Dropped:
    """The best of the student's samples by the world's rule; ties go to the first."""
    from harness.pocket.world import score

    best = max(group.samples, key=lambda response: score(group.prompt.messages, response.text))
    if not best.finished or not best.text:
        return Dropped("the best sample is empty or unfinished")
    return [Row(best.text)]


def loss(batch: Batch, terms: Mapping[str, Tensor], config: Any) -> Loss:
    """Token-mean negative log-likelihood."""
    return Loss((Term("nll", -terms["logp"].sum(), per="token"),))


METHOD = Method(
    name="oracle-sft",
    title="SFT on the best (control)",
    paper="no paper: a control of the pocket world",
    needs=Needs(responses=("samples",)),
    config=Config,
    rows=rows,
    loss=loss,
)
