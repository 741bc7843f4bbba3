"""The laws of the code base: layers, circles, lazy imports, names, sizes, and what may be tracked.

Each law is checked over every import, those inside functions and under TYPE_CHECKING included, without exemption.
"""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from distilbench.plugins import load_registry
from harness.stages import STAGES

ROOT = Path(__file__).resolve().parents[1]

# From the lowest to the highest. A line may import itself and every line above it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("harness.errors", "harness.text", "harness.coroutines", "harness.api_key"),
    ("harness.types",),
    ("harness.records", "harness.rows", "harness.stats", "harness.thinking", "harness.journal"),
    ("harness.contracts",),
    ("harness.hardware", "harness.assets"),
    ("harness.models", "harness.multiple_choice"),
    ("harness.pocket",),
    ("harness.prompts",),
    ("harness.training",),
    ("harness.recipe",),
    ("recipes",),
    ("harness.stages",),
    ("harness.plan",),
    ("harness.run",),
    ("harness.checks",),
    ("results.store",),
    ("results.run", "results.published"),
    ("methods",),
    ("judges.ledger",),
    ("judges.benchmarks",),
    ("judges.formats",),
    ("judges.client",),
    ("judges.kinds",),
    ("judges",),
    ("reports.tables",),
    ("reports.formats", "reports.figures"),
    ("reports.targets", "reports.judge_comparison"),
    ("reports.page",),
    ("reports",),
    ("distilbench.plugins", "distilbench.installation", "distilbench.workers"),
    ("distilbench.workflows",),
    ("distilbench.searching", "distilbench.viewing", "distilbench.sharing"),
    ("distilbench",),
    ("distilbench.cli", "distilbench.__main__"),
)
APART = (
    ("methods", "judges"),
    ("judges", "methods"),
    ("reports", "methods"),
    ("reports", "judges"),
    ("results", "judges"),
)
"""The second folder is lower, or beside, and yet not for the first: training cannot peek at evaluation, and a table
can be made again without a benchmark's or a method's code."""

FOLDERS = ("distilbench", "harness", "methods", "judges", "results", "reports", "recipes")
LINES, BODY, MODULES = 600, 60, 12
PRODUCT_LINES = 49_600
"""Lines of Python, JS, CSS and templates: new code must earn its place, so this number is raised by hand."""

HEAVY = frozenset(
    [
        "accelerate",
        "datasets",
        "deepspeed",
        "fsspec",
        "httpx",
        "httpx2",
        "huggingface_hub",
        "jinja2",
        "lm_eval",
        "matplotlib",
        "numpy",
        "openai",
        "optuna",
        "pandas",
        "peft",
        "psutil",
        "pyarrow",
        "pydantic",
        "ray",
        "rich",
        "safetensors",
        "scipy",
        "sklearn",
        "sqlite3",
        "starlette",
        "statsmodels",
        "submitit",
        "tiktoken",
        "tokenizers",
        "torch",
        "transformers",
        "trl",
        "typer",
        "urllib",
        "uvicorn",
        "yaml",
    ]
)
"""Libraries that a function may import for itself, so that the light commands stay light."""


@dataclass(frozen=True)
class Import:
    """One import statement of ours, resolved to a module."""

    source: str
    target: str
    line: int
    inside: bool
    """Whether it stands in a function."""


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()[:-3].replace("/", ".").removesuffix(".__init__")


FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
MODULES_OF = {name_of(file): file for file in FILES}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES_OF.items()}


