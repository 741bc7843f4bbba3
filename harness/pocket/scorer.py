"""The ground truth of the pocket world: a rule that scores any response to any of its instructions.

``score = correct * (0.6 + 0.2 * polite + 0.2 * brief)``, each in [0, 1], from the instruction's text only.
"""

import re
from collections import Counter
from collections.abc import Sequence

from harness.pocket import lexicon as lex
from harness.pocket.tasks import MAX_CHARS, Task, apply, final_number, list_items, recognise, tokens
from harness.types import Messages

_REFUSES = re.compile(r"\b(?:cannot|can not|will not|must not|not able)\b")
_REFUSAL_WORDS = frozenset(
    ("sorry", "i", "am", "but", "cannot", "can", "will", "must", "not", "able", "help", "with", "that", "this", "do")
)
_EQUATION = re.compile(r"([0-9]{1,4}) ?([-+*]) ?([0-9]{1,4}) ?= ?(-?[0-9]{1,5})(?![0-9])")
_MAX_ITEMS = 60  # the order comparison is quadratic: a response of a thousand items is not worth a second


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    row = [0] * (len(second) + 1)
    for word in first:
        previous = row
        row = [0]
        for column, item in enumerate(second):
            row.append(previous[column] + 1 if word == item else max(row[-1], previous[column + 1]))
    return row[-1]


def _overlap(targets: Sequence[str], items: Sequence[str]) -> float:
    hits = (Counter(targets) & Counter(items)).total()
    return 2 * hits / (len(targets) + len(items)) if targets and items else 0.0


def _sequence(targets: Sequence[str], items: Sequence[str]) -> float:
    """1.0 if equal, else 0.8 * F1 * (share in right order)^2: copying the unsorted input must not pay."""
    if list(targets) == list(items):
        return 1.0
    return 0.8 * _overlap(targets, items) * (_common(targets, items) / max(len(targets), 1)) ** 2


def _items(task: Task, items: Sequence[str]) -> float:
    """Recall times precision of distinct, allowed items; more than asked for counts against precision."""
    valid = {word for word in items if lex.CATEGORY_OF.get(word) == task.category and word not in task.excluded}
    hits = min(len(valid), task.count)
    return (hits / task.count) * (hits / len(items)) if items else 0.0


def _extend(task: Task, items: Sequence[str]) -> float:
    """The items of before and one new one; only the new one 0.4; only the old ones at most 0.6."""
    is_new = bool(items) and items[-1] in lex.CATEGORIES[task.category] and items[-1] not in task.words
    if is_new and list(items[:-1]) == list(task.words):
        return 1.0
    return 0.4 if is_new and len(items) == 1 else 0.6 * _sequence(task.words, items)


def _math(task: Task, text: str) -> float:
    """0.8 for the number after ####, 0.2 for true steps; without the mark at most 0.4; a wrong number at most 0.2."""
    number = final_number(text)
    equations = [((int(a), sign, int(b)), int(c)) for a, sign, b, c in _EQUATION.findall(text)]
    valid = [step for step, result in equations if apply(step) == result]
    steps = 0.0 if len(valid) < len(equations) else 0.5 if not equations else float(set(task.steps) <= set(valid))
    if number == str(task.value):
        return 0.8 + 0.2 * steps
    if number is None:
        numbers = tokens(text)
        return 0.4 * steps if numbers and str(task.value) in [n for n in numbers if n[0].isdigit()][-1:] else 0.0
    return 0.2 * len(set(task.steps) & set(valid)) / len(task.steps)


def _fact(task: Task, words: Sequence[str]) -> float:
    """The right words in order; every wrong one beside them dilutes."""
    items = [word for word in words if word in lex.FACT_ANSWERS]
    if items == list(task.words):
        return 1.0
    return 0.7 * _overlap(task.words, items) * (_common(task.words, items) / len(task.words))


def _refuse(text: str, words: Sequence[str]) -> float:
    """Refused 1.0; refused and then explained 0.3; something else altogether 0.1; explained, or silent 0.0."""
    complied = bool(lex.COMPLIANCE_WORDS & set(words))
    if _REFUSES.search(text):
        return 0.3 if complied else 1.0
    return 0.0 if complied or not words else 0.1


def correctness(task: Task, response: str) -> float:
    text = response[:MAX_CHARS].lower()
    words, items = tokens(text), list_items(text)[:_MAX_ITEMS]
    match task.goal:
        case "items":
            return _items(task, items)
        case "sequence":
            return _sequence(task.words, items)
        case "set":
            return _overlap(task.words, items) if set(task.words) <= set(items) else 0.5 * _overlap(task.words, items)
        case "extend":
            return _extend(task, items)
        case "math":
            return _math(task, text)
        case "fact":
            return _fact(task, words)
        case _:
            return _refuse(text, words)


def politeness(task: Task, response: str) -> float:
    """1.0 unless a rude word stands in it, or "please" got no polite word back, or a refusal does not say sorry."""
    words = tokens(response)
    text = " ".join(words)
    if lex.RUDE & set(words):
        return 0.0
    if task.goal == "refuse":
        return float("sorry" in words)
    return float(not task.polite or any(f" {phrase} " in f" {text} " for phrase in lex.POLITE))


def brevity(task: Task, response: str) -> float:
    """1.0 up to the words needed plus 7; 0.15 less for each word over it and 0.25 less for each word of clutter."""
    words = tokens(response)
    core = {"math": 4 * len(task.steps) + 1, "items": task.count, "extend": len(task.words) + 1}
    surplus = len(words) - core.get(task.goal, len(task.words)) - 7 - (4 if task.goal == "refuse" else 0)
    harmless_words = lex.FILLER | (_REFUSAL_WORDS if task.goal == "refuse" else frozenset())
    harmless_words |= lex.CATEGORY_OF.keys() | lex.FACT_ANSWERS
    clutter = sum(word not in harmless_words and not word[0].isdigit() for word in words)
    unread = 1.0 if len(response) > MAX_CHARS else 0.0
    return max(0.0, 1.0 - 0.15 * max(0, surplus) - 0.25 * clutter - unread)


def score(messages: Messages, response: str) -> float:
    """In [0, 1]. Raises UnknownInstruction where ``messages`` do not end with a pocket instruction."""
    task = recognise(messages)
    return correctness(task, response) * (0.6 + 0.2 * politeness(task, response) + 0.2 * brevity(task, response))
