"""Annotation files as people hand them in: odd values, ids, seeds, baselines; people counted once; what is told."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pandas as pd
import pytest

from harness.errors import UserError
from reports.judge_comparison.annotation_file import read_calls
from reports.judge_comparison.annotations import annotation_panel, read_humans
from reports.judge_comparison.compare import compare
from reports.judge_comparison.csv_export import tidy_csv
from reports.judge_comparison.humans import HUMANS, human_agreement
from reports.judge_comparison.page_section import _value, judges_section
from reports.judge_comparison.panel import ITEM
from reports.judge_comparison.table5 import table5
from reports.judge_comparison.write import write_comparison
from reports.page.widgets import unpack


def row(question, judge, preference, model="m", **more):
    return {"question": question, "model": model, "annotator": judge, "preference": preference, **more}


PLAIN = [row(n, judge, 1 + n % 2) for n in range(6) for judge in ("x", "y")]


@pytest.fixture
def write(tmp_path):
    """Rows (or text) into a file; its path."""

    def into(rows, name="a.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
        return path

    return into


def with_first(**values):
    return [{**PLAIN[0], **values}, *PLAIN[1:]]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (with_first(preference=True), "preference 'True' is not 1"),
        (with_first(preference={"a": 1}), "preference \"{'a': 1}\" is not 1"),
        (with_first(preference=[1]), r"preference '\[1\]' is not 1"),
        (with_first(annotator=None), r"1 row of 12 have no annotator \(row 1 is the first\)"),
        (with_first(annotator=" "), "1 row of 12 have no annotator"),
        ([{**each, "seed": "one"} for each in PLAIN], "seed 'one' is wrong; it is a whole number"),
        ([{**each, "seed": 1.5} for each in PLAIN], "seed '1.5' is wrong"),
        (with_first(seed=1), "seed is missing in some rows"),
        ([{**each, "len_1": "long", "len_2": 3} for each in PLAIN], "len_1 'long' is not a number"),
        ([{**each, "question": None} for each in PLAIN], "no row says both which question and whose answer"),
        ([{**each, "model": ""} for each in PLAIN], "no row says both which question and whose answer"),
        ([[1, 2], [3, 4]], "a row is not an object"),
        ("3\n4\n", "a row is not an object"),
        ('{"data": []}', "need rows with a column 'preference' .*it has: data"),
        ("", "need rows with a column 'preference' .*it has: nothing"),
    ],
)
def test_values_that_mean_nothing_are_said(write, rows, said):
    with pytest.raises(UserError, match=said):
        annotation_panel([write(rows)], [])


@pytest.mark.parametrize(("name", "content"), [("a.csv", ""), ("a.parquet", "x"), ("a.csv", "a;b\n1;2\n")])
def test_files_of_another_kind_are_said(write, name, content):
    with pytest.raises(UserError, match=r"cannot be read|need rows with a column 'preference'"):
        annotation_panel([write(content, name)], [])


def test_rows_that_name_no_question_are_left_out_and_told(write):
    """Two of 12 rows lack their question; a gap does not make 1.0 of the others' ids."""
    panel = annotation_panel([write([{**PLAIN[0], "question": None}, {**PLAIN[1], "question": ""}, *PLAIN[2:]])], [])
    assert len(panel.calls) == 10
    assert set(panel.calls["question"]) == {"1", "2", "3", "4", "5"}
    assert any("2 rows left out" in note for note in panel.notes)


def test_ids_of_a_csv_stay_text(write):
    """001 and 1 are two questions; an empty preference is none, an empty answer has length 0, a model may be NA."""
    text = "question,model,annotator,preference,output_1,output_2\n001,NA,7,1,,ab\n1,NA,7,2,abc,ab\n2,NA,7,,abc,ab\n"
    panel = annotation_panel([write(text, "a.csv")], [])
    assert panel.calls["question"].tolist() == ["001", "1", "2"]
    assert set(panel.calls["row"]) == {"NA"}
    assert list(panel.judges) == ["7"]
    assert panel.calls["verdict"].fillna(-1).tolist() == [0.0, 1.0, -1.0]
    assert panel.items.sort_values("question")["length"].tolist() == [2.0, -1.0, -1.0]


def test_ids_with_a_gap_in_the_column_stay_whole(write, tmp_path):
    """Parquet keeps a column of numbers with a gap as 1.0, 2.0, NaN; a CSV made of it has the text 1.0."""
    table = pd.DataFrame([*PLAIN, row(None, "x", 1)])
    table.to_parquet(tmp_path / "a.parquet")
    table.to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.parquet", "a.csv"):
        assert set(annotation_panel([tmp_path / name], []).calls["question"]) == set("012345")
    versions = [row(number, "x", 1) for number in ("1.0", "1.1")]
    assert annotation_panel([write(versions)], []).calls["question"].tolist() == ["1.0", "1.1"]


