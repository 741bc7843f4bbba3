"""The files: readable, escaped, deterministic, made without torch."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.contracts.target import Target
from harness.errors import PERMANENT, UserError
from harness.text import clean, escape_formula, percent
from reports.figures.bars import bars
from reports.figures.style import figure_bytes, figure_style
from reports.formats.data import to_csv, to_json
from reports.formats.latex import escape_latex, latex
from reports.formats.markdown import escape_markdown, markdown, superscript
from reports.formats.terminal import TerminalTable
from reports.tables.notes import short_lines
from reports.tables.published import hyperparameter_table
from reports.tables.summary import summarise
from reports.tables.table import Table, letter, text_table
from reports.targets import TARGETS
from reports.write import make_table, write_table
from results.run.record import RunFamily
from results.run.results import Results, StudentTraining
from tests.reports import world
from tests.reports.world import table_of

ROOT = Path(__file__).parents[2]
HOSTILE = "$\\frac | ` <script>alert(1)</script> \x1b[31m [x](http://e) & % # _ ^ ~ {} 中 éßŁźîçạőřÅ"


def file_texts(results: Results, min_coverage: float = 0.98, notes: bool = False) -> dict[str, str]:
    """The text formats, without the no-break spaces (drawing takes longer than all the rest)."""
    table = table_of(results, min_coverage)
    texts = {"md": markdown(table, notes=notes), "tex": latex(table), "csv": to_csv(table)}
    return {kind: text.replace("\xa0", " ") for kind, text in texts.items()}


def on_terminal(results: Results, width: int = 120, notes: bool = False) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(TerminalTable(table_of(results), notes))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def bar_chart(results: Results, kind: str, target: Target = TARGETS["table1"]) -> bytes:
    with figure_style():
        return figure_bytes(bars(summarise(results, target), results.run), kind)


def hostile() -> Results:
    results = world.make(rows=("student", "kd", "dpo"), seeds=(0,))
    rows = tuple(replace(row, title=HOSTILE) if row.id == "kd" else row for row in results.run.rows)
    run = replace(results.run, rows=rows, name=HOSTILE, notes=(HOSTILE,), family=RunFamily(HOSTILE, HOSTILE, HOSTILE))
    return world.with_score(Results(run, results.scores), ("dpo", "gsm8k.acc", 0), note=HOSTILE)


def test_the_table_reads_like_the_papers() -> None:
    files = file_texts(world.make())
    lines = files["md"].splitlines()
    rows = [line for line in lines if line.startswith("|")]
    titles = [line.split("|")[1].strip() for line in rows]
    assert titles[2:] == ["Teacherᵃ", *[title for _, title in world.TRUTH.values()][1:]]
    assert "AlpacaEval 2 LC %" in rows[0]
    assert "MT-Bench Score (1\\~10)" in rows[0]
    ppd = next(line for line in rows if line.startswith("| PAD-PPD"))
    assert ppd.count("**") == 10  # best in each of five columns
    assert ppd.count("\\*") == 5  # and different from the student
    assert "150 of AlpacaEval 2, 150 of Arena-Hard, 150 of MT-Bench, 150 of GSM8K; 0 unscored." in files["md"]
    assert "95% interval over questions and seeds 0, 1, 2" in files["md"]
    assert "Not comparable with the paper's Table 1" in files["md"]
    assert files["md"].count("one seed: the interval is over questions only") == 1
    results = world.make(("student",), seeds=(0,))
    assert "UNFINISHED" in file_texts(replace(results, run=replace(results.run, finished=False)))["md"]


@pytest.mark.parametrize(
    ("errors", "says", "is_silent_on"),
    [
        ([], "The same command continues the run.", "Failed"),
        (["no space left"], "Failed: no space left. Once that is fixed, the same command continues the run.", "Asking"),
        (
            ["the server is down", f"lower judge_max_tokens. {'x ' * 300}; {PERMANENT}: run it again"],
            "(and 1 more in the notes) Asking again would end the same way.",
            "same command",
        ),
    ],
)
def test_a_failure_that_repeats_is_named_first_and_no_repetition_promised(errors, says, is_silent_on) -> None:
    results = world.make(("student",), seeds=(0,))
    cells = [
        replace(cell, unavailable=f"failed: {error}") for cell, error in zip(results.run.cells, errors, strict=False)
    ]
    run = replace(results.run, finished=False, cells=(*cells, *results.run.cells[len(cells) :]))
    line = short_lines(summarise(results, TARGETS["table1"]), run)[0]
    assert says in line and is_silent_on not in line and len(line) < 450
    assert ("Failed: lower judge_max_tokens." in line) == (len(errors) == 2)


def test_gaps_are_counted_under_the_table_once_for_all_metrics_of_a_benchmark() -> None:
    """LC and WR share answers and judgments. Two answers of DPO and one of KD speak to the judge: 3. DPO lacks 3 of 400
    verdicts and KD none of its 400: 3 of 800. Two questions of SimPO have no verdict: 2, not 4.
    """
    results = world.make()
    for metric in ("alpaca_eval.lc", "alpaca_eval.wr"):
        for row, lost_score in (("dpo", 3.0), ("kd", 0.0)):
            detail = {"verdicts": 400.0, "verdicts_missing": lost_score, "questions_covered": 150 - lost_score / 2}
            detail |= {"injection": {"dpo": 2.0, "kd": 1.0}[row]}
            results = world.with_score(results, (row, metric, 0), detail=detail)
        results = world.with_score(results, ("simpo", metric, 0), n=148, unscored=2)
    gaps = "2 unscored, 3 of 800 verdicts missing, 3 answers with text directed at a judge"
    assert f"148 to 150 of AlpacaEval 2 ({gaps}), 150 of Arena-Hard, " in file_texts(results)["md"]


def test_counts_have_their_thousands_parted_alike() -> None:
    results = world.make(("student", "dpo"), seeds=(0,), questions=1319)
    for row in ("student", "dpo"):
        lengths = {"mean_length": 2043.4, "baseline_length": 1500.0, "truncated": 0.0}
        short = {"n": 1000 if row == "dpo" else 1319, "unscored": 1200, "detail": lengths}
        results = world.with_score(results, (row, "alpaca_eval.wr", 0), **short)
    baseline = replace(results.run, recipe={**results.run.recipe, "baseline": "student"})
    text = file_texts(replace(results, run=baseline), min_coverage=0.1)["md"]
    assert "2,043 chars (baseline 1,500)" in text
    assert "1,000 to 1,319 of AlpacaEval 2 (2,400 unscored)" in text


def test_points_of_ten_keep_two_digits_and_percentages_one() -> None:
    ppd = next(row for row in table_of(world.make()).rows if row.cells[0].text == "PAD-PPD")
    decimals = [re.findall(r"\.(\d+)", cell.change + cell.lines[0]) for cell in ppd.cells[1:]]
    assert [[len(digits) for digits in cell] for cell in decimals] == [[1] * 3] * 3 + [[2] * 3] + [[1] * 3]


def test_footnote_letters_leave_out_q_which_cannot_be_raised() -> None:
    """25 letters, then aa, ab, ...; every one has a superscript form."""
    letters = [letter(number) for number in range(52)]
    assert letters[15:18] == ["p", "r", "s"] and letters[24:27] == ["z", "aa", "ab"] and letters[50] == "ba"
    assert all(superscript((mark,)) != mark for mark in letters)


def test_the_terminal_table_fits_120_columns() -> None:
    text = on_terminal(world.make())
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 120
    row = next(line for line in text.splitlines() if line.strip().startswith("PAD-PPD"))
    assert row.count("↑") == 5  # no cell was broken
    assert len(text.splitlines()) == 1 + 3 + 2 * 10 + 6  # title, heading, two lines per row, notes: no filler
    wide_lines = on_terminal(world.make(), width=170).splitlines()
    assert any(line.startswith("PAD-PPD") and line.count("]") == 5 for line in wide_lines)  # all on one line


def test_table_1_fills_a_terminal_of_80_by_24() -> None:
    """Title, heading and two lines per row; under it eight lines."""
    lines = on_terminal(world.make(), width=80).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert [place for place, line in enumerate(lines) if line.count("]") == 5] == list(range(5, 24, 2))
    assert len(lines) <= 24 + 8


def small_results() -> Results:
    """A first try: one seed, 8 questions, a step of training, a row without answers, and too few bootstraps."""
    results = world.make(("student", "kd", "seqkd", "dpo"), seeds=(0,), questions=8, replicates=30)
    results = world.with_missing(results, "seqkd", "the teacher and the student do not share a vocabulary, " * 3)
    training = StudentTraining({"train": 1.0}, 1, ({"step": 1},))
    return replace(results, trainings={("dpo", 0): training, ("kd", 0): training})


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("results", [world.make(), small_results(), hostile()], ids=["whole", "small", "hostile"])
def test_at_most_eight_lines_stand_under_the_table(results: Results, width: int) -> None:
    """Footnotes included, and the line of the files, which the command adds; all else is in the JSON and in notes."""
    lines = on_terminal(results, width).splitlines()
    last_interval = max(place for place, line in enumerate(lines) if re.match(r"\s+\[", line))
    assert 4 <= len(lines) - last_interval - 1 <= 8 - 1
    below, table = lines[last_interval + 1 :], lines[2 : last_interval + 1]
    assert max(map(len, below)) <= max(80, *(len(line.rstrip()) for line in table))  # no wider than the table
    full_text = " ".join(on_terminal(results, width, notes=True).split())
    assert all(text in full_text for _, text in table_of(results).footnotes)


@pytest.mark.parametrize("width", [80, 120])
def test_a_small_run_says_under_its_table_what_it_is_no_proof_of(width: int) -> None:
    text = " ".join(on_terminal(small_results(), width).split())
    assert "Questions: 8 of AlpacaEval 2, 8 of Arena-Hard, 8 of MT-Bench, 8 of GSM8K;" in text
    assert "Only 1 optimiser step: the options of a loss hardly matter." in text
    assert "fewer than 30 questions: intervals too narrow, changes not tested" in text
    assert "the teacher and the student do not share a vocabulary" in text
    assert "Not comparable with the paper's Table 1" not in text and "more with --notes" in text
    assert all(column.marks == tuple(sorted(column.marks)) for column in table_of(small_results()).columns)


def crowded_results() -> Results:
    """Searched options, a short training, a judge of the teacher's family, a row without answers, a cell with 60 of 450
    questions, whose verdicts are missing for three reasons."""
    results = world.with_missing(world.make(("student", "kd", "seqkd", "dpo")), "seqkd", "no shared vocabulary")
    for seed in (0, 1, 2):
        detail = {"missing:no label": 40.0, "missing:cut": 80.0, "missing:refusal": 10.0}
        results = world.with_score(results, ("dpo", "alpaca_eval.lc", seed), n=20, unscored=130, detail=detail)
    run, training = results.run, StudentTraining({"train": 1.0}, 1, ({"step": 1}, {"step": 2}))
    run = replace(
        run, choices=("Options searched: " + "a setting, " * 30,), family=replace(run.family, teacher="g/gemma-2-9b"),
        judges={**run.judges, "mt_bench": "gemma-3-27b"}, notes=("the letters have 3% of its probability.",),
    )  # fmt: skip
    return replace(results, run=run, trainings={("dpo", 0): training, ("kd", 0): training})


@pytest.mark.parametrize("width", [80, 120])
def test_reasons_of_missing_numbers_come_first_and_the_paper_last(width: int) -> None:
    """The options do not fit, so that the lines on the paper, which come after them, are left out too."""
    text = " ".join(on_terminal(crowded_results(), width).split())
    order = [
        "Value (change from Student)", "no shared vocabulary.", "most missing verdicts: cut; no label.",
        "--min-coverage", "Only 2 optimiser steps", "the letters have 3%", "gemma-3-27b is of the teacher's family",
    ]  # fmt: skip
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "refusal" not in text and "Not comparable with" not in text and "Options searched" not in text
    with_notes = on_terminal(crowded_results(), width, notes=True)
    assert "Options searched" in with_notes and "Not comparable with" in with_notes


def test_no_reason_of_a_missing_number_is_cut() -> None:
    """However many they are: 8 rows, each with its own."""
    results = world.make(seeds=(0,))
    rows = [row.id for row in results.run.rows if not row.baseline]
    for row in rows:
        results = world.with_missing(results, row, f"{row} could not be trained, " + "for this reason, " * 10)
    text = " ".join(on_terminal(results, 80).split())
    assert len(rows) == 8 and all(f"{row} could not be trained" in text for row in rows)


def test_lines_on_the_paper_need_a_row_and_a_column_of_it() -> None:
    """Of Table 1 (10 rows, 5 columns) the run has 3 rows and 2 columns: 7 rows are counted, 3 columns named."""
    results = world.make(("teacher", "student", "dpo"), (0,))
    run = replace(results.run, columns=results.run.columns[:2])
    lines = " ".join(short_lines(summarise(replace(results, run=run), TARGETS["table1"]), run))
    absent = ", ".join(metric.id for metric in world.METRICS[2:])
    assert f"Not in this run: 7 rows; columns {absent}." in lines and "Not comparable with the paper" in lines
    own = replace(run, columns=(replace(run.columns[0], id="mine.acc"),))
    for changed in (own, replace(run, rows=(*run.rows[:2], replace(run.rows[2], id="mine")))):
        lines = " ".join(short_lines(summarise(Results(changed, {}), TARGETS["table1"]), changed))
        assert "Not in this run" not in lines and "paper" not in lines


def test_a_judge_of_the_teachers_family_is_named_under_the_table() -> None:
    def lines(judge: str, teacher: str, rows: tuple[str, ...] = ("student", "dpo")) -> str:
        results = world.make(rows, (0,))
        family = replace(results.run.family, teacher=teacher)
        run = replace(results.run, family=family, judges={**results.run.judges, "mt_bench": judge})
        return " ".join(short_lines(summarise(replace(results, run=run), TARGETS["table1"]), run))

    assert "g/gemma-2-9b-it is the run's teacher itself: it may prefer" in lines("g/gemma-2-9b-it", "g/gemma-2-9b-it")
    assert "gemma-3-27b is of the teacher's family (gemma): it may" in lines("gemma-3-27b", "g/gemma-2-9b-it")
    assert "(noise 5) is the run's teacher itself" in lines("pocket:teacher (noise 5)", "pocket:teacher")
    assert "may prefer" not in lines("llama-3", "g/gemma-2-9b-it")
    assert "may prefer" not in lines("gemma-3-27b", "g/gemma-2-9b-it", ("teacher", "student"))


@pytest.mark.parametrize("width", [100, 120])
def test_notes_bring_what_is_left_out(width: int) -> None:
    lines = on_terminal(world.make(), width).splitlines()
    notes = on_terminal(world.make(), width, notes=True)
    for word in ("Detectable", "Variance", "†", "minimum detectable effect", "prompt 0f3a9c77d2e1"):
        assert word in notes and word not in "\n".join(lines)


def test_a_table_of_text_is_written_in_every_format() -> None:
    """Judges' tables, the run card: no cell has more than a text, and a dash sorts last."""
    table = text_table("judges", "Judges", ("Judge", "Calls"), [("a|b", "1,200 of them"), ("c", "-")], ["a note"])
    assert [[cell.sort for cell in row.cells] for row in table.rows] == [["a|b", 1200.0], ["c", None]]
    assert markdown(table) == (
        "**Judges**\n\n| Judge | Calls         |\n|-------|:--------------|\n| a\\|b  | 1,200 of them |\n"
        "| c     | \\-            |\n\n- a note\n"
    ).replace("\\-            ", "-             ")
    assert r"Judge & Calls \\" in latex(table) and "a note" in latex(table)


