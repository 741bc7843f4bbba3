"""The table of stage kinds, one file each, in the order in which data flow through them."""

from __future__ import annotations

from harness.stages.kind import StageKind
from harness.stages.kinds import (
    answer,
    contamination,
    dataset_pairs,
    judge,
    prompts,
    reference_logps,
    reward,
    sample,
    score,
    split_pool,
    teacher_distributions,
    train,
)

STAGES: dict[str, StageKind] = {
    module.KIND.name: module.KIND
    for module in (
        prompts,
        contamination,
        sample,
        split_pool,
        dataset_pairs,
        reward,
        reference_logps,
        teacher_distributions,
        train,
        answer,
        judge,
        score,
    )
}
