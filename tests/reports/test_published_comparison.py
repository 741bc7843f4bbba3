"""Published values beside ours: each verdict by hand, and each reason not to compare."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection
from dataclasses import replace

import pytest

from distilbench.plugins import load_registry
from harness.contracts.benchmark import Metric
from harness.recipe.recipe import load_recipe
from harness.types import Score
from reports.formats.data import to_csv, to_json
from reports.tables.published import (
    AGREES,
    DIFFERS,
    INCONCLUSIVE,
    MODELS,
    NOT_COMPARABLE,
    SAMPLED,
    PublishedComparison,
    compare_with_paper,
    judge_of,
    other_settings,
    published_values,
    same_judge,
    verdict,
)
from reports.tables.summary import summarise
from reports.targets import TARGETS
from results.published import TABLES, published_table
from results.run.record import Cell, RowSpec, Run
from results.run.results import Results
from tests.reports import world
from tests.reports.world import table_of

LC = world.METRICS[0]


@pytest.mark.parametrize(
    ("low", "high", "margin", "expected"),
    [
        (-1.9, 1.9, 2.0, AGREES),  # within -2..2
        (-2.0, 2.0, 2.0, AGREES),  # the margin belongs to it
        (0.3, 1.8, 2.0, AGREES),  # excludes 0 and is within the margin: a difference too small to matter
        (0.3, 2.1, 2.0, DIFFERS),  # excludes 0 and leaves the margin
        (-9.0, -3.0, 2.0, DIFFERS),
        (-0.1, 2.1, 2.0, INCONCLUSIVE),  # holds 0, and more than 2
        (-5.0, 5.0, 2.0, INCONCLUSIVE),
        (-0.1, 0.1, None, INCONCLUSIVE),  # no margin: nothing is narrow enough to agree
        (0.1, 0.2, None, DIFFERS),
        (0.0, 3.0, 2.0, INCONCLUSIVE),  # 0 is held by an end
    ],
)
def test_verdicts(low: float, high: float, margin: float | None, expected: str) -> None:
    assert verdict(low, high, margin) == expected


def test_the_interval_of_the_difference_is_ours_moved_by_the_published_value() -> None:
    """Ours 50.5 [49.0, 52.0], published 49.62: +0.88 [-0.62, 2.38], which holds 0 and leaves 2: inconclusive.

    With [49.5, 51.5]: [-0.12, 1.88] lies within 2: agrees. Ours 60 [58, 62]: +10.38 [8.38, 12.38]: differs.
    """
    paper = PublishedComparison(49.62, "p", "s")
    comparison = compare_with_paper(paper, 50.5, (49.0, 52.0), LC)
    assert (comparison.difference, comparison.low, comparison.high) == pytest.approx((0.88, -0.62, 2.38))
    assert comparison.verdict == INCONCLUSIVE
    assert compare_with_paper(paper, 50.5, (49.5, 51.5), LC).verdict == AGREES
    assert compare_with_paper(paper, 60.0, (58.0, 62.0), LC).verdict == DIFFERS
    assert compare_with_paper(paper, 60.0, (None, None), LC).verdict == INCONCLUSIVE
    points = Metric("mt_bench.score", "Score", "MT-Bench", margin=0.2)
    assert (
        compare_with_paper(PublishedComparison(7.02, "p", "s"), 7.1, (6.9, 7.3), points).verdict == INCONCLUSIVE
    )  # +0.08 [-0.12, 0.28]


def reasons_of(run: Run, row: str = "pad-ppd", metric: str = "alpaca_eval.lc") -> str:
    return "; ".join(published_values(run, "table1", run.columns)[row, metric].reasons)


def test_each_reason_is_found() -> None:
    run = world.paper().run
    assert reasons_of(run) == ""
    other_student = replace(run, family=replace(run.family, student="google/gemma-2-9b-it"))
    assert reasons_of(other_student) == "another student (google/gemma-2-9b-it, the paper's is gemma-2-2b-it)"
    other_judge = replace(run, judges={**run.judges, "alpaca_eval": "gpt-4-turbo"})
    assert reasons_of(other_judge) == "another judge (gpt-4-turbo, the paper's is Llama-3.1-70B-Instruct)"
    assert reasons_of(other_judge, metric="mt_bench.score") == ""
    pocket = replace(run, cards=world.CARDS)
    assert reasons_of(pocket) == "other questions"
    fewer = replace(run, recipe={"prompts": {"source": "ultrafeedback", "n": 512}})
    assert reasons_of(fewer) == "trained on 512 prompts, the paper on about 60,000"
    assert reasons_of(fewer, row="teacher") == ""  # nobody trained it
    other_run = replace(run, recipe={"prompts": {"source": "gsm8k-train"}, "reward": {"shuffle": True}})
    assert (
        reasons_of(other_run) == "other training prompts (gsm8k-train); a control: rewards shuffled among the responses"
    )
    cards = tuple(
        replace(card, deviations=("Not official: head-to-head against the answers of dpo.",)) for card in run.cards
    )
    assert reasons_of(replace(run, cards=cards)) == "another baseline"
    paper = PublishedComparison(49.62, "p", "s")
    assert compare_with_paper(paper, 50.0, (49.0, 51.0), LC, notes=("LC reconstructed, +-0.2",)).reasons == (
        "reconstructed LC",
    )
    assert compare_with_paper(paper, 50.0, (49.0, 51.0), LC, notes=("LC (official)", "1 of 2 seeds")).reasons == ()


@pytest.mark.parametrize(
    ("benchmark", "metric", "options", "reason"),
    [
        ("arena_hard", "arena_hard.wr", {"style_control": True}, "style-controlled, the paper's is the plain win rate"),
        ("arena_hard", "arena_hard.wr", {"scorer": "2025-06"}, "scorer 2025-06, the paper's is v0.1"),
        ("arena_hard", "arena_hard.wr", {"limit": 20}, "only 20 questions"),
        ("alpaca_eval", "alpaca_eval.lc", {"limit": 1}, "only 1 question"),
        ("gsm8k", "gsm8k.acc", {"limit": 1000}, "only 1,000 questions"),
        ("gsm8k", "gsm8k.acc", {"limit": 1319}, ""),  # all of them: the paper says "approximately 1,300"
        ("alpaca_eval", "alpaca_eval.wr", {"limit": 805}, ""),
        ("arena_hard", "arena_hard.wr", {"limit": None, "style_control": False, "scorer": "v0.1"}, ""),
    ],
)
def test_another_protocol_is_not_comparable(
    benchmark: str, metric: str, options: dict[str, object], reason: str
) -> None:
    run = world.paper().run
    cards = tuple(
        replace(card, parameters={**card.parameters, **options}) if card.benchmark == benchmark else card
        for card in run.cards
    )
    assert reasons_of(replace(run, cards=cards), metric=metric) == reason


def test_few_questions_are_inconclusive_whatever_their_interval() -> None:
    """One question has no width: 50 [50, 50] against 49.62 would agree, and 90 [90, 90] would differ."""
    paper = PublishedComparison(49.62, "p", "s")
    for value in (50.0, 90.0):
        result = compare_with_paper(paper, value, (value, value), LC, 1)
        assert (result.verdict, result.doubts) == (INCONCLUSIVE, ("only 1 question: too few for a verdict",))
    assert compare_with_paper(paper, 50.0, (50.0, 50.0), LC, 29).verdict == INCONCLUSIVE
    assert compare_with_paper(paper, 50.0, (50.0, 50.0), LC, 30).verdict == AGREES
    assert compare_with_paper(paper, 50.0, (None, None), LC, 30).doubts == ("no interval",)
    results = world.paper()
    for seed in results.run.seeds:
        place = ("pad-ppd", "gsm8k.acc", seed)
        results = world.with_score(results, place, value=59.3, replicates=(59.3,) * 400, n=3)
    summary = summarise(results, TARGETS["table1"])
    cell = summary.cells["pad-ppd", "gsm8k.acc"]
    assert cell.paper is not None and cell.paper.verdict == INCONCLUSIVE
    assert "against the paper: only 3 questions: too few for a verdict" in dict(table_of(results).footnotes).values()


def test_a_row_trained_otherwise_never_agrees() -> None:
    """50 [49.5, 50.5] lies within 2 of 49.62, and 60 [58, 62] differs from it, however it was trained."""
    paper = PublishedComparison(49.62, "p", "s", doubts=("trained with other settings: alpha 0 (the paper: 0.8)",))
    assert compare_with_paper(paper, 50.0, (49.5, 50.5), LC).verdict == INCONCLUSIVE
    assert compare_with_paper(paper, 60.0, (58.0, 62.0), LC).verdict == DIFFERS
    results = world.paper()
    recipe = {**results.run.recipe, "methods": {"pad-ppd": {"alpha": 0.0}, "kd": {}}, "train": {"epochs": 5}}
    results = replace(results, run=replace(results.run, recipe=recipe))
    table = table_of(results)
    footnotes = dict(table.footnotes).values()
    doubt = "trained with other settings: epochs 5 (the paper: 1), alpha 0 (the paper: 0.8)"
    assert f"against the paper: {doubt}" in footnotes
    assert "against the paper: trained with other settings: epochs 5 (the paper: 1)" in footnotes
    table_json = json.loads(to_json(table))
    cells = {row["id"]: row["cells"]["gsm8k.acc"] for row in table_json["rows"]}
    assert cells["pad-ppd"]["doubts"] == [doubt]
    assert (cells["teacher"]["doubts"], cells["dpo"]["doubts"]) == ([], [])  # not trained; not in this recipe
    (line,) = (
        line for line in csv.DictReader(io.StringIO(to_csv(table)))
        if (line["row"], line["metric"]) == ("pad-ppd", "gsm8k.acc")
    )  # fmt: skip
    assert doubt in line["note"] and line["verdict"] != AGREES


def test_settings_are_compared_where_the_paper_states_them() -> None:
    """A learning rate is stated for PAD only, sampling for what learns from the student's responses."""
    recipe = {
        "train": {"epochs": 1, "batch_size": 128, "warmup_ratio": 0.05, "learning_rate": 1e-6, "lora": None},
        "sampling": {"n": 2, "temperature": 0.8},
        "methods": {
            "kd": {"train": {"learning_rate": 1e-5, "lora": {"rank": 8}}},
            "dpo": {"beta": 0.01, "rounds": 2},
            "mine": {"method": "pad-ppd", "alpha": 0.8, "beta": 5.0, "train": {"warmup_ratio": 0.1}},
        },
    }
    warm = "warm-up ratio 0.05 (the paper: 0.1)"
    assert other_settings(recipe, "kd", "kd", "gemma2") == [warm, "adapters (the paper: all weights)"]
    few = "responses per prompt 2 (the paper: 4)"
    assert other_settings(recipe, "dpo", "dpo", "gemma2") == [warm, few, "rounds 2 (the paper: 1)"]
    rate = "learning rate 1e-06 (the paper: 8e-07)"
    assert other_settings(recipe, "mine", "pad-ppd", "gemma2") == ["beta 5 (the paper: 10)", rate, few]
    assert other_settings(recipe, "mine", "pad-ppd", "llama3") == ["beta 5 (the paper: 10)", few]
    assert other_settings(recipe, "mine", "pad-ppd-2x2", "llama3") == ["beta 5 (the paper: 10)"]
    assert other_settings(recipe, "pro", "pro", "gemma2") == []


