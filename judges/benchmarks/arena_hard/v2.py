"""Arena-Hard v2.0: 500 newer hard prompts against o3-mini-2025-01-31, and 250 of creative writing against
gemini-2.0-flash-001.

lmarena/arena-hard-auto from 2025-04. Games, labels and weights are those of v0.1; the last label of a reply counts, a
judge without one is not asked again, and the scorer is that of 2025-06. As on the official leaderboard each category
is a column of its own: ``arena_hard_v2`` the hard prompts, with the judge prompt of v0.1; ``arena_hard_v2_writing`` the
creative ones, with the same prompt without the judge's own answer.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from harness.contracts.benchmark import Metric
from harness.contracts.options import Count, options, require
from harness.errors import UserError
from judges.benchmarks.arena_hard.benchmark import PROMPT_FILE, ArenaHard, ArenaHardConfig, ArenaHardVersion
from judges.benchmarks.arena_hard.protocol import Scorer, read_last_label

_QUESTIONS = "arena_hard_v2.0/question.jsonl"
_WRITING_PROMPT = "171489efbca7f19fb520e1b3c23783c76af7c723e770fe897a55f391684aa358"
"""sha256 of the published system prompt for creative writing (``utils/judge_utils.py`` of arena-hard-auto)."""


def writing_prompt(system: str) -> str:
    """The system prompt for creative writing: that of v0.1 without the judge's own answer.

    Raises UserError when the result is not the published text, because ``system`` is not the prompt of v0.1.
    """
    paragraphs = [text for text in system.split("\n\n") if not text.startswith("Begin your evaluation by")]
    writing = "\n\n".join(paragraphs).replace("both assistants' answers with your answer.", "both assistants' answers.")
    if hashlib.sha256(writing.encode()).hexdigest() != _WRITING_PROMPT:
        raise UserError(f"{PROMPT_FILE} does not hold the system prompt of Arena-Hard v0.1: pull it again.")
    return writing


V20 = ArenaHardVersion(
    "Arena-Hard v2.0, hard prompts",
    _QUESTIONS,
    "o3-mini-2025-01-31",
    "arena_hard_v2.0/model_answer/o3-mini-2025-01-31.jsonl",
    "gpt-4.1",
    "hard_prompt",
    read_last_label,
)
WRITING = ArenaHardVersion(
    "Arena-Hard v2.0, creative writing",
    _QUESTIONS,
    "gemini-2.0-flash-001",
    "arena_hard_v2.0/model_answer/gemini-2.0-flash-001.jsonl",
    "gpt-4.1",
    "creative_writing",
    read_last_label,
    writing_prompt,
    _WRITING_PROMPT[:12],
)


@options
class ArenaHardV2Config(ArenaHardConfig):
    """Options of Arena-Hard v2.0 in a recipe."""

    questions: Literal["pocket", "official"] = "official"
    """Only ``official``: the questions of v2.0, read from the assets."""
    scorer: Scorer = "2025-06"
    """Which official script: they differ in what is dropped when a game has no verdict."""
    judge_max_tokens: Count = 16_000
    """Longest verdict text, tokens."""
    ask_again: bool = False
    """Ask a judge that wrote no label once more, as the script of v0.1 does (that of 2025 does not)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.questions == "official", "questions must be official: the pocket questions belong to arena_hard")


BENCHMARK = ArenaHard(
    Metric("arena_hard_v2.wr", "WR (%)", "Arena-Hard v2.0", margin=2.0), ArenaHardV2Config, V20, version=2
)
WRITING_BENCHMARK = ArenaHard(
    Metric("arena_hard_v2_writing.wr", "WR (%)", "Arena-Hard v2.0 (writing)"), ArenaHardV2Config, WRITING
)
