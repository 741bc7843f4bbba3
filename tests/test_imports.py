"""The laws of the folders: who imports whom, what is declared, and how large things may grow."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "distilbench": {"distilbench", "harness", "methods", "judges", "results", "reports", "recipes"},
    "harness": {"harness"},
    "methods": {"harness", "methods"},
    "judges": {"harness", "judges"},
    "results": {"harness", "results"},
    "reports": {"harness", "results", "reports"},
    "recipes": {"recipes"},
}
LINES = 600
BODY = 60
FILES = sorted(file for folder in ALLOWED for file in (ROOT / folder).rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Top-level names that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in names}


def test_there_is_something_to_check() -> None:
    seen = {file.relative_to(ROOT).parts[0] for file in FILES}
    assert seen == set(ALLOWED), "the glob missed a folder"
    assert len(FILES) >= 60, f"only {len(FILES)} files"


def test_imports_follow_the_law() -> None:
    broken = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in FILES
        for name in sorted((imported(file) & set(ALLOWED)) - ALLOWED[file.relative_to(ROOT).parts[0]])
    ]
    assert not broken, "\n".join(broken)


def test_the_law_catches_a_violation(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def f():\n    from judges.client.ask import ask\n", encoding="utf-8")
    assert imported(planted) == {"judges"}


def test_every_third_party_import_is_a_stated_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for name, some in project["optional-dependencies"].items() if name == "gguf" for one in some]
    stated = {re.split(r"[<>=!~\[; ]", text)[0].lower().replace("_", "-") for text in project["dependencies"] + extras}
    ours = set(ALLOWED) | {"tests"} | set(sys.stdlib_module_names) | {"__future__"}
    owners = packages_distributions()
    missing = {
        f"{name} ({file.relative_to(ROOT)})"
        for file in FILES
        for name in imported(file) - ours - {""}
        if not {owner.lower().replace("_", "-") for owner in owners.get(name, [name])} & stated
    }
    assert not missing, f"imported, but not among the dependencies in pyproject.toml: {sorted(missing)}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_small(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= LINES, f"{lines} lines; {LINES} is the budget: split it by meaning"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            long = (node.end_lineno or 0) - node.lineno + 1
            assert long <= BODY, f"{node.name} has {long} lines; {BODY} is the budget"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_files_open_with_what_they_are(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not text or ast.get_docstring(ast.parse(text)), "say what this file is in a docstring"
