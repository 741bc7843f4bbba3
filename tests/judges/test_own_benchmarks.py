"""Benchmarks without code: files of questions, judge prompts, replies and scores, with hostile inputs and by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.contracts.benchmark import ConfiguredBenchmark, Entrant
from harness.contracts.options import read_options
from harness.errors import UserError
from harness.models.fake import FakeModel
from harness.types import Answer, Judgment, Question, Reply, Request
from judges import BENCHMARKS
from judges.benchmarks import replies
from judges.benchmarks.judge_prompt import GRADE_PLACES, PAIR_PLACES, grade_values, load_prompt, pair_values
from judges.benchmarks.numbers import last_number
from judges.benchmarks.own.choice import letter_of
from judges.benchmarks.own.exact import mark_of, normal

ROWS: Sequence[Mapping[str, Any]] = (
    {"question": "one?", "reference": "1", "choices": ["1", "2"], "baseline": "yes"},
    {"question": "two?", "reference": "2", "choices": ["1", "2"], "baseline": "no"},
)


def write(folder: Path, rows: Sequence[object] = ROWS, name: str = "q.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(folder / name)


def column(kind: str, **values: Any) -> ConfiguredBenchmark:
    """As a recipe's column ``mine``."""
    entry = BENCHMARKS[kind]
    config, problems = read_options(entry.config, values, ())
    assert config is not None, problems
    return ConfiguredBenchmark.load(entry.named("mine", config), config)


def test_lm_eval_needs_a_task() -> None:
    assert "must name a task" in str(read_options(BENCHMARKS["lm_eval"].config, {"task": " "}, ())[1][0])


def mistakes(kind: str, **values: Any) -> str:
    return " ".join(map(str, read_options(BENCHMARKS[kind].config, {"questions": "q.jsonl", **values}, ())[1]))


def reply(text: str, first_token: Mapping[str, float] | None = None) -> Reply:
    return Reply(text, "stop", "judge", 1, 1, first_token)


# Files


def test_one_set_of_questions_in_every_form_is_the_same_questions(tmp_path: Path) -> None:
    expected = [
        Question("1", ("one?",), reference=("1",), baseline=("yes",)),
        Question("2", ("two?",), reference=("2",), baseline=("no",)),
    ]
    forms = [write(tmp_path)]
    (tmp_path / "q.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (tmp_path / "q.csv").write_text(
        'question,reference,choices,baseline\none?,1,"[""1"", ""2""]",yes\ntwo?,2,"[""1"", ""2""]",no\n',
        encoding="utf-8",
    )
    (tmp_path / "q.tsv").write_text("question\treference\tbaseline\none?\t1\tyes\ntwo?\t2\tno\n", encoding="utf-8")
    pq.write_table(pa.Table.from_pylist([dict(row) for row in ROWS]), tmp_path / "q.parquet")
    forms += [str(tmp_path / name) for name in ("q.json", "q.csv", "q.tsv", "q.parquet")]
    for form in forms:
        assert column("pairwise", questions=form).questions == expected, form
    assert [q.reference for q in column("choice", questions=forms[2], reference_is="text").questions] == [
        ("A",),
        ("B",),
    ]


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"prompt": "a?"}, ("a?",)),
        ({"instruction": "a?", "input": "b", "output": "c"}, ("a?\n\nb",)),
        ({"turns": ["a?", "b?"]}, ("a?", "b?")),
        ({"messages": [{"role": "user", "content": "a?"}, {"role": "user", "content": "b?"}]}, ("a?", "b?")),
        ({"question": "a?", "instruction": "b?", "input": "c"}, ("a?",)),  # the input belongs to the instruction
        ({"question": None, "prompt": "a?"}, ("a?",)),
        ({"question": math.nan, "prompt": "a?", "id": math.nan}, ("a?",)),  # as pandas writes an empty cell
        ({"question": "[1, 2]"}, ("[1, 2]",)),  # in JSON, text that looks like a list is text
        ({"question": "{question} {{ 7*7 }} {% raw %}"}, ("{question} {{ 7*7 }} {% raw %}",)),
    ],
)
def test_the_names_that_other_tools_use_are_read(
    row: Mapping[str, Any], turns: tuple[str, ...], tmp_path: Path
) -> None:
    assert column("rating", questions=write(tmp_path, [row])).questions[0].turns == turns