@pytest.mark.parametrize(
    ("name", "target", "rows"),
    [
        ("gemma2", "table1", ()), ("gemma2", "table2", ()), ("llama3", "table1", ()),
        ("gemma2", "table3", ()), ("gemma2", "table6", ()), ("gemma2-as-released", "table1", SAMPLED),
    ],
)  # fmt: skip
def test_the_papers_recipes_train_as_it_says(name: str, target: str, rows: Collection[str]) -> None:
    """The released code samples at temperature 1.0, where the paper says 0.8."""
    recipe = load_recipe(name, (), load_registry(), TARGETS[target]).to_tree()
    differences = {row: other_settings(recipe, row, row, recipe["family"]["name"]) for row in recipe["methods"]}
    assert {row for row, reason in differences.items() if reason} == set(rows)


def test_rows_of_other_names_find_the_numbers_of_table_2() -> None:
    recipe = {"sampling": {"n": 4}, "methods": {"pad-vpd": {"method": "pad-ppd", "rounds": 2}, "pad-ppd": {}}}
    run = replace(world.paper().run, recipe={**world.paper().run.recipe, **recipe})
    result = published_values(run, "table2", run.columns)
    numbers = {
        row: published_value.value for (row, metric), published_value in result.items() if metric == "alpaca_eval.lc"
    }
    assert numbers == {"pad-vpd": 51.42, "pad-ppd": 49.42}


