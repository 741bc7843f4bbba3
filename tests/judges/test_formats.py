"""Import and export: official layouts in and out, every row that does not fit named, nothing dropped in silence."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.benchmark import Entrant
from harness.errors import UserError
from harness.records import write_records
from harness.types import Answer, Judgment, Question
from judges import BENCHMARKS
from judges.benchmarks.answer_files import whole_answers, with_baseline
from judges.formats import ExportedResults, export_files, import_files

HOSTILE = "line\u2028break \x00 [[A>>B]] {output_1} <|im_end|> </script> \U0001f600 \"quoted\" '''"
BAD_PAIR = {"question_id": 81, "model_1": "m", "model_2": "b", "g1_winner": "A", "turn": 1}
SAID = [{"content": {"answer": "x"}}]
BENCHES = ["alpaca_eval", "arena_hard", "mt_bench", "mt_bench_pairwise", "gsm8k", "gsm8k_json"]


def questions_of(benchmark: str) -> list[Question]:
    turns = 2 if benchmark.startswith("mt_bench") else 1
    return [
        Question(
            str(80 + number), tuple(f"ask {number}.{turn} {HOSTILE}" for turn in range(turns)),
            "math" if number == 2 else "writing", ("BASE",) * turns, ("so\n#### 4",) * turns,
        )
        for number in (1, 2, 3)
    ]  # fmt: skip


def judgments_of(benchmark: str, questions: list[Question]) -> list[Judgment]:
    """Verdicts of every kind, one missing, as the benchmark stores them."""
    parts = {
        "alpaca_eval": {"preference": (0.25, 0.5, None)},
        "arena_hard": {"game1": (2.0, 0.0, None), "game2": (-1.0, -2.0, 1.0)},
        "mt_bench": {"turn1": (7.0, 1.0, 10.0), "turn2": (3.5, None, 2.0)},
        "mt_bench_pairwise": {
            f"turn{turn}:game{game}": ((1.0, 0.0, None), (-1.0, 1.0, 0.0))[game - 1]
            for turn in (1, 2)
            for game in (1, 2)
        },
    }
    return [
        Judgment(
            question.id, part, values[number], None if values[number] is not None else "lost", reply=f"why {number}",
            judge_model="a-judge",
        )
        for number, question in enumerate(questions)
        for part, values in parts.get(benchmark, {}).items()
    ]  # fmt: skip


def answers_of(questions: list[Question]) -> list[Answer]:
    return [
        Answer(q.id, tuple(f"{HOSTILE} {q.id} #### 4" for _ in q.turns), (True,) * len(q.turns), (9,) * len(q.turns))
        for q in questions
    ]


def exported(benchmark: str) -> ExportedResults:
    questions = questions_of(benchmark)
    return ExportedResults(
        "org/model", questions, answers_of(questions), judgments_of(benchmark, questions), "a-judge", "base"
    )


@pytest.mark.parametrize("benchmark", BENCHES)
def test_what_is_written_is_read_back(benchmark: str, tmp_path: Path) -> None:
    export = exported(benchmark)
    files = export_files(tmp_path, export, benchmark)
    assert all(file.is_file() and tmp_path in file.parents for file in files)
    imported = import_files(files, benchmark, export.questions)
    assert imported.problems == () and imported.model in ("org/model", "")
    assert [(answer.question, answer.turns) for answer in imported.answers] == [
        (answer.question, answer.turns) for answer in export.answers
    ]
    assert [(j.question, j.part, j.verdict) for j in imported.judgments] == [
        (j.question, j.part, j.verdict) for j in export.judgments
    ]
    if export.judgments:
        assert {j.judge_model for j in imported.judgments} == {"a-judge"}
        config = BENCHMARKS[benchmark].config()
        before, after = (
            BENCHMARKS[benchmark].score(export.questions, {"x": Entrant(export.answers, js)}, config, 0, 0)["x"][-1]
            for js in (export.judgments, imported.judgments)
        )
        assert before.value == after.value and before.value is not None


@pytest.mark.parametrize("benchmark", BENCHES)
def test_rows_that_do_not_fit_are_each_listed(benchmark: str, tmp_path: Path) -> None:
    """One row doubled, one of another question, one question without a row."""
    export = exported(benchmark)
    (file, *_) = export_files(tmp_path, ExportedResults("m", export.questions, export.answers), benchmark)
    array = file.suffix == ".json"
    rows = (
        json.loads(file.read_text()) if array else [json.loads(line) for line in file.read_text().split("\n") if line]
    )
    per = len(rows) // 3
    other = json.loads(json.dumps(rows[0]).replace("ask 1.0", "ask 9.0"))
    other |= {"question_id": 999} if "question_id" in other else {"uid": "999"} if "uid" in other else {}
    rows_left = [*rows[:per], rows[0], other, *rows[2 * per :]]
    file.write_text(json.dumps(rows_left) if array else "".join(json.dumps(row) + "\n" for row in rows_left))
    imported = import_files([file], benchmark, export.questions)
    text = "\n".join(imported.problems)
    assert "a second row" in text and f"row {per + 1}" in text
    assert "a question that is not asked here" in text and f"row {per + 2}" in text
    assert "missing for question 82" in text
    assert [answer.question for answer in imported.answers] == ["81", "83"]


def test_files_of_several_models_need_a_name(tmp_path: Path) -> None:
    export = exported("mt_bench")
    first_model, two = (ExportedResults(name, export.questions, export.answers) for name in ("one", "two"))
    files = [export_files(tmp_path / model.model, model, "mt_bench")[0] for model in (first_model, two)]
    with pytest.raises(UserError, match="several models: one, two"):
        import_files(files, "mt_bench", export.questions)
    imported = import_files(files, "mt_bench", export.questions, "two")
    assert imported.model == "two" and len(imported.answers) == 3 and imported.problems == ()
    with pytest.raises(UserError, match=r"no rows of model 'three'; the files hold: one, two"):
        import_files(files, "mt_bench", export.questions, "three")


@pytest.mark.parametrize(
    ("benchmark", "row", "says"),
    [
        ("alpaca_eval", {"instruction": "x"}, "no field 'output'"),
        ("alpaca_eval", {"instruction": 5, "output": "y"}, "instruction must be a str"),
        ("alpaca_eval", {"instruction": "ASK", "output_2": "y", "preference": 7}, "between 1 and 2"),
        ("alpaca_eval", {"instruction": "ASK", "output_2": "y", "preference": "m"}, "must be a number"),
        ("alpaca_eval", {"instruction": "ASK", "output_1": "z", "output_2": "y", "preference": 1}, "not the base"),
        ("arena_hard", {"uid": "81"}, "no field 'model_id'"),
        ("arena_hard", {"uid": "81", "model": "m", "messages": []}, "no answer text"),
        ("arena_hard", {"uid": "81", "model": "m", "messages": SAID, "metadata": [1]}, "metadata must be an object"),
        ("arena_hard", {"uid": "81", "model": "m", "choices": [{"turns": {"a": 1}}]}, "no answer text"),
        ("mt_bench", {"model_id": "m", "choices": [{"turns": ["x"]}]}, "question_id"),
        ("mt_bench", {"question_id": 81, "model_id": "m", "choices": [{"turns": "x"}]}, "must be a list of texts"),
        ("mt_bench", {"question_id": 81, "model": "m", "score": "7/10", "turn": 1}, "score must be a number"),
        ("mt_bench", {"question_id": 81, "model": "m", "score": 5, "turn": 3}, "turn must be 1 or 2"),
        ("mt_bench_pairwise", {"question_id": 81, "model_1": "m", "g1_winner": "A"}, "no field 'model_2'"),
        ("gsm8k", {"doc": {"question": "x"}, "filter": "other"}, "is none of"),
        ("gsm8k", {"doc": {"question": "x"}, "resps": []}, "must hold a text"),
    ],
)  # fmt: skip
def test_broken_rows_name_file_row_and_field(benchmark: str, row: dict[str, Any], says: str, tmp_path: Path) -> None:
    questions = questions_of(benchmark)
    file = tmp_path / "bad.jsonl"
    row = {key: questions[0].turns[0] if value == "ASK" else value for key, value in row.items()}
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=says):
        import_files([file], benchmark, questions, "m" if benchmark == "mt_bench_pairwise" else None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no rows"),
        ("[1]", "an object was expected"),
        ("{", "not JSON"),
        ("[{}", "not JSON|neither"),
        pytest.param('{"preference": ' + "9" * 5000 + "}", "not JSON", id="long number"),
        pytest.param("[" * 100_000, "neither", id="deep"),
    ],
)
def test_broken_files_say_what_is_wrong(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match=says):
        import_files([tmp_path / "bad.json"], "alpaca_eval", questions_of("alpaca_eval"))
    with pytest.raises(UserError, match="cannot read"):
        import_files([tmp_path / "absent.json"], "alpaca_eval", questions_of("alpaca_eval"))


@pytest.mark.parametrize("benchmark", BENCHES)
def test_any_json_ends_in_rows_or_in_a_clear_error(tmp_path: Path, benchmark: str) -> None:
    """60 files of random rows with the right keys and wrong values: only UserError, and it says something."""
    rng = random.Random(benchmark)
    names = ["uid", "question_id", "model", "model_id", "games", "messages", "choices", "score", "turn", "doc", "resps"]
    names += ["instruction", "output", "output_2", "preference", "generator_2", "g1_winner", "model_1", "filter"]
    names += ["metadata", "conv_metadata", "model_2", "g2_winner", "judge", "filtered_resps"]
    values = [None, True, 81, -1, "81", "m", [], [None], [[]], {}, [{}], {"turns": [1]}, {"question": "x"}, 1.5]
    values += [[{"turns": {"a": 1}}], [{"turns": 5}], [{"score": ["A>B"]}], [{"content": {"answer": "x"}}]]
    file, refused = tmp_path / "rows.jsonl", 0
    for _ in range(60):
        rows = [{name: rng.choice(values) for name in rng.sample(names, rng.randint(1, 12))} for _ in range(2)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        try:
            assert import_files([file], benchmark, questions_of(benchmark)).problems
        except UserError as error:
            refused += bool(str(error))
    assert refused


def test_the_older_layout_of_arena_hard_is_read(tmp_path: Path) -> None:
    """Before 2025: question_id, choices with token counts, games with the label in score."""
    questions = questions_of("arena_hard")[:1]
    turn = {"content": "text", "token_len": 12}
    answer = {"question_id": "81", "answer_id": "x", "model_id": "m", "choices": [{"index": 0, "turns": [turn]}]}
    games = [{"user_prompt": "", "judgment": "so [[A>>B]]", "score": "A>>B"}, {"judgment": "", "score": "A<B"}]
    judged = {"question_id": "81", "model": "m", "judge": "gpt-4", "games": games}
    for name, row in (("answer", answer), ("judged", judged)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    imported = import_files([tmp_path / "answer.jsonl", tmp_path / "judged.jsonl"], "arena_hard", questions)
    assert imported.answers[0].turns == ("text",) and imported.answers[0].meta["token_len"] == 12
    assert [(j.verdict, j.flags) for j in imported.judgments] == [(-2.0, ()), (-1.0, ("mirrored-label",))]
    assert imported.judgments[0].reply == "so [[A>>B]]"


def test_unequal_answers_beside_annotations_are_refused(tmp_path: Path) -> None:
    export = exported("alpaca_eval")
    outputs, annotations = export_files(tmp_path, export, "alpaca_eval")
    outputs.write_text(outputs.read_text().replace("81 ####", "another ####"))
    imported = import_files([outputs, annotations], "alpaca_eval", export.questions)
    (problem,) = imported.problems
    assert "question 81: the annotations judge another answer" in problem
    assert [judgment.question for judgment in imported.judgments] == ["82", "83"]


def test_our_own_files_are_read_everywhere(tmp_path: Path) -> None:
    export = exported("arena_hard")
    write_records(tmp_path / "answers.jsonl", export.answers)
    write_records(tmp_path / "judgments.jsonl", export.judgments)
    imported = import_files([tmp_path / "answers.jsonl", tmp_path / "judgments.jsonl"], "arena_hard", export.questions)
    assert (imported.answers, imported.judgments, imported.problems) == (
        tuple(export.answers),
        tuple(export.judgments),
        (),
    )
    fewer = import_files([tmp_path / "judgments.jsonl"], "arena_hard", export.questions[:2])
    assert len(fewer.problems) == 2 and "not asked here: '83'" in fewer.problems[0]


def test_answers_without_all_their_turns_are_left_out_and_listed(tmp_path: Path) -> None:
    """FastChat's with one turn of two, our own with none: one line each, and no answer is taken."""
    questions = questions_of("mt_bench")
    rows = [{"question_id": int(q.id), "model_id": "m", "choices": [{"index": 0, "turns": ["one"]}]} for q in questions]
    rows[0]["choices"] = [{"index": 0, "turns": ["one", "two"]}]
    file = tmp_path / "m.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    imported = import_files([file], "mt_bench", questions)
    assert [answer.question for answer in imported.answers] == ["81"]
    assert imported.problems == tuple(
        f"the answer to question {name} has 1 turn, not 2: it is left out" for name in ("82", "83")
    )
    with pytest.raises(UserError, match=r"no answer to 2 of 3 questions \(82, 83\)\. the answer to question 82 has 1"):
        with_baseline(questions, str(file), "mt_bench_pairwise", BENCHMARKS["mt_bench_pairwise"].read_answer)
    for benchmark in ("mt_bench", "alpaca_eval"):
        own_file = tmp_path / "answers.jsonl"
        write_records(own_file, [Answer(question.id, (), (), ()) for question in questions_of(benchmark)])
        imported = import_files([own_file], benchmark, questions_of(benchmark))
        assert imported.answers == () and len(imported.problems) == 3 and "has 0 turns" in imported.problems[0]


