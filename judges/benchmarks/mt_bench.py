"""MT-Bench: two turns per question, each graded from 1 to 10 by the judge, some with reference answers; or compared.

Zheng et al. 2023 (arXiv 2306.05685), FastChat ``llm_judge``. Single: the mean over all ratings. Pairwise (FastChat's
``pairwise-baseline``): each turn against a baseline's in both orders, won or lost when both say so, else a tie; the
score is (wins + half the ties) / turns, FastChat's ``win_rate_adjusted``. An unread verdict drops its turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from statistics import fmean
from typing import Literal

import numpy as np

from harness.assets import asset, locate
from harness.contracts.benchmark import Entrant, Metric, QuestionSetSize
from harness.contracts.model import Sampling
from harness.contracts.options import PathText, Repeats, Temperature, Tokens, options
from harness.errors import UserError
from harness.types import Answer, Message, Question, Request, Score, Verdict
from judges.benchmarks import pocket_prompts
from judges.benchmarks.answer_files import Row, dig, has, name_of, read_jsonl, require_field, shorten
from judges.benchmarks.arena_hard.score import GAMES, read_label
from judges.benchmarks.base import BenchmarkBase, BenchmarkConfig, QuestionProtocol, fill, pocket_set, repeat_requests
from judges.benchmarks.judge_prompt import GRADE_PLACES, PAIR_PLACES, PromptTemplate, grade_values, pair_values
from judges.benchmarks.scoring import Detail, Ratio, count_verdicts, entrant_detail, ratio_score, verdicts

QUESTION_FILE = "mt_bench/question.jsonl"
PROMPT_FILE = "mt_bench/judge_prompts.jsonl"
REFERENCE_FILES = {
    "gpt-4": "mt_bench/reference_answer/gpt-4.jsonl",
    "gpt-4-1106-preview": "mt_bench/reference_answer/gpt-4-1106-preview.jsonl",
}
WITH_REFERENCE = frozenset({"math", "reasoning", "coding"})
POCKET_WITH_REFERENCE = frozenset({"sum", "story"})
TEMPERATURES = {
    **dict.fromkeys(("writing", "roleplay"), 0.7),
    **dict.fromkeys(("extraction", "math", "coding", "reasoning"), 0.0),
    **dict.fromkeys(("stem", "humanities"), 0.1),
}
_RATING = re.compile(r"\[\[([0-9]+(?:\.[0-9]*)?)\]\]")
_BACKUP = re.compile(r"\[([0-9]+(?:\.[0-9]*)?)\]")
TURNS = ("turn1", "turn2")


@options
class MTBenchConfig(BenchmarkConfig):
    """Options of MT-Bench in a recipe. Pocket has 48 questions, official 80 (1024 tokens, temperature by category)."""

    references: Literal["gpt-4", "gpt-4-1106-preview"] = "gpt-4"
    """Reference answers of the official questions: FastChat's (13 of 30 are wrong), or SimPO's newer ones."""
    judge_max_tokens: Tokens = 2048
    """Longest verdict text, tokens."""
    judge_temperature: Temperature = 0.0
    """0 as official."""
    repeats: Repeats = 1
    """Ask for each rating this often and take the median."""
    judge_prompt: str | None = None
    """A judge prompt of yours, which is not official: a file (or the text) with ``{question}``, ``{conversation}`` and
    ``{answer}`` (pairwise: ``{conversation_a}``, ``{answer_a}``, ...) that asks for what the official one asks for,
    [[5]] of 1 to 10 (pairwise: [[A]], [[B]], [[C]])."""


@lru_cache(maxsize=1)
def official_prompts() -> dict[str, tuple[str, str]]:
    return {row["name"]: (row["system_prompt"], row["prompt_template"]) for row in read_jsonl(locate(PROMPT_FILE))}


def _official_questions(config: MTBenchConfig) -> list[Question]:
    rows = read_jsonl(locate(REFERENCE_FILES[config.references]))
    references = {row["question_id"]: tuple(row["choices"][0]["turns"]) for row in rows}
    return [
        Question(
            str(row["question_id"]), tuple(row["turns"]), row["category"],
            reference=references[row["question_id"]] if row["category"] in WITH_REFERENCE else (),
        )
        for row in read_jsonl(locate(QUESTION_FILE))
    ]  # fmt: skip


def _official_files(config: MTBenchConfig) -> Sequence[str]:
    prompts = () if config.judge_prompt is not None else (PROMPT_FILE,)
    return (QUESTION_FILE, REFERENCE_FILES[config.references], *prompts)


# FastChat's prompts without and with reference answers, as they are called for turn 1.
PROMPTS = {"single": ("single-v1", "single-math-v1"), "pair": ("pair-v2", "pair-math-v1")}
PLACES = {"single": ("answer",), "pair": ("answer_a", "answer_b")}  # of the answers in them
Prompt = Callable[[Question, Sequence[Sequence[str]], int], tuple[Message, ...]]
"""(question, answers to all turns of each model that is shown, turn 1 or 2) -> messages."""


def official_prompt(kind: str, question: Question, answers: Sequence[Sequence[str]], turn: int) -> tuple[Message, ...]:
    """FastChat's prompt on turn 1, or on both turns."""
    # A prompt without references would let the judge trust its own arithmetic.
    with_reference = question.category in WITH_REFERENCE
    system, template = official_prompts()[PROMPTS[kind][with_reference] + ("-multi-turn" if turn == 2 else "")]
    places = dict(zip(PLACES[kind], answers, strict=True))
    # the prompts on one turn name it without a number
    values = {"question": question.turns[0], **{place: texts[0] for place, texts in places.items()}}
    for number in range(turn):
        values[f"question_{number + 1}"] = question.turns[number]
        values |= {f"{place}_{number + 1}": texts[number] for place, texts in places.items()}
        if with_reference:
            values[f"ref_answer_{number + 1}"] = question.reference[number]
    return ({"role": "system", "content": system}, {"role": "user", "content": fill(template, values)})


