"""SimPO: preference optimisation with the length-normalised reward, a target margin and no reference.

    L = -log sigmoid( beta (r(y+) - r(y-)) - gamma ),    r(y) = (1/|y|) sum_t log q(y_t | x, y_<t)

Mean over prompts. Paper: Meng, Xia and Chen 2024, arXiv 2405.14734. Pairs: largest and smallest log p_sel of the n
samples (PAD appendix B.3).
"""

from harness.contracts.method import LEARNING_RATE, Batch, Loss, Method, Needs, Tensors, Term
from harness.contracts.options import NotNegative, Positive, options
from methods import ranking


@options
class SimpoOptions:
    beta: Positive = 10.0
    """Scale of the reward."""
    gamma_beta_ratio: NotNegative = 0.5
    """gamma / beta, the margin asked for in units of the reward (the authors: 0.5 for Gemma, 0.3 for Llama-3)."""


def loss(batch: Batch, terms: Tensors, config: SimpoOptions) -> Loss:
    from torch.nn.functional import logsigmoid

    # Means: with sums, the longer response of a pair would decide the margin.
    rewards = config.beta * batch.mean_rows(terms["logp"])
    chosen, rejected = batch.per_prompt(rewards).unbind(1)
    margin = chosen - rejected
    logs = ranking.pair_logs(margin) | {"chosen": chosen.detach().sum()}
    gamma = config.beta * config.gamma_beta_ratio
    return Loss((Term("preference", -logsigmoid(margin - gamma).sum(), per="prompt"),), logs)


METHOD = Method(
    name="simpo",
    title="SimPO",
    paper="Meng, Xia and Chen 2024, Simple Preference Optimization with a Reference-Free Reward, arXiv 2405.14734",
    needs=Needs(responses=("samples",), signal="response", rounds=True),
    config=SimpoOptions,
    rows=ranking.pair,
    loss=loss,
    check=ranking.require_several,
    space={
        **LEARNING_RATE,
        "beta": "log(0.1, 30)",  # 2 to 10 in the authors' recipes; as wide as PAD's, which scales the same reward
        "gamma_beta_ratio": "uniform(0, 1)",  # the authors' advice for a search
    },
)
