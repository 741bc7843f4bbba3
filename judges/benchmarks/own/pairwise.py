"""Kind ``pairwise``: a judge compares each answer with a baseline's, in both orders; ties count half.

The win rate is the mean over both orders, so a preference of the judge for a place cancels. A turn counts when both its
games have a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Final, Literal

from pydantic import Field

from harness.contracts.benchmark import Card, Entrant, Metric
from harness.contracts.options import PathText, options, require
from harness.errors import UserError
from harness.types import Answer, Question, Reply, Request, Score, Verdict
from judges.benchmarks import pocket_prompts
from judges.benchmarks.answer_files import Row, has, name_of, with_baseline
from judges.benchmarks.base import repeat_requests
from judges.benchmarks.judge_prompt import PAIR_PLACES, pair_values, text_hash
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
from judges.benchmarks.replies import LONGEST_LABEL, is_label
from judges.benchmarks.scoring import Detail, Ratio, entrant_detail, ratio_score, verdicts

ORDERS: Final = ("order1", "order2")
FIVE: Final = {"A>>B": 1.0, "A>B": 1.0, "A=B": 0.5, "B>A": 0.0, "B>>A": 0.0}
"""What distilbench's own prompt asks for; strengths do not count in a win rate."""


@options
class PairwiseConfig(JudgedConfig):
    """Options of an own benchmark whose answers a judge compares with a baseline's."""

    baseline: PathText | None = None
    """What to compare with: a row of the recipe (``student``), or a file of answers; null: the field ``baseline`` of
    the questions."""
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=3)] = ("A", "B", "C")
    """What the judge writes if the first answer is better, if the second is, and for a tie."""
    metric: Literal["win-rate", "consistent"] = "win-rate"
    """``win-rate``: the mean of both orders. ``consistent``: won or lost where both orders agree, else a tie."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_prompt_text(self, PAIR_PLACES, ("answer_a", "answer_b"))
        default = type(self).__dataclass_fields__["labels"].default
        rule = "labels go with a prompt of yours: distilbench's own asks for [[A>B]] and the like"
        require(self.prompt is not None or self.labels == default, rule)
        names = [label.strip() if self.parse == "first-token" else label.strip().casefold() for label in self.labels]
        rule = "labels must be different texts" + ", whatever their case" * (self.parse != "first-token")
        require(all(names) and len(set(names)) == len(names), rule)
        check_first_tokens(self.parse, names)
        fits = self.parse != "label" or all(is_label(name) for name in names)
        require(fits, f"labels stand in double brackets: up to {LONGEST_LABEL} characters, one line, no brackets")


class Pairwise(ByJudge[PairwiseConfig]):
    name = "pairwise"
    summary = "a judge compares your questions' answers with a baseline's, in both orders"
    metrics: tuple[Metric, ...] = (Metric("pairwise.wr", "WR (%)", "pairwise", margin=2.0),)
    config = PairwiseConfig
    verdicts = (0.0, 1.0)
    pairwise = True
    version = 2
    judge_fields: tuple[str, ...] = (*JUDGE_FIELDS, "labels")
    score_fields: tuple[str, ...] = (*SOURCE_FIELDS, "baseline", "metric")
    places, needed, earlier = PAIR_PLACES, ("answer_a", "answer_b"), ("conversation_a", "conversation_b")

    def metric(self, name: str, config: PairwiseConfig) -> Metric:
        return Metric(f"{name}.wr", "WR (%)", heading(config, name), margin=2.0)

    def questions(self, config: PairwiseConfig) -> list[Question]:
        questions = load_questions(config, "pairwise")
        self.check_prompt(questions, config)
        if config.baseline is not None:
            return with_baseline(questions, config.baseline, self.name, read_answer)
        return questions

    def requests(self, question: Question, answer: Answer, config: PairwiseConfig) -> list[Request]:
        if len(question.baseline) < len(answer.turns):
            raise UserError(f"{self.name}: question {question.id} has no baseline answer. {NO_BASELINE}")
        prompt, limits = self.prompt(config), reply_limits(config)
        games = []
        for turn in self.judged_turns(answer, config):
            for order, model_first in zip(ORDERS, (False, True), strict=True):
                pair = (answer.turns, question.baseline) if model_first else (question.baseline, answer.turns)
                if prompt is None:
                    count = turn + 1
                    turns = question.turns[:count]
                    messages = pocket_prompts.pair_label(turns, pair[0][:count], pair[1][:count])
                else:
                    messages = judge_messages(prompt, pair_values(question, *pair, turn), config.judge_system)
                part = order if len(question.turns) == 1 else f"turn{turn + 1}:{order}"
                games.append(Request(question.id, part, messages, *limits, meta={"model_first": model_first}))
        return repeat_requests(games, config.repeats)

    def parse(self, request: Request, reply: Reply, config: PairwiseConfig) -> Verdict:
        """On the model's answer: 1, 0.5 or 0, or between them where probabilities are read."""
        values = dict(zip((label.strip() for label in config.labels), (1.0, 0.0, 0.5), strict=False))
        folded = {label.casefold(): value for label, value in values.items()}
        if config.prompt is None:
            folded = {label.casefold(): value for label, value in FIVE.items()}
        verdict = read_reply(reply, config, lambda text: folded.get(text.strip().casefold()), values)
        if verdict.value is None or request.meta.get("model_first", False):
            return verdict
        return Verdict(1.0 - verdict.value, None, verdict.flags, verdict.mass)

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: PairwiseConfig, seed: int, replicates: int
    ) -> Score:
        by_question = verdicts(entrant.judgments)
        turns = sorted({judgment.part.rpartition(":")[0] for judgment in entrant.judgments})
        outcomes: list[list[float]] = []
        first_wins, flips = [], []
        for question in questions:
            row = by_question.get(question.id, {})
            outcomes.append([])
            for turn in turns:
                games = [row.get(f"{turn}:{order}" if turn else order) for order in ORDERS]
                first, second = games  # the baseline stands first in order 1, the model in order 2
                if first is None or second is None:
                    continue
                mean = (first + second) / 2
                flips.append(float((first - 0.5) * (second - 0.5) < 0))
                first_wins.append((1 - first + second) / 2)
                agree = (first - 0.5) * (second - 0.5) > 0
                outcomes[-1].append(mean if config.metric == "win-rate" else float(mean > 0.5) if agree else 0.5)
        detail: Detail = entrant_detail(questions, entrant)
        detail |= coverage(questions, entrant, outcomes, config, len(ORDERS))
        if first_wins:
            values = [value for row_values in outcomes for value in row_values]
            counts = {"wins": [v > 0.5 for v in values], "ties": [v == 0.5 for v in values]}
            detail |= {name: float(sum(marks)) for name, marks in counts.items()}
            detail |= {"losses": float(sum(v < 0.5 for v in values)), "flips": fmean(flips)}
            detail |= {"first_place": 100 * fmean(first_wins)}
        ratio = Ratio.of_sums(questions, outcomes)
        return ratio_score(self.metrics[0].id, ratio, replicates, seed, "", detail)

    def card(self, config: PairwiseConfig) -> Card:
        prompt = self.prompt(config)
        digest = text_hash(pocket_prompts.PROMPT_TEXTS["label"]) if prompt is None else prompt.digest
        return own_card(self.name, config, "compared in both orders, ties count half", digest)


NO_BASELINE: Final = (
    "Say `baseline:` with a row of the recipe or a file of answers, or give each question a field baseline "
    "(`fields: {baseline: reference}` takes the reference answers)."
)


def read_answer(row: Row, location: str) -> tuple[str, Answer] | None:
    """A row of a baseline's file, as ``ReadAnswer``: a question's id or text, and its answer or one per turn."""
    names = (("id", "question_id", "question", "instruction", "prompt"), ("output", "answer", "response", "turns"))
    question, text = (next((row[name] for name in group if has(row, name)), None) for group in names)
    turns = text if isinstance(text, list) else [text]
    if question is None or not all(isinstance(turn, str) for turn in turns):
        raise UserError(f"{location}: needed are the question (id or question) and the answer (output), as text")
    key = question if isinstance(question, str) else name_of(question)
    return name_of(row.get("generator", row.get("model"))), Answer(key, tuple(map(str, turns)), (), ())


BENCHMARK = Pairwise()
