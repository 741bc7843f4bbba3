"""The contract of a benchmark: questions, what to ask a judge about an answer, how to read it, how to score.

Everything but loading and answering is a pure function, so a better parser re-scores stored replies for free.
"""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

from harness.contracts.model import Capability, GeneratesText
from harness.contracts.options import json_data, options_from
from harness.errors import UserError
from harness.text import format_count
from harness.types import Answer, Judgment, Question, Reply, Request, Score, Verdict

C = TypeVar("C")


@dataclass(frozen=True)
class Metric:
    """A column of the tables: ``id`` is ``alpaca_eval.lc``, ``group`` the heading above it, ``AlpacaEval 2``. ``unit``:
    ``%``, or a scale such as ``1-10``, which bounds intervals; ``digits``: printed after the point."""

    id: str
    title: str
    group: str
    unit: str = "%"
    digits: int = 2
    measured: bool = False
    """A cost, not a score: no interval, no test, and a high one is not the best."""
    margin: float | None = None
    """Two scores closer than this count as the same, in the metric's unit; ``None``: no two scores can be said to."""
    joint: bool = False
    """Whether a row's score may depend on which other rows are scored with it: a search cannot go by it."""
    least: int = 0
    """Questions, below which there is no score."""


@dataclass(frozen=True)
class Card:
    """The protocol behind a number, printed with every table; ``deviations`` from the official one are sentences."""

    benchmark: str
    version: str
    prompt_hash: str
    """First 12 hex digits of the sha256 of the judge prompt texts; "none" for rules."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    official_judge: str = ""
    """The judge of the protocol's published numbers; empty if rules decide."""


MISSING: Final = "missing:"  # opens the name of a score's count of judgments without verdict, by reason
FLAGS: Final[Mapping[str, str]] = {
    "several-labels": "in a reply with several labels: the official rule takes one of them",
    "single-bracket": "from single brackets, which may be a citation or an index",
    "mirrored-label": "with the label written backwards",
    "last-label": "from the last of several different verdicts in one reply",
    "not-found": "of answers in which nothing to compare was found",
    "contains-right": "wrong, though the answer holds a right one among other words",
    "no-letter": "of answers that name no choice",
    "stripped-token": "from tokens with spaces around them",
    "little-mass": "from tokens that have less than half of the probability",
    "no-mass": "missing: the tokens asked for have almost no probability; set the judge's logprobs or thinking_tokens",
    "no-logprobs": "from the text, without log-probabilities",
    "right-as-number": "wrong because the official rule compares texts, but right as numbers: $29.00 for 29",
    "no-number": "of answers without a number",
    "cut-at-stop": "of answers cut at lm-eval's stop strings",
    "broken-json": "of answers in broken JSON",
    "thinking-cut": "missing because thinking was cut short",
    "system-folded": "with the system text moved into the user turn",
    "prompt-cut": "of prompts that the server seems to have cut: it counted far fewer tokens than were sent",
}
"""Flag of a judgment to what it says of verdicts, after their number."""


@dataclass(frozen=True)
class QuestionSetSize:
    """How large a question set is, for a plan that is made where its files are not here.

    ``turns`` and judge ``requests`` are per question, ``characters`` the mean length of a turn, ``request_characters``
    that of a judge prompt with a blank answer, ``reply_tokens`` the most that a verdict is counted with.
    """

    questions: int
    turns: int
    characters: int
    requests: int
    request_characters: int
    reply_tokens: int


@dataclass(frozen=True)
class Entrant:
    """One model's answers to a benchmark and the judgments on them."""

    answers: Sequence[Answer]
    judgments: Sequence[Judgment]


