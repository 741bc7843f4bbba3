"""Recipes as YAML: values inside themselves, merge keys, where a mistake was written, overrides that do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from distilbench.plugins import load_registry
from harness.contracts.options import RecipeError
from harness.plan.plan import Plan, make_plan
from harness.recipe.recipe import Recipe, load_recipe

REGISTRY = load_registry()


def load(*overrides: str) -> Recipe:
    return load_recipe("pocket", overrides, REGISTRY)


def mistakes(*overrides: str, recipe: str = "pocket") -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides, REGISTRY)
    return [str(problem) for problem in caught.value.problems]


def written(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text("extends: pocket\n" + text, encoding="utf-8")
    return str(folder / name)


def test_name_and_title_are_not_inherited(tmp_path: Path) -> None:
    """The parent's title names its models, which may be others here."""
    mine = written(tmp_path, "")
    recipe = load_recipe(mine, ("family.student=mine/other",), REGISTRY)
    assert (recipe.name, recipe.title) == ("mine", "extends pocket")
    (tmp_path / "third.yaml").write_text("extends: mine.yaml\ntitle: A title of its own\n", encoding="utf-8")
    recipe = load_recipe(str(tmp_path / "third.yaml"), (), REGISTRY)
    assert (recipe.name, recipe.title) == ("third", "A title of its own")


def test_training_in_float16_is_one_mistake() -> None:
    """The trainer has no scaled losses; models that only answer may be held in float16."""
    (errors,) = mistakes("train.dtype=float16")
    assert errors.startswith("train.dtype = 'float16': is not one of the choices.")
    assert "Choices: float32, bfloat16." in errors
    assert load("family.dtype=float16").family.dtype == "float16"


@pytest.mark.parametrize("value", ["&a [*a]", "&a {x: *a}", "&a {x: [1, {y: *a}]}", "&a {<<: *a}"])
def test_a_value_inside_itself_is_refused(tmp_path: Path, value: str) -> None:
    (errors,) = mistakes(f"train={value}")
    assert "not valid YAML (it is nested too deep, or holds itself by an alias)" in errors and "[--set]" in errors
    (errors,) = mistakes(recipe=written(tmp_path, f"train: {value}\n"))
    assert "holds itself by an alias" in errors and "mine.yaml" in errors


def test_aliases_that_expand_without_end_are_refused() -> None:
    """Eight lists of ten aliases each name 10^8 values ("billion laughs")."""
    lists = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9)]
    (errors,) = mistakes("train={l0: &l0 [x], " + ", ".join(lists) + "}")
    assert "more than 10,000 values" in errors


def test_aliases_and_merge_keys_are_read(tmp_path: Path) -> None:
    text = "train: &t {<<: {epochs: 2, batch_size: 64}, epochs: 3}\nmethods: {dpo: {train: *t}}\n"
    recipe = load_recipe(written(tmp_path, text), (), REGISTRY)
    assert (recipe.train.epochs, recipe.train.batch_size) == (3, 64)  # its own key wins over a merged one
    assert (recipe.methods["dpo"].train.epochs, recipe.methods["kd"].train.epochs) == (3, 3)
    both = load("train={<<: [{epochs: 4}, {epochs: 5, micro_batch: 16}]}")
    assert (both.train.epochs, both.train.micro_batch) == (4, 16)  # of several, the first wins
    inner = load("train={<<: &a {<<: &b {epochs: 6}, epochs: 7}}", "methods.dpo.train={<<: {epochs: 8}}")
    assert (inner.train.epochs, inner.methods["dpo"].train.epochs) == (7, 8)


def test_mistakes_in_merged_keys_have_the_line_on_which_they_stand(tmp_path: Path) -> None:
    errors = mistakes(recipe=written(tmp_path, "train:\n  <<:\n    epochs: many\n  batch_size: few\n"))
    assert [line.split(" ")[0] for line in errors] == ["train.epochs", "train.batch_size"]
    assert "[mine.yaml:4]" in errors[0] and "[mine.yaml:5]" in errors[1]


