"""DCKD: distil a preference-tuned teacher token by token, on the good answer and on the bad one.

With p the teacher after preference tuning, q the student, (y_w, y_l) the dataset's chosen and rejected answers:

    L = NLL(y_w) + w [ w_c mean_t KL(p || q)(y_w) + w_r mean_t KL(p || q)(y_l) ]

Each mean is over the tokens of its own rows, whole optimiser step. p is stored as its 50 most probable tokens with the
mass of the others; q is folded alike. Weights: the first author's code (arXiv 2502.17927). Departures from it:
log-probabilities in float32, not probabilities in float16, and the end-of-turn token is taught by the teacher too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.contracts.method import (
    LEARNING_RATE,
    Batch,
    DistributionStorage,
    DroppedPrompt,
    Loss,
    Method,
    Needs,
    Row,
    Tensors,
    Term,
)
from harness.contracts.options import NotNegative, Tokens, options
from harness.types import Group
from methods.kd import bins, fold

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.method import TopK


@options
class DckdOptions:
    weight: NotNegative = 1.0
    """w, weight of both divergences together."""
    chosen_weight: NotNegative = 0.1
    """w_c, weight of the divergence on the chosen answer."""
    rejected_weight: NotNegative = 0.1
    """w_r, weight of the divergence on the rejected answer."""
    top_k: Tokens = 50
    """Tokens of the teacher's distribution that are kept at each position; the others count as one."""


def rows(group: Group, config: DckdOptions) -> Sequence[Row] | DroppedPrompt:
    if not (group.prompt.golden or "").strip():
        return DroppedPrompt("no golden answer")
    if not (group.prompt.rejected or "").strip():
        return DroppedPrompt("no rejected answer")
    return [Row(str(group.prompt.golden), role="chosen"), Row(str(group.prompt.rejected), role="rejected")]


def forward_kl(logps: Tensor, top: TopK) -> Tensor:
    """[c] KL(teacher || student) over the k + 1 outcomes, nats: a lower bound of the KL over the vocabulary."""
    p, q = bins(top), fold(logps, top)
    return (p.exp() * (p - q)).sum(-1)


def token_terms(logits: Tensor, labels: Tensor, teacher: Mapping[str, TopK], config: DckdOptions) -> dict[str, Tensor]:
    """``logp`` of each label and ``kl`` = KL(tuned teacher || student) over k + 1 outcomes, nats, [c] each."""
    logps = logits.log_softmax(-1)
    return {"logp": logps.gather(-1, labels[:, None])[:, 0], "kl": forward_kl(logps, teacher["tuned"])}


def loss(batch: Batch, terms: Tensors, config: DckdOptions) -> Loss:
    # Each divergence is divided by the tokens of its own rows (``per``): otherwise the longer answers would decide.
    chosen, rejected = batch.where_role("chosen"), batch.where_role("rejected")
    weights = config.weight * config.chosen_weight, config.weight * config.rejected_weight
    return Loss(
        (
            Term("ce", -terms["logp"][chosen].sum(), per="token:chosen"),
            Term("kl_chosen", weights[0] * terms["kl"][chosen].sum(), per="token:chosen"),
            Term("kl_rejected", weights[1] * terms["kl"][rejected].sum(), per="token:rejected"),
        )
    )


METHOD = Method(
    name="dckd",
    title="DCKD",
    paper="Gao et al. 2025, Advantage-Guided Distillation for Preference Alignment, arXiv 2502.17927",
    needs=Needs(responses=("golden", "rejected"), signal="token", teachers=("tuned",)),
    config=DckdOptions,
    rows=rows,
    loss=loss,
    token_terms=token_terms,
    storage=lambda config: DistributionStorage(config.top_k),
    space={
        **LEARNING_RATE,
        "chosen_weight": "log(0.01, 1)",  # a decade on each side of the first author's 0.1
        "rejected_weight": "log(0.01, 1)",
    },
)
