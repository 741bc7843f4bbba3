"""Ties the folders together: methods, benchmarks and judges of ours, of entry points, and of ``--plugin`` files."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from harness.contracts.judge import JudgeKind
from harness.contracts.method import Method
from harness.contracts.registry import Registry
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.contracts.benchmark import Benchmark

FOLDERS = ("methods", "judges", "results", "reports", "recipes")
KINDS = ("methods", "benchmarks", "judges")
NAMES = {
    "methods": ("METHOD", "METHODS"),
    "benchmarks": ("BENCHMARK", "BENCHMARKS"),
    "judges": ("JUDGE", "JUDGES"),
}
"""What a plug-in module may define: one of a kind, or a dict or sequence of several."""


def check_folders(folders: Iterable[str] = FOLDERS) -> None:
    """These top-level names are generic. Raises UserError when one of them is another distribution's, or missing."""
    home = Path(__file__).resolve().parents[1]
    for name in folders:
        spec = importlib.util.find_spec(name)
        places = [Path(place).resolve() for place in spec.submodule_search_locations or ()] if spec else []
        if spec is not None and home / name in places:
            continue
        if spec is None:
            raise UserError(f"the package {name!r} of distilbench is missing beside {home}: install distilbench again.")
        owners = [owner for owner in packages_distributions().get(name, []) if owner != "distilbench"]
        owner = f"the distribution {' and '.join(map(repr, owners))}" if owners else "something that is no distribution"
        found = spec.origin or ", ".join(map(str, places))
        raise UserError(
            f"the top-level package {name!r} is not distilbench's: Python finds {found}, of {owner}. distilbench's is "
            f"{home / name}. Install distilbench into a virtual environment of its own, or run it from another folder."
        )


def load_registry(plugins: Sequence[str] = ()) -> Registry:
    """Everything that a recipe may name.

    Args:
        plugins: Python files or modules, in order (``--plugin``).

    Raises:
        UserError: a plug-in that cannot be imported, holds nothing of ours, or brings a name that is taken.
    """
    from harness.prompts import SOURCES
    from harness.run import EXECUTORS
    from judges import BENCHMARKS, JUDGES
    from judges.client.ask import ask
    from methods import METHODS
    from reports.targets import TARGETS

    gathered = Gathered()
    gathered.add("methods", METHODS, "distilbench")
    gathered.add("benchmarks", BENCHMARKS, "distilbench")
    gathered.add("judges", JUDGES, "distilbench")
    for kind in KINDS:
        for point in entry_points(group=f"distilbench.{kind}"):
            origin = f"the entry point {point.name!r} of {point.dist.name if point.dist else point.value!r}"
            try:
                found = point.load()
            except Exception as error:  # whatever a foreign module raises while it is imported
                raise _broken(origin, error) from error
            gathered.absorb(kind, found, origin)
    for plugin in plugins:
        module = import_plugin(plugin)
        if not sum(gathered.absorb(kind, module, f"the plug-in {plugin!r}") for kind in KINDS):
            names = ", ".join(name for pair in NAMES.values() for name in pair)
            raise UserError(f"the plug-in {plugin!r} defines none of {names}: nothing of it can be used.")
    items = gathered.items
    return Registry(items["methods"], items["benchmarks"], items["judges"], SOURCES, EXECUTORS, ask, TARGETS)


class Gathered:
    """Named things by kind; remembers who brought each, so that a name cannot be taken twice."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        self.origins: dict[tuple[str, str], str] = {}

    def absorb(self, kind: str, found: Any, origin: str) -> int:
        """Add one thing, a collection, or what a module defines under the names in ``NAMES``; how many there were."""
        if isinstance(found, ModuleType):
            return sum(self.absorb(kind, getattr(found, n), origin) for n in NAMES[kind] if hasattr(found, n))
        if isinstance(found, Mapping):
            return self.add(kind, found, origin)
        things = found if isinstance(found, list | tuple) else [found]
        return self.add(kind, {getattr(thing, "name", repr(thing)): thing for thing in things}, origin)

    def add(self, kind: str, items: Mapping[str, Any], origin: str) -> int:
        """Add named things of one kind."""
        for name, item in items.items():
            _check_kind(kind, name, item, origin)
            if name in self.items[kind]:
                raise UserError(
                    f"{origin} brings {kind[:-1]} {name!r}, but {self.origins[kind, name]} has one of that name. "
                    "Rename yours: tables could not tell them apart."
                )
            self.items[kind][name] = item
            self.origins[kind, name] = origin
        return len(items)


def import_plugin(plugin: str) -> ModuleType:
    """Import a Python file, or a module by name. Raises UserError naming it and what happened."""
    path = Path(plugin).expanduser()
    if not plugin.endswith(".py"):
        try:
            return importlib.import_module(plugin)
        except Exception as error:
            raise _broken(f"the plug-in {plugin!r}", error) from error
    if not path.is_file():
        raise UserError(f"the plug-in {plugin!r} is not a file. Give the path of a Python file, or a module's name.")
    name = f"distilbench_plugin_{path.stem.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"the plug-in {plugin!r} cannot be imported as a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is made
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _broken(f"the plug-in {plugin!r}", error) from error
    return module


def _check_kind(kind: str, name: str, item: Any, origin: str) -> None:
    """A thing of the wrong type would fail much later and far away; so would a name that differs from its key."""
    fits = {
        "methods": lambda: isinstance(item, Method),
        "benchmarks": lambda: _is_benchmark(item),
        "judges": lambda: isinstance(item, JudgeKind),
    }
    if not fits[kind]():
        contract = {"methods": "method.Method", "benchmarks": "benchmark.Benchmark", "judges": "judge.JudgeKind"}
        raise UserError(f"{origin}: {name!r} is a {type(item).__name__}, not a harness.contracts.{contract[kind]}.")
    if item.name != name:
        raise UserError(f"{origin}: the {kind[:-1]} listed as {name!r} calls itself {item.name!r}; they must agree.")


def _is_benchmark(item: Benchmark | Any) -> bool:
    needed = (
        "name",
        "metrics",
        "verdicts",
        "config",
        "judged",
        "questions",
        "answer",
        "requests",
        "parse",
        "grade",
        "score",
        "card",
    )
    return all(hasattr(item, each) for each in needed)


def _broken(origin: str, error: Exception) -> UserError:
    """The error for a foreign module that raised: what, and in which of its lines."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    where = next((frame for frame in reversed(frames) if "importlib" not in frame), "")
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
    return UserError(f"{origin} cannot be imported: {type(error).__name__}: {error} ({where}).")
