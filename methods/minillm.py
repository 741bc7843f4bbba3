"""MiniLLM: reverse KL on the student's own answers, by policy gradient with an exact single step.

Per optimiser step one response per prompt is drawn from ptilde = a p + (1 - a) q (p: teacher, q: student), and with
r_t = log p(y_t) - log q(y_t) held fixed

    A_t   = whiten( 1/(T-t+1) sum_{t'>=t} gamma^(t'-t) clip(r_t' / s, +-c) )          over all tokens of the step
    rho_t = w_t q(y_t) / q_old(y_t),   w_t = q_old(y_t) / ptilde(y_t)
    L     = mean_t max(-A_t rho_t, -A_t clip(rho_t, 1-e, 1+e))  +  mean_t KL(q(.|s_t) || p(.|s_t))

Paper: Gu, Dong, Wei and Huang 2024, arXiv 2306.08543; the details (gamma = 0.95, s = 0.5, c = 100, w inside the clip,
A includes r_t, whitening) are those of the authors' code. Departures: one pass over each batch of responses
instead of four, no pre-training loss, whitening over response tokens only (theirs includes padding).
``long_term=False`` keeps the second term alone: on-policy reverse KL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness.contracts.method import LEARNING_RATE, Batch, Loss, Method, Needs, Rollouts, Tensors, Term
from harness.contracts.options import Positive, PositiveTemperature, Share, ShareBelowOne, options

if TYPE_CHECKING:
    from torch import Tensor


@options
class MinillmOptions:
    long_term: bool = True
    """Whether to add the policy-gradient term; without it the loss is the exact single-step reverse KL."""
    teacher_mix: ShareBelowOne = 0.2
    """a, the teacher's share in the distribution that the responses are drawn from."""
    temperature: PositiveTemperature = 1.0
    """Temperature of that distribution. The loss is always of the student at temperature 1."""
    gamma: Share = 0.95
    """Discount of later rewards."""
    length_normalise: bool = True
    """Divide the reward to go of a token by the tokens that are left, itself included: a mean instead of a sum (always
    so in the authors' code; without it early tokens of long answers have the largest advantages)."""
    reward_scale: Positive = 0.5
    """s, divides the rewards before they are clipped."""
    reward_clip: Positive = 100.0
    """c, bounds the scaled reward of a token."""
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """e, the PPO clip of the ratio."""


def weigh(batch: Batch, logps: Tensors, config: MinillmOptions) -> dict[str, Tensor]:
    """``advantage`` A_t, importance ``weight`` w_t and ``old`` log q_old(y_t), [N] each, for the whole step."""
    rewards = (logps["teacher"] - logps["student"]) / config.reward_scale
    to_go = discounted_rewards(rewards.clamp(-config.reward_clip, config.reward_clip), batch, config.gamma)
    if config.length_normalise:
        to_go = to_go / (batch.lengths[batch.row] - batch.position)
    # 1e-8: a step in which all rewards are equal has variance 0, and then every advantage is 0.
    advantage = (to_go - to_go.mean()) * (to_go.var(unbiased=False) + 1e-8).rsqrt()
    # The tokens were drawn from the mixture with the teacher, the gradient is the student's: hence the weight.
    weight = (logps["student"] - logps["behaviour"]).exp()
    return {"advantage": advantage, "weight": weight, "old": logps["student"]}


def discounted_rewards(rewards: Tensor, batch: Batch, gamma: float) -> Tensor:
    """[N] -> [N] discounted reward to go within each row: sum_{t'>=t} gamma^(t'-t) r_t'."""
    # Row by position, so that one walk from the right serves all rows; padding holds 0 and adds nothing.
    padded = rewards.new_zeros(len(batch.lengths), int(batch.lengths.max()))
    padded[batch.row, batch.position] = rewards
    to_go = padded.clone()
    for t in range(padded.shape[1] - 2, -1, -1):
        to_go[:, t] += gamma * to_go[:, t + 1]
    return to_go[batch.row, batch.position]


def token_terms(logits: Tensor, labels: Tensor, teacher: Tensor, config: MinillmOptions) -> dict[str, Tensor]:
    """``logp`` of each drawn token and the exact ``kl`` = KL(q || p) at its position, nats, [c] each."""
    q, p = logits.log_softmax(-1), teacher.log_softmax(-1)
    return {"logp": q.gather(-1, labels[:, None])[:, 0], "kl": (q.exp() * (q - p)).sum(-1)}


def loss(batch: Batch, terms: Tensors, config: MinillmOptions) -> Loss:
    single = Term("kl", terms["kl"].sum(), per="token")
    if not config.long_term:
        return Loss((single,))
    advantage = batch.tokens["advantage"]
    ratio = batch.tokens["weight"] * (terms["logp"] - batch.tokens["old"]).exp()
    clipped_ratio = ratio.clamp(1 - config.clip, 1 + config.clip)
    # PPO's pessimistic bound: of the two losses the larger, so clipping never hides that a step made things worse.
    policy = (-advantage * ratio).maximum(-advantage * clipped_ratio)
    return Loss((Term("policy", policy.sum(), per="token"), single))


METHOD = Method(
    name="minillm",
    title="MiniLLM",
    paper="Gu, Dong, Wei and Huang 2024, MiniLLM: Knowledge Distillation of Large Language Models, arXiv 2306.08543",
    needs=Needs(responses=("rollouts",), signal="token"),
    config=MinillmOptions,
    rows=lambda group, config: (),  # the student answers live
    loss=loss,
    token_terms=token_terms,
    rollouts=Rollouts(lambda config: (config.temperature, config.teacher_mix), weigh),
    space={
        **LEARNING_RATE,
        "teacher_mix": "uniform(0, 0.5)",  # the paper's is 0.2, and 0 is its ablation
        "gamma": "uniform(0, 1)",  # between the token's own reward alone and the paper's undiscounted sum
    },
)