def test_a_label_written_backwards_is_exported_backwards(tmp_path: Path) -> None:
    """v0.1 does not count it: game 2 alone is lost, 0%. The later script does: a win (1), a strong loss (3): 25%."""
    (question, *_), (answer, *_) = questions_of("arena_hard"), answers_of(questions_of("arena_hard"))
    judgments = [Judgment("81", "game1", 1.0, flags=("mirrored-label",)), Judgment("81", "game2", -2.0)]
    _, file = export_files(tmp_path, ExportedResults("m", [question], [answer], judgments, "j", "b"), "arena_hard")
    assert [game["score"] for game in json.loads(file.read_text())["games"]] == ["A<B", "B>>A"]
    imported = import_files([file], "arena_hard", [question])
    assert [each.flags for each in imported.judgments] == [("mirrored-label",), ()]
    arena = BENCHMARKS["arena_hard"]
    for scorer, value in (("v0.1", 0.0), ("2025-06", 25.0)):
        for export in (judgments, imported.judgments):
            entrant = Entrant([answer], export)
            (score,) = arena.score([question], {"m": entrant}, arena.config(scorer=scorer), 0, 0)["m"]
            assert score.value == value


def test_of_repeated_games_the_first_is_exported(tmp_path: Path) -> None:
    (question, *_), (answer, *_) = questions_of("arena_hard"), answers_of(questions_of("arena_hard"))
    judgments = [Judgment("81", "game2", margin, repeat=number) for number, margin in enumerate((1.0, -2.0))]
    _, file = export_files(tmp_path, ExportedResults("m", [question], [answer], judgments, "j", "b"), "arena_hard")
    games = json.loads(file.read_text())["games"]
    assert games[0] is None and games[1]["score"] == "A>B"


