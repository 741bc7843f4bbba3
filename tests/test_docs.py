"""What README and docs say is true: files and links exist, commands parse, the worked example holds.

Commands and snippets are run by ``test_docs_commands.py``.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from distilbench.plugins import load_registry
from harness.contracts.method import DroppedPrompt, Method
from harness.recipe.recipe import load_recipe
from tests.command import ROOT, environment
from tests.pages import PAGES, block, blocks, commands
from tests.tiny import tiny_batch, tiny_group

FOLDERS = "distilbench|harness|methods|judges|results|reports|recipes|docs|tests|scripts|studies|examples"


def parse(line: str) -> None:
    """Raises what the command line raises where a command, an option or an argument does not exist. Runs nothing."""
    import typer

    from distilbench.cli.app import app

    command: Any = typer.main.get_command(app)
    words, parent = [word for word in shlex.split(line)[1:] if word not in ("--help", "--version")], None
    while words:  # the commands in turn; --help and --version would answer while they are parsed
        parent = command.make_context("distilbench", words, parent=parent)
        if not hasattr(command, "resolve_command"):
            return
        _, command, words = command.resolve_command(parent, [*parent._protected_args, *parent.args])


def test_commands_parse() -> None:
    assert {page for page, _ in commands()} >= {"README.md", "docs/add-a-method.md"}
    for _, line in commands():
        parse(line)


@pytest.mark.parametrize(
    "line",
    ["distilbench rune", "distilbench plan --metods dpo", "distilbench plan table1 table2", "distilbench assets get"],
)
def test_a_command_that_is_wrong_does_not_parse(line: str) -> None:
    with pytest.raises(Exception, match=r"rune|--metods|table2|get"):
        parse(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not re.match(r"https?:|mailto:", link)]
    gone = [link for link in links if not (page.parent / link).exists()]
    files = re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./-]*\w)(?![\w/*{{<])", text)
    gone += [file for file in files if not (ROOT / file).exists()]
    assert not gone, f"{page.name} names what is not there: {sorted(set(gone))}"


def prose(text: str) -> list[str]:
    """Lines outside of code blocks, tables and pictures."""
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for line in without_code.splitlines() if not line.startswith(("|", "!["))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_has_at_most_100_columns(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [line for line in prose(text) if len(line) > 100] == []
    assert page.name != "README.md" or len(text.splitlines()) < 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_environments_of_tox_exist(page: Path) -> None:
    known = re.findall(r"^\[testenv:(\w+)\]", (ROOT / "tox.ini").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"\btox -e (\w+)", page.read_text(encoding="utf-8"))) <= set(known)


# The worked example


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """``my_method.py`` as the page shows it, away from the repository."""
    file = tmp_path / "my_method.py"
    file.write_text(block("add-a-method.md", "python"), encoding="utf-8")
    return file


def rrhf(example: Path) -> Method:
    return load_registry(plugins=[str(example)]).methods["rrhf"]


def test_the_example_is_short_and_chooses_rows(example: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) < 50
    method = rrhf(example)
    config = method.config()
    rows = method.rows(tiny_group([("ba", -2.0), ("be", -0.5), ("bi", -4.0)]), config)
    assert not isinstance(rows, DroppedPrompt)
    assert [(row.text, row.signals["reward"]) for row in rows] == [("be", -0.5), ("ba", -2.0), ("bi", -4.0)]
    for samples in ([("ba", -2.0)], [("ba", -2.0), ("be", None)]):
        assert method.rows(tiny_group(samples), config) == DroppedPrompt("a response has no teacher score")


def test_the_example_by_hand(example: Path) -> None:
    """Two prompts of two responses, the teacher's favourite first; w = 1/2.

    Prompt 1: s = (-1 - 2) / 2 = -1.5 and -0.5: wrong order by 1. Prompt 2: s = -1 and -3: right order, 0.
    ranking = 1 + 0;  sft = 1/2 * ((1 + 2) + 1) = 2.
    """
    import torch

    method = rrhf(example)
    batch = tiny_batch([2, 1, 1, 1], prompts=2, signals={"reward": [-1.0, -3.0, -0.2, -0.4]})
    terms = method.loss(batch, {"logp": torch.tensor([-1.0, -2.0, -0.5, -1.0, -3.0])}, method.config(sft_weight=0.5))
    assert [(term.name, term.total.item(), term.per) for term in terms.terms] == [
        ("ranking", 1.0, "prompt"),
        ("sft", 2.0, "prompt"),
    ]
    # a tie of the teacher is no pair
    ties = tiny_batch([1, 1], signals={"reward": [-1.0, -1.0]})
    ranking, _ = method.loss(ties, {"logp": torch.tensor([-2.0, -1.0])}, method.config()).terms
    assert ranking.total.item() == 0.0


def test_the_pair_on_the_page(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    start, end = text.index("def rows("), text.index("def loss(")
    example.write_text(text[:start] + block("add-a-method.md", "python", 1) + "\n\n" + text[end:], encoding="utf-8")
    method = rrhf(example)
    rows = method.rows(tiny_group([("ba", -2.0), ("be", -0.5), ("bi", -4.0), ("bo", None)]), method.config())
    assert not isinstance(rows, DroppedPrompt)
    assert [(row.text, row.role) for row in rows] == [("be", "chosen"), ("bi", "rejected")]
    for samples in ([("ba", -2.0)], [("ba", -2.0), ("ba", -1.0)]):
        assert method.rows(tiny_group(samples), method.config()) == DroppedPrompt("no two responses to compare")


def test_the_test_on_the_page_passes(example: Path) -> None:
    test = example.with_name("check.py")
    test.write_text(block("add-a-method.md", "python", 2), encoding="utf-8")
    command = [sys.executable, str(test)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=example.parent, env=environment())
    assert done.returncode == 0, done.stderr


def test_the_example_as_an_entry_point(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as the page describes it, installed as far as Python can tell."""
    points = tomllib.loads(block("add-a-method.md", "toml"))["project"]["entry-points"]["distilbench.methods"]
    (package, name) = next(iter(points.values())).removesuffix(":METHOD").split(".")
    (example.parent / package).mkdir()
    example.rename(example.parent / package / f"{name}.py")
    info = example.parent / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"{key} = {value}" for key, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[distilbench.methods]", *lines, ""]), encoding="utf-8")
    monkeypatch.syspath_prepend(str(example.parent))
    try:
        importlib.invalidate_caches()
        assert load_registry().methods["rrhf"].title == "RRHF"
    finally:
        for module in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[module]


def test_recipes_on_the_pages_are_recipes(example: Path, tmp_path: Path) -> None:
    registry = load_registry(plugins=[str(example)])
    recipes = [(page.name, text) for page in PAGES for text in blocks(page, "yaml")]
    assert len(recipes) >= 2
    for number, (page, text) in enumerate(recipes):
        assert isinstance(yaml.safe_load(text), dict), page
        (tmp_path / f"mine{number}.yaml").write_text(text, encoding="utf-8")
        load_recipe(str(tmp_path / f"mine{number}.yaml"), (), registry)


def test_every_option_of_every_method_is_explained() -> None:
    """docs/methods.md has one section per method, and it names each field of the method's config (ADPA+: ADPA's)."""
    sections = re.split(r"^### ", (ROOT / "docs" / "methods.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    methods = load_registry().methods
    for name, method in methods.items():
        (section,) = [each for each in sections if f"`{name}`" in each.splitlines()[0]]
        missing = [field.name for field in dataclasses.fields(method.config) if f"`{field.name}" not in section]
        assert not missing, f"{name}: {missing}"
    assert len(methods) == 16
