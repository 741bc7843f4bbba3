"""Imported verdicts that were read from a judge's thinking are told."""

from distilbench.workflows.answers import other_verdicts
from harness.thinking import separate_judgment
from harness.types import Judgment
from judges import BENCHMARKS


def test_a_verdict_read_from_the_thinking_is_told() -> None:
    mt_bench, pairs, alpaca = (BENCHMARKS[name] for name in ("mt_bench", "mt_bench_pairwise", "alpaca_eval"))
    thinking = "<think>perhaps [[3]]</think>Rating: [[9]]"
    judgments = [
        separate_judgment(Judgment(name, "turn1", verdict, reply=reply))
        for name, verdict, reply in (
            ("1", 3.0, thinking),
            ("2", 9.0, thinking),
            ("3", 3.0, "[[9]]"),
            ("4", None, thinking),
        )
    ]
    assert list(other_verdicts(mt_bench, mt_bench.config(), judgments)) == [
        "question 1, turn1: the verdict is 3 in the file, and 9 by the reply without its thinking; the file's counts"
    ]
    game = separate_judgment(
        Judgment("1", "turn1:game2", 1.0, reply="<think>[[A]]</think>[[B]]", meta={"model_first": False})
    )
    assert list(other_verdicts(pairs, pairs.config(questions="official"), [game])) == []
    letter = separate_judgment(Judgment("1", "preference", 0.93, reply="<think>M</think>m", meta={"model_first": True}))
    assert list(other_verdicts(alpaca, alpaca.config(), [letter])) == []
