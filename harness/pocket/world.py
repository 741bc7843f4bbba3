"""The pocket world: a tiny controlled world of instructions in which the truth is known.

It is to preference distillation what CartPole is to reinforcement learning: minutes on a laptop, and a rule
(``score``) in place of the human. Our own wording; nothing is downloaded; needs the standard library only.

    prompt = next(iter_prompts(seed=0))
    score(prompt.messages, prompt.golden)      # about 1.0 (harness.pocket.scorer)
    score(prompt.messages, prompt.rejected)    # clearly less
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from harness.pocket.answers import golden_answer, graded_answer
from harness.pocket.instructions import KINDS, Split, follow_up, fresh_turn
from harness.pocket.scorer import score
from harness.pocket.tasks import recognise
from harness.types import Message, Prompt, Question

# Word problems and follow-ups twice as often: both are hard for models of this size.
TRAIN_KINDS: Final = (*KINDS, "story", "followup", "followup")


@dataclass(frozen=True)
class QuestionSet:
    """What the questions of one benchmark look like in this world, and how many there are."""

    test: int
    dev: int
    kinds: tuple[str, ...] = KINDS
    hard: bool = False
    two_turns: bool = False
    numbered: bool = False
    """Every question has a number as its answer (word problems): ``meta["number"]``."""


# The order matters: a set draws its questions after all sets above it, so that no two share a question.
BENCHMARKS: Final[dict[str, QuestionSet]] = {
    "alpaca_eval": QuestionSet(200, 100),
    "arena_hard": QuestionSet(120, 60, hard=True),
    "mt_bench": QuestionSet(48, 24, two_turns=True),
    "gsm8k": QuestionSet(150, 75, kinds=("story",), numbered=True),
}
QUESTIONS: Final = Path(__file__).with_name("questions.json")
MARGIN: Final = 0.3
"""A rejected answer scores at least this much less than the golden one."""
BASELINE_QUALITY: Final = 0.77
"""Gives the baseline a mean score of about 0.7."""


def _talk(*texts: str) -> tuple[Message, ...]:
    """Turns of the user and the assistant in turn."""
    return tuple({"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts))


def _rejected(messages: tuple[Message, ...], golden: str, rng: random.Random) -> str:
    limit = score(messages, golden) - MARGIN
    while True:  # quality 0.2 falls short of the margin nearly always, so this ends at once
        answer = graded_answer(messages, 0.2, rng)
        if score(messages, answer) <= limit:
            return answer


def iter_prompts(seed: int, split: Split = "train") -> Iterator[Prompt]:
    """Distinct prompts of one split, kinds in turn, each with a right and a clearly worse answer.

    Raises ValueError where a kind has no fresh instruction left, after some ten thousand prompts.
    """
    rng = random.Random(f"pocket-prompts-{split}-{seed}")
    taken: set[str] = set()
    number = 0
    while True:
        kind = TRAIN_KINDS[number % len(TRAIN_KINDS)]
        first = fresh_turn(rng.choice(KINDS) if kind == "followup" else kind, split, rng, taken)
        messages = _talk(first)
        if kind == "followup":
            # 7 in 10 first answers are right; the others have flaws, which the follow-up's right answer takes up.
            answer = graded_answer(messages, 1.0 if rng.random() < 0.7 else 0.4, rng)
            messages = _talk(first, answer, follow_up(first, answer, rng))
        golden = golden_answer(messages, rng)
        yield Prompt(f"pocket-{split}-{seed}-{number}", messages, golden, _rejected(messages, golden, rng), "pocket")
        number += 1


def _question(name: str, form: QuestionSet, kind: str, first: str, rng: random.Random) -> Question:
    talk = _talk(first)
    turns, reference, baseline = [first], [golden_answer(talk, rng)], [graded_answer(talk, BASELINE_QUALITY, rng)]
    if form.two_turns:
        second = follow_up(first, reference[0], rng)
        turns.append(second)
        reference.append(golden_answer(_talk(first, reference[0], second), rng))
        baseline.append(graded_answer(_talk(first, baseline[0], second), BASELINE_QUALITY, rng))
    meta = {"number": str(recognise(talk).value)} if form.numbered else {}
    return Question(name, tuple(turns), kind, tuple(baseline), tuple(reference), meta)


def make_questions(split: Split) -> dict[str, list[Question]]:
    """The questions of every benchmark, made by the rules of this world.

    The second turn's reference is right after ``reference[0]``, and the baseline's second answer was given after
    ``baseline[0]``; after any other first answer ask ``score``, which reads the conversation as it went.
    """
    taken: set[str] = set()
    questions: dict[str, list[Question]] = {}
    for name, form in BENCHMARKS.items():
        rng = random.Random(f"pocket-{name}-{split}")
        questions[name] = [
            _question(f"{name}-{split}-{number}", form, kind, fresh_turn(kind, split, rng, taken, hard=form.hard), rng)
            for number in range(form.test if split == "test" else form.dev)
            for kind in [form.kinds[number % len(form.kinds)]]
        ]
    return questions


@cache
def pocket_questions(benchmark: str, split: Split) -> tuple[Question, ...]:
    """The questions of one of ``BENCHMARKS``: ``test`` for results, ``dev`` (half as many) to choose options on."""
    if split != "test":
        return tuple(make_questions(split)[benchmark])
    # Every plan needs them, and making them costs 80,000 calls.
    rows = json.loads(QUESTIONS.read_bytes())[benchmark]
    return tuple(
        Question(name, tuple(turns), kind, tuple(baseline), tuple(reference), {"number": number} if number else {})
        for name, kind, turns, baseline, reference, number in rows
    )


def write_test_questions() -> None:
    """Write the file of the test questions again, after a change of the rules."""
    texts = []
    for name, questions in make_questions("test").items():
        rows = ([q.id, q.category, q.turns, q.baseline, q.reference, q.meta.get("number")] for q in questions)
        texts.append(f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]")
    QUESTIONS.write_text("{\n" + ",\n".join(texts) + "\n}\n", encoding="utf-8")
