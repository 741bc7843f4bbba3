"""Rows of other people's files as they really are: saved by pandas, of several judges, of another task or baseline."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilbench import import_answers
from harness.errors import UserError
from harness.text import first_of_each_kind
from harness.types import Answer, Judgment, Question
from judges.benchmarks.answer_files import read_answers
from judges.formats import ExportedResults, export_files, import_files

NAN = float("nan")
ASKED = [Question(str(n), (f"ask, {n}?",), "koala", ("BASE",), (f"w\n#### {n}",)) for n in (81, 82, 83)]
PAIRS = [Question(str(n), ("one", "two"), "math", ("B", "B"), ("", "")) for n in (81, 82)]


def read(tmp_path: Path, rows: list[Any], benchmark: str, questions: list[Question] = ASKED, **options: Any) -> Any:
    file = tmp_path / "f.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return import_files([file], benchmark, questions, **options)


def verdicts(imported: Any) -> list[float | None]:
    return [judgment.verdict for judgment in imported.judgments]


def annotation(number: int, **changes: Any) -> dict[str, Any]:
    row = {"instruction": f"ask, {number}?", "output_1": "BASE", "output_2": "x", "preference": 2, "annotator": "j"}
    return row | {"generator_1": "b", "generator_2": "m"} | changes


def game(number: int, first: object, second: object, **changes: Any) -> dict[str, Any]:
    return {"uid": str(number), "model": "m", "judge": "j", "games": [{"score": first}, {"score": second}]} | changes


def test_verdicts_as_tables_save_them(tmp_path: Path) -> None:
    rows = [annotation(81, preference="1.25"), annotation(82, preference="nan"), annotation(83, preference=NAN)]
    imported = read(tmp_path, rows, "alpaca_eval")
    assert verdicts(imported) == [0.25, None, None] and imported.problems == ()
    rating = {"question_id": "81.0", "model": "m", "turn": "1", "score": "7"}
    imported = read(tmp_path, [rating, rating | {"turn": 2.0, "score": "None"}], "mt_bench", PAIRS[:1])
    assert verdicts(imported) == [7.0, None] and imported.problems == ()
    imported = read(tmp_path, [rating | {"turn": 1, "score": 11}], "mt_bench", PAIRS[:1])
    assert "row 1: rating 11 is not 1 to 10; it counts as no verdict" in imported.problems[-1]
    pair = {"question_id": 81, "model_1": "m", "model_2": "b", "turn": 1, "g1_winner": "Model_1", "g2_winner": " TIE "}
    assert verdicts(read(tmp_path, [pair], "mt_bench_pairwise", PAIRS[:1])) == [1.0, 0.0]


def test_a_verdict_on_the_baselines_own_words_is_told(tmp_path: Path) -> None:
    """alpaca_eval calls such a pair a draw before any judge is asked, so its own files hold 1.5 there."""
    official = [replace(question, meta={"index": number}) for number, question in enumerate(ASKED)]
    rows = [
        annotation(81, output_2="BASE", preference=2),
        annotation(82, output_2="BASE", preference=1.5),
        annotation(83),
    ]
    imported = read(tmp_path, rows, "alpaca_eval", official)
    (problem,) = imported.problems
    assert "row 1: preference is 2, but output_2 is the baseline's answer word for word; it counts as a draw" in problem


def test_labels_in_another_spelling_count_and_are_told(tmp_path: Path) -> None:
    rows = [game(81, "a>b", " A>B "), game(82, "[[A >> B]]", "tie"), game(83, "nan", "B<A")]
    imported = read(tmp_path, rows, "arena_hard")
    assert verdicts(imported) == [-1.0, 1.0, -2.0, 0.0, None, 1.0]
    assert [problem.partition(" has ")[2] for problem in imported.problems] == [
        "'a>b'; it counts as A>B", "' A>B '; it counts as A>B", "'[[A >> B]]'; it counts as A>>B",
        "'tie'; it counts as A=B",
    ]  # fmt: skip


def test_rows_that_name_nobody_belong_to_the_model(tmp_path: Path) -> None:
    """``null`` and NaN are no names; a number is one."""
    for name in (None, NAN):
        imported = read(tmp_path, [annotation(81, generator_2=name), annotation(82), annotation(83)], "alpaca_eval")
        assert (imported.model, verdicts(imported), imported.problems) == ("m", [1.0] * 3, ())
        rating = {"question_id": 81, "model": "m", "turn": 1, "score": 7}
        imported = read(tmp_path, [rating | {"model": name}, rating | {"turn": 2}], "mt_bench", PAIRS[:1])
        assert (imported.model, verdicts(imported), imported.problems) == ("m", [7.0, 7.0], ())
    imported = read(tmp_path, [annotation(number, generator_2=7) for number in (81, 82, 83)], "alpaca_eval")
    assert (imported.model, verdicts(imported)) == ("7", [1.0] * 3)


def test_verdicts_of_several_judges_are_told(tmp_path: Path) -> None:
    told = "the verdicts are of several judges ({} of j, {} of k); all count"
    rows = [annotation(81), annotation(82), annotation(83, annotator="k")]
    assert read(tmp_path, rows, "alpaca_eval").problems == (told.format(2, 1),)
    games = [game(81, "A>B", "A>B"), game(82, "A>B", "A>B", judge="k"), game(83, "A>B", "A=B")]
    assert read(tmp_path, games, "arena_hard").problems == (told.format(4, 2),)


def test_answers_and_verdicts_in_one_table_of_pandas(tmp_path: Path) -> None:
    """Every row has all columns: empty ones are not there."""
    talk = [{"role": "user", "content": "ask, 81?"}, {"role": "assistant", "content": {"answer": "x"}}]
    answer = {"uid": "81", "model": "m", "messages": talk, "metadata": {"token_len": 5.0}, "games": None}
    rows = [answer, game(81, "B>A", "A>B", messages=NAN, metadata=None)]
    imported = read(tmp_path, rows, "arena_hard", ASKED[:1])
    assert imported.problems == () and verdicts(imported) == [1.0, 1.0]
    assert imported.answers == (Answer("81", ("x",), (), (5,), {"token_len": 5}),)
    output = annotation(81, preference=NAN, output="x", generator="m", output_2=None)
    imported = read(tmp_path, [output, annotation(81, output=None)], "alpaca_eval", ASKED[:1])
    assert imported.problems == () and verdicts(imported) == [1.0] and imported.answers[0].turns == ("x",)
    own = {"question": 81, "turns": ["x"], "finished": [True], "tokens": [2.0], "part": None, "verdict": None}
    judged = {"question": 81.0, "part": "preference", "verdict": NAN, "turns": None, "reason": NAN, "repeat": 0.0}
    imported = read(tmp_path, [own, judged], "alpaca_eval", ASKED[:1])
    assert imported.answers == (Answer("81", ("x",), (True,), (2,)),) and imported.problems == ()
    assert imported.judgments == (Judgment("81", "preference", None, "no verdict in the file"),)


def test_white_space_does_not_hide_a_question_and_what_contradicts_it_is_told(tmp_path: Path) -> None:
    odd = annotation(81, instruction=" ask,\r\n81?  ", output_1="BASE\n")
    imported = read(tmp_path, [odd, annotation(82), annotation(83)], "alpaca_eval")
    assert verdicts(imported) == [1.0] * 3 and imported.problems == ()
    rows = [annotation(81, dataset="vicuna"), annotation(82, dataset="koala"), annotation(83)]
    (problem,) = read(tmp_path, rows, "alpaca_eval").problems
    assert "row 1: the category of question 81 differs (file: 'vicuna', ours: 'koala')" in problem
    official = [Question("81", ("ask, 81?",), baseline=("BASE",), meta={"baseline": "gpt4_1106_preview"})]
    named = annotation(81, generator_1="text_davinci_003")
    del named["output_1"]
    (problem,) = read(tmp_path, [named], "alpaca_eval", official).problems
    assert "the baseline of question 81 differs (file: 'text_davinci_003', ours: 'gpt4_1106_preview')" in problem
    assert read(tmp_path, [annotation(81)], "alpaca_eval", official).problems == ()  # the answer is the same


def test_no_more_than_one_answer_and_two_games_count_and_a_users_turn_is_no_answer(tmp_path: Path) -> None:
    games = game(81, "A>B", "A>B") | {"games": [{"score": "A>B"}] * 3}
    assert read(tmp_path, [games], "arena_hard", ASKED[:1]).problems == ("f.jsonl, row 1: 3 games; the first 2 count",)
    choices = [{"turns": ["a", "b"]}, {"turns": ["c", "d"]}]
    rows = [{"question_id": 81, "model_id": "m", "choices": choices}]
    assert read(tmp_path, rows, "mt_bench", PAIRS[:1]).problems == ("f.jsonl, row 1: 2 choices; the first counts",)
    talk = [{"role": "assistant", "content": "x"}, {"role": "user", "content": "thanks"}]
    with pytest.raises(UserError, match="no answer text"):
        read(tmp_path, [{"uid": "81", "model": "m", "messages": talk}], "arena_hard", ASKED[:1])


def sample(number: int, prompt: str = "", **changes: Any) -> dict[str, Any]:
    doc = {"question": f"ask, {number}?", "answer": f"w\n#### {number}"}
    row = {"doc": doc, "resps": [[f"so #### {number}"]], "filtered_resps": [str(number)], "filter": "strict-match"}
    arguments = {"gen_args_0": {"arg_0": prompt.replace("@", f"Question: ask, {number}?\nAnswer:")}}
    return row | {"target": str(number), "exact_match": 1.0, "arguments": arguments} | changes


@pytest.mark.parametrize("gold", [81, 81.0, "81.0", "$81", " 81. ", "so\n#### 81"])
def test_one_number_in_several_spellings_is_one_gold_answer(gold: object, tmp_path: Path) -> None:
    assert read(tmp_path, [sample(81, target=gold)], "gsm8k", ASKED[:1]).problems == ()
    other = 82 if not isinstance(gold, str) else gold.replace("81", "82")
    (problem,) = read(tmp_path, [sample(81, target=other)], "gsm8k", ASKED[:1]).problems
    assert "the gold answer of question 81 differs" in problem


def test_samples_of_another_task_are_told(tmp_path: Path) -> None:
    """``gsm8k_cot`` takes "The answer is N." for its strict match."""
    rows = [sample(n, resps=[[f"The answer is {n}."]]) for n in (81, 82, 83)]
    (problem,) = read(tmp_path, rows, "gsm8k").problems
    assert "takes another number from 3 of 3 responses" in problem and "'81', by the task's rule '[invalid]'" in problem
    (problem,) = read(tmp_path, [sample(81, exact_match=False)], "gsm8k", ASKED[:1]).problems
    assert "exact_match is 0.00 in the file, 100.00 by our gold answers" in problem
    with pytest.raises(UserError, match="a list that was saved as text"):
        read(tmp_path, [sample(81, resps="[['so #### 81']]")], "gsm8k")
    rows = [sample(81), sample(81, resps=[["other"]], filter="flexible-extract"), sample(82), sample(83)]
    assert "question 81: the filters' rows hold different responses" in "".join(read(tmp_path, rows, "gsm8k").problems)


SHOT = "Question: a\nAnswer:"


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        (f"{SHOT} b\n\n{SHOT} c\n\n@", {"fewshot": 2, "prompt_form": "plain"}),
        ("@", {"fewshot": 0, "prompt_form": "plain"}),
        ("<|im_start|>user\n@<|im_end|>\n<|im_start|>assistant\n", {"fewshot": 0, "prompt_form": "turns"}),
        (f"<s>[INST] {SHOT} [/INST] b</s>[INST] @ [/INST]", {"fewshot": 1, "prompt_form": "turns"}),
        (f"<s>[INST] {SHOT} b\n\n@ [/INST]", {"fewshot": 1, "prompt_form": "one-turn"}),
        (f"USER: {SHOT} ASSISTANT: b USER: @ ASSISTANT:", {"fewshot": 1, "prompt_form": "turns"}),
        ("another prompt", {}),
    ],
)
def test_the_form_of_the_prompts_is_read_from_them(prompt: str, options: dict[str, object], tmp_path: Path) -> None:
    imported = read(tmp_path, [sample(n, prompt) for n in (81, 82, 83)], "gsm8k")
    assert imported.options == options and imported.problems == () and bool(imported.notes) != bool(options)
    mixed = read(tmp_path, [sample(81, prompt), sample(82, f"{SHOT} b {SHOT} c {SHOT} d @"), sample(83)], "gsm8k")
    assert mixed.options == {} and "the prompts differ" in mixed.problems[-1]


def test_the_card_of_an_import_states_the_form_of_its_prompts(tmp_path: Path) -> None:
    folder = tmp_path / "problems"
    folder.mkdir()
    for split in ("test", "train"):
        lines = [json.dumps({"question": q.turns[0], "answer": q.reference[0]}) + "\n" for q in ASKED]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    file = tmp_path / "f.jsonl"
    file.write_text("".join(json.dumps(sample(n, f"{SHOT} b\n\n@")) + "\n" for n in (81, 82, 83)))
    report = import_answers([file], "gsm8k", tmp_path / "o", set={"source": str(folder)}, replicates=0)
    assert "1-shot as plain text" in report.card.version and report.scores[0].value == 100.0
    with pytest.raises(UserError, match="prompts show fewshot 1; the card states 3, as you set"):
        import_answers([file], "gsm8k", tmp_path / "o", set={"source": str(folder), "fewshot": 3})
    own = [{"question": str(n), "part": "flexible-extract", "verdict": v} for n, v in enumerate((1.0, 7.0, 0.0))]
    file.write_text("".join(json.dumps(row) + "\n" for row in own))
    report = import_answers([file], "gsm8k", tmp_path / "o", set={"source": str(folder)}, partial=True, replicates=0)
    assert (report.scores[0].value, report.scores[0].n, report.scores[0].unscored) == (50.0, 2, 1)
    assert report.problems == ["question 1 (flexible-extract): the verdict is not 0 to 1, but 7; it counts as none"]


def test_who_says_that_a_mark_of_failure_is_the_answer_is_believed(tmp_path: Path) -> None:
    rows = [annotation(81, output_2="nan"), annotation(82), annotation(83)]
    imported = read(tmp_path, rows, "alpaca_eval")
    assert verdicts(imported) == [None, 1.0, 1.0] and "--keep-failed" in imported.problems[0]
    imported = read(tmp_path, rows, "alpaca_eval", keep_failed=True)
    assert verdicts(imported) == [1.0] * 3 and imported.problems == ()
    assert imported.answers[0] == Answer("81", ("nan",), (), (), {"verbatim": True})
    own_file = tmp_path / "answers.jsonl"  # what was said goes along, into a baseline too
    own_file.write_text(
        json.dumps({"question": "81", "turns": ["nan"], "finished": [], "tokens": [], "meta": {"verbatim": True}})
    )
    assert read_answers([own_file], ASKED[:1])[2] == []


def test_exported_token_counts_are_the_official_ones_where_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [Answer("81", ("x" * 40,), (True,), (7,)), Answer("82", ("y" * 40,), (), (), {"token_len": 5})]
    answers.append(Answer("83", ("z" * 40,), (), ()))

    def counts(**options: object) -> list[int]:
        (file,) = export_files(tmp_path, ExportedResults("m", ASKED, answers, options=options), "arena_hard")
        return [json.loads(line)["metadata"]["token_len"] for line in file.read_text().splitlines()]

    assert counts(count_tokens=False, scorer="v0.1") == [7, 5, 10]
    monkeypatch.setattr("judges.formats.arena_hard_auto.token_counter", lambda scorer: lambda text: len(scorer + text))
    assert counts(count_tokens=True, scorer="v0.1") == [44, 44, 44]


def test_long_lists_of_problems_are_cut_to_a_few_of_each_kind() -> None:
    problems = [f"answers missing for question {n:x}7" for n in range(1316)] + ["one", "m.jsonl, row 3: 'a' b 'c'"]
    problems += [f"m.jsonl, row {n}: '{'it' * n}' is odd" for n in range(4)]
    shown = first_of_each_kind(problems)
    assert shown[:4] == [*problems[:3], "  ... and 1,313 more like this"]
    assert shown[4:] == problems[1316:]