def test_answers_that_are_the_baselines_own_are_marked(write):
    texts = [row(0, "x", 1.5, output_1="as is", output_2="as is"), row(1, "x", 1, output_1="as is", output_2="other")]
    items = annotation_panel([write(texts)], []).items
    assert items.set_index("question")["same"].to_dict() == {"0": 1.0, "1": 0.0}


def test_files_without_annotators_are_judges_by_their_names(write):
    bare = [{name: value for name, value in each.items() if name != "annotator"} for each in PLAIN[::2]]
    one, two = write(bare, "one.json"), write([{**each, "annotator": None} for each in bare], "two.json")
    assert list(annotation_panel([one, two], []).judges) == ["one", "two"]
    assert list(annotation_panel([write([*bare, *bare], "three.json")], []).judges) == ["annotator 1", "annotator 2"]
    elsewhere = write(bare, "there/one.json")
    names = list(annotation_panel([one, elsewhere], []).judges)
    assert [name.rpartition("/")[2] for name in names] == ["one", "one"]
    assert len(set(names)) == 2


def test_the_same_file_twice_is_refused(write):
    path = write(PLAIN)
    with pytest.raises(UserError, match="given twice"):
        annotation_panel([path, path.parent / "." / path.name], [])


def test_rows_of_a_judges_own_are_compared(write):
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
    assert panel.judges["x"].own == ("mine",)
    effects = compare(panel, replicates=100).benchmarks[0].effects
    (own,) = [effect for effect in effects["x"] if effect.name == "own"]
    assert own.interval.low > 0
    assert not [effect for effect in effects["y"] if effect.name == "own"]
    with pytest.raises(UserError, match=r"--own x=nobody: no row 'nobody' is compared; there are: mine, theirs"):
        annotation_panel([path], [], {"x": ["nobody"]})
    with pytest.raises(UserError, match=r"--own w=mine: no judge of this name is compared; there are: x, y, z"):
        annotation_panel([path], [], {"w": ["mine"]})


def people(*votes, **more):
    """Each person's preferences of questions 0, 1, ..."""
    return [row(number, f"p{who}", vote, **more) for who, each in enumerate(votes) for number, vote in enumerate(each)]


def matched(write, judged, humans):
    return read_humans(write(humans, "people.json"), None, annotation_panel([write(judged)], []))


def test_people_who_name_no_baseline_mean_the_one_that_is_judged(write):
    judged = [{**each, "baseline": "b"} for each in PLAIN]
    found, notes = matched(write, judged, people([1, 2], [1, 1]))
    assert set(found["turn"]) == {"b"}
    assert len(found) == 4
    assert notes == ["Humans: people.json, 4 annotations of 2 answers compared."]
    two = [*judged, *({**each, "baseline": "c"} for each in PLAIN)]
    with pytest.raises(UserError, match=r"question '0' of 'm' is compared several times .* name the baseline"):
        matched(write, two, people([1, 2], [1, 1]))
    found, _ = matched(write, two, people([1, 2], [1, 1], baseline="c"))
    assert set(found["turn"]) == {"c"}


def test_what_fits_nothing_is_counted_and_told(write):
    """Of 9: one without a preference, three of another question; question 1 has one person."""
    humans = [*people([1, 2], [1, None], [2]), *(row("zz", f"p{n}", 1) for n in range(3)), row(0, "p3", 1)]
    found, notes = matched(write, PLAIN, humans)
    assert len(found) == 5
    assert notes == [
        "Humans: people.json, 5 annotations of 2 answers compared.",
        (
            "Humans, left out: 3 annotations of no answer that is compared here; 1 annotation without a preference; "
            "1 answer with one person, whom nobody can be compared with."
        ),
    ]


def test_one_person_has_one_vote(write):
    """p0 says baseline three times, p1 and p2 once model: one of three, so the mode is model and not baseline. The
    model is right for who leaves p0 out; without p1 (or p2) one vote is left on each side: 1/2 each. (1 + .5 + .5)/3.
    """
    humans = [row(0, "p0", 1), row(0, "p0", 1), row(0, "p0", 1), row(0, "p1", 2), row(0, "p2", 2)]
    panel = annotation_panel([write([row(0, "j", 2)])], [])
    found, notes = read_humans(write(humans, "people.json"), None, panel)
    assert found["verdict"].tolist() == [0.0, 1.0, 1.0]
    assert notes[1] == "Humans: 2 annotations by a person who had annotated the same answer; one person has one vote."
    agreed, _ = human_agreement(found, panel.calls, 0, 0)
    assert agreed["j"].value == pytest.approx(2 / 3)
    mixed, _ = matched(write, [row(0, "j", 2)], [row(0, "p0", 1), row(0, "p0", 2), row(0, "p1", 2)])
    assert mixed["verdict"].tolist() == [0.5, 1.0]  # who says both says tie


@pytest.mark.parametrize(
    "humans", [people([1, 2]), people([None, None], [None, None]), [*people([1, 2]), *people([1, 2])]]
)
def test_without_two_people_there_is_nothing_to_leave_out(write, humans):
    with pytest.raises(UserError, match="no answer has preferences of two people"):
        matched(write, PLAIN, humans)


