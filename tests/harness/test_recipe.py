"""Recipes: all mistakes at once, YAML's traps, ``--set``, ``extends``, and a resolved recipe that loads again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import yaml

from harness.contracts.method import Needs
from harness.contracts.options import RecipeError, options
from harness.contracts.registry import Registry
from harness.errors import UserError
from harness.models.backends import BACKENDS
from harness.prompts import SOURCES
from harness.recipe.recipe import Recipe, load_recipe
from harness.run import EXECUTORS


@options
class DpoConfig:
    beta: float = 0.1
    """Strength."""
    label: Literal["plain", "smooth"] = "plain"
    weights: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ValueError(f"beta must be positive, got {self.beta}")


@options
class Empty:
    pass


@options
class Questions:
    questions: str = "pocket"
    limit: int | None = None


@options
class PocketJudge:
    noise: float = 0.0


@options
class Endpoint:
    base_url: str
    model: str = "m"


def fake(**fields: Any) -> Any:
    """The registry is read by name and config only, so a namespace stands for methods, benchmarks and kinds."""
    return SimpleNamespace(**fields)


SAMPLED = Needs(responses=("samples",), signal="response", reference=True, rounds=True)
GREEDY = Needs(responses=("samples",), sampling={"n": 1, "temperature": 0.0})
REGISTRY = Registry(
    methods={
        "dpo": fake(config=DpoConfig, row_fields=("label",), trl=object(), needs=SAMPLED, check=lambda config, n: None),
        "kd": fake(config=Empty, trl=None, row_fields=(), needs=Needs(responses=("golden",))),
        "adpa+": fake(config=Empty, trl=None, row_fields=(), needs=Needs(responses=("golden",))),
        "greedy": fake(config=Empty, trl=None, row_fields=(), needs=GREEDY, check=lambda config, n: None),
        "plus": fake(
            config=Empty, trl=None, row_fields=(), needs=replace(GREEDY, start="greedy"), check=lambda config, n: None
        ),
    },
    benchmarks={
        "alpaca_eval": fake(name="alpaca_eval", config=Questions, needs_judge=True),
        "gsm8k": fake(name="gsm8k", config=Questions, needs_judge=False),
    },
    judges={"pocket": fake(config=PocketJudge), "openai": fake(config=Endpoint)},
    sources=SOURCES,
    backends=BACKENDS,
    executors=EXECUTORS,
    ask=fake(),
    stages={"train": True, "judge": False},
)

GOOD = """
family: {name: pocket, teacher: "pocket:teacher", student: owner/name@abc}
train: {batch_size: 32, learning_rate: 1e-4}
methods:
  dpo: {beta: 2e-1, weights: [1, 2e-1], train: {learning_rate: 3e-5}}
  kd:
  adpa+: {}
