"""Accuracy against humans as AlpacaEval counts it, against the truth, against other judges; files and figures of it."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from distilbench.workflows.page import judges_of
from harness.errors import UserError
from reports.judge_comparison.compare import compare_panel
from reports.judge_comparison.figures import cost_points
from reports.judge_comparison.panel import ITEM, JudgeProfile
from reports.judge_comparison.reference import (
    HUMAN,
    HUMANS,
    OTHERS,
    TRUTH,
    judge_reference,
    leave_one_out,
    simulated_humans,
)
from reports.judge_comparison.tables import comparison_tables, read_comparison, table5, write_comparison
from tests.reports.judge_comparison.panels import panel


def people(votes):
    """Human annotations: question to their verdicts."""
    return pd.DataFrame(
        [("b", "m", 0, question, "", f"h{n}", float(v)) for question, each in votes.items()
         for n, v in enumerate(each)],
        columns=[*ITEM, "annotator", "verdict"],
    )  # fmt: skip


def referred(made, humans=None, flips=None, budget=None):
    """The reference; (judge, measure) to number."""
    reference, numbers = judge_reference(made, humans, 400, 0, flips or {}, budget)
    return reference, {(each.judge, each.measure): each for each in numbers}


def accuracies(numbers):
    return {judge: (each.value, each.n) for (judge, measure), each in numbers.items() if measure == "accuracy"}


def against_humans(votes, verdicts):
    made = panel([("j", "m", question, "", verdict) for question, verdict in verdicts])
    reference, numbers = referred(made, people(votes))
    assert reference.basis == HUMAN
    return accuracies(numbers)


def test_human_agreement_leaves_one_out():
    """AlpacaEval's own example: votes 1111 and 2221. On the first item each is right (4 of 4), on the second the three
    2s are (their others' mode is 2) and the 1 is not: 3 of 4. Mean 0.875. A judge that says baseline twice: 1 and 0."""
    found = against_humans({"q": [0, 0, 0, 0], "r": [1, 1, 1, 0]}, [("q", 0.3), ("r", 0.0)])
    assert found == {"j": (0.5, 2), HUMANS: (pytest.approx(0.875), 2)}


def test_tied_modes_count_in_equal_parts():
    """Votes 1 1 2 2: without a 2 the mode is 1, so every human is wrong; a judge is right half of the time. With three
    votes 1, 2, tie: without the tie two modes remain, each with half."""
    found = against_humans({"q": [0, 0, 1, 1]}, [("q", 1.0)])
    assert found == {"j": (0.5, 1), HUMANS: (0.0, 1)}
    assert leave_one_out(np.array([0.0, 1.0, 0.5]))[2].tolist() == [0.5, 0.0, 0.5]


def test_a_single_vote_is_no_majority():
    """q has two votes for the baseline, r one: only q counts, and the judge is right there."""
    found = against_humans({"q": [0, 0], "r": [1]}, [("q", 0.0), ("r", 0.0)])
    assert found["j"] == (1.0, 1)


def test_a_tie_of_a_judge_counts_one_half():
    assert against_humans({"q": [1, 1, 1]}, [("q", 0.5)])["j"] == (0.5, 1)


def test_where_the_truth_is_a_tie_no_judge_is_right_or_wrong():
    """Truths +, 0, -: x is right on the first and wrong on the last, y says tie on the first (one half) and is right on
    the last. Of two items: 0.5 and 0.75. The tie in the middle counts for nobody."""
    calls = [("x", "m", 0, "", 1.0), ("x", "m", 1, "", 0.0), ("x", "m", 2, "", 1.0)]
    calls += [("y", "m", 0, "", 0.5), ("y", "m", 1, "", 0.0), ("y", "m", 2, "", 0.0)]
    found, numbers = referred(panel(calls, truth={"0": 0.3, "1": 0.0, "2": -0.2}))
    assert found.basis == TRUTH
    assert accuracies(numbers) == {"x": (0.5, 2), "y": (0.75, 2)}


def test_the_other_judges_count_alike():
    """x says model, y model, z baseline: x is near y (1) and far from z (0), mean 0.5; z is far from both."""
    calls = [("x", "m", 0, "", 1.0), ("y", "m", 0, "", 1.0), ("z", "m", 0, "", 0.0)]
    found, numbers = referred(panel(calls))
    assert found.basis == OTHERS
    assert accuracies(numbers) == {"x": (0.5, 1), "y": (0.5, 1), "z": (0.0, 1)}


def test_grades_have_no_reference():
    assert referred(panel([("x", "m", 0, "", 7.0)], paired=False)) == (None, {})


def recommended(wrong, prices, budget=None, flips=None):
    """Judges that are wrong on the first so many of 200 questions; the truth is model, baseline, model, ..."""
    calls = [(j, "m", q, "", float((q % 2 == 0) == (q >= count))) for j, count in wrong.items() for q in range(200)]
    made = panel(calls, truth={str(q): 1.0 - 2 * (q % 2) for q in range(200)})
    made = replace(made, judges={name: JudgeProfile(name, dollars=prices.get(name)) for name in wrong})
    reference, numbers = referred(made, None, flips, budget)
    return reference, {judge: numbers[judge, "reference kappa"].value for judge in wrong}


def test_the_cheapest_judge_as_good_as_the_best_is_recommended():
    """best is wrong on 10 of 200, near on 11 (one question more: the paired interval ends at 0), poor on 40."""
    prices = {"best": 100.0, "near": 10.0, "poor": 1.0}
    found, kappas = recommended({"best": 10, "near": 11, "poor": 40}, prices)
    assert kappas["best"] == pytest.approx(0.9)  # 95% agree, half by chance
    assert found.recommended == "near"
    assert found.reason == (
        "near: agrees with the truth on 94.5%, not significantly less than best (95.0%); $2.00 for these calls."
    )
    # 200 calls: best costs $20, near $2, poor $0.20
    assert recommended({"best": 10, "near": 11, "poor": 40}, prices, budget=1.0)[0].recommended == "poor"
    assert recommended({"best": 10, "near": 11}, prices, budget=1.0)[0].recommended is None
    assert recommended({"best": 10, "poor": 40}, {"poor": 1.0})[0].recommended == "best"  # dearer, but better


def test_an_untrustworthy_judge_is_never_recommended():
    """Right on 110 of 200 with balanced labels: kappa 0.1. Flips of 31% rule the other one out as well."""
    found, kappas = recommended({"coin": 90, "good": 0}, {"coin": 0.0, "good": 9.0})
    assert (found.recommended, kappas["coin"]) == ("good", pytest.approx(0.1))
    none, _ = recommended({"coin": 90, "good": 0}, {}, flips={"good": 0.31})
    assert none.recommended is None
    assert none.reason.startswith("none of these judges can be trusted")


def test_without_a_truth_kappa_is_with_the_judge_that_agrees_most():
    """x and y give the same 100 labels; z is a coin, which makes neither of them doubtful."""
    calls = [(j, "m", q, "", float(q % 2)) for j in "xy" for q in range(100)]
    calls += [("z", "m", q, "", float(q // 2 % 2)) for q in range(100)]
    found, numbers = referred(panel(calls))
    kappas = {judge: numbers[judge, "reference kappa"].value for judge in "xz"}
    assert kappas == {"x": 1.0, "z": pytest.approx(0.0)}
    assert found.recommended == "x"


def test_simulated_people_prefer_the_better_answer():
    """An advantage of 0.5 is log-odds of 1.5: 82% of 400 people; a mirrored one 18%. The same seed, the same people."""
    made = panel([("j", "m", q, "", 1.0) for q in range(2)], truth={"0": 0.5, "1": -0.5})
    votes, (note,) = simulated_humans(made.judgments, 400)
    means = votes.groupby("question")["verdict"].mean()
    assert means.tolist() == pytest.approx([0.82, 0.18], abs=0.05)
    assert note.startswith("Humans: 400 simulated from the true scores")
    pd.testing.assert_frame_equal(simulated_humans(made.judgments, 400)[0], votes)
    with pytest.raises(UserError, match="only pocket's are"):
        simulated_humans(panel([("j", "m", 0, "", 1.0)]).judgments, 4)


@pytest.fixture
def comparison():
    """x and y agree on 36 of 40 answers; x costs ten times as much. Four people say baseline on all."""
    calls = [("x", "m", q, "", float(q >= 6)) for q in range(40)]
    calls += [("y", "m", q, "", float(q >= 2)) for q in range(40)]
    made = panel(calls)
    profiles = {"x": JudgeProfile("gpt-4", dollars=10.0), "y": JudgeProfile("o|dd", dollars=1.0)}
    humans = people({str(q): [0, 0, 0, 0] for q in range(40)})
    return compare_panel(replace(made, judges=profiles, source="run r", teacher="gpt-4"), humans, replicates=100)


def test_a_comparison_is_written_and_read_back(comparison, tmp_path):
    paths = write_comparison(comparison, tmp_path)
    names = {"judges.md", "judges.csv", "judges.json"}
    figures = {f"judge-{name}.{kind}" for name in ("agreement", "cost") for kind in ("png", "pdf")}
    assert {path.name for path in paths} == names | figures == {path.name for path in tmp_path.iterdir()}
    assert read_comparison(tmp_path) == comparison
    with (tmp_path / "judges.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(comparison.frame()) == len(comparison.numbers)
    agreement = next(line for line in lines if line["measure"] == "agreement")
    assert (agreement["judge"], agreement["other"], float(agreement["value"]), agreement["n"]) == ("x", "y", 0.9, "40")
    text = (tmp_path / "judges.md").read_text()
    assert "Recommended: none of these judges can be trusted" in text  # four people who say the same: kappa 0
    assert "o\\|dd" in text  # a judge's name cannot break a table
    assert "the run's teacher itself: it may prefer" in text


def test_a_figure_of_an_earlier_comparison_is_removed(comparison, tmp_path):
    write_comparison(comparison, tmp_path)
    (tmp_path / "mine.md").write_text("notes")
    alone = compare_panel(panel([("x", "m", q, "", float(q % 2)) for q in range(6)]), replicates=100)
    write_comparison(alone, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.md", "judges.md", "judges.csv", "judges.json"}
    assert read_comparison(tmp_path / "none") is None
    (tmp_path / "judges.json").write_text("{}")
    with pytest.raises(UserError, match=r"judges\.json cannot be read"):
        read_comparison(tmp_path)


def test_costs_that_hardly_differ_are_no_figure(comparison):
    label, points = cost_points(comparison)
    assert (label, points["x"][0]) == ("dollars per 1,000 calls", 10.0)
    tokens = {"x": JudgeProfile(tokens=100.0), "y": JudgeProfile(tokens=104.0)}
    assert cost_points(replace(comparison, judges=tokens)) is None
    assert cost_points(replace(comparison, judges=tokens | {"y": JudgeProfile(tokens=200.0)}))[0] == "tokens per call"


def test_table5_stands_beside_the_paper(comparison):
    """x is GPT-4, which the paper has; y is not. Humans are a line of their own."""
    rows = {row.cells[0].text: [cell.text for cell in row.cells] for row in table5(comparison).rows}
    assert rows["x"][2] == "69.17, not comparable"
    assert rows["y"][2] == "-"
    assert rows[HUMANS][1].startswith("100.0%")
    assert rows["Qwen2.5-72B-Instruct (paper)"][2] == "67.51"


def test_the_page_has_all_tables_and_figures(comparison, tmp_path):
    write_comparison(comparison, tmp_path / "table1" / "judges")
    section = judges_of(tmp_path / "table1")
    assert section.title == "Judges compared, table1"
    assert section.html.count("<table") == len(comparison_tables(comparison)) == 5
    assert section.html.count("<img") == 2
