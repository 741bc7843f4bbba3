"""Which rows ``--methods`` makes, and how a plan with rounds, tuned teachers and stores is shown. In this process."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from distilbench.cli.plan import cost_line, show_plan, show_stages
from distilbench.workflows.execute import describe
from distilbench.workflows.plan import WorkPlan, pilot_doubts, plan
from harness.contracts.stage import Cost
from harness.errors import UserError
from harness.stages import STAGES
from tests.reports.world import make

PAPERS = ("teacher", "student", "kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd")
TWO = "methods.pad-ppd-2x4={like: pad-ppd, rounds: 2}"


def job(place: Path, methods: str | None, *changes: str) -> WorkPlan:
    chosen = methods.split(",") if methods else []
    return plan("table1", "pocket", set=["seeds=[0]", *changes], methods=chosen, runs=place)


def test_optional_rows_wait_to_be_named(tmp_path: Path) -> None:
    """The default rows of pocket are the paper's ten; DCKD, ADPA and ADPA+ come with ``all``, or by name."""
    assert job(tmp_path, None).first.rows == PAPERS
    every = job(tmp_path, "all").first.rows
    assert every[:10] == PAPERS and {"dckd", "adpa", "adpa+"} <= set(every)
    assert job(tmp_path, "adpa+,dpo").first.rows == ("teacher", "student", "adpa+", "dpo")
    assert job(tmp_path, "pad-ppd-2x4", TWO).first.rows == ("teacher", "student", "pad-ppd-2x4")
    assert job(tmp_path, None, TWO).first.rows == (*PAPERS, "pad-ppd-2x4")


def test_limits_and_what_they_cannot_give_are_in_the_plan(tmp_path: Path) -> None:
    """200 questions of pocket's AlpacaEval; LC needs 100. ``--limit`` leaves a smaller one of the recipe as it is."""

    def texts(limit: int | None, *changes: str) -> tuple[dict[str, int], list[str]]:
        work = plan("table1", methods=["dpo"], runs=tmp_path, limit=limit, set=list(changes))
        counts = {name: len(entry.questions) for name, entry in work.first.graph.benchmarks.items()}
        found = [finding.text for finding in work.findings if not finding.problem]
        return counts, [text for text in found if "question" in text and "overlap" not in text]

    counts, notes = texts(20, "benchmarks.gsm8k.limit=8")
    assert counts == {"alpaca_eval": 20, "arena_hard": 20, "mt_bench": 20, "gsm8k": 8}
    assert notes == ["alpaca_eval, 20 questions: LC will be n/a: it needs 100 scored questions"]
    counts, notes = texts(None, "benchmarks.alpaca_eval.limit=2000")
    assert counts["alpaca_eval"] == 200
    assert notes == ["benchmarks.alpaca_eval.limit = 2,000, and there are 200 questions"]


def test_a_forgotten_plugin_is_thought_of(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the recipe has no slic\. .*--plugin my_file\.py"):
        job(tmp_path, "slic")


def test_a_mistyped_row_is_guessed(tmp_path: Path) -> None:
    """In ``--methods``, several at once, and in ``start``."""
    wrong = (
        "the recipe has no pda-ppd, simop. Did you mean 'pad-ppd' for 'pda-ppd'? Did you mean 'simpo' for 'simop'? It"
    )
    with pytest.raises(UserError, match=re.escape(wrong)):
        job(tmp_path, "pda-ppd,dpo,simop")
    with pytest.raises(UserError, match=r"methods\.dpo\.start = 'simop': .*Did you mean 'simpo'\?"):
        job(tmp_path, "dpo", "methods.dpo.start=simop")


def test_a_plan_shows_the_kinds_of_a_chain_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = job(tmp_path, "adpa+,pool", "methods.pool={method: dpo, rounds: 2, resample: false}")
    show_stages(work)
    show_plan(work)
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("stage "))
    heads = [line.split()[0] for line in lines[start:] if line.split()]
    assert [head for head in heads if head in STAGES] == list(STAGES)
    shown = next(line for line in lines if "sample dckd" in line)
    assert shown.endswith("sample dckd n=1 seed 0  <- prompts; train dckd seed 0")