def test_a_row_that_cannot_be_is_na_with_one_footnote() -> None:
    results = world.with_missing(world.make(), "minillm", "needs a shared vocabulary")
    files = file_texts(results)
    row = next(line for line in files["md"].splitlines() if line.startswith("| MiniLLM"))
    assert row.count("n/a") == 5
    assert files["md"].count("needs a shared vocabulary") == 1
    assert files["tex"].count("needs a shared vocabulary") == 1


def test_a_note_of_a_whole_column_stands_once_over_it() -> None:
    results = world.make(seeds=(0,))
    for row in world.TRUTH:
        results = world.with_score(results, (row, "alpaca_eval.lc", 0), note="LC (pocket)")
    text = file_texts(results)["md"]
    assert "LC %ᵃ" in text
    assert text.count("ᵃ") == 2  # the heading and the footnote


def test_refusal_and_forced_coverage() -> None:
    results = world.with_score(world.make(seeds=(0,)), ("pro", "gsm8k.acc", 0), n=136, unscored=14)
    refused = file_texts(results)
    assert "refused: coverage 90%" in refused["md"]
    assert "coverage 100%" not in refused["md"]
    line = next(
        line
        for line in csv.DictReader(io.StringIO(refused["csv"]))
        if (line["row"], line["metric"]) == ("pro", "gsm8k.acc")
    )
    assert line["value"] == line["delta"] == ""
    forced = file_texts(results, min_coverage=0.0)
    assert "refused" not in forced["md"]
    assert "coverage 90%" in forced["md"]
    assert "coverage 100%" not in forced["md"]
    assert "14 unscored" in forced["md"]


