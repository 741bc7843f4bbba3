"""The pocket world: a tiny controlled world of instructions in which the truth is known (``harness.pocket.scorer``).

It is to preference distillation what CartPole is to reinforcement learning: minutes on a laptop.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from harness.pocket import lexicon as lex
from harness.pocket.answers import graded_answer, reference_answer
from harness.pocket.scorer import score
from harness.pocket.tasks import apply, chain, recognise
from harness.types import Message, Prompt, Question

Split = Literal["train", "dev", "test"]

_QUESTIONS: Final = frozenset({"pick", "sum", "story", "fact"})


def split_of(text: str) -> Split:
    bucket = int(hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest(), 16) % 10
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def _list(rng: random.Random, hard: bool) -> str:
    category = rng.choice(list(lex.CATEGORIES))
    count = rng.choice(("three", "four") if hard else tuple(lex.COUNTS))
    excluded_words = rng.sample(lex.CATEGORIES[category], rng.choice((1, 2) if hard else (0, 0, 1, 2)))
    tail = " but not " + " or ".join(excluded_words) if excluded_words else ""
    return f"{rng.choice(lex.LIST_VERBS)} {count} {category}{tail}."


def _sort(rng: random.Random, hard: bool) -> str:
    numbers = rng.sample(range(lex.MAX_NUMBER + 1), 4 if hard else 3)
    down = " from high to low" if rng.random() < (0.5 if hard else 0.25) else ""
    return f"sort these numbers{down}: {' '.join(map(str, numbers))}."


def _reverse(rng: random.Random, hard: bool) -> str:
    words = rng.sample(list(lex.CATEGORY_OF), rng.randint(*((4, 4) if hard else (2, 3))))
    return f"reverse these words: {' '.join(words)}."


def _pick(rng: random.Random, hard: bool) -> str:
    category = rng.choice(list(lex.CATEGORIES))
    members = rng.sample(lex.CATEGORIES[category], 2 if hard else rng.choice((1, 1, 2)))
    distractors = [item for item, name in lex.CATEGORY_OF.items() if name != category]
    items = members + rng.sample(distractors, 3 if hard else 2)
    rng.shuffle(items)
    return f"which of these are {category}: {' '.join(items)}?"


def _numbers(signs: str, rng: random.Random) -> list[int]:
    """Operands whose every result stays between 1 and ``lex.MAX_NUMBER``."""
    while True:
        start = rng.randint(2, 5) if signs[0] == "*" else rng.randint(2, 12) + (6 if signs[0] == "-" else 0)
        operands = [rng.randint(2, 5 if sign == "*" else 9) for sign in signs]
        if all(1 <= apply(step) <= lex.MAX_NUMBER for step in chain(start, signs, operands)):
            return [start, *operands]


def _sum(rng: random.Random, hard: bool) -> str:
    signs = rng.choice(("+-", "*-", "*+") if hard else ("+", "+", "-", "*", "++"))
    start, *operands = _numbers(signs, rng)
    tail = " ".join(f"{sign} {number}" for sign, number in zip(signs, operands, strict=True))
    verb = rng.choice(lex.SUM_VERBS)
    return f"{verb} {start} {tail}{'?' if verb.endswith('is') else '.'}"


def _story(rng: random.Random, hard: bool) -> str:
    signs = rng.choice(("+-", "*-") if hard else ("+", "-", "*", "+-", "*-"))
    numbers = _numbers(signs, rng)
    name, noun = rng.choice(lex.NAMES), rng.choice(lex.OBJECTS)
    a, b, *c = numbers
    return {
        "+": f"{name} has {a} {noun} and buys {b} more. how many {noun} does {name} have?",
        "-": f"{name} has {a} {noun} and gives away {b}. how many {noun} are left?",
        "*": f"{name} has {a} bags with {b} {noun} each. how many {noun} are there?",
        "+-": f"{name} has {a} {noun}, buys {b} more and loses {c and c[0]}. how many {noun} are left?",
        "*-": f"{name} has {a} bags with {b} {noun} each and gives away {c and c[0]}. how many {noun} are left?",
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


def first_turn(kind: str, rng: random.Random, *, hard: bool = False) -> str:
    """One instruction of ``kind`` (see ``KINDS``); ``hard`` ones are longer and always polite, others 4 times in 10."""
    text = _TEMPLATES[kind](rng, hard)
    if not (hard or rng.random() < 0.4):
        return text
    if rng.random() < 0.5:
        return f"please {'answer: ' if kind in _QUESTIONS else ''}{text}"
    return f"{text[:-1]}, please{text[-1]}"


def fresh_turn(kind: str, split: Split, rng: random.Random, used_texts: set[str], *, hard: bool = False) -> str:
    """A first turn of ``split`` that is not in ``used``, which it joins. Raises ValueError where none is left."""
    for _ in range(2000):  # a split has at least one text in ten: who finds none in so many draws has used all up
        text = first_turn(kind, rng, hard=hard)
        if text not in used_texts and split_of(text) == split:
            used_texts.add(text)
            return text
    raise ValueError(
        f"no fresh {kind!r} instruction left in the {split} split after {len(used_texts)} were used; ask for fewer"
    )


def follow_up(first_turn: str, answer: str, rng: random.Random) -> str:
    """A second user turn that refers to ``answer``, the reply that ``first`` got; its right answer can be written."""
    task = recognise([{"role": "user", "content": first_turn}])
    talk = [{"role": "user", "content": first_turn}, {"role": "assistant", "content": answer}]
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
        next_task = recognise([*talk, {"role": "user", "content": text}])
        if not next_task.steps or 0 <= next_task.value <= lex.MAX_NUMBER:
            return text


# Word problems and follow-ups twice as often: both are hard for models of this size.
TRAIN_KINDS: Final = (*KINDS, "story", "followup", "followup")


@dataclass(frozen=True)
class QuestionSet:
    test: int
    dev: int
    kinds: tuple[str, ...] = KINDS
    hard: bool = False
    two_turns: bool = False
    has_number: bool = False
    """Every question has a number as its answer: ``meta["number"]``."""


# The order matters: a set draws its questions after all sets above it, so that no two share a question.
BENCHMARKS: Final[dict[str, QuestionSet]] = {
    "alpaca_eval": QuestionSet(200, 100),
    "arena_hard": QuestionSet(120, 60, hard=True),
    "mt_bench": QuestionSet(48, 24, two_turns=True),
    "gsm8k": QuestionSet(150, 75, kinds=("story",), has_number=True),
}
QUESTIONS: Final = Path(__file__).with_name("questions.json")
DEMONSTRATIONS: Final = 0.4
"""Quality of the answers that the student learned from, and that prompts bring along."""
BASELINE_QUALITY: Final = 0.65


def _talk(*texts: str) -> tuple[Message, ...]:
    return tuple({"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts))


def _pair(messages: tuple[Message, ...], rng: random.Random) -> tuple[str, str]:
    """Two demonstrations, the second at most half as good as the first."""
    golden = graded_answer(messages, DEMONSTRATIONS, rng)
    limit = score(messages, golden) / 2
    while score(messages, rejected := graded_answer(messages, DEMONSTRATIONS, rng)) > limit:
        pass
    return golden, rejected


def iter_prompts(seed: int, split: Split = "train") -> Iterator[Prompt]:
    """Distinct prompts, kinds in turn, with a demonstration and a worse one. ValueError after some ten thousand."""
    rng = random.Random(f"pocket-prompts-{split}-{seed}")
    used_texts: set[str] = set()
    number = 0
    while True:
        kind = TRAIN_KINDS[number % len(TRAIN_KINDS)]
        first_turn = fresh_turn(rng.choice(KINDS) if kind == "followup" else kind, split, rng, used_texts)
        messages = _talk(first_turn)
        if kind == "followup":
            # 7 in 10 first answers are right; the others have flaws, which the follow-up's right answer takes up.
            answer = graded_answer(messages, 1.0 if rng.random() < 0.7 else 0.4, rng)
            messages = _talk(first_turn, answer, follow_up(first_turn, answer, rng))
        golden, rejected = _pair(messages, rng)
        yield Prompt(f"pocket-{split}-{seed}-{number}", messages, golden, rejected, "pocket")
        number += 1


def _question(name: str, form: QuestionSet, kind: str, first_turn: str, rng: random.Random) -> Question:
    talk = _talk(first_turn)
    turns, reference, baseline = (
        [first_turn],
        [reference_answer(talk, rng)],
        [graded_answer(talk, BASELINE_QUALITY, rng)],
    )
    if form.two_turns:
        second = follow_up(first_turn, reference[0], rng)
        turns.append(second)
        reference.append(reference_answer(_talk(first_turn, reference[0], second), rng))
        baseline.append(graded_answer(_talk(first_turn, baseline[0], second), BASELINE_QUALITY, rng))
    meta = {"number": str(recognise(talk).value)} if form.has_number else {}
    return Question(name, tuple(turns), kind, tuple(baseline), tuple(reference), meta)


def make_questions(split: Split) -> dict[str, list[Question]]:
    """The baseline's second answer follows ``baseline[0]``; after another first answer ask ``score``."""
    used_texts: set[str] = set()
    questions: dict[str, list[Question]] = {}
    for name, form in BENCHMARKS.items():
        rng = random.Random(f"pocket-{name}-{split}")
        questions[name] = [
            _question(
                f"{name}-{split}-{number}", form, kind, fresh_turn(kind, split, rng, used_texts, hard=form.hard), rng
            )
            for number in range(form.test if split == "test" else form.dev)
            for kind in [form.kinds[number % len(form.kinds)]]
        ]
    return questions


@cache
def pocket_questions(benchmark: str, split: Split) -> tuple[Question, ...]:
    """``test`` for results, ``dev`` (half as many) to choose options on."""
    if split != "test":
        return tuple(make_questions(split)[benchmark])
    # Every plan needs them, and making them costs 80,000 calls.
    rows = json.loads(QUESTIONS.read_bytes())[benchmark]
    return tuple(
        Question(name, tuple(turns), kind, tuple(baseline), tuple(reference), {"number": number} if number else {})
        for name, kind, turns, baseline, reference, number in rows
    )