def test_a_plan_says_what_each_column_will_detect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GSM8K: a spread of 55 over 150 problems is an error of 4.49, which finds 2.80 times that. MT-Bench as stated."""
    work = job(tmp_path, "dpo,kd", "benchmarks.mt_bench.limit=40")
    power = work.power(spreads=["mt_bench.score=2/0.1"])
    columns = {column.metric.id: column for column in power["table1"]}
    assert list(columns) == ["alpaca_eval.lc", "alpaca_eval.wr", "arena_hard.wr", "mt_bench.score", "gsm8k.acc"]
    assert columns["gsm8k.acc"].change == pytest.approx(2.801585 * 55 / 150**0.5)
    assert columns["mt_bench.score"].change == pytest.approx(2.801585 * 2 / 40**0.5)
    show_plan(work, power=power)
    text = capsys.readouterr().out
    assert "smallest change from student" in text and "12.58" in text and "stated: 2 per question, 0.1 per seed" in text
    assert "another seed may differ by more" in text and "35 per question, from pocket alone" in text
    for wrong, words in (("gsm.acc=3", "Did you mean 'gsm8k.acc'"), ("gsm8k.acc=x", "write METRIC=SD")):
        with pytest.raises(UserError, match=words):
            work.power(spreads=[wrong])
    with pytest.raises(UserError, match="there is no run"):
        work.power(tmp_path / "none")


def test_a_plan_says_what_a_change_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MT-Bench as stated: an SD of 2 finds 0.5 with (2 * 2.8016 / 0.5)^2 = 125.6 questions: 126. LC has 40 of the 100
    questions that it needs, and the five columns but one know nothing of seeds."""
    work = job(tmp_path, "dpo,kd", "benchmarks.alpaca_eval.limit=40", "benchmarks.mt_bench.limit=20", "seeds=[0,1,2]")
    power = work.power(spreads=["gsm8k.acc=50/0.5", "mt_bench.score=2"], detect=["3", "mt_bench.score=0.5"])
    columns = {column.metric.id: column for column in power["table1"]}
    assert (columns["mt_bench.score"].wanted, columns["mt_bench.score"].questions_needed) == (0.5, 126)
    assert columns["alpaca_eval.lc"].too_few == 100 and columns["alpaca_eval.lc"].change is None
    assert columns["alpaca_eval.lc"].seeds_needed is None and columns["alpaca_eval.lc"].questions_needed >= 100
    assert columns["mt_bench.score"].too_few == 30 and columns["alpaca_eval.wr"].too_few == 0
    show_plan(work, power=power)
    text = " ".join(capsys.readouterr().out.split())
    assert "to detect a change: seeds at the plan's questions, questions at its 3 seeds" in text
    assert "n/a: too few questions (alpaca_eval.lc needs 100, mt_bench.score needs 30)" in text
    lacking = "alpaca_eval.lc, alpaca_eval.wr, arena_hard.wr, mt_bench.score"
    assert f"{lacking}: without the variance of training seeds" in text
    trained = {column.metric.id: column for column in work.power(spreads=["gsm8k.acc=50/0.5"], against="kd")["table1"]}
    assert trained["gsm8k.acc"].change > columns["gsm8k.acc"].change  # the seeds of KD vary too
    for wrong in ("gsm8k.acc=-1", "x", "nan"):
        with pytest.raises(UserError, match="write a change above 0"):
            work.power(detect=[wrong])
    with pytest.raises(UserError, match=r"Did you mean 'gsm8k.acc'"):
        work.power(detect=["gsm8k.ac=3"])
    with pytest.raises(UserError, match="row in --against"):
        work.power(against="dpoo")


