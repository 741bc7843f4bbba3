"""A comparison laid out: grids, files, figures, the page's section; annotations read; simulated people; Table 5."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from harness.errors import UserError
from reports.judge_comparison.annotations import annotation_panel, read_humans
from reports.judge_comparison.bias import EFFECTS
from reports.judge_comparison.compare import compare
from reports.judge_comparison.figures import front, heat_map, pareto, points
from reports.judge_comparison.humans import HUMANS
from reports.judge_comparison.page_section import judges_section
from reports.judge_comparison.panel import Estimate, Facts
from reports.judge_comparison.ranking import conclusion
from reports.judge_comparison.simulated_humans import simulated_humans
from reports.judge_comparison.table5 import paper, same_model, table5
from reports.judge_comparison.tables import grids
from reports.judge_comparison.write import plain, screen, write_comparison
from reports.page.widgets import unpack

HOSTILE = "<script>alert(1)</script>|{x}&_$\x1b[31m"


def rows(judges=("first", "second"), questions=30, models=("a", "b", "c")):
    """Annotations: models of quality 0.3, 0.5, 0.7; the second judge turns one verdict in ten round."""
    rng = np.random.default_rng(0)
    for number, model in enumerate(models):
        for question in range(questions):
            better = rng.random() < 0.3 + 0.2 * number
            for judge in judges:
                turned = judge != judges[0] and rng.random() < 0.1
                yield {
                    "instruction": f"question {question}", "generator_1": "base", "generator_2": model,
                    "output_1": "short", "output_2": "rather long " * (1 + question % 3), "annotator": judge,
                    "preference": 1 + int(better != turned),
                }  # fmt: skip


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(list(rows())))
    return path


@pytest.fixture
def comparison(file):
    panel = annotation_panel([file], [])
    priced = {"first": Facts("org/first", "", (), 30.0, 40.0), "second": Facts(HOSTILE, "", (), 1.0, 4.0)}
    return compare(replace(panel, judges=priced), replicates=100)


def test_annotations_are_read_in_every_format(file, tmp_path):
    table = pd.DataFrame(json.loads(file.read_text()))
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, table.to_dict("records"))))
    first = annotation_panel([file], [])
    assert len(first.calls) == 2 * 30 * 3
    assert set(first.items["length"]) == {7.0, 19.0, 31.0}  # 12, 24 or 36 characters, less 5
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        pd.testing.assert_frame_equal(annotation_panel([tmp_path / name], []).calls, first.calls)
    assert list(annotation_panel([file], ["second", "first"]).judges) == ["second", "first"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "need rows with a column 'preference'"),
        ('[{"preference": 1}]', "no column names the question"),
        ('[{"preference": 1, "index": 3}]', "no column says whose answer"),
        ('[{"preference": 3, "index": 3, "model": "m"}]', "preference '3' is not 1"),
        ('[{"preference": "x", "index": 3, "model": "m"}]', "preference 'x' is not 1"),
        ("{", "cannot be read"),
    ],
)
def test_what_is_no_annotation_is_said(tmp_path, content, said):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        annotation_panel([path], [])


def test_unknown_annotators_and_missing_files_are_said(file, tmp_path):
    with pytest.raises(UserError, match="not among the annotators: first, second"):
        annotation_panel([file], ["third"])
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        annotation_panel([tmp_path / "none.json"], [])


def test_ties_and_missing_preferences(tmp_path):
    """0 and 1.5 are ties; null is a call without a verdict, which is counted and not a tie."""
    path = tmp_path / "a.json"
    each = [{"index": n, "model": "m", "annotator": "j", "preference": p} for n, p in enumerate((0, 1.5, None, 2))]
    path.write_text(json.dumps(each))
    calls = annotation_panel([path], []).calls
    assert calls["verdict"].fillna(-1).tolist() == [0.5, 0.5, -1.0, 1.0]


def test_files_hold_the_numbers_and_no_markup_of_strangers(comparison, tmp_path):
    paths = write_comparison(comparison, tmp_path)
    assert {path.suffix for path in paths} == {".md", ".tex", ".csv", ".json", ".png", ".svg", ".pdf"}
    texts = {path.suffix: path.read_text() for path in paths if path.name.startswith("judges")}
    assert all("\x1b" not in text for text in texts.values())
    assert "<script>" not in texts[".md"]
    assert r"\textless{}script" in texts[".tex"]
    lines = list(csv.DictReader(io.StringIO(texts[".csv"])))
    (agreement,) = [line for line in lines if line["quantity"] == "agreement"]
    (pair,) = comparison.benchmarks[0].agreements
    assert float(agreement["value"]) == pytest.approx(pair.agreement, abs=1e-8)
    assert json.loads(texts[".json"])["benchmarks"][0]["agreements"][0]["kappa"] == pair.kappa
    assert (tmp_path / "judge-agreement.png").read_bytes().startswith(b"\x89PNG")
    again = {path: path.read_bytes() for path in write_comparison(comparison, tmp_path)}
    assert again == {path: path.read_bytes() for path in paths}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (texlive-latex-recommended)")
def test_a_plain_article_takes_the_tables(comparison, tmp_path):
    """An article with booktabs alone, the tables at full width."""
    write_comparison(comparison, tmp_path)
    (tmp_path / "article.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{judges.tex}\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "article.pdf").is_file()


def test_the_terminal_shows_all_but_confusions(comparison):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(screen(comparison))
    text = console.export_text()
    assert "Recommended: " in text
    assert "annotations: agreement" in text
    assert "first: tie" not in text
    assert any(grid.name.startswith("confusion") for grid in grids(comparison))


def test_what_is_said_under_the_tables_is_said_once_and_fits(comparison, file):
    """Two judges with one opinion: no difference to test, no bias that is not in the table explained, the same
    verdicts said. Titles, not ids, where they are known."""
    (metric,) = comparison.metrics
    (said,) = {each.line for each in metric.conclusions}
    one = replace(annotation_panel([file], []), names={"annotations": "People's choice", metric.metric: "Choice WR"})
    first = next(iter(one.judges))
    calls = one.calls[one.calls["judge"] == first]
    twin = replace(one, calls=pd.concat([calls, calls.assign(judge="twin")]), judges={first: Facts(), "twin": Facts()})
    made = {grid.name: grid for grid in grids(compare(twin, replicates=100))}
    pair = next(grid for name, grid in made.items() if name.startswith("agreement"))
    assert (
        f"{first} and twin gave the same verdicts on every item: they do not differ on People's choice." in pair.notes
    )
    biases = next(grid for name, grid in made.items() if name.startswith("bias"))
    shown = {note.partition(":")[0] for note in biases.notes} & set(EFFECTS)
    assert shown == set(biases.header) & set(EFFECTS)
    assert not any("gave the same verdicts" in note for grid in grids(comparison) for note in grid.notes)
    summary = grids(comparison)[0]
    assert sum(said in note for grid in grids(comparison) for note in grid.notes) == 1 and said in str(summary.notes)
    assert any(note.startswith("Agrees with the other judges: how near") for note in summary.notes)
    assert any(note.startswith("s / 1,000 calls, -: not measured") for note in made["judges"].notes)
    assert any(grid.title == "Choice WR by judge" for grid in made.values())


def test_confusions_go_from_the_model_to_the_baseline(comparison):
    """Counts move with their labels: line and column of (model, model) are the third of (tie, baseline, model)."""
    (pair,) = comparison.benchmarks[0].agreements
    grid = next(grid for grid in grids(comparison) if grid.name.startswith("confusion"))
    assert [head.rpartition(": ")[2] for head in grid.header[1:]] == ["model", "tie", "baseline"]
    assert [row[0].rpartition(": ")[2] for row in grid.rows] == ["model", "tie", "baseline"]
    assert grid.rows[0][1:] == tuple(str(pair.confusion[2][place]) for place in (2, 0, 1))


@pytest.mark.parametrize(
    ("planned", "said"),
    [
        ([("dpo", "student"), ("kd", "student")], "main finds no trained row different from Student"),
        ([("dpo", "student")], "main does not find DPO different from Student"),
        ([("dpo", "kd"), ("dpo", "pro"), ("kd", "pro")], "main finds no two rows different"),
        ([], "main has no two rows to compare"),
    ],
)
def test_nothing_to_survive_is_one_clear_line(planned, said):
    flat = {row: Estimate(50.0, np.array([49.0, 51.0] * 50)) for row in ("student", "dpo", "kd", "pro")}
    titles = {"student": "Student", "dpo": "DPO"}
    found = conclusion(("noisy", "main"), flat, flat, [planned], titles)
    assert (found.verdict, found.line) == ("nothing to survive", f"{said}: there is no conclusion to test.")


def test_the_section_of_the_page_is_escaped_and_whole(comparison):
    """Every grid is a table, the figures are images, the data unpacks to what ``judges.json`` holds."""
    section = judges_section(comparison, "table1")
    assert (section.title, section.id) == ("Judges compared, table1", "judges-compared-table1")
    assert "<script>alert" not in section.html
    assert "&lt;script&gt;" in section.html
    assert section.html.count("<table") == len(grids(comparison))
    assert "data:image/svg+xml;base64," in section.html
    assert unpack(section.data["comparison"]) == json.loads(json.dumps(plain(comparison)))


def test_who_is_beaten_on_price_and_agreement():
    """c costs more than b and agrees less; a is cheapest, b agrees most; d is worse than a at the same price."""
    places = {"a": (1.0, 80.0), "b": (5.0, 90.0), "c": (6.0, 85.0), "d": (1.0, 70.0)}
    assert front(places) == ["a", "b"]


def test_figures_are_drawn_only_where_there_is_something_to_draw(comparison):
    assert points(comparison)[0] == "dollars per 1,000 calls"
    assert set(pareto(comparison, ("svg",))) == {"svg"}
    free = {name: replace(facts, dollars=0.0) for name, facts in comparison.judges.items()}
    assert points(replace(comparison, judges=free))[0] == "seconds per 1,000 calls, as asked"
    nothing = {name: Facts() for name in comparison.judges}
    assert pareto(replace(comparison, judges=nothing)) == {}
    alone = replace(comparison, benchmarks=(replace(comparison.benchmarks[0], agreements=()),))
    assert heat_map(alone) == {}


def test_humans_from_a_file_and_table5_beside_the_paper(file, tmp_path):
    """Four people per answer: each says what the first judge says, save every tenth answer, on which one differs."""
    verdicts = [row for row in rows() if row["annotator"] == "first"]
    people = [
        {**row, "annotator": f"p{n}", "preference": abs(3 * (number % 10 == 0 and n == 0) - row["preference"])}
        for number, row in enumerate(verdicts)
        for n in range(4)
    ]  # fmt: skip
    path = tmp_path / "people.json"
    path.write_text(json.dumps(people))
    panel = annotation_panel([file], [])
    humans, _ = read_humans(path, None, panel)
    found = compare(panel, humans, replicates=100)
    assert found.humans["first"].value == pytest.approx(1.0)
    # of 90 answers 9 have one dissenter of four: each of those is 3 of 4 right
    assert found.humans[HUMANS].value == pytest.approx((81 + 9 * 0.75) / 90)
    assert 0.8 < found.humans["second"].value < 1.0
    assert found.yardstick.basis == "the human majority"
    assert found.choice.judge == "first"
    shown = table5(found)
    assert [row[0] for row in shown.rows[:3]] == ["first", "humans", "second"]
    assert ("GPT4 (paper)", "-", "69.17", "-", "-") in shown.rows
    assert next(row for row in shown.rows if row[0] == "humans")[2] == "65.66, not comparable"
    assert {path.name for path in write_comparison(found, tmp_path)} > {"table5.md", "table5.tex", "table5.csv"}
    with pytest.raises(ValueError, match="needs human annotations"):
        table5(replace(found, humans={}))


def test_the_papers_own_judges_are_recognised():
    assert same_model("meta-llama/Meta-Llama-3.1-70B-Instruct") == same_model("Llama-3.1-70B-Instruct")
    assert same_model("GPT4-Turbo") == "gpt-4-turbo"
    assert len(paper()) == 6


def test_people_of_other_answers_are_refused(file, tmp_path):
    path = tmp_path / "people.json"
    path.write_text(json.dumps([{"index": 1, "model": "zz", "annotator": "p", "preference": 1}]))
    with pytest.raises(UserError, match="it annotates no answer that is compared here"):
        read_humans(path, None, annotation_panel([file], []))


def test_simulated_people_follow_the_truth(file):
    """Log-odds 3 per unit: at a true difference of 1, sigmoid(3) = 0.9526 of them prefer the model. 30 questions x 3
    models x 40 people = 3,600 draws: the standard error is 0.0035; four of those are allowed."""
    panel = annotation_panel([file], [])
    with pytest.raises(UserError, match="only where the truth is known"):
        simulated_humans(panel, 4, seed=0)
    known = replace(panel, items=panel.items.assign(quality=1.0))
    found = simulated_humans(known, 40, seed=0)
    assert len(found) == 3600
    assert found["verdict"].mean() == pytest.approx(1 / (1 + np.exp(-3)), abs=0.014)


def test_a_model_against_itself_is_no_comparison(tmp_path):
    """The baseline's own answers, all ties, would only raise every agreement."""
    path = tmp_path / "a.json"
    own = [
        {"index": n, "model": "base", "baseline": "base", "annotator": judge, "preference": 1.5}
        for n in range(5) for judge in ("x", "y")
    ]  # fmt: skip
    other = [
        {"index": n, "model": "m", "baseline": "base", "annotator": judge, "preference": 1 + (judge == "x")}
        for n in range(5) for judge in ("x", "y")
    ]  # fmt: skip
    path.write_text(json.dumps(own + other))
    found = compare(annotation_panel([path], []), replicates=100)
    assert found.benchmarks[0].agreements[0].agreement == 0.0
    assert found.benchmarks[0].items == 5
    assert found.metrics[0].rankings["x"].values == {"m": 100.0}
