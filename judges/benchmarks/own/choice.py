"""Kind ``choice``: multiple choice, letters A to Z, accuracy. The model writes the letter, or its log-probabilities of
the letters are compared. No judge.

A written answer without a letter is wrong, and flagged.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from harness.contracts.benchmark import Card, Entrant, Metric
from harness.contracts.model import Capability, TooLong
from harness.contracts.options import Seed, Tokens, options
from harness.errors import UserError
from harness.text import first_of_each_kind, format_count
from harness.types import Answer, Judgment, Message, Question, Score
from judges.benchmarks.own.exact import PART, accuracy
from judges.benchmarks.own.judged import OwnBenchmark
from judges.benchmarks.own.questions import SOURCE_FIELDS, OwnConfig, RowNeeds, heading, load_questions, own_card

LETTERS: Final = string.ascii_uppercase
NO_LETTER: Final = "no-letter"
"""Flag of an answer that names no choice."""
ASK: Final = "Answer with the letter of the right choice and nothing else."
_LETTER: Final = r"([A-Z]\b(?!['\u2019]\w)|[a-z](?=[.)\]:,]|[\s\"'*_]*$))"
"""A small one only with a mark after it: "the answer is a tree" names none."""
_SAID = re.compile(
    rf"(?i:answer|choice|option)(?![^\W_])[\"'*_]*(?:\s+is)?\s*[:=]?[\s\"'\u201c\u2018*_(\[$]*{_LETTER}"
    r"|\\boxed\{\s*(?:\\text\{)?\(?([A-Za-z])\b",
    re.MULTILINE,
)
_ALONE = re.compile(r"[\s\"'*_(\[]*([A-Za-z])(?:[\"'*_)\].:,]+(?=\s|$)|[ \t]*(?=\n|$))")
"""At the beginning: only marks, or nothing, may follow on its line. "A cat sat" begins with a word."""
_IN_BRACKETS = re.compile(r"\(([A-Z])\)|\*\*([A-Z])(?:\*\*|[.):])|\[\[?([A-Z])\]")


@options
class ChoiceConfig(OwnConfig):
    """Options of an own multiple-choice benchmark. Of a question of several turns, the last answer counts."""

    reference_is: Literal["any", "letter", "text", "number"] = "any"
    """What a question's ``reference`` says of the right choice: its ``letter`` (or the file's own label), its ``text``,
    its ``number`` from 0, or ``any`` of them, where a question in which they disagree is refused."""
    by: Literal["letter", "logprobs"] = "letter"
    """``letter``: the model writes it. ``logprobs``: the letter that is the most probable beginning of its reply."""
    order: Literal["given", "shuffled"] = "given"
    """Of the choices: as in the file, or ``shuffled`` by ``choice_seed`` and the question's id, alike for all rows."""
    choice_seed: Seed = 0
    """With ``order: shuffled``."""
    instruction: str = ASK
    """What stands below the choices; empty: nothing."""
    max_new_tokens: Tokens = 64
    """Longest answer, tokens."""


class Choice(OwnBenchmark[ChoiceConfig]):
    name = "choice"
    summary = "your multiple-choice questions: the letter that the model writes, or its log-probabilities; no judge"
    metrics: tuple[Metric, ...] = (Metric("choice.acc", "Acc. (%)", "choice", margin=2.0),)
    config = ChoiceConfig
    verdicts = (0.0, 1.0)
    needs_judge = False
    version = 3
    score_fields: tuple[str, ...] = (*SOURCE_FIELDS, "reference_is")

    def needs(self, config: ChoiceConfig) -> frozenset[Capability]:
        return frozenset({"choices"}) if config.by == "logprobs" else super().needs(config)

    def metric(self, name: str, config: ChoiceConfig) -> Metric:
        return Metric(f"{name}.acc", "Acc. (%)", heading(config, name), margin=2.0)

    def questions(self, config: ChoiceConfig) -> list[Question]:
        """With the choices below the last turn, and the letter of the right one as the reference."""
        why = {"reference": "the right choice: its letter, its text or its number from 0"}
        needs = RowNeeds(frozenset({"reference", "choices"}), choices=True, why=why)
        questions, problems = [], []
        for question in load_questions(config, "choice", needs):
            try:
                questions.append(lettered(question, config))
            except ValueError as error:
                problems.append(f"question {question.id}: {error}")
        if problems:
            lines = "\n".join(f"  {line}" for line in first_of_each_kind(problems, 10))
            raise UserError(f"{config.questions}: {format_count(len(problems), 'question')} cannot be asked:\n{lines}")
        return questions

    def answer(self, model: Any, questions: Sequence[Question], config: ChoiceConfig, seed: int) -> list[Answer]:
        if config.by == "letter":
            return super().answer(model, questions, config, seed)
        return by_logprobs(model, questions, config.system)

    def grade(self, question: Question, answer: Answer, config: ChoiceConfig) -> list[Judgment]:
        letter = letter_of(answer.turns[-1], question.meta.get("choices", ()))
        if letter is None:
            return [Judgment(question.id, PART, 0.0, flags=(NO_LETTER,), judge_model="rule")]
        mark = float(letter in question.reference)
        return [Judgment(question.id, PART, mark, judge_model="rule", meta={"compared": letter})]

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: ChoiceConfig, seed: int, replicates: int
    ) -> Score:
        return accuracy(self.metrics[0].id, questions, entrant, seed, replicates)

    def card(self, config: ChoiceConfig) -> Card:
        how = "log-probabilities of the letters" if config.by == "logprobs" else "the letter that is written"
        order = f", choices shuffled with seed {config.choice_seed}" if config.order == "shuffled" else ""
        return own_card(self.name, config, f"multiple choice by {how}{order}", "none")