benchmarks: {alpaca_eval: {limit: 3}, gsm8k: }
judges: {main: {kind: pocket, noise: 1}}
seeds: [0, 1]
"""


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    return load_recipe(write(folder, text), overrides, REGISTRY)


def mistakes(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(folder, text, *overrides)
    return [str(problem) for problem in caught.value.problems]


def test_a_good_recipe_is_read_with_every_default(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    assert recipe.name == "mine"  # after its file
    assert list(recipe.methods) == ["dpo", "kd", "adpa+"]
    assert recipe.methods["dpo"].config == DpoConfig(0.2, "plain", (1.0, 0.2))  # 2e-1 is text to YAML 1.1
    assert recipe.methods["dpo"].row_config == {"label": "plain"}
    assert recipe.train.learning_rate == 1e-4
    assert recipe.methods["dpo"].train.learning_rate == 3e-5
    assert recipe.methods["dpo"].train.batch_size == 32  # from the recipe's train
    assert recipe.methods["kd"].train == recipe.train
    assert recipe.benchmarks["alpaca_eval"].judge == "main"  # the only judge there is
    assert recipe.benchmarks["gsm8k"].judge is None
    assert recipe.judges["main"].config == PocketJudge(1.0)
    assert recipe.seeds == (0, 1)


def test_the_resolved_recipe_loads_again_as_the_same_recipe(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    again = load_recipe(write(tmp_path, recipe.to_yaml(), "again.yaml"), (), REGISTRY)
    assert again == recipe
    assert recipe.to_tree()["statistics"] == {"replicates": 1000, "min_coverage": 0.98}
    assert yaml.safe_load(recipe.to_yaml()) == recipe.to_tree()


TEN = """
family: {name: "a/b", teacher: "teacher", student: "pocket:student", trust_remote_code: "no"}
trian: {}
sampling: {temperature: cold, n: 27}
train: {learning_rte: 1e-4}
methods: {dop: {}, dpo: {beta: -1}, kd: {tau: 2}}
benchmarks: {alpaca_eval: {judge: mian}, gsm8k: {limit: 2.5}}
judges: {main: {kind: poket}}
"""


def test_ten_and_more_mistakes_are_all_reported_with_what_is_needed_to_mend_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)has 13 mistakes:\n  1\. .*\n 13\. "):
        load(tmp_path, TEN)
    errors = mistakes(tmp_path, TEN)
    expected = [
        ("family.name", "'a/b'", "letters", "mine.yaml:2"),
        ("family.teacher", "'teacher'", "pocket:NAME", "mine.yaml:2"),
        ("family.trust_remote_code", "'no'", "true or false"),
        ("trian", "unknown key", "Did you mean 'train'", "mine.yaml:3"),
        ("sampling.temperature", "'cold'", "must be a number"),
        ("sampling.n", "27", "less than or equal to 26", "mine.yaml:4"),
        ("train.learning_rte", "unknown key", "Did you mean 'learning_rate'"),
        ("methods.dop", "Did you mean 'dpo'", "Choices: adpa+, dpo, greedy, kd, plus", "--plugin"),
        ("methods.dpo", "beta must be positive"),
        ("methods.kd.tau", "unknown key"),
        ("benchmarks.alpaca_eval.judge", "'mian'", "Did you mean 'main'"),
        ("benchmarks.gsm8k.limit", "2.5", "a whole number"),
        ("judges.main.kind", "'poket'", "Did you mean 'pocket'"),
    ]
    assert len(errors) == len(expected), "\n".join(errors)
    for path, *parts in expected:
        match = [line for line in errors if line.startswith((f"{path} ", f"{path}: "))]
        assert len(match) == 1, f"{path} in {errors}"
        assert all(part in match[0] for part in parts), match[0]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("family: {name: [}", ("not valid YAML", "bad.yaml:1")),
        ("a: 1\nb: 2\na: 3\n", ("'a' stands twice", "bad.yaml:3")),
        ("- a\n- b\n", ("must be a mapping",)),
        ("x: !!python/object/apply:os.system ['true']", ("not valid YAML",)),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_refused_with_its_line(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text, "bad.yaml"), (), REGISTRY)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("value", ["1e-6", "2", "5.0e-7"])
def test_set_reads_numbers_as_people_write_them(tmp_path: Path, value: str) -> None:
    assert load(tmp_path, GOOD, f"train.learning_rate={value}").train.learning_rate == float(value)


def test_set_reaches_methods_judges_and_new_sections(tmp_path: Path) -> None:
    changes = ("methods.dpo.beta=3", "seeds=[7]", "prompts.n=8", "methods.kd.train.epochs=2", "methods=[kd, dpo]")
    recipe = load(tmp_path, GOOD, *changes)
    assert list(recipe.methods) == ["kd", "dpo"]  # a list selects, and keeps their options
    assert recipe.methods["dpo"].config == DpoConfig(3.0, "plain", (1.0, 0.2))
    assert recipe.seeds == (7,)
    assert recipe.prompts.n == 8
    assert recipe.methods["kd"].train.epochs == 2


def test_set_reaches_a_row_whose_name_has_dots_in_quotes(tmp_path: Path) -> None:
    rows = GOOD.replace("  kd:\n", "  kd:\n  dpo-0.5: {method: dpo, beta: 0.5}\n")
    new = 'methods."kd-1.0.1"={method: kd}'
    methods = load(tmp_path, rows, 'methods."dpo-0.5".beta=0.6', 'methods."dpo-0.5".train.epochs=2', new).methods
    assert (methods["dpo-0.5"].config.beta, methods["dpo-0.5"].train.epochs) == (0.6, 2)
    assert list(methods) == ["dpo", "kd", "dpo-0.5", "adpa+", "kd-1.0.1"]
    (mistake,) = mistakes(tmp_path, rows, 'methods."dpo-0.5".bta=1')
    assert mistake.startswith("methods.dpo-0.5.bta is an unknown key") and mistake.endswith("[--set]")


def test_another_kind_or_method_drops_the_options_of_the_first(tmp_path: Path) -> None:
    row = "methods.row={method: dpo, beta: 4, train: {epochs: 2}}"
    judge = "judges.main={kind: openai, base_url: 'http://127.0.0.1:8000/v1'}"
    recipe = load(tmp_path, GOOD, judge, row, "methods.row={method: greedy}")
    assert recipe.judges["main"].config == Endpoint("http://127.0.0.1:8000/v1", "m")
    assert (recipe.methods["row"].config, recipe.methods["row"].train) == (Empty(), recipe.train)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("train.learning_rate", ("must look like path=value",)),
        ("=3", ("must look like path=value",)),
        ('methods."dpo.beta=3', ("must look like path=value", "in quotes")),
        ("train.learning_rte=3", ("train.learning_rte", "'learning_rate'", "--set")),
        ("train.epochs=many", ("train.epochs", "'many'", "a whole number", "[--set]")),
        ("seeds.0=3", ("seeds.0", "Set seeds whole")),
        ("seeds=[1, 1]", ("seeds must be at least one, and differ",)),
        ("seeds=[]", ("seeds must be at least one",)),
        ("benchmarks=", ("benchmarks is required and missing",)),
        ("family=", ("family is required and missing",)),
        ("train.epochs=[", ("train.epochs", "not valid YAML")),
        (
            "methods.dpo.train={backend: trl, micro_batch: 5}",
            ("methods.dpo.train", "micro_batch = 5 must divide batch_size ="),
        ),
        ("prompts.source=jsonl", ("prompts.path is required and missing",)),
        ("prompts.source=jsonnl", ("prompts.source", "Did you mean 'jsonl'", "gsm8k-train")),
        ("prompts.revision=v2", ("prompts.revision is an unknown key",)),
        ("prompts={source: ultrafeedback, revison: v2}", ("prompts.revison", "Did you mean 'revision'")),
        ("compute.executor=process", ("compute.executor", "Did you mean 'processes'", "inline")),
        ("compute.executor_options={gpus: 3}", ("compute.executor_options.gpus", "is an unknown key")),
        ("compute.stages={trian: {gpus: 1}}", ("compute.stages.trian", "Did you mean 'train'", "judge")),
        ("compute.stages={train: {gpu: 1}}", ("compute.stages.train.gpu is an unknown key", "Did you mean 'gpus'")),
        ("compute.stages={train: {gpus: -1}}", ("compute.stages.train.gpus = -1", "greater than or equal to 0")),
        ("compute.stages={train: {memory_gib: 0}}", ("compute.stages.train.memory_gib = 0", "greater than 0")),
        ("compute.stages=2", ("compute.stages = 2", "must be a mapping from kinds of stages")),
        ("compute.gpus=[0, 1, 0]", ("compute: gpus names 0 twice",)),
        ("compute.gpus=2", ("compute.gpus = 2", "must be a list")),
        ("compute={gpus: [0], device: 'cuda:1'}", ("device = cuda:1 does not go with gpus", "write auto or cuda")),
        ("prompts.fallback=jsonl", ("prompts.fallback", "needs no network and no options")),
        ("train.learning_rate=.nan", ("train.learning_rate", "finite")),
        ("train.learning_rate=true", ("train.learning_rate", "must be a number")),
        ("benchmarks.gsm8k.judge=main", ("graded by rule",)),
        ("methods.kd.train.backend=trl", ("methods.kd.train.backend", "no loss for kd", "can train: dpo")),
        ("methods=[kd, kd]", ("stands twice",)),
        ("methods=7", ("methods", "a mapping from names to options, or a list")),
    ],
)
def test_a_wrong_override_names_its_path_and_rule(tmp_path: Path, override: str, parts: tuple[str, ...]) -> None:
    errors = mistakes(tmp_path, GOOD, override)
    assert len(errors) == 1, errors
    assert all(part in errors[0] for part in parts), errors[0]


def test_extends_merges_mappings_and_replaces_lists(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "base.yaml")
    recipe = load(tmp_path, "extends: base.yaml\nmethods: {dpo: {beta: 9}}\nseeds: [5]\ntrain: {epochs: 2}\n")
    assert recipe.name == "mine"
    assert recipe.seeds == (5,)
    assert (recipe.train.epochs, recipe.train.batch_size) == (2, 32)
    assert recipe.methods["dpo"].config == DpoConfig(9.0, "plain", (1.0, 0.2))
    assert list(recipe.methods) == ["dpo", "kd", "adpa+"]


def test_extends_in_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "extends: b.yaml\n", "a.yaml")
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    with pytest.raises(RecipeError, match=r"circle \(.*a\.yaml -> .*b\.yaml -> .*a\.yaml\)"):
        load_recipe(str(tmp_path / "a.yaml"), (), REGISTRY)


def test_an_unknown_recipe_names_the_shipped_ones() -> None:
    with pytest.raises(RecipeError, match=r"(?s)'pockt'.*Did you mean 'pocket'.*Choices: .*pocket.*smollm2"):
        load_recipe("pockt", (), REGISTRY)


def test_an_api_key_in_a_recipe_is_refused_and_not_repeated(tmp_path: Path) -> None:
    secret = "sk-" + "a1B2" * 8
    errors = mistakes(tmp_path, GOOD, f"title=key {secret}")
    assert "environment variable" in errors[0]
    assert secret not in errors[0]


def test_a_row_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    rows = "methods.dpo-2x3={method: dpo, beta: 4, rounds: 2, sampling: {n: 3}, train: {epochs: 2}, title: T}"
    recipe = load(tmp_path, GOOD, rows)
    entry = recipe.methods["dpo-2x3"]
    assert (entry.method, entry.config.beta, entry.train.epochs) == ("dpo", 4.0, 2)
    assert (entry.row_options.rounds, entry.row_options.resample, entry.row_options.title) == (2, True, "T")
    assert (entry.sampling.n, entry.sampling.temperature) == (3, recipe.sampling.temperature)
    assert recipe.methods["dpo"].config.beta == 0.2  # untouched by its sibling
    again = load_recipe(write(tmp_path, recipe.to_yaml(), "again.yaml"), (), REGISTRY)
    assert again == recipe


def test_what_a_method_changes_in_sampling_a_row_may_change_back(tmp_path: Path) -> None:
    """ADPA draws one greedy answer; the recipe's sampling is n = 4 at 0.8."""
    recipe = load(tmp_path, GOOD, "methods.greedy=", "methods.own={method: greedy, sampling: {temperature: 0.5}}")
    assert (recipe.methods["greedy"].sampling.n, recipe.methods["greedy"].sampling.temperature) == (1, 0.0)
    assert (recipe.methods["own"].sampling.n, recipe.methods["own"].sampling.temperature) == (1, 0.5)
    again = load_recipe(write(tmp_path, recipe.to_yaml(), "again.yaml"), (), REGISTRY)
    assert again == recipe


