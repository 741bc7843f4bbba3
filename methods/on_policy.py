"""What GKD and DistiLLM share: some steps train on answers that the student has just given, the others on golden ones.

GKD's Algorithm 1 (Agarwal et al. 2024, arXiv 2306.13649) with a golden answer where it trains on a fixed data set.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.contracts.method import Dropped, Rollouts, Row
from harness.contracts.options import Positive, Share, options
from harness.types import Group
from methods.kd import golden


@options
class OnPolicyOptions:
    """The options that such methods have in common."""

    on_policy: Share = 0.5
    """lambda, the probability that a step trains on the student's own answers; TRL's default. 1: no golden ones."""
    sampling_temperature: Positive = 1.0
    """Of the student's own answers; the paper's."""


def rows(group: Group, config: OnPolicyOptions) -> Sequence[Row] | Dropped:
    """The golden answer, for the steps that are not on-policy; none where all are."""
    if config.on_policy == 1:
        return ()
    return golden(group)


# The teacher's share in the sampling distribution is 0: the student answers alone.
ROLLOUTS: Rollouts[OnPolicyOptions] = Rollouts(
    lambda config: (config.sampling_temperature, 0.0), share=lambda config: float(config.on_policy)
)
