"""IPO: preference optimisation with a squared loss, which asks for a fixed margin instead of an ever larger one.

    L = ( h - 1 / (2 beta) )^2,    h = [ l(y+) - l_ref(y+) ] - [ l(y-) - l_ref(y-) ]

Mean over prompts; beta is the paper's tau (Azar et al. 2023, arXiv 2310.12036, Eq. 17, with l(y) = the summed
log-probability). By default l is divided by the number of tokens, as in the authors' experiments and TRL: otherwise one
margin is asked of answers of every length. Pairs: largest and smallest log p_sel of the n samples, as for DPO.
"""

from collections.abc import Mapping
from typing import Literal

from harness.contracts.method import LEARNING_RATE, Batch, Loss, Method, Needs, Tensors, Term, Trl
from harness.contracts.options import Positive, options, require
from methods import ranking


@options
class IpoOptions:
    beta: Positive = 0.1
    """tau of the paper: the margin asked for is 1 / (2 beta). TRL's default."""
    reduction: Literal["mean", "sum"] = "mean"
    """Log-probability of a response per token (TRL, the authors' runs), or summed (the paper's Eq. 17)."""


def loss(batch: Batch, terms: Tensors, config: IpoOptions) -> Loss:
    ratios = batch.sum_rows(terms["logp"]) - batch.signals["reference"]
    if config.reduction == "mean":
        ratios = ratios / batch.lengths.to(ratios.dtype)
    chosen, rejected = batch.per_prompt(ratios).unbind(1)
    margin = chosen - rejected
    logs = ranking.pair_logs(margin) | {"chosen": chosen.detach().sum()}
    return Loss((Term("preference", (margin - 1 / (2 * config.beta)).square().sum(), per="prompt"),), logs)


def trl_arguments(config: IpoOptions) -> Mapping[str, object]:
    require(config.reduction == "mean", "ipo: TRL divides by the length; reduction = 'sum' needs backend: ours")
    return {"loss_type": ["ipo"], "beta": config.beta}


METHOD = Method(
    name="ipo",
    title="IPO",
    paper="Azar et al. 2023, A General Theoretical Paradigm to Understand Learning from Human Preferences, "
    "arXiv 2310.12036",
    needs=Needs(responses=("samples",), signal="response", reference=True, rounds=True),
    config=IpoOptions,
    rows=ranking.pair,
    loss=loss,
    check=ranking.require_several,
    trl=Trl("dpo", trl_arguments),
    space={**LEARNING_RATE, "beta": "log(0.01, 10)"},  # SimPO's authors searched 0.01 to 1: margins of 50 to 0.5 nats
)