def test_a_row_that_another_starts_from_is_added_but_not_made(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD, "methods.plus={}")
    assert recipe.methods["greedy"].row_options.optional and not recipe.methods["plus"].row_options.optional
    listed = load(tmp_path, GOOD, "methods.plus={}", "methods.greedy={train: {epochs: 3}}")
    assert not listed.methods["greedy"].row_options.optional and listed.methods["greedy"].train.epochs == 3


def test_the_tuned_teacher_has_defaults_of_its_own(tmp_path: Path) -> None:
    tuned = load(tmp_path, GOOD).tuned_teacher
    assert tuned is not None
    assert (tuned.pairs, tuned.training.method, tuned.training.config.beta) == ("auto", "dpo", 0.01)
    train = tuned.training.train
    assert (train.learning_rate, train.epochs, train.batch_size) == (5e-7, 1, 32)
    tuned = load(tmp_path, GOOD, "tuned_teacher.train.learning_rate=1e-6", "tuned_teacher.pairs=samples").tuned_teacher
    assert tuned is not None
    assert (tuned.pairs, tuned.training.train.learning_rate, tuned.training.config.beta) == ("samples", 1e-6, 0.01)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("methods.kd.rounds=2", ("methods.kd.rounds", "has one round", "Methods that can: dpo")),
        ("methods.dpo.rounds=0", ("methods.dpo.rounds", "greater than or equal to 1")),
        ("methods.dpo.resample=false", ("methods.dpo.resample", "without rounds")),
        ("methods.dpo.round=2", ("methods.dpo.round", "unknown key", "Did you mean 'rounds'")),
        ("methods.dpo.start=kdd", ("methods.dpo.start", "'kdd'", "Did you mean 'kd'")),
        ("methods.dpo.start=dpo", ("methods.dpo.start", "goes round in a circle (dpo -> dpo)")),
        ("methods.mine={beta: 1}", ("methods.mine", "is not the name of a method", "`method: NAME`")),
        ("methods.mine={method: dop}", ("methods.mine", "'dop'", "Did you mean 'dpo'")),
        ("methods.a/b={method: dpo}", ("methods.a/b", "cannot name a row")),
        ("methods.teacher={method: dpo}", ("methods.teacher", "cannot name a row")),
        ("methods.dpo.sampling={n: 0}", ("methods.dpo.sampling.n", "greater than or equal to 1")),
        ("methods.dpo.sampling={temperature: 0}", ("methods.dpo.sampling", "the same response 4 times")),
        ("sampling.temperature=0", ("sampling", "the same response 4 times")),
        ("tuned_teacher.method=kd", ("tuned_teacher.method", "cannot tune the teacher")),
        ("tuned_teacher.method=dop", ("tuned_teacher.method", "Did you mean 'dpo'")),
        ("tuned_teacher.pairs=both", ("tuned_teacher.pairs", "auto", "dataset", "samples")),
        ("tuned_teacher.betta=1", ("tuned_teacher.betta", "unknown key")),
        ("tuned_teacher=dpo", ("tuned_teacher", "mapping of options")),
    ],
)
def test_a_wrong_row_names_its_path_and_rule(tmp_path: Path, override: str, parts: tuple[str, ...]) -> None:
    errors = mistakes(tmp_path, GOOD, override)
    assert len(errors) == 1, errors
    assert all(part in errors[0] for part in parts), errors[0]


def test_rows_that_start_from_each_other_are_refused_once_each(tmp_path: Path) -> None:
    errors = mistakes(tmp_path, GOOD, "methods.dpo.start=kd", "methods.kd.start=dpo")
    assert [line.split(" ")[0] for line in errors] == ["methods.dpo.start", "methods.kd.start"]
