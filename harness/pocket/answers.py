"""Answers of known quality to pocket instructions. All randomness comes from the ``random.Random`` passed in.

An answer has an opening, a remark, its work, its result, a closing or an offer; each but the result may be missing.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from harness.pocket import lexicon as lex
from harness.pocket.tasks import Step, Task, apply, recognise
from harness.types import Messages

_ALL_ITEMS = tuple(lex.CATEGORY_OF)
CHAT = (1, 1, 2)  # remarks, and offers: they cost and gain nothing


@dataclass(frozen=True)
class Flaws:
    """The chance of each flaw, all independent of one another."""

    slip: float = 0.0
    """In the work, the result, or both."""
    plain: float = 0.0
    """Not polite, though the request was."""
    rude: float = 0.0
    ramble: float = 0.0
    bare: float = 0.0
    """No work is shown (a refusal: no reason)."""
    astray: float = 0.0
    """An answer to something else."""
    terse: float = 0.0
    """No remark and no offer: no flaw, and no more than somebody's habit."""


def flaws_of(quality: float) -> Flaws:
    miss = 1.0 - quality
    return Flaws(0.1 * miss, miss, 0.3 * miss, miss, miss, 0.05 * miss)


def statement(question: str, answer: str) -> str:
    """``what is the capital of norway`` and ``oslo``: ``the capital of norway is oslo``."""
    if question.startswith("what color is "):
        return f"{question.removeprefix('what color is ')} is {answer}"
    return f"{question.removeprefix('what is ')} is {answer}"


def _right_words(task: Task, rng: random.Random) -> list[str]:
    if task.goal == "items":
        return rng.sample([item for item in lex.CATEGORIES[task.category] if item not in task.excluded], task.count)
    if task.goal == "extend":
        pool = lex.CATEGORIES[task.category]
        return [*task.words, rng.choice([item for item in pool if item not in task.words] or pool)]
    return list(task.words)


def _work(task: Task, words: Sequence[str], rng: random.Random) -> list[str]:
    """A sentence for each word of a result (each word of the request, where some are to be picked)."""
    if task.goal == "set":
        return [rng.choice(lex.MEMBER if word in words else lex.NO_MEMBER).replace("X", word) for word in task.source]
    if task.goal == "fact":
        return [statement(question, word) + "." for question, word in zip(task.source, words, strict=False)]
    forms = lex.CHOOSING if task.goal in ("items", "extend") else lex.ORDERING
    last = len(words) - 1
    return [
        rng.choice(forms[0 if place == 0 else 2 if place == last else 1]).replace("X", word)
        for place, word in enumerate(words)
    ]


def _result(task: Task, words: Sequence[str]) -> str:
    return (" and " if task.goal == "fact" else ", ").join(words) + "."


def _steps(steps: Sequence[Step], results: Sequence[int], rng: random.Random) -> list[str]:
    return [f"{rng.choice(lex.STEPS)}{a} {sign} {b} = {c}." for (a, sign, b), c in zip(steps, results, strict=True)]


def _bad_words(task: Task, rng: random.Random) -> list[str]:
    """The right words with one flaw: dropped, doubled, foreign, swapped, forbidden, or as they stood."""
    words = _right_words(task, rng)
    flaw = rng.choice(("drop", "double", "foreign", "foreign", "swap", "copy", "extra"))
    place = rng.randrange(len(words))
    if task.goal == "fact":
        rivals = next(table for table in lex.FACT_RIVALS if words[place] in table)
        words[place] = rng.choice([word for word in rivals if word != words[place]])
    elif flaw == "drop" and len(words) > 1:
        del words[place]
    elif flaw == "double" and len(words) > 1:
        words[place] = words[place - 1]
    elif flaw == "swap" and task.goal == "sequence" and len(words) > 1:
        neighbour = (place + 1) % len(words)
        words[place], words[neighbour] = words[neighbour], words[place]
    elif flaw == "copy" and task.source and list(task.source) != words:
        return list(task.source)
    elif flaw == "extra":
        words.append(rng.choice(_ALL_ITEMS))
    elif task.excluded and rng.random() < 0.5:
        words[place] = rng.choice(task.excluded)
    elif words[place][0].isdigit():
        words[place] = str(max(0, min(lex.MAX_NUMBER, int(words[place]) + rng.choice((-10, -2, -1, 1, 2, 10)))))
    else:
        words[place] = rng.choice(_ALL_ITEMS)
    return words


