"""Which judge to trust: agreement with a yardstick, the choice of one, warnings, what tables and files hold of it."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.axes
import numpy as np
import pandas as pd
import pytest

from reports.judge_comparison.compare import compare, pass_calls
from reports.judge_comparison.csv_export import tidy_csv
from reports.judge_comparison.figures import heat_map
from reports.judge_comparison.humans import human_agreement
from reports.judge_comparison.model_families import family_of
from reports.judge_comparison.panel import ITEM, Facts
from reports.judge_comparison.recommendation import Standing, Yardstick, choose, yardstick
from reports.judge_comparison.tables import grids
from tests.reports.panels import panel


def people(verdicts, count=4):
    """As many annotations of row m as ``count``, question to what all say."""
    return pd.DataFrame(
        [("annotations", "m", 0, str(q), "", f"p{n}", v) for q, v in verdicts.items() for n in range(count)],
        columns=["benchmark", *ITEM, "annotator", "verdict"],
    )


def measured(values, spread=0.005, **standing):
    """A yardstick of independent replicates about the values."""
    rng = np.random.default_rng(0)
    drawn = {name: value + spread * rng.normal(size=400) for name, value in values.items()}
    coverage = standing.get("coverage", {})
    found = {name: Standing(name, v, None, 500, coverage.get(name, 1.0)) for name, v in values.items()}
    return Yardstick("the truth", found, drawn)


def test_where_the_truth_is_a_tie_no_judge_is_right_or_wrong():
    """Truths +, 0, -: x is right on the first and wrong on the last, y says tie on the first (one half) and is right on
    the last. Of two items: 0.5 and 0.75. The tie in the middle counts for nobody."""
    calls = [("x", "m", 0, "", 1.0), ("x", "m", 1, "", 0.0), ("x", "m", 2, "", 1.0)]
    calls += [("y", "m", 0, "", 0.5), ("y", "m", 1, "", 0.0), ("y", "m", 2, "", 0.0)]
    found = yardstick(panel(calls, truth={"0": 0.3, "1": 0.0, "2": -0.2}), None, 100, 0)
    assert {name: (each.value, each.items) for name, each in found.standings.items()} == {"x": (0.5, 2), "y": (0.75, 2)}


def test_the_other_judges_count_alike():
    """x says model, y model, z baseline: x is near y (1) and far from z (0), mean 0.5; z is far from both."""
    found = yardstick(panel([("x", "m", 0, "", 1.0), ("y", "m", 0, "", 1.0), ("z", "m", 0, "", 0.0)]), None, 100, 0)
    assert {name: each.value for name, each in found.standings.items()} == {"x": 0.5, "y": 0.5, "z": 0.0}


def test_a_small_difference_that_is_sure_is_a_difference():
    """0.900 against 0.885: 1.5 points, with a standard error of 0.7; 0.890 cannot be told apart. The cheaper judge is
    recommended in the second case alone."""
    judges = {"best": Facts(dollars=9.0), "cheap": Facts(dollars=1.0)}
    assert choose(judges, measured({"best": 0.9, "cheap": 0.885}), None, 1000, {}).judge == "best"
    assert choose(judges, measured({"best": 0.9, "cheap": 0.890}), None, 1000, {}).judge == "cheap"


def test_cheaper_is_said_only_where_both_prices_are_known():
    found = measured({"best": 0.9, "dear": 0.899})
    chosen = choose({"best": Facts(), "dear": Facts(dollars=900.0)}, found, None, 2000, {})
    assert chosen.judge == "best"
    assert "costs less" not in chosen.reason
    chosen = choose({"best": Facts(dollars=0.0), "dear": Facts(dollars=0.0)}, found, None, 2000, {})
    assert chosen.judge == "best"


def test_a_judge_without_enough_verdicts_is_not_recommended():
    """Two per cent may be missing, no more."""
    judges = {"best": Facts(dollars=1.0), "second": Facts(dollars=1.0), "none": Facts()}
    enough = measured({"best": 0.9, "second": 0.8}, coverage={"best": 0.98})
    assert choose(judges, enough, None, 10, {}).judge == "best"
    few = choose(judges, measured({"best": 0.9, "second": 0.8}, coverage={"best": 0.979}), None, 10, {})
    assert few.judge == "second"
    assert "best: 97.9% of the verdicts are there, 98% are needed" in few.reason
    assert "none: no item to hold it against" in few.reason
    nobody = measured({"best": 0.9, "second": 0.8}, coverage={"best": 0.5, "second": 0.5})
    assert choose(judges, nobody, 7.0, 10, {}).reason.startswith(
        "No judge can be recommended for 10 calls within $7. Left out: none: no item"
    )  # fmt: skip


def test_few_verdicts_that_are_all_right_do_not_win():
    """Of 200 items ``tiny`` judged two, both right, and ``silent`` ten, with no verdict on the rest. ``good`` is right
    on 180 of 200."""
    truth = {q: float(q % 2) for q in range(200)}
    calls = [("tiny", "m", q, "", truth[q]) for q in range(2)]
    calls += [("silent", "m", q, "", truth[q] if q < 10 else np.nan) for q in range(200)]
    calls += [("good", "m", q, "", truth[q] if q % 10 else 1 - truth[q]) for q in range(200)]
    found = compare(panel(calls), people(truth), replicates=100)
    assert found.choice.judge == "good"
    assert "90.0% of 200 items" in found.choice.reason
    assert "tiny: 1.0% of the verdicts are there" in found.choice.reason
    assert "silent: 5.0% of the verdicts are there" in found.choice.reason
    assert any(note.startswith("Judges agree with the yardstick on different items (tiny 2, ") for note in found.notes)


def test_unparsed_repeats_count_too():
    """One of two calls on every item: each item has a verdict, and half of the calls has none."""
    calls = [("x", "m", q, "", v) for q in range(40) for v in (1.0, np.nan)]
    calls += [("y", "m", q, "", 1.0) for q in range(40)]
    found = yardstick(panel(calls), people(dict.fromkeys(range(40), 1.0)), 100, 0)
    assert {name: each.coverage for name, each in found.standings.items()} == {"x": 0.5, "y": 1.0}


@pytest.mark.parametrize("humans", [True, False])
def test_judges_are_compared_on_the_same_items(humans):
    """100 questions. x has no verdict on two, on which y is wrong, and is wrong once on the rest: 97 of its 98 against
    98 of 100 of y. On the 98 items of both y is right on all."""
    truth = dict.fromkeys(range(100), 1.0)
    calls = [("x", "m", q, "", np.nan if q < 2 else float(q != 5)) for q in range(100)]
    calls += [("y", "m", q, "", float(q >= 2)) for q in range(100)]
    made = panel(calls, truth={str(q): 1.0 for q in truth})
    found = compare(made, people(truth) if humans else None, replicates=100)
    own = {name: each.value for name, each in found.yardstick.standings.items()}
    assert own == {"x": pytest.approx(97 / 98), "y": pytest.approx(0.98)}
    assert found.choice.judge == "y"
    assert "100.0% of 98 items" in found.choice.reason


def test_replicates_of_judges_stay_paired():
    """y judged one question of three: resamples without it are NaN, not left out, so that b of x is b of y."""
    calls = [("x", "m", q, "", float(q != 1)) for q in range(3)] + [("y", "m", 2, "", 1.0)]
    humans = people(dict.fromkeys(range(3), 1.0))
    _, drawn = human_agreement(humans, panel(calls).of("annotations"), 200, 0)
    assert len(drawn["x"]) == len(drawn["y"]) == 200
    # (2/3)^3 = 30% of the resamples lack question 2: 60 of 200, standard error 6.5
    assert np.isnan(drawn["y"]).sum() == pytest.approx(60, abs=26)
    assert not np.isnan(drawn["x"]).any()


def test_why_there_is_no_recommendation():
    alone = compare(panel([("x", "m", q, "", 1.0) for q in range(3)]), replicates=100)
    assert alone.choice.reason == "No recommendation: one judge, and neither humans nor the truth to compare it with."
    apart = compare(panel([("x", "m", 0, "", 1.0), ("y", "m", 1, "", 1.0)]), replicates=100)
    assert "no two judges gave a verdict on the same item" in apart.choice.reason
    silent = compare(panel([(judge, "m", 0, "", np.nan) for judge in "xy"]), replicates=100)
    assert silent.choice.reason == "No recommendation: no judge gave a verdict."
    asked = compare(panel([("x", "m", 0, "", 1.0)]), people({0: 1.0}, count=1), replicates=100)
    assert "on an answer that two people or more annotated" in asked.choice.reason
    grades = replace(panel([(judge, "m", 0, "", 7.0) for judge in "xy"]), paired={"annotations": False})
    assert "gave grades" in compare(grades, replicates=100).choice.reason


def test_one_pass_is_what_the_benchmark_asks():
    """Two repeats of three items: one pass is three calls; 5 where the benchmark itself is known to make 5."""
    made = panel([("x", "m", q, "", 1.0) for q in range(3) for _ in range(2)])
    assert pass_calls(made) == 3
    assert pass_calls(replace(made, passes={"annotations": 5})) == 5
    assert compare(made, replicates=100).calls == 3


def test_judges_that_are_the_teacher_are_warned_of():
    """By family, and by name where the name has no family."""
    calls = [(judge, "m", q, "", 1.0) for q in range(3) for judge in ("g", "t", "other")]
    facts = {"g": Facts("google/gemma-3-27b", "gemma"), "t": Facts("/models/pocket:teacher"), "other": Facts("pocket")}
    made = replace(panel(calls), judges=facts, teacher="pocket:teacher")
    notes = compare(made, teacher="gemma", replicates=100).notes
    warned = [note for note in notes if "preference leakage" in note]
    assert [note.partition(":")[0] for note in warned] == [
        "g is of the teacher's family (gemma)", "t is the run's teacher itself",
    ]  # fmt: skip
    assert not any("leakage" in note for note in compare(panel(calls), replicates=100).notes)


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2-xl", "gpt-2-medium", "EleutherAI/gpt-neo-1.3B"])
def test_gpt2_is_no_gpt(name):
    assert family_of(name) != "gpt"


def test_tables_hold_what_they_say():
    """x and y agree on 36 of 40 (kappa and AC1 differ, 5 to 1); y has no verdict on 2 of 42 calls: 4.8%."""
    calls = [("x", "m", q, "", float(q >= 6)) for q in range(42)]
    calls += [("y", "m", q, "", float(q >= 2) if q < 40 else np.nan) for q in range(42)]
    found = compare(panel(calls), replicates=100)
    (pair,) = found.benchmarks[0].agreements
    assert pair.kappa != pytest.approx(pair.ac1, abs=0.05)
    lines = [line.split(",") for line in tidy_csv(found).splitlines()]
    values = {line[4]: float(line[5]) for line in lines if line[2:4] == ["x", "y"] and line[4] in ("kappa", "ac1")}
    assert values == {"kappa": pytest.approx(pair.kappa), "ac1": pytest.approx(pair.ac1)}
    summary = {row[0]: row[3] for row in grids(found)[0].rows}
    assert summary == {"x": "0.0%", "y": "4.8%"}


def test_the_heat_map_is_coloured_by_kappa(monkeypatch):
    calls = [("x", "m", q, "", float(q >= 6)) for q in range(40)] + [
        ("y", "m", q, "", float(q >= 2)) for q in range(40)
    ]
    found = compare(panel(calls), replicates=100)
    shown = []
    draw = matplotlib.axes.Axes.imshow
    monkeypatch.setattr(
        matplotlib.axes.Axes, "imshow", lambda self, grid, **more: (shown.append(grid), draw(self, grid, **more))[1]
    )
    heat_map(found, ("svg",))
    (pair,) = found.benchmarks[0].agreements
    assert shown[0] == pytest.approx(np.array([[np.nan, pair.kappa], [pair.kappa, np.nan]]), nan_ok=True)
    assert pair.kappa != pytest.approx(pair.agreement, abs=0.05)


def test_stars_mark_what_is_significant():
    """A judge that takes the first answer nine times of ten, and one that does not care."""
    rng = np.random.default_rng(0)
    made = panel([(judge, "m", q, "", 0.5) for judge in ("first", "fair") for q in range(60) for _ in range(2)])
    calls = made.calls.assign(model_first=made.calls["repeat"].astype(float), part="p", repeat=0)
    won = rng.random(len(calls)) < np.where(calls["judge"] == "first", 0.1 + 0.8 * calls["model_first"], 0.5)
    found = compare(replace(made, calls=calls.assign(verdict=won.astype(float))), replicates=100)
    table = next(grid for grid in grids(found) if grid.name.startswith("bias"))
    place = table.header.index("position")
    shown = {row[0]: row[place] for row in table.rows}
    assert "*" in shown["first"]
    assert "*" not in shown["fair"]
