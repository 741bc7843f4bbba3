"""Arena-Hard v2.0: 500 newer hard prompts against o3-mini-2025-01-31; games, labels and scorers as in v0.1.

lmarena/arena-hard-auto from 2025-04. Of its two categories this is ``hard_prompt``, judged with the prompt of v0.1;
``creative_writing`` has a judge prompt and a baseline of its own and is not offered. The scorer is the one of 2025-06.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.benchmark import Benchmark, Metric
from judges.arena_hard import ArenaHard, ArenaHardConfig, ArenaSet, Scorer
from judges.common import QuestionSet

V20 = ArenaSet(
    "Arena-Hard v2.0, hard prompts",
    "arena_hard_v2.0/question.jsonl",
    "o3-mini-2025-01-31",
    "arena_hard_v2.0/model_answer/o3-mini-2025-01-31.jsonl",
    "gpt-4.1",
    "hard_prompt",
    ("The category creative_writing is left out.", "The judge prompt is that of v0.1."),
)


@dataclass(frozen=True)
class ArenaHardV2Config(ArenaHardConfig):
    """Options of Arena-Hard v2.0 in a recipe."""

    questions: QuestionSet = "official"
    """Only ``official``: the hard prompts of v2.0, read from the assets."""
    scorer: Scorer = "2025-06"
    """Which official script: they differ in what is dropped when a game has no verdict."""
    judge_max_tokens: int = 16_000
    """Longest verdict text, tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.questions != "official":
            raise ValueError("questions must be official: the pocket questions belong to arena_hard")


BENCHMARK: Benchmark = ArenaHard(
    "arena_hard_v2",
    (Metric("arena_hard_v2.wr", "WR (%)", "Arena-Hard v2.0", margin=2.0),),
    ArenaHardV2Config,
    V20,
)
