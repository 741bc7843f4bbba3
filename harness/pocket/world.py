"""The pocket world: a tiny controlled world of instructions in which the truth is known.

It is to preference distillation what CartPole is to reinforcement learning: minutes on a laptop, and a rule
(``score``) in place of the human. Our own wording; nothing is downloaded; needs the standard library only.

    from harness.pocket.world import score, train_prompts
    prompt = train_prompts(1, seed=0)[0]
    score(prompt.messages, prompt.golden)      # about 1.0
    score(prompt.messages, prompt.rejected)    # clearly less
"""

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from harness.pocket.answers import golden_answer, graded_answer
from harness.pocket.instructions import KINDS, Split, follow_up, fresh_turn, split_of
from harness.pocket.scorer import score
from harness.pocket.tasks import UnknownInstruction, messages_of_text, recognise

__all__ = [
    "BENCHMARKS",
    "KINDS",
    "TRAIN_KINDS",
    "PocketPrompt",
    "PocketQuestion",
    "UnknownInstruction",
    "dev_questions",
    "golden_answer",
    "graded_answer",
    "make_questions",
    "messages_of_text",
    "recognise",
    "score",
    "split_of",
    "test_questions",
    "train_prompts",
    "write_test_questions",
]  # fmt: skip

TRAIN_KINDS: Final = (*KINDS, "story", "followup", "followup")  # word problems and follow-ups twice as often


@dataclass(frozen=True)
class QuestionSet:
    """What the questions of one benchmark look like in this world, and how many there are."""

    test: int
    dev: int
    kinds: tuple[str, ...] = KINDS
    hard: bool = False
    two_turns: bool = False
    numbered: bool = False
    """Every question has a number as its answer (word problems)."""


# The order matters: a set draws its questions after all sets above it, so that no two share a question.
BENCHMARKS: Final[dict[str, QuestionSet]] = {
    "alpaca_eval": QuestionSet(200, 100),
    "arena_hard": QuestionSet(120, 60, hard=True),
    "mt_bench": QuestionSet(48, 24, two_turns=True),
    "gsm8k": QuestionSet(150, 75, kinds=("story",), numbered=True),
}
QUESTIONS: Final = Path(__file__).with_name("questions.json")
_MARGIN = 0.3  # a rejected answer scores at least this much less than the golden one
_BASELINE_QUALITY = 0.77  # gives the baseline a mean score of about 0.7


@dataclass(frozen=True)
class PocketPrompt:
    """A training prompt with a right and a clearly worse answer. ``messages`` ends with a user turn."""

    id: str
    messages: tuple[dict[str, str], ...]
    kind: str
    golden: str
    rejected: str


@dataclass(frozen=True)
class PocketQuestion:
    """A benchmark question: one or two user turns, the baseline's and the right answer to each.

    The second turn's right answer is right after ``reference[0]``, and the baseline's was given after ``baseline[0]``;
    after any other first answer ask ``score``, which reads the conversation as it went. ``number``: what stands
    after ``####`` (gsm8k only).
    """

    id: str
    category: str
    turns: tuple[str, ...]
    baseline: tuple[str, ...]
    reference: tuple[str, ...]
    number: str | None = None


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _rejected(messages: tuple[dict[str, str], ...], golden: str, rng: random.Random) -> str:
    limit = score(messages, golden) - _MARGIN
    while True:  # quality 0.2 falls short of the margin nearly always, so this ends at once
        answer = graded_answer(messages, 0.2, rng)
        if score(messages, answer) <= limit:
            return answer


def iter_prompts(seed: int, *, split: Split = "train", first_quality: float = 0.7) -> Iterator[PocketPrompt]:
    """Prompts of one split without end, kinds in turn.

    ``first_quality``: how often the first answer of a follow-up is a right one; the others have flaws.

    Raises:
        ValueError: a kind has no fresh instruction left (after some ten thousand prompts).
    """
    rng = random.Random(f"pocket-prompts-{split}-{seed}")
    taken: set[str] = set()
    number = 0
    while True:
        kind = TRAIN_KINDS[number % len(TRAIN_KINDS)]
        first = fresh_turn(rng.choice(KINDS) if kind == "followup" else kind, split, rng, taken)
        messages: tuple[dict[str, str], ...] = (_user(first),)
        if kind == "followup":
            quality = 1.0 if rng.random() < first_quality else 0.4
            answer = graded_answer(messages, quality, rng)
            messages = (*messages, _assistant(answer), _user(follow_up(first, answer, rng)))
        golden = golden_answer(messages, rng)
        yield PocketPrompt(f"pocket-{split}-{seed}-{number}", messages, kind, golden, _rejected(messages, golden, rng))
        number += 1