class Benchmark(ABC, Generic[C]):
    """An entry of BENCHMARKS (``docs/add-a-benchmark.md``). ``C``: its options, a class made with ``@options`` that has
    a docstring under each field."""

    name: str
    metrics: tuple[Metric, ...]
    config: type[C]
    kind: str = ""
    """The name in BENCHMARKS, where a recipe gives the column a name of its own; empty: it has this one."""
    summary: str = ""
    """One line for lists."""
    official: bool = True
    """Whether it is a published protocol, from which departures are reported."""
    verdicts: tuple[float, float]
    """The worst and the best verdict that ``parse`` or ``grade`` can give: what a missing one could have been. Where
    answers are compared with a baseline's, a tie lies half way."""
    needs_judge: bool = True
    """Whether a judge model is needed; otherwise ``grade`` is the rule (GSM8K)."""
    spreads: tuple[float, ...] = ()
    """By metric, the standard deviation over questions of the change from one row to another, in the metric's unit: a
    plan uses it until a run has measured one. Empty: not known."""
    spread_source: str = ""
    """What ``spreads`` were measured on, in words for a plan."""
    pairwise: bool = False
    """Whether the judge sees the baseline's answers (``Question.baseline``): other ones make other requests."""
    version: int = 1
    """Raised when asking or reading changes: stored answers and judgments are then not reused. A change of a plug-in's
    own file counts anyway; this is for modules that it imports."""
    judge_fields: tuple[str, ...] = ()
    """Fields of ``config`` that decide verdicts and not answers: what a judge is asked, how a reply is read, by which
    rule ``grade`` marks. A change judges the stored answers again."""
    score_fields: tuple[str, ...] = ()
    """Fields of ``config`` that decide neither: how scores are made of verdicts, titles, and where questions come from
    (what they say has a hash of its own). A change of any field that is in neither list answers everything again."""

    def named(self, name: str, config: C) -> Self:
        """This entry as a recipe's column ``name`` with these options: ids of its metrics begin with that name, and
        what depends on options alone (a scale, say) is set. Reads no files."""
        if name == self.name:
            return self
        column = copy.copy(self)
        column.name, column.kind = name, self.kind or self.name
        column.metrics = tuple(
            replace(metric, id=f"{name}.{metric.id.partition('.')[2]}", group=f"{metric.group} ({name})")
            for metric in self.metrics
        )
        return column

    @abstractmethod
    def questions(self, config: C) -> list[Question]:
        """All questions. Raises UserError with what to pull, from where."""

    def files(self, config: C) -> Sequence[str]:
        """Pinned files (``distilbench assets status``) that questions, requests and scores read."""
        return ()

    def pins(self, config: C) -> dict[str, str]:
        """Option that names a file (other than the questions') to a hash of its content, which stands for it in keys.
        Raises UserError."""
        return {}

    def stored_config(self, values: Mapping[str, object]) -> C:
        """The options of a stored run, by their names of then. Raises UserError."""
        return options_from(self.config, values)

    def size(self, config: C) -> QuestionSetSize | None:
        """Size of the set that ``questions`` would load; ``None``: not known without its files."""
        return None

    def example_characters(self, config: C) -> int:
        """About how many characters the worked examples before each question have."""
        return 0

    def answer_tokens(self, config: C) -> int | None:
        """About how many tokens the answer to one turn has; ``None``: not known."""
        return None

    def needs(self, config: C) -> frozenset[Capability]:
        """What ``answer`` asks of a model."""
        return frozenset({"generate"})

    @abstractmethod
    def answer(self, model: GeneratesText, questions: Sequence[Question], config: C, seed: int) -> list[Answer]:
        """Ask the model all turns of all questions; one answer per question, in order. Equal arguments give equal
        answers. ``model`` has what ``needs`` names."""

    def requests(self, question: Question, answer: Answer, config: C) -> list[Request]:
        """Pure: what to ask the judge about this answer; ``part`` and ``repeat`` tell the requests apart."""
        return []

    def parse(self, request: Request, reply: Reply, config: C) -> Verdict:
        """Pure: read a verdict within ``verdicts``, or ``None`` with the reason. Never raises on any reply."""
        return Verdict(None, f"{self.name} is graded by rule")

    def second_request(self, request: Request, reply: Reply, config: C) -> Request | None:
        """Pure: the one further request after a reply without a verdict; ``parse`` reads both, joined by a newline."""
        return None

    def grade(self, question: Question, answer: Answer, config: C) -> list[Judgment]:
        """Pure: judgments by rule (``needs_judge`` is false). ``explain`` and the page show their ``meta``: what of the
        answer was ``compared``."""
        return []

    @abstractmethod
    def score(
        self, questions: Sequence[Question], entrants: Mapping[str, Entrant], config: C, seed: int, replicates: int
    ) -> dict[str, tuple[Score, ...]]:
        """Pure: one Score per metric, in the order of ``metrics``, for every entrant (by name). Joint, because length
        control may share difficulties. Replicate b of ``replicates`` resamples the questions alike for all entrants, so
        that differences pair (``harness.stats.resamples`` with ``seed``)."""

    def remarks(self, questions: int, config: C) -> Sequence[str]:
        """Sentences for a plan with so many questions."""
        return ()

    def caveat(self, config: C) -> str:
        """For the footnote of a cell: what makes its number incomparable with published ones; empty: nothing."""
        return ""

    @abstractmethod
    def card(self, config: C) -> Card:
        """The protocol with these options, its departures from the official one included."""


