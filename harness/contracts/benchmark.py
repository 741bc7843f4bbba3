"""The contract of a benchmark: questions, what to ask a judge about an answer, how to read it, how to score.

A benchmark is one file in ``judges/`` that ends in ``BENCHMARK = ...``. Everything but loading is a pure function,
so a better parser re-scores stored replies for free. Variants are a few lines that wrap, not flags.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, Self, runtime_checkable

from harness.contracts.model import GeneratesText
from harness.contracts.options import plain
from harness.errors import UserError
from harness.text import counted
from harness.types import Answer, Judgment, Question, Reply, Request, Score, Verdict


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
    parameters: Mapping[str, Any] = field(default_factory=dict)
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


@runtime_checkable
class Benchmark(Protocol):
    """What the stages ``answer``, ``judge`` and ``score`` call. ``config`` is the benchmark's own frozen dataclass."""

    name: str
    metrics: tuple[Metric, ...]
    config: type[Any]
    verdicts: tuple[float, float]
    """The worst and the best verdict that ``parse`` or ``grade`` can give: what a missing one could have been. Where
    answers are compared with a baseline's, a tie lies half way."""
    judged: bool
    """Whether a judge model is needed (GSM8K is graded by rule)."""
    pairwise: bool
    """Whether the judge sees the baseline's answers (``Question.baseline``): other ones make other requests."""
    version: int
    """Raised when asking or reading computes something else: stored answers and judgments are then not reused."""
    answer_fields: tuple[str, ...]
    """Fields of ``config`` that decide the answers; a change of any other field answers nothing again."""
    judge_fields: tuple[str, ...]
    """Fields of ``config`` that decide what the judge is asked and how its reply is read."""

    def questions(self, config: Any) -> list[Question]:
        """Load the questions (``config.questions`` names the set). Raises UserError with what to pull, from where."""

    def size(self, config: Any) -> QuestionSetSize | None:
        """Size of the set that ``questions`` would load; ``None``: not known without its files."""

    def answer(self, model: GeneratesText, questions: Sequence[Question], config: Any, seed: int) -> list[Answer]:
        """Ask the model all turns of all questions; one answer per question, in order."""

    def requests(self, question: Question, answer: Answer, config: Any) -> list[Request]:
        """Pure: what to ask the judge about this answer. Empty for benchmarks graded by rule."""

    def parse(self, request: Request, reply: Reply, config: Any) -> Verdict:
        """Pure: read a verdict, or ``None`` with the reason. Never raises on any reply."""

    def grade(self, question: Question, answer: Answer, config: Any) -> list[Judgment]:
        """Pure: judgments by rule (``judged`` is false). Empty for judged benchmarks."""

    def score(
        self, questions: Sequence[Question], entrants: Mapping[str, Entrant], config: Any, seed: int, replicates: int
    ) -> dict[str, tuple[Score, ...]]:
        """Pure: one Score per metric for every entrant. Joint, because length control may share difficulties."""

    def card(self, config: Any) -> Card:
        """The protocol, for the run card and the footnotes."""


@runtime_checkable
class AsksAgain(Protocol):
    """A benchmark whose protocol has a second question for a judge whose reply gives no verdict."""

    def again(self, request: Request, reply: Reply, config: Any) -> Request | None:
        """Pure: the request that follows this reply, the conversation included; ``None``: none does.

        It is asked once. ``parse`` then reads both replies, joined by a line break.
        """


def questions_hash(questions: Sequence[Question], whole: bool) -> str:
    """Hex digest of the questions: of what is asked (ids and turns), or of everything a judge may see too."""
    # Two hashes, so that a corrected reference or another baseline is judged again without being answered again.
    plain = [
        [q.id, list(q.turns)] + ([q.category, list(q.baseline), list(q.reference), dict(q.meta)] if whole else [])
        for q in questions
    ]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:32]


def against(questions: Sequence[Question], answers: Sequence[Answer], name: str) -> list[Question]:
    """The questions with another baseline: a model's own answers in the place of the official baseline's.

    Small students sit on the floor against GPT-4; against each other they can be told apart. Raises UserError listing
    the questions that have no answer.
    """
    by_question = {answer.question: answer for answer in answers}
    missing = [question.id for question in questions if question.id not in by_question]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise UserError(
            f"the baseline {name!r} has no answer to {len(missing)} of {counted(len(questions), 'question')}: {shown}"
        )
    return [
        replace(question, baseline=by_question[question.id].turns, meta={**question.meta, "baseline": name})
        for question in questions
    ]


@dataclass(frozen=True, eq=False)
class ConfiguredBenchmark:
    """A benchmark with its options and questions: what answer, judge and score stages are made from."""

    benchmark: Benchmark
    config: Any
    questions: Sequence[Question]
    absent: str = ""
    """Why the files of the questions are not here. ``questions`` are then placeholders to plan with."""

    @classmethod
    def load(cls, benchmark: Benchmark, config: Any) -> Self:
        """Load the questions, or placeholders of the known size. Raises UserError where neither can be had."""
        try:
            return cls(benchmark, config, benchmark.questions(config))
        except UserError as error:
            size = benchmark.size(config)
            if size is None:
                raise
            turns = (" " * size.characters,) * size.turns
            return cls(benchmark, config, [Question(f"absent/{n}", turns) for n in range(size.questions)], str(error))

    @property
    def name(self) -> str:
        return self.benchmark.name

    @cached_property
    def asked_hash(self) -> str:
        """Of what models are asked."""
        return questions_hash(self.questions, whole=False)

    @cached_property
    def judged_hash(self) -> str:
        """Of what judges may see: references and the baseline's answers too."""
        return questions_hash(self.questions, whole=True)

    @cached_property
    def options(self) -> dict[str, Any]:
        return plain(self.config)

    @property
    def answer_options(self) -> dict[str, Any]:
        """The options that decide the answers."""
        return {name: self.options[name] for name in self.benchmark.answer_fields}

    @property
    def judge_options(self) -> dict[str, Any]:
        """The options that decide what judges are asked, and how their replies are read."""
        return {name: self.options[name] for name in self.benchmark.judge_fields}