def train_prompts(n: int, seed: int) -> list[PocketPrompt]:
    """``n`` distinct training prompts, kinds in turn; a longer list of the same seed starts with the shorter one.

    Raises:
        ValueError: ``n`` is negative, or more than this world has.
    """
    if n < 0:
        raise ValueError(f"n is the number of prompts, at least 0, got {n}")
    source = iter_prompts(seed)
    return [next(source) for _ in range(n)]


def _question(name: str, form: QuestionSet, kind: str, first: str, rng: random.Random) -> PocketQuestion:
    talk = (_user(first),)
    reference = [golden_answer(talk, rng)]
    baseline = [graded_answer(talk, _BASELINE_QUALITY, rng)]
    turns = [first]
    if form.two_turns:
        turns.append(follow_up(first, reference[0], rng))
        reference.append(golden_answer((*talk, _assistant(reference[0]), _user(turns[1])), rng))
        baseline.append(graded_answer((*talk, _assistant(baseline[0]), _user(turns[1])), _BASELINE_QUALITY, rng))
    value = str(recognise(talk).value) if form.numbered else None
    return PocketQuestion(name, kind, tuple(turns), tuple(baseline), tuple(reference), value)


def make_questions(split: Split) -> dict[str, list[PocketQuestion]]:
    """The questions of every benchmark, made by the rules of this world."""
    taken: set[str] = set()
    questions: dict[str, list[PocketQuestion]] = {}
    for name, form in BENCHMARKS.items():
        rng = random.Random(f"pocket-{name}-{split}")
        size = form.test if split == "test" else form.dev
        questions[name] = [
            _question(f"{name}-{split}-{number}", form, kind, fresh_turn(kind, split, rng, taken, hard=form.hard), rng)
            for number in range(size)
            for kind in [form.kinds[number % len(form.kinds)]]
        ]
    return questions


def dev_questions(benchmark: str) -> list[PocketQuestion]:
    """Questions to choose hyper-parameters on, about half as many as for the test; always the same ones.

    Raises:
        ValueError: not one of ``BENCHMARKS``.
    """
    return _of_benchmark(make_questions("dev"), benchmark)


def test_questions(benchmark: str) -> list[PocketQuestion]:
    """The questions a result is reported on (``alpaca_eval`` 200, ``arena_hard`` 120, ``mt_bench`` 48 of two turns,
    ``gsm8k`` 150 word problems); always the same ones.

    Raises:
        ValueError: not one of ``BENCHMARKS``.
    """
    return _of_benchmark(_stored_questions(), benchmark)


test_questions.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest makes of its name


@cache
def _stored_questions() -> dict[str, list[PocketQuestion]]:
    """``make_questions("test")``, from a file: every plan needs them, and making them costs 80,000 calls."""
    stored: dict[str, list[list[Any]]] = json.loads(QUESTIONS.read_bytes())
    return {
        name: [
            PocketQuestion(id_, category, tuple(turns), tuple(baseline), tuple(reference), number)
            for id_, category, turns, baseline, reference, number in rows
        ]
        for name, rows in stored.items()
    }


def write_test_questions() -> None:
    """Write the file of the test questions again, after a change of the rules."""
    made = {name: [list(asdict(each).values()) for each in rows] for name, rows in make_questions("test").items()}
    lines = (f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for name, rows in made.items())
    QUESTIONS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _of_benchmark(questions: dict[str, list[PocketQuestion]], benchmark: str) -> list[PocketQuestion]:
    if benchmark not in questions:
        raise ValueError(f"unknown pocket benchmark {benchmark!r}; choose one of {', '.join(BENCHMARKS)}")
    return questions[benchmark]
