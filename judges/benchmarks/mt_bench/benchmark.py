"""MT-Bench: two turns per question, each graded from 1 to 10 by the judge, some with reference answers.

Zheng et al. 2023 (arXiv 2306.05685), FastChat ``llm_judge``, single-answer grading. The judge sees turn 1 alone, then
both turns with the second as its subject. Questions of math, reasoning and coding come with reference answers. The
score is the mean over all ratings; a reply without one is no verdict and is counted (FastChat writes -1 and drops it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import fmean
from typing import Literal

from harness.contracts.benchmark import Benchmark, Card, Entrant, Metric, QuestionSetSize
from harness.contracts.model import GeneratesText, Sampling
from harness.plural import counted
from harness.types import Answer, Judgment, Message, Question, Reply, Request, Score, Verdict
from judges.benchmarks import pocket_prompts
from judges.benchmarks.shared import (
    ANSWER_FIELDS,
    POCKET_NEW_TOKENS,
    POCKET_TEMPERATURE,
    QuestionSet,
    Ratio,
    Split,
    answer_detail,
    ask,
    check_common,
    fill,
    official_size,
    pocket_questions,
    ratio_score,
    read_jsonl,
    reasons,
    repeated,
    take,
    text_hash,
    verdicts,
)

QUESTION_FILE = "mt_bench/question.jsonl"
PROMPT_FILE = "mt_bench/judge_prompts.jsonl"
REFERENCE_FILES = {
    "gpt-4": "mt_bench/reference_answer/gpt-4.jsonl",
    "gpt-4-1106-preview": "mt_bench/reference_answer/gpt-4-1106-preview.jsonl",
}
WITH_REFERENCE = frozenset({"math", "reasoning", "coding"})
POCKET_WITH_REFERENCE = frozenset({"sum", "story"})
TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
"""The protocol's sampling temperature of the answers, by category."""
_RATING = re.compile(r"\[\[([0-9]+\.?[0-9]*)\]\]")
_BACKUP = re.compile(r"\[([0-9]+\.?[0-9]*)\]")
_MAX_NEW_TOKENS = 1024
TURNS = ("turn1", "turn2")


@dataclass(frozen=True)
class MTBenchConfig:
    """Options of MT-Bench in a recipe."""

    questions: QuestionSet = "pocket"
    """``pocket``: the embedded world's two-turn questions (48). ``official``: the 80, read from the assets."""
    split: Split = "test"
    """``dev``: pocket questions to choose hyperparameters on."""
    limit: int | None = None
    """Use only this many questions: those whose hashed ids come first."""
    max_new_tokens: int | None = None
    """Longest answer per turn, tokens; null: 64 for pocket, 1024 for official."""
    temperature: float | None = None
    """One sampling temperature for all answers; null: 1 for pocket, by category for official."""
    top_p: float = 1.0
    """Nucleus of the answers' sampling."""
    references: Literal["gpt-4", "gpt-4-1106-preview"] = "gpt-4"
    """Reference answers of the official questions: FastChat's (13 of 30 are wrong), or SimPO's newer ones."""
    judge_max_tokens: int = 2048
    """Longest verdict text, tokens."""
    judge_temperature: float = 0.0
    """0 as official."""
    repeats: int = 1
    """Ask for each rating this often and take the median."""

    def __post_init__(self) -> None:
        check_common(self)
        if self.references not in REFERENCE_FILES:
            raise ValueError(f"references must be one of {', '.join(REFERENCE_FILES)}, got {self.references!r}")


@lru_cache(maxsize=1)
def official_prompts() -> dict[str, tuple[str, str]]:
    """Prompt name to (system text, user template)."""
    from harness.assets import locate

    return {row["name"]: (row["system_prompt"], row["prompt_template"]) for row in read_jsonl(locate(PROMPT_FILE))}


