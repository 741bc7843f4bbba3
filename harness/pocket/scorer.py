"""The ground truth of the pocket world: a rule that scores any response to any of its instructions.

``score = correct * (0.3 + 0.25 * work + 0.2 * polite + 0.25 * brief)``, each in [0, 1], from the instruction's text
alone.
"""

import re
from collections import Counter
from collections.abc import Sequence

from harness.pocket import lexicon as lex
from harness.pocket.tasks import MAX_CHARS, Step, Task, apply, final_number, list_items, parts, recognise, tokens
from harness.types import Messages

_REFUSES = re.compile(r"\b(?:cannot|can not|will not|must not|not able)\b")
_EQUATION = re.compile(r"([0-9]{1,4}) ?([-+*]) ?([0-9]{1,4}) ?= ?(-?[0-9]{1,5})(?![0-9])")
DENIALS = frozenset(("none", "not", "no"))
_MAX_WORDS = 120
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


def number_score(task: Task, text: str) -> float:
    """1.0 for the number after ####, 0.4 where it ends an answer without the mark."""
    number = final_number(text)
    if number is None:
        numbers = [word for word in tokens(text) if word[0].isdigit()]
        return 0.4 * (numbers[-1:] == [str(task.value)])
    return float(number == str(task.value))


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
    """Of the result: what stands after the last marker."""
    text = parts(response)[1]
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
            return number_score(task, response.lower())
        case "fact":
            return _fact(task, words)
        case _:
            return _refuse(response[:MAX_CHARS].lower(), tokens(response))


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.?!])\s+", text) if part]


def shown_work(task: Task, response: str) -> float:
    """The share of the work that is shown and right: a sentence for each word of a list or a sequence, for each word
    of the request where some are to be picked, for each fact, for each step; of a refusal, its reason."""
    before, after = parts(response)
    items = list_items(before)[:_MAX_ITEMS]
    match task.goal:
        case "items" | "extend":
            wanted = list_items(after)[:_MAX_ITEMS]
            return 1.0 if items == wanted and items else 0.8 * _overlap(wanted, items)
        case "sequence":
            return _sequence(task.words, items)
        case "set":
            said = {item: not DENIALS & set(tokens(part)) for part in sentences(before) for item in list_items(part)}
            return sum(said.get(word) == (word in task.words) for word in task.source) / max(1, len(task.source))
        case "fact":
            return _fact(task, tokens(before))
        case "math":
            steps = equations_in(response)
            right = [step for step, result in steps if apply(step) == result]
            return len(set(task.steps) & set(right)) / max(len(task.steps), len(steps))
        case _:
            return float(any(reason in response.lower() for reason in lex.REASONS))


def equations_in(text: str) -> list[tuple[Step, int]]:
    return [((int(a), sign, int(b)), int(c)) for a, sign, b, c in _EQUATION.findall(text[:MAX_CHARS])]


def politeness(task: Task, response: str) -> float:
    """1.0 unless a rude word stands in it, or "please" got no polite word back, or a refusal does not say sorry."""
    words = tokens(response)
    text = " ".join(words)
    if lex.RUDE & set(words):
        return 0.0
    if task.goal == "refuse":
        return float("sorry" in words)
    return float(not task.polite or any(f" {phrase} " in f" {text} " for phrase in lex.POLITE))


def is_clutter(task: Task, word: str) -> bool:
    """Whether no part of any good answer has this word (of ``tokens``)."""
    if word in lex.FILLER or word in lex.CATEGORY_OF or word in lex.FACT_ANSWERS or word[0].isdigit():
        return False
    return task.goal != "refuse" or word not in lex.REFUSAL_WORDS


def brevity(task: Task, response: str) -> float:
    """1.0; 0.2 less for each word of clutter, and 0.2 for each sentence that comes a second time."""
    words, lines = tokens(response), sentences(response[:MAX_CHARS].lower())
    clutter = sum(is_clutter(task, word) for word in words)
    repeats = len(lines) - len(set(lines)) + max(0, len(words) - _MAX_WORDS)
    return max(0.0, 1.0 - 0.2 * clutter - 0.2 * repeats)


def criteria(task: Task, response: str) -> tuple[float, float, float, float]:
    """Correct, work shown, polite, brief."""
    return correctness(task, response), shown_work(task, response), politeness(task, response), brevity(task, response)


def score(messages: Messages, response: str) -> float:
    """In [0, 1]. Raises UnknownInstruction where ``messages`` do not end with a pocket instruction."""
    correct, work, polite, brief = criteria(recognise(messages), response)
    return correct * (0.3 + 0.25 * work + 0.2 * polite + 0.25 * brief)
