"""PAD-PPD (probabilistic preference distillation): match the teacher's distribution over rankings.

P, Q: Plackett-Luce distributions over all n! rankings with scores beta rhat (teacher, PAD Eq. 9) and beta_s r (student,
r(y) = mean log-probability); M = (P + Q) / 2:

    L = JSD(P, Q) = ( KL(P || M) + KL(Q || M) ) / 2

Mean over prompts; beta_s = beta. PAD, arXiv 2502.14272, Eqs. 11-12. The authors' released code minimises
( KL(M || P) + KL(M || Q) ) / 2 instead, which is ``divergence="ag"``.

Two options are not in the paper.

``student_beta`` is beta_s. The JSD is flat where P and Q are sharp and disagree, and mean log-probabilities of short
answers lie far apart: at one beta, a teacher that is sharp enough comes with a student that is too sharp to learn.

``standardise_teacher``: scores beta (rhat - m) / s, with m and s the mean and standard deviation of the group's rhat.
beta is then the teacher's sharpness in every group, whatever alpha and the units of rhat. Ratios of margins within a
group remain; that the teacher is surer of one prompt than of another is lost (Liu et al. 2025, arXiv 2503.20783, object
to the same division in GRPO: it gives the closest groups too much weight). The student is not divided by its own spread
(as in Sun et al. 2024, arXiv 2403.01427, where cross-entropy sets the scale): the loss would be the same for r and 2r,
so no gradient would widen a margin. With n = 2 its scores would be 1 and -1 at any margin, and the gradient 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness.contracts.method import LEARNING_RATE, Batch, Loss, Method, Needs, Tensors, Term
from harness.contracts.options import Positive, Share, options, require
from methods import ranking

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = {"exact": 8, "mc": 64}
"""Numerics to the largest n that they take: 8! rankings are 40,320, and 9! would need 2.6 MB per prompt and model."""
SMALLEST_SPREAD = 1e-3
"""Nats, of rhat in a group. A teacher's smaller differences are rounding, and are not made larger than by this."""


@options
class PadPpdOptions:
    alpha: Share = 0.8
    """Share of log p_sel in the calibrated reward; the rest is the teacher's mean log-probability (PAD Eq. 9)."""
    beta: Positive = 10.0
    """Scale of the teacher's reward, and of the student's unless ``student_beta`` is set."""
    student_beta: Positive | None = None
    """beta_s, scale of the student's mean log-probabilities; ``null``: beta, as in the paper."""
    standardise_teacher: bool = False
    """Divide the teacher's rewards of a group by their standard deviation (not in the paper): beta is then the same
    sharpness for every group, alpha and teacher. The likeliest ranking of four equally spaced responses has probability
    0.27 at beta = 1 and 0.81 at 3, so use a smaller beta than the paper's, and a ``student_beta``."""
    divergence: Literal["jsd", "ag", "kl_ts", "kl_st"] = "jsd"
    """``jsd``: the paper. ``ag``: the released code. ``kl_ts``: KL(teacher || student). ``kl_st``: the reverse."""
    numerics: Literal["exact", "mc"] = "exact"
    """How the JSD is summed. ``exact``: over all rankings, n <= 8. ``mc``: from drawn rankings, with an unbiased
    gradient, n <= 64."""
    draws: Annotated[int, Field(ge=2, le=100_000)] = 256
    """Rankings drawn per prompt and distribution, with ``numerics: mc``."""

    def __post_init__(self) -> None:
        fits = self.numerics == "exact" or self.divergence == "jsd"
        require(fits, f"numerics = {self.numerics!r} is for divergence 'jsd', not {self.divergence!r}")


def check(config: PadPpdOptions, n: int) -> None:
    ranking.require_several(config, n)
    limit = LARGEST[config.numerics]
    remedy = "; numerics 'mc' (with divergence 'jsd') takes up to 64" if limit < n <= LARGEST["mc"] else ""
    require(n <= limit, f"pad-ppd: {n} responses per prompt; numerics {config.numerics!r} takes up to {limit}{remedy}")


def standardised(scores: Tensor) -> Tensor:
    """[B, n] -> [B, n] with mean 0 and standard deviation 1 (over n) in each group; all 0 where all are equal."""
    centred = scores - scores.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt().clamp_min(SMALLEST_SPREAD)


def loss(batch: Batch, terms: Tensors, config: PadPpdOptions) -> Loss:
    from methods import plackett_luce

    scores = batch.per_prompt(batch.signals["score"])
    rewards = batch.per_prompt(batch.mean_rows(terms["logp"]))
    # float64: at beta = 10 the scores of one prompt lie tens of nats apart, and n! terms are summed.
    preferences = standardised(scores.double()) if config.standardise_teacher else scores.double()
    student_beta = config.beta if config.student_beta is None else config.student_beta
    teacher, student = config.beta * preferences, student_beta * rewards.double()
    if config.numerics == "mc":
        # Of the scores as they came: standardised pairs are all alike, and would all get the same noise.
        values = plackett_luce.jsd_mc(teacher, student, plackett_luce.gumbel_noise(scores.double(), config.draws))
    else:
        values = plackett_luce.DIVERGENCES[config.divergence](teacher, student)
    divergence = Term("divergence", values.sum().to(rewards.dtype), per="prompt")
    return Loss((divergence,), ranking.order_logs(rewards, scores))


METHOD = Method(
    name="pad-ppd",
    title="PAD w/ PPD",
    paper="Capturing Nuanced Preferences: Preference-Aligned Distillation for Small Language Models, arXiv 2502.14272",
    needs=Needs(responses=("samples",), signal="response", rounds=True),
    config=PadPpdOptions,
    rows=lambda group, config: ranking.scored_rows(group, config.alpha, best_first=False),
    loss=loss,
    check=check,
    space={
        **LEARNING_RATE,
        "alpha": "uniform(0, 1)",  # the paper's Figure 5
        "beta": "log(0.1, 30)",  # the paper's Table 4: 1 to 10, and 10 was chosen, the end of that range
        "student_beta": "log(0.1, 30)",  # as wide
    },
)