def test_the_papers_values_stand_beside_for_its_families() -> None:
    results = world.paper()
    files = file_texts(results)
    assert "paper 49.62 +" in files["md"]
    assert "49.42" in files["md"]  # the conflict, as a footnote
    assert "paper 49.62" in files["tex"]
    assert ",49.62," in files["csv"]
    assert "paper 49.62" in on_terminal(results)
    assert "ot comparable" not in files["md"]
    assert "within the margin (2 (AlpacaEval 2 LC)" in file_texts(results, notes=True)["md"]
    verdicts = {line["verdict"] for line in csv.DictReader(io.StringIO(files["csv"]))}
    assert verdicts <= {"agrees", "differs", "inconclusive"} and "differs" in verdicts


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    kinds = ("md", "tex", "csv", "json", "png", "pdf")
    results = world.make(("student", "kd"), seeds=(0,))
    for folder in ("a", "b"):
        paths = write_table(make_table(results), tmp_path / folder)
        assert paths == [tmp_path / folder / f"table1.{kind}" for kind in kinds]
    for kind in kinds:
        assert (tmp_path / "a" / f"table1.{kind}").read_bytes() == (tmp_path / "b" / f"table1.{kind}").read_bytes()
    assert len(list((tmp_path / "a").iterdir())) == len(kinds)


