"""The targets as data: rows that can be made, columns that exist, and the paper's table of hyperparameters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilbench.plugins import load_registry
from harness.contracts.target import Target
from harness.recipe.recipe import NotApplicable, load_recipe
from harness.recipe.sections import MODELS
from reports.formats.data import to_json
from reports.tables.published import SETTINGS
from reports.targets import EVAL, TARGETS
from reports.write import BUILDERS, make_table, write_table
from results.published import TABLES, published_table
from results.run.record import Run, RunFamily
from results.run.results import Results
from tests.reports import world

REGISTRY = load_registry()
PAPERS = [target for target in TARGETS.values() if target is not EVAL]


def test_the_papers_tables_and_figures_are_there() -> None:
    tables = [f"table{number}" for number in range(1, 7)]
    assert [target.name for target in PAPERS][: len(tables)] == tables
    assert [name for name in TARGETS if name.startswith("figure")] == ["figure4", "figure5", "figure6"]


@pytest.mark.parametrize("target", PAPERS, ids=lambda target: target.name)
def test_a_target_names_what_there_is(target: Target) -> None:
    metrics = {metric.id for benchmark in REGISTRY.benchmarks.values() for metric in benchmark.metrics}
    costs = {"cost.time", "cost.memory"} if target.layout == "costs" else set()
    assert target.layout in BUILDERS
    assert set(target.columns) <= metrics | costs
    rows_with_a_maker = {*MODELS, *REGISTRY.methods, *target.variants}
    assert set(target.rows) <= rows_with_a_maker and len(set(target.rows)) == len(target.rows)
    assert set(target.variants) <= set(target.rows)
    assert {variant.of for variant in target.variants.values()} <= set(REGISTRY.methods)
    assert not target.rows or target.reference in target.rows
    assert target.focus is None or target.focus in target.rows
    assert target.published is None or target.published in TABLES
    if target.layout == "curves":
        assert set(target.points) == set(target.rows) - set(MODELS) and target.axis
        assert {point.series for point in target.points.values()} <= set(REGISTRY.methods)


def test_rows_of_published_tables_have_our_names() -> None:
    """So that a value is found beside our cell; Table 3's n/a rows are ours alone."""
    families = {"table1": "gemma2", "table2": "gemma2", "table3": "hetero", "table6": "scaling"}
    for name, family in families.items():
        paper_rows = {row for table_family, row, _ in published_table(name) if table_family == family}
        our_rows = set(TARGETS[name].rows)
        assert paper_rows <= our_rows and our_rows - paper_rows <= {"kd", "minillm"}, name


def test_every_point_of_a_figure_differs_in_what_its_axis_says() -> None:
    for name, read in (
        ("figure4", lambda entry: entry.row_options.rounds),
        ("figure5", lambda entry: entry.config.alpha),
        ("figure6", lambda entry: entry.sampling.n),
    ):
        target = replace(TARGETS[name])
        methods = load_recipe("gemma2", (), REGISTRY, target).methods
        for row, point in target.points.items():
            assert read(methods[row]) == point.x, row
            assert methods[row].method == point.series


def pocket(*overrides: str, family: str = "pocket") -> Run:
    recipe = load_recipe("pocket", overrides, REGISTRY, TARGETS["table4"]).to_tree()
    run = world.make(rows=("student",)).run
    return replace(run, recipe=recipe, family=RunFamily(family, "t", "s"), rows=(), cells=(), name="mine")


def settings(run: Run) -> dict[str, dict[str, Any]]:
    """The lines of Table 4's JSON by setting."""
    return {line["setting"]: line for line in json.loads(to_json(make_table(Results(run, {}), "table4")))["rows"]}


def test_settings_are_those_that_the_run_trains_with() -> None:
    """The row's own values come before the recipe's; a setting of ours that the paper has is marked as the same."""
    run = pocket("train.learning_rate=1e-3", "methods.pad-ppd={beta: 2.0, train: {learning_rate: 8e-7}}")
    lines = settings(run)
    assert set(lines) == set(SETTINGS)
    assert (lines["beta"]["used"], lines["beta"]["same"]) == (2.0, False)
    rate = lines["learning_rate"]
    assert (rate["same"], [number["family"] for number in rate["published"]]) == (True, ["gemma2", "llama3"])
    llama = settings(replace(run, family=RunFamily("llama3", "t", "s")))["learning_rate"]
    assert (llama["same"], [number["searched"] for number in llama["published"]]) == (
        False,
        [rate["published"][1]["searched"]],
    )
    without = replace(run, recipe={**run.recipe, "methods": {}})
    assert {line["used"] for line in settings(without).values()} == {None}


def test_a_rows_own_sampling_is_what_it_trains_with() -> None:
    """n and temperature of the row, not of the recipe: pocket's sampling, and pad-ppd's over it."""
    for changes, values in (
        (("methods.pad-ppd.sampling={n: 2, temperature: 0.5}",), (2, 0.5)),
        (("sampling.n=3", "sampling.temperature=0.6"), (3, 0.6)),
    ):
        lines = settings(pocket(*changes))
        assert (lines["n"]["used"], lines["sampling_temperature"]["used"]) == values


@pytest.mark.parametrize(
    ("name", "recipe"), [("table3", "scaling"), ("table6", "hetero"), ("table6", "mine"), ("table3", "mine")]
)
def test_tables_of_another_family_are_not_made_of_any_recipe(name: str, recipe: str, tmp_path: Path) -> None:
    """Their family must be said: ``mine`` says nothing of it, the paper's recipes that it does not fit."""
    if recipe == "mine":
        (tmp_path / "mine.yaml").write_text("name: mine\nfamily: {teacher: pocket:teacher, student: pocket:student}\n")
        recipe = str(tmp_path / "mine.yaml")
    with pytest.raises(NotApplicable, match=TARGETS[name].label):
        load_recipe(recipe, (), REGISTRY, TARGETS[name])


def test_table4_is_written_without_scores(tmp_path: Path) -> None:
    results = Results(pocket(), {})
    table = make_table(results, "table4")
    files = {path.name for path in write_table(table, tmp_path)}
    assert files == {"table4.md", "table4.tex", "table4.csv", "table4.json"}
    rows = {row.cells[0].text: [cell.text for cell in row.cells[1:]] for row in table.rows}
    assert rows["alpha"] == ["0.8", "0.8", "yes", "no search stated"]
    assert rows["learning rate"][1] == "8e-07 (gemma2), 1e-06 (llama3)"
    assert len((tmp_path / "table4.csv").read_text().splitlines()) == 1 + 9  # nine published values
    assert "Setting (pocket)" in (tmp_path / "table4.md").read_text(encoding="utf-8")