def _pocket_grade(question: Question, answers: Sequence[Sequence[str]], turn: int) -> tuple[Message, ...]:
    references = question.reference[:turn] if question.category in POCKET_WITH_REFERENCE else ()
    return pocket_prompts.single_grade(question.turns[:turn], answers[0][:turn], references)


def own_messages(
    own: PromptTemplate, question: Question, answers: Sequence[Sequence[str]], turn: int
) -> tuple[Message, ...]:
    """A prompt of the user's own on turn 1 or 2, of one model's answers or of two models'."""
    place = turn - 1
    if len(answers) == 1:
        return own.messages(grade_values(question, answers[0], place, "1", "10"))
    return own.messages(pair_values(question, answers[0], answers[1], place))


def read_rating(text: str) -> Verdict:
    """The first ``[[rating]]``, else the first ``[rating]`` (flagged), as FastChat; outside 1..10 is no verdict."""
    flags: tuple[str, ...] = ()
    match = _RATING.search(text)
    if match is None:
        # FastChat falls back to single brackets; flagged, because "[1]" may also be a citation.
        match, flags = _BACKUP.search(text), ("single-bracket",)
    if match is None:
        return Verdict(None, "no [[rating]] in the reply")
    rating = float(match[1])
    if not 1 <= rating <= 10:
        return Verdict(None, f"rating {match[1][:12]} is not between 1 and 10")
    pattern = _BACKUP if flags else _RATING
    return Verdict(rating, None, flags + ("several-labels",) * (len(set(pattern.findall(text))) > 1))