def test_a_turn_without_a_rating_is_written_as_minus_one(tmp_path: Path) -> None:
    """FastChat's own sign: it drops -1 from its mean, a 0 it would average."""
    _, file = export_files(tmp_path, exported("mt_bench"), "mt_bench")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["score"] for row in rows] == [7.0, 3.5, 1.0, -1, 10.0, 2.0]


def test_a_pairwise_verdict_is_read_from_the_models_side(tmp_path: Path) -> None:
    """The same row read for either model: model_1 won game 1, game 2 is a tie."""
    row = {"question_id": 81, "model_1": "m", "model_2": "b", "g1_winner": "model_1", "g2_winner": "tie", "turn": 1}
    file = tmp_path / "pair.jsonl"
    file.write_text(json.dumps(row) + "\n")
    for model, other, verdict in (("m", "b", 1.0), ("b", "m", -1.0)):
        imported = import_files([file], "mt_bench_pairwise", questions_of("mt_bench_pairwise")[:1], model)
        assert [judgment.verdict for judgment in imported.judgments] == [verdict, 0.0] and imported.baseline == other


def test_preferences_of_annotations(tmp_path: Path) -> None:
    """1 is the baseline, 2 the model; 0 is how alpaca_eval wrote a tie before 0.3; null is no verdict."""
    questions = questions_of("alpaca_eval")[:1]
    file = tmp_path / "annotations.json"
    for preference, verdict in ((1, 0.0), (2, 1.0), (1.75, 0.75), (0, 0.5), (None, None), (float("nan"), None)):
        row = {"instruction": questions[0].turns[0], "output_1": "BASE", "output_2": "x", "preference": preference}
        file.write_text(json.dumps([row]))
        (judgment,) = import_files([file], "alpaca_eval", questions).judgments
        assert judgment.verdict == verdict and (judgment.reason is None) == (verdict is not None)


