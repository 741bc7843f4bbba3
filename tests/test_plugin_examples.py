"""The worked example of each page docs/add-a-….md, as a plug-in file far away from the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distilbench.plugins import OURS, load_registry, variables
from distilbench.workflows.check import check
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.plan.plan import make_plan
from harness.recipe.recipe import load_recipe
from tests.command import ROOT, distilbench
from tests.pages import block

EXAMPLES = {
    "methods": ("add-a-method.md", "rrhf", ()),
    "benchmarks": ("add-a-benchmark.md", "capitals", ("benchmarks.capitals={}",)),
    "judges": ("add-a-judge.md", "first", ("judges.main={kind: first}",)),
    "sources": ("add-a-source.md", "csv", ("prompts.source=csv", "prompts.path=prompts.csv")),
    "backends": ("add-a-backend.md", "canned", ()),
    "executors": ("add-an-executor.md", "threads", ("compute.executor=threads",)),
}
"""Table to the page, the name of the example's entry, and what a recipe says to use it."""
OPTIONS = {"sources": ("--set", "path=prompts.csv")}


@pytest.fixture(params=OURS)
def table(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def example(table: str, tmp_path: Path) -> Path:
    file = tmp_path / f"my_{table[:-1]}.py"
    file.write_text(block(EXAMPLES[table][0], "python"), encoding="utf-8")
    rows = "".join(f"{n}?,yes {n},no\n" for n in range(9))
    (tmp_path / "prompts.csv").write_text("prompt,chosen,rejected\n" + rows, encoding="utf-8")
    return file


def test_an_example_joins_its_table_and_a_recipe_can_name_it(
    table: str, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(example.parent)
    _, name, overrides = EXAMPLES[table]
    registry = load_registry([str(example)])
    assert list(getattr(registry, table))[-1] == name
    assert load_recipe("pocket", overrides, registry)
    assert name not in getattr(load_registry(), table)


def test_an_example_passes_the_check_command(table: str, example: Path) -> None:
    done = distilbench(f"check-{table[:-1]}", example.name, *OPTIONS.get(table, ()), cwd=example.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout and done.stdout.count("\nok ") >= 4


def test_an_example_is_clean_code(example: Path) -> None:
    for words in (["check", "--ignore", "INP001"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "--config", str(ROOT / "pyproject.toml")]
        done = subprocess.run([*command, str(example)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


KEYED = {
    "methods": {"train"}, "benchmarks": {"answer", "judge", "score"}, "judges": {"judge"}, "sources": {"prompts"},
    "backends": {"sample", "answer"}, "executors": set(),
}  # fmt: skip
"""Table to the kinds of stages that have the code of its entries in their keys."""
FURTHER = {"benchmarks": ("benchmarks={capitals: {}}",), "backends": ("family.backend=canned",)}


def test_the_code_of_an_example_is_in_the_keys_of_what_it_decides(
    table: str, example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(example.parent)
    overrides = ["prompts.n=8", "seeds=[0]", *EXAMPLES[table][2], *FURTHER.get(table, ())]
    text, rows = example.read_text(encoding="utf-8"), ["student", "rrhf" if table == "methods" else "pad-ppd"]

    def stages(code: str) -> dict[str, Stage]:
        example.write_text(code, encoding="utf-8")
        registry = load_registry([str(example)])
        recipe = load_recipe("pocket", [*overrides, *(["methods.rrhf={}"] if table == "methods" else [])], registry)
        return make_plan(recipe, registry, rows).graph.stages

    first, commented, changed = stages(text), stages(text + "# a comment\n"), stages(text + "NUMBER = 1\n")
    assert first.keys() == commented.keys()
    noun = f"{table[:-1]}_code"
    assert {stage.kind for stage in first.values() if noun in stage.params} == KEYED[table]
    assert all(key not in changed for key, stage in first.items() if noun in stage.params)
    if not KEYED[table]:
        assert first.keys() == changed.keys()


@pytest.mark.parametrize("wrong", OURS)
def test_a_file_without_an_entry_of_the_table_is_refused(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=variables(wrong)[0]):
        list(check(wrong, str(tmp_path / "empty.py")))