def _messages(question: Question, answers: Sequence[str], turn: int, config: MTBenchConfig) -> tuple[Message, ...]:
    """The prompt that grades turn 1 or 2."""
    if config.questions == "pocket":
        shown = question.reference[:turn] if question.category in POCKET_WITH_REFERENCE else ()
        return pocket_prompts.single_grade(question.turns[:turn], answers[:turn], shown)
    with_reference = question.category in WITH_REFERENCE
    name = ("single-math-v1" if with_reference else "single-v1") + ("-multi-turn" if turn == 2 else "")
    system, template = official_prompts()[name]
    values = {"question": question.turns[0], "answer": answers[0]}
    for number in range(turn):
        values[f"question_{number + 1}"] = question.turns[number]
        values[f"answer_{number + 1}"] = answers[number]
        if with_reference:
            values[f"ref_answer_{number + 1}"] = question.reference[number]
    return ({"role": "system", "content": system}, {"role": "user", "content": fill(template, values)})


def read_rating(text: str) -> Verdict:
    """The first ``[[rating]]``, else the first ``[rating]`` (flagged), as FastChat; outside 1..10 is no verdict."""
    flags: tuple[str, ...] = ()
    match = _RATING.search(text)
    if match is None:
        match, flags = _BACKUP.search(text), ("single-bracket",)
    if match is None:
        return Verdict(None, "no [[rating]] in the reply")
    rating = float(match[1])
    if not 1 <= rating <= 10:
        return Verdict(None, f"rating {match[1][:12]} is not between 1 and 10")
    return Verdict(rating, None, flags)