def test_any_answers_can_be_the_baseline(tmp_path: Path) -> None:
    export, read = exported("alpaca_eval"), BENCHMARKS["alpaca_eval"].read_answer
    (file, _) = export_files(tmp_path, export, "alpaca_eval")
    changed = with_baseline(export.questions, str(file), "alpaca_eval", read)
    assert [question.baseline for question in changed] == [answer.turns for answer in export.answers]
    assert {question.meta["baseline"] for question in changed} == {"org/model"}
    rows = json.loads(file.read_text())
    file.write_text(json.dumps(rows[1:]))
    with pytest.raises(UserError, match=r"no answer to 1 of 3 questions \(81\)"):
        with_baseline(export.questions, str(file), "alpaca_eval", read)
    with pytest.raises(UserError, match="is not a file"):
        with_baseline(export.questions, str(tmp_path / "none.json"), "alpaca_eval", read)


@pytest.mark.parametrize("name", ["alpaca_eval", "arena_hard", "mt_bench_pairwise"])
def test_a_baseline_of_ones_own_in_the_benchmark(name: str, tmp_path: Path) -> None:
    benchmark = BENCHMARKS[name]
    plain = benchmark.questions(benchmark.config(limit=4))
    answers = [Answer(q.id, tuple(f"OTHER {q.id}" for _ in q.turns), (True,) * 2, (1, 1)) for q in plain]
    write_records(tmp_path / "student.jsonl", answers)
    config = benchmark.config(limit=4, baseline=str(tmp_path / "student.jsonl"))
    questions = benchmark.questions(config)
    assert [question.baseline for question in questions] == [answer.turns for answer in answers]
    request = benchmark.requests(questions[0], Answer(questions[0].id, ("MINE",) * 2, (True,), (1,)), config)[0]
    assert f"OTHER {questions[0].id}" in request.messages[1]["content"]
    assert "not official" in " ".join(benchmark.card(config).deviations) or name == "mt_bench_pairwise"


