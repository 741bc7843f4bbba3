"""``import`` and ``export``: in, scored, out again, with every mistake named. Called in process, to be quick."""

import json
from pathlib import Path

import pytest

from distilbench.cli.exchange.answers import export, import_
from harness.contracts.options import RecipeError
from harness.errors import UserError
from harness.records import read_records
from harness.types import Judgment
from judges import BENCHMARKS

BENCHMARK = BENCHMARKS["alpaca_eval"]
SET = ["questions=pocket", "limit=6"]


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Annotations of the first six pocket questions, preferences 1.0 to 2.0."""
    rows = [
        {
            "instruction": question.turns[0], "output_1": question.baseline[0], "generator_1": "base",
            "output_2": f"answer {number}", "generator_2": "mine", "annotator": "gpt", "preference": 1 + number / 5,
        }
        for number, question in enumerate(BENCHMARK.questions(BENCHMARK.config(limit=6)))
    ]  # fmt: skip
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    return path


def test_in_scored_and_out_again(annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verdicts 0, 0.2, ... 1: mean 50%."""
    import_([annotations], "alpaca_eval", tmp_path / "mine", replicates=50, overrides=SET)
    said = capsys.readouterr().out
    assert "mine: 6 answers, 6 judgments to 6 questions" in said and "alpaca_eval.wr = 50.00 [" in said
    assert "n = 6, unscored 0" in said and "protocol: pocket 1" in said and "truncated" not in said
    assert [j.verdict for j in read_records(tmp_path / "mine/judgments.jsonl", Judgment)][1] == pytest.approx(0.2)
    note = json.loads((tmp_path / "mine/import.json").read_text())
    assert (note["model"], note["baseline"], note["problems"]) == ("mine", "base", [])
    export(tmp_path / "mine", tmp_path / "out", model="renamed")
    said = capsys.readouterr().err
    assert said == f"files: {tmp_path}/out/renamed/ (model_outputs.json, gpt/annotations.json)\n"
    written = tmp_path / "out" / "renamed" / "gpt" / "annotations.json"
    before, after = json.loads(annotations.read_text()), json.loads(written.read_text())
    assert [row["preference"] for row in after] == pytest.approx([row["preference"] for row in before])
    assert {(row["generator_2"], row["annotator"], row["generator_1"]) for row in after} == {("renamed", "gpt", "base")}


def test_rows_that_do_not_fit_stop_the_import(annotations: Path, tmp_path: Path, capsys) -> None:
    rows = json.loads(annotations.read_text())
    annotations.write_text(json.dumps([*rows[:4], rows[0], {**rows[5], "instruction": "another"}]))
    with pytest.raises(UserError, match="4 problems with these rows") as error:
        import_([annotations], "alpaca_eval", tmp_path / "mine", overrides=SET)
    listed = str(error.value)  # doubled, foreign, and two questions without a row
    assert "row 5: a second row" in listed and "row 6: annotations for a question" in listed
    assert listed.count("missing for question") == 2 and not (tmp_path / "mine").exists()
    import_([annotations], "alpaca_eval", tmp_path / "mine", partial=True, replicates=0, overrides=SET)
    assert "n = 4, unscored 2" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "mine/import.json").read_text())["problems"]) == 4
    with pytest.raises(UserError, match="no answer to 2 of 6 questions"):
        export(tmp_path / "mine", tmp_path / "out")


def test_wrong_words_are_answered(annotations: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'alpaca_eval'"):
        import_([annotations], "alpaca", tmp_path / "mine")
    with pytest.raises(RecipeError, match="limits"):
        import_([annotations], "alpaca_eval", tmp_path / "mine", overrides=["limits=3"])
    with pytest.raises(UserError, match="name either a folder"):
        export(None, tmp_path / "out")
    with pytest.raises(UserError, match=r"is no folder that `distilbench import` wrote"):
        export(tmp_path, tmp_path / "out")


def test_answers_graded_by_rule_are_scored_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four problems, two of them right."""
    benchmark = BENCHMARKS["gsm8k"]
    questions = benchmark.questions(benchmark.config(limit=4))
    rows = []
    for number, question in enumerate(questions):
        text = f"#### {question.meta['number'] if number % 2 else -77}"
        taken = text.removeprefix("#### ")
        rows.append({"doc": {"question": question.turns[0]}, "resps": [[text]], "filtered_resps": [taken]})
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = ["questions=pocket", "limit=4"]
    import_([tmp_path / "samples.jsonl"], "gsm8k", tmp_path / "mine", replicates=0, overrides=overrides)
    said = capsys.readouterr().out
    assert "gsm8k.acc = 50.00, n = 4" in said and "strict-match: 50" in said
