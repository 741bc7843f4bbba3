"""What holds for everything that is registered: shipped recipes resolve, files are listed, options are explained."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from distilbench.plugins import load_registry
from harness.contracts.registry import Registry
from harness.recipe.recipe import load_recipe
from harness.recipe.yaml_source import shipped_recipes
from judges import PAPER
from reports.targets import TARGETS, find_targets
from results.published import in_paper

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def defining(folder: str, name: str) -> set[str]:
    """Modules below a folder that assign ``name`` at the top level."""
    return {
        file.relative_to(ROOT).as_posix()[:-3].replace("/", ".")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id == name
    }


def module_of(thing: Any) -> str:
    """Where the class of its options is."""
    return str(thing.config.__module__)


def test_every_file_is_in_its_table_of_contents(registry: Registry) -> None:
    # By name: ADPA+ shares its options with ADPA.
    assert {import_module(name).METHOD.name for name in defining("methods", "METHOD")} == set(registry.methods)
    assert {module_of(bench) for bench in registry.benchmarks.values()} == defining("judges", "BENCHMARK")
    assert {module_of(kind) for kind in registry.judges.values()} == defining("judges", "JUDGE")
    assert {type(source).__module__ for source in registry.sources.values()} == defining("harness/prompts", "SOURCE")
    assert {type(kind).__module__ for kind in registry.executors.values()} == defining("harness/run", "EXECUTOR")


def test_nothing_is_lost(registry: Registry) -> None:
    papers_rows = {"kd", "seqkd", "minillm", "dpo", "simpo", "pro", "pad-vpd", "pad-ppd"}
    assert papers_rows <= set(registry.methods)
    further = {"arena_hard_v2", "arena_hard_v2_writing", "mt_bench_pairwise", "gsm8k_json"}
    own = {"pairwise", "rating", "exact", "choice", "lm_eval"}
    assert set(registry.benchmarks) == {"alpaca_eval", "arena_hard", "mt_bench", "gsm8k"} | further | own
    assert set(PAPER) == set(load_recipe("pocket", (), registry).benchmarks)
    assert {"pocket", "openai", "transformers", "replay"} <= set(registry.judges)
    assert set(shipped_recipes()) == {"pocket", "smollm2", "qwen2.5", *PAPERS}


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_resolves_and_gives_itself_again(name: str, registry: Registry, tmp_path: Path) -> None:
    recipe = load_recipe(name, (), registry)
    assert recipe.name == name
    copy = tmp_path / "copy.yaml"
    copy.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(str(copy), (), registry) == recipe


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_line_of_a_shipped_recipe_says_why(name: str) -> None:
    text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)
    sections = {"family", "prompts", "sampling", "reward", "train", "judges", "main", "statistics", "title"}
    sections |= {"methods", "targets", "searched", "settings", "sampling.max_new_tokens", "values"}
    rows = (*load_registry().methods, "pad-", "alpaca_eval", "arena_hard", "mt_bench")
    for line in text.splitlines():
        key = line.strip().partition(":")[0]
        plain = not key or key in sections or key.startswith(rows)
        assert plain or "#" in line, f"{name}.yaml: no comment on {line!r}"


PAPERS = ("gemma2", "gemma2-as-released", "llama3", "llama3-as-released", "hetero", "scaling")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, no cache of it, no question files, no key."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("DISTILBENCH_ASSETS", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_prints_its_bill_without_any_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every target that fits; what is missing is told, and nothing could be started."""
    from distilbench.cli.plan import show_plan
    from distilbench.workflows.plan import plan

    wanted = "all" if name != "pocket" else "table1,table6"  # pocket's prompts are here: overlap is checked each time
    work = plan(wanted, name, runs=tmp_path / "runs")
    assert len(work.plans) + len(work.unfit) == (len(find_targets("all")) if wanted == "all" else 2)
    with suppress(typer.Exit):
        show_plan(work)
    said = " ".join(capsys.readouterr().out.split())
    bill = (
        r"to do: [\d,]+ responses, [\d,.]+ M model tokens, [\d,]+ judge calls \([\d,.]+ M tokens\), judge cost (\$|unk)"
    )
    assert re.search(bill, said)
    assert any(finding.problem for finding in work.findings) == (name != "pocket")
    if name not in ("pocket", "smollm2"):
        assert re.search(
            r"GPU-hours: about [\d,]+ on \S+ \(.*memory: about \d+ GiB to train a row in one process", said
        )
        assert "sizes as in harness/models/published_sizes.json, files not here:" in said
    assert bool([each for each in work.findings if not each.forceable]) == (name != "pocket")
    assert not [each.text for each in work.findings if each.text.startswith("context:")]
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("offline")
def test_the_papers_recipes_train_with_the_papers_settings(registry: Registry) -> None:
    """Table 4, section 5.1 and appendix B.1, from results/published; as-released ones say what they change instead."""
    rates = {"gemma2": 8e-7, "llama3": 1e-6, "hetero": 1e-6, "scaling": 8e-7}
    for name in PAPERS:
        recipe = load_recipe(name, (), registry)
        ppd = recipe.methods["pad-ppd"]
        assert ppd.train.learning_rate == rates[name.removesuffix("-as-released")], name
        assert (ppd.train.batch_size, ppd.train.warmup_ratio, ppd.train.epochs) == (128, 0.1, 1)
        assert (ppd.config.beta, ppd.sampling.n, ppd.train.max_length) == (10.0, 4, 2048)
        released = name.endswith("-as-released")
        assert (ppd.config.alpha, ppd.config.divergence) == ((1.0, "ag") if released else (0.8, "jsd"))
        assert ppd.sampling.temperature == (1.0 if released else 0.8)
        assert in_paper("table1", recipe.family.name) or recipe.family.name in ("hetero", "scaling")
    for recipe, target, family in (("gemma2", "table3", "hetero"), ("gemma2", "table6", "scaling")):
        own = load_recipe(recipe, (), registry, TARGETS[target])
        alone = load_recipe(family, (), registry, TARGETS[target])
        assert own.family == alone.family and own.train == alone.train
        assert {row: own.methods[row] for row in TARGETS[target].rows[2:]} == {
            row: alone.methods[row] for row in TARGETS[target].rows[2:]
        } or family == "scaling"


@pytest.mark.parametrize("target", ["table2", "figure6"])
def test_eight_responses_are_shortened_only_where_the_teacher_reads_no_more(target: str, registry: Registry) -> None:
    """Gemma-2 reads 8,192 tokens: 80 + 8 (768 + 14) + 1,800 = 8,136. Llama 3.1, and pairs of responses, fit uncut."""
    cuts = {name: load_recipe(name, (), registry, TARGETS[target]).reward.max_response_tokens for name in PAPERS}
    short = dict.fromkeys(("gemma2", "hetero", "scaling"), 768)
    assert cuts == short | {"llama3": 1500, "gemma2-as-released": 2500, "llama3-as-released": 2500}


def test_as_released_trains_dpo_as_its_published_log_says(registry: Registry) -> None:
    for name in ("gemma2-as-released", "llama3-as-released"):
        rows = load_recipe(name, (), registry).methods
        assert (rows["dpo"].train.schedule, rows["dpo"].train.warmup_ratio) == ("linear", 0.0)
        assert (rows["simpo"].train.schedule, rows["simpo"].train.warmup_ratio) == ("cosine", 0.1)
        assert rows["dpo"].train.learning_rate == rows["pad-ppd"].train.learning_rate
