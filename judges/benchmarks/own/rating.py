"""Kind ``rating``: a judge grades each answer on a scale; the mean, or the share of grades from a threshold up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator

from harness.contracts.benchmark import Card, Entrant, Metric
from harness.contracts.options import Signed, options, require
from harness.types import Answer, Question, Reply, Request, Score, Verdict
from judges.benchmarks import pocket_prompts
from judges.benchmarks.base import repeat_requests
from judges.benchmarks.judge_prompt import GRADE_PLACES, grade_values, reference_of, text_hash
from judges.benchmarks.own.judged import (
    JUDGE_FIELDS,
    ByJudge,
    JudgedConfig,
    check_first_tokens,
    check_prompt_text,
    coverage,
    judge_messages,
    read_reply,
    reply_limits,
)
from judges.benchmarks.own.questions import SOURCE_FIELDS, heading, load_questions, own_card
from judges.benchmarks.replies import number_of_reply
from judges.benchmarks.scoring import Detail, Ratio, entrant_detail, ratio_score, verdicts

_SCALE: Final = re.compile(r"\s*(\d{1,6})\s*-\s*(\d{1,6})\s*")
_MOST_TOKENS: Final = 20
"""Of a scale that is read from first tokens: endpoints give so many."""


def _scale(value: object) -> str:
    text = value if isinstance(value, str) else ""
    require(_SCALE.fullmatch(text) is not None, "must be LOW-HIGH, two whole numbers, as in 1-5")
    low, high = scale_ends(text)
    require(low < high, f"must rise, and {low} is not below {high}")
    return f"{low}-{high}"


def scale_ends(scale: str) -> tuple[int, int]:
    low, _, high = scale.partition("-")
    return int(low), int(high)


@options
class RatingConfig(JudgedConfig):
    """Options of an own benchmark whose answers a judge grades."""

    scale: Annotated[str, BeforeValidator(_scale)] = "1-10"
    """Lowest and highest grade. A grade beyond them is no verdict."""
    metric: Literal["mean", "share"] = "mean"
    """``mean`` grade, or ``share`` of the grades that reach ``threshold``, in percent."""
    threshold: Signed | None = None
    """With ``metric: share``: the lowest grade that counts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_prompt_text(self, GRADE_PLACES, ("answer",))
        low, high = scale_ends(self.scale)
        is_share = self.metric == "share"
        rule = "threshold goes with metric = share, and is needed there"
        require(is_share == (self.threshold is not None), rule)
        within = self.threshold is None or low < self.threshold <= high
        require(within, f"threshold must lie on the scale {self.scale}, above its lowest grade")
        fits = self.parse != "first-token" or high - low < _MOST_TOKENS
        require(fits, f"parse: a scale of more than {_MOST_TOKENS} grades cannot be read from one token")
        if self.parse == "first-token":
            check_first_tokens(self.parse, [str(grade) for grade in range(low, high + 1)])


class Rating(ByJudge[RatingConfig]):
    name = "rating"
    summary = "a judge grades your questions' answers on a scale"
    metrics: tuple[Metric, ...] = (Metric("rating.score", "Score", "rating", unit="1-10"),)
    config = RatingConfig
    verdicts = (1.0, 10.0)
    version = 2
    judge_fields: tuple[str, ...] = (*JUDGE_FIELDS, "scale")
    score_fields: tuple[str, ...] = (*SOURCE_FIELDS, "metric", "threshold")
    places, needed, earlier = GRADE_PLACES, ("answer",), ("conversation",)

    def metric(self, name: str, config: RatingConfig) -> Metric:
        if config.metric == "share":
            title = f"{config.threshold:g}+ of {config.scale} (%)"
            return Metric(f"{name}.share", title, heading(config, name), margin=2.0)
        low, high = self.ends(config)
        margin = round(0.2 * (high - low) / 9, 3)  # a fifth of a point of ten, as in MT-Bench
        return Metric(f"{name}.score", "Score", heading(config, name), unit=config.scale, margin=margin)

    def ends(self, config: RatingConfig) -> tuple[float, float]:
        low, high = scale_ends(config.scale)
        return float(low), float(high)

    def questions(self, config: RatingConfig) -> list[Question]:
        questions = load_questions(config, "rating")
        self.check_prompt(questions, config)
        return questions

    def requests(self, question: Question, answer: Answer, config: RatingConfig) -> list[Request]:
        prompt, limits, scale = self.prompt(config), reply_limits(config), scale_ends(config.scale)
        requests = []
        for turn in self.judged_turns(answer, config):
            if prompt is None:
                count = turn + 1
                references: Sequence[str] = ()
                if len(question.turns) in (1, len(question.reference)) and question.reference:
                    references = [reference_of(question, number) for number in range(count)]
                messages = pocket_prompts.single_grade(question.turns[:count], answer.turns[:count], references, scale)
            else:
                values = grade_values(question, answer.turns, turn, *map(str, scale))
                messages = judge_messages(prompt, values, config.judge_system)
            requests.append(Request(question.id, f"turn{turn + 1}", messages, *limits))
        return repeat_requests(requests, config.repeats)

    def parse(self, request: Request, reply: Reply, config: RatingConfig) -> Verdict:
        low, high = scale_ends(config.scale)
        tokens = {str(grade): float(grade) for grade in range(low, high + 1)} if config.parse == "first-token" else {}
        verdict = read_reply(reply, config, partial(number_of_reply, top=high), tokens)
        if verdict.value is None or low <= verdict.value <= high:
            return verdict
        return Verdict(None, f"the grade {verdict.value:g} is not on the scale {config.scale}")

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: RatingConfig, seed: int, replicates: int
    ) -> Score:
        by_question = verdicts(entrant.judgments)
        if config.threshold is not None:
            by_question = {
                question: {part: 100.0 * (grade >= config.threshold) for part, grade in row.items()}
                for question, row in by_question.items()
            }
        parts = sorted({judgment.part for judgment in entrant.judgments}) or ["turn1"]
        grades = [list(by_question.get(question.id, {}).values()) for question in questions]
        detail: Detail = {**entrant_detail(questions, entrant), **coverage(questions, entrant, grades, config)}
        groups: dict[str, list[float]] = {}
        for question, values in zip(questions, grades, strict=True):
            groups.setdefault(f"category:{question.category}" if question.category else "", []).extend(values)
        for part in parts if len(parts) > 1 else ():
            groups[part] = [row[part] for row in by_question.values() if part in row]
        detail |= {name: fmean(values) for name, values in sorted(groups.items()) if name and values}
        return ratio_score(self.metrics[0].id, Ratio.of_sums(questions, grades, 1.0), replicates, seed, "", detail)

    def card(self, config: RatingConfig) -> Card:
        prompt = self.prompt(config)
        system, intro, _ = pocket_prompts.PROMPT_TEXTS["grade"]
        texts = (system, intro, pocket_prompts.grade_close(*scale_ends(config.scale)))
        digest = text_hash(texts) if prompt is None else prompt.digest
        return own_card(self.name, config, f"graded {config.scale}", digest)


BENCHMARK = Rating()