@pytest.mark.parametrize("benchmark", BENCHES)
def test_half_characters_are_read_and_written(benchmark: str, tmp_path: Path) -> None:
    """An emoji that was cut: JSON holds its first half as an escape, UTF-8 cannot. It is read as U+FFFD."""
    questions = questions_of(benchmark)
    turns = ("cut \ud83d",) * len(questions[0].turns)
    answers = [Answer(each.id, turns, (True,) * len(turns), (9,) * len(turns)) for each in questions]
    first = export_files(tmp_path / "one", ExportedResults("m", questions, answers), benchmark)
    text = first[0].read_text(encoding="utf-8")
    mark = "\ufffd" if "\ufffd" in text else "\\ufffd"
    first[0].write_text(text.replace(f"cut {mark}", "cut \\ud83d"), encoding="utf-8")  # as a tool of others leaves it
    assert "\\ud83d" in first[0].read_text(encoding="utf-8")
    imported = import_files(first[:1], benchmark, questions)
    assert [each.turns[0] for each in imported.answers] == ["cut \ufffd"] * 3
    write_records(tmp_path / "answers.jsonl", imported.answers)
    export_files(tmp_path / "two", ExportedResults("m", questions, imported.answers), benchmark)


def test_unanswered_questions_are_not_exported(tmp_path: Path) -> None:
    export = exported("arena_hard")
    with pytest.raises(UserError, match=r"no answer to 1 of 3 questions \(83\)\. --partial"):
        export_files(tmp_path, ExportedResults("m", export.questions, export.answers[:2]), "arena_hard")
    pocket = ExportedResults("m", [Question("mt-3", ("a", "b"))], [Answer("mt-3", ("x", "y"), (), ())])
    with pytest.raises(UserError, match="no number"):
        export_files(tmp_path, pocket, "mt_bench")


def test_samples_of_lm_eval_itself_are_read(scripted, tmp_path: Path) -> None:
    """A run of lm-eval with our model, its samples written as ``--log_samples`` does, read and marked again."""
    import lm_eval.loggers.evaluation_tracker
    from lm_eval.evaluator import evaluate
    from lm_eval.utils import handle_non_serializable

    from harness.contracts.model import Sampling
    from judges.benchmarks.gsm8k.benchmark import OFFICIAL
    from judges.benchmarks.gsm8k.lm_eval_adapter import ChatLM, ConfigurableTask, task_config

    questions = [Question(str(n), (f"what is {n}?",), reference=(f"it\n#### {n}",)) for n in (4, 5)]
    sampling = Sampling(20, 0.0)
    task = ConfigurableTask(config=task_config(questions, [], OFFICIAL.turn, 0, sampling))
    driver = ChatLM(scripted(lambda talk: "#### 4"), sampling, 0, is_chat=True)
    results = evaluate(driver, {"gsm8k": task}, bootstrap_iters=0, log_samples=True, apply_chat_template=True)
    file = tmp_path / "samples_gsm8k_now.jsonl"
    dump = lm_eval.loggers.evaluation_tracker.json.dumps
    file.write_text("".join(dump(row, default=handle_non_serializable) + "\n" for row in results["samples"]["gsm8k"]))
    imported = import_files([file], "gsm8k", questions)
    assert imported.problems == () and [answer.turns[0] for answer in imported.answers] == ["#### 4", "#### 4"]
    benchmark = BENCHMARKS["gsm8k"]
    pairs = zip(questions, imported.answers, strict=True)
    marks = [judgment.verdict for pair in pairs for judgment in benchmark.grade(*pair, benchmark.config())]
    theirs = [row["exact_match"] for row in sorted(results["samples"]["gsm8k"], key=lambda row: row["doc_id"])]
    assert marks == theirs == [1.0, 1.0, 0.0, 0.0]
    (written,) = export_files(tmp_path, ExportedResults("m", questions, imported.answers), "gsm8k")
    ours = json.loads(written.read_text().split("\n")[0])
    theirs_row = results["samples"]["gsm8k"][0]
    assert set(ours) >= set(theirs_row) - {"multimodal"}
    assert all(
        isinstance(theirs_row[key], type(ours[key])) for key in ("doc_id", "doc", "resps", "metrics", "exact_match")
    )


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def game_row(question: Question, *labels: object) -> dict[str, Any]:
    return {"uid": question.id, "model": "m", "judge": "j", "games": [{"score": label} for label in labels]}


