"""Verdicts that are missing: the official value stays, but half a question covers half of it."""

import pytest

from harness.contracts.benchmark import Entrant
from harness.types import Answer, Judgment, Question, Score
from judges import BENCHMARKS
from judges.benchmarks.scoring import count_verdicts


def scores(name: str, verdicts: dict[str, float | None], n: int = 20, **options: object) -> tuple[Score, ...]:
    """The scores of a model of which every answer got these verdicts, by part."""
    benchmark = BENCHMARKS[name]
    turns = 2 if name.startswith("mt_bench") else 1
    questions = [Question(str(i), ("q",) * turns, "c", ("base",) * turns) for i in range(n)]
    answers = [Answer(question.id, ("x",) * turns, (True,) * turns, (1,) * turns) for question in questions]
    judgments = [Judgment(question.id, part, value) for question in questions for part, value in verdicts.items()]
    return benchmark.score(questions, {"m": Entrant(answers, judgments)}, benchmark.config(**options), 0, 0)["m"]


@pytest.mark.parametrize(
    ("name", "verdicts", "options", "value", "covered"),
    [
        # every question has one of its two verdicts: the official scripts' values, and half of 20 questions
        ("arena_hard", {"game1": 2.0, "game2": None}, {}, 100.0, 10),
        ("alpaca_eval", {"order1": None, "order2": 0.9}, {"order": "both"}, 90.0, 10),
        ("mt_bench", {"turn1": 7.0, "turn2": None}, {}, 7.0, 10),
        # turn 1 is won, turn 2 dropped for one game: of its four verdicts two are used, three are there
        ("mt_bench_pairwise", {"turn1:game1": 1.0, "turn1:game2": 1.0, "turn2:game1": 1.0}, {}, 100.0, 10),
        ("mt_bench", {"turn1": 7.0}, {}, 7.0, 10),  # turn 2 was never judged: missing all the same
        ("arena_hard", {"game1": 2.0, "game2": None}, {"scorer": "2025-06"}, None, 0),  # drops such questions
        ("arena_hard", {"game1": 2.0, "game2": 1.0}, {}, 100.0, 20),
    ],
)
def test_half_judged_questions_cover_half(
    name: str, verdicts: dict[str, float | None], options: dict[str, object], value: float | None, covered: float
) -> None:
    score = scores(name, verdicts, **options)[-1]
    assert score.value == (None if value is None else pytest.approx(value)) and score.covered_questions == covered
    parts = 4 if name == "mt_bench_pairwise" else 2
    read = sum(each is not None for each in verdicts.values())
    assert (score.detail["verdicts"], score.detail["verdicts_missing"]) == (20 * parts, 20 * (parts - read))


def test_length_control_has_the_coverage_of_its_verdicts() -> None:
    lc, wr = scores("alpaca_eval", {"order1": None, "order2": 0.9}, n=120, order="both")
    assert lc.value is not None and (lc.n, lc.covered_questions) == (wr.n, wr.covered_questions) == (120, 60)


def test_verdicts_by_hand() -> None:
    """Two parts, each asked twice: a lacks one of four, b has none, c has a verdict on another part only."""
    questions = [Question(name, ("q",)) for name in "abc"]
    judgments = [
        *(Judgment("a", part, 1.0 if (part, repeat) != ("x", 1) else None, repeat=repeat)
          for part in "xy" for repeat in (0, 1)),
        *(Judgment("b", part, None) for part in "xy"),
        Judgment("c", "z", 1.0),
    ]  # fmt: skip
    score = count_verdicts(questions, judgments, ["x", "y"])
    assert score.received.tolist() == [3, 0, 0] and score.expected.tolist() == [4, 4, 4]
    assert score.share.tolist() == [0.75, 0, 0]
    assert score.detail(score.share) == {"verdicts": 12, "verdicts_missing": 9, "questions_covered": 0.75}


def test_a_draw_without_a_judge_lacks_nothing_and_a_mirrored_label_is_none_for_the_older_script() -> None:
    """Four questions: one equal to the baseline's answer, one judged, one read in vain, one not answered."""
    benchmark = BENCHMARKS["alpaca_eval"]
    questions = [Question(str(i), ("i",), baseline=("SAME",), meta={"index": i}) for i in range(4)]
    answers = [Answer(str(i), ("SAME" if i == 0 else "OTHER",), (True,), (1,)) for i in range(3)]
    entrant = Entrant(answers, [Judgment("1", "preference", 1.0), Judgment("2", "preference", None)])
    _, wr = benchmark.score(questions, {"x": entrant}, benchmark.config(), 0, 0)["x"]
    assert (wr.value, wr.n, wr.unscored, wr.covered_questions) == (75, 2, 2, 2)
    assert (wr.detail["verdicts"], wr.detail["verdicts_missing"]) == (3, 2)
    arena = BENCHMARKS["arena_hard"]
    mirrored = [Judgment("0", "game1", 1.0, flags=("mirrored-label",)), Judgment("0", "game2", 1.0)]
    for scorer, covered in (("v0.1", 0.5), ("2025-06", 1.0)):
        (score,) = arena.score(questions[:1], {"x": Entrant((), mirrored)}, arena.config(scorer=scorer), 0, 0)["x"]
        assert score.covered_questions == covered