def test_a_column_without_a_name_is_no_field(tmp_path: Path) -> None:
    """pandas writes the number of a row there; it had become the id, the category and the baseline's answer."""
    (tmp_path / "q.csv").write_text(",question,reference\n7,2 + 2?,4\n", encoding="utf-8")
    (question,) = column("pairwise", questions=str(tmp_path / "q.csv")).questions
    assert (question.id, question.category, question.baseline, question.reference) == ("1", "", (), ("4",))


def test_every_bad_line_is_told_at_once_with_its_number(tmp_path: Path) -> None:
    user, system, assistant = ({"role": role, "content": "x"} for role in ("user", "system", "assistant"))
    lines = [
        '{"question": "fine?", "id": "a"}', "not json", "[1]", '{"qestion": "x"}', '{"question": ""}',
        '{"question": 7}', '{"question": "other?", "id": "a"}', '{"question": "fine?"}',
        json.dumps({"messages": [system]}), json.dumps({"messages": [user, assistant]}), "", '{"question": null}',
        '{"question": "' + "\\ud800" + '"}', '{"question": "b?", "baseline": ["x", "y"]}',
    ]  # fmt: skip
    (tmp_path / "q.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"question": "\xff"}\n')
    with pytest.raises(UserError) as caught:
        column("rating", questions=str(tmp_path / "q.jsonl"))
    text = str(caught.value)
    bad = [number for number in range(1, 16) if f"line {number}: " in text]
    assert bad == [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15]  # line 13 holds half of a character, which is replaced
    assert "has 12 lines that cannot be asked" in text and "fields: {question: instruction}" in text
    assert "line 7: id 'a' is that of line 1 too" in text and "line 8: asks the same as line 1" in text


@pytest.mark.parametrize(
    ("content", "name", "part"),
    [
        (b"", "q.jsonl", "holds no questions"),
        (b"PAR1broken", "q.parquet", "Parquet file that cannot be read"),
        (b"\x1f\x8b0", "q.jsonl", "compressed"),
        (b"question,question\na,b\n", "q.csv", "a name for each column"),
        (b'question,reference\n"a,b\n', "q.csv", "line 2: not"),
        (b"question,reference\na\n", "q.csv", "line 2: 1 cells, and there are 2 columns"),
        (b"question\n\xe9\n", "q.csv", "is not UTF-8"),
        (b"question;id\na;b\n", "q.csv", "line 1: the columns seem to be divided by ';', and not by commas"),
        (b"question: a\n", "q.jsonl", r"line 1: not JSON \(expecting value, at character 1\)"),
        (b'{"prompt": null}\n', "q.jsonl", 'line 1: "prompt" is empty'),
        (b'{"qestion": "a"}\n', "q.jsonl", "no \"question\"; the row has: qestion, did you mean 'qestion'"),
    ],
)
def test_a_file_that_is_none_is_refused(content: bytes, name: str, part: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=part):
        column("rating", questions=str(tmp_path / name))


def test_a_right_answer_that_is_empty_or_misspelt_is_told(tmp_path: Path) -> None:
    rows = [{"question": "a?", "answer": ""}, {"question": "b?", "refrence": "c"}, {"question": "d?", "reference": "e"}]
    with pytest.raises(UserError) as told:
        column("exact", questions=write(tmp_path, rows))
    lines = str(told.value).splitlines()
    assert lines[1] == '  line 1: "answer" is empty'
    assert lines[2].startswith('  line 2: no "reference" (') and lines[2].endswith("did you mean 'refrence'?")


def test_fields_are_mapped_and_a_wrong_name_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, [{"q": "a?", "gold": {"text": ["x", "y"]}}])
    question = column("exact", questions=file, fields={"question": "q", "reference": "gold.text"}).questions[0]
    assert (question.turns, question.reference) == (("a?",), ("x", "y"))
    assert column("exact", questions=file, fields={"question": "q", "reference": "gold.text.1"}).questions[
        0
    ].reference == ("y",)
    with pytest.raises(UserError, match="'golf', which no row has; did you mean 'gold'"):
        column("exact", questions=file, fields={"question": "q", "reference": "golf"})
    (tmp_path / "gap.csv").write_text("q,topic\na?,sums\nb?,\n", encoding="utf-8")
    gap = column("rating", questions=str(tmp_path / "gap.csv"), fields={"question": "q", "category": "topic"})
    assert [question.category for question in gap.questions] == ["sums", ""]
    assert "fields: questoin is no field of questions; did you mean question" in mistakes(
        "exact", fields={"questoin": "q"}
    )


