"""Annotation files as people hand them in: odd values, ids, seeds, baselines; each person has one vote."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from harness.errors import UserError
from reports.judge_comparison.annotations import annotation_panel, read_humans
from reports.judge_comparison.bias import bias_effects


def row(question, judge, preference, model="m", **more):
    return {"question": question, "model": model, "annotator": judge, "preference": preference, **more}


PLAIN = [row(n, judge, 1 + n % 2) for n in range(6) for judge in ("x", "y")]


@pytest.fixture
def write(tmp_path):
    """Rows (or text) into a file; its path."""

    def into(rows, name="a.json"):
        (tmp_path / name).write_text(rows if isinstance(rows, str) else json.dumps(rows))
        return tmp_path / name

    return into


def with_first(**values):
    return [{**PLAIN[0], **values}, *PLAIN[1:]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**annotation, "preference": True} for annotation in PLAIN], "preference 'True' is not 1"),
        (with_first(annotator=None), "some rows have no annotator"),
        ([{**annotation, "seed": "one"} for annotation in PLAIN], "seed 'one' is not a number"),
        ([{**annotation, "seed": 1.5} for annotation in PLAIN], "seed must be a whole number"),
        (with_first(seed=1), "seed must be a whole number in every row"),
        ([{**annotation, "len_1": "long", "len_2": 3} for annotation in PLAIN], "len_1 'long' is not a number"),
        (
            [{**annotation, "question": None} for annotation in PLAIN],
            "no row says both which question and whose answer",
        ),
        ([{"preference": 1, "question": 1}], "no column says whose answer it is"),
        ([[1, 2], [3, 4]], "cannot be read"),
        ('{"data": []}', "need rows with a column 'preference' .*it has: data"),
        ("", "need rows with a column 'preference' .*it has: nothing"),
    ],
)
def test_values_without_a_meaning_are_refused(write, rows, message):
    with pytest.raises(UserError, match=message):
        annotation_panel([write(rows)])


@pytest.mark.parametrize(("name", "content"), [("a.csv", ""), ("a.parquet", "x"), ("a.csv", "a;b\n1;2\n")])
def test_files_of_another_kind_are_refused(write, name, content):
    with pytest.raises(UserError, match=r"cannot be read|need rows with a column 'preference'"):
        annotation_panel([write(content, name)])


def test_odd_preferences_are_no_verdicts_and_are_named(write):
    """One of them refuses no file."""
    odd = [True, 3, [1], "tie", float("inf"), "nan", -1, "1.25"]
    rows = [{**annotation, "preference": value} for annotation, value in zip(PLAIN, odd, strict=False)]
    panel = annotation_panel([write([*rows, *PLAIN[len(odd) :]])])
    verdicts = panel.judgments["verdict"]
    assert verdicts.isna().tolist() == [True] * 7 + [False] * 5 and verdicts.iloc[7] == 0.25
    (note,) = [note for note in panel.notes if "without a verdict" in note]
    assert note.startswith("a.json: 5 annotations without a verdict, not 1 (baseline) to 2 (model), nor 0 (tie): row 1")
    assert "row 1: 'True', row 2: '3', row 3: '[1]'" in note
    assert any("1 annotation failed (preference -1)" in note for note in panel.notes)


def test_rows_without_a_question_are_left_out_and_counted(write):
    """Two of 12 rows lack their question; a gap does not make 1.0 of the others' ids."""
    panel = annotation_panel([write([{**PLAIN[0], "question": None}, {**PLAIN[1], "question": ""}, *PLAIN[2:]])])
    assert len(panel.judgments) == 10
    assert set(panel.judgments["question"]) == {"1", "2", "3", "4", "5"}
    assert any("2 rows left out" in note for note in panel.notes)