def test_a_key_twice_is_still_refused_beside_a_merge(tmp_path: Path) -> None:
    (errors,) = mistakes("train={<<: {epochs: 2}, epochs: 3, epochs: 4}")
    assert "'epochs' stands twice" in errors
    (errors,) = mistakes("train={<<: 3}")
    assert "not valid YAML" in errors and "merging" in errors


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("seeds=[true]", "seeds[0]"),
        ("seeds=[1;2]", "seeds[0]"),  # what --seeds "1;2" becomes
        ("methods={dpo: {bta: 1}}", "methods.dpo.bta"),
        ("methods={dpo: {beta: many}}", "methods.dpo.beta"),
        ("judges.main={kind: [1]}", "judges.main.kind"),
        ("judges.main.kind=openai", "judges.main.model"),
        ("train={epochs: many}", "train.epochs"),
        ("family=7", "family"),
    ],
)
def test_a_mistake_inside_a_value_of_set_is_reported_there(override: str, path: str) -> None:
    errors = [line for line in mistakes(override) if line.startswith((f"{path} ", f"{path}: "))]
    assert len(errors) == 1
    assert errors[0].endswith("[--set]")


def test_mistakes_beside_a_value_of_set_keep_their_line(tmp_path: Path) -> None:
    recipe = written(tmp_path, "methods:\n  kd: {tua: 1}\n  dpo: {}\n")
    errors = mistakes("methods={dpo: {bta: 1}}", recipe=recipe)
    assert [line.rpartition("[")[2] for line in errors] == ["mine.yaml:3]", "--set]"]
    (error,) = mistakes("methods=[kd, dpo]", recipe=recipe)  # a list of names keeps their options, and their lines
    assert error.endswith("[mine.yaml:3]")


@pytest.mark.parametrize(
    "path", ["methods", "judges", "benchmarks", "family", "train", "judges.main", "methods.seqkd.train"]
)
def test_an_empty_mapping_that_changes_nothing_is_refused(path: str) -> None:
    errors = mistakes(f"{path}={{}}")
    assert len(errors) == 1
    assert errors[0].startswith(f"{path} = {{}}: an empty mapping is merged") and errors[0].endswith("[--set]")


def test_an_empty_section_of_an_extending_recipe_is_refused(tmp_path: Path) -> None:
    (errors,) = mistakes(recipe=written(tmp_path, "methods: {}\n"))
    assert errors.startswith("methods = {}: an empty mapping is merged") and "[mine.yaml:2]" in errors
    assert load("methods=").methods == {}  # as the message says
    assert list(load("methods.kd={}").methods) == list(load().methods)  # names a row that is there already


@pytest.mark.parametrize("place", ["methods.dpo", "benchmarks.arena_hard"])
def test_null_does_not_take_away_a_row_or_a_column(place: str, tmp_path: Path) -> None:
    """It would keep it, with the defaults of its options. What has no options yet may be named with nothing."""
    section, name = place.split(".")
    found = [
        *mistakes("statistics.replicates=100", f"{place}=null"),
        *mistakes(recipe=written(tmp_path, f"{section}:\n  {name}: null\n")),
    ]
    assert len(found) == 2 and all(place in text and "null would keep it" in text for text in found), found
    assert all(f"`{section}` with a list of the names that stay" in text for text in found)
    assert "ipo-2" in load("methods.ipo-2={method: ipo}", "benchmarks=[gsm8k]").methods


def test_options_in_a_list_of_names_are_told_to_need_a_mapping() -> None:
    (text,) = mistakes("benchmarks=[{alpaca_eval: {limit: 40}}, gsm8k]")
    assert "must be a name" in text and "`benchmarks: {NAME: {OPTION: VALUE}, NAME: {}}`" in text
    assert load("benchmarks={alpaca_eval: {limit: 40}}").benchmarks["alpaca_eval"].config.limit == 40