# Prompts


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("grade {answr}", "did you mean {answer}? for the text itself write {{answr}}; it lacks {answer}"),
        ("grade {{answer}}", "{{answer}} has two braces"),
        ("grade {{ answer }}", "has two braces"),
        ("grade {question}", "it lacks {answer}"),
        ("two\nlines", "it lacks {answer}"),
    ],
)
def test_a_wrong_prompt_is_told_with_the_choices(text: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        load_prompt(text, GRADE_PLACES, ("answer",), "prompt")
    assert part in str(caught.value) and "Placeholders: {question}, {answer}" in str(caught.value)
    assert part.split("? ", maxsplit=1)[0] in mistakes("rating", prompt=text)


def test_a_prompt_keeps_other_braces_and_doubled_ones_as_text() -> None:
    prompt = load_prompt('{answer} {"score": 5} {{score}} {} { x } {0}', GRADE_PLACES, ("answer",), "prompt")
    values = grade_values(Question("q", ("?",)), ["yes"], 0, "1", "5")
    assert prompt.fill(values) == 'yes {"score": 5} {score} {} { x } {0}'


@given(st.text(), st.text(), st.text())
def test_no_text_is_ever_read_as_a_template(question: str, first: str, second: str) -> None:
    """What stands between the marks is the text itself, whatever it holds."""
    prompt = load_prompt("<q>{question}<a>{answer_a}<b>{answer_b}<e>", PAIR_PLACES, ("answer_a", "answer_b"), "prompt")
    for texts in ((question, first, second), ("{answer_b}", "{question}{answer_a}", "{{ answer_a }}{% x %}$x %s")):
        values = pair_values(Question("q", (texts[0],)), [texts[1]], [texts[2]], 0)
        assert prompt.fill(values) == f"<q>{texts[0]}<a>{texts[1]}<b>{texts[2]}<e>"


def test_a_changed_prompt_file_is_another_judging_and_not_another_answering(tmp_path: Path) -> None:
    file, prompt = write(tmp_path), tmp_path / "p.txt"
    prompt.write_text("{answer}?", encoding="utf-8")
    first = column("rating", questions=file, prompt=str(prompt))
    keys = first.judge_options, first.answer_options
    prompt.write_text("{answer}? really", encoding="utf-8")
    second = column("rating", questions=file, prompt=str(prompt))
    assert second.judge_options != keys[0] and second.answer_options == keys[1]
    assert keys[0]["kind"] == "rating" and str(prompt) not in str(keys[0])  # by content: the file may move


def test_a_prompt_must_show_what_several_turns_and_references_need(tmp_path: Path) -> None:
    several = write(tmp_path, [{"question": ["a?", "b?"]}], "several.jsonl")
    with pytest.raises(UserError, match="1 question of several turns"):
        column("rating", questions=several, prompt="{answer}")
    with pytest.raises(UserError, match=r"shows \{reference\}, and 1 question of 1 have none"):
        column("rating", questions=write(tmp_path, [{"question": "a?"}]), prompt="{answer} {reference}")
    mine = column("rating", questions=several, prompt="{conversation}|{answer}")
    answer = Answer("1", ("x", "y"), (True, True), (1, 1))
    requests = mine.benchmark.requests(mine.questions[0], answer, mine.config)
    assert [request.part for request in requests] == ["turn1", "turn2"]
    talk = "[User, turn 1]\na?\n\n[Assistant, turn 1]\nx\n\n[User, turn 2]\nb?|y"
    assert requests[1].messages == ({"role": "user", "content": talk},)
    last = column("rating", questions=several, prompt="{conversation}|{answer}", turns="last")
    assert [r.part for r in last.benchmark.requests(last.questions[0], answer, last.config)] == ["turn2"]


# Replies


@pytest.mark.parametrize(
    ("options", "text", "value"),
    [
        ({}, "Good. [[4]]", 4.0),
        ({}, "[[2]] no, rather [[ 4.5 ]]", 4.5),
        ({}, "[[4/5]]", 4.0),
        ({}, "[[4 out of 5]]", 4.0),
        ({}, "[[4/10]]", "'4/10' is no verdict"),  # another scale
        ({"parse": "regex", "pattern": r"\d*"}, "Score: 3!", 3.0),  # it matches nothing at the end, too
        ({"parse": "json", "key": "score"}, "\\frac{a}{b} " * 300 + '{"score": 2}', 2.0),
        ({}, "[[6]]", "the grade 6 is not on the scale 1-5"),
        ({}, "[[-1]]", "the grade -1 is not on the scale 1-5"),
        ({}, "[[good]]", "'good' is no verdict"),
        ({}, "4", "no [[label]] in the reply"),
        ({"parse": "regex", "pattern": r"Score:\s*(\S+)"}, "Score: 3\nScore: 5", 5.0),
        ({"parse": "regex", "pattern": r"(?P<why>.*) => (?P<verdict>\d)"}, "so => 2", 2.0),
        ({"parse": "regex", "pattern": r"Score:\s*(\S+)"}, "none", "no match of the pattern in the reply"),
        ({"parse": "json", "key": "score"}, 'so {"a": {"score": 1}} {"score": "3"}', 3.0),
        ({"parse": "json", "key": "a.score"}, '{"a": {"score": 1}}', 1.0),
        (
            {"parse": "json", "key": "score"},
            '{"score": true}',
            "no text or number under 'score' of a JSON object in the reply",
        ),
        (
            {"parse": "json", "key": "score"},
            "{" * 3000,
            "no text or number under 'score' of a JSON object in the reply",
        ),
    ],
)
def test_a_grade_is_read_or_not_scored_with_the_reason(
    options: Mapping[str, Any], text: str, value: float | str, tmp_path: Path
) -> None:
    mine = column("rating", questions=write(tmp_path), prompt="{answer}", scale="1-5", **options)
    verdict = mine.benchmark.parse(Request("1", "turn1", (), 9), reply(text), mine.config)
    assert (verdict.value if isinstance(value, float) else verdict.reason) == value
    assert (verdict.value is None) == isinstance(value, str)


def test_first_tokens_give_the_mean_of_the_scale(tmp_path: Path) -> None:
    """P(2) = 0.2, P(4) = 0.6, the rest is no grade: (2 * 0.2 + 4 * 0.6) / 0.8 = 3.5."""
    mine = column("rating", questions=write(tmp_path), prompt="{answer}", scale="1-5", parse="first-token")
    tokens = {"4": math.log(0.6), "2": math.log(0.2), "The": math.log(0.2)}
    request = mine.benchmark.requests(mine.questions[0], Answer("1", ("x",), (), ()), mine.config)[0]
    assert (request.max_tokens, request.top_logprobs) == (1, 20)
    verdict = mine.benchmark.parse(request, reply("4", tokens), mine.config)
    assert verdict.value == pytest.approx(3.5) and verdict.mass == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("options", "text", "first"),
    [
        ({}, "[[A>>B]]", 1.0), ({}, "[[B>A]]", 0.0), ({}, "[[A=B]]", 0.5), ({}, "[[C]]", None), ({}, "A", None),
        ({"prompt": "{answer_a}{answer_b}"}, "[[a]]", 1.0),
        ({"prompt": "{answer_a}{answer_b}"}, "[[C]]", 0.5),
        ({"prompt": "{answer_a}{answer_b}", "labels": ["1", "2"]}, "[[2]]", 0.0),
        ({"prompt": "{answer_a}{answer_b}", "labels": ["1", "2"]}, "[[3]]", None),
        ({"prompt": "{answer_a}{answer_b}", "parse": "json", "key": "winner"}, '{"winner": "B"}', 0.0),
    ],
)  # fmt: skip
def test_a_comparison_is_read_for_the_answer_shown_first(
    options: Mapping[str, Any], text: str, first: float | None, tmp_path: Path
) -> None:
    mine = column("pairwise", questions=write(tmp_path), **options)
    second = None if first is None else 1 - first
    for model_first, expected in ((True, first), (False, second)):
        request = Request("1", "game", (), 9, meta={"model_first": model_first})
        assert mine.benchmark.parse(request, reply(text), mine.config).value == expected