def test_ids_of_a_csv_stay_text(write):
    """001 and 1 are two questions; an empty preference is none, an empty answer has length 0, a model may be NA."""
    text = "question,model,annotator,preference,output_1,output_2\n001,NA,7,1,,ab\n1,NA,7,2,abc,ab\n2,NA,7,,abc,ab\n"
    panel = annotation_panel([write(text, "a.csv")])
    assert panel.judgments["question"].tolist() == ["001", "1", "2"]
    assert set(panel.judgments["row"]) == {"NA"}
    assert list(panel.judges) == ["7"]
    assert panel.judgments["verdict"].fillna(-1).tolist() == [0.0, 1.0, -1.0]
    assert panel.judgments["length"].tolist() == [2.0, -1.0, -1.0]


def test_all_formats_hold_the_same(write, tmp_path):
    """JSON, JSON lines, CSV and Parquet; a column of numbers with a gap is written as 1.0, 2.0, NaN."""
    table = pd.DataFrame([*PLAIN, row(None, "x", 1)])
    table.to_parquet(tmp_path / "a.parquet")
    table.to_csv(tmp_path / "a.csv", index=False)
    lines = "\n".join(map(json.dumps, PLAIN))
    files = [tmp_path / "a.parquet", tmp_path / "a.csv", write(PLAIN, "a.json"), write(lines, "a.jsonl")]
    calls = [annotation_panel([file]).judgments.reset_index(drop=True) for file in files]
    assert set(calls[0]["question"]) == set("012345")
    for other in calls[1:]:
        pd.testing.assert_frame_equal(other, calls[0], check_dtype=False)


def test_answers_that_are_the_baselines_own_are_marked(write):
    texts = [row(0, "x", 1.5, output_1="as is", output_2="as is"), row(1, "x", 1, output_1="as is", output_2="other")]
    items = annotation_panel([write(texts)]).judgments
    assert items.set_index("question")["same"].to_dict() == {"0": 1.0, "1": 0.0}


def test_files_without_annotators_are_judges_by_their_names(write):
    bare = [{name: value for name, value in annotation.items() if name != "annotator"} for annotation in PLAIN[::2]]
    one, two = write(bare, "one.json"), write([{**annotation, "annotator": None} for annotation in bare], "two.json")
    assert list(annotation_panel([one, two]).judges) == ["one", "two"]
    assert list(annotation_panel([write([*bare, *bare], "three.json")]).judges) == ["annotator 1", "annotator 2"]
    with pytest.raises(UserError, match="two files of one name"):
        annotation_panel([one, one])


def test_own_rows_are_favoured_rows(write):
    """x prefers its own row on every question, the others on half of them: the effect of own is above 0."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(120):
        for model in ("mine", "theirs"):
            good = rng.normal()
            for judge in ("x", "y", "z"):
                favour = 2.0 * (judge == "x" and model == "mine")
                rows.append(row(number, judge, 1 + int(good + favour + 0.5 * rng.normal() > 0), model))
    path = write(rows)
    panel = annotation_panel([path], [], {"x": ["mine"]})
    (own_effect,) = [effect for effect in bias_effects(panel, "annotations", "x") if effect.measure == "own"]
    assert own_effect.low > 0
    assert bias_effects(panel, "annotations", "y") == []
    with pytest.raises(UserError, match=r"--own x: no row 'nobody' is compared; there are: mine, theirs"):
        annotation_panel([path], [], {"x": ["nobody"]})
    with pytest.raises(UserError, match=r"--own w: no judge 'w' is compared; there are: x, y, z"):
        annotation_panel([path], [], {"w": ["mine"]})
    with pytest.raises(UserError, match=r"--judges w: not among the annotators: x, y, z"):
        annotation_panel([path], ["w"])


def people(*votes, **more):
    """Each person's preferences of questions 0, 1, ..."""
    return [
        row(number, f"p{who}", vote, **more) for who, person in enumerate(votes) for number, vote in enumerate(person)
    ]


def matched(write, annotations, humans):
    return read_humans(write(humans, "people.json"), annotation_panel([write(annotations)]).judgments, "annotations")


