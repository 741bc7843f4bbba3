"""Two runs side by side: which cells differ, by how much, and how they were paired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.contracts.benchmark import Card, Metric
from harness.contracts.stage import Ref
from harness.types import Score
from reports.tables.runs_compared import (
    NO_TEST,
    NOT_PAIRED,
    SAME,
    SAME_JUDGMENTS,
    change_table,
    compare_runs,
    headline_of_change,
    setting_table,
)
from reports.targets import TARGETS
from results.run.lineage import ScoreSource
from results.run.record import Cell, RowSpec, Run, RunFamily
from results.run.results import Results

METRIC = Metric("gsm8k.acc", "Acc.", "GSM8K")
TABLE1 = TARGETS["table1"]
BASE = np.linspace(35, 45, 205)
APART = np.tile([5.0, 5.5, 6.0, 6.5, 7.0], 41)


def run_of(
    rows: dict[str, tuple[float, object]],
    name: str,
    questions: str = "q",
    shares: dict[str, dict[str, float]] | None = None,
    n: int = 100,
) -> Results:
    """One seed of one metric: value and replicates of each row; ``shares``: of each row by question."""
    specs = tuple(RowSpec(row, row.upper(), row == "student") for row in rows)
    cells = tuple(Cell(row, METRIC.id, 0, "k", "e") for row in rows)
    run = Run(name, {}, "", True, RunFamily("pocket", "t", "s"), specs, (METRIC,), (0,), cells)
    scores = {
        (row, METRIC.id, 0): Score(
            METRIC.id, value, value - 4, value + 4, n, 0, per_question=(shares or {}).get(row, {}),
            replicates=tuple(float(one) for one in np.asarray(draws)),
        )
        for row, (value, draws) in rows.items()
    }  # fmt: skip
    sources = {
        (row, METRIC.id, 0): ScoreSource(
            Ref("score", "0" * 32), f"{row}/0", "gsm8k", Ref("answer", f"{name}-{row}"), Ref("judge", f"{name}-{row}"),
            None, None, "", questions,
        )
        for row in rows
    }  # fmt: skip
    return Results(run, scores, sources=sources)


def test_the_same_questions_are_paired_by_their_resamples() -> None:
    """dpo 40 -> 46, paired replicates 5.0, 5.5 ... 7.0: change 6 [5, 7], p = 2 (0 + 1) / (205 + 1); Holm over two rows
    doubles it. kd's replicates differ by -1, 0 and 1: p = 1."""
    first = run_of({"kd": (40, BASE), "dpo": (40, BASE)}, "a")
    other = run_of({"kd": (40.2, BASE + np.resize([-1.0, 0.0, 1.0], 205)), "dpo": (46, BASE + APART)}, "b")
    compared = compare_runs(("a", "b"), first, other, TABLE1)
    change = compared.changes["dpo", "gsm8k.acc"].change
    assert (change.delta, change.low, change.high) == pytest.approx((6, 5, 7))
    assert (change.p, change.p_holm) == pytest.approx((2 / 206, 4 / 206)) and change.significant
    assert not compared.changes["kd", "gsm8k.acc"].change.significant
    assert headline_of_change(compared) == (
        "b against a: 1 of 2 cells differs significantly, 1 up and 0 down.",
        "The clearest change: DPO on GSM8K, +6.0 points.",
    )
    cell = change_table(compared, "/runs/b/report").rows[1].cells[1]
    assert (cell.text, cell.sign, cell.lines) == ("+6.0", "*", ("[+5.0, +7.0]", "40.00 → 46.00"))
    assert cell.link.startswith("/runs/b/report#benchmark=GSM8K&a=DPO")
    assert cell.tips == ("a: 40.00, b: 46.00", "p = 0.019 after Holm: significant (*)")


def test_other_questions_are_paired_by_their_ids() -> None:
    """40 of 60 questions are in both runs, and each is worth 10 more in the second: the values differ by more, because
    the second run's other questions are worth nothing."""
    shares = {f"q{number}": float(number) for number in range(60)}
    later = {f"q{number}": number + 10.0 for number in range(20, 60)} | {f"x{number}": 0.0 for number in range(20)}
    first = run_of({"dpo": (29.5, BASE)}, "a", "one", {"dpo": shares}, n=60)
    other = run_of({"dpo": (33.0, BASE)}, "b", "two", {"dpo": later}, n=60)
    one = compare_runs(("a", "b"), first, other, TABLE1).changes["dpo", "gsm8k.acc"]
    assert one.change.delta == pytest.approx(10) and one.change.significant  # every resample differs by just 10
    assert one.note.startswith("paired on the 40 questions with the same id")
    # of the shared questions: the mean of 20, 21, ..., 59, and 10 more
    assert one.values == pytest.approx((39.5, 49.5))