def targets(node: ast.AST) -> list[str]:
    """Dotted names that a node imports; ``from a import b`` is ``a.b`` where that is a module of ours."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES_OF else str(node.module) for name in names]
    return []


def walk(tree: ast.AST, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for node in ast.iter_child_nodes(tree):
        within = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield node, within
        yield from walk(node, within)


def imports(tree: ast.AST, source: str) -> list[Import]:
    return [
        Import(source, target, getattr(node, "lineno", 0), inside)
        for node, inside in walk(tree)
        for target in dict.fromkeys(targets(node))
    ]


IMPORTS = [one for name, tree in TREES.items() for one in imports(tree, name)]
OURS = [one for one in IMPORTS if one.target.split(".")[0] in FOLDERS]


def layer(module: str) -> int:
    """Place of a module in LAYERS: the longest prefix decides."""
    found = [
        (len(prefix), place)
        for place, row in enumerate(LAYERS)
        for prefix in row
        if (module + ".").startswith(prefix + ".")
    ]
    assert found, f"{module} is in no layer: add its package to LAYERS"
    return max(found)[1]


def breaks_the_law(one: Import) -> bool:
    ends = one.source.split(".")[0], one.target.split(".")[0]
    return layer(one.target) > layer(one.source) or ends in APART


def test_there_is_something_to_check() -> None:
    assert {name.split(".")[0] for name in MODULES_OF} == set(FOLDERS), "the glob missed a folder"
    assert len(FILES) >= 150 and len(OURS) >= 1000


def test_every_import_goes_down() -> None:
    broken = [f"{one.source}:{one.line} imports {one.target}" for one in OURS if breaks_the_law(one)]
    assert not broken, "\n".join(broken)


def test_the_law_catches_a_planted_import() -> None:
    for text in (
        "def f():\n    from judges.client import ask\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import distilbench.cli\n",
    ):
        planted = imports(ast.parse(text), "methods.planted")
        assert [one for one in planted if one.target.split(".")[0] in FOLDERS and breaks_the_law(one)]


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components with more than one member (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = [stack.pop()]
            while part[-1] != node:
                part.append(stack.pop())
            if len(part) > 1:
                result.append(sorted(part))

    for node in list(edges):
        if node not in index:
            visit(node)
    return result


def test_no_two_modules_import_each_other_even_lazily() -> None:
    edges: dict[str, set[str]] = defaultdict(set)
    for one in OURS:
        if one.target in MODULES_OF and one.target != one.source:
            edges[one.source].add(one.target)
    assert circles(edges) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def heavy_modules() -> set[str]:
    """Modules of ours that import a heavy library when they are imported, directly or through another of ours."""
    direct: dict[str, set[str]] = defaultdict(set)
    checked_only = {
        (name, getattr(inner, "lineno", 0))
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    }
    for one in IMPORTS:
        if not one.inside and (one.source, one.line) not in checked_only:
            direct[one.source].add(one.target)
            if one.target in MODULES_OF:  # importing a.b.c runs a and a.b as well
                parts = one.target.split(".")
                direct[one.source] |= {".".join(parts[:n]) for n in range(1, len(parts))} & set(MODULES_OF)
    heavy = {name for name, found in direct.items() if {target.split(".")[0] for target in found} & HEAVY}
    while more := {name for name, found in direct.items() if found & heavy} - heavy:
        heavy |= more
    return heavy


LAZY = 166
"""How many imports stand inside functions. A lower number is better: set it to what you reach."""


def test_imports_inside_functions_only_keep_heavy_libraries_away() -> None:
    heavy = heavy_modules()
    lazy = [one for one in IMPORTS if one.inside]
    # a package runs before its module: what it loads counts too
    idle = [
        one
        for one in lazy
        if one.target.split(".")[0] not in HEAVY
        and not heavy & {one.target.rsplit(".", n)[0] for n in range(one.target.count(".") + 1)}
    ]
    assert not idle, "\n".join(f"{one.source}:{one.line} {one.target} is light: import it at the top" for one in idle)
    assert len(lazy) <= LAZY, f"{len(lazy)} imports inside functions"


def test_class_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert not twice


def strings(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return [text for element in node.elts for text in strings(element)]
    return []


def compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """String constants that are compared with something: ``x == "dpo"``, ``x in ("dpo", "kd")``, ``case "dpo"``.

    ``"dpo" in mapping`` asks whether a key is there and is no branch on a name.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.MatchValue):
            yield from ((node.value.lineno, text) for text in strings(node.value))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if isinstance(node.ops[0], ast.In | ast.NotIn):
                sides = node.comparators
            yield from ((node.lineno, text) for side in sides for text in strings(side))


def test_no_branch_on_a_name_outside_its_own_file() -> None:
    """Only the own file of a method, benchmark, judge, source, backend, executor or stage kind knows its name."""
    registry = load_registry()
    tables = {
        "method": registry.methods,
        "benchmark": registry.benchmarks,
        "judge": registry.judges,
        "source": registry.sources,
        "backend": registry.backends,
        "executor": registry.executors,
        "stage kind": STAGES,
    }
    assert all(tables.values())
    names = {name: table for table, mapping in tables.items() for name in mapping}
    found = [
        f"{module}:{line} {names[text]} {text!r}"
        for module, tree in TREES.items()
        for line, text in compared(tree)
        # A method's options may have any value: it cannot see a benchmark (APART).
        if text in names and not (names[text] == "benchmark" and module.startswith("methods."))
    ]
    assert not found, "\n".join(found)
    assert list(compared(ast.parse('if x == "dpo" or x in ("kd",) or "ipo" in y: pass'))) == [(1, "dpo"), (1, "kd")]