@pytest.mark.parametrize(("unit", "value"), [("h", 27.98), ("s", 27.98 * 3600)])
def test_the_papers_gpu_hours_stand_beside_our_time_and_are_not_compared(unit: str, value: float) -> None:
    """27.98 h are 100,728 s; the table prints them as the paper has them, in any unit of ours."""
    specs = (RowSpec("pad-ppd-2x4", "PAD w/ PPD 2/4"),)
    time = Metric("cost.time", "Time", "Training", unit, digits=2, measured=True)
    base = world.paper().run
    cells = (Cell("pad-ppd-2x4", "cost.time", 0, score="measured"),)
    run = replace(base, rows=specs, columns=(time,), cells=cells, seeds=(0,))
    scores = {("pad-ppd-2x4", "cost.time", 0): Score("cost.time", 9.5, None, None, n=0, unscored=0)}
    results = Results(run, scores)
    paper = summarise(results, TARGETS["table2"]).cells["pad-ppd-2x4", "cost.time"].paper
    assert paper is not None and paper.value == pytest.approx(value)
    assert (paper.difference, paper.verdict) == (None, NOT_COMPARABLE)
    table = table_of(results, target="table2")
    assert table.rows[0].cells[1].lines == ("paper 27.98 h (A800)", "not comparable")
    notes = " ".join(text for _, text in table.footnotes)
    assert "not comparable with the paper: another machine" in notes
    assert '"shortens the time by 12%"' in notes and "11.2% less" in notes


def test_every_published_judge_and_family_is_understood() -> None:
    judges = {
        judge_of(number.protocol)
        for table in ("table1", "table3", "table6")
        for number in published_table(table).values()
    }
    assert judges == {"Llama-3.1-70B-Instruct", "GPT-4 Turbo", None}
    families = {family for table in TABLES for family, _, _ in published_table(table)} - {"any"}
    assert families == set(MODELS)
    assert same_judge("meta-llama/Meta-Llama-3.1-70B-Instruct", "Llama-3.1-70B-Instruct")
    assert same_judge("gpt-4-1106-preview", "GPT-4 Turbo")
    assert not same_judge("gpt-4", "GPT-4 Turbo")
    assert not same_judge("Llama-3.1-8B-Instruct", "Llama-3.1-70B-Instruct")