def test_labels_of_first_tokens_are_read_as_they_stand(tmp_path: Path) -> None:
    """As AlpacaEval 2 has them, m and M: P(m) = 0.75 of both."""
    options = {"prompt": "{answer_a}{answer_b}", "labels": ["m", "M"], "parse": "first-token"}
    mine = column("pairwise", questions=write(tmp_path), **options)
    request = Request("1", "game", (), 1, meta={"model_first": True})
    tokens = {"m": math.log(0.6), "M": math.log(0.2)}
    assert mine.benchmark.parse(request, reply("m", tokens), mine.config).value == pytest.approx(0.75)


@given(st.text(), st.dictionaries(st.text(max_size=3), st.floats(max_value=1, allow_infinity=True), max_size=3))
def test_no_reply_breaks_a_reader(text: str, tokens: Mapping[str, float]) -> None:
    answers = reply(text, tokens)
    verdicts = [
        replies.read_brackets(answers, replies.number_of_reply),
        replies.read_pattern(answers, r"(\d+)", replies.number_of_reply),
        replies.read_json(answers, "score", replies.number_of_reply),
        replies.read_tokens(answers, {"1": 1.0, "2": 2.0}),
    ]
    assert all((verdict.value is None) == bool(verdict.reason) for verdict in verdicts)


