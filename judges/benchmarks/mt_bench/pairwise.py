"""MT-Bench, pairwise: the model against a baseline's answers, each turn judged in both orders.

Zheng et al. 2023 (arXiv 2306.05685), FastChat ``llm_judge`` in its mode ``pairwise-baseline``. Turn 1 is judged alone,
turn 2 with both conversations shown. A turn is won when both orders say so, lost likewise, and a tie otherwise; a
turn with an unread verdict is dropped, as FastChat drops it. The score is (wins + half the ties) / turns: FastChat's
``win_rate_adjusted``.

FastChat compares with gpt-3.5-turbo, whose answers come in no pinned file: ``baseline`` names an answer file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness.contracts.benchmark import Entrant, Metric
from harness.contracts.options import options
from harness.errors import UserError
from harness.types import Answer, Message, Question, Request, Score, Verdict
from judges.benchmarks import pocket_prompts
from judges.benchmarks.arena_hard.protocol import GAMES, read_label
from judges.benchmarks.base import pocket_set, repeated
from judges.benchmarks.mt_bench.benchmark import TURNS, MTBench, MTBenchConfig, official_prompt
from judges.benchmarks.scoring import Detail, Ratio, count_verdicts, entrant_detail, ratio_score, verdicts

WINNERS = {"[[A]]": 1.0, "[[B]]": -1.0, "[[C]]": 0.0}
"""Verdict labels in the order in which FastChat looks for them; values are assistant A's."""


@options
class MTBenchPairwiseConfig(MTBenchConfig):
    """Options of pairwise MT-Bench in a recipe."""

    baseline: str | None = None
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
    return verdict if verdict.value is None else replace(verdict, value=float(_sign(verdict.value)))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _official_pair(question: Question, first: Sequence[str], second: Sequence[str], turn: int) -> tuple[Message, ...]:
    answers = {"answer_a": first, "answer_b": second}
    return official_prompt("pair", question, answers, turn)


def _pocket_pair(question: Question, first: Sequence[str], second: Sequence[str], turn: int) -> tuple[Message, ...]:
    return pocket_prompts.pair_label(question.turns[:turn], first[:turn], second[:turn])


class MTBenchPairwise(MTBench):
    name = "mt_bench_pairwise"
    metrics: tuple[Metric, ...] = (Metric("mt_bench_pairwise.wr", "WR (%)", "MT-Bench (pairwise)", margin=2.0),)
    config = MTBenchPairwiseConfig
    verdicts = (-1.0, 1.0)
    pairwise = True
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
            prompt=_official_pair,
            read=read_winner,
            version=lambda config: f"MT-Bench pairwise against a given baseline, references {config.references}",
            size=None,  # official questions come without a baseline: they need a file anyway
            deviations=lambda config: ("The baseline is a given one; FastChat's default is gpt-3.5-turbo.",),
        ),
    }  # fmt: skip

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
        prompt = self.sets[config.questions].prompt
        model, baseline = answer.turns, question.baseline
        for number, turn in enumerate(TURNS[: len(answer.turns)], 1):
            for game, model_first in zip(GAMES, (True, False), strict=True):
                first, second = (model, baseline) if model_first else (baseline, model)
                yield Request(
                    question.id, f"{turn}:{game}", prompt(question, first, second, number),
                    config.judge_max_tokens, config.judge_temperature, meta={"model_first": model_first},
                )  # fmt: skip

    def score_entrant(
        self, questions: Sequence[Question], entrant: Entrant, config: MTBenchConfig, seed: int, replicates: int
    ) -> Score:
        """Adjusted win rate, questions resampled with both their turns."""
        by_question = verdicts(entrant.judgments, "median")
        outcomes: list[list[float]] = []
        by_turn: dict[str, list[float]] = {turn: [] for turn in TURNS}
        flips = []
        for question in questions:
            parts = by_question.get(question.id, {})
            outcomes.append([])
            for turn in TURNS:
                games = [parts[f"{turn}:{game}"] for game in GAMES if f"{turn}:{game}" in parts]
                won = outcome(games)
                if won is not None:
                    outcomes[-1].append(won)
                    by_turn[turn].append(won)
                    flips.append(float(games[0] * games[1] < 0))
        ratio = Ratio.of_sums(questions, outcomes)
        count = count_verdicts(questions, entrant.judgments, [f"{turn}:{game}" for turn in TURNS for game in GAMES])
        detail: Detail = entrant_detail(questions, entrant)
        # a turn with one game of two is dropped, so its verdict that is there is not used either
        detail |= count.detail(np.minimum(count.share, ratio.denominator / len(TURNS)))
        decided = [won for turns in outcomes for won in turns]
        if decided:
            wins, ties, losses = (float(decided.count(value)) for value in (1.0, 0.5, 0.0))
            detail |= {"wins": wins, "ties": ties, "losses": losses, "flips": sum(flips) / len(flips)}
        detail |= {turn: 100 * sum(values) / len(values) for turn, values in by_turn.items() if values}
        return ratio_score("mt_bench_pairwise.wr", ratio, replicates, seed, "ties count half", detail)

    def median_notes(self, repeats: int) -> list[str]:
        return [f"Each game is the majority of {repeats} replies."] * (repeats > 1)


def outcome(games: Sequence[float]) -> float | None:
    """1, 0.5 or 0: a turn is decided when both orders agree, else a tie; ``None`` when either has no verdict."""
    if len(games) < len(GAMES):
        return None
    signs = {_sign(game) for game in games}
    return 0.5 + 0.5 * signs.pop() if len(signs) == 1 else 0.5


BENCHMARK = MTBenchPairwise()
