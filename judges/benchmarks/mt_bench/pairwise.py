"""MT-Bench, pairwise: the model against a baseline's answers, each turn judged in both orders.

Zheng et al. 2023 (arXiv 2306.05685), FastChat ``llm_judge`` in its mode ``pairwise-baseline``. Turn 1 is judged alone,
turn 2 with both conversations shown. A turn is won when both orders say so, lost likewise, and a tie otherwise; a
turn with an unread verdict is dropped, as FastChat drops it. The score is (wins + half the ties) / turns: FastChat's
``win_rate_adjusted``.

FastChat compares with gpt-3.5-turbo, whose answers come in no pinned file: ``baseline`` names an answer file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from harness.contracts.benchmark import Benchmark, Card, Entrant, Metric, QuestionSetSize
from harness.errors import UserError
from harness.types import Answer, Message, Question, Reply, Request, Score, Verdict
from judges.benchmarks import pocket_prompts
from judges.benchmarks.arena_hard.labels import GAMES, LABELS, read_label
from judges.benchmarks.mt_bench.benchmark import (
    PROMPT_FILE,
    TURNS,
    WITH_REFERENCE,
    MTBench,
    MTBenchConfig,
    official_prompts,
)
from judges.benchmarks.shared import (
    Ratio,
    against,
    answer_detail,
    fill,
    ratio_score,
    reasons,
    repeated,
    text_hash,
    verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

WINNERS = {"[[A]]": 1.0, "[[B]]": -1.0, "[[C]]": 0.0}
"""Verdict labels in the order in which FastChat looks for them; values are assistant A's."""


@dataclass(frozen=True)
class MTBenchPairwiseConfig(MTBenchConfig):
    """Options of pairwise MT-Bench in a recipe."""

    baseline: str | None = None
    """Answer file of the baseline (FastChat's ``model_answer``, or ours); null: pocket's own, or ``--baseline``'s."""


def read_winner(text: str) -> Verdict:
    """1, 0 or -1 for assistant A by FastChat's rule: the first of [[A]], [[B]], [[C]] that occurs anywhere."""
    present = [label for label in WINNERS if label in text]
    if not present:
        return Verdict(None, "none of [[A]], [[B]], [[C]] in the reply")
    return Verdict(WINNERS[present[0]], None, ("several-labels",) if len(present) > 1 else ())


def _messages(
    question: Question, first: Sequence[str], second: Sequence[str], turn: int, config: MTBenchConfig
) -> tuple[Message, ...]:
    """The prompt that compares two answers to turn 1, or two conversations of both turns."""
    if config.questions == "pocket":
        return pocket_prompts.pair_label(question.turns[:turn], first[:turn], second[:turn])
    with_reference = question.category in WITH_REFERENCE
    name = ("pair-math-v1" if with_reference else "pair-v2") + ("-multi-turn" if turn == 2 else "")
    system, template = official_prompts()[name]
    values = {"question": question.turns[0], "answer_a": first[0], "answer_b": second[0]}
    for number in range(turn):
        values[f"question_{number + 1}"] = question.turns[number]
        values[f"answer_a_{number + 1}"] = first[number]
        values[f"answer_b_{number + 1}"] = second[number]
        if with_reference:
            values[f"ref_answer_{number + 1}"] = question.reference[number]
    return ({"role": "system", "content": system}, {"role": "user", "content": fill(template, values)})