@given(st.integers(0, 10**6), st.text(alphabet="ab c\n.", max_size=20))
def test_a_stated_grade_is_always_found(grade: int, around: str) -> None:
    assert replies.read_brackets(reply(f"{around}[[{grade}]]{around}"), replies.number_of_reply).value == grade
    assert replies.read_json(reply(f'{around}{{"k": {grade}}}{around}'), "k", replies.number_of_reply).value == grade
    assert last_number(f"{around} {grade} {around}") == grade


# Scores


def judged(mine: ConfiguredBenchmark, verdicts: Mapping[tuple[str, str], float | None]) -> Any:
    answers = [Answer(question.id, ("x",) * len(question.turns), (), ()) for question in mine.questions]
    judgments = [
        Judgment(q, part, value, None if value is not None else "why") for (q, part), value in verdicts.items()
    ]
    return mine.score({"row": Entrant(answers, judgments)}, seed=0, replicates=100)["row"][0]


def test_a_win_rate_is_the_mean_of_both_orders(tmp_path: Path) -> None:
    """Question 1: 1 and 0, a tie by place: 0.5. Question 2: 1 and 0.5: 0.75. Mean 62.5%; by agreement 50%."""
    games = {("1", "order1"): 1.0, ("1", "order2"): 0.0, ("2", "order1"): 1.0, ("2", "order2"): 0.5}
    score = judged(column("pairwise", questions=write(tmp_path)), games)
    assert (score.metric, score.value, score.n, score.unscored) == ("mine.wr", 62.5, 2, 0)
    assert (score.detail["wins"], score.detail["ties"], score.detail["flips"]) == (1.0, 1.0, 0.5)
    assert judged(column("pairwise", questions=write(tmp_path), metric="consistent"), games).value == 50.0
    half = judged(column("pairwise", questions=write(tmp_path)), {**games, ("2", "order2"): None})
    assert (half.value, half.n, half.unscored) == (50.0, 1, 1)  # one order of two is no comparison
    assert half.covered_questions == 1.0


def test_a_rating_is_a_mean_or_a_share_on_its_scale(tmp_path: Path) -> None:
    """Grades 2 and 5: mean 3.5; one of two reaches 4: 50%. A grade that is missing is not scored, never 0."""
    grades = {("1", "turn1"): 2.0, ("2", "turn1"): 5.0}
    mine = column("rating", questions=write(tmp_path), scale="1-5")
    metric = mine.benchmark.metrics[0]
    assert (metric.id, metric.unit, mine.benchmark.verdicts) == ("mine.score", "1-5", (1.0, 5.0))
    assert judged(mine, grades).value == 3.5
    rows = [{**row, "category": "sums"} for row in ROWS]
    share = column("rating", questions=write(tmp_path, rows), scale="1-5", metric="share", threshold=4)
    assert (judged(share, grades).metric, judged(share, grades).value) == ("mine.share", 50.0)
    assert judged(share, grades).detail["category:sums"] == 50.0  # what the number is of, in its unit
    gap = judged(mine, {**grades, ("1", "turn1"): None})
    assert (gap.value, gap.n, gap.unscored) == (5.0, 1, 1)


@pytest.mark.parametrize(
    ("options", "answer", "mark"),
    [
        ({}, "  Paris. ", 1.0), ({}, "PARIS", 1.0), ({}, "Paris, France", 0.0), ({}, "", 0.0),
        ({}, "paris\nfrance", 0.0),
        ({"metric": "contains"}, "It is Paris, I think", 1.0), ({"metric": "contains"}, "comparison", 0.0),
        ({"metric": "f1"}, "paris france", 2 / 3),  # one word of two is shared: 2 * 1 / (2 + 1)
        ({"metric": "f1"}, "Paris, France", 2 / 3),  # the comma is no part of the word
        ({"metric": "f1"}, "...", 0.0),
        ({"parse": "regex", "pattern": "[A-Za-z]*"}, "It is Paris!", 1.0),
        ({"normalise": []}, "paris", 0.0), ({"normalise": ["articles", "case", "space"]}, "The Paris", 1.0),
        ({"parse": "regex", "pattern": r"answer: (\w+)"}, "answer: no\nanswer: Paris", 1.0),
        ({"parse": "regex", "pattern": r"answer: (\w+)"}, "Paris", 0.0),
        ({"parse": "json", "key": "city"}, 'so {"city": "paris"}', 1.0),
    ],
)  # fmt: skip
def test_exact_marks_by_its_normalisation(options: Mapping[str, Any], answer: str, mark: float, tmp_path: Path) -> None:
    file = write(tmp_path, [{"question": "capital?", "reference": ["Lutetia", "Paris"]}])
    mine = column("exact", questions=file, **options)
    (judgment,) = mine.benchmark.grade(mine.questions[0], Answer("1", (answer,), (), ()), mine.config)
    assert judgment.verdict == pytest.approx(mark)


