"""What the benchmarks share: templates that answers cannot break, nested limits, turns, and the ratio of sums."""

import math
import random
import re
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.contracts.benchmark import Entrant
from harness.contracts.model import Sampling
from harness.types import Answer, Judgment, Question
from judges.benchmarks.answer_files import failure_mark
from judges.benchmarks.arena_hard.style_control import markdown_breakdown
from judges.benchmarks.base import ask, fill, limit_questions
from judges.benchmarks.gsm8k.benchmark import FILTERS, extract, extract_answer, mark_of, number_in
from judges.benchmarks.mt_bench import read_rating
from judges.benchmarks.scoring import HOSTILE, Ratio, entrant_detail, ratio_score, resample_counts, verdicts


@given(st.text(), st.text(), st.text())
def test_filled_values_are_never_templates(first: str, second: str, question: str) -> None:
    template = '{\n  "instruction": """{instruction}""",\n} | {output_1} | {output_2} }'
    filled = fill(template, {"instruction": question, "output_1": first, "output_2": second})
    assert filled == '{\n  "instruction": """' + question + '""",\n} | ' + first + " | " + second + " }"


def test_a_larger_limit_holds_the_smaller_one_in_the_same_order() -> None:
    questions = [Question(str(number), ("q",)) for number in range(50)]
    few, more = limit_questions(questions, "b", 5), limit_questions(questions, "b", 20)
    assert len(few) == 5 and len(more) == 20 and set(few_ids := [q.id for q in few]) <= {q.id for q in more}
    assert few_ids == sorted(few_ids, key=int) and limit_questions(questions, "b", None) == questions
    assert [q.id for q in limit_questions(questions, "other", 5)] != few_ids


def test_the_second_turn_is_asked_after_the_models_own_answer(scripted) -> None:
    model = scripted(lambda talk: f"reply {len(talk)} to {talk[-1]['content']}")
    questions = [Question("1", ("a", "b")), Question("2", ("c",)), Question("3", ("d", "e"))]
    answers = ask(model, questions, lambda q: Sampling(9, 0.1 if q.id == "3" else 0.7), seed=5)
    assert [answer.turns for answer in answers] == [
        ("reply 1 to a", "reply 3 to b"),
        ("reply 1 to c",),
        ("reply 1 to d", "reply 3 to e"),
    ]
    assert model.calls[2][0][0][1] == {"role": "assistant", "content": "reply 1 to a"}
    assert len({seed for _, _, seed in model.calls}) == 4  # two samplings, two turns: four calls, four seeds


def test_ratio_by_hand() -> None:
    """Questions: 3 of 4, 0 of 1, unscored. Estimate 100 * 3 / 5 = 60; mean weight of the scored is 2.5.

    Contributions: 60 + 100 * (3 - 0.6 * 4) / 2.5 = 84 and 60 + 100 * (0 - 0.6 * 1) / 2.5 = 36; their mean is 60.
    """
    ratio = Ratio(("a", "b", "c"), np.array([3.0, 0.0, 0.0]), np.array([4.0, 1.0, 0.0]))
    assert ratio.value == pytest.approx(60) and ratio.scored_count == 2
    assert ratio.contributions() == pytest.approx({"a": 84, "b": 36})


def test_replicates_resample_questions_and_are_paired() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(200)
    ones = np.ones(200)
    ids = tuple(map(str, range(200)))
    first = Ratio(ids, x, ones)
    second = Ratio(ids, x + 0.1, ones)
    difference = np.array(second.replicates(500, 3)) - np.array(first.replicates(500, 3))
    assert difference == pytest.approx(np.full(500, 10.0))
    assert np.std(first.replicates(2000, 3)) == pytest.approx(100 * x.std() / math.sqrt(200), rel=0.08)
    counts = resample_counts(7, 11, 0)
    assert counts.shape == (11, 7) and (counts.sum(axis=1) == 7).all()