def test_without_a_shared_question_the_intervals_are_all_there_is() -> None:
    """Both intervals reach 4 either side: a standard error of 4 / 1.96 = 2.04 each, 2.886 for the difference of 10;
    z = 3.465, p = 0.00053."""
    first = run_of({"dpo": (40, BASE)}, "a", "one", {"dpo": {f"q{n}": 1.0 for n in range(50)}})
    other = run_of({"dpo": (50, BASE)}, "b", "two", {"dpo": {f"x{n}": 1.0 for n in range(50)}})
    one = compare_runs(("a", "b"), first, other, TABLE1).changes["dpo", "gsm8k.acc"]
    assert one.note == NOT_PAIRED
    assert (one.change.low, one.change.high) == pytest.approx((10 - 5.657, 10 + 5.657), abs=1e-3)
    assert one.change.p == pytest.approx(0.00053, abs=1e-5)


def test_few_questions_are_not_tested_and_the_same_artifacts_are_said() -> None:
    first = run_of({"dpo": (40, BASE)}, "a", n=20)
    other = run_of({"dpo": (46, BASE + APART)}, "b", n=20)
    compared = compare_runs(("a", "b"), first, other, TABLE1)
    assert compared.changes["dpo", "gsm8k.acc"].note == NO_TEST
    assert headline_of_change(compared) == ("b against a: no cell could be tested.",)
    compared = compare_runs(("a", "a again"), first, first, TABLE1)
    assert compared.changes["dpo", "gsm8k.acc"].note == SAME
    assert headline_of_change(compared) == ("a again against a: all cells are the same artifacts.",)


def test_no_cell_differs_and_rows_of_one_run_are_named() -> None:
    first = run_of({"dpo": (40, BASE), "kd": (40, BASE)}, "a")
    other = run_of({"dpo": (40.5, BASE + np.resize([-1.0, 0.0, 1.0], 205)), "pro": (40, BASE)}, "b")
    compared = compare_runs(("a", "b"), first, other, TABLE1)
    assert compared.remarks == ("Only in a: KD.", "Only in b: PRO.")
    assert headline_of_change(compared)[0] == "b against a: none of 1 cell differs significantly."
    assert [row.cells[0].text for row in change_table(compared).rows] == ["DPO"]
    missing = replace(other, scores={}, missing_scores=dict.fromkeys(other.scores, "failed"))
    compared = compare_runs(("a", "b"), first, missing, TABLE1)
    assert (compared.changes, compared.missing) == ({}, {("dpo", "gsm8k.acc"): "b: failed"})
    assert headline_of_change(compared) == ("b against a: no cell has a value in both.",)


def test_what_a_table_refuses_is_not_compared() -> None:
    """90 of 100 questions have a verdict: below the 98% of the default, not below the 80% that a recipe may ask for."""
    first, other = run_of({"dpo": (40, BASE)}, "a"), run_of({"dpo": (46, BASE + APART)}, "b", n=90)
    score = replace(other.scores["dpo", METRIC.id, 0], unscored=10)
    other = replace(other, scores={("dpo", METRIC.id, 0): score})
    compared = compare_runs(("a", "b"), first, other, TABLE1)
    assert (compared.changes, compared.missing) == ({}, {("dpo", METRIC.id): "b: refused, too few verdicts"})
    table = change_table(compared)  # a column that nothing can be said of is there all the same, with the reason
    assert [cell.text for row in table.rows for cell in row.cells] == ["DPO", "n/a"]
    assert table.footnotes == (("a", "b: refused, too few verdicts"),)
    other = replace(other, run=replace(other.run, recipe={"statistics": {"min_coverage": 0.8}}))
    assert ("dpo", METRIC.id) in compare_runs(("a", "b"), first, other, TABLE1).changes


def test_columns_of_different_scales_are_not_compared() -> None:
    """An own benchmark's grades, 1-5 in one run and 1-10 in the other: 4 and 8 are no change of 4."""
    first, other = run_of({"dpo": (4, BASE)}, "a"), run_of({"dpo": (8, BASE + APART)}, "b")
    first, other = (
        replace(one, run=replace(one.run, columns=(replace(METRIC, unit=unit),)))
        for one, unit in ((first, "1-5"), (other, "1-10"))
    )
    compared = compare_runs(("a", "b"), first, other, TABLE1)
    assert compared.changes == {}
    assert compared.remarks == ("GSM8K is not compared: its scale is 1-5 in a and 1-10 in b.",)