@pytest.mark.parametrize(
    ("options", "answer", "flags", "compared"),
    [
        ({}, "Paris.", (), "paris"), ({}, "It is Paris", ("contains-right",), "it is paris"),
        ({}, "comparison", (), "comparison"),  # inside a word
        ({}, "Rome", (), "rome"), ({"normalise": []}, "Paris.", ("contains-right",), "Paris."),
        ({"metric": "contains"}, "Rome", (), "rome"), ({"metric": "f1"}, "Paris now", (), "paris now"),
        ({"parse": "json", "key": "city"}, 'Paris: {"city": "Rome"}', ("contains-right",), "rome"),
        ({"parse": "regex", "pattern": "[0-9]+"}, "Paris", ("not-found",), None),
        ({"parse": "regex", "pattern": "[A-Z]+$"}, "Paris is in FRANCE", ("contains-right",), "france"),
    ],
)  # fmt: skip
def test_exact_says_what_was_compared_and_whether_a_wrong_answer_holds_the_right_one(
    options: Mapping[str, Any], answer: str, flags: tuple[str, ...], compared: str | None, tmp_path: Path
) -> None:
    mine = column("exact", questions=write(tmp_path, [{"question": "capital?", "reference": "Paris"}]), **options)
    (judgment,) = mine.benchmark.grade(mine.questions[0], Answer("1", (answer,), (), ()), mine.config)
    assert judgment.flags == flags and judgment.meta.get("compared") == compared


@pytest.mark.parametrize(
    ("answer", "mark"), [("so 1/2", 1.0), ("0.50", 1.0), ("1 then .5", 1.0), ("none", 0.0), ("2", 0.0)]
)
def test_exact_compares_numbers_as_numbers(answer: str, mark: float, tmp_path: Path) -> None:
    mine = column("exact", questions=write(tmp_path, [{"question": "half?", "reference": 0.5}]), parse="number")
    (judgment,) = mine.benchmark.grade(mine.questions[0], Answer("1", (answer,), (), ()), mine.config)
    assert judgment.verdict == mark and judgment.flags == (("not-found",) if answer == "none" else ())
    assert judgment.meta == ({} if answer == "none" else {"compared": "1/2" if mark else "2"})
    with pytest.raises(UserError, match="hold no number"):
        column("exact", questions=write(tmp_path, [{"question": "half?", "reference": "x"}]), parse="number")
    # the last number of 2,5 is 5, which 3,5 has too
    with pytest.raises(UserError, match=r"to 1 question hold no number, or a comma for a point \(1: '2,5'\)"):
        column("exact", questions=write(tmp_path, [{"question": "a?", "reference": "2,5"}]), parse="number")
    for wrong in ("2,50 \N{EURO SIGN}", "x = 2,5", "1.234,5 kg", "0,125"):
        with pytest.raises(UserError, match="a comma for a point"):
            column("exact", questions=write(tmp_path, [{"question": "a?", "reference": wrong}]), parse="number")
    for right in ("$1,200", "1,00,000", "of 1,2,3 and 4", "3,5 and 7"):
        column("exact", questions=write(tmp_path, [{"question": "a?", "reference": right}]), parse="number")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10-12", 12), ("x = -3", -3), ("5 \N{MINUS SIGN}3", -3), ("(1,2)", 2), ("3,4", 4), ("1,200, not more", 1200),
        ("1,00,000", 100000), ("$-5", -5), ("2024-05-12", 12), ("nothing", None),
    ],
)  # fmt: skip
def test_hyphens_and_commas_between_numbers_are_no_part_of_them(text: str, number: int | None) -> None:
    assert last_number(text) == number