def test_no_verdict_is_none_and_a_hopeless_coverage_has_no_interval() -> None:
    empty = ratio_score("m", Ratio(("a",), np.zeros(1), np.zeros(1)), 10, 0, "", {})
    assert empty.value is None and empty.n == 0 and empty.unscored == 1 and "no question" in empty.note
    rare = ratio_score("m", Ratio(("a", "b", "c"), np.array([1.0, 0, 0]), np.array([1.0, 0, 0])), 200, 0, "", {})
    assert rare.value == 100 and rare.low is None and rare.replicates == () and "no interval" in rare.note


def test_repeats_are_combined_under_their_part() -> None:
    judgments = [Judgment("q", "turn1", value, repeat=number) for number, value in enumerate([9.0, 1.0, 8.0])]
    lost = Judgment("q", "turn2", None, "no rating")
    assert verdicts([*judgments, lost], "median") == {"q": {"turn1": 8.0}}
    assert verdicts(judgments)["q"]["turn1"] == pytest.approx(6.0)


SCANS: dict[str, Callable[[str], object]] = {
    "markdown": markdown_breakdown,
    "rating": read_rating,
    "extract": lambda text: [extract(text, name) for name in FILTERS],
    "json": extract_answer,
    "mark": lambda text: mark_of(text, text),
    "number": number_in,
    "failure": lambda text: failure_mark(Answer("q", (text,), (True,), (1,))),
    "hostile": lambda text: [pattern.search(text) for pattern in HOSTILE.values()],
}


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("unit", ["\n", " ", "1", "-", "`", "*", "{", '"answer" ', "#### ", "\n\n- ", "```a"])
def test_degenerate_answers_are_read_in_linear_time(scan: str, unit: str) -> None:
    """Eight times the text takes about eight times the processor's time, not 64 times."""

    def seconds(size: int) -> float:
        times = []
        for _ in range(3):
            begun = time.process_time()
            SCANS[scan]("[[1" + unit * size)
            times.append(time.process_time() - begun)
        return min(times)

    few, many = seconds(1000), seconds(8000)
    assert many < 0.01 or many < 32 * few


def test_markdown_is_counted_as_by_the_official_patterns() -> None:
    """Its ``\\s*`` may cross line breaks: the counts are the same, on 2,000 random texts."""
    rng = random.Random(0)
    for _ in range(2000):
        text = "".join(rng.choices("\n\n \t\r\x0b1.-*a", k=rng.randint(0, 30)))
        official = {"ordered": r"^\s*\d+\.\s", "unordered": r"^\s*[-*+]\s"}
        counts = {kind: len(re.findall(rule, text, re.MULTILINE)) for kind, rule in official.items()}
        assert markdown_breakdown(text)["list_count"] == counts, text


def test_a_score_without_a_verdict_says_why() -> None:
    questions = [Question(name, ("Why?",)) for name in "abc"]
    reasons = ["call failed: refused", "call failed: refused", "no rating"]
    judgments = [Judgment(q.id, "turn1", None, reason) for q, reason in zip(questions, reasons, strict=True)]
    detail = entrant_detail(questions, Entrant([], judgments))
    score = ratio_score("x", Ratio.of_sums(questions, [[], [], []], 1.0), 0, 0, "", detail)
    assert score.note == "no question has a verdict: 2 x call failed: refused, 1 x no rating"
    scored = [*judgments[1:], Judgment("a", "turn1", 7.0)]
    # of a score with a value too: a table may refuse it, and then says why
    kept = {name: count for name, count in entrant_detail(questions, Entrant([], scored)).items() if ":" in name}
    assert kept == {"missing:call failed: refused": 1.0, "missing:no rating": 1.0}
    # a reason that quotes the reply is another for every reply: the two alike first, and nine of the others
    quoting = [Judgment(f"{n}", "turn1", None, f"'{n // 2 if n < 2 else n}' is no verdict") for n in range(100)]
    kept = {name: count for name, count in entrant_detail([], Entrant([], quoting)).items() if ":" in name}
    assert (kept.pop("missing:'0' is no verdict"), len(kept), set(kept.values())) == (2.0, 9, {1.0})
