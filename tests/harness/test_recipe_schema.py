"""The schema and the reference of the recipe say what the program does: they accept and refuse the same."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from distilbench.plugins import OURS, load_registry
from harness.contracts.executor import StageOptions
from harness.contracts.judge import AskOptions
from harness.contracts.options import RecipeError
from harness.recipe import sections
from harness.recipe.recipe import Heading, load_recipe
from harness.recipe.reference import explain, markdown, type_text
from harness.recipe.schema import FILE, properties, recipe_schema, schema_text
from harness.recipe.yaml_source import _load, read_source, shipped_recipes
from harness.training.options import Lora, TrainOptions
from tests.command import ROOT

REGISTRY = load_registry()
SCHEMA = recipe_schema(REGISTRY)
LINE = f"# yaml-language-server: $schema={FILE}"
MAKE = "run `distilbench recipe schema --out recipes/recipe.schema.json` and `distilbench recipe reference`"


def mistakes(text: str, schema: dict[str, Any] = SCHEMA) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(_load(text)[0])]


def test_the_files_are_what_the_commands_print() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert (ROOT / "recipes" / FILE).read_text(encoding="utf-8") == schema_text(SCHEMA), MAKE
    assert (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8") == markdown(REGISTRY), MAKE


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_fits_the_schema_that_it_names(name: str) -> None:
    file = ROOT / "recipes" / f"{name}.yaml"
    assert mistakes(file.read_text(encoding="utf-8")) == []
    # With every default written out it is a recipe too.
    assert mistakes(load_recipe(name, (), REGISTRY).to_yaml()) == []
    lines = file.read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if "yaml-language-server" in line]
    assert named == lines[:1] == [LINE]
    assert (file.parent / LINE.partition("=")[2]).is_file()  # in a clone and in a wheel: they lie side by side


MISTAKES = {
    "a misspelt option": ("train: {learning_rte: 1.0e-6}", "learning_rte"),
    "text for a number": ("train: {epochs: '2'}", "$.train.epochs"),
    "a number out of range": ("sampling: {temperature: -1}", "minimum"),
    "a choice that is none": ("train: {schedule: cosin}", "cosine"),
    "a number for a list": ("seeds: 3", "$.seeds"),
    "an option of another method": ("methods: {dpo: {alpha: 0.5}}", "alpha"),
    "a method that is none": ("methods: {mine: {method: pad-pdp}}", "$.methods.mine.method"),
    "a kind of benchmark that is none": ("benchmarks: {mine: {kind: gsm9k}}", "$.benchmarks.mine.kind"),
    "an option of another benchmark": ("benchmarks: {gsm8k: {order: both}}", "order"),
    "a kind of judge that is none": ("judges: {main: {kind: opnai}}", "openai"),
    "an option of another kind of judge": ("judges: {main: {kind: openai, model: m, noise: 1}}", "noise"),
    "an option of another executor": ("compute: {executor: ray, executor_options: {partition: a}}", "partition"),
    "an option of another source": ("prompts: {source: pocket, path: mine.jsonl}", "path"),
    "an option of another backend": ("family: {backend: vllm, backend_options: {servr: a}}", "servr"),
    "a section of a target": ("targets: {table2: {train: {epochs: two}}}", "$.targets.table2.train.epochs"),
    "a target that is none": ("targets: {tabel2: {seeds: [0]}}", "tabel2"),
    "a section that is none": ("trian: {epochs: 1}", "trian"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_by_the_schema_and_by_the_reader(name: str, tmp_path: Path) -> None:
    text, part = MISTAKES[name]
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: pocket\n{text}\n", encoding="utf-8")
    assert any(part in mistake for mistake in mistakes(file.read_text(encoding="utf-8")))
    with pytest.raises(RecipeError):
        load_recipe(str(file), (), REGISTRY)


def test_what_a_recipe_that_extends_nothing_must_say() -> None:
    assert len(mistakes("name: mine")) == 2  # family and benchmarks
    assert "'student'" in mistakes("family: {name: a, teacher: a/b}\nbenchmarks: [gsm8k]")[0]
    alone = "family: {name: a, teacher: a/b, student: c/d}\nbenchmarks: [gsm8k]\n"
    assert mistakes(alone) == []
    assert "'model'" in mistakes(alone + "judges: {main: {kind: openai}}")[0]
    assert "'path'" in mistakes(alone + "prompts: {source: jsonl}")[0]
    assert mistakes(alone.replace("[gsm8k]", "{gsm9k: {}}")) and mistakes(alone.replace("[gsm8k]", "[gsm9k]"))
    assert mistakes(alone + "methods: {dop: {}}") and not mistakes(alone + "methods: {mine: {method: dpo, beta: 1}}")
    assert not mistakes("extends: mine.yaml\nmethods: {a-row-of-it: {beta: 1}}\njudges: {main: {model: m}}")


def test_a_plugin_is_in_the_schema_and_on_the_page(tmp_path: Path) -> None:
    file = tmp_path / "my_method.py"
    code = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    file.write_text(re.findall(r"^```python\n(.*?)^```$", code, re.MULTILINE | re.DOTALL)[0], encoding="utf-8")
    registry = load_registry([str(file)])
    text = "extends: pocket\nmethods: {rrhf: {}}\n"
    assert mistakes(text, recipe_schema(registry)) == []
    assert mistakes("extends: pocket\nmethods: {rrhf: {sft_wieght: 1}}\n", recipe_schema(registry))
    assert "`method: rrhf`" in markdown(registry)


def test_every_option_has_a_sentence() -> None:
    kinds = {entry.config for table in OURS for entry in getattr(REGISTRY, table).values()}
    kinds |= {executor.stage_config for executor in REGISTRY.executors.values()}
    kinds |= {Heading, sections.Family, sections.Prompts, sections.SamplingOptions, sections.RewardOptions}
    kinds |= {TrainOptions, Lora, sections.RowOptions, sections.Searched, sections.TunedPairs, sections.Statistics}
    kinds |= {sections.Compute, StageOptions, AskOptions, sections.TargetOptions}
    without = [
        f"{kind.__qualname__}.{field.name}"
        for kind in kinds
        for field in dataclasses.fields(kind)
        if field.name != "config" and not properties(kind)[field.name].get("description", "").endswith((".", ")"))
    ]
    assert not without


def test_types_in_words() -> None:
    options = properties(TrainOptions)
    assert type_text(options["epochs"]) == "whole number from 1 to 10,000"
    assert type_text(options["learning_rate"]) == "number above 0, at most 10"
    assert type_text(options["schedule"]) == "one of `cosine`, `linear`, `constant`"
    assert type_text(options["checkpoint_minutes"]) == "number at least 0 or null"
    assert type_text(properties(Heading)["seeds"]) == "list of whole numbers at least 0"


def test_explained_values_say_where_they_were_set() -> None:
    changes = ["methods.dpo.beta=0.25", "methods={'dpo-0.5': {method: dpo}}"]
    recipe, source = load_recipe("llama3", changes, REGISTRY), read_source("llama3", changes)
    lines = {line.path: line for line in explain(recipe, source, REGISTRY)}
    assert (lines["methods.dpo.beta"].value, lines["methods.dpo.beta"].place) == ("0.25", "--set")
    assert lines["methods.dpo.beta"].option.default == "0.1"
    assert lines["methods.dpo-0.5.method"].place == "--set"
    parent = (ROOT / "recipes" / "gemma2.yaml").read_text(encoding="utf-8").splitlines()
    place = lines["sampling.temperature"].place  # llama3 extends gemma2
    assert place.startswith("gemma2.yaml:") and "temperature: 0.8" in parent[int(place.partition(":")[2]) - 1]
    assert lines["ask.max_cost"].place == "" and lines["ask.max_cost"].value == lines["ask.max_cost"].option.default
    assert all(line.option.sentence for line in lines.values())
    assert json.loads(lines["seeds"].value) == [0]
