"""The registry: entry points, plug-in files, names taken twice, and packages that are not ours."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from distilbench import installation, plugins
from harness.errors import UserError

PLUGIN = """
from dataclasses import dataclass, replace
from methods.dpo import METHOD as DPO

METHOD = replace(DPO, name={name!r}, title="Mine")
"""


def write(folder: Path, text: str, name: str = "my_method.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (PLUGIN.format(name="dpo"), ("my_method.py", "'dpo'", "distilbench has one", "Rename")),
        ("import nothing_of_this_name\n", ("my_method.py", "ModuleNotFoundError", "my_method.py:1")),
        ("def f(:\n", ("SyntaxError", "my_method.py, line 1")),
        ("x = 1\n", ("defines none of METHOD, METHODS",)),
        ("METHOD = 3\n", ("is a int, not a harness.contracts.method.Method",)),
        (PLUGIN.format(name="a") + "METHODS = {'b': METHOD}\ndel METHOD\n", ("'b'", "calls itself 'a'")),
    ],
)
def test_a_plugin_that_does_not_fit_is_named_with_the_reason(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        plugins.load_registry([write(tmp_path, text)])
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        plugins.load_registry([str(tmp_path / "none.py")])
    with pytest.raises(UserError, match="ModuleNotFoundError"):
        plugins.load_registry(["no_such_module_of_mine"])


def test_an_entry_point_joins_and_a_broken_one_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, PLUGIN.format(name="theirs"), "their_methods.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [EntryPoint("theirs", "their_methods:METHOD", "distilbench.methods")]

    monkeypatch.setattr(plugins, "entry_points", lambda: EntryPoints(points))
    assert "theirs" in plugins.load_registry().methods
    points.append(EntryPoint("gone", "their_methods:NOTHING", "distilbench.judges"))
    with pytest.raises(UserError, match=r"entry point 'gone'.*AttributeError"):
        plugins.load_registry()


def test_a_package_of_another_distribution_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installation.check_folders()  # ours are ours
    real = importlib.util.find_spec

    def find(name: str, *more: Any) -> ModuleSpec | None:
        if name != "judges":
            return real(name, *more)
        spec = ModuleSpec("judges", None, origin=str(tmp_path / "judges/__init__.py"), is_package=True)
        spec.submodule_search_locations = [str(tmp_path / "judges")]
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(installation, "packages_distributions", lambda: {"judges": ["trial-by-jury"]})
    with pytest.raises(UserError, match=r"'judges' is not distilbench's.*trial-by-jury.*virtual environment"):
        installation.check_folders()
