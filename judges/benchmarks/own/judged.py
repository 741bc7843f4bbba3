"""What the two judged kinds share: the judge's prompt, which turns are judged, how replies are read."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self, TypeVar

import numpy as np

from harness.contracts.benchmark import Benchmark, Entrant, Metric
from harness.contracts.model import GeneratesText
from harness.contracts.options import Repeats, Temperature, Tokens, options, require
from harness.errors import UserError
from harness.text import format_count
from harness.types import Answer, Message, Question, Reply, Score, Verdict
from judges.benchmarks.base import ask
from judges.benchmarks.judge_prompt import PromptTemplate, check_inline, check_references, load_prompt
from judges.benchmarks.own.questions import SOURCE_FIELDS, OwnConfig
from judges.benchmarks.replies import Read, read_brackets, read_json, read_pattern, read_tokens
from judges.benchmarks.scoring import VerdictCount

Parse = Literal["label", "regex", "json", "first-token"]
TOP_LOGPROBS: Final = 20
"""The most that the OpenAI protocol gives."""


@options
class JudgedConfig(OwnConfig):
    """Options of the judged kinds."""

    prompt: str | None = None
    """The judge's prompt with its placeholders: a file, or the text itself; null: distilbench's own."""
    judge_system: str = ""
    """System message of the judge, beside a prompt of one's own; empty: none."""
    parse: Parse = "label"
    """How a reply is read: the last ``[[label]]``, a ``regex``, the value under a key of a ``json`` object, or the
    probabilities of its ``first-token``."""
    pattern: str | None = None
    """With ``parse: regex``: the pattern; its group ``verdict``, or its first group, is the verdict."""
    key: str | None = None
    """With ``parse: json``: the key; ``a.b`` is b inside of a."""
    turns: Literal["each", "last"] = "each"
    """Of a question of several turns: judge ``each`` answer, with the conversation before it, or the ``last`` alone."""
    repeats: Repeats = 1
    """Ask for each verdict this often and average."""
    judge_max_tokens: Tokens = 1024
    """Longest reply of the judge, tokens; one with ``parse: first-token``."""
    judge_temperature: Temperature = 0.0
    """Sampling temperature of the judge; 0 is greedy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reading(self.parse, self.pattern, self.key)
        if self.prompt is None:
            require(self.parse == "label", "parse: distilbench's own prompt asks for a label; give a prompt of yours")
            require(not self.judge_system, "judge_system goes with a prompt of one's own")


def check_reading(parse: str, pattern: str | None, key: str | None) -> None:
    """For ``__post_init__``: ``pattern`` and ``key`` stand where they are read, and there alone."""
    for mode, name, value in (("regex", "pattern", pattern), ("json", "key", key)):
        require((parse == mode) == (value is not None), f"{name} goes with parse = {mode}, and is needed there")
    require(key != "", "key must not be empty")
    if pattern is not None:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            require(False, f"pattern: not a regular expression ({error})")


JUDGE_FIELDS: Final = (
    "prompt", "judge_system", "parse", "pattern", "key", "turns", "repeats", "judge_max_tokens", "judge_temperature",
)  # fmt: skip
C = TypeVar("C", bound=OwnConfig)
J = TypeVar("J", bound=JudgedConfig)


class OwnBenchmark(Benchmark[C]):
    """Asks the questions as they stand, after the system message."""

    official = False
    score_fields: tuple[str, ...] = SOURCE_FIELDS

    def named(self, name: str, config: C) -> Self:
        column: Any = copy.copy(self)
        if name != self.name:
            column.name, column.kind = name, self.name
        column.metrics, column.verdicts = (self.metric(name, config),), self.ends(config)
        return column  # type: ignore[no-any-return]

    def metric(self, name: str, config: C) -> Metric:
        raise NotImplementedError

    def ends(self, config: C) -> tuple[float, float]:
        """The worst and the best verdict under these options."""
        return self.verdicts

    def answer(self, model: GeneratesText, questions: Sequence[Question], config: C, seed: int) -> list[Answer]:
        return ask(model, questions, lambda question: config.sampling, seed, config.system)

    def score(
        self, questions: Sequence[Question], entrants: Mapping[str, Entrant], config: C, seed: int, replicates: int
    ) -> dict[str, tuple[Score, ...]]:
        run = config, seed, replicates
        return {name: (self.score_entrant(questions, entrant, *run),) for name, entrant in entrants.items()}

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: C, seed: int, replicates: int
    ) -> Score:
        raise NotImplementedError


class ByJudge(OwnBenchmark[J]):
    """``places``: placeholders of the prompt; ``needed``: those without which there is nothing to judge; ``earlier``:
    those that show the turns before the judged one."""

    places: tuple[str, ...]
    needed: tuple[str, ...]
    earlier: tuple[str, ...]

    def prompt(self, config: J) -> PromptTemplate | None:
        """``None``: distilbench's own. Raises UserError."""
        return None if config.prompt is None else load_prompt(config.prompt, self.places, self.needed, "prompt")

    def check_prompt(self, questions: Sequence[Question], config: J) -> None:
        """Raises UserError where the prompt does not fit the questions."""
        prompt = self.prompt(config)
        several = [question.id for question in questions if len(question.turns) > 1]
        if prompt is None:
            if long := [question.id for question in questions if len(question.turns) > 2]:
                raise UserError(f"distilbench's own judge prompt shows two turns, and question {long[0]} has more: "
                                f"give a prompt with {{{'} and {'.join(self.earlier)}}}.")  # fmt: skip
            return
        if several and not prompt.names.issuperset(self.earlier):
            raise UserError(
                f"{format_count(len(several), 'question')} of several turns (first: {several[0]}), and the prompt "
                f"shows the judge one turn alone: it must hold {{{'} and {'.join(self.earlier)}}}."
            )
        check_references(prompt, questions, "the prompt")

    def pins(self, config: J) -> dict[str, str]:
        prompt = self.prompt(config)
        return {} if prompt is None else {"prompt": prompt.digest}

    def judged_turns(self, answer: Answer, config: J) -> range:
        count = len(answer.turns)
        return range(count) if config.turns == "each" else range(count - 1, count)