def test_people_who_name_no_baseline_mean_the_one_that_is_judged(write):
    annotations = [{**annotation, "baseline": "b"} for annotation in PLAIN]
    votes, notes = matched(write, annotations, people([1, 2], [1, 1]))
    assert set(votes["turn"]) == {"b"}
    assert notes == ["Humans: people.json, 4 annotations of 2 answers compared."]
    two = [*annotations, *({**annotation, "baseline": "c"} for annotation in PLAIN)]
    with pytest.raises(UserError, match=r"question '0' of 'm' is compared several times"):
        matched(write, two, people([1, 2], [1, 1]))
    votes, _ = matched(write, two, people([1, 2], [1, 1], baseline="c"))
    assert set(votes["turn"]) == {"c"}


def test_what_fits_nothing_is_counted(write):
    """Of 9: one without a preference, three of another question; question 1 has one person."""
    humans = [*people([1, 2], [1, None], [2]), *(row("zz", f"p{n}", 1) for n in range(3)), row(0, "p3", 1)]
    votes, notes = matched(write, PLAIN, humans)
    assert len(votes) == 5
    assert notes[1] == (
        "Humans, left out: 3 annotations of no answer that is compared here; 1 annotation without a preference; "
        "1 answer with only one person."
    )
    with pytest.raises(UserError, match="annotates no answer that is compared here"):
        matched(write, PLAIN, [row("zz", f"p{n}", 1) for n in range(3)])


def test_one_person_has_one_vote(write):
    """p0 says baseline three times: one vote. Who says both says tie."""
    annotations = [row(0, "j", 2)]
    votes, _ = matched(write, annotations, [*(row(0, "p0", 1) for _ in range(3)), row(0, "p1", 2), row(0, "p2", 2)])
    assert votes["verdict"].tolist() == [0.0, 1.0, 1.0]
    mixed, _ = matched(write, annotations, [row(0, "p0", 1), row(0, "p0", 2), row(0, "p1", 2)])
    assert mixed["verdict"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize("humans", [people([1, 2]), people([None, None], [None, None])])
def test_without_two_people_there_is_nothing_to_leave_out(write, humans):
    with pytest.raises(UserError, match="no answer has preferences of two people"):
        matched(write, PLAIN, humans)


def test_people_who_name_no_seed_mean_the_first(write):
    """Judged were seeds 1 and 2."""
    annotations = [{**annotation, "seed": seed} for annotation in PLAIN for seed in (2, 1)]
    assert set(matched(write, annotations, people([1, 2], [1, 1]))[0]["seed"]) == {1}
    assert set(matched(write, annotations, people([1, 2], [1, 1], seed=2))[0]["seed"]) == {2}
    with pytest.raises(UserError, match="it annotates no answer"):
        matched(write, annotations, people([1, 2], [1, 1], seed=3))


def test_prices_and_times_of_the_file_are_the_judges(write):
    """alpaca_eval notes dollars and seconds of each annotation: x 0.002 and 0.004, so 3 dollars per 1,000; y none."""
    rows = [
        {**row, "price_per_example": 0.002 + 0.002 * (row["question"] % 2), "time_per_example": 0.5}
        if row["annotator"] == "x"
        else row
        for row in PLAIN
    ]
    panel = annotation_panel([write(rows)])
    assert panel.judges["x"].dollars == pytest.approx(3.0) and panel.judges["y"].dollars is None
    assert "price are unknown (price: of y)" in panel.notes[-2] and panel.notes[-1].endswith("say: x 0.5.")
    priced = annotation_panel([write([{**row, "price_per_example": 0} for row in PLAIN])])
    assert priced.judges["y"].dollars == 0 and "price" not in priced.notes[-1]
    assert "order of the answers and price are unknown." in annotation_panel([write(PLAIN)]).notes[-1]


@pytest.mark.parametrize("value", [-1, -1.0, "-1.0"])
def test_a_failed_annotation_is_no_verdict_and_counted(write, value):
    panel = annotation_panel([write(with_first(preference=value))])
    assert panel.judgments["verdict"].isna().sum() == 1
    assert "a.json: 1 annotation failed (preference -1)." in panel.notes
