"""Kind ``exact``: an answer is right where it equals a right answer, after a stated normalisation. No judge.

Several right answers may be given. An answer in which nothing is found (no number, no match, no JSON) is wrong, and
flagged: the model did not give what was asked for.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

from harness.contracts.benchmark import Card, Entrant, Metric
from harness.contracts.options import options, require
from harness.errors import UserError
from harness.text import format_count
from harness.types import Answer, Judgment, Question, Score
from judges.benchmarks.numbers import last_number
from judges.benchmarks.own.judged import OwnBenchmark, check_reading
from judges.benchmarks.own.questions import OwnConfig, RowNeeds, heading, load_questions, own_card
from judges.benchmarks.replies import find_json, find_pattern
from judges.benchmarks.scoring import Detail, Ratio, entrant_detail, ratio_score, verdicts

PART: Final = "answer"
NOT_FOUND: Final = "not-found"
"""Flag of an answer in which there is nothing to compare."""
CONTAINS_RIGHT: Final = "contains-right"
"""Flag of a wrong answer that holds a right one as whole words."""
_ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)
_QUOTES: Final = "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"
_DECIMAL_COMMA = re.compile(r"(?<![\d,])(?:\d+,\d{1,2}|0,\d+)\D*$")
"""In the last number of a text; a comma before three digits divides thousands."""
Step = Literal["case", "space", "punctuation", "articles"]


@options
class ExactConfig(OwnConfig):
    """Options of an own benchmark with right answers."""

    parse: Literal["text", "number", "regex", "json"] = "text"
    """What of the answer is compared: all of it, its last ``number`` (as a number: 0.5 is 1/2), the last match of
    ``pattern``, or the value under ``key`` of its last JSON object."""
    pattern: str | None = None
    """With ``parse: regex``: the pattern; its first group, where it has one, is compared."""
    key: str | None = None
    """With ``parse: json``: the key; ``a.b`` is b inside of a."""
    normalise: tuple[Step, ...] = ("case", "space", "punctuation")
    """What does not count in texts: ``case``, runs of white ``space``, ``punctuation`` at the ends (for ``f1``: of
    each word), English ``articles``."""
    metric: Literal["match", "contains", "f1"] = "match"
    """``match``: equal to a right answer. ``contains``: contains one as whole words. ``f1``: overlap of words with the
    closest right answer. Of a question of several turns, the last answer is compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reading(self.parse, self.pattern, self.key)
        fits = self.parse != "number" or self.metric == "match"
        require(fits, "metric: numbers are compared as numbers, which needs metric = match")


class Exact(OwnBenchmark[ExactConfig]):
    name = "exact"
    summary = "your questions' answers compared with right ones: text, number, pattern or JSON; no judge"
    metrics: tuple[Metric, ...] = (Metric("exact.acc", "Acc. (%)", "exact", margin=2.0),)
    config = ExactConfig
    verdicts = (0.0, 1.0)
    needs_judge = False
    version = 3
    judge_fields: tuple[str, ...] = ("parse", "pattern", "key", "normalise", "metric")

    def metric(self, name: str, config: ExactConfig) -> Metric:
        part, title = ("f1", "F1 (%)") if config.metric == "f1" else ("acc", "Acc. (%)")
        return Metric(f"{name}.{part}", title, heading(config, name), margin=2.0)

    def questions(self, config: ExactConfig) -> list[Question]:
        why = {"reference": "the right answer, or a list of them"}
        questions = load_questions(config, "exact", RowNeeds(frozenset({"reference"}), why=why))
        if config.parse == "number":
            wrong = [q for q in questions if not all(is_number(text) for text in q.reference)]
        else:
            wrong = [q for q in questions if not all(normal(text, config.normalise) for text in q.reference)]
        if wrong:
            what = "are empty after the normalisation"
            what = "hold no number, or a comma for a point" if config.parse == "number" else what
            names = ", ".join(f"{question.id}: {question.reference[0][:40]!r}" for question in wrong[:5])
            raise UserError(f"the right answers to {format_count(len(wrong), 'question')} {what} ({names}).")
        return questions

    def grade(self, question: Question, answer: Answer, config: ExactConfig) -> list[Judgment]:
        text = extracted(answer.turns[-1], config)
        if text is None:
            return [Judgment(question.id, PART, 0.0, flags=(NOT_FOUND,), judge_model="rule")]
        mark = max(mark_of(text, right, config) for right in question.reference)
        is_inside = (
            not mark
            and config.parse != "number"
            and any(
                holds(normal(answer.turns[-1], config.normalise), normal(right, config.normalise))
                for right in question.reference
            )
        )
        flags, meta = (CONTAINS_RIGHT,) * is_inside, {"compared": comparable(text, config)}
        return [Judgment(question.id, PART, mark, flags=flags, judge_model="rule", meta=meta)]

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: ExactConfig, seed: int, replicates: int
    ) -> Score:
        return accuracy(self.metrics[0].id, questions, entrant, seed, replicates)

    def card(self, config: ExactConfig) -> Card:
        what = {"text": "the text", "number": "the last number", "regex": "a pattern", "json": "a JSON value"}
        how = {"match": "a right answer", "contains": "holding a right answer", "f1": "F1 with a right answer"}
        text = f"{how[config.metric]}, by {what[config.parse]}"
        return own_card(self.name, config, text, "none")


