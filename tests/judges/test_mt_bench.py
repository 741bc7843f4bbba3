"""MT-Bench: ratings as FastChat reads them, turns and references in the prompts, and scores by hand."""

import pytest

from harness.contracts.benchmark import Entrant
from harness.errors import UserError
from harness.types import Answer, Judgment, Question, Reply, Verdict
from judges.benchmarks.mt_bench import (
    BENCHMARK,
    PAIRWISE_BENCHMARK,
    TEMPERATURES,
    MTBenchConfig,
    MTBenchPairwiseConfig,
    outcome,
    read_rating,
    read_winner,
)
from judges.benchmarks.pocket_prompts import read_prompt


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
    flags = {"Rating: [8]": ("single-bracket",), "first [[3]], then [[9]]": ("several-labels",)}
    assert verdict.flags == flags.get(text, ())


def test_a_rating_that_may_be_a_citation_is_flagged() -> None:
    """FastChat's rule is kept; a table says how often it was needed."""
    assert read_rating("The loop reads a[3] twice. Rating: 8/10") == Verdict(3.0, None, ("single-bracket",))
    assert read_rating("[[8]] and once more [[8]]").flags == ()


def test_pocket_requests_show_one_turn_then_both() -> None:
    config = MTBenchConfig(repeats=2)
    question = Question("q", ("add 1 and 2", "now double it"), "sum", reference=("3", "6"))
    requests = BENCHMARK.requests(question, Answer("q", ("4", "8"), (True, True), (1, 1)), config)
    assert [(request.part, request.repeat) for request in requests] == [
        ("turn1", 0), ("turn1", 1), ("turn2", 0), ("turn2", 1),
    ]  # fmt: skip
    first, second = read_prompt(requests[0].messages), read_prompt(requests[2].messages)
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
    calls = {(talk[0]["content"], sampling.temperature) for talks, sampling, _ in model.calls for talk in talks}
    assert calls == {(question.turns[0], TEMPERATURES[question.category]) for question in questions}
    math = next(question for question in questions if question.category == "math")
    one, two = BENCHMARK.requests(math, answers[questions.index(math)], config)
    assert math.reference[0] in one.messages[1]["content"] and math.reference[1] not in one.messages[1]["content"]
    assert all(text in two.messages[1]["content"] for text in (*math.turns, *math.reference))
    assert two.messages[1]["content"].count("an {answer_2} [[10]]") == 2
    newer = BENCHMARK.questions(MTBenchConfig(questions="official", references="gpt-4-1106-preview"))
    assert [question.id for question in newer] == [question.id for question in questions]
    assert newer[questions.index(math)].reference != math.reference


PAIRWISE = PAIRWISE_BENCHMARK


@pytest.mark.parametrize(
    ("text", "value", "flags"),
    [
        ("so [[A]]", 1.0, ()),
        ("[[B]]", -1.0, ()),
        ("[[C]]", 0.0, ()),
        ("[[B]], not [[A]]", 1.0, ("several-labels",)),  # FastChat looks for [[A]] first, wherever it stands
        ("A is better", None, ()),
        ("", None, ()),
    ],
)
def test_winners(text: str, value: float | None, flags: tuple[str, ...]) -> None:
    verdict = read_winner(text)
    assert (verdict.value, verdict.flags) == (value, flags) and (verdict.reason is None) == (value is not None)


def test_a_turn_is_decided_when_both_orders_agree() -> None:
    assert [outcome(games) for games in ([1, 1], [-1, -1], [1, -1], [0, 0], [0, 1], [1])] == [1, 0, 0.5, 0.5, 0.5, None]


def test_pairwise_requests_show_both_orders_of_both_turns() -> None:
    config = MTBenchPairwiseConfig(limit=1)
    (question,) = PAIRWISE.questions(config)
    answer = Answer(question.id, ("MINE 1", "MINE 2"), (True, True), (1, 1))
    requests = PAIRWISE.requests(question, answer, config)
    assert [request.part for request in requests] == ["turn1:game1", "turn1:game2", "turn2:game1", "turn2:game2"]
    pairs = [read_prompt(request.messages) for request in requests]
    assert [pair and pair.first for pair in pairs] == [
        ("MINE 1",), question.baseline[:1], ("MINE 1", "MINE 2"), question.baseline[:2],
    ]  # fmt: skip
    values = [PAIRWISE.parse(request, Reply("[[A>>B]]", "stop", "j", 1, 1), config).value for request in requests]
    assert values == [1, -1, 1, -1]


def test_pairwise_scores_by_hand() -> None:
    """a: turn 1 won in both orders, turn 2 split: 1 + 0.5. b: turn 1 lost, turn 2 lost one verdict: 0 of 1.

    (1 + 0.5 + 0) / 3 = 50%; c has nothing and is unscored. One of three decided turns flipped with the order.
    """
    questions = [Question(name, ("1", "2"), baseline=("x", "y")) for name in "abc"]
    games = {"a": {"turn1": (1, 1), "turn2": (1, -1)}, "b": {"turn1": (-1, -1), "turn2": (1, None)}}
    judgments = [
        Judgment(name, f"{turn}:game{number}", None if verdict is None else float(verdict))
        for name, turns in games.items()
        for turn, games in turns.items()
        for number, verdict in enumerate(games, 1)
    ]
    (score,) = PAIRWISE.score(questions, {"x": Entrant((), judgments)}, MTBenchPairwiseConfig(), 0, 0)["x"]
    assert score.value == pytest.approx(50) and (score.n, score.unscored) == (2, 1)
    assert (score.detail["wins"], score.detail["ties"], score.detail["losses"]) == (1, 1, 1)
    assert score.detail["flips"] == pytest.approx(1 / 3) and score.detail["turn1"] == 50 and score.detail["turn2"] == 50


@pytest.mark.parametrize("baseline", [(), ("c",)])
def test_official_pairwise_needs_a_baseline(baseline: tuple[str, ...]) -> None:
    question, answer = Question("81", ("one", "two"), baseline=baseline), Answer("81", ("a", "b"), (), ())
    with pytest.raises(UserError, match=r"81 has no baseline answer to every turn.* Name a model with --baseline"):
        PAIRWISE.requests(question, answer, MTBenchPairwiseConfig(questions="official"))


@pytest.mark.assets
def test_official_pairwise_prompts(assets, tmp_path) -> None:
    import json

    plain = BENCHMARK.questions(MTBenchConfig(questions="official"))
    rows = [
        {"question_id": int(q.id), "model_id": "base", "choices": [{"index": 0, "turns": ["B1", "B2"]}]} for q in plain
    ]
    path = tmp_path / "base.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = MTBenchPairwiseConfig(questions="official", baseline=str(path))
    questions = PAIRWISE.questions(config)
    for question in (next(q for q in questions if q.category == "math"), questions[0]):
        requests = PAIRWISE.requests(question, Answer(question.id, ("M1 [[B]]", "M2"), (True,) * 2, (1, 1)), config)
        for request, first in zip(requests, ("M1 [[B]]", "B1", "M1 [[B]]", "B1"), strict=True):
            content = request.messages[1]["content"]
            assert content.index(first) < content.index("B1" if first != "B1" else "M1 [[B]]")
            assert all(turn in content for turn in question.reference[: 1 + request.part.startswith("turn2")])
            assert ("M2" in content) == request.part.startswith("turn2")
            assert "[[C]]" in request.messages[0]["content"]
        assert PAIRWISE.parse(requests[1], Reply("[[B]]", "stop", "j", 1, 1), config).value == 1