class MTBench(BenchmarkBase[MTBenchConfig, Prompt]):
    name = "mt_bench"
    metrics: tuple[Metric, ...] = (Metric("mt_bench.score", "Score", "MT-Bench", unit="1-10", margin=0.2),)
    spreads: tuple[float, ...] = (3.3,)
    spread_source = "pocket alone"
    config = MTBenchConfig
    verdicts = (1.0, 10.0)
    judge_fields: tuple[str, ...] = ("references", "judge_max_tokens", "judge_temperature", "repeats", "judge_prompt")
    places: tuple[str, ...] = GRADE_PLACES
    needed: tuple[str, ...] = ("answer", "conversation")
    official_judge = "gpt-4"
    sets = {  # noqa: RUF012, a table of contents
        "pocket": pocket_set(
            "mt_bench", "MT-Bench", _pocket_grade, "grade",
            ("Pocket questions, references and judge prompt of distilbench's own wording.",), read_rating,
        ),
        "official": QuestionProtocol(
            _official_questions, partial(official_prompt, "single"), Sampling(max_new_tokens=1024, temperature=1.0),
            lambda config: f"MT-Bench, references {config.references}",
            lambda config: asset(PROMPT_FILE).sha256[:12], read_rating,
            size=QuestionSetSize(
                questions=80, turns=2, characters=202, requests=2, request_characters=1588, reply_tokens=512
            ),
            files=_official_files, temperatures=TEMPERATURES,
        ),
    }  # fmt: skip

    @staticmethod
    def read_answer(row: Row, location: str) -> tuple[str, Answer] | None:
        if not has(row, "choices"):  # a judgment
            return None
        choices = require_field(row, "choices", list, location)
        if not isinstance(dig(choices, 0), Mapping):
            raise UserError(f"{location}: choices must hold an object with turns")
        turns = dig(choices, 0, "turns")
        if not isinstance(turns, list) or not turns or not all(isinstance(text, str) for text in turns):
            raise UserError(f"{location}: choices[0].turns must be a list of texts, got {shorten(turns)}")
        question = str(require_field(row, "question_id", int, location))
        return name_of(row.get("model_id")), Answer(question, tuple(turns), (), ())

    def prompt(self, config: MTBenchConfig) -> Prompt:
        own = self.own_prompt(config)
        return self.sets[config.questions].prompt if own is None else partial(own_messages, own)

    def requests(self, question: Question, answer: Answer, config: MTBenchConfig) -> list[Request]:
        prompt, limits = self.prompt(config), (config.judge_max_tokens, config.judge_temperature)
        requests = [
            Request(question.id, part, prompt(question, (answer.turns,), number), *limits)
            for number, part in enumerate(TURNS[: len(answer.turns)], 1)
        ]
        return repeat_requests(requests, config.repeats)

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: MTBenchConfig, seed: int, replicates: int
    ) -> Score:
        by_question = verdicts(entrant.judgments, "median")
        ratings = [[r for turn, r in sorted(by_question.get(q.id, {}).items()) if turn in TURNS] for q in questions]
        groups: dict[str, list[float]] = {turn: [] for turn in TURNS}
        for question, values in zip(questions, ratings, strict=True):
            groups.setdefault(f"category:{question.category}", []).extend(values)
            for turn in TURNS:
                groups[turn] += [r for part, r in by_question.get(question.id, {}).items() if part == turn]
        count = count_verdicts(questions, entrant.judgments, TURNS)
        detail: Detail = {**entrant_detail(questions, entrant), **count.detail(count.share)}
        detail |= {name: fmean(values) for name, values in sorted(groups.items()) if values}
        return ratio_score("mt_bench.score", Ratio.of_sums(questions, ratings, 1.0), replicates, seed, "", detail)

    def deviations(self, config: MTBenchConfig) -> list[str]:
        notes = [] if self.pairwise else ["A rating outside 1..10 is no verdict."]
        if config.repeats > 1:
            rule = "Each game is the majority" if self.pairwise else "Each rating is the median"
            notes.append(f"{rule} of {config.repeats} replies.")
        if self.sets[config.questions].temperatures and config.temperature is not None:
            notes.append(f"All answers at temperature {config.temperature}; official: by category.")
        return notes


WINNERS = {"[[A]]": 1.0, "[[B]]": -1.0, "[[C]]": 0.0}  # in the order in which FastChat looks for them


@options
class MTBenchPairwiseConfig(MTBenchConfig):
    """Options of pairwise MT-Bench in a recipe."""

    baseline: PathText | None = None
    """Answer file of the baseline (FastChat's ``model_answer``, or ours); null: pocket's own, or ``--baseline``'s."""


def read_winner(text: str) -> Verdict:
    """1, 0 or -1 for assistant A by FastChat's rule: the first of [[A]], [[B]], [[C]] that occurs anywhere."""
    # FastChat looks for [[A]] first, wherever it stands: a reply that names several is won by A.
    present = [label for label in WINNERS if label in text]
    if not present:
        return Verdict(None, "none of [[A]], [[B]], [[C]] in the reply")
    return Verdict(WINNERS[present[0]], None, ("several-labels",) if len(present) > 1 else ())


def read_sign(text: str) -> Verdict:
    """1, 0 or -1 for assistant A: the sign of one of Arena-Hard's five labels, which the pocket prompt asks for."""
    verdict = read_label(text)
    return verdict if verdict.value is None else replace(verdict, value=float(np.sign(verdict.value)))


def _pocket_pair(question: Question, answers: Sequence[Sequence[str]], turn: int) -> tuple[Message, ...]:
    return pocket_prompts.pair_label(question.turns[:turn], answers[0][:turn], answers[1][:turn])


