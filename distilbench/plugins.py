"""Ties the packages together: the six tables of ours, of entry points, and of ``--plugin`` files."""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.contracts.backend import Backend
from harness.contracts.benchmark import Benchmark
from harness.contracts.executor import ExecutorKind
from harness.contracts.judge import JudgeKind
from harness.contracts.method import Method
from harness.contracts.registry import Registry
from harness.contracts.source import PromptSource
from harness.errors import UserError, unknown_choice
from harness.models.backends import BACKENDS
from harness.prompts import SOURCES
from harness.run import EXECUTORS
from harness.stages import STAGES
from judges import BENCHMARKS, JUDGES
from judges.client.ask import ask
from methods import METHODS
from reports.targets import SEARCH, TARGETS

OURS: Mapping[str, Mapping[str, Any]] = {
    "methods": METHODS, "benchmarks": BENCHMARKS, "judges": JUDGES,
    "sources": SOURCES, "backends": BACKENDS, "executors": EXECUTORS,
}  # fmt: skip
CONTRACTS: Mapping[str, type[Any]] = {
    "methods": Method, "benchmarks": Benchmark, "judges": JudgeKind,
    "sources": PromptSource, "backends": Backend, "executors": ExecutorKind,
}  # fmt: skip


def load_registry(plugins: Sequence[str] = ()) -> Registry:
    """What a recipe may name: ours, of entry points (``distilbench.methods``), and of Python files or modules.

    Raises UserError: a plug-in that cannot be imported, holds nothing of ours, or brings a name that is taken.
    """
    tables = [EntryTable(name) for name in OURS]
    points = entry_points()  # once: every call reads the metadata of all distributions
    for table in tables:
        for point in points.select(group=f"distilbench.{table.name}"):
            origin = f"the entry point {point.name!r} of {point.dist.name if point.dist else point.value!r}"
            try:
                value, module = point.load(), importlib.import_module(point.module)
            except Exception as error:  # whatever a foreign module raises while it is imported
                raise _import_error(origin, error) from error
            table.add(value, origin, module)
    for plugin in plugins:
        module, origin = import_plugin(plugin), f"the plug-in {plugin!r}"
        # A sum and not any(), which would stop at the first table: a file may bring entries of several.
        if not sum(table.add(module, origin, module) for table in tables):
            names = ", ".join(name for table in OURS for name in variables(table))
            raise UserError(f"{origin} defines none of {names}: nothing of it can be used.")
    stages = {name: kind.runs_model for name, kind in STAGES.items()}
    targets = {**TARGETS, SEARCH.name: SEARCH}
    code = {(table.name, name): value for table in tables for name, value in table.code.items()}
    entries = {table.name: table.entries for table in tables}
    return Registry(**entries, ask=ask, targets=targets, stages=stages, code=code)


def entries_of(table: str, name_or_file: str, plugins: Sequence[str] = ()) -> list[Any]:
    """The entry of this name, or all that a Python file brings. Raises UserError where there is none."""
    known_entries = getattr(load_registry(plugins), table)
    if not name_or_file.endswith(".py"):
        if name_or_file not in known_entries:
            remedy = "Or give the path of a Python file that ends in .py."
            raise unknown_choice(table[:-1], name_or_file, known_entries, remedy)
        return [known_entries[name_or_file]]
    all_entries = getattr(load_registry([*plugins, name_or_file]), table)
    new_entries = [entry for name, entry in all_entries.items() if name not in known_entries]
    if not new_entries:
        single, several = variables(table)
        raise UserError(f"the plug-in {name_or_file!r} brings no {table[:-1]}: define {single} (or {several}) in it.")
    return new_entries


def variables(table: str) -> tuple[str, str]:
    """Names that a plug-in file may define: METHOD, one entry, and METHODS, a dict or sequence of several."""
    return table[:-1].upper(), table.upper()