def test_numbers_of_json_and_letters_in_two_ways_are_one_text(tmp_path: Path) -> None:
    """A data set's 4.0 is its 4; an e with an accent is one letter or two characters."""
    rows = [{"question": "how many?", "reference": 4.0}, {"question": "where?", "reference": "caf\u00e9"}]
    mine = column("exact", questions=write(tmp_path, rows), parse="json", key="answer")
    texts = ('{"answer": 4.0}', '{"answer": "cafe\u0301"}')
    for question, text in zip(mine.questions, texts, strict=True):
        assert mine.benchmark.grade(question, Answer(question.id, (text,), (), ()), mine.config)[0].verdict == 1.0


@given(st.text(max_size=40))
def test_an_answer_equals_itself_under_every_normalisation(text: str) -> None:
    config: Any = read_options(BENCHMARKS["exact"].config, {"questions": "q.jsonl"}, ())[0]
    if normal(text, config.normalise):
        assert mark_of(f" {text.upper().lower()} ", text.upper().lower(), config) == 1.0
    assert normal(normal(text, ("space",)), ("space",)) == normal(text, ("space",))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("b.", "B"), ("(B)", "B"), ("B. red", "B"), ("**B**", "B"), ("The answer is (C).", "C"),
        ("Answer: A\nno, the answer is B", "B"), ("\\boxed{C}", "C"), ("red", "B"), ("Red.", "B"),
        ("I think [[A]]", "A"), ("B\n\nBecause red is nice.", "B"), ("**Answer:** B", "B"), ("the answer is b.", "B"),
        ("\\boxed{(C)}", "C"), ("The best answer is a long story", None), ("**A great reply**", None),
        ("Of the choices, **B** is right", "B"), ("My options: (A)", "A"), ("**Answer**: C", "C"),
        ("So: _Answer_: C", "C"), ("So: __Answer__: (A)", "A"),
        ("The answer is 'B'.", "B"), ("The answer is \u201cB\u201d.", "B"), ("Option A's colour", None),
        ("A good question", None), ("Z", None), ("", None), ("blue or red", None), ("I", None),
    ],
)  # fmt: skip
def test_a_letter_is_found_or_not(text: str, letter: str | None) -> None:
    assert letter_of(text, ["blue", "red", "green"]) == letter


def test_the_s_of_a_plural_is_no_letter() -> None:
    """Of 19 choices the last one has the letter S."""
    assert letter_of("I looked at all answers. (B) it is", [f"choice {n}" for n in range(19)]) == "B"


def test_choices_are_shuffled_by_seed_and_question_and_the_right_one_is_kept(tmp_path: Path) -> None:
    rows = [
        {"question": f"{n}?", "choices": ["w", "x", "y", "z"], "answer": right}
        for n, right in enumerate(["x", 1, "B", "b"[:0] or "x"])
    ]
    given = column("choice", questions=write(tmp_path, rows)).questions
    assert [question.reference for question in given] == [("B",)] * 4
    assert given[0].turns[0].startswith("0?\n\nA. w\nB. x\nC. y\nD. z\n\nAnswer with the letter")
    shuffled = column("choice", questions=write(tmp_path, rows), order="shuffled")
    assert shuffled.questions == column("choice", questions=write(tmp_path, rows), order="shuffled").questions
    for question in shuffled.questions:
        assert question.meta["choices"]["ABCD".index(question.reference[0])] == "x"
    other = column("choice", questions=write(tmp_path, rows), order="shuffled", choice_seed=1)
    assert [q.reference for q in other.questions] != [q.reference for q in shuffled.questions]


def test_wrong_choices_are_told_for_all_questions(tmp_path: Path) -> None:
    rows = [
        {"question": "a?", "choices": ["x", "y"], "answer": 2},
        {"question": "b?", "choices": ["x", "x"], "answer": 0},
    ]
    with pytest.raises(
        UserError, match=r"(?s)2 questions cannot be asked.*question 1: .*'2' is none.*question 2: two choices"
    ):
        column("choice", questions=write(tmp_path, rows))
    arc = {"question": "c?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answer": "2"}
    assert column("choice", questions=write(tmp_path, [arc])).questions[0].reference == ("B",)