@pytest.mark.parametrize("label", ["A", "B>>>A", "", ["A>B"], {"A": 1}, 3, True])
def test_an_odd_label_of_arena_hard_is_no_verdict(label: object, tmp_path: Path) -> None:
    """Named with its row; the other game and the other rows count."""
    questions = questions_of("arena_hard")
    rows = [game_row(questions[0], label, "B>A"), *(game_row(q, "A>B", "B>A") for q in questions[1:])]
    imported = import_files([write_lines(tmp_path / "j.jsonl", rows)], "arena_hard", questions)
    (problem,) = imported.problems
    assert problem.startswith("j.jsonl, row 1: game 1 has no such verdict label") and "counts as no verdict" in problem
    assert [judgment.verdict for judgment in imported.judgments] == [None, -1.0, -1.0, -1.0, -1.0, -1.0]
    assert "no such verdict label" in str(imported.judgments[0].reason)


@pytest.mark.parametrize("winner", ["A", ["model_1"], 1])
def test_an_odd_winner_of_a_pair_is_no_verdict(winner: object, tmp_path: Path) -> None:
    row = BAD_PAIR | {"g1_winner": winner, "g2_winner": "model_2"}
    imported = import_files(
        [write_lines(tmp_path / "p.jsonl", [row])], "mt_bench_pairwise", questions_of("mt_bench")[:1]
    )
    assert [judgment.verdict for judgment in imported.judgments] == [None, -1.0]
    assert "row 1: g1_winner must be model_1, model_2, tie or error" in imported.problems[-1]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_verdict_is_counted_as_unscored(missing: float | None, tmp_path: Path) -> None:
    """As tools and pandas write it, and alpaca_eval's own -1."""
    rating = {"question_id": 81.0, "model": "m", "turn": 1.0}
    rows = [rating | {"score": missing}, rating | {"score": 7.0, "turn": 2}]
    imported = import_files([write_lines(tmp_path / "r.jsonl", rows)], "mt_bench", questions_of("mt_bench")[:1])
    assert [judgment.verdict for judgment in imported.judgments] == [None, 7.0] and imported.problems == ()
    (question, *_) = questions_of("arena_hard")
    imported = import_files(
        [write_lines(tmp_path / "g.jsonl", [game_row(question, missing, "A>B")])], "arena_hard", [question]
    )
    assert [judgment.verdict for judgment in imported.judgments] == [None, 1.0] and imported.problems == ()
    row = {"instruction": question.turns[0], "output_1": "BASE", "output_2": "x", "preference": -1.0}
    (judgment,) = import_files([write_lines(tmp_path / "a.jsonl", [row])], "alpaca_eval", [question]).judgments
    assert judgment.verdict is None and "annotator failed" in str(judgment.reason)


@pytest.mark.parametrize("benchmark", BENCHES)
@pytest.mark.parametrize("empty", [None, float("nan"), 5, ["x"]])
def test_a_row_without_an_answer_is_named_and_the_rest_is_read(benchmark: str, empty: object, tmp_path: Path) -> None:
    export = exported(benchmark)
    (file, *_) = export_files(tmp_path, ExportedResults("m", export.questions, export.answers), benchmark)
    rows = json.loads(file.read_text()) if file.suffix == ".json" else [*map(json.loads, file.read_text().splitlines())]
    first = [
        row for row in rows if "ask 1.0" in json.dumps(row) or row.get("question_id") == 81 or row.get("uid") == "81"
    ]
    for row in first:
        if "output" in row:
            row["output"] = empty
        elif "messages" in row:
            row["messages"][-1]["content"]["answer"] = empty
        elif "choices" in row:
            row["choices"][0]["turns"][0] = empty
        else:
            row["resps"] = [[{"text": empty} if isinstance(empty, list) else empty]]
    imported = import_files([write_lines(tmp_path / "m.jsonl", rows)], benchmark, export.questions)
    assert [answer.question for answer in imported.answers] == ["82", "83"]
    assert imported.problems[0].startswith("m.jsonl, row 1") and "the row is left out" in imported.problems[0]
    assert any("missing for question 81" in problem for problem in imported.problems)