class EntryTable:
    """One of the six while plug-ins are added. It remembers who brought each entry: no name can be taken twice."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: dict[str, Any] = dict(OURS[name])
        self.origins = dict.fromkeys(self.entries, "distilbench")
        self.code: dict[str, str] = {}

    def add(self, value: object, origin: str, module: ModuleType) -> int:
        """Add an entry, a mapping or sequence of entries, or those that a module defines; how many there were.
        ``module``: whose code they are."""
        if isinstance(value, ModuleType):
            variable_values = [getattr(value, name) for name in variables(self.name) if hasattr(value, name)]
            return sum(self.add(entry, origin, module) for entry in variable_values)
        entries = value if isinstance(value, list | tuple) else [value]
        by_name = value if isinstance(value, Mapping) else {getattr(entry, "name", ""): entry for entry in entries}
        noun, contract = self.name[:-1], CONTRACTS[self.name]
        for name, entry in by_name.items():
            # An entry of the wrong type would fail much later and far away; so would one whose name is not its key.
            if not isinstance(entry, contract):
                rule = f"is a {type(entry).__name__}, not a {contract.__module__}.{contract.__name__}"
                raise UserError(f"{origin}: the {noun} {name!r} {rule}.")
            if entry.name != name:
                rule = f"the {noun} listed as {name!r} calls itself {entry.name!r}; they must agree"
                raise UserError(f"{origin}: {rule}.")
            if name in self.entries:
                rule = f"but {self.origins[name]} has one of that name. Rename yours: tables could not tell them apart"
                raise UserError(f"{origin} brings {noun} {name!r}, {rule}.")
            self.entries[name], self.origins[name], self.code[name] = entry, origin, code_hash(module, entry)
        return len(by_name)


def import_plugin(plugin: str) -> ModuleType:
    """Import a Python file, or a module by name. Raises UserError naming it and what happened."""
    path = Path(plugin).expanduser().absolute()
    if plugin.endswith(".py") and not path.is_file():
        raise UserError(f"the plug-in {plugin!r} is not a file. Give the path of a Python file, or a module's name.")
    name = f"distilbench_plugin_{path.stem.replace('-', '_')}"
    try:
        if not plugin.endswith(".py"):
            return importlib.import_module(plugin)
        module = ModuleType(name)
        module.__file__ = str(path)  # the sentences of a plug-in's options are read from its source
        sys.modules[name] = module  # dataclasses look their module up while it is made
        # Never stored bytecode: it goes by a file's second and size, and a quick edit may change neither.
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except Exception as error:
        sys.modules.pop(name, None)
        raise _import_error(f"the plug-in {plugin!r}", error) from error
    return module


def code_hash(module: ModuleType, entry: object) -> str:
    """Of the file of a plug-in, and of those of its package in which the entry's functions and options are, inherited
    ones too; without comments and docstrings, which change no result. Other modules that these import do not count."""
    package = module.__name__.partition(".")[0]
    classes = type(entry).__mro__
    parts = [
        module,
        entry,
        *classes,
        *(part for one in (entry, *classes) for part in getattr(one, "__dict__", {}).values()),
    ]
    parts += [base for part in parts if isinstance(part, type) for base in part.__mro__]  # of options, too
    names = {str(getattr(part, "__module__", "")) for part in parts} | {module.__name__}
    own = sorted(name for name in names if name.partition(".")[0] == package and name in sys.modules)
    return hashlib.sha256("\n".join(bare_source(sys.modules[name]) for name in own).encode()).hexdigest()[:16]


def bare_source(module: ModuleType) -> str:
    file = Path(module.__file__ or "")
    if file.suffix != ".py":  # compiled: its bytes
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(node, field, [item for item in value if not _is_text(item)])
    return ast.unparse(tree)  # and no dump, whose form differs between versions of Python


def _is_text(node: object) -> bool:
    """Whether it is a docstring, or a string that stands alone as one does."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _import_error(origin: str, error: Exception) -> UserError:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    location = "" if isinstance(error, SyntaxError) else f" ({frames[-1].filename}:{frames[-1].lineno})"
    return UserError(f"{origin} cannot be imported: {type(error).__name__}: {error}{location}.")
