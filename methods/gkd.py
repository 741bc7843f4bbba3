"""GKD: generalised knowledge distillation, a generalised Jensen-Shannon divergence on partly the student's own answers.

    L = mean_t JSD_beta( p(. | s_t) || q(. | s_t) )
    JSD_beta(p || q) = beta KL(p || m) + (1 - beta) KL(q || m),    m = beta p + (1 - beta) q

p: teacher, q: student. With probability lambda a step trains on answers just sampled from the student (no gradient
through sampling), otherwise on reference answers (Agarwal et al. 2024, arXiv 2306.13649, Eq. 1, Algorithm 1). Mean
over the step's response tokens. beta = 0 and 1 mean KL(p || q) and KL(q || p), the limits of JSD_beta / beta and
JSD_beta / (1 - beta), as in TRL.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.contracts.method import (
    LEARNING_RATE,
    Batch,
    DroppedPrompt,
    Loss,
    Method,
    Needs,
    Rollouts,
    Row,
    Tensors,
    Term,
)
from harness.contracts.options import PositiveTemperature, Share, options
from harness.types import Group
from methods.kd import reference_rows

if TYPE_CHECKING:
    from torch import Tensor


@options
class OnPolicyOptions:
    on_policy: Share = 0.5
    """lambda, the probability that a step trains on the student's own answers; TRL's default. 1: on nothing else."""
    sampling_temperature: PositiveTemperature = 1.0
    """Sampling temperature of the student's own answers; the paper's."""


@options
class GkdOptions(OnPolicyOptions):
    beta: Share = 0.5
    """Interpolation of the divergence: 0 is KL(teacher || student), 1 is KL(student || teacher)."""
    temperature: PositiveTemperature = 1.0
    """Divides both models' logits in the divergence (no factor tau^2: the paper has none)."""


def rows(group: Group, config: OnPolicyOptions) -> Sequence[Row] | DroppedPrompt:
    """The reference answer, for the steps that are not on-policy; none where all are."""
    return () if config.on_policy == 1 else reference_rows(group)


# The teacher's share in the sampling distribution is 0: the student answers alone.
ROLLOUTS: Rollouts[OnPolicyOptions] = Rollouts(
    lambda config: (config.sampling_temperature, 0.0), share=lambda config: float(config.on_policy)
)


def divergence(p: Tensor, q: Tensor, beta: float) -> Tensor:
    """[c, V] log-probabilities of teacher and student -> [c] JSD_beta, nats."""
    import torch

    # At 0 and 1 the mixture is one of the two models and JSD_beta is 0: the limits of the docstring are taken instead.
    if beta == 0:
        return (p.exp() * (p - q)).sum(-1)
    if beta == 1:
        return (q.exp() * (q - p)).sum(-1)
    m = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    return (beta * p.exp() * (p - m) + (1 - beta) * q.exp() * (q - m)).sum(-1)


def token_terms(logits: Tensor, labels: Tensor, teacher: Tensor, config: GkdOptions) -> dict[str, Tensor]:
    """``jsd`` between the models at each position, nats, [c]."""
    q, p = ((scores / config.temperature).log_softmax(-1) for scores in (logits, teacher))
    return {"jsd": divergence(p, q, config.beta)}


def loss(batch: Batch, terms: Tensors, config: GkdOptions) -> Loss:
    return Loss((Term("jsd", terms["jsd"].sum(), per="token"),))


METHOD = Method(
    name="gkd",
    title="GKD",
    paper="Agarwal et al. 2024, On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes, "
    "arXiv 2306.13649",
    needs=Needs(responses=("golden", "rollouts"), signal="token"),
    config=GkdOptions,
    rows=rows,
    loss=loss,
    token_terms=token_terms,
    rollouts=ROLLOUTS,
    row_fields=("on_policy",),
    space={
        **LEARNING_RATE,
        "beta": "uniform(0, 1)",
        "on_policy": "{0, 0.5, 1}",  # the paper's lambdas
    },
)