def coverage(
    questions: Sequence[Question],
    entrant: Entrant,
    used: Sequence[Sequence[float]],
    config: JudgedConfig,
    games: int = 1,
) -> dict[str, float]:
    """Details of a score, as ``VerdictCount.detail``: a question has as many verdicts as it has judged turns.
    ``used``: by question, the numbers that the score is made of, one a turn."""
    turns = [1 if config.turns == "last" else len(question.turns) for question in questions]
    repeats = 1 + max((judgment.repeat for judgment in entrant.judgments), default=0)
    distinct = {(j.question, j.part, j.repeat) for j in entrant.judgments if j.verdict is not None}
    received = Counter(question for question, _, _ in distinct)
    expected = np.array([count * games * repeats for count in turns], dtype=float)
    count = VerdictCount(np.array([received[question.id] for question in questions], dtype=float), expected)
    shares = np.array([len(values) / number for values, number in zip(used, turns, strict=True)])
    return count.detail(np.minimum(count.share, shares))


def judge_messages(prompt: PromptTemplate, values: Mapping[str, str], system: str) -> tuple[Message, ...]:
    head: tuple[Message, ...] = ({"role": "system", "content": system},) if system else ()
    return (*head, *prompt.messages(values))


def reply_limits(config: JudgedConfig) -> tuple[int, float, int]:
    """Tokens, temperature and log-probabilities of a judge call."""
    if config.parse == "first-token":
        return 1, config.judge_temperature, TOP_LOGPROBS
    return config.judge_max_tokens, config.judge_temperature, 0


def check_first_tokens(parse: str, verdicts: Sequence[str]) -> None:
    """For ``__post_init__``: many tokenizers write 10 as 1 and 0, so a first token 1 may be the grade 1 or 10."""
    pairs = ((short, long) for short in verdicts for long in verdicts if short != long and long.startswith(short))
    if parse == "first-token" and (pair := next(pairs, None)) is not None:
        rule = f"a first token {pair[0]!r} may be {pair[0]!r} or the beginning of {pair[1]!r}"
        require(False, f"parse: {rule}; choose verdicts of which none begins with another (a scale 1-9, say)")


def read_reply(reply: Reply, config: JudgedConfig, read: Read, tokens: Mapping[str, float]) -> Verdict:
    if config.parse == "first-token":
        return read_tokens(reply, tokens)
    if config.parse == "json":
        return read_json(reply, str(config.key), read)
    return read_pattern(reply, str(config.pattern), read) if config.parse == "regex" else read_brackets(reply, read)


def check_prompt_text(config: JudgedConfig, places: Sequence[str], needed: Sequence[str]) -> None:
    """For ``__post_init__``: a prompt that stands in the recipe itself."""
    try:
        check_inline(config.prompt, places, needed, "prompt")
    except UserError as error:
        require(False, str(error).removeprefix("prompt: ").removesuffix("."))
