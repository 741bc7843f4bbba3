"""Figures with curves: which points make a line, and files that are drawn the same each time."""

from __future__ import annotations

from dataclasses import replace

from harness.contracts.target import Point, Target
from reports.figures.bars import curves, sweeps
from reports.figures.style import figure_bytes, figure_style, look
from reports.tables.summary import Summary, summarise
from results.run.record import RowSpec
from results.run.results import Results
from tests.reports import world

TARGET = Target(
    name="figure9", label="Figure 9", title="Scores over n", rows=("student", "pro-8", "dpo", "dpo-8", "pro"),
    columns=("alpaca_eval.lc",), layout="curves", axis="n",
    points={"pro-8": Point("pro", 8), "dpo": Point("dpo", 4), "dpo-8": Point("dpo", 8), "pro": Point("pro", 4)},
)  # fmt: skip


def results(**truth: float) -> Results:
    names = {"student": 0.42, "dpo": 0.5, "dpo-8": 0.55, "pro": 0.52, "pro-8": 0.51, **truth}
    world.TRUTH.update({"dpo-8": (names["dpo-8"], "DPO, n = 8"), "pro-8": (names["pro-8"], "PRO, n = 8")})
    try:
        return world.make(rows=tuple(names), seeds=(0, 1))
    finally:
        del world.TRUTH["dpo-8"], world.TRUTH["pro-8"]


def chart(whole: Summary, run_results: Results, kind: str) -> bytes:
    with figure_style():
        return figure_bytes(sweeps(whole, run_results.run), kind)


def summary(run_results: Results) -> Summary:
    return summarise(run_results, TARGET)


def test_a_line_is_a_method_with_its_points_rising_in_x() -> None:
    run_results = results()
    lines = curves(summary(run_results), run_results.run, summary(run_results).columns[0])
    assert [(line.series, line.title, [x for x, _ in line.points]) for line in lines] == [
        ("pro", "PRO", [4, 8]),
        ("dpo", "DPO", [4, 8]),
    ]
    values = [cell.row.id for line in lines for _, cell in line.points]
    assert values == ["pro", "pro-8", "dpo", "dpo-8"]


def test_a_row_without_a_value_is_left_out_of_its_line() -> None:
    run_results = world.with_missing(results(), "pro-8", "failed: out of memory")
    line = curves(summary(run_results), run_results.run, summary(run_results).columns[0])[0]
    assert (line.series, [x for x, _ in line.points]) == ("pro", [4])


def test_a_line_without_its_own_row_is_named_by_its_points() -> None:
    run_results = results()
    rows = tuple(RowSpec(row.id, "PAD, alpha 1") if row.id == "dpo-8" else row for row in run_results.run.rows)
    target = replace(TARGET, points={"dpo-8": Point("pad-ppd", 1.0)})
    renamed = replace(run_results, run=replace(run_results.run, rows=rows))
    (line,) = curves(summarise(renamed, target), renamed.run, summarise(renamed, target).columns[0])
    assert line.title == "PAD"


def test_files_are_drawn_the_same_each_time_and_say_what_they_show() -> None:
    run_results = results()
    first, second = (
        {kind: chart(summary(run_results), run_results, kind) for kind in ("png", "pdf", "svg")} for _ in range(2)
    )
    assert first == second
    assert first["png"].startswith(b"\x89PNG") and first["pdf"].startswith(b"%PDF")
    text = first["svg"].decode()
    assert "Figure 9: Scores over n" in text  # letters are drawn as paths, their text beside them as a comment


def test_a_method_looks_as_in_every_other_figure_whatever_else_is_drawn() -> None:
    """By its name, not by its place: alone or after another, with the colour, marker and line of the palette."""
    run_results = results()
    for names in (("pro", "dpo"), ("dpo",), ("pro",), ()):
        points = {row: point for row, point in TARGET.points.items() if point.series in names}
        (axis,) = sweeps(summarise(run_results, replace(TARGET, points=points)), run_results.run).axes
        lines = {str(line.get_label()).lower(): line for line in axis.get_lines()}
        assert [name for name in lines if name in ("pro", "dpo")] == list(names)
        for name in names:
            assert (lines[name].get_color(), lines[name].get_marker()) == look(name)[:2]
    assert [text.get_text() for text in axis.texts] == ["no score"]