def test_figures_are_drawn_again_only_where_they_are_stale(tmp_path: Path) -> None:
    """A time stamp of 1970 survives an unchanged table. A changed one, a missing figure, and a newer score do not."""
    table = make_table(world.make(("student", "kd"), seeds=(0,)))
    pdf, png = tmp_path / "table1.pdf", tmp_path / "table1.png"

    def redrawn(changed: Table) -> bool:
        os.utime(pdf, (1, 1))
        write_table(changed, tmp_path)
        return pdf.stat().st_mtime != 1

    write_table(table, tmp_path)
    assert not redrawn(table)
    assert redrawn(replace(table, newest=2.0))
    assert redrawn(replace(table, data={**table.data, "title": "another"}))
    assert redrawn(table)
    png.unlink()
    assert redrawn(table) and png.exists()


def test_json_has_every_number_of_the_csv() -> None:
    results = world.paper()
    table = table_of(results)
    whole = json.loads(to_json(table))
    cells = {(row["id"], metric): cell for row in whole["rows"] for metric, cell in row["cells"].items()}
    for line in csv.DictReader(io.StringIO(to_csv(table))):
        cell = cells[line["row"], line["metric"]]
        for name, number in cell.items():
            if name in line and isinstance(number, float):
                assert float(line[name]) == number, name
    ppd = cells["pad-ppd", "gsm8k.acc"]
    assert ppd["published"] == 59.29
    assert list(ppd["by_seed"]) == ["0", "1", "2"] and ppd["seeds"] == 3
    assert ppd["difference"] == pytest.approx(ppd["value"] - 59.29, abs=1e-5)
    column = next(column for column in whole["columns"] if column["id"] == "gsm8k.acc")
    assert sum(share for share in column["variance"].values() if share is not None) == pytest.approx(1, abs=1e-5)
    assert (column["margin"], column["tests_against_reference"], column["tests_of_focus"]) == (2.0, 8, 7)


