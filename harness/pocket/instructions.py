"""Draws instructions of the pocket world, first turns and follow-ups, and says which split a text belongs to.

A first turn belongs to one split by the hash of its own text, so that train, dev and test can never share one,
whatever the seed and the size.
"""

import hashlib
import random
from collections.abc import Callable
from typing import Final, Literal

from harness.pocket import lexicon as lex
from harness.pocket.tasks import apply, chain, recognise

Split = Literal["train", "dev", "test"]

_QUESTIONS: Final = frozenset({"pick", "sum", "story", "fact"})


def split_of(text: str) -> Split:
    """The split of a first user turn: sha1 modulo 10 is 0 -> test, 1 -> dev, else train."""
    bucket = int(hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest(), 16) % 10
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def _list(rng: random.Random, hard: bool) -> str:
    category = rng.choice(list(lex.CATEGORIES))
    count = rng.choice(("three", "four") if hard else tuple(lex.COUNTS))
    without = rng.sample(lex.CATEGORIES[category], rng.choice((1, 2) if hard else (0, 0, 1, 2)))
    tail = " but not " + " or ".join(without) if without else ""
    return f"{rng.choice(lex.LIST_VERBS)} {count} {category}{tail}."


def _words(rng: random.Random, low: int, high: int) -> str:
    return " ".join(rng.sample(list(lex.CATEGORY_OF), rng.randint(low, high)))


def _sort(rng: random.Random, hard: bool) -> str:
    numbers = rng.sample(range(lex.MAX_NUMBER + 1), 4 if hard else 3)
    down = " from high to low" if rng.random() < (0.5 if hard else 0.25) else ""
    return f"sort these numbers{down}: {' '.join(map(str, numbers))}."


def _reverse(rng: random.Random, hard: bool) -> str:
    return f"reverse these words: {_words(rng, *((4, 4) if hard else (2, 3)))}."


def _pick(rng: random.Random, hard: bool) -> str:
    category = rng.choice(list(lex.CATEGORIES))
    right = rng.sample(lex.CATEGORIES[category], 2 if hard else rng.choice((1, 1, 2)))
    others = [item for item, name in lex.CATEGORY_OF.items() if name != category]
    items = right + rng.sample(others, 3 if hard else 2)
    rng.shuffle(items)
    return f"which of these are {category}: {' '.join(items)}?"


def _numbers(signs: str, rng: random.Random) -> list[int]:
    """Operands whose every result stays between 1 and ``lex.MAX_NUMBER``."""
    while True:
        first = rng.randint(2, 5) if signs[0] == "*" else rng.randint(2, 12) + (6 if signs[0] == "-" else 0)
        rest = [rng.randint(2, 5 if sign == "*" else 9) for sign in signs]
        if all(1 <= apply(step) <= lex.MAX_NUMBER for step in chain(first, signs, rest)):
            return [first, *rest]


def _sum(rng: random.Random, hard: bool) -> str:
    signs = rng.choice(("+-", "*-", "*+") if hard else ("+", "+", "-", "*", "++"))
    first, *rest = _numbers(signs, rng)
    tail = " ".join(f"{sign} {number}" for sign, number in zip(signs, rest, strict=True))
    verb = rng.choice(lex.SUM_VERBS)
    return f"{verb} {first} {tail}{'?' if verb.endswith('is') else '.'}"


def _story(rng: random.Random, hard: bool) -> str:
    signs = rng.choice(("+-", "*-") if hard else ("+", "-", "*", "+-", "*-"))
    numbers = _numbers(signs, rng)
    who, what = rng.choice(lex.NAMES), rng.choice(lex.THINGS)
    a, b, *more = numbers
    return {
        "+": f"{who} has {a} {what} and buys {b} more. how many {what} does {who} have?",
        "-": f"{who} has {a} {what} and gives away {b}. how many {what} are left?",
        "*": f"{who} has {a} bags with {b} {what} each. how many {what} are there?",
        "+-": f"{who} has {a} {what}, buys {b} more and loses {more and more[0]}. how many {what} are left?",
        "*-": f"{who} has {a} bags with {b} {what} each and gives away {more and more[0]}. how many {what} are left?",
    }[signs]


def _fact(rng: random.Random, hard: bool) -> str:
    questions = rng.sample(list(lex.FACTS), 2 if hard or rng.random() < 0.6 else 1)
    return f"{rng.choice(lex.FACT_LEADS)}{', and '.join(questions)}?"


def _refuse(rng: random.Random, hard: bool) -> str:
    del hard  # refusing is never hard
    lead, verb = rng.choice(lex.HARM_LEADS), rng.choice(lex.HARM_VERBS)
    return f"{lead} {verb} {rng.choice(lex.HARM_TARGETS)}{rng.choice(lex.HARM_TAILS)}."


_TEMPLATES: Final[dict[str, Callable[[random.Random, bool], str]]] = {
    "list": _list, "sort": _sort, "reverse": _reverse, "pick": _pick,
    "sum": _sum, "story": _story, "fact": _fact, "refuse": _refuse,
}  # fmt: skip
KINDS: Final = tuple(_TEMPLATES)


def _politely(text: str, question: bool, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return f"please {'answer: ' if question else ''}{text}"
    return f"{text[:-1]}, please{text[-1]}"


def first_turn(kind: str, rng: random.Random, *, hard: bool = False) -> str:
    """One instruction of ``kind`` (see ``KINDS``); ``hard`` ones are longer and always polite, others 4 times in 10."""
    text = _TEMPLATES[kind](rng, hard)
    return _politely(text, kind in _QUESTIONS, rng) if hard or rng.random() < 0.4 else text


def fresh_turn(kind: str, split: Split, rng: random.Random, taken: set[str], *, hard: bool = False) -> str:
    """A first turn of ``split`` that is not in ``taken``, which it joins. Raises ValueError where none is left."""
    for _ in range(2000):
        text = first_turn(kind, rng, hard=hard)
        if text not in taken and split_of(text) == split:
            taken.add(text)
            return text
    raise ValueError(
        f"no fresh {kind!r} instruction left in the {split} split after {len(taken)} were taken; ask for fewer"
    )


def follow_up(first: str, answer: str, rng: random.Random) -> str:
    """A second user turn that refers to ``answer``, the reply that ``first`` got; its right answer can be written."""
    task = recognise([{"role": "user", "content": first}])
    before = [{"role": "user", "content": first}, {"role": "assistant", "content": answer}]
    while True:
        match task.goal:
            case "refuse":
                text = rng.choice(lex.HARM_AGAIN)
                text += "?" if text.startswith("are") else "."
            case "fact":
                text = f"and {rng.choice(list(lex.FACTS))}?"
            case "math":
                text = rng.choice(("now add NUM to that.", "now take NUM away from that."))
                text = text.replace("NUM", str(rng.randint(2, 9)))
            case _:
                kinds = ["now reverse it.", "keep only the first two."]
                text = rng.choice([*kinds, "add one more.", "add one more."] if task.category else kinds)
        if rng.random() < 0.2:
            text = f"{text[:-1]}, please{text[-1]}"
        after = recognise([*before, {"role": "user", "content": text}])
        if not after.steps or 0 <= after.value <= lex.MAX_NUMBER:
            return text
