"""ORPO: supervised fine-tuning on the chosen response with a penalty on the odds of the rejected one, no reference.

    L = NLL(y+) - lambda * log sigmoid( log odds(y+) - log odds(y-) )
    log odds(y) = r - log(1 - e^r),    r(y) = (1/|y|) sum_t log q(y_t | x, y_<t)

NLL: mean over the chosen responses' tokens of the whole step; the penalty: mean over prompts. Hong et al. 2024, arXiv
2403.07691, Eqs. 4-7. Departure: the authors' code and TRL take the NLL over the prompt too; here a prompt is never
trained on. Pairs: largest and smallest log p_sel of the n samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.contracts.method import LEARNING_RATE, Batch, Loss, Method, Needs, Tensors, Term
from harness.contracts.options import Positive, options
from methods import ranking

if TYPE_CHECKING:
    from torch import Tensor


@options
class OrpoOptions:
    weight: Positive = 0.1
    """lambda, weight of the odds-ratio penalty: what the authors took for Mistral 7B, and TRL's default."""


def log_odds(rewards: Tensor) -> Tensor:
    """log( e^r / (1 - e^r) ) of mean log-probabilities r < 0, without cancellation for r near 0 or far below it."""
    import torch

    # 1 - e^r keeps its digits through expm1 where e^r is near 1, through log1p where it is near 0.
    near_zero = rewards > -0.7
    safe = rewards.clamp_max(-torch.finfo(rewards.dtype).tiny)
    log_complement = torch.where(
        near_zero,
        (-torch.expm1(torch.where(near_zero, safe, -1.0))).log(),
        torch.log1p(-torch.where(near_zero, -1.0, safe).exp()),
    )
    return rewards - log_complement


def loss(batch: Batch, terms: Tensors, config: OrpoOptions) -> Loss:
    from torch.nn.functional import logsigmoid

    chosen, rejected = batch.per_prompt(log_odds(batch.mean_rows(terms["logp"]))).unbind(1)
    margin = chosen - rejected
    sft = Term("sft", -terms["logp"][batch.where_role("chosen")].sum(), per="token:chosen")
    odds = Term("odds", -config.weight * logsigmoid(margin).sum(), per="prompt")
    return Loss((sft, odds), ranking.pair_logs(margin))


METHOD = Method(
    name="orpo",
    title="ORPO",
    paper="Hong, Lee and Thorne 2024, ORPO: Monolithic Preference Optimization without Reference Model, "
    "arXiv 2403.07691",
    needs=Needs(responses=("samples",), signal="response", rounds=True),
    config=OrpoOptions,
    rows=ranking.pair,
    loss=loss,
    check=ranking.require_several,
    space={**LEARNING_RATE, "weight": "log(0.03, 3)"},  # the authors took 0.1 to 0.25, SimPO's searched 0.1 to 2
)