def test_a_plan_refuses_a_change_that_none_of_its_tables_tests(tmp_path: Path) -> None:
    """Table 3 has no column of plain win rates on AlpacaEval, and Table 4 no scores."""
    work = plan("table3", methods=["dpo"], runs=tmp_path, set=["seeds=[0]"])
    words = r"table3 will test no change of alpaca_eval\.wr: choose of alpaca_eval\.lc, arena_hard\.wr\."
    for option in ({"detect": ["3", "alpaca_eval.wr=3"]}, {"spreads": ["alpaca_eval.wr=40"]}):
        with pytest.raises(UserError, match=words):
            work.power(**option)
    with pytest.raises(UserError, match="table4 will test no change: no trained row is judged beside that row"):
        plan("table4", methods=["dpo"], runs=tmp_path).power(detect=["3"])


def test_what_is_doubtful_about_a_pilot_is_said() -> None:
    run = replace(make(seeds=(0, 1)).run, recipe={"prompts": {"n": 16}})
    assert list(pilot_doubts(run, 100)) == [
        "variance of seeds from 2 seeds: hardly known",
        "the pilot trained on 16 prompts, this plan on 100: variances may differ",
    ]
    assert not list(pilot_doubts(replace(run, seeds=(0, 1, 2)), 16))


def test_rows_that_are_the_same_training_are_one_entrant_of_a_score(tmp_path: Path) -> None:
    work = plan(methods=["dpo", "twin"], set=["methods.twin={like: dpo}", "seeds=[0, 1]"], runs=tmp_path)
    entrants = {stage.key: stage.params["entrants"] for stage in work.first.scores}
    assert all(len(set(names)) == len(names) for names in entrants.values())
    cells = {(cell.row, cell.metric, cell.seed): cell for cell in describe(work.first, work.store).cells}
    assert all(cell.entrant in entrants[cell.score] for cell in cells.values())
    assert cells["twin", "gsm8k.acc", 1].entrant == "dpo/1"


def test_a_plan_says_how_few_the_optimiser_steps_are(tmp_path: Path) -> None:
    """33 prompts in batches of 32 are 2 steps an epoch; 2 epochs of 320 prompts are 20."""

    def told(*changes: str) -> list[str]:
        work = job(tmp_path, "dpo", "seeds=[0, 1]", *changes)
        return [one.text for one in work.findings if "optimiser step" in one.text]

    remedy = "; more prompts or epochs, or a smaller train.batch_size, make more"
    own = [f"methods.dpo.train.{name}" for name in ("warmup_ratio=0.1", "epochs=1", "batch_size=32")]
    assert told("prompts.n=33", *own) == [f"dpo: 2 optimiser steps, the first at rate 0 (warm-up){remedy}"]
    assert told("prompts.n=33", *own, "methods.dpo.train.warmup_ratio=0") == [f"dpo: 2 optimiser steps{remedy}"]
    assert told("prompts.n=32", *own) == [f"dpo: 1 optimiser step at rate 0 (warm-up): nothing is learnt{remedy}"]
    assert told("prompts.n=320", *own, "methods.dpo.train.epochs=2") == []


def test_stored_replies_lower_a_cost() -> None:
    """15 of 20 calls are there: a quarter is to be paid. An unknown price of nothing is nothing."""
    cost = Cost(responses=7, judge_calls=20, judge_tokens=1000, judge_written=100, dollars=2.0)
    assert cost.without(15) == Cost(responses=7, judge_calls=5, judge_tokens=250, judge_written=25, dollars=0.5)
    assert cost.without(0) == cost
    unknown = Cost(judge_calls=20, dollars=None)
    assert (unknown.without(19).dollars, unknown.without(20).dollars) == (None, 0.0)


def test_small_numbers_are_not_printed_as_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pocket on a large GPU is far less than 0.05 GPU-hours, and its training far less than half a GiB."""
    show_plan(job(tmp_path, "dpo", "compute.gpu=H200", "prompts.n=64"))
    text = capsys.readouterr().out
    assert "GPU-hours" not in text and "memory: about" not in text and " 0.0 M" not in text
    cost = Cost(responses=3, tokens=1234, judge_calls=2, judge_tokens=2_345_678)
    assert cost_line(cost, 4) == (
        "3 responses, 1,234 model tokens, 2 judge calls (2.35 M tokens), 4 more are answered from the ledger, "
        "judge cost $0.00"
    )
