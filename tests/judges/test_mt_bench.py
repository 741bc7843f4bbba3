"""MT-Bench: ratings as FastChat reads them, turns and references in the prompts, and scores by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.benchmark import Entrant
from harness.types import Answer, Judgment, Question
from judges.mt_bench import BENCHMARK, TEMPERATURES, MTBenchConfig, read_rating
from judges.pocket_prompts import read_single_grade


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rating: [[5]]", 5.0),
        ("[[7.5]]", 7.5),
        ("first [[3]], then [[9]]", 3.0),
        ("Rating: [8]", 8.0),
        ("[[10]]", 10.0),
        ("[[11]]", None),
        ("[[0]]", None),
        ("Rating: 7", None),
        ("[[rating]]", None),
        ("[[" + "9" * 400 + "]]", None),
        ("", None),
    ],
)
def test_ratings(text: str, value: float | None) -> None:
    verdict = read_rating(text)
    assert verdict.value == value and (verdict.reason is None) == (value is not None)
    assert verdict.flags == (("single-bracket",) if text == "Rating: [8]" else ())


@given(st.text(alphabet="[]0123456789. x²\n", max_size=50))
def test_any_reply_is_read_without_raising(text: str) -> None:
    value = read_rating(text).value
    assert value is None or 1 <= value <= 10


def test_pocket_requests_show_one_turn_then_both() -> None:
    config = MTBenchConfig(repeats=2)
    question = Question("q", ("add 1 and 2", "now double it"), "sum", reference=("3", "6"))
    requests = BENCHMARK.requests(question, Answer("q", ("4", "8"), (True, True), (1, 1)), config)
    assert [(request.part, request.repeat) for request in requests] == [
        ("turn1", 0), ("turn1", 1), ("turn2", 0), ("turn2", 1),
    ]  # fmt: skip
    first, second = read_single_grade(requests[0].messages), read_single_grade(requests[2].messages)
    assert first is not None and (first.turns, first.answers, first.references) == (("add 1 and 2",), ("4",), ("3",))
    assert second is not None and (second.answers, second.references) == (("4", "8"), ("3", "6"))


def test_scores_by_hand() -> None:
    """a: 8 and 4. b: 6, turn 2 lost. c: nothing. Mean of three ratings 6; turn 1: 7, turn 2: 4.

    Contributions: a = 6 + (12 - 6 * 2) / 1.5 = 6, b = 6 + (6 - 6) / 1.5 = 6.
    """
    questions = [Question(name, ("1", "2"), category) for name, category in [("a", "x"), ("b", "y"), ("c", "y")]]
    judgments = [
        Judgment("a", "turn1", 9.0),
        Judgment("a", "turn1", 7.0, repeat=1),
        Judgment("a", "turn2", 4.0),
        Judgment("b", "turn1", 6.0),
        Judgment("b", "turn2", None, "no [[rating]]"),
    ]
    answers = [Answer("a", ("12", "345"), (True, False), (1, 9))]
    (score,) = BENCHMARK.score(questions, {"x": Entrant(answers, judgments)}, MTBenchConfig(), 0, 0)["x"]
    assert score.value == pytest.approx(6.0) and (score.n, score.unscored) == (2, 1)
    assert score.detail["turn1"] == pytest.approx(7) and score.detail["turn2"] == 4
    assert score.detail["category:x"] == 6 and score.detail["category:y"] == 6
    assert score.detail["truncated"] == 1 and score.detail["mean_length"] == 5
    assert score.per_question == pytest.approx({"a": 6, "b": 6}) and score.low is None


@pytest.mark.assets
def test_official_questions_temperatures_and_references(assets, scripted) -> None:
    config = MTBenchConfig(questions="official")
    questions = BENCHMARK.questions(config)
    assert len(questions) == 80 and sum(bool(question.reference) for question in questions) == 30
    model = scripted(lambda talk: "an {answer_2} [[10]]")
    answers = BENCHMARK.answer(model, questions, config, 0)
    assert all(len(answer.turns) == 2 for answer in answers)
    asked = {(talk[0]["content"], sampling.temperature) for talks, sampling, _ in model.calls for talk in talks}
    assert asked == {(question.turns[0], TEMPERATURES[question.category]) for question in questions}
    math = next(question for question in questions if question.category == "math")
    one, two = BENCHMARK.requests(math, answers[questions.index(math)], config)
    assert math.reference[0] in one.messages[1]["content"] and math.reference[1] not in one.messages[1]["content"]
    assert all(text in two.messages[1]["content"] for text in (*math.turns, *math.reference))
    assert two.messages[1]["content"].count("an {answer_2} [[10]]") == 2
    newer = BENCHMARK.questions(MTBenchConfig(questions="official", references="gpt-4-1106-preview"))
    assert [question.id for question in newer] == [question.id for question in questions]
    assert newer[questions.index(math)].reference != math.reference
