"""What bias measurements need to know of an answer: its length, lists and markdown, and how good it truly is."""

from __future__ import annotations

import re
from functools import lru_cache

from harness.pocket.world import UnknownInstruction, score
from harness.types import Answer, Message, Question

_BULLET = re.compile(r"^\s*(?:[-*•+]|\d{1,3}[.)])\s+\S", re.MULTILINE)
_MARKDOWN = re.compile(r"^#{1,6}\s+[^\W\d]|\*\*[^*\n]+\*\*|^```|^\|.*\|\s*$", re.MULTILINE)
NAN = float("nan")


def has_list(text: str) -> bool:
    """Two or more lines that begin as bullets or with a number."""
    return len(_BULLET.findall(text)) >= 2


def has_markdown(text: str) -> bool:
    """A heading, bold words, a code fence or a table row."""
    return bool(_MARKDOWN.search(text))


def differences(question: Question, answer: Answer, turn: int | None, paired: bool) -> dict[str, float]:
    """``panel.FEATURES`` of one item: the answer's, less the baseline's where it is compared with one.

    Args:
        turn: which turn is judged, from 0; ``None``: all of them together.
        paired: whether ``question.baseline`` is what it is compared with.
    """
    mine = _features(question.turns, answer.turns, turn)
    if not paired:
        return {**mine, "same": 0.0}
    theirs = _features(question.turns, question.baseline, turn)
    same = answer.turns == question.baseline if turn is None else answer.turns[turn] == question.baseline[turn]
    return {**{name: mine[name] - theirs[name] for name in mine}, "same": float(same)}


def _features(asked: tuple[str, ...], answers: tuple[str, ...], turn: int | None) -> dict[str, float]:
    chosen = list(answers) if turn is None else [answers[turn]]
    return {
        "length": float(sum(map(len, chosen))),
        "words": float(sum(len(each.split()) for each in chosen)),
        "lists": float(any(map(has_list, chosen))),
        "markdown": float(any(map(has_markdown, chosen))),
        "quality": truth(asked, answers, turn),
    }


@lru_cache(maxsize=4096)
def truth(asked: tuple[str, ...], answers: tuple[str, ...], turn: int | None) -> float:
    """The pocket world's own score of the answers, 0..1 (mean over turns); NaN where the questions are not its."""
    talk: list[Message] = []
    scores: list[float] = []
    for number, (request, answer) in enumerate(zip(asked, answers, strict=False)):
        talk = [*talk, {"role": "user", "content": request}]
        if turn is None or number == turn:
            try:
                scores.append(score(talk, answer))
            except UnknownInstruction:
                return NAN
        talk = [*talk, {"role": "assistant", "content": answer}]
    return sum(scores) / len(scores) if scores else NAN
