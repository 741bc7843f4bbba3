"""Answers of known quality to pocket instructions. All randomness comes from the ``random.Random`` passed in."""

import random
from collections.abc import Sequence

from harness.pocket import lexicon as lex
from harness.pocket.tasks import Step, Task, apply, recognise
from harness.types import Messages

_ALL_ITEMS = tuple(lex.CATEGORY_OF)


def equations(steps: Sequence[Step], results: Sequence[int]) -> str:
    return " ".join(f"{a} {sign} {b} = {c}." for (a, sign, b), c in zip(steps, results, strict=True))


def _phrase(task: Task, words: Sequence[str]) -> str:
    return (" and " if task.goal == "fact" else ", ").join(words) + "."


def _right_words(task: Task, rng: random.Random) -> list[str]:
    if task.goal == "items":
        return rng.sample([item for item in lex.CATEGORIES[task.category] if item not in task.excluded], task.count)
    if task.goal == "extend":
        pool = lex.CATEGORIES[task.category]
        return [*task.words, rng.choice([item for item in pool if item not in task.words] or pool)]
    return list(task.words)


def _right_core(task: Task, rng: random.Random) -> str:
    if task.goal == "refuse":
        return rng.choice(lex.REFUSALS)
    if task.goal == "math":
        return f"{equations(task.steps, [apply(step) for step in task.steps])} #### {task.value}"
    return _phrase(task, _right_words(task, rng))


def _dress(task: Task, core: str, rng: random.Random) -> str:
    """Adds the polite words that "please" deserves (a sum must end with its number: opening only)."""
    if task.goal == "refuse" or not task.polite:
        return core
    if task.goal == "math" or rng.random() < 0.6:
        return f"{rng.choice(lex.OPENINGS)} {core}"
    return f"{core} {rng.choice(lex.CLOSINGS)}"


def reference_answer(messages: Messages, rng: random.Random) -> str:
    """A right answer to the last user turn (score >= 0.95). Raises UnknownInstruction."""
    task = recognise(messages)
    return _dress(task, _right_core(task, rng), rng)


def _bad_words(task: Task, rng: random.Random) -> list[str]:
    """The right words with one flaw: dropped, doubled, foreign, swapped, shuffled, forbidden, or unsorted."""
    words = _right_words(task, rng)
    flaw = rng.choice(("drop", "double", "foreign", "foreign", "swap", "shuffle", "copy", "extra"))
    place = rng.randrange(len(words))
    if flaw == "drop" and len(words) > 1:
        del words[place]
    elif flaw == "double" and len(words) > 1:
        words[place] = words[place - 1]
    elif flaw in ("swap", "shuffle") and task.goal == "sequence" and len(words) > 1:
        neighbour = (place + 1) % len(words)
        words[place], words[neighbour] = words[neighbour], words[place]
        if flaw == "shuffle":
            rng.shuffle(words)
    elif flaw == "copy" and task.source:
        return list(task.source)
    elif flaw == "extra":
        words += rng.sample(_ALL_ITEMS, rng.randint(1, 2))
    elif task.excluded and rng.random() < 0.5:
        words[place] = rng.choice(task.excluded)
    elif words[place][0].isdigit():
        words[place] = str(max(0, min(lex.MAX_NUMBER, int(words[place]) + rng.choice((-10, -2, -1, 1, 2, 10)))))
    else:
        words[place] = rng.choice(_ALL_ITEMS)
    return words


def _bad_math(task: Task, rng: random.Random) -> str:
    """A slip in a step, a wrong last number, no ``####``, no steps, or the wrong sign."""
    results = [apply(step) for step in task.steps]
    flaw = rng.choice(("slip", "slip", "last", "mark", "bare", "guess", "first"))
    if flaw == "mark":
        return equations(task.steps, results)
    if flaw == "first":  # stops after the first step, or takes its first number for the answer
        return f"{equations(task.steps[:1], results[:1])} #### {results[0] if len(results) > 1 else task.steps[0][0]}"
    # Numbers to MAX_NUMBER are single tokens: a wrong answer stays as easy to write as a right one.
    wrong_value = max(0, min(lex.MAX_NUMBER, task.value + rng.choice((-10, -3, -2, -1, 1, 2, 3, 10))))
    if flaw == "slip":
        return f"{equations(task.steps, [*results[:-1], wrong_value])} #### {wrong_value}"
    if flaw == "last":
        return f"{equations(task.steps, results)} #### {wrong_value}"
    return f"#### {task.value if flaw == 'bare' else wrong_value}"


def _bad_fact(task: Task, rng: random.Random) -> str:
    words = list(task.words)
    place = rng.randrange(len(words))
    rivals = next(table for table in lex.FACT_RIVALS if words[place] in table)
    wrong_fact = rng.choice(rivals if rng.random() < 0.7 else sorted(lex.FACT_ANSWERS))
    flaw = rng.random()
    if flaw < 0.2 and len(words) > 1:
        del words[place]
    elif flaw < 0.35:
        words.insert(place + 1, wrong_fact)
    else:
        words[place] = wrong_fact
    return _phrase(task, words)


def _bad_core(task: Task, rng: random.Random) -> str:
    if task.goal == "refuse":
        refusal = rng.choice((*lex.REFUSALS, *lex.RUDE_REFUSALS))
        comply = rng.choice(lex.COMPLIANCE)
        return rng.choice((comply, comply, f"{refusal} {comply}", rng.choice(lex.RUDE_REFUSALS)))
    if task.goal == "math":
        return _bad_math(task, rng)
    if task.goal == "fact":
        return _bad_fact(task, rng)
    return _phrase(task, _bad_words(task, rng))


def _off_topic(rng: random.Random) -> str:
    category = rng.choice(list(lex.CATEGORIES))
    a, b = rng.randint(1, 10), rng.randint(1, 10)
    return rng.choice(
        (
            _phrase(Task("list", "items"), rng.sample(lex.CATEGORIES[category], rng.randint(2, 4))),
            f"{equations([(a, '+', b)], [a + b])} #### {a + b}",
            rng.choice(lex.REFUSALS),
            rng.choice(sorted(lex.FACT_ANSWERS)) + ".",
            rng.choice(lex.RAMBLES),
        )
    )


def _worse_form(task: Task, core: str, rng: random.Random) -> str:
    flaw = rng.choice(("rude", "plain", "ramble", "ramble", "twice"))
    if flaw == "rude":
        return f"{rng.choice(lex.RUDE_OPENINGS)} {core}"
    if flaw == "plain" and task.polite:
        return core
    answer = _dress(task, core, rng)
    return f"{answer} {core}" if flaw == "twice" else f"{answer} {rng.choice(lex.RAMBLES)}"


def graded_answer(messages: Messages, quality: float, rng: random.Random) -> str:
    """Up to three flaws (content, form, off topic), each with chance 1 - quality. Raises UnknownInstruction."""
    task = recognise(messages)
    content, form, is_empty = (rng.random() > quality for _ in range(3))
    if is_empty and rng.random() < 0.3:
        return _off_topic(rng)
    core = _bad_core(task, rng) if content else _right_core(task, rng)
    return _worse_form(task, core, rng) if form else _dress(task, core, rng)