def test_small_numbers_keep_their_digits() -> None:
    """A learning rate of 2.5e-7 is not 0, nor is a p-value of 1e-9."""
    table = Table("t", "c", (), (), data={"rate": 2.5e-7, "value": 41.12345678, "zero": 0.0}, records=({"p": 1e-9},))
    assert json.loads(to_json(table)) == {"rate": 2.5e-7, "value": 41.123457, "zero": 0.0}
    assert to_csv(table) == "p\n1e-09\n"
    # 0.1 + 0.2 - 0.3 is 5.6e-17 here, and 0 where the sum is made in another order
    round_off = Table("t", "c", (), (), data={"change": 0.1 + 0.2 - 0.3}, records=({"change": -1e-14},))
    assert json.loads(to_json(round_off)) == {"change": 0.0} and to_csv(round_off) == "change\n0.0\n"


def test_a_latex_label_holds_no_command() -> None:
    """A baseline's name is in that of its table; a percent sign would comment out the brace."""
    (label,) = (line for line in latex(Table("ranks-b.wr against 50% #{", "c", (), ())).splitlines() if "label" in line)
    assert label == r"\label{tab:ranks-b.wr-against-50-}"


def test_json_counts_unscored_questions_and_withholds_what_is_refused() -> None:
    categories: dict[str, float | str] = {"category:math": 5.0, "category:writing": 7.0}
    results = world.with_score(world.make(seeds=(0,)), ("pro", "mt_bench.score", 0), n=136, unscored=14)
    results = world.with_score(results, ("pro", "mt_bench.score", 0), detail=categories)
    for least, shown in ((0.98, {}), (0.5, {"math": 5.0, "writing": 7.0})):
        whole = json.loads(to_json(table_of(results, least)))
        cell = next(row for row in whole["rows"] if row["id"] == "pro")["cells"]["mt_bench.score"]
        assert (cell["unscored"], cell["refused"], cell["categories"]) == (14, not shown, shown)


