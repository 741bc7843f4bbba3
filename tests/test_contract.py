"""What holds for everything that is registered: shipped recipes resolve, files are listed, options are explained."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.check import CHECKS
from harness.check_data import World
from harness.cli.wiring import load_registry
from harness.recipe import load_recipe
from harness.recipe_file import shipped
from harness.recipe_rows import ROW_KEYS
from harness.registry import Registry
from judges import PAPER

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def defining(folder: str, name: str) -> set[str]:
    """Files of a folder that assign ``name`` at the top level."""
    return {
        file.stem
        for file in (ROOT / folder).glob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id == name
    }


def module_of(thing: Any) -> str:
    return thing.config.__module__.rpartition(".")[2]


def test_every_file_is_in_its_table_of_contents(registry: Registry) -> None:
    assert {module_of(method) for method in registry.methods.values()} == defining("methods", "METHOD")
    assert {module_of(bench) for bench in registry.benchmarks.values()} == defining("judges", "BENCHMARK")
    assert {module_of(kind) for kind in registry.judges.values()} == defining("judges", "JUDGE")


def test_nothing_is_lost(registry: Registry) -> None:
    papers_rows = {"kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"}
    assert papers_rows <= set(registry.methods)
    further = {"arena_hard_v2", "arena_hard_v2_writing", "mt_bench_pairwise", "gsm8k_json"}
    assert set(registry.benchmarks) == {"alpaca_eval", "arena_hard", "mt_bench", "gsm8k"} | further
    assert set(PAPER) == set(load_recipe("pocket", (), registry).benchmarks)
    assert {"pocket", "openai", "transformers", "replay"} <= set(registry.judges)


def test_shipped_recipes_are_counted() -> None:
    files = {file.stem for file in (ROOT / "recipes").glob("*.yaml")}
    assert set(shipped()) == files
    assert {"pocket", "smollm2"} <= files


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_resolves_and_gives_itself_again(name: str, registry: Registry, tmp_path: Path) -> None:
    recipe = load_recipe(name, (), registry)
    assert recipe.name == name
    copy = tmp_path / "copy.yaml"
    copy.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(str(copy), (), registry) == recipe


@pytest.mark.parametrize("name", shipped())
def test_every_line_of_a_shipped_recipe_says_why(name: str) -> None:
    text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)
    sections = {"family", "prompts", "sampling", "reward", "train", "judges", "main", "statistics", "title"}
    rows = ("kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-", "alpaca_eval", "arena_hard", "mt_bench")
    for line in text.splitlines():
        key = line.strip().partition(":")[0]
        plain = not key or key in sections or key.startswith(rows)
        assert plain or "#" in line, f"{name}.yaml: no comment on {line!r}"


def configs() -> list[tuple[str, type[Any]]]:
    registry = load_registry()
    things = [*registry.methods.items(), *registry.benchmarks.items(), *registry.judges.items()]
    return [(name, thing.config) for name, thing in things]


@pytest.mark.parametrize(("name", "config"), configs(), ids=lambda value: value if isinstance(value, str) else "")
def test_options_are_frozen_explained_and_do_not_shadow_the_recipe(name: str, config: type[Any]) -> None:
    assert dataclasses.is_dataclass(config)
    assert config.__dataclass_params__.frozen
    names = {field.name for field in dataclasses.fields(config)}
    assert not names & {"judge", "kind", *ROW_KEYS}, "a recipe uses these keys for itself"
    sources = [inspect.getsource(each) for each in config.__mro__ if dataclasses.is_dataclass(each)]
    bodies = [ast.parse(inspect.cleandoc(source)).body[0] for source in sources]
    assert all(isinstance(body, ast.ClassDef) for body in bodies)
    explained = {
        node.target.id
        for body in bodies
        if isinstance(body, ast.ClassDef)
        for node, after in zip(body.body, body.body[1:], strict=False)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }
    assert names <= explained, f"{name}: no docstring under {sorted(names - explained)}"


METHODS = load_registry().methods


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_keeps_its_contract(name: str, check: str, world: World) -> None:
    """The checks of ``distilbench check-method``, third parties' methods that are installed included."""
    method = METHODS[name]
    assert CHECKS[check](method, method.config(), world)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("name", ["gkd", "distillm"])
def test_both_kinds_of_steps_keep_the_contract(name: str, share: float, world: World) -> None:
    """All golden, and all live; the defaults above mix them."""
    config = METHODS[name].config(on_policy=share)
    for check in ("rows", "trains", "micro-batches"):
        if check != "rows" or share == 0:
            assert CHECKS[check](METHODS[name], config, world)


def test_the_sweep_covers_every_method() -> None:
    assert len(CHECKS) == 7
    assert len(METHODS) >= 16
