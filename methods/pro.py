"""PRO: preference ranking optimisation, a ranking loss whose temperatures are the teacher's score gaps.

With responses sorted by the teacher, s_i = mean log-probability of the i-th, T_ki = gap of scores k and i:

    L_k = -log [ e^(T_kk s_k) / ( e^(T_kk s_k) + sum_{i>k} e^(T_ki s_i) ) ],    T_kk = max_{i>k} T_ki
    L   = sum_{k<n} L_k + w (n-1)^2 NLL(y_1)

Mean over prompts. Song et al. 2024, arXiv 2306.17492, and its code (NLL summed over tokens, w = 0.05). PAD does not say
which score or scale it used: here gaps of log p_sel, clipped to [0, 5].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.contracts.method import LEARNING_RATE, Batch, Loss, Method, Needs, Tensors, Term
from harness.contracts.options import NotNegative, Positive, options
from methods import ranking

if TYPE_CHECKING:
    from torch import Tensor


@options
class ProOptions:
    gap: Literal["score", "probability", "none"] = "score"
    """``score``: temperatures from differences of log p_sel. ``probability``: of p_sel itself, which lie in [0, 1] and
    make the terms nearly flat. ``none``: all temperatures 1."""
    gap_scale: Positive = 1.0
    """Factor on the gaps of ``score`` and ``probability``: the paper's come from a reward model with its own scale."""
    gap_limit: Positive = 5.0
    """Scaled gaps are clipped to [0, this]; unbounded gaps of log-probabilities reach 18 nats."""
    beta: Positive = 1.0
    """Further factor on every s_i; the paper has none."""
    sft_weight: NotNegative = 0.05
    """w, weight of the cross-entropy on the best response, before the factor (n-1)^2."""
    sft_reduction: Literal["sum", "mean"] = "sum"
    """Cross-entropy of the best response summed over its tokens (the authors' code) or averaged over them."""


def ranking_losses(rewards: Tensor, scores: Tensor, config: ProOptions) -> Tensor:
    """[B] sum_k L_k from mean log-probabilities and scores, both [B, n], best first."""
    import torch

    n = rewards.shape[1]
    scaled_rewards = config.beta * rewards
    scaled_scores = config.gap_scale * (scores.exp() if config.gap == "probability" else scores)
    total = rewards.new_zeros(len(rewards))
    for k in range(n - 1):
        gaps = torch.ones_like(rewards[:, k + 1 :])
        if config.gap != "none":
            gaps = (scaled_scores[:, k : k + 1] - scaled_scores[:, k + 1 :]).clamp(0, config.gap_limit)
        best = gaps.max(1, keepdim=True).values * scaled_rewards[:, k : k + 1]
        lower_terms = gaps * scaled_rewards[:, k + 1 :]
        total = total + torch.cat([best, lower_terms], 1).logsumexp(1) - best[:, 0]
    return total


def loss(batch: Batch, terms: Tensors, config: ProOptions) -> Loss:
    scores = batch.per_prompt(batch.signals["score"])
    rewards = batch.per_prompt(batch.mean_rows(terms["logp"]))
    best = batch.mean_rows(terms["logp"]) if config.sft_reduction == "mean" else batch.sum_rows(terms["logp"])
    n = rewards.shape[1]
    sft = -config.sft_weight * (n - 1) ** 2 * batch.per_prompt(best)[:, 0].sum()
    ranking_term = Term("ranking", ranking_losses(rewards, scores, config).sum(), per="prompt")
    return Loss((ranking_term, Term("sft", sft, per="prompt")), ranking.order_logs(rewards, scores))


METHOD = Method(
    name="pro",
    title="PRO",
    paper="Song et al. 2024, Preference Ranking Optimization for Human Alignment, arXiv 2306.17492",
    needs=Needs(responses=("samples",), signal="response", rounds=True),
    config=ProOptions,
    rows=lambda group, config: ranking.scored_rows(group),
    loss=loss,
    check=ranking.require_several,
    space={
        **LEARNING_RATE,
        "beta": "log(0.1, 30)",  # ours: the paper has none
        "sft_weight": "log(0.001, 2)",  # 0.05 in the authors' scripts, 2 in their code's default
    },
)