def test_a_spreadsheet_runs_nothing() -> None:
    assert [escape_formula(text) for text in ("=1+1", "+1", "-1", "@SUM(1)", "a=1", "")] == [
        "'=1+1", "'+1", "'-1", "'@SUM(1)", "a=1", "",
    ]  # fmt: skip
    run = world.paper().run
    named = replace(run, name="=1+1", recipe={"methods": {}}, family=replace(run.family, name="@family"))
    lines = list(csv.DictReader(io.StringIO(to_csv(hyperparameter_table(TARGETS["table4"], named)))))
    assert {(line["run"], line["family"]) for line in lines} == {("'=1+1", "'@family")}


def test_a_latex_line_that_begins_with_a_bracket_is_no_argument() -> None:
    results = world.make(("student", "kd"), seeds=(0,))
    rows = tuple(replace(row, title="[2pt] of it") for row in results.run.rows)
    text = file_texts(Results(replace(results.run, rows=rows), results.scores))["tex"]
    assert "{} [2pt] of it" in text
    assert not re.search(r"^\s*\[", text, re.MULTILINE)


def test_hostile_names_change_nothing_but_themselves() -> None:
    files = file_texts(hostile())
    chart = bar_chart(hostile(), "svg")
    assert b"<script" not in chart
    assert "<script" not in files["md"]
    assert all("\x1b" not in text for text in files.values())
    assert "\x1b" not in on_terminal(hostile())
    rows = [line for line in files["md"].splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert "\\frac" not in files["tex"].replace("\\textbackslash{}frac", "")
    assert len(list(csv.reader(io.StringIO(files["csv"])))) == 16


def test_escapes() -> None:
    assert escape_latex("50% & $x_1$ {\\a} #") == r"50\% \& \$x\_1\$ \{\textbackslash{}a\} \#"
    assert escape_latex("é ↑ 中") == r"\'{e} $\uparrow$ [U+4E2D]"
    assert escape_latex("Müller, straße, cafe\u0301 ñ ç Łódź î ế") == (
        r"M\"{u}ller, stra\ss{}e, caf\'{e} \~{n} \c{c} \L{}\'{o}d\'{z} \^{\i } e"  # two accents: the letter alone
    )
    assert escape_markdown("a|b <i>*c*</i> `d` [e](f)") == r"a\|b &lt;i&gt;\*c\*&lt;/i&gt; \`d\` \[e\](f)"
    assert escape_markdown("$x$ costs $5") == r"\$x\$ costs \$5"
    begun = ("# a", "#12", "- a", "+ a", "1. a", "23) a", "---")
    assert [escape_markdown(text) for text in begun] == [
        r"\# a", r"\#12", r"\- a", r"\+ a", r"1\. a", r"23\) a", r"\---",
    ]  # fmt: skip
    inside = ("C# a", "-", "-2+3", "1.5 a", "PAD w/ PPD 2/4", "a - b", "(1) a")
    assert [escape_markdown(text) for text in inside] == list(inside)
    assert clean("a\tb\nc\x1b[0m\u202e") == "a b c\ufffd[0m\ufffd"
    assert percent(0.979) == "97%"
    assert percent(0.29) == "29%"  # 0.29 * 100 is 28.999999999999996


@pytest.mark.parametrize("which", ["plain", "hostile", "paper"])
def test_latex_is_balanced_and_its_notes_are_in_the_float(which: str) -> None:
    """Without LaTeX at hand: environments close in order, braces match, nothing stands behind the float."""
    results = {"plain": world.make, "hostile": hostile, "paper": world.paper}[which]()
    text = latex(table_of(results, 0.5))
    open_environments: list[str] = []
    for begins, environment in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if begins == "begin":
            open_environments.append(environment)
        else:
            assert open_environments.pop() == environment
    assert open_environments == []
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert text.endswith("\\end{minipage}\n\\end{table}\n") and text.count("\\end{table}") == 1
    assert text.index("\\end{tabular}") < text.index("bold: best trained row") < text.index("\\end{minipage}")


def test_files_have_no_words_of_the_command_line() -> None:
    """``--notes`` is an option of a terminal: a paper has none. The page and the JSON have the notes themselves."""
    for results in (world.make(), world.paper()):
        table = table_of(results)
        for text in (latex(table), markdown(table, notes=False), markdown(table, notes=True), to_json(table)):
            assert "--" not in re.sub(r"\d--\d|-{4,}", "", text)
    table = table_of(world.make())
    line = "Not the official protocol in AlpacaEval 2"
    assert f"{line}." in latex(table) and f"{line} (see the notes)." in markdown(table, notes=True)
    console = Console(file=io.StringIO(), width=200)
    console.print(TerminalTable(table))
    assert f"{line} (see --notes)." in console.file.getvalue()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (texlive-latex-recommended)")
@pytest.mark.parametrize("which", ["plain", "hostile", "paper"])
def test_latex_compiles_in_a_plain_article(tmp_path: Path, which: str) -> None:
    results = {"plain": world.make, "hostile": hostile, "paper": world.paper}[which]()
    (tmp_path / "table1.tex").write_text(latex(table_of(results, 0.5)))
    article = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{table1.tex}\\end{document}"
    (tmp_path / "article.tex").write_text(article)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "undefined" not in done.stdout
    if which != "hostile":
        assert "Overfull" not in done.stdout  # nothing sticks out of the page
        assert "Float too large" not in done.stdout


def test_an_unknown_target_names_the_choices() -> None:
    with pytest.raises(UserError, match=r"unknown target 'table9'.*table1"):
        make_table(world.make(seeds=(0,)), "table9")


def test_reports_load_no_torch_and_start_light(tmp_path: Path) -> None:
    code = (
        "import sys; import reports.write, reports.targets\n"
        "import results.store.store, results.published, results.run.results\n"
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'judges', 'methods'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.path.insert(0, '.')\n"
        "from pathlib import Path; from tests.reports import world\n"
        "reports.write.write_table(reports.write.make_table(world.make(('student',), (0,))), Path(sys.argv[1]))\n"
        "assert not {'torch', 'transformers', 'judges', 'methods'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_column_of_the_csv_is_explained() -> None:
    header = csv.DictReader(io.StringIO(to_csv(table_of(world.paper(), 0.98)))).fieldnames or []
    section = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8").partition("## Columns of the CSV")[2]
    assert set(header) == set(re.findall(r"`(\w+)`", section))
