"""The contract of a benchmark: questions, what to ask a judge about an answer, how to read it, how to score.

A benchmark is one file in ``judges/`` that ends in ``BENCHMARK = ...``. Everything but loading is a pure function,
so a better parser re-scores stored replies for free. Variants are a few lines that wrap, not flags.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, Self, TypeAlias, TypeVar

from harness.contracts.model import GeneratesText
from harness.contracts.options import plain
from harness.errors import UserError
from harness.text import counted
from harness.types import Answer, Judgment, Question, Reply, Request, Score, Verdict

C = TypeVar("C")


@dataclass(frozen=True)
class Metric:
    """A column of the tables."""

    id: str
    """``alpaca_eval.lc``."""
    title: str
    group: str
    """The heading above the column: ``AlpacaEval 2``."""
    unit: str = "%"
    digits: int = 2
    measured: bool = False
    """A cost, not a score: no interval, no test, and a high one is not the best."""
    margin: float | None = None
    """Two scores closer than this count as the same (an equivalence margin, in the metric's unit); ``None``: none is
    stated, and no interval is narrow enough to say that two scores agree."""


@dataclass(frozen=True)
class Card:
    """The protocol behind a number, printed with every table."""

    benchmark: str
    version: str
    prompt_hash: str
    """First 12 hex digits of the sha256 of the judge prompt texts; "none" for rules."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    """Where this differs from the official protocol, one sentence each."""
    official_judge: str = ""
    """The judge that the protocol's published numbers were made with; empty where rules decide."""


@dataclass(frozen=True)
class QuestionSetSize:
    """How large a question set is, for a plan that is made where its files are not here."""

    questions: int
    turns: int
    """User turns of each question."""
    characters: int
    """Mean length of a turn."""
    requests: int
    """Judge calls for each answered question."""
    request_characters: int
    """Mean length of a judge prompt with a blank answer."""
    reply_tokens: int
    """Most that a verdict is counted with."""


@dataclass(frozen=True)
class Entrant:
    """One model's answers to a benchmark and the judgments on them, as a scorer sees it."""

    answers: Sequence[Answer]
    judgments: Sequence[Judgment]


class Benchmark(ABC, Generic[C]):
    """An entry of BENCHMARKS. ``C`` is the frozen dataclass of its options, with a docstring under each field."""

    name: str
    metrics: tuple[Metric, ...]
    config: type[C]
    verdicts: tuple[float, float]
    """The worst and the best verdict that ``parse`` or ``grade`` can give: what a missing one could have been. Where
    answers are compared with a baseline's, a tie lies half way."""
    judged: bool = True
    """Whether a judge model is needed; otherwise ``grade`` is the rule (GSM8K)."""
    pairwise: bool = False
    """Whether the judge sees the baseline's answers (``Question.baseline``): other ones make other requests."""
    version: int = 1
    """Raised when asking or reading computes something else: stored answers and judgments are then not reused."""
    answer_fields: tuple[str, ...] = ()
    """Fields of ``config`` that decide the answers; a change of any other field answers nothing again."""
    judge_fields: tuple[str, ...] = ()
    """Fields of ``config`` that decide what the judge is asked and how its reply is read."""

    @abstractmethod
    def questions(self, config: C) -> list[Question]:
        """Load the questions. Raises UserError with what to pull, from where."""

    def size(self, config: C) -> QuestionSetSize | None:
        """Size of the set that ``questions`` would load; ``None``: not known without its files."""
        return None

    @abstractmethod
    def answer(self, model: GeneratesText, questions: Sequence[Question], config: C, seed: int) -> list[Answer]:
        """Ask the model all turns of all questions; one answer per question, in order."""

    def requests(self, question: Question, answer: Answer, config: C) -> list[Request]:
        """Pure: what to ask the judge about this answer."""
        return []

    def parse(self, request: Request, reply: Reply, config: C) -> Verdict:
        """Pure: read a verdict, or ``None`` with the reason. Never raises on any reply."""
        return Verdict(None, f"{self.name} is graded by rule")

    def again(self, request: Request, reply: Reply, config: C) -> Request | None:
        """Pure: the one further request, conversation included, after a reply that gives no verdict.

        ``parse`` then reads both replies, joined by a line break.
        """
        return None

    def grade(self, question: Question, answer: Answer, config: C) -> list[Judgment]:
        """Pure: judgments by rule (``judged`` is false)."""
        return []

    @abstractmethod
    def score(
        self, questions: Sequence[Question], entrants: Mapping[str, Entrant], config: C, seed: int, replicates: int
    ) -> dict[str, tuple[Score, ...]]:
        """Pure: one Score per metric for every entrant. Joint, because length control may share difficulties."""

    @abstractmethod
    def card(self, config: C) -> Card:
        """The protocol, for the run card and the footnotes."""


AnyBenchmark: TypeAlias = Benchmark[Any]
"""A benchmark whose options only its own code knows: what a registry holds."""


def questions_hash(questions: Sequence[Question], whole: bool) -> str:
    """Hex digest of the questions: of what is asked (ids and turns), or of everything a judge may see too."""
    # Two hashes, so that a corrected reference or another baseline is judged again without being answered again.
    content = [
        [q.id, list(q.turns)] + ([q.category, list(q.baseline), list(q.reference), dict(q.meta)] if whole else [])
        for q in questions
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def answered(
    questions: Sequence[Question], answers: Sequence[Answer], missing: str = ""
) -> list[tuple[Question, Answer]]:
    """The questions with their answer, for those that have one.

    Args:
        missing: begin of the error where a question has none (``the baseline has``); empty: it is passed over.
    """
    by_question = {answer.question: answer for answer in answers}
    absent = [question.id for question in questions if question.id not in by_question]
    if absent and missing:
        shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise UserError(f"{missing} no answer to {len(absent)} of {counted(len(questions), 'question')} ({shown}).")
    return [(question, by_question[question.id]) for question in questions if question.id in by_question]


def against(questions: Sequence[Question], answers: Sequence[Answer], name: str) -> list[Question]:
    """The questions with another baseline: a model's own answers in the place of the official baseline's.

    Small students sit on the floor against GPT-4; against each other they can be told apart. Raises UserError listing
    the questions that have no answer.
    """
    changed = []
    for question, answer in answered(questions, answers, f"the baseline {name!r} has"):
        # The official baseline's token count must not stay beside another answer: style control would use it.
        meta = {key: value for key, value in question.meta.items() if key != "baseline_token_len"} | {"baseline": name}
        if "token_len" in answer.meta:
            meta["baseline_token_len"] = answer.meta["token_len"]
        changed.append(replace(question, baseline=answer.turns, meta=meta))
    return changed


@dataclass(frozen=True, eq=False)
class ConfiguredBenchmark:
    """A benchmark with its options and questions: what answer, judge and score stages are made from."""

    benchmark: AnyBenchmark
    config: object
    questions: Sequence[Question]
    absent: str = ""
    """Why the files of the questions are not here. ``questions`` are then placeholders to plan with."""

    @classmethod
    def load(cls, benchmark: AnyBenchmark, config: object) -> Self:
        """Load the questions, or placeholders of the known size. Raises UserError where neither can be had."""
        try:
            return cls(benchmark, config, benchmark.questions(config))
        except UserError as error:
            size = benchmark.size(config)
            if size is None:
                raise
            turns = (" " * size.characters,) * size.turns
            return cls(benchmark, config, [Question(f"absent/{n}", turns) for n in range(size.questions)], str(error))

    def score(self, entrants: Mapping[str, Entrant], seed: int, replicates: int) -> dict[str, tuple[Score, ...]]:
        return self.benchmark.score(self.questions, entrants, self.config, seed, replicates)

    @property
    def name(self) -> str:
        return self.benchmark.name

    @cached_property
    def asked_hash(self) -> str:
        return questions_hash(self.questions, whole=False)

    @cached_property
    def judged_hash(self) -> str:
        """Of what judges may see: references and the baseline's answers too."""
        return questions_hash(self.questions, whole=True)

    @cached_property
    def options(self) -> dict[str, object]:
        return plain(self.config)

    @property
    def answer_options(self) -> dict[str, object]:
        return {name: self.options[name] for name in self.benchmark.answer_fields}

    @property
    def judge_options(self) -> dict[str, object]:
        return {name: self.options[name] for name in self.benchmark.judge_fields}