def lettered(question: Question, config: ChoiceConfig) -> Question:
    """Raises ValueError where the right choice is not among the choices."""
    choices: list[str] = list(question.meta["choices"])
    if len(choices) > len(LETTERS):
        raise ValueError(f"{len(choices)} choices, and there are {len(LETTERS)} letters")
    if len(set(choices)) < len(choices):
        raise ValueError("two choices are the same text")
    if config.by == "logprobs" and len(question.turns) > 1:
        raise ValueError("log-probabilities are read after one turn, and it has more")
    labels = question.meta.get("labels", ())
    right = {place_of(text, choices, labels, config.reference_is) for text in question.reference}
    order = list(range(len(choices)))
    if config.order == "shuffled":
        random.Random(f"{config.choice_seed} {question.id}").shuffle(order)
    lines = "\n".join(f"{LETTERS[number]}. {choices[place]}" for number, place in enumerate(order))
    blocks = [question.turns[-1], lines, *([config.instruction] if config.instruction else [])]
    letters = tuple(LETTERS[number] for number, place in enumerate(order) if place in right)
    return replace(
        question, turns=(*question.turns[:-1], "\n\n".join(blocks)), reference=letters,
        meta={"choices": [choices[place] for place in order]},
    )  # fmt: skip


def place_of(text: str, choices: Sequence[str], labels: Sequence[str] = (), reference_is: str = "any") -> int:
    """Raises ValueError where the right choice is none of the choices, or can be read as two of them."""
    text = text.strip()
    letters = list(labels if text in labels else LETTERS[: len(choices)])
    places = {"letter": letters.index(text)} if text in letters else {}
    if text in labels and reference_is == "any":
        return places["letter"]  # what else would the labels be for
    if text in choices:
        places["text"] = list(choices).index(text)
    if text.isdecimal() and int(text) < len(choices):
        places["number"] = int(text)
    found = {place for way, place in places.items() if reference_is in ("any", way)}
    if len(found) == 1:
        return found.pop()
    if found:
        ways = " and ".join(f"the {way} of {choices[place][:40]!r}" for way, place in places.items())
        raise ValueError(f"the right choice {text[:40]!r} is {ways}: say reference_is: {' or '.join(places)}")
    what = {"any": "a letter, a text, or a number from 0", "number": "a number from 0"}.get(reference_is)
    what = what or f"a {reference_is}"
    raise ValueError(f"the right choice {text[:40]!r} is none of its {len(choices)} choices ({what})")


def letter_of(text: str, choices: Sequence[str]) -> str | None:
    """The letter that an answer names: alone at its beginning, after ``answer is``, in brackets, or a choice's text."""
    letters = LETTERS[: len(choices)]
    stripped = text.strip()
    alone = _ALONE.match(stripped)
    if alone and alone[1].upper() in letters:
        return str(alone[1]).upper()
    said = [first or second for first, second in _SAID.findall(stripped)]
    said += [] if said else ["".join(groups) for groups in _IN_BRACKETS.findall(stripped)]
    named = [letter.upper() for letter in said if letter.upper() in letters]
    if named:
        return str(named[-1])
    folded = " ".join(stripped.casefold().rstrip(".").split())
    equal = [letters[place] for place, choice in enumerate(choices) if " ".join(choice.casefold().split()) == folded]
    return equal[0] if len(equal) == 1 else None


def by_logprobs(model: Any, questions: Sequence[Question], system: str) -> list[Answer]:
    """The most probable letter, with all log-probabilities in ``meta``. A question beyond the context has no answer."""
    answers: dict[str, Answer] = {}
    opening: list[Message] = [{"role": "system", "content": system}] if system else []
    for count in sorted({len(question.meta["choices"]) for question in questions}):
        group = [question for question in questions if len(question.meta["choices"]) == count]
        letters = LETTERS[:count]
        talks = [[*opening, {"role": "user", "content": question.turns[0]}] for question in group]
        too_long: list[int] = []
        try:
            rows = model.choice_logps(talks, list(letters))
        except TooLong as error:
            too_long = error.places
            short = [talk for place, talk in enumerate(talks) if place not in too_long]
            kept = iter(model.choice_logps(short, list(letters)) if short else [])
            rows = [None if place in too_long else next(kept) for place in range(len(talks))]
        for question, row in zip(group, rows, strict=True):
            if row is None:
                answers[question.id] = Answer(question.id, ("",), (False,), (0,))
                continue
            best = letters[max(range(count), key=lambda place: float(row[place]))]
            logps = {letter: round(float(logp), 6) for letter, logp in zip(letters, row, strict=True)}
            answers[question.id] = Answer(question.id, (best,), (True,), (1,), {"logps": logps})
    return [answers[question.id] for question in questions]


BENCHMARK = Choice()