def test_another_judge_is_named_beside_the_changes() -> None:
    first, other = run_of({"dpo": (40, BASE)}, "a"), run_of({"dpo": (46, BASE + APART)}, "b")
    first, second = (
        replace(one, run=replace(one.run, judges={"gsm8k": judge})) for one, judge in ((first, "x"), (other, "y"))
    )
    compared = compare_runs(("a", "b"), first, second, TABLE1)
    assert compared.remarks == ("GSM8K differs in judge (x / y) (a / b): a change may come from that.",)
    assert compared.remarks[0] in change_table(compared).lines
    settings = {"benchmarks": {"gsm8k": {"judge": "x"}}, "judges": {"x": {"temperature": 1}}}
    warmer = replace(first, run=replace(first.run, recipe=settings))
    (remark,) = compare_runs(("a", "b"), first, warmer, TABLE1).remarks
    assert remark == "GSM8K differs in judge's temperature (not stated / 1) (a / b): a change may come from that."


def test_a_setting_that_one_run_does_not_state_is_at_its_default() -> None:
    """A later version writes ``judge_prompt: null`` where an earlier one wrote nothing: no difference."""

    def told(mine: dict[str, object], theirs: dict[str, object]) -> tuple[str, ...]:
        both = []
        for options, name in ((mine, "a"), (theirs, "b")):
            results = run_of({"dpo": (40, BASE)}, name)
            card = Card("gsm8k", "1", "none", {**options, "questions": "own"})
            recipe = {**results.run.recipe, "benchmarks": {"gsm8k": {**options, "judge": name}}}
            both.append(replace(results, run=replace(results.run, cards=(card,), recipe=recipe)))
        return compare_runs(("a", "b"), both[0], both[1], TABLE1).remarks

    assert told({}, {"judge_prompt": None}) == ()
    line = "GSM8K differs in limit (not stated / 20) (a / b): a change may come from that."
    assert told({"judge_prompt": None}, {"limit": 20}) == (line,)


def test_a_student_of_both_runs_counts_once_in_the_noise_of_seeds() -> None:
    """Three seeds of kd in both runs, the same artifacts, and one of dpo: 3 - 1 = 2 degrees of freedom, not 4."""
    seeds = {0: 39.0, 1: 40.0, 2: 41.0}
    runs = []
    for name in ("a", "b"):
        one = run_of({"kd": (40, BASE), "dpo": (40 if name == "a" else 46, BASE)}, name)
        kd, source = one.scores["kd", METRIC.id, 0], one.sources["kd", METRIC.id, 0]
        made = {
            seed: replace(source, answers=Ref("answer", f"k{seed}"), judgments=Ref("judge", f"k{seed}"))
            for seed in seeds
        }
        runs.append(replace(
            one,
            scores=one.scores | {("kd", METRIC.id, seed): replace(kd, value=value) for seed, value in seeds.items()},
            sources=one.sources | {("kd", METRIC.id, seed): made[seed] for seed in seeds},
        ))  # fmt: skip
    compared = compare_runs(("a", "b"), *runs, TABLE1)
    assert compared.changes["kd", METRIC.id].note == SAME
    # replicates do not vary between the runs: all of the error is the seeds', whose variance 1 counts for either run
    change = compared.changes["dpo", METRIC.id].change
    assert (change.error, change.freedom) == pytest.approx((2**0.5, 2))


def test_the_same_judgments_scored_otherwise_are_said() -> None:
    """Length control fits all rows of a run together: other rows beside it, another value from the same judgments."""
    first = run_of({"dpo": (40, BASE)}, "a")
    other = replace(first, scores={place: replace(score, value=41) for place, score in first.scores.items()})
    assert compare_runs(("a", "b"), first, other, TABLE1).changes["dpo", METRIC.id].note == SAME_JUDGMENTS


def test_the_settings_that_differ() -> None:
    first, other = {"train": {"lr": 1e-5, "epochs": 1}, "seeds": [0]}, {"train": {"lr": 2e-5, "epochs": 1}, "x": "<b>"}
    table = setting_table(("a", "b"), first, other)
    rows = [tuple(cell.text for cell in row.cells) for row in table.rows]
    assert rows == [("train.lr", "1e-05", "2e-05"), ("seeds", "[0]", "–"), ("x", "–", "<b>")]
    assert setting_table(("a", "b"), first, first).lines == ("The recipes are the same.",)