class MTBench:
    """The benchmark; see the head of this file."""

    name: str = "mt_bench"
    metrics: tuple[Metric, ...] = (Metric("mt_bench.score", "Score", "MT-Bench", unit="1-10", margin=0.2),)
    config: type[MTBenchConfig] = MTBenchConfig
    verdicts: tuple[float, float] = (1.0, 10.0)
    judged = True
    pairwise: bool = False
    official_size: QuestionSetSize | None = QuestionSetSize(
        questions=80, turns=2, characters=202, requests=2, request_characters=1588, reply_tokens=512
    )
    version = 1
    answer_fields = ANSWER_FIELDS
    judge_fields: tuple[str, ...] = ("references", "judge_max_tokens", "judge_temperature", "repeats")

    def questions(self, config: MTBenchConfig) -> list[Question]:
        """The two-turn questions, with references where the protocol has them."""
        if config.questions == "pocket":
            return take(pocket_questions("mt_bench", config.split), "mt_bench", config.limit)
        from harness.assets import locate

        rows = read_jsonl(locate(REFERENCE_FILES[config.references]))
        references = {row["question_id"]: tuple(row["choices"][0]["turns"]) for row in rows}
        found = [
            Question(
                str(row["question_id"]), tuple(row["turns"]), row["category"],
                reference=references[row["question_id"]] if row["category"] in WITH_REFERENCE else (),
            )
            for row in read_jsonl(locate(QUESTION_FILE))
        ]  # fmt: skip
        return take(found, "mt_bench", config.limit)

    def _sampling(self, question: Question, config: MTBenchConfig) -> Sampling:
        official = config.questions == "official"
        temperature = TEMPERATURES.get(question.category, POCKET_TEMPERATURE) if official else POCKET_TEMPERATURE
        return Sampling(
            config.max_new_tokens or (_MAX_NEW_TOKENS if official else POCKET_NEW_TOKENS),
            temperature if config.temperature is None else config.temperature,
            config.top_p,
        )

    def size(self, config: MTBenchConfig) -> QuestionSetSize | None:
        """Of the official questions with the protocol's baseline."""
        return official_size(config, self.official_size)

    def answer(
        self, model: GeneratesText, questions: Sequence[Question], config: MTBenchConfig, seed: int
    ) -> list[Answer]:
        """Both turns; the second is asked after the model's own first answer."""
        return ask(model, questions, lambda question: self._sampling(question, config), seed)

    def requests(self, question: Question, answer: Answer, config: MTBenchConfig) -> list[Request]:
        """One rating per turn."""
        asked = [
            Request(
                question.id, part, _messages(question, answer.turns, number, config),
                config.judge_max_tokens, config.judge_temperature,
            )
            for number, part in enumerate(TURNS[: len(answer.turns)], 1)
        ]  # fmt: skip
        return repeated(asked, config.repeats)

    def parse(self, request: Request, reply: Reply, config: MTBenchConfig) -> Verdict:
        """A rating, 1 to 10."""
        return read_rating(reply.text)

    def grade(self, question: Question, answer: Answer, config: MTBenchConfig) -> list[Judgment]:
        """Nothing is graded by rule."""
        return []

    def score(
        self,
        questions: Sequence[Question],
        entrants: Mapping[str, Entrant],
        config: MTBenchConfig,
        seed: int,
        replicates: int,
    ) -> dict[str, tuple[Score, ...]]:
        """Mean rating of every entrant, questions resampled with both their turns."""
        return {key: (_score(questions, entrant, seed, replicates),) for key, entrant in entrants.items()}

    def card(self, config: MTBenchConfig) -> Card:
        """The protocol."""
        parameters = asdict(config)
        deviations = ["A rating outside 1..10 is no verdict."]
        if config.repeats > 1:
            deviations.append(f"Each rating is the median of {config.repeats} replies.")
        if config.questions == "pocket":
            version, prompt_hash = "pocket 1 (MT-Bench protocol)", text_hash(pocket_prompts.PROMPT_TEXTS["grade"])
            parameters.update(max_new_tokens=config.max_new_tokens or POCKET_NEW_TOKENS)
            parameters.update(temperature=POCKET_TEMPERATURE if config.temperature is None else config.temperature)
            deviations.insert(0, "Pocket questions, references and judge prompt of distilbench's own wording.")
        else:
            from harness.assets import asset

            version, prompt_hash = f"MT-Bench, references {config.references}", asset(PROMPT_FILE).sha256[:12]
            parameters.update(max_new_tokens=config.max_new_tokens or _MAX_NEW_TOKENS)
            parameters.update(temperature=TEMPERATURES if config.temperature is None else config.temperature)
            if config.temperature is not None:
                deviations.append(f"All answers at temperature {config.temperature}; official: by category.")
        if config.limit is not None:
            deviations.append(f"At most {counted(config.limit, 'question')}.")
        return Card(self.name, version, prompt_hash, parameters, tuple(deviations), "gpt-4")


def _score(questions: Sequence[Question], entrant: Entrant, seed: int, replicates: int) -> Score:
    import numpy as np

    from judges.benchmarks.coverage import given

    read = verdicts(entrant.judgments, "median")
    given_to = [read.get(question.id, {}) for question in questions]
    ratings = [[parts[turn] for turn in TURNS if turn in parts] for parts in given_to]
    ratio = Ratio(
        tuple(question.id for question in questions),
        np.array([sum(each) for each in ratings], dtype=float),
        np.array([len(each) for each in ratings], dtype=float),
        scale=1.0,
    )
    found = given(questions, entrant.judgments, TURNS)
    detail: dict[str, float | str] = {**answer_detail(questions, entrant), **reasons(entrant.judgments)}
    detail |= found.detail(found.share)
    for turn in TURNS:
        rated = [parts[turn] for parts in read.values() if turn in parts]
        if rated:
            detail[turn] = fmean(rated)
    by_category: dict[str, list[float]] = {}
    for question, each in zip(questions, ratings, strict=True):
        by_category.setdefault(question.category, []).extend(each)
    detail.update({f"category:{name}": fmean(each) for name, each in sorted(by_category.items()) if each})
    return ratio_score("mt_bench.score", ratio, replicates, seed, "", detail)


BENCHMARK: Benchmark = MTBench()