def test_a_right_choice_that_can_be_read_as_two_is_refused(tmp_path: Path) -> None:
    """MMLU has such: choices 1, 2, 3, 0 and the answer 0, which is the number of the first and the text of the last."""
    file = write(tmp_path, [{"question": "degree?", "choices": ["1", "2", "3", "0"], "answer": 0}])
    with pytest.raises(
        UserError, match="'0' is the text of '0' and the number of '1': say reference_is: text or number"
    ):
        column("choice", questions=file)
    assert column("choice", questions=file, reference_is="number").questions[0].reference == ("A",)
    assert column("choice", questions=file, reference_is="text").questions[0].reference == ("D",)
    with pytest.raises(UserError, match=r"is none of its 4 choices \(a letter\)"):
        column("choice", questions=file, reference_is="letter")
    odd = {"question": "c?", "choices": {"text": ["x", "y"], "label": ["1", "2", "3"]}, "answer": "3"}
    with pytest.raises(UserError, match="has 2 texts and 3 labels"):
        column("choice", questions=write(tmp_path, [odd]))


def test_log_probabilities_choose_the_letter(tmp_path: Path) -> None:
    mine = column("choice", questions=write(tmp_path), by="logprobs", reference_is="text")
    assert mine.benchmark.needs(mine.config) == {"choices"}
    answers = mine.benchmark.answer(FakeModel(), mine.questions, mine.config, 0)
    for answer in answers:
        logps = answer.meta["logps"]
        assert set(logps) == {"A", "B"} and answer.turns[0] == max(logps, key=logps.get)


def test_a_system_message_stands_before_each_question(tmp_path: Path, scripted: Any) -> None:
    model = scripted(lambda talk: " ".join(message["role"] for message in talk))
    mine = column("rating", questions=write(tmp_path, [{"question": ["a?", "b?"]}]), system="Be brief.")
    (answer,) = mine.benchmark.answer(model, mine.questions, mine.config, 0)
    assert answer.turns == ("system user", "system user assistant user")


# Options


@pytest.mark.parametrize(
    ("kind", "values", "part"),
    [
        ("rating", {"scale": "5-1"}, "must rise"), ("rating", {"scale": "good"}, "two whole numbers"),
        ("rating", {"scale": 5}, "scale = 5: must be LOW-HIGH, two"),
        ("rating", {"metric": "share"}, "threshold goes with metric = share"),
        ("rating", {"metric": "share", "threshold": 11}, "must lie on the scale"),
        ("rating", {"parse": "json"}, "key goes with"), ("rating", {"pattern": "x"}, "pattern goes with parse = regex"),
        ("rating", {"parse": "first-token"}, "own prompt asks"),
        ("rating", {"prompt": "{answer}", "parse": "regex", "pattern": "("}, "not a regular expression"),
        ("rating", {"prompt": "{answer}", "parse": "first-token", "scale": "0-100"}, "cannot be read from one token"),
        ("rating", {"judge_sytem": "x"}, "unknown key"), ("pairwise", {"labels": ["A"]}, "at least 2"),
        ("pairwise", {"prompt": "{answer_a}{answer_b}", "labels": ["A", "a"]}, "different texts, whatever their case"),
        ("pairwise", {"labels": ["1", "2"]}, "labels go with a prompt of yours"),
        ("pairwise", {"prompt": "{answer_a}{answer_b}", "labels": ["[A]", "B"]}, "no brackets"),
        (
            "pairwise",
            {"prompt": "{answer_a}{answer_b}", "labels": ["A", "AB"], "parse": "first-token"},
            "a first token 'A' may be 'A' or the beginning of 'AB'",
        ),
        ("rating", {"prompt": "{answer}", "parse": "first-token"}, "'1' may be '1' or the beginning of '10'"),
        ("exact", {"normalise": ["cases"]}, "Choices: case"),
        ("exact", {"parse": "number", "metric": "f1"}, "needs metric = match"),
        ("choice", {"order": "random"}, "not one of"),
        ("exact", {"hub_split": "train"}, "hub_split goes with"), ("exact", {"questions": " "}, "must name a file"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_told(kind: str, values: Mapping[str, Any], part: str) -> None:
    assert part in mistakes(kind, **values)


def test_columns_of_a_recipe_have_their_own_names() -> None:
    entry = BENCHMARKS["mt_bench"]
    mine = entry.named("mine", entry.config())
    assert (mine.name, mine.kind, mine.metrics[0].id) == ("mine", "mt_bench", "mine.score")
    assert entry.name == "mt_bench" and entry.metrics[0].id == "mt_bench.score"
    limited = [ConfiguredBenchmark.load(b, entry.config(limit=5)).questions for b in (entry, mine)]
    assert limited[0] == limited[1]  # the same questions, whatever the column is called
