"""What the stage ``score`` adds to any benchmark's scores: bounds of missing verdicts, the noise of repeated ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.contracts.benchmark import AnyBenchmark, ConfiguredBenchmark, Entrant
from harness.stages.kinds.score import add_missing_judgments, bounds, judge_noise
from harness.types import Answer, Judgment, Question
from judges.benchmarks import mt_bench
from judges.benchmarks.alpaca_eval import benchmark as alpaca_eval
from judges.benchmarks.arena_hard import benchmark as arena_hard
from judges.benchmarks.arena_hard.score import GAMES

QUESTIONS = [Question("a", ("", ""), baseline=("",)), Question("b", ("", ""), baseline=("",))]


def configured(benchmark: AnyBenchmark, config: object, questions: list[Question] = QUESTIONS) -> ConfiguredBenchmark:
    return ConfiguredBenchmark(benchmark, config, questions)


MT_BENCH = configured(mt_bench.BENCHMARK, mt_bench.MTBenchConfig())


def rated(*ratings: tuple[str, str, float | None], repeat: int = 0) -> list[Judgment]:
    return [Judgment(question, part, value, repeat=repeat) for question, part, value in ratings]


def test_a_missing_rating_could_be_1_or_10() -> None:
    """Ratings 8, none, 6, 4: (8 + 1 + 6 + 4) / 4 = 4.75 at least and (8 + 10 + 6 + 4) / 4 = 7 at most."""
    judgments = rated(("a", "turn1", 8), ("a", "turn2", None), ("b", "turn1", 6), ("b", "turn2", 4))
    entrants = {"x": Entrant((), judgments), "y": Entrant((), [replace(j, verdict=5.0) for j in judgments])}
    details = bounds(MT_BENCH, entrants, 0)
    assert details == {("x", "mt_bench.score"): {"lowest": 4.75, "highest": 7.0}}


def test_a_question_that_nobody_judged_could_be_anything() -> None:
    """Question a has no judgment at all: (1 + 1 + 6 + 4) / 4 = 3 to (10 + 10 + 6 + 4) / 4 = 7.5, also where nobody
    judged anything (1 to 10), and from the answers where they are there. An answer of one turn lacks one rating only:
    (1 + 6 + 4) / 3 to (10 + 6 + 4) / 3.
    """
    whole = rated(("a", "turn1", 8), ("a", "turn2", 8), ("b", "turn1", 6), ("b", "turn2", 4))
    answers = [Answer(name, ("x", "y"), (), ()) for name in "ab"]
    short = [Answer("a", ("x",), (), ()), answers[1]]
    entrants = {
        "half": Entrant((), whole[2:]), "none": Entrant(answers, ()), "short": Entrant(short, whole[2:]),
        "whole": Entrant(answers, whole),
    }  # fmt: skip
    details = bounds(MT_BENCH, entrants, 0)
    ends = {name: tuple(bound.values()) for (name, _), bound in details.items()}
    assert ends == {"half": (3.0, 7.5), "none": (1.0, 10.0), "short": (pytest.approx(11 / 3), pytest.approx(20 / 3))}


def test_an_answer_that_needs_no_verdict_lacks_none() -> None:
    """The official code takes an answer that is the baseline's for a draw, and asks no judge."""
    config = alpaca_eval.AlpacaEvalConfig(questions="official")
    same = Question("a", ("Say x.",), baseline=("x",), meta={"index": 0})
    entrant = Entrant([Answer("a", ("x",), (), ())], ())
    assert add_missing_judgments(configured(alpaca_eval.BENCHMARK, config, [same]), {"x": entrant})["x"].judgments == []
    other = Entrant([Answer("a", ("y",), (), ())], ())
    pocket = configured(
        alpaca_eval.BENCHMARK, alpaca_eval.AlpacaEvalConfig(questions="pocket"), [replace(same, meta={})]
    )
    (gap,) = add_missing_judgments(pocket, {"x": other})["x"].judgments
    assert (gap.question, gap.part, gap.verdict) == ("a", "preference", None)


def test_a_missing_game_weighs_what_its_verdict_would() -> None:
    """Question a: much better (weight 3) and none; b: two ties (weight 1 each, half a win).

    Lost by much: (3 + 0 + 0.5 + 0.5) / (3 + 3 + 1 + 1) = 50%; won by much: (3 + 3 + 1) / 8 = 87.5%.
    """
    first, second = GAMES
    judgments = rated(("a", first, 2), ("a", second, None), ("b", first, 0), ("b", second, 0))
    details = bounds(configured(arena_hard.BENCHMARK, arena_hard.ArenaHardConfig()), {"x": Entrant((), judgments)}, 0)
    assert details["x", "arena_hard.wr"] == {"lowest": 50.0, "highest": 87.5}


def test_noise_of_repeated_ratings() -> None:
    """Question a rated 4 and 6 (variance 2), b 7 and 7 (0): 1 on average, of 2 repeats."""
    judgments = [
        *rated(("a", "turn1", 4), ("b", "turn1", 7)),
        *rated(("a", "turn1", 6), ("b", "turn1", 7), repeat=1),
    ]
    details = judge_noise(MT_BENCH, {"x": Entrant((), judgments)}, 0)
    assert details["x", "mt_bench.score"] == {"judge_repeats": 2.0, "judge_variance": pytest.approx(1.0)}
    once = {"x": Entrant((), judgments[:2])}
    assert judge_noise(MT_BENCH, once, 0) == {}