class MTBenchPairwise(MTBench):
    name = "mt_bench_pairwise"
    metrics: tuple[Metric, ...] = (Metric("mt_bench_pairwise.wr", "WR (%)", "MT-Bench (pairwise)", margin=2.0),)
    spreads = ()
    config = MTBenchPairwiseConfig
    score_fields = ("baseline",)
    verdicts = (-1.0, 1.0)
    pairwise = True
    places = PAIR_PLACES
    needed = ("answer_a", "answer_b", "conversation_a", "conversation_b")
    sets = {  # noqa: RUF012, a table of contents
        "pocket": pocket_set(
            "mt_bench", "MT-Bench pairwise", _pocket_pair, "label",
            (
                "Pocket questions, references and judge prompt of distilbench's own wording.",
                "Five labels are asked for and read as win, tie or loss; FastChat asks for three.",
            ),
            read_sign,
        ),
        "official": replace(
            MTBench.sets["official"],
            prompt=partial(official_prompt, "pair"),
            read=read_winner,
            version=lambda config: f"MT-Bench pairwise against a given baseline, references {config.references}",
            size=None,  # official questions come without a baseline: they need a file anyway
            deviations=lambda config: ("The baseline is a given one; FastChat's default is gpt-3.5-turbo.",),
        ),
    }  # fmt: skip

    def requests(self, question: Question, answer: Answer, config: MTBenchConfig) -> list[Request]:
        if len(question.baseline) < len(answer.turns):
            raise UserError(
                f"mt_bench_pairwise: question {question.id} has no baseline answer to every turn, and none comes with "
                "the official questions. Name a model with --baseline, or answers with --set "
                "benchmarks.mt_bench_pairwise.baseline=FILE (FastChat's gpt-3.5-turbo.jsonl, say)."
            )
        prompt, limits = self.prompt(config), (config.judge_max_tokens, config.judge_temperature)
        games = []
        for number, turn in enumerate(TURNS[: len(answer.turns)], 1):
            # The model is assistant A in the first game, as FastChat's ``model_1``.
            for game, model_first in zip(GAMES, (True, False), strict=True):
                pair = (answer.turns, question.baseline) if model_first else (question.baseline, answer.turns)
                messages, meta = prompt(question, pair, number), {"model_first": model_first}
                games.append(Request(question.id, f"{turn}:{game}", messages, *limits, meta=meta))
        return repeat_requests(games, config.repeats)

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: MTBenchConfig, seed: int, replicates: int
    ) -> Score:
        by_question = verdicts(entrant.judgments, "median")
        parts = [f"{turn}:{game}" for turn in TURNS for game in GAMES]
        outcomes: list[list[float]] = []
        by_turn: dict[str, list[float]] = {turn: [] for turn in TURNS}
        flips = []
        for question in questions:
            outcomes.append([])
            for turn in TURNS:
                verdict_of_part = by_question.get(question.id, {})
                games = [verdict_of_part[part] for part in parts if part in verdict_of_part and part.startswith(turn)]
                win = outcome(games)
                if win is not None:
                    outcomes[-1].append(win)
                    by_turn[turn].append(win)
                    flips.append(games[0] * games[1] < 0)
        ratio, count = Ratio.of_sums(questions, outcomes), count_verdicts(questions, entrant.judgments, parts)
        detail: Detail = entrant_detail(questions, entrant)
        # a turn with one game of two is dropped, so its verdict that is there is not used either
        detail |= count.detail(np.minimum(count.share, ratio.denominator / len(TURNS)))
        wins_of_turns = [win for turns in outcomes for win in turns]
        if wins_of_turns:
            wins, ties, losses = (float(wins_of_turns.count(value)) for value in (1.0, 0.5, 0.0))
            detail |= {"wins": wins, "ties": ties, "losses": losses, "flips": fmean(flips)}
        detail |= {turn: 100 * sum(values) / len(values) for turn, values in by_turn.items() if values}
        return ratio_score("mt_bench_pairwise.wr", ratio, replicates, seed, "ties count half", detail)


def outcome(games: Sequence[float]) -> float | None:
    """1, 0.5 or 0: a turn is decided when both orders agree, else a tie; ``None`` when either has no verdict."""
    if len(games) < len(GAMES):
        return None
    signs = set(np.sign(games))
    return float(0.5 + 0.5 * signs.pop()) if len(signs) == 1 else 0.5


BENCHMARK = MTBench()
PAIRWISE_BENCHMARK = MTBenchPairwise()
