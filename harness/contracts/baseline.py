"""Another baseline: a model's own answers in the place of the official baseline's, for pairwise benchmarks.

Small students sit on the floor against GPT-4; against each other they can be told apart. Such a number is not official
and says so in its note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.errors import UserError
from harness.text import counted
from harness.types import Answer, Question, Score


def against(questions: Sequence[Question], answers: Sequence[Answer], name: str) -> list[Question]:
    """The questions with these answers as the baseline's.

    Raises UserError listing the questions that have none.
    """
    by_question = {answer.question: answer for answer in answers}
    missing = [question.id for question in questions if question.id not in by_question]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"the baseline {name!r} has no answer to {len(missing)} of {counted(len(questions), 'question')}: {shown}"
        )
    return [
        replace(question, baseline=by_question[question.id].turns, meta={**question.meta, "baseline": name})
        for question in questions
    ]


def labelled(score: Score, name: str) -> Score:
    """A score that says what it was measured against."""
    note = f"not official: against the answers of {name}"
    return replace(score, note="; ".join(part for part in (note, score.note) if part))
