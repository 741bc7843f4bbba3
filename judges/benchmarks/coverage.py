"""How many of the verdicts that a question was to have are there: what the coverage of a score counts.

The official scripts score a question of which one game, turn or order was read. Such a question counts in a score's
``n``; in its coverage it counts by the share of its verdicts that the score uses, so that a table refuses a score of
questions that are half judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats import Array
from harness.types import Judgment, Question


@dataclass(frozen=True)
class Given:
    """The verdicts of one model's answers, counted."""

    read: Array
    """[questions] verdicts that are there."""
    asked: Array
    """[questions] verdicts that there were to be; 0 where no judge was needed."""

    @property
    def share(self) -> Array:
        """[questions] of 0..1."""
        return np.where(self.asked > 0, self.read / np.maximum(self.asked, 1.0), 1.0)

    def detail(self, used: Array) -> dict[str, float]:
        """What a score says of it: verdicts, how many are missing, and ``Score.covered``.

        Args:
            used: [questions] the share of a question's verdicts that the score uses, 0..1.
        """
        return {
            "verdicts": float(self.asked.sum()),
            "verdicts_missing": float((self.asked - self.read).sum()),
            "questions_covered": float(used.sum()),
        }


def given(questions: Sequence[Question], judgments: Sequence[Judgment], parts: Sequence[str]) -> Given:
    """One verdict is asked per question, part and repeat; an answer that nobody judged lacks all of them."""
    repeats = 1 + max((judgment.repeat for judgment in judgments), default=0)
    there = {(each.question, each.part, each.repeat) for each in judgments if each.verdict is not None}
    read = Counter(question for question, part, _ in there if part in parts)
    return Given(
        np.array([read[question.id] for question in questions], dtype=float),
        np.full(len(questions), float(len(parts) * repeats)),
    )
