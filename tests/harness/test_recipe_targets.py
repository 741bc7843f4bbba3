"""The section ``targets`` of a recipe: merged in order, rows made from rows, mistakes told where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from distilbench.plugins import load_registry
from distilbench.workflows.plan import rows_of
from harness.contracts.options import RecipeError
from harness.errors import UserError
from harness.recipe.recipe import NotApplicable, Recipe, load_recipe
from reports.targets import TARGETS, find_targets

REGISTRY = load_registry()
MINE = """
extends: pocket
methods:
  pad-ppd: {beta: 5.0, train: {learning_rate: 2.0e-4}}
targets:
  figure5: {seeds: [7], train: {epochs: 2}, rows: [pad-ppd-alpha0.0, pad-ppd-alpha1.0]}
"""


def mine(folder: Path, text: str = MINE) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def load(recipe: str, target: str, *overrides: str) -> Recipe:
    return load_recipe(recipe, overrides, REGISTRY, TARGETS[target])


def test_a_variant_takes_over_its_row_and_changes_one_thing(tmp_path: Path) -> None:
    rows = load(mine(tmp_path), "figure5").methods
    low, high, base = rows["pad-ppd-alpha0.0"], rows["pad-ppd-alpha1.0"], rows["pad-ppd"]
    assert (low.config.alpha, high.config.alpha, base.config.alpha) == (0.0, 1.0, 0.8)
    assert {entry.config.beta for entry in (low, high, base)} == {5.0}
    assert {entry.train.learning_rate for entry in (low, high, base)} == {2.0e-4}
    assert low.method == "pad-ppd"


def test_the_section_comes_after_the_recipe_and_before_set(tmp_path: Path) -> None:
    recipe = load(mine(tmp_path), "figure5")
    assert recipe.seeds == (7,) and recipe.train.epochs == 2
    assert load(mine(tmp_path), "figure5", "seeds=[3]").seeds == (3,)
    assert load(mine(tmp_path), "figure5", "targets.figure5.seeds=[4]").seeds == (4,)
    assert load(mine(tmp_path), "figure5", "methods.pad-ppd.beta=2").methods["pad-ppd-alpha0.0"].config.beta == 2.0
    assert load(mine(tmp_path), "figure6").seeds == (0,), "pocket's own section for figure6, inherited"
    assert load(mine(tmp_path), "table1").seeds == (0, 1, 2)


def test_rows_choose_and_only_the_benchmarks_of_the_columns_are_run(tmp_path: Path) -> None:
    recipe = load(mine(tmp_path), "figure5")
    assert rows_of(TARGETS["figure5"], recipe, []) == ["student", "pad-ppd-alpha0.0", "pad-ppd-alpha1.0"]
    assert rows_of(TARGETS["figure5"], recipe, ["pad-ppd-alpha1.0"]) == ["student", "pad-ppd-alpha1.0"]
    assert list(recipe.benchmarks) == ["alpaca_eval"]
    assert list(load(mine(tmp_path), "table1").benchmarks) == ["alpaca_eval", "arena_hard", "mt_bench", "gsm8k"]


def test_a_row_can_say_more_of_a_variant(tmp_path: Path) -> None:
    path = mine(tmp_path, MINE + "  table2: {methods: {pad-ppd-2x2: {beta: 3.0}}}\n")
    rows = load(path, "table2").methods["pad-ppd-2x2"]
    assert (rows.config.beta, rows.row_options.rounds, rows.sampling.n) == (3.0, 2, 2)


def test_what_was_resolved_for_a_target_needs_no_section_any_more(tmp_path: Path) -> None:
    recipe = load(mine(tmp_path), "figure5")
    assert recipe.targets == {} and "targets" not in recipe.to_tree()
    whole = load_recipe(mine(tmp_path), (), REGISTRY)
    assert whole.targets["figure5"]["seeds"] == [7]
    (tmp_path / "again.yaml").write_text(whole.to_yaml(), encoding="utf-8")
    assert load_recipe(str(tmp_path / "again.yaml"), (), REGISTRY) == whole


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{tabel3: {}}", "targets.tabel3 = 'tabel3': is not the name of a target. Did you mean 'table3'?"),
        ("{table3: 1}", "targets.table3 = 1: must be a mapping"),
        ("{figure5: {rows: [pad-ppd-n2]}}", "targets.figure5.rows = 'pad-ppd-n2': is not the name of a row of it"),
        ("{figure5: {rows: []}}", "targets.figure5.rows = []: must have at least 1 item"),
        ("{figure5: {skip: true}}", "targets.figure5.skip = True: must be text"),
        ("{figure5: {name: other}}", "targets.figure5.name cannot differ between the targets"),
        ("{figure5: {sede: [1]}}", "targets.figure5.sede is an unknown key"),
        ("{figure5: {train: {epochs: 0}}}", "targets.figure5.train.epochs = 0: must be greater than or equal to 1"),
        ("{figure5: {methods: {pad-ppd: {alpha: 3}}}}", "targets.figure5.methods.pad-ppd"),
        ("[figure5]", "targets = ['figure5']: must be a mapping from targets"),
    ],
)
def test_a_mistake_is_found_when_the_recipe_is_read(tmp_path: Path, section: str, message: str) -> None:
    path = mine(tmp_path, f"extends: pocket\ntargets: {section}\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(path, (), REGISTRY)
    assert message in str(error.value)
    assert "[mine.yaml:2]" in str(error.value)


def test_a_target_that_does_not_fit_says_why(tmp_path: Path) -> None:
    path = mine(tmp_path, 'extends: pocket\ntargets: {table6: {skip: "one teacher only"}}\n')
    assert load_recipe(path, (), REGISTRY).name == "mine"
    with pytest.raises(NotApplicable, match="Table 6 does not fit the recipe 'mine': one teacher only"):
        load(path, "table6")
    with pytest.raises(
        NotApplicable, match=r"Table 3 .* about a family of its own.*'smollm2' does not say which.*targets\.table3"
    ):
        load("smollm2", "table3")
    only = mine(tmp_path, "extends: pocket\nbenchmarks: [gsm8k]\n")
    with pytest.raises(
        NotApplicable, match="Table 2 needs the benchmark alpaca_eval, which the recipe 'mine' does not have"
    ):
        load(only, "table2")


def test_targets_by_name() -> None:
    assert [target.name for target in find_targets("figure4, table2,table2")] == ["figure4", "table2"]
    assert [target.name for target in find_targets("all")] == [name for name in TARGETS if name != "eval"]
    with pytest.raises(UserError, match="Did you mean 'table2'"):
        find_targets("tabel2")
    with pytest.raises(UserError, match="no target is named"):
        find_targets(",")


def test_a_recipe_may_inherit_sections_that_it_cannot_use(tmp_path: Path) -> None:
    """TRL has no loss for PAD-PPD, which pocket's figure6 is about: that is said when figure6 is made, not before."""
    path = mine(tmp_path, "extends: pocket\ntrain: {backend: trl}\nmethods: [dpo]\n")
    assert list(load_recipe(path, (), REGISTRY).methods) == ["dpo"]
    with pytest.raises(RecipeError, match=r"TRL's stable trainers have no loss for pad-ppd-n2"):
        load(path, "figure6")
