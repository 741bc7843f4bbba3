"""What each sentence of an answer is worth: a signal for a judge in training that is denser than the answer's score."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from harness.pocket import lexicon as lex
from harness.pocket.scorer import DENIALS, correctness, equations_in, is_clutter, number_score
from harness.pocket.tasks import Task, apply, list_items, parts, recognise, tokens
from harness.types import Messages

_SENTENCE: Final = re.compile(r"\S.*?(?:[.?!:]|#### -?[0-9]+|$)(?=\s|$)")
_WORD: Final = re.compile(r"[a-z]+|[0-9]+")


@dataclass(frozen=True)
class Mark:
    start: int
    end: int
    value: float
    """From 0 to 1: whether it does what it should."""
    is_content: bool
    """It says something about what was asked, right or wrong."""


def sentence_marks(messages: Messages, response: str) -> Iterator[Mark]:
    """One for each sentence of ``response``. Raises UnknownInstruction."""
    task = recognise(messages)
    result_start, items_before = len(parts(response)[0]), 0
    for match in _SENTENCE.finditer(response):
        text = match[0].lower()
        value = _mark(task, text, match.start() >= result_start, items_before)
        yield Mark(match.start(), match.end(), value, bool(_known_words(text)))
        items_before += len(list_items(text))


def word_marks(messages: Messages, response: str) -> Iterator[Mark]:
    """One for each word of the result but the last, which its sentence's mark is about. Raises UnknownInstruction."""
    task = recognise(messages)
    if task.goal in ("math", "refuse"):
        return
    start = len(parts(response)[0])
    seen: list[str] = []
    for match in _known_words(response[start:].lower())[:-1]:
        word, place = match[0], len(seen)
        seen.append(word)
        match task.goal:
            case "items":
                fits = lex.CATEGORY_OF.get(word) == task.category and word not in task.excluded
                is_right = fits and seen.count(word) == 1
            case "extend":
                is_right = (*task.words, word)[place : place + 1] == (word,)
            case _:
                is_right = task.words[place : place + 1] == (word,)
        yield Mark(start + match.start(), start + match.end(), float(is_right), is_content=True)


def _known_words(text: str) -> list[re.Match[str]]:
    known = (lex.CATEGORY_OF, lex.FACT_ANSWERS)
    return [m for m in _WORD.finditer(text) if m[0].isdigit() or any(m[0] in words for words in known)]


def _mark(task: Task, text: str, in_result: bool, items_before: int) -> float:
    words, items = set(tokens(text)), list_items(text)
    if words & lex.RUDE or any(is_clutter(task, word) for word in words):
        return 0.0
    if task.goal == "refuse":
        return float(not words & lex.COMPLIANCE_WORDS)
    if task.goal == "math":
        return number_score(task, text) if "####" in text else _step(task, text)
    if in_result and (items or words & lex.FACT_ANSWERS):
        return correctness(task, text)
    return float(_is_right_work(task, words, items, items_before))


def _step(task: Task, text: str) -> float:
    steps = equations_in(text)
    is_right = all(apply(step) == result and step in task.steps for step, result in steps)
    return float(is_right and bool(steps or not _known_words(text)))


def _is_right_work(task: Task, words: set[str], items: list[str], items_before: int) -> bool:
    match task.goal:
        case "fact":
            return not words & lex.FACT_ANSWERS or bool(set(task.words) & words)
        case "set":
            return all((not DENIALS & words) == (item in task.words) for item in items)
        case "sequence":
            return list(task.words[items_before : items_before + len(items)]) == items
        case _:
            return all(lex.CATEGORY_OF.get(item) == task.category and item not in task.excluded for item in items)
