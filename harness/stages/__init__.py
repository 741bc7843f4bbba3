"""What each kind of stage does: one file per arrow of the way of the data, one function ``run(stage, work) -> counts``.

A function reads its inputs from the store, writes its output into ``work.folder`` and returns what it measured.
The table below is all that the executor knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.stage import Stage
from harness.stages import (
    answer,
    block,
    distributions,
    judge,
    overlap,
    pairs,
    prompts,
    reference,
    reward,
    sample,
    score,
    train,
)
from harness.stages.work import Work

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
