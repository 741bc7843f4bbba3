"""ADPA: push the student towards tokens that preference tuning made more probable in the teacher.

At each state of an answer yhat that the student gave before training, with pi the preference-tuned teacher, pi_ref the
same teacher before tuning, q the student and y_w the dataset's chosen answer:

    A(a | s_t) = log pi(a | s_t) - log pi_ref(a | s_t)
    L          = NLL(y_w) - gamma * mean_{t in yhat} sum_a q(a | s_t) A(a | s_t)

Gradient through all of q; the states are fixed. -E_q[A] = KL(q || pi) - KL(q || pi_ref) has no lower bound: the
cross-entropy and, if wanted, ``clip_advantage`` hold it. Both teachers are computed once, at the tuned one's 50 most
probable tokens; all others have advantage 0. gamma = 1.6, k = 50 and the greedy yhat are the first author's code (arXiv
2502.17927). Departures from it: both teachers are evaluated at the same tokens (there, tokens outside of the
reference's own 50 get a made-up value), and no clamp to [0, 1] unless ``clip_advantage="unit"``.
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
from harness.contracts.options import NotNegative, Tokens, options, require
from harness.types import Group
from methods.kd import bins, fold

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts.method import TopK

UNIT = (1e-8, 1 - 1e-8)
"""Of the released code: negative advantages become 0, positive ones saturate at 1."""


@options
class AdpaOptions:
    gamma: NotNegative = 1.6
    """Weight of the expected advantage."""
    clip_advantage: Literal["none", "unit"] | tuple[float, float] = "none"
    """``none``; ``unit``: to [0, 1], what the released code does; or bounds of your own, ``[-2, 2]``."""
    top_k: Tokens = 50
    """Tokens of the tuned teacher's distribution that are kept at each position."""
    rest_bin: bool = False
    """Whether all other tokens enter as one, with its own advantage; otherwise their advantage is 0."""

    def __post_init__(self) -> None:
        if not isinstance(self.clip_advantage, str):
            low, high = self.clip_advantage
            require(low < high, f"clip_advantage = [{low}, {high}] must have low < high")


def rows(group: Group, config: AdpaOptions) -> Sequence[Row] | DroppedPrompt:
    if not (group.prompt.golden or "").strip():
        return DroppedPrompt("no golden answer")
    if not group.samples:
        return DroppedPrompt("no student answer")
    answer = group.samples[0]  # one greedy answer is drawn unless the recipe says otherwise (``NEEDS.sampling``)
    if not answer.text.strip():
        return DroppedPrompt("student answer empty")
    return [Row(str(group.prompt.golden), role="golden"), Row.of(answer, "own")]


def expected_advantage(logps: Tensor, teacher: Mapping[str, TopK], config: AdpaOptions) -> Tensor:
    """[c] sum_a q(a) A(a) over the stored tokens; ``logps``: the student's log-probabilities, [c, V]."""
    tuned, family = teacher["tuned"], teacher["family"]
    if config.rest_bin:
        q, advantage = fold(logps, tuned), bins(tuned) - bins(family)
    else:
        # Tokens outside of the store have advantage 0, so the student's probabilities need not sum to 1 here.
        q, advantage = logps.gather(-1, tuned.ids), tuned.logps - family.logps
    bounds = UNIT if config.clip_advantage == "unit" else config.clip_advantage
    if not isinstance(bounds, str):
        advantage = advantage.clamp(*bounds)
    return (q.exp() * advantage).sum(-1)


def token_terms(logits: Tensor, labels: Tensor, teacher: Mapping[str, TopK], config: AdpaOptions) -> dict[str, Tensor]:
    """``logp`` of each label and ``advantage`` expected under the student, nats, [c] each (0 for reference answers)."""
    logps = logits.log_softmax(-1)
    label = logps.gather(-1, labels[:, None])[:, 0]
    return {"logp": label, "advantage": expected_advantage(logps, teacher, config)}


def loss(batch: Batch, terms: Tensors, config: AdpaOptions) -> Loss:
    golden, students = batch.where_role("golden"), batch.where_role("own")
    return Loss(
        (
            Term("ce", -terms["logp"][golden].sum(), per="token:golden"),
            Term("advantage", -config.gamma * terms["advantage"][students].sum(), per="token:own"),
        )
    )


NEEDS = Needs(
    responses=("golden", "samples"),
    signal="token",
    teachers=("tuned", "family"),
    distribution_roles=("own",),
    sampling={"n": 1, "temperature": 0.0},
)

METHOD = Method(
    name="adpa",
    title="ADPA",
    paper="Gao et al. 2025, Advantage-Guided Distillation for Preference Alignment, arXiv 2502.17927",
    needs=NEEDS,
    config=AdpaOptions,
    rows=rows,
    loss=loss,
    token_terms=token_terms,
    storage=lambda config: DistributionStorage(config.top_k),
    space={**LEARNING_RATE, "gamma": "log(0.1, 10)"},  # the first author's code has 1.6
)
