"""Standard knowledge distillation: match the teacher's next-token distribution on reference answers.

    L = (1 - lambda) * CE(y*) + lambda * tau^2 * KL(p^tau || q^tau),    p^tau = softmax(z / tau)

Mean over the response tokens of the whole step. p: teacher (frozen), q: student. The teacher is live, or with ``top_k``
stored as its k most probable tokens with the mass of all others; q is then folded alike. Hinton et al. 2015, arXiv
1503.02531; lambda = 0.5: Gu et al. 2024 (MiniLLM). PAD's code: the reverse direction, one position late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

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
from harness.contracts.options import PositiveTemperature, Share, Tokens, options
from harness.types import Group

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.method import TopK

FLOOR = 1e-7
"""Smallest mass of the rest, as in the store: below it float32 cannot tell it from nothing."""


@options
class KdOptions:
    weight: Share = 0.5
    """lambda, the share of the divergence; the rest is cross-entropy on the reference answer."""
    temperature: PositiveTemperature = 1.0
    """tau, divides both models' logits; the divergence is multiplied by its square."""
    direction: Literal["forward", "reverse"] = "forward"
    """``forward``: KL(teacher || student). ``reverse``: KL(student || teacher), what PAD's released code computes."""
    top_k: Tokens | None = None
    """``null``: a live teacher and the whole vocabulary. A number: so many tokens are stored at each position, with one
    bin for the rest (PAD's released code: 100)."""


def reference_rows(group: Group, config: object = None) -> Sequence[Row] | DroppedPrompt:
    if not (group.prompt.golden or "").strip():
        return DroppedPrompt("no golden answer")
    return [Row(str(group.prompt.golden))]


def bins(top: TopK) -> Tensor:
    import torch

    return torch.cat([top.logps, top.rest_logps[:, None]], 1)


def fold(logps: Tensor, top: TopK) -> Tensor:
    """[c, V] log-probabilities -> [c, k + 1]: those of the teacher's k tokens and of all others together."""
    import torch

    chosen = logps.gather(-1, top.ids)
    top_mass = chosen.double().logsumexp(-1).exp()  # float64: a small rest is the difference of two numbers near 1
    rest_logp = torch.log1p(-top_mass.clamp(max=1 - FLOOR)).to(chosen.dtype)
    return torch.cat([chosen, rest_logp[:, None]], 1)


def token_terms(
    logits: Tensor, labels: Tensor, teacher: Tensor | Mapping[str, TopK], config: KdOptions
) -> dict[str, Tensor]:
    """``logp`` of each label (at temperature 1) and ``kl`` between the models (at tau), nats, [c] each."""
    q = (logits / config.temperature).log_softmax(-1)
    if isinstance(teacher, Mapping):
        # The store was made at tau (``DistributionStorage.temperature``): only the student's logits are divided here.
        p, q = bins(teacher["family"]), fold(q, teacher["family"])
    else:
        p = (teacher / config.temperature).log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1) if config.direction == "forward" else (q.exp() * (q - p)).sum(-1)
    return {"logp": logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0], "kl": kl}


def loss(batch: Batch, terms: Tensors, config: KdOptions) -> Loss:
    # Gradients of the softened divergence shrink as 1 / tau^2 (Hinton et al., section 2): the factor keeps the balance
    # of the two terms when tau changes.
    return Loss(
        (
            Term("ce", -(1 - config.weight) * terms["logp"].sum(), per="token"),
            Term("kl", config.weight * config.temperature**2 * terms["kl"].sum(), per="token"),
        )
    )


METHOD = Method(
    name="kd",
    title="Standard KD",
    paper="Hinton, Vinyals and Dean 2015, Distilling the Knowledge in a Neural Network, arXiv 1503.02531",
    needs=Needs(responses=("golden",), signal="token"),
    config=KdOptions,
    rows=reference_rows,
    loss=loss,
    token_terms=token_terms,
    storage=lambda config: None if config.top_k is None else DistributionStorage(config.top_k, config.temperature),
    space={
        **LEARNING_RATE,
        "weight": "uniform(0, 1)",
        "temperature": "log(1, 8)",  # Hinton et al., section 3: above 8 alike, 2.5 to 4 best for small students
    },
)
