"""Figures: made where the data are there, the same bytes each time, one look per row."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reports.figures.bars import bars
from reports.figures.scatter import front
from reports.figures.style import LOOKS, figure_bytes, figure_style, look
from reports.figures.training_curves import training_curves
from reports.tables.summary import summarise
from reports.targets import TARGETS
from reports.write import drawings
from results.run.lineage import StudentTraining
from results.run.record import RunFamily
from results.run.results import Results
from tests.reports import world

HOSTILE = "$\\frac{} <script>alert(1)</script>"


def full_results() -> Results:
    """Two trained rows with lengths, categories and training curves."""
    results = world.make(rows=("teacher", "student", "dpo", "pad-ppd"), seeds=(0, 1))
    details: dict[str, dict[str, float | str]] = {
        "alpaca_eval.wr": {"mean_length": 900.0, "baseline_length": 1500.0, "truncated": 0.0},
        "mt_bench.score": {"category:math": 5.0, "category:writing": 7.0, "category:stem": 6.0},
    }
    for place in results.scores:
        if place[1] in details:
            results = world.with_score(results, place, detail=details[place[1]])
    rows = tuple(replace(row, title=HOSTILE) if row.id == "dpo" else row for row in results.run.rows)
    trainings = {
        (row, seed): StudentTraining({"sample": 60.0, "train": 30.0 * (seed + 1)}, 1, curve(0.1 * seed, log), "2.13")
        for row, log in (("dpo", "margin"), ("pad-ppd", "agreement"))
        for seed in (0, 1)
    }
    return Results(replace(results.run, rows=rows), results.scores, trainings=trainings)


def curve(start: float, log: str) -> tuple[dict[str, object], ...]:
    return tuple(
        {"step": step, "loss": start + 1 / step, "terms": {}, "logs": {log: float(step)}} for step in range(1, 6)
    )


def figures(results: Results, kind: str) -> dict[str, bytes]:
    with figure_style():
        charts = drawings(summarise(results, TARGETS["table1"]), results)
        return {drawing.suffix: figure_bytes(drawing.draw(), kind) for drawing in charts}


def test_an_own_column_has_a_short_heading_and_no_scale_without_a_value() -> None:
    """The last column, GSM8K, has no value at all. No tick stands at an edge, where its number would be cut."""
    results = world.make(rows=("student", "dpo"), seeds=(0,))
    scores = {place: score for place, score in results.scores.items() if place[1] != "gsm8k.acc"}
    missing = {place: "no verdict" for place in results.scores if place[1] == "gsm8k.acc"}
    columns = tuple(replace(metric, group="Helpful (our support desk, spring)") for metric in results.run.columns)
    results = Results(replace(results.run, columns=columns), scores, missing)
    with figure_style():
        axes = bars(summarise(results, TARGETS["table1"]), results.run).axes
    assert all(axis.get_title().startswith("Helpful (our support desk,") for axis in axes)
    assert all(len(axis.get_title().split("\n")[0]) <= 28 for axis in axes)
    assert list(axes[-1].get_xticks()) == [] and all(len(axis.get_xticks()) for axis in axes[:-1])
    percentages = [axis for axis in axes if "%" in axis.get_title()]
    assert all(max(axis.get_xticks(), default=0) < axis.get_xlim()[1] for axis in percentages)


def test_every_figure_is_drawn_where_its_data_are() -> None:
    charts = figures(full_results(), "svg")
    assert list(charts) == ["", "-length", "-cost", "-training"]
    assert all(b"<script" not in content for content in charts.values())
    assert charts == figures(full_results(), "svg")
    assert list(figures(world.make(rows=("student", "kd"), seeds=(0,)), "svg")) == [""]


def test_a_step_is_whole_and_rounding_is_a_level_line() -> None:
    """Two steps: no tick at 1.5. A loss that moves by 1e-9 has no offset text, and an axis of 0.25 +- 0.025."""
    results = full_results()
    flat = tuple({"step": step, "loss": 0.25 + 1e-9 * step, "terms": {}, "logs": {}} for step in (1, 2))
    trainings = {("dpo", 0): StudentTraining({"train": 1.0}, 1, flat, "2.13")}
    results = Results(results.run, results.scores, trainings=trainings)
    figure = training_curves(summarise(results, TARGETS["table1"]), results)
    figure.canvas.draw()
    (axis,) = [axis for axis in figure.axes if axis.get_visible()]
    assert all(tick == int(tick) for tick in axis.get_xticks())
    assert axis.yaxis.get_offset_text().get_text() == ""
    assert [round(end, 4) for end in axis.get_ylim()] == [0.225, 0.275]


@pytest.mark.parametrize(("steps", "marker"), [(1, "o"), (8, "o"), (9, "None")])
def test_few_points_of_a_curve_have_markers(steps: int, marker: str) -> None:
    """One step makes a line without length: only its marker is seen."""
    results = full_results()
    curve = tuple({"step": step, "loss": 0.5, "terms": {}, "logs": {}} for step in range(1, steps + 1))
    trainings = {("dpo", 0): StudentTraining({"train": 1.0}, 1, curve, "2.13")}
    results = Results(results.run, results.scores, trainings=trainings)
    (axis, *_) = training_curves(summarise(results, TARGETS["table1"]), results).axes
    assert {line.get_marker() for line in axis.get_lines()} == {marker}


def test_no_percentage_beyond_a_hundred() -> None:
    """A bar at 97 needs room for its number, so the axis goes on; its ticks do not."""
    results = world.make(("student", "dpo"), (0,), replicates=50)
    results = world.with_score(results, ("dpo", "gsm8k.acc", 0), value=97.0, low=95.0, high=99.0, replicates=())
    figure = bars(summarise(results, TARGETS["table1"]), results.run)
    axis = next(axis for axis in figure.axes if axis.get_title().startswith("GSM8K"))
    assert axis.get_xlim()[1] > 100 and max(axis.get_xticks()) <= 100


def test_the_front_by_hand() -> None:
    """a costs 1 and scores 5; b costs more for less; c costs 2 and scores 7; d costs as c and scores less."""
    assert front({"b": (1.5, 4), "c": (2, 7), "a": (1, 5), "d": (2, 6), "e": (3, 7)}) == ["a", "c"]
    assert front({"low": (2, 6), "high": (2, 7), "cheap": (1, 5)}) == ["cheap", "high"]  # of equal cost the better one
    assert front({}) == []


def test_the_mean_over_seeds_is_smoothed() -> None:
    """30 steps: windows of three. Seeds 0, 2, 4, ... and 0, 4, 8, ... have the mean 0, 3, 6, ...; at the ends
    (0 + 3) / 2 and (84 + 87) / 2. The second seed's last step stands alone and is left out.
    """
    curves = [[2.0 * step for step in range(30)], [4.0 * step for step in range(31)]]
    trainings = {
        ("dpo", seed): StudentTraining({}, 1, tuple({"step": step, "loss": loss} for step, loss in enumerate(losses)))
        for seed, losses in enumerate(curves)
    }
    results = Results(world.make(("dpo",), (0, 1), replicates=9).run, {}, trainings=trainings)
    axis = training_curves(summarise(results, TARGETS["table1"]), results).axes[0]
    thick = [float(y) for y in axis.get_lines()[-1].get_ydata()]
    assert thick == [1.5, *(3.0 * step for step in range(1, 29)), 85.5]


def test_every_row_has_one_look_everywhere() -> None:
    assert len({row_look.colour for row_look in LOOKS.values()}) == len(LOOKS) >= 18
    assert len({row_look.marker for row_look in LOOKS.values()}) == len(LOOKS)  # told apart without colour
    assert look("my-method") == look("my-method") and look("my-method").colour.startswith("#")
    dashes = [LOOKS[row].line for row in ("dckd", "adpa", "adpa+", "distillm")]
    assert len({*dashes, *(LOOKS[row].line for row in TARGETS["table1"].rows)}) == 4 + 4
    third = {look(f"method-{number}") for number in range(40)}
    assert len(third) > 30


def test_the_rows_have_one_key_beside_their_panels() -> None:
    names = tuple(LOOKS)[2:9]
    results = world.make(names, (0,), replicates=50)
    trainings = {(row, 0): StudentTraining({"train": 1.0}, 1, curve(0.0, "margin"), "2.13") for row in names}
    results = Results(results.run, results.scores, trainings=trainings)
    figure = training_curves(summarise(results, TARGETS["table1"]), results)
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == [world.TRUTH[row][1] for row in names]
    legend_start = key.get_window_extent(FigureCanvasAgg(figure).get_renderer()).x0
    assert 0 < max(axis.get_window_extent().x1 for axis in figure.axes if axis.get_visible()) < legend_start


def test_diamonds_stand_where_the_papers_value_can_be_compared() -> None:
    results = world.paper(("student", "simpo", "pad-ppd"), (0,))
    judges = {**results.run.judges, "arena_hard": "another-judge"}
    results = replace(results, run=replace(results.run, judges=judges))
    figure = bars(summarise(results, TARGETS["table1"]), results.run)
    diamonds = {
        axis.get_title().partition("\n")[0]: sum(line.get_marker() == "D" for line in axis.get_lines())
        for axis in figure.axes
    }
    assert diamonds == {"AlpacaEval 2": 3, "Arena-Hard": 0, "MT-Bench": 3, "GSM8K": 3}


def test_neighbours_of_the_papers_table_differ_in_grey() -> None:
    """Luminance (Rec. 709, 0..1) of one bar and of the next: at least 4 of 100 apart."""
    rows = TARGETS["table1"].rows
    weights = ((0.2126, 1), (0.7152, 3), (0.0722, 5))
    grey = [sum(weight * int(look(row).colour[i : i + 2], 16) for weight, i in weights) / 255 for row in rows]
    near = [(a, b) for (a, x), (b, y) in pairwise(zip(rows, grey, strict=True)) if abs(x - y) < 0.04]
    assert not near


def texts_of(results: Results, target: str) -> str:
    """Headings and notes of all figures of a target."""
    all_drawings = drawings(summarise(results, TARGETS[target]), results)
    with figure_style():
        figures = [drawing.draw() for drawing in all_drawings]
    return "\n".join(text.get_text() for figure in figures for text in [*figure.texts, figure._suptitle])  # type: ignore[attr-defined]


def test_a_figure_explains_the_marks_that_it_has() -> None:
    """Models as they are: no teacher, no reference row, nothing tested. A trained table has all three."""
    results = world.make(("big", "small"), (0,))
    rows = tuple(replace(row, baseline=True) for row in results.run.rows)
    run = replace(results.run, rows=rows, family=RunFamily("evaluation", "", "big, small"))
    texts = texts_of(replace(results, run=run), "eval")
    assert "Evaluation: Models as they are" in texts and "Lines: 95% intervals." in texts
    assert not any(word in texts for word in ("teaches", "Dashed", "*:", "Diamonds"))
    texts = texts_of(world.make(("student", "pad-ppd"), (0, 1)), "table1")
    assert "pocket-teacher teaches pocket-student" in texts and "Dashed: Student. *: significantly" in texts
    texts = texts_of(world.make(("student", "pad-ppd"), (0, 1), questions=20), "table1")
    assert "Dashed: Student." in texts and "*:" not in texts  # too few questions for any test
    assert "Bars: 95%" in texts_of(world.make(("pad-ppd",), (0,)), "figure4")


def test_no_note_speaks_of_seeds_intervals_or_smoothing_that_a_figure_has_not() -> None:
    """Scores without intervals; and one seed of three logged steps, whose curve is neither a mean nor smoothed."""
    results = full_results()
    texts = texts_of(results, "table1")
    assert "Thick: mean over seeds" in texts and "Lines: 95% intervals. Black line" in texts
    assert "Lines: 95% intervals. Dashed: length" in texts
    scores = {key: replace(score, low=None, high=None, replicates=()) for key, score in results.scores.items()}
    lines = tuple(curve(0.0, "margin")[:3])
    trainings = {key: replace(training, curve=lines) for key, training in results.trainings.items() if key[1] == 0}
    scores = {key: score for key, score in scores.items() if key[2] == 0}
    texts = texts_of(Results(results.run, scores, trainings=trainings), "table1")
    assert "Pareto front" in texts and "training curves" in texts and "answer length" in texts
    assert not any(word in texts for word in ("95% intervals", "Thick", "Thin", "smoothed"))
