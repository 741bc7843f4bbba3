"""What GKD and DistiLLM share: some steps train on answers that the student has just given, the others on golden ones.

GKD's Algorithm 1 (Agarwal et al. 2024, arXiv 2306.13649) with a golden answer where it trains on a fixed data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from harness.contracts.method import Dropped, Rollouts, Row
from harness.types import Group


class OnPolicyOptions(Protocol):
    """What the config of such a method has."""

    @property
    def on_policy(self) -> float:
        """Probability that a step trains on the student's own answers."""

    @property
    def sampling_temperature(self) -> float:
        """Of these answers."""


def rows(group: Group, config: OnPolicyOptions) -> Sequence[Row] | Dropped:
    """The golden answer, for the steps that are not on-policy; none where all are."""
    if config.on_policy == 1:
        return ()
    if not (group.prompt.golden or "").strip():
        return Dropped("no golden answer")
    return [Row(str(group.prompt.golden))]


def sampling(config: OnPolicyOptions) -> tuple[float, float]:
    """(temperature, teacher mix): the student answers alone."""
    return config.sampling_temperature, 0.0


def share(config: OnPolicyOptions) -> float:
    """Of the steps that are live."""
    return float(config.on_policy)


ROLLOUTS = Rollouts(sampling, share=share)