def test_trl_for_all_rows_is_one_mistake_that_names_those_it_cannot_train() -> None:
    (errors,) = mistakes("train.backend=trl")
    assert errors.startswith("train.backend = 'trl': TRL's stable trainers have no loss for kd, minillm, simpo, pro,")
    assert "methods that TRL can train: " in errors and "--set 'methods=[NAME, ...]'" in errors
    assert errors.endswith("[--set]")
    chosen = load("train.backend=trl", "methods=[seqkd, dpo]")  # as the message says
    assert {entry.train.backend for entry in chosen.methods.values()} == {"trl"}
    (errors,) = mistakes("methods.kd.train.backend=trl")
    assert errors.startswith("methods.kd.train.backend = ")


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (("methods.dpo.train.backend=trl", "compute.launch=cpu"), ("compute.launch = 'cpu': ", "one process")),
        (
            ("methods.dpo.train={backend: trl, packing: always}",),
            ("methods.dpo.train.packing = 'always': ", "separate"),
        ),
        (("methods.dpo.train={backend: trl, lora: {r: 2}}",), ("methods.dpo.train.lora = ", "trains all weights")),
        (("methods.dpo.train={backend: trl, checkpoint_minutes: 5}",), ("train.checkpoint_minutes = 5", "not resume")),
        (("tuned_teacher={train: {backend: trl, packing: always}}",), ("tuned_teacher.train.packing = ", "separate")),
        (("train={backend: trl, packing: always}", "methods=[dpo, seqkd]"), ("train.packing = 'always': ", "separate")),
        (("train.backend=trl", "methods=[dpo, seqkd]", "compute.launch=ddp"), ("compute.launch = 'ddp': ",)),
    ],
)
def test_what_trl_would_not_do_is_one_mistake(overrides: tuple[str, ...], parts: tuple[str, ...]) -> None:
    (errors,) = mistakes(*overrides)
    assert all(part in errors for part in (*parts, "set train.backend to 'ours'")), errors
    error = [override.replace("backend: trl, ", "").replace("backend=trl", "backend=ours") for override in overrides]
    load(*error)  # our own trainer does all of it


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("sampling.n=9", "methods.pad-ppd.sampling.n: pad-ppd: 9 responses"),
        ("methods.pad-ppd.sampling.n=9", "methods.pad-ppd.sampling.n: pad-ppd: 9 responses"),
        (
            "methods.x={method: pad-ppd, rounds: 2, resample: false, sampling: {n: 9}}",
            "methods.x.sampling.n: pad-ppd: 9",
        ),
        (
            "methods.pro.sampling.n=1",
            "methods.pro.sampling.n: a comparison needs at least 2 responses per prompt, not 1",
        ),
        ("tuned_teacher={pairs: samples, sampling: {n: 1}}", "tuned_teacher.sampling.n: a comparison needs at least 2"),
    ],
)
def test_responses_that_a_method_cannot_take_are_refused_with_the_recipe(override: str, path: str) -> None:
    errors = mistakes(override)
    assert errors[0].startswith(path) and len(errors) == 1, errors
    assert "its own sampling.n" in errors[0]


def test_numbers_of_responses_that_fit_are_read() -> None:
    """Drawn rankings take more than 8; rounds count one by one, the pool of two rounds of 8 may hold 16; and pairs of
    the dataset are two whatever is sampled."""
    assert load("sampling.n=14", "methods.pad-ppd.numerics=mc").sampling.n == 14
    recipe = load("methods.x={method: pad-ppd, rounds: 2, resample: false, sampling: {n: 8}}")
    assert recipe.methods["x"].row_options.rounds == 2 and recipe.methods["x"].sampling.n == 8
    tuned = load("tuned_teacher={pairs: dataset, sampling: {n: 1}}").tuned_teacher
    assert tuned is not None and tuned.pairs == "dataset" and tuned.training.sampling.n == 1


