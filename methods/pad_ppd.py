"""PAD-PPD (probabilistic preference distillation): match the teacher's distribution over rankings.

P, Q: Plackett-Luce distributions over all n! rankings with scores beta rhat (teacher) and beta r (student,
r(y) = mean log-probability); M = (P + Q) / 2:

    L = JSD(P, Q) = ( KL(P || M) + KL(Q || M) ) / 2

Mean over prompts. Paper: Capturing Nuanced Preferences: Preference-Aligned Distillation, 2025, arXiv 2502.14272,
Eqs. 11-12; rhat: Eq. 9. The authors' released code minimises ( KL(M || P) + KL(M || Q) ) / 2 instead, which is
``divergence="ag"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from harness.contracts.method import Batch, Dropped, Loss, Method, Needs, Row, Term
from harness.contracts.options import options, require
from harness.types import Group
from methods import ranking

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = {"jsd": 10, "ag": 10, "kl_ts": 14, "kl_st": 14}
"""Divergence to the largest n that is computed exactly in reasonable time: n! rankings, or 2^n sets for the KLs."""
BEYOND = {"cf": 14, "mc": 64}
"""Other numerics of the JSD to the largest n that they take."""


@options
class Config:
    """Options of PAD-PPD."""

    alpha: float = 0.8
    """Share of log p_sel in the calibrated reward; the rest is the teacher's mean log-probability (PAD Eq. 9)."""
    beta: float = 10.0
    """Scale of both rewards."""
    divergence: Literal["jsd", "ag", "kl_ts", "kl_st"] = "jsd"
    """``jsd``: the paper. ``ag``: the released code. ``kl_ts``: KL(teacher || student). ``kl_st``: the reverse."""
    numerics: Literal["exact", "cf", "mc"] = "exact"
    """How the JSD is summed. ``exact``: over all rankings, n <= 10. ``cf``: an integral over its characteristic
    function, to some 1e-13, n <= 14. ``mc``: from drawn rankings, with an unbiased gradient, n <= 64."""
    draws: int = 256
    """Rankings drawn per prompt and distribution, with ``numerics: mc``."""

    def __post_init__(self) -> None:
        require(0 <= self.alpha <= 1, f"pad-ppd: alpha = {self.alpha} must lie in [0, 1]")
        require(self.beta > 0, f"pad-ppd: beta = {self.beta} must be above 0")
        choices = ", ".join(LARGEST)
        require(self.divergence in LARGEST, f"pad-ppd: divergence = {self.divergence!r}; choices: {choices}")
        kinds = ("exact", *BEYOND)
        require(self.numerics in kinds, f"pad-ppd: numerics = {self.numerics!r}; choices: {', '.join(kinds)}")
        alone = self.numerics == "exact" or self.divergence == "jsd"
        require(alone, f"pad-ppd: numerics = {self.numerics!r} is for divergence 'jsd', not {self.divergence!r}")
        require(self.draws >= 2, f"pad-ppd: draws = {self.draws} must be at least 2")

    @property
    def largest(self) -> int:
        """How many responses per prompt these options take."""
        return LARGEST[self.divergence] if self.numerics == "exact" else BEYOND[self.numerics]


def check(config: Config, n: int) -> None:
    """Raises UserError where n responses are too few, or too many for the divergence."""
    ranking.several(config, n)
    limited(config, n)


def limited(config: Config, n: int) -> None:
    """Raises UserError where n responses are too many for the divergence."""
    how = f"divergence {config.divergence!r} with numerics {config.numerics!r}"
    fit = [f"numerics {name!r} (to {limit})" for name, limit in BEYOND.items() if n <= limit]
    others = f"; for 'jsd': {', '.join(fit)}" if fit else ""
    require(n <= config.largest, f"pad-ppd: {n} responses per prompt; {how} takes at most {config.largest}{others}")


def rows(group: Group, config: Config) -> Sequence[Row] | Dropped:
    """All samples, as sampled. Raises UserError where there are too many for the divergence."""
    limited(config, len(group.samples))
    return ranking.scored_rows(group, ranking.calibrated_rewards(group.samples, config.alpha))


def divergences(teacher: Tensor, student: Tensor, config: Config) -> Tensor:
    """[B, n] scores of both, beta included -> [B], nats."""
    from methods import plackett_luce, plackett_luce_large

    if config.numerics == "cf":
        return plackett_luce_large.jsd_cf(teacher, student)
    if config.numerics == "mc":
        return plackett_luce_large.jsd_mc(teacher, student, plackett_luce_large.gumbel_noise(teacher, config.draws))
    if config.divergence == "jsd":
        return plackett_luce.jsd(teacher, student)
    if config.divergence == "ag":
        return plackett_luce.ag(teacher, student)
    pair = (teacher, student) if config.divergence == "kl_ts" else (student, teacher)
    return plackett_luce.kl(*pair)


def loss(batch: Batch, terms: Mapping[str, Tensor], config: Config) -> Loss:
    """Divergence of the two distributions over rankings, in float64, mean over prompts."""
    scores = batch.per_prompt(batch.signals["score"])
    rewards = batch.per_prompt(batch.mean_rows(terms["logp"]))
    teacher, student = config.beta * scores.double(), config.beta * rewards.double()
    total = divergences(teacher, student, config).sum().to(rewards.dtype)
    logs = {"agreement": ranking.agreement(rewards.detach(), scores), "ties": ranking.tied(scores)}
    return Loss((Term("divergence", total, per="prompt"),), logs)


METHOD = Method(
    name="pad-ppd",
    title="PAD w/ PPD",
    paper="Capturing Nuanced Preferences: Preference-Aligned Distillation for Small Language Models, arXiv 2502.14272",
    needs=Needs(responses=("samples",), signal="response", rounds=True),
    config=Config,
    rows=rows,
    loss=loss,
    check=check,
)