@pytest.mark.parametrize(
    "mark",
    ["$ERROR$", "ERROR", " $ERROR$\n", "[ERROR]", "<error>", "API Error", "API Error: 503", "$API_ERROR$",
     "**API REQUEST ERROR**. Reason: busy", "openai.RateLimitError: Error code: 429", "Error code: 500 - {'error': 1}",
     "litellm.exceptions.APIConnectionError", "502 Bad Gateway", "Request timed out.", "nan",
     "CUDA out of memory. Tried to allocate 2.00 GiB",
     "**NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE.**"],
)  # fmt: skip
@pytest.mark.parametrize("benchmark", BENCHES)
def test_marks_of_failed_generations_are_no_answers(benchmark: str, mark: str, tmp_path: Path) -> None:
    """Official files and our own; the verdicts on them are none."""
    export = exported(benchmark)
    turns = (*export.answers[0].turns[1:], mark)
    answers = [Answer("81", turns, (), ()), *export.answers[1:]]
    files = export_files(
        tmp_path, ExportedResults("m", export.questions, answers, export.judgments, "j", "b"), benchmark
    )
    write_records(tmp_path / "answers.jsonl", answers)
    for paths in (files, [tmp_path / "answers.jsonl"]):
        imported = import_files(paths, benchmark, export.questions)
        assert [answer.question for answer in imported.answers] == ["82", "83"]
        (problem,) = imported.problems
        assert "the answer to question 81 is " in problem and "a generator that failed" in problem
        assert all(judgment.verdict is None for judgment in imported.judgments if judgment.question == "81")


@pytest.mark.parametrize(
    "text",
    ["The ERROR is in line 3.", "Error handling: ...", "An API error is a reply.", "error", "", "None",
     "ValueError: it is raised where ...", "A RateLimitError means ...", "502 Bad Gateway is a status code."],
)  # fmt: skip
def test_answers_about_errors_are_answers(text: str) -> None:
    question = questions_of("alpaca_eval")[0]
    assert whole_answers([Answer("81", (text,), (), ())], [question])[1] == []


def sample(question: Question, gold: str, mark: float, name: str = "strict-match", taken: str = "4") -> dict[str, Any]:
    doc = {"question": question.turns[0], "answer": f"other words\n#### {gold}"}
    row = {"doc_id": 0, "doc": doc, "target": gold, "resps": [[f"so #### {taken.rsplit(maxsplit=1)[-1]}"]]}
    row |= {"filtered_resps": [taken]}
    return row | {"filter": name, "exact_match": mark}


def test_another_gold_answer_and_other_marks_are_told(tmp_path: Path) -> None:
    """A corrected copy of GSM8K: the file says 100%, our gold answers 66.67%. Working and commas make no difference."""
    questions = [Question(str(n), (f"q{n}",), reference=(f"w\n#### {g}",)) for n, g in enumerate(("5", "4", "4"))]
    rows = [sample(q, "4", 1.0, name) for q in questions for name in ("strict-match", "flexible-extract")]
    imported = import_files([write_lines(tmp_path / "s.jsonl", rows)], "gsm8k", questions)
    assert imported.problems == (
        "s.jsonl, row 1: the gold answer of question 0 differs (file: '4', ours: '5'); ours counts",
        *(
            f"{name}: exact_match is 100.00 in the file, 66.67 by our gold answers; "
            "different for 1 question (0); ours count"
            for name in ("strict-match", "flexible-extract")
        ),
    )
    assert len(imported.answers) == 3
    same = [Question("0", ("q0",), reference=("w\n#### 1,000",))]
    rows = [sample(same[0], "1000", 1.0, taken="1000")]
    assert import_files([write_lines(tmp_path / "t.jsonl", rows)], "gsm8k", same).problems == ()


def test_a_row_that_contradicts_its_question_is_told(tmp_path: Path) -> None:
    """Another text under the same id; another baseline (told once); a judge's prompt of another question."""
    first, second = (replace(q, meta={"baseline": "gpt-4-0314"}) for q in questions_of("arena_hard")[:2])
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": "another task"}]
    said.append({"role": "assistant", "content": {"answer": "x"}})
    rows: list[dict[str, Any]] = [{"uid": "81", "model": "m", "messages": said}]
    rows += [game_row(q, "A>B", "B>A") | {"baseline": "o3-mini"} for q in (first, second)]
    imported = import_files([write_lines(tmp_path / "m.jsonl", rows)], "arena_hard", [first, second])
    told = [problem for problem in imported.problems if "differs" in problem]
    assert len(told) == 2 and "row 1: the text of question 81 differs" in told[0] and "'another task'" in told[0]
    assert "row 2: the baseline of question 81 differs (file: 'o3-mini', ours: 'gpt-4-0314')" in told[1]
    (question, *_) = questions_of("mt_bench")
    rating = {"question_id": 81, "model": "m", "turn": 1, "score": 5, "user_prompt": "[Question]\nsomething else"}
    imported = import_files([write_lines(tmp_path / "r.jsonl", [rating])], "mt_bench", [question])
    assert "row 1: the judge's prompt does not hold turn1 of question 81" in imported.problems[-1]