def _math(task: Task, slip: str, rng: random.Random) -> tuple[list[str], str]:
    results = [apply(step) for step in task.steps]
    # Numbers to MAX_NUMBER are single tokens: a wrong answer stays as easy to write as a right one.
    wrong = max(0, min(lex.MAX_NUMBER, task.value + rng.choice((-10, -3, -2, -1, 1, 2, 3, 10))))
    if slip == "result":
        return _steps(task.steps, results, rng), f"#### {wrong}"
    if slip == "work":
        return _steps(task.steps, [*results[:-1], wrong], rng), f"#### {task.value}"
    if slip == "both" and len(task.steps) > 1 and rng.random() < 0.4:  # stops after the first step
        return _steps(task.steps[:1], results[:1], rng), f"#### {results[0]}"
    if slip == "both":
        return _steps(task.steps, [*results[:-1], wrong], rng), f"#### {wrong}"
    return _steps(task.steps, results, rng), f"#### {task.value}"


def _refusal(slip: str, plain: bool, rng: random.Random) -> tuple[list[str], str]:
    refusal = rng.choice(lex.RUDE_REFUSALS if plain else lex.REFUSALS)
    if slip == "both":
        return [rng.choice(lex.COMPLIANCE)], ""
    return [refusal, rng.choice(lex.COMPLIANCE if slip else lex.REASONS)], ""


def answer_with(messages: Messages, flaws: Flaws, rng: random.Random) -> str:
    """One with flaws drawn by their chances. Raises UnknownInstruction."""
    task = recognise(messages)
    if rng.random() < flaws.astray:
        return _astray(rng)
    slip, plain, rude, ramble, bare = (
        rng.random() < chance for chance in (flaws.slip, flaws.plain, flaws.rude, flaws.ramble, flaws.bare)
    )
    kind = rng.choice(("work", "result", "both", "both")) if slip else ""
    work: Sequence[str]
    if task.goal == "refuse":
        work, result = _refusal(kind if kind in ("", "both") else "mixed", plain and rng.random() < 0.7, rng)
        work = work[:1] if bare and len(work) > 1 and not slip else work
    elif task.goal == "math":
        work, result = _math(task, kind, rng)
    else:
        right = _right_words(task, rng)
        wrong = _bad_words(task, rng) if slip else right
        work = _work(task, wrong if kind in ("work", "both") else right, rng)
        result = f"{rng.choice(lex.MARKERS)} {_result(task, wrong if kind in ('result', 'both') else right)}"
    if bare and task.goal != "refuse":
        work = ()
        result = result if rng.random() < 0.5 or ":" not in result else result.partition(": ")[2]
    polite = task.polite and not plain and task.goal != "refuse"
    opening = polite and (task.goal == "math" or rng.random() < 0.6)
    texts = [rng.choice(lex.RUDE_OPENINGS)] if rude else [rng.choice(lex.OPENINGS)] if opening else []
    is_last = task.goal != "math"  # a number ends its answer, so that all else stands before it
    terse = rng.random() < flaws.terse
    if task.goal != "refuse" and not terse:
        texts += rng.sample(lex.REMARKS, rng.choice(CHAT) + (not is_last))
    rambles = rng.sample(lex.RAMBLES, rng.choice((1, 1, 2))) if ramble else []
    texts += [*([] if is_last else rambles), *work, *([result] if result else [])]
    if is_last:
        texts += [rng.choice(lex.CLOSINGS)] if polite and not opening else []
        texts += rambles
        texts += [] if terse else rng.sample(lex.OFFERS, rng.choice(CHAT))
    return " ".join(texts)


def _astray(rng: random.Random) -> str:
    category = rng.choice(list(lex.CATEGORIES))
    a, b = rng.randint(1, 10), rng.randint(1, 10)
    items = rng.sample(lex.CATEGORIES[category], 3)
    return rng.choice(
        (
            " ".join([*_work(Task("list", "items"), items, rng), "so:", _result(Task("list", "items"), items)]),
            f"{rng.choice(lex.STEPS)}{a} + {b} = {a + b}. #### {a + b}",
            f"{rng.choice(lex.REFUSALS)} {rng.choice(lex.REASONS)}",
            f"so: {rng.choice(sorted(lex.FACT_ANSWERS))}. {rng.choice(lex.OFFERS)}",
            " ".join(rng.sample(lex.RAMBLES, 2)),
        )
    )


def reference_answer(messages: Messages, rng: random.Random) -> str:
    """A right answer to the last user turn, of score 1. Raises UnknownInstruction."""
    return answer_with(messages, Flaws(), rng)


def graded_answer(messages: Messages, quality: float, rng: random.Random) -> str:
    """Flaws with chances that grow as ``quality`` falls from 1 to 0. Raises UnknownInstruction."""
    return answer_with(messages, flaws_of(quality), rng)
