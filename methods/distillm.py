"""DistiLLM: KL divergence against a distribution that is skewed towards the other model, on partly own answers.

    skl:   KL( p || a p + (1 - a) q )          srkl:   KL( q || (1 - a) p + a q )

p: teacher, q: student, a = 0.1; mean over the response tokens of the whole step (Ko et al. 2024, arXiv 2402.03898,
section 3.1). Departure: the paper adapts the share of own answers to a validation loss and replays old ones; here a
fixed share of the steps trains on fresh answers, so that this and GKD differ in the divergence alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from harness.contracts.method import LEARNING_RATE, Batch, Loss, Method, Needs, Tensors, Term
from harness.contracts.options import ShareBelowOne, options
from methods import gkd

if TYPE_CHECKING:
    from torch import Tensor


@options
class DistillmOptions(gkd.OnPolicyOptions):
    divergence: Literal["skl", "srkl"] = "skl"
    """``skl``: skew KL (the authors' scripts for GPT-2). ``srkl``: skew reverse KL, the paper's other one."""
    skew: ShareBelowOne = 0.1
    """a, share of the divergence's first model in the mixture that it is compared with; 0: the plain KL."""


def skew_kl(first: Tensor, second: Tensor, skew: float) -> Tensor:
    """[c, V] log-probabilities each -> [c] KL( first || skew * first + (1 - skew) * second ), nats."""
    import torch

    # In log space: probabilities of a large vocabulary underflow in float32. log 0 is avoided for the plain KL.
    mixture = second if skew == 0 else torch.logaddexp(first + math.log(skew), second + math.log1p(-skew))
    return (first.exp() * (first - mixture)).sum(-1)


def token_terms(logits: Tensor, labels: Tensor, teacher: Tensor, config: DistillmOptions) -> dict[str, Tensor]:
    """``kl``, the skewed divergence at each position, nats, [c]."""
    q, p = logits.log_softmax(-1), teacher.log_softmax(-1)
    return {"kl": skew_kl(p, q, config.skew) if config.divergence == "skl" else skew_kl(q, p, config.skew)}


def loss(batch: Batch, terms: Tensors, config: DistillmOptions) -> Loss:
    return Loss((Term("kl", terms["kl"].sum(), per="token"),))


METHOD = Method(
    name="distillm",
    title="DistiLLM",
    paper="Ko et al. 2024, DistiLLM: Towards Streamlined Distillation for Large Language Models, arXiv 2402.03898",
    needs=Needs(responses=("golden", "rollouts"), signal="token"),
    config=DistillmOptions,
    rows=gkd.rows,
    loss=loss,
    token_terms=token_terms,
    rollouts=gkd.ROLLOUTS,
    row_fields=("on_policy",),
    space={
        **LEARNING_RATE,
        "skew": "uniform(0, 0.5)",  # the paper's is 0.1
        "on_policy": "{0, 0.5, 1}",  # as GKD
    },
)