def test_every_third_party_import_is_a_stated_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = ("deepspeed", "gguf", "ray", "search", "slurm", "tiktoken", "trl", "view")
    extras = [one for name in names for one in project["optional-dependencies"][name]]
    stated = {re.split(r"[<>=!~\[; ]", text)[0].lower().replace("_", "-") for text in project["dependencies"] + extras}
    owners = packages_distributions()
    foreign = {(one.target.split(".")[0], one.source) for one in IMPORTS} - {("", "")}
    missing = {
        f"{name} ({source})"
        for name, source in foreign
        if name not in {*FOLDERS, *sys.stdlib_module_names, "__future__"}
        and not {owner.lower().replace("_", "-") for owner in owners.get(name, [name])} & stated
    }
    assert not missing, f"imported, but not among the dependencies in pyproject.toml: {sorted(missing)}"


def test_the_environment_of_the_official_tools_has_what_our_files_import() -> None:
    """``tox -e official`` installs none of our dependencies, because the tools' own would clash with them."""
    tools = ROOT / "tests" / "official" / "test_official_tools.py"
    modules = sorted({one.target for one in imports(ast.parse(tools.read_text()), "tools")} & set(MODULES_OF))
    code = f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split())
    config = configparser.ConfigParser()
    config.read(ROOT / "tox.ini")
    stated = {re.split("[<>=]", line)[0] for line in config["testenv:official"]["deps"].split()}
    stated |= {"numpy", "typing-extensions"}  # alpaca-eval and pydantic bring these
    foreign = {one.target.split(".")[0] for one in IMPORTS} & loaded - {*FOLDERS, *sys.stdlib_module_names}
    owners = packages_distributions()
    needed = {name: {owner.lower().replace("_", "-") for owner in owners[name]} for name in foreign}
    assert {"psutil", "pydantic"} <= set(needed)
    assert [name for name, distributions in needed.items() if not distributions & stated] == []


def test_folders_hold_at_most_a_dozen_modules() -> None:
    """``methods`` has one file per method and is a table of contents."""
    counts = Counter(file.parent for file in FILES if file.name != "__init__.py")
    crowded = {folder.relative_to(ROOT).as_posix(): n for folder, n in counts.items() if n > MODULES}
    assert set(crowded) <= {"methods"}, crowded


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_readable(file: Path) -> None:
    text, tree = file.read_text(encoding="utf-8"), TREES[name_of(file)]
    assert text.count("\n") <= LINES, f"more than {LINES} lines: split it by meaning"
    assert not text.strip() or ast.get_docstring(tree), "say what this file is in a docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= BODY, f"{node.name} has {length} lines"


def test_the_product_stays_small() -> None:
    web = [
        file
        for folder in FOLDERS
        for end in ("js", "css", "jinja", "html")
        for file in (ROOT / folder).rglob(f"*.{end}")
    ]
    lines = sum(file.read_text(encoding="utf-8").count("\n") for file in [*FILES, *web])
    assert lines <= PRODUCT_LINES, f"{lines} lines"


def git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


def test_no_tracked_file_is_ignored() -> None:
    """A tracked ``.venv`` once broke ``python -m venv .venv`` in every fresh clone."""
    assert git("ls-files", "--cached", "--ignored", "--exclude-standard") == []
    ignored = (".venv", ".venv/bin/python", "venv", ".tox", "runs", "a/__pycache__/b.pyc", "dist")
    assert git("check-ignore", "--no-index", *ignored) == list(ignored)


MACHINE = re.compile(r"(?<![\w.])/(?:home|Users|root|work|mnt|opt|srv)/[\w.-]+")
"""An absolute path of somebody's machine."""


def test_no_tracked_file_holds_a_path_of_a_machine() -> None:
    found = []
    for name in git("ls-files"):
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # weights and pictures; a file that a change removes
        found += [f"{name}: {match.group()}" for match in MACHINE.finditer(text)]
    assert not found, "\n".join(found)
    assert MACHINE.search("cp /" + "home/somebody/x") and not MACHINE.search("https://example.org/home/x")