AnyBenchmark: TypeAlias = Benchmark[Any]  # what a registry holds: its options only its own code knows


def questions_hash(questions: Sequence[Question], all_fields: bool) -> str:
    """Hex digest of what is asked (ids and turns), or of everything that a judge may see too."""
    # Two hashes, so that a corrected reference or another baseline is judged again without being answered again.
    content = [
        [q.id, list(q.turns)] + ([q.category, list(q.baseline), list(q.reference), dict(q.meta)] if all_fields else [])
        for q in questions
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def pair_answers(
    questions: Sequence[Question], answers: Sequence[Answer], owner: str = ""
) -> list[tuple[Question, Answer]]:
    """The questions with their answer. One without is passed over, or a UserError that begins with ``owner``."""
    by_question = {answer.question: answer for answer in answers}
    unpaired = [question.id for question in questions if question.id not in by_question]
    if unpaired and owner:
        names = ", ".join(unpaired[:5]) + (", ..." if len(unpaired) > 5 else "")
        raise UserError(
            f"{owner} no answer to {len(unpaired)} of {format_count(len(questions), 'question')} ({names})."
        )
    return [(question, by_question[question.id]) for question in questions if question.id in by_question]


def against(questions: Sequence[Question], answers: Sequence[Answer], name: str) -> list[Question]:
    """The questions with a model's answers as their baseline. Raises UserError listing those that have no answer."""
    new_questions = []
    for question, answer in pair_answers(questions, answers, f"the baseline {name!r} has"):
        # The official baseline's token count must not stay beside another answer: style control would use it.
        meta = {key: value for key, value in question.meta.items() if key != "baseline_token_len"} | {"baseline": name}
        if "token_len" in answer.meta:
            meta["baseline_token_len"] = answer.meta["token_len"]
        new_questions.append(replace(question, baseline=answer.turns, meta=meta))
    return new_questions


KIND: Final = "kind"
"""Key of a recipe's column that names its entry in BENCHMARKS, where the column has another name."""


def kind_option(benchmark: AnyBenchmark) -> dict[str, object]:
    return {KIND: benchmark.kind} if benchmark.kind else {}


@dataclass(frozen=True, eq=False)
class ConfiguredBenchmark:
    """A benchmark with its options and questions: placeholders where ``absence`` says why their files are not here."""

    benchmark: AnyBenchmark
    config: object
    questions: Sequence[Question]
    absence: str = ""

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
        scores = self.benchmark.score(self.questions, entrants, self.config, seed, replicates)
        ids = [metric.id for metric in self.benchmark.metrics]
        # An entry may write the ids of its own name, whatever a recipe calls the column.
        return {
            name: tuple(replace(score, metric=metric) for metric, score in zip(ids, row, strict=True))
            for name, row in scores.items()
        }

    @property
    def name(self) -> str:
        return self.benchmark.name

    @cached_property
    def asked_hash(self) -> str:
        return questions_hash(self.questions, all_fields=False)

    @cached_property
    def judged_hash(self) -> str:
        return questions_hash(self.questions, all_fields=True)

    @cached_property
    def options(self) -> dict[str, object]:
        """As a recipe writes them, its judge apart: ``Registry.benchmark`` reads them back."""
        return kind_option(self.benchmark) | json_data(self.config)

    @cached_property
    def _keyed_options(self) -> dict[str, object]:
        return {**self.options, **self.benchmark.pins(self.config)}

    @property
    def answer_options(self) -> dict[str, object]:
        later = {*self.benchmark.judge_fields, *self.benchmark.score_fields}
        names = [name for name in json_data(self.config) if name not in later]
        return kind_option(self.benchmark) | {name: self._keyed_options[name] for name in names}

    @property
    def judge_options(self) -> dict[str, object]:
        names = self.benchmark.judge_fields
        return kind_option(self.benchmark) | {name: self._keyed_options[name] for name in names}