def test_marks_of_an_answer_that_holds_thinking_are_made_anew(tmp_path: Path) -> None:
    """lm-eval took the first ``#### N`` of the thinking; ours is that of the answer."""
    (question,) = questions_of("gsm8k")[:1]
    row = sample(question, "4", 0.0, taken="9") | {"resps": [["<think>\n#### 9\n</think>\nso #### 4"]]}
    imported = import_files([write_lines(tmp_path / "s.jsonl", [row])], "gsm8k", [question])
    (problem,) = imported.problems
    assert "exact_match is 0.00 in the file, 100.00 by our gold answers" in problem
    (answer,) = imported.answers
    assert (answer.turns, answer.thinking, answer.meta) == (("so #### 4",), ("#### 9",), {})


def test_thoughts_in_files_of_arena_hard_are_kept_and_none_is_counted(tmp_path: Path) -> None:
    questions = questions_of("arena_hard")[:1]
    answer = {
        "uid": "81",
        "model": "m",
        "messages": [{"role": "assistant", "content": {"thought": "t", "answer": "x"}}],
    }
    game = game_row(questions[0], "A>B", "B>A")
    game["games"][0]["judgment"] = {"thought": "t", "answer": "[[A>B]]"}
    imported = import_files([write_lines(tmp_path / "m.jsonl", [answer, game])], "arena_hard", questions)
    assert [(a.turns, a.thinking) for a in imported.answers] == [(("x",), ("t",))]
    assert [judgment.thinking for judgment in imported.judgments] == ["t", ""]
    own = ExportedResults("m", questions, [Answer("81", ("x" * 40,), (True,), (900,), thinking=("t",))])
    (file,) = export_files(tmp_path, own, "arena_hard")
    assert json.loads(file.read_text())["metadata"]["token_len"] == 10


def test_answers_of_predict_only_are_read_and_marked_by_our_rule(tmp_path: Path) -> None:
    questions = questions_of("gsm8k")
    rows = [sample(q, "4", 0.0, "none", "so #### 4") | {"bypass": 999} for q in questions]
    for row in rows:
        del row["exact_match"]
    imported = import_files([write_lines(tmp_path / "s.jsonl", rows)], "gsm8k", questions)
    assert imported.problems == () and [answer.meta for answer in imported.answers] == [{}] * 3
    grade = BENCHMARKS["gsm8k"].grade(questions[0], imported.answers[0], BENCHMARKS["gsm8k"].config())
    assert [judgment.verdict for judgment in grade] == [1.0, 1.0]
    rows[0]["resps"] = [["one", "two"]]
    imported = import_files([write_lines(tmp_path / "s.jsonl", rows)], "gsm8k", questions)
    assert "row 1: 2 responses to one problem" in imported.problems[0] and len(imported.answers) == 2


@pytest.mark.parametrize("benchmark", BENCHES)
def test_our_own_files_are_read_however_they_were_saved(benchmark: str, tmp_path: Path) -> None:
    """With a byte-order mark, Windows' line ends, blank lines; as a JSON array; by pandas, rows or columns."""
    import pandas as pd

    export = exported(benchmark)
    names = ["answers.jsonl", "judgments.jsonl"] if export.judgments else ["answers.jsonl"]
    write_records(tmp_path / "answers.jsonl", export.answers)
    write_records(tmp_path / "judgments.jsonl", export.judgments)
    for way in ("mark", "array", "rows", "columns"):
        files = []
        for name in names:
            lines = (tmp_path / name).read_text(encoding="utf-8").split("\n")[:-1]
            (tmp_path / way).mkdir(exist_ok=True)
            file = tmp_path / way / name
            rows = [json.loads(line) for line in lines]
            if way == "mark":
                file.write_text("\r\n\r\n".join(lines) + "\r\n", encoding="utf-8-sig", newline="")
            elif way == "array":
                file.write_text(json.dumps(rows), encoding="utf-8-sig")
            else:
                pd.DataFrame(rows, dtype=object).to_json(file, **({"orient": "records"} if way == "rows" else {}))
            files.append(file)
        imported = import_files(files, benchmark, export.questions)
        assert (imported.answers, imported.problems) == (tuple(export.answers), ()), way
        assert imported.judgments == tuple(export.judgments), way


@pytest.mark.parametrize(("start", "kind"), [(b"PAR1\xff", "a Parquet file"), (b"PK\x03\x04\xff", "a zip archive")])
def test_a_file_that_is_no_text_is_named(start: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(start)
    with pytest.raises(UserError, match=f"it is {kind}"):
        import_files([tmp_path / "m.jsonl"], "alpaca_eval", questions_of("alpaca_eval"))


@pytest.mark.parametrize("benchmark", BENCHES)
def test_what_there_is_of_an_incomplete_model_is_exported_where_asked(benchmark: str, tmp_path: Path) -> None:
    whole = exported(benchmark)
    part = replace(whole, answers=whole.answers[1:], partial=True)
    imported = import_files(export_files(tmp_path, part, benchmark), benchmark, whole.questions)
    assert [answer.question for answer in imported.answers] == ["82", "83"]
    assert all("missing for question 81" in problem for problem in imported.problems) and imported.problems