def is_number(text: str) -> bool:
    """Of a right answer; in 2,5 the last number would be 5, and 3,5 as right."""
    return last_number(text) is not None and _DECIMAL_COMMA.search(text) is None


def extracted(text: str, config: ExactConfig) -> str | None:
    """What of an answer is compared; ``None``: it is not there."""
    if config.parse == "regex":
        found = find_pattern(text, str(config.pattern))
        return found[-1] if found else None
    if config.parse == "json":
        values = find_json(text, str(config.key))
        return values[-1] if values else None
    return text if config.parse == "text" or last_number(text) is not None else None


def mark_of(text: str, right: str, config: ExactConfig) -> float:
    """0 to 1; between them for F1 alone."""
    answer, reference = (comparable(value, config) for value in (text, right))
    if config.metric == "contains":
        return float(holds(answer, reference))
    if config.metric == "f1":
        return word_f1(*([normal(word, config.normalise) for word in side.split()] for side in (answer, reference)))
    return float(answer == reference)


def comparable(text: str, config: ExactConfig) -> str:
    """The form in which texts are equal that count as the same; numbers as fractions: ``0.50`` is ``1/2``."""
    return str(last_number(text)) if config.parse == "number" else normal(text, config.normalise)


def holds(text: str, part: str) -> bool:
    """As whole words."""
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) is not None


def normal(text: str, steps: Sequence[str]) -> str:
    text = unicodedata.normalize("NFC", text)  # one letter may be written in two ways
    if "case" in steps:
        text = text.casefold()
    if "articles" in steps:
        text = _ARTICLES.sub(" ", text)
    if "space" in steps:
        text = " ".join(text.split())
    if "punctuation" in steps:
        # A sign or a unit is part of an answer: -5, 5%, $5.
        ends = "".join(set(string.punctuation + _QUOTES) - set("-+%$"))
        text = text.strip(ends + string.whitespace)
    return text


def word_f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """2 PR / (P + R) over words, counted as often as they occur in both."""
    words = [[word for word in side if word] for side in (answer, reference)]
    shared = sum((Counter(words[0]) & Counter(words[1])).values())
    return 2 * shared / (len(words[0]) + len(words[1])) if shared else 0.0


def accuracy(
    metric: str, questions: Sequence[Question], entrant: Entrant, seed: int, replicates: int, note: str = ""
) -> Score:
    """Mean of one mark per question, in percent."""
    by_question = verdicts(entrant.judgments)
    marks = [list(by_question.get(question.id, {}).values()) for question in questions]
    detail: Detail = entrant_detail(questions, entrant, needs_judge=False)
    categories: dict[str, list[float]] = {}
    for question, values in zip(questions, marks, strict=True):
        if question.category:
            categories.setdefault(f"category:{question.category}", []).extend(values)
    detail |= {name: 100 * sum(values) / len(values) for name, values in sorted(categories.items()) if values}
    return ratio_score(metric, Ratio.of_sums(questions, marks), replicates, seed, note, detail)


BENCHMARK = Exact()