def test_people_who_name_no_seed_mean_the_first(write):
    """Judged were seeds 1 and 2."""
    judged = [{**each, "seed": seed} for each in PLAIN for seed in (2, 1)]
    found, _ = matched(write, judged, people([1, 2], [1, 1]))
    assert set(found["seed"]) == {1}
    found, _ = matched(write, judged, people([1, 2], [1, 1], seed=2))
    assert set(found["seed"]) == {2}
    with pytest.raises(UserError, match="it annotates no answer"):
        matched(write, judged, people([1, 2], [1, 1], seed=3))


def test_a_seed_column_is_told_from_none(write):
    assert read_calls([write([{**each, "seed": 0} for each in PLAIN])], "b").seeded
    assert not read_calls([write(PLAIN, "b.json")], "b").seeded
    assert not read_calls([write([{**each, "seed": None} for each in PLAIN], "c.json")], "b").seeded


def test_a_single_vote_is_no_majority():
    """q has two votes for the baseline, r one: only q counts, and the judge is right there."""
    humans = pd.DataFrame(
        [("b", "m", 0, "q", "", "h0", 0.0), ("b", "m", 0, "q", "", "h1", 0.0), ("b", "m", 0, "r", "", "h0", 1.0)],
        columns=["benchmark", *ITEM, "annotator", "verdict"],
    )
    calls = pd.DataFrame([("j", "m", 0, each, "", 0.0) for each in "qr"], columns=["judge", *ITEM, "verdict"])
    found, _ = human_agreement(humans, calls, 0, 0)
    assert (found["j"].value, found["j"].items, found["j"].calls) == (1.0, 1, 1)
    assert (found[HUMANS].items, found[HUMANS].calls) == (1, 2)


@pytest.fixture
def soft(write):
    """x says 1.9 where people say model and y the same as a label: as a probability x is 0.1 away."""
    judged = [row(n, judge, 1.9 if judge == "x" else 2) for n in range(6) for judge in ("x", "y")]
    panel = annotation_panel([write(judged)], [])
    humans, _ = read_humans(write(people([2] * 6, [2] * 6, [2] * 6), "people.json"), None, panel)
    return compare(panel, humans, replicates=100)


def test_probabilities_stand_beside_labels_for_judges_that_give_them(soft):
    assert (soft.humans["x"].value, soft.humans["x"].soft) == (1.0, pytest.approx(0.9))
    assert soft.humans["y"].soft is None
    grid = table5(soft)
    column = grid.header.index("Soft (%)")
    shown = {line[0]: line[column] for line in grid.rows}
    assert (shown["x"], shown["y"], shown[HUMANS], shown["GPT4 (paper)"]) == ("90.00", "-", "-", "-")
    assert all(len(line) == len(grid.header) for line in grid.rows)
    lines = [each for each in csv.DictReader(io.StringIO(tidy_csv(soft))) if "of probabilities" in each["quantity"]]
    assert [(line["judge"], line["value"], line["n"]) for line in lines] == [("x", "0.9", "6")]


def test_files_of_an_earlier_comparison_are_removed(soft, write, tmp_path):
    """First with people (table5) and a heat map, then one judge and no people. What is not ours stays."""
    folder = tmp_path / "out"
    write_comparison(soft, folder)
    assert {"table5.md", "table5.csv", "judge-agreement.svg"} <= {path.name for path in folder.iterdir()}
    alone = compare(annotation_panel([write([row(n, "x", 1 + n % 2) for n in range(6)])], []), replicates=100)
    (folder / "mine.md").write_text("notes")
    paths = write_comparison(alone, folder)
    assert {path.name for path in folder.iterdir()} == {"mine.md", *(path.name for path in paths)}
    assert {path.suffix for path in paths} == {".md", ".tex", ".csv", ".json"}
    (folder / "table5.md").write_text("of a report")  # no people before, so this one is another's
    write_comparison(alone, folder)
    assert (folder / "table5.md").read_text() == "of a report"


def test_cells_of_the_page_sort_by_their_numbers(soft):
    """By the number in front, thousands and all; text as text; a dash as nothing. And the cells carry it."""
    texts = {"1,234.50": 1234.5, "+0.40* [0.37, 0.44]": 0.4, "99.4% [98, 99]": 99.4, "-0.5% [-2, 1]": -0.5,
             "2. 56.21 [51, 60]": 2.0, "none found": "none found", "-": None, " ": None}  # fmt: skip
    assert {text: _value(text) for text in texts} == texts
    html = judges_section(soft, "table1").html
    assert re.search(r'data-sort="?100\.0', html), re.findall(r"data-sort=\S+", html)[:5]
    assert unpack(judges_section(soft, "table1").data["comparison"])["humans"]["x"]["soft"] == pytest.approx(0.9)
