"""What each kind of stage does: one file per arrow of the way of the data, one function ``run(stage, work) -> counts``.

A function reads its inputs from the store, writes its output into ``work.folder`` and returns what it measured.
The table below is all that the executor knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.contracts.stage import Stage
from harness.stages import answer, judge, prompts, reward, sample, score, train
from harness.stages import contamination as overlap
from harness.stages import dataset_pairs as pairs
from harness.stages import reference_logps as reference
from harness.stages import split_pool as block
from harness.stages import teacher_distributions as distributions
from harness.stages.context import Work

RunStage = Callable[[Stage, Work], Mapping[str, Any]]

STAGES: dict[str, RunStage] = {
    "prompts": prompts.run,
    "overlap": overlap.run,
    "sample": sample.run,
    "block": block.run,
    "reward": reward.run,
    "pairs": pairs.run,
    "reference": reference.run,
    "distributions": distributions.run,
    "train": train.run,
    "answer": answer.run,
    "judge": judge.run,
    "score": score.run,
}
