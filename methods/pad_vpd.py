"""PAD-VPD (vanilla preference distillation): the likelihood of the teacher's ranking under the student.

With responses sorted by the calibrated reward rhat, r(y) = mean log-probability under the student:

    L = - sum_{i=1}^{n-1} [ beta r(y_(i)) - log sum_{j>=i} exp(beta r(y_(j))) ]

Mean over prompts. Paper: Capturing Nuanced Preferences: Preference-Aligned Distillation, 2025, arXiv 2502.14272, Eq. 10
(whose leading minus sign is missing there); rhat: Eq. 9. The released code ranks by log p_sel alone: ``alpha=1``.
"""

from harness.contracts.method import LEARNING_RATE, Batch, Loss, Method, Needs, Tensors, Term
from harness.contracts.options import Positive, Share, options
from methods import ranking


@options
class PadVpdOptions:
    alpha: Share = 0.8
    """Share of log p_sel in the calibrated reward; the rest is the teacher's mean log-probability (PAD Eq. 9)."""
    beta: Positive = 10.0
    """Scale of the student's reward. The teacher only orders, so its rewards need no scale."""


def loss(batch: Batch, terms: Tensors, config: PadVpdOptions) -> Loss:
    from methods.plackett_luce import log_probability

    rewards = batch.per_prompt(batch.mean_rows(terms["logp"]))
    # float64: at beta = 10 the rewards of one prompt lie tens of nats apart.
    total = -log_probability(config.beta * rewards.double()).sum().to(rewards.dtype)
    logs = ranking.order_logs(rewards, batch.per_prompt(batch.signals["score"]))
    return Loss((Term("ranking", total, per="prompt"),), logs)


METHOD = Method(
    name="pad-vpd",
    title="PAD w/ VPD",
    paper="Capturing Nuanced Preferences: Preference-Aligned Distillation for Small Language Models, arXiv 2502.14272",
    needs=Needs(responses=("samples",), signal="response", rounds=True),
    config=PadVpdOptions,
    rows=lambda group, config: ranking.scored_rows(group, config.alpha),
    loss=loss,
    check=ranking.require_several,
    space={
        **LEARNING_RATE,
        "alpha": "uniform(0, 1)",  # the paper's Figure 5
        "beta": "log(0.1, 30)",  # the paper's Table 4: 1 to 10, and 10 was chosen, the end of that range
    },
)