def test_a_row_like_another_has_its_options_but_its_own() -> None:
    """Two steps: "three" over "two" over "dpo". Neither title nor ``optional`` is taken over."""
    recipe = load(
        "methods.dpo={beta: 0.3, title: First, optional: true, train: {learning_rate: 1e-5, epochs: 2}}",
        "methods.two={like: dpo, rounds: 2, train: {epochs: 3}}",
        "methods.three={like: two, beta: 0.5}",
    )
    two, three = recipe.methods["two"], recipe.methods["three"]
    assert (two.method, two.config.beta, two.train.learning_rate, two.train.epochs) == ("dpo", 0.3, 1e-5, 3)
    assert (three.method, three.config.beta, three.train.epochs, three.row_options.rounds) == ("dpo", 0.5, 3, 2)
    assert not two.row_options.optional and two.row_options.title == ""


def test_a_targets_variant_of_such_a_row(tmp_path: Path) -> None:
    """Figure 5 varies alpha of the row pad-ppd, whatever that row is like."""
    changes = ["methods.mine={method: pad-ppd, standardise_teacher: true}", "methods.pad-ppd={like: mine}"]
    recipe = load_recipe("pocket", changes, REGISTRY, REGISTRY.targets["figure5"])
    row = recipe.methods["pad-ppd-alpha0.2"]
    assert (row.method, row.config.standardise_teacher, row.config.alpha) == ("pad-ppd", True, 0.2)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["methods.x={like: dqo}"], "methods.x.like = 'dqo': is not the name of a row of this recipe"),
        (["methods.x={like: y}", "methods.y={like: x}"], "methods.x.like = 'y': leads back to this row"),
        (["methods.x={like: x}"], "methods.x.like = 'x': leads back"),
        (["methods.x={like: dpo, method: simpo}"], "methods.x.method = 'simpo': is not the method of the row dpo"),
        (["methods.x={like: [dpo]}"], "methods.x.like = ['dpo']: is not the name of a row"),
    ],
)
def test_a_row_like_none(overrides: list[str], part: str) -> None:
    assert any(line.startswith(part) for line in mistakes(*overrides)), mistakes(*overrides)


@pytest.mark.parametrize("name", ["store", "Store", "ledger.sqlite", "ledger.sqlite-wal"])
def test_a_run_may_not_be_named_like_what_runs_share(name: str, tmp_path: Path) -> None:
    for errors in (mistakes(f"name={name}"), mistakes(recipe=written(tmp_path, "seeds: [0]\n", f"{name}.yaml"))):
        assert [line.partition(": ")[0] for line in errors] == [f"name = {name!r}"] and "is taken" in errors[0]
    assert load("name=store2").name == "store2"


def planned(*overrides: str) -> Plan:
    return make_plan(load("seeds=[0]", *overrides), REGISTRY, ("teacher", "student", "dpo"))


def test_accept_failures_changes_the_keys_of_judged_answers_and_of_their_scores_alone() -> None:
    """It decides what a judgment holds; how many calls are in flight, how long and how often does not."""
    before, after = planned(), planned("ask.accept_failures=true")
    known = {stage.key for stage in before.stages}
    anew = [stage for stage in after.stages if stage.key not in known]
    judged = ("alpaca_eval", "arena_hard", "mt_bench")
    rows = ("teacher", "student", "dpo")
    expected = {f"judge {name} {row} seed 0" for name in judged for row in rows} | {f"score {name}" for name in judged}
    assert {stage.label for stage in anew} == expected
    old = {stage.label: stage for stage in before.stages}
    for stage in anew:  # of a score, only what it reads has changed
        change = {"accept_failures": True} if stage.kind == "judge" else {}
        assert dict(stage.params) == {**old[stage.label].params, **change}
    for override in ("ask.concurrency=3", "ask.timeout=9", "ask.retries=1"):
        assert {stage.key for stage in planned(override).stages} == known
