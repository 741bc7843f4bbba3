"""Huge, tiny, deep and long values anywhere in a recipe are refused at once, with their path and the rule."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from distilbench.plugins import load_registry
from harness.contracts.options import RecipeError
from harness.errors import UserError
from harness.recipe.recipe import Recipe, load_recipe
from harness.training.fit import check_finite
from tests.harness.test_plan import plan
from tests.harness.test_recipe import REGISTRY, write

LONG = "a" * 300


def read(*overrides: str, recipe: str = "pocket") -> Recipe:
    return load_recipe(recipe, list(overrides), load_registry())


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("train.learning_rate=1e300", "train.learning_rate = 1e+300: must be less than or equal to 10. [--set]"),
        ("train.learning_rate=1e-300", "train.learning_rate = 1e-300: must be 0 or at least 1e-09"),
        ("train.weight_decay=1e300", "must be less than or equal to 100"),
        ("train.max_grad_norm=1e-300", "must be 0 or at least 1e-09"),
        ("train.epochs=1000000", "must be less than or equal to 10,000"),
        ("train.lora={alpha: 1e300}", "train.lora.alpha = 1e+300: must be less than or equal to"),
        ("train.lora.rank=8", "train.lora.rank is an unknown key. Choices: r, alpha, dropout, target_modules."),
        ("methods.dpo.train.lora.rank=8", "lora.rank is an unknown key. Choices: r, alpha, dropout, target_modules."),
        ("methods.pad-ppd.rounds=1000000", "methods.pad-ppd.rounds = 1000000: must be less than or equal to 100"),
        ("methods.dpo.beta=1e300", "methods.dpo.beta = 1e+300: must be less than or equal to"),
        ("methods.kd.temperature=1e-300", "must be greater than or equal to 0.01"),
        ("sampling.temperature=1e-300", "sampling.temperature = 1e-300: must be 0 (greedy) or at least 0.01"),
        ("sampling.max_new_tokens=100000000", "must be less than or equal to 10,000,000"),
        ("reward.floor=1e-320", "must be greater than or equal to 1e-30"),
        ("benchmarks.arena_hard.repeats=1000000", "must be less than or equal to 1,000"),
        ("benchmarks.gsm8k.top_p=1e-320", "must be greater than or equal to 1e-06"),
        ("statistics.replicates=1000000000", "must be less than or equal to 100,000"),
        ("ask.timeout=1e-9", "ask.timeout = 1e-09: must be greater than or equal to 0.01"),
        ("ask.concurrency=1000000000", "must be less than or equal to 10,000"),
        (
            "compute.device=cuda:99",
            "compute.device = 'cuda:99': must be auto, cpu, mps, cuda or cuda:N",
        ),
        ("compute.workers=100000000", "must be less than or equal to 1,024"),
        ("seeds=[18446744073709551616]", "seeds[0] = 18446744073709551616: is beyond 64 bits"),
        (f"train.epochs={'9' * 5000}", "its value is not valid YAML (a number of 5,000 digits)"),
        (f"train.learning_rate={'9' * 400}", "its value is not valid YAML (a number of 400 digits)"),
        ("ask.timeout=1:30.5", "ask.timeout = '1:30.5': must be a number"),
        ("train.epochs=2024-13-45", "train.epochs = '2024-13-45': must be a whole number"),
        ("reward.shuffle=!!bool x", "its value is not valid YAML ('x' is no bool)"),
        ('train.epochs=!!int ""', "its value is not valid YAML ('' is no int)"),
        ("title=!!timestamp x", "its value is not valid YAML ('x' is no timestamp)"),
        ('title="a\\e[31m"', "title = 'a\\x1b[31m': must have no control characters"),
        ('prompts={source: jsonl, path: "a\\0b"}', "prompts.path = 'a\\x00b': must have no control characters"),
        ('judges={"a\\n\\e": {kind: pocket}}', "has a key with control characters"),
        ("compute.device=cuda:\u0663", "must be auto, cpu, mps, cuda or cuda:N"),
        ('family.student=""', "family.student = '': is not a model"),
        ("compute.launch=pyproject.toml", "'pyproject.toml' is neither accelerate's file nor one of"),
        ("targets.table2.rows=[]", "targets.table2.rows = []: must have at least 1 item, not 0"),
        ("judges.main={kind: openai, model: m, base_url: 'http://['}", "base_url 'http://[' is no http(s) address"),
        (f"seeds=[{','.join(map(str, range(300)))}]", "seeds: rows, their rounds and seeds make 4,800 trainings, and"),
        (f"train={{{','.join(f'k{n}: 1' for n in range(400))}}}", "and 350 more"),
        (f"train={{? {'k' * 9000} : 1}}", "has a key of 9,000 characters"),
        ("train.epochs=1:30", "train.epochs = '1:30': must be a whole number"),
        ("seeds=[010]", "seeds[0] = '010': must be a whole number"),
        (f"name={LONG}", "must be usable as a folder's name: up to 100 letters"),
        (f"methods={{{LONG}: {{method: dpo}}}}", "has a key of 300 characters, and 100 are the most"),
        (f"judges.{LONG}={{kind: pocket}}", "must have at most 30 keys of at most 100 characters"),
        (f"title={LONG * 100}", "title = 'aaa"),
        (f"family.student={LONG}", "is longer than a path can be"),
        (f"compute.launch={LONG}", "is longer than a path can be"),
        (f"{'a.' * 2000}b=1", "must have at most 30 keys of at most 100 characters"),
        (f"title={'[' * 5000}", "its value is not valid YAML (it is nested too deep, more than 30 levels)"),
        (f"seeds=[{'1,' * 100_000}]", "its value is not valid YAML (it has more than 10,000 values)"),
        ("tuned_teacher.rounds=1000000", "is an option of rows, and the tuned teacher is none"),
        ("executor_options.a=1", "executor_options is an unknown key"),
        ("family.backend_options.x=99999999999999999999", "family.backend_options.x = 99999999999999999999: is beyond"),
    ],
    ids=lambda text: text[:30],
)
def test_a_value_beyond_all_use_is_refused_with_path_and_rule(override: str, rule: str) -> None:
    began = time.process_time()
    with pytest.raises(RecipeError) as caught:
        read(override)
    assert rule in str(caught.value) and len(str(caught.value)) < 20_000
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"train: {{epochs: {'9' * 5000}}}", r"a number of 5,000 digits.*"),
        ("a: &a [x, x, x, x, x, x]\n" + "\n".join(f"b{n}: &b{n} [*a, *a, *a]" for n in range(9)), "unknown key"),
        ("\n".join(f"{' ' * depth}a:" for depth in range(99)), "nested too deep"),
    ],
)
def test_files_are_refused_alike(text: str, rule: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rule):
        load_recipe(write(tmp_path, text), (), REGISTRY)


def test_a_name_that_no_file_can_have_is_a_mistake(tmp_path: Path) -> None:
    """File systems take 255 bytes: of a recipe on the command line, and of one that another extends."""
    file = tmp_path / "mine.yaml"
    file.write_text(f"extends: {LONG}\n", encoding="utf-8")
    for name in (LONG, str(file)):
        with pytest.raises(RecipeError, match="is neither a shipped recipe nor a file"):
            read(recipe=name)


def test_numbers_as_they_are_written(tmp_path: Path) -> None:
    """YAML 1.1 takes 1.5e3 for text, a day for no text, and 1:30.5 for 90.5."""
    text = "name: 2024-01-01\ntitle: 2024-13-45\nextends: pocket\ntrain: {learning_rate: 1.5e-3, epochs: 0x10}\n"
    recipe = load_recipe(write(tmp_path, text), ("ask.timeout=1_0.5", "ask.max_cost=.5e+1"), load_registry())
    assert (recipe.name, recipe.title) == ("2024-01-01", "2024-13-45")
    assert (recipe.train.learning_rate, recipe.train.epochs) == (0.0015, 16)
    assert (recipe.ask.timeout, recipe.ask.max_cost) == (10.5, 5.0)


@pytest.mark.parametrize(("n", "fits"), [(10_000, True), (10_001, False)])
def test_no_more_prompts_than_the_source_has(n: int, fits: bool, tmp_path: Path) -> None:
    if fits:
        plan(f"prompts.n={n}")
        return
    with pytest.raises(UserError, match=r"prompts\.n = 10001: the source 'pocket' has at most 10,000 prompts"):
        plan(f"prompts.n={n}")
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "a", "golden": "b", "rejected": "c"}\n' * 1)
    with pytest.raises(UserError, match=r"prompts\.n = 2: the source 'jsonl' has at most 1 prompt"):
        plan("prompts.source=jsonl", f"prompts.path={file}", "prompts.n=2")


def test_weights_are_checked_after_the_last_step() -> None:
    check_finite("dpo", {"a": torch.ones(2)})
    spoilt = {"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")]), "c": torch.tensor([float("inf")])}
    with pytest.raises(UserError, match=r"dpo: 2 of 3 weights are not finite after the last step \(b, \.\.\.\)"):
        check_finite("dpo", spoilt)
