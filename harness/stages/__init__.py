"""The table of stage kinds, in the order in which data flow through them."""

from __future__ import annotations

from harness.stages.kind import StageKind
from harness.stages.kinds import answer, contamination, judge, prompts, reward, sample, score, stored_signals, train

STAGES: dict[str, StageKind] = {
    kind.name: kind
    for kind in (
        prompts.PROMPTS,
        contamination.KIND,
        sample.SAMPLE,
        sample.SPLIT_POOL,
        prompts.DATASET_PAIRS,
        reward.KIND,
        stored_signals.REFERENCE,
        stored_signals.DISTRIBUTIONS,
        train.KIND,
        answer.KIND,
        judge.KIND,
        score.KIND,
    )
}