class MTBenchPairwise(MTBench):
    """The benchmark; see the head of this file."""

    name: str = "mt_bench_pairwise"
    metrics: tuple[Metric, ...] = (Metric("mt_bench_pairwise.wr", "WR (%)", "MT-Bench (pairwise)", margin=2.0),)
    config: type[MTBenchConfig] = MTBenchPairwiseConfig
    verdicts: tuple[float, float] = (-1.0, 1.0)
    pairwise: bool = True
    official_size: QuestionSetSize | None = None

    def questions(self, config: MTBenchConfig) -> list[Question]:
        """The two-turn questions with the baseline's answers."""
        return against(super().questions(config), getattr(config, "baseline", None), self.name)

    def requests(self, question: Question, answer: Answer, config: MTBenchConfig) -> list[Request]:
        """Two games per turn; the model is assistant A in the first, as FastChat's ``model_1``."""
        if not question.baseline:
            raise UserError(
                "mt_bench_pairwise: no baseline comes with the official questions. Name a model with --baseline, or "
                "answers with --set benchmarks.mt_bench_pairwise.baseline=FILE (FastChat's gpt-3.5-turbo.jsonl, say)."
            )
        if len(question.baseline) < len(answer.turns):
            raise UserError(f"mt_bench_pairwise: question {question.id} has no baseline answer to every turn")
        return repeated(list(self._games(question, answer, config)), config.repeats)

    def _games(self, question: Question, answer: Answer, config: MTBenchConfig) -> Iterator[Request]:
        for number, turn in enumerate(TURNS[: len(answer.turns)], 1):
            for game, model_first in zip(GAMES, (True, False), strict=True):
                texts = (answer.turns, question.baseline)
                first, second = texts if model_first else texts[::-1]
                yield Request(
                    question.id, f"{turn}:{game}", _messages(question, first, second, number, config),
                    config.judge_max_tokens, config.judge_temperature, meta={"model_first": model_first},
                )  # fmt: skip

    def parse(self, request: Request, reply: Reply, config: MTBenchConfig) -> Verdict:
        """1 the model won, 0 tie, -1 it lost. Pocket prompts ask for Arena-Hard's five labels, read by their sign."""
        if config.questions == "pocket":
            read = read_label(reply.text)
            sign = {margin: (margin > 0) - (margin < 0) for margin in LABELS.values()}
            read = read if read.value is None else Verdict(float(sign[read.value]), None, read.flags)
        else:
            read = read_winner(reply.text)
        if read.value is None or request.meta.get("model_first", False):
            return read
        return Verdict(0.0 - read.value, read.reason, read.flags)

    def score(
        self,
        questions: Sequence[Question],
        entrants: Mapping[str, Entrant],
        config: MTBenchConfig,
        seed: int,
        replicates: int,
    ) -> dict[str, tuple[Score, ...]]:
        """Adjusted win rate of every entrant, questions resampled with both their turns."""
        return {key: (_score(questions, entrant, seed, replicates),) for key, entrant in entrants.items()}

    def card(self, config: MTBenchConfig) -> Card:
        """The protocol."""
        card = super().card(config)
        texts = pocket_prompts.PROMPT_TEXTS["label"]
        deviations = [each for each in card.deviations if "rating" not in each]
        if config.questions == "pocket":
            version, prompt_hash = "pocket 1 (MT-Bench pairwise protocol)", text_hash(texts)
            deviations.append("Five labels are asked for and read as win, tie or loss; FastChat asks for three.")
        else:
            from harness.assets import asset

            version = f"MT-Bench pairwise against a given baseline, references {config.references}"
            prompt_hash = asset(PROMPT_FILE).sha256[:12]
            deviations.append("The baseline is a given one; FastChat's default is gpt-3.5-turbo.")
        if config.repeats > 1:
            deviations.append(f"Each game is the majority of {config.repeats} replies.")
        parameters = {**card.parameters, "baseline": asdict(config).get("baseline")}
        return Card(self.name, version, prompt_hash, parameters, tuple(deviations), card.official_judge)


def outcome(games: Sequence[float]) -> float | None:
    """1, 0.5 or 0: a turn is decided when both orders agree, else a tie; ``None`` when either has no verdict."""
    if len(games) < len(GAMES):
        return None
    signs = {(game > 0) - (game < 0) for game in games}
    return 0.5 + 0.5 * signs.pop() if len(signs) == 1 else 0.5


def _score(questions: Sequence[Question], entrant: Entrant, seed: int, replicates: int) -> Score:
    import numpy as np

    from judges.benchmarks.coverage import given

    read = verdicts(entrant.judgments, "median")
    turns: dict[str, list[float]] = {}
    by_turn: dict[str, list[float]] = {turn: [] for turn in TURNS}
    flips = []
    for question in questions:
        parts = read.get(question.id, {})
        for turn in TURNS:
            games = [parts[f"{turn}:{game}"] for game in GAMES if f"{turn}:{game}" in parts]
            won = outcome(games)
            if won is not None:
                turns.setdefault(question.id, []).append(won)
                by_turn[turn].append(won)
                flips.append(float(games[0] * games[1] < 0))
    values = [turns.get(question.id, []) for question in questions]
    ratio = Ratio(
        tuple(question.id for question in questions),
        np.array([sum(each) for each in values], dtype=float),
        np.array([len(each) for each in values], dtype=float),
    )
    found = given(questions, entrant.judgments, [f"{turn}:{game}" for turn in TURNS for game in GAMES])
    detail: dict[str, float | str] = {**answer_detail(questions, entrant), **reasons(entrant.judgments)}
    detail |= found.detail(np.minimum(found.share, ratio.denominator / len(TURNS)))
    flat = [won for each in values for won in each]
    if flat:
        detail |= {"wins": float(flat.count(1.0)), "ties": float(flat.count(0.5)), "losses": float(flat.count(0.0))}
        detail["flips"] = sum(flips) / len(flips)
    detail |= {turn: 100 * sum(each) / len(each) for turn, each in by_turn.items() if each}
    return ratio_score("mt_bench_pairwise.wr", ratio, replicates, seed, "ties count half", detail)


BENCHMARK: Benchmark = MTBenchPairwise()
