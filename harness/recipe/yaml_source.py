"""Recipe files as plain trees: safe YAML with line numbers, ``extends``, ``--set``, and how two trees are merged."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from harness.contracts.options import Problem, RecipeError, dotted_path, show
from harness.errors import near

Tree = dict[str, Any]
Override = str | tuple[str, object]
"""``path=value`` in YAML (``--set``), or a pair (the Python API)."""
LISTABLE = ("methods", "benchmarks")
LARGEST = 10_000
"""Values in a file. Nested aliases can name more of them than any machine holds ("billion laughs")."""
MOST_CHARACTERS, LONGEST_TEXT, LONGEST_KEY, DEEPEST = 500_000, 20_000, 100, 30
"""Of a file, of a text in it, of a key, and how deep values may be nested: beyond any experiment, and read at once."""
CHOOSING = ("kind", "method")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_KEY = re.compile(r"\b(sk|hf|xai|gsk)[-_][A-Za-z0-9_-]{16,}")
_PATH_KEY = re.compile(r'"[^"]+"|[^".]+')
_PATH = re.compile(rf"({_PATH_KEY.pattern})(\.({_PATH_KEY.pattern}))*")
"""As in TOML, a key that has dots stands in quotes: ``methods."dpo-0.5".beta``."""
_MERGE = "tag:yaml.org,2002:merge"


@dataclass
class Source:
    tree: Tree = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Dotted path to ``file:line`` or ``--set``."""
    problems: list[Problem] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice (YAML takes the last one in silence), what is nested too deep (it
    would take the scanner's time by the square of the depth), and numbers of thousands of digits."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.node_count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.node_count += 1
        if self.node_count > LARGEST:
            raise yaml.YAMLError(f"it has more than {LARGEST:,} values")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        self.refuse_depth(self.flow_level)
        super().fetch_flow_collection_start(token_class)

    def add_indent(self, column: int) -> bool:
        self.refuse_depth(len(self.indents))
        return bool(super().add_indent(column))

    def refuse_depth(self, depth: int) -> None:
        if depth >= DEEPEST:
            problem = f"it is nested too deep, more than {DEEPEST} levels"
            raise yaml.scanner.ScannerError(None, None, problem, self.get_mark())

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:  # of the parent class: ``!!bool x``, ``!!int ""``
            problem = f"{show(node.value)} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > LONGEST_KEY:
            problem = f"a number of {len(node.value):,} digits"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return int(super().construct_yaml_int(node))

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys: set[Hashable] = set()
        # Here, because the parent class later merges ``<<`` into the same list, and such a key may stand twice.
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # the parent class says that it cannot be a key
            key = key_node.value if key_node.tag == _MERGE else self.construct_object(key_node)
            if key in keys:
                problem = f"the key {key!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            keys.add(key)
        return node


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0|[1-9][0-9_]*)$|0x[0-9a-fA-F]+$"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(([0-9][0-9_]*\.[0-9_]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(inf|Inf|INF))$"
        r"|\.(nan|NaN|NAN)$"
    ),
}
# YAML 1.1 takes 1:30 for 90 and 010 for 8: here they are text, and refused where a number is wanted; and so are days,
# which may be names. It takes 1e-6 and 1.5e3 for text: here they are numbers.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, _NUMBERS.get(tag, pattern)) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _load(text: str) -> tuple[Any, yaml.Node | None]:
    """The value of a YAML text, and its nodes, which know their lines. Raises YAMLError."""
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"it has {len(text):,} characters, more than {MOST_CHARACTERS:,}")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None and _count_values(node, {}) > LARGEST:
            raise yaml.YAMLError(f"its aliases expand it to more than {LARGEST:,} values")
        return (None if node is None else loader.construct_document(node)), node
    except RecursionError as error:  # ``_count_values`` walks in a circle where an alias stands inside its anchor
        raise yaml.YAMLError("it is nested too deep, or holds itself by an alias") from error
    finally:
        loader.dispose()


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Values under a node, those of aliases once for each place. ``counts``: id of a node to the same."""
    if id(node) not in counts:
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        nodes = [child for item in parts for child in (item if isinstance(item, tuple) else (item,))]
        counts[id(node)] = 1 + sum(_count_values(child, counts) for child in nodes)
    return counts[id(node)]


def as_mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def shipped_recipes() -> tuple[str, ...]:
    names = (entry.name for entry in resources.files("recipes").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def read_source(name_or_path: str, overrides: Sequence[Override] = ()) -> Source:
    """A recipe with all that it extends, then ``--set``. Raises RecipeError for a file that is none, or a circle."""
    source = _read_chain(name_or_path, (), None)
    override_all(source, overrides)
    source.problems += [*_secrets(source.tree, ()), *_oversizes(source.tree, ())]
    return source


def override_all(source: Source, overrides: Sequence[Override]) -> None:
    for override in overrides:
        source.problems += _override(source, override)


def read_overrides(overrides: Sequence[Override]) -> tuple[Tree, list[Problem]]:
    source = Source()
    override_all(source, overrides)
    return source.tree, source.problems


def over_like(rows: Mapping[str, Any]) -> Tree:
    """Rows, each merged over the row that it is ``like``, whose title and ``optional`` it does not take over.

    A row keeps its ``like``, for the reader to report, where no such row is there, where it is like itself in the end,
    and where it states another method.
    """
    whole: Tree = {}
    for name, own in rows.items():
        chain = [name]
        while (like := as_mapping(rows[chain[-1]]).get("like")) is not None:
            if not isinstance(like, str) or like not in rows or like in chain:
                break
            chain.append(like)
        # a row that states no method is named after it
        method = as_mapping(rows[chain[-1]]).get("method") or chain[-1]
        options: Tree = {}
        for each in reversed(chain):
            kept = {key: value for key, value in options.items() if key not in ("title", "optional")}
            options = merge(kept, {key: value for key, value in as_mapping(rows[each]).items() if key != "like"})
        fits = like is None and (options.get("method") or method) == method
        whole[name] = {**options, "method": method} if len(chain) > 1 and fits else own
    return whole


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """``changes`` on ``base``: mappings merge key by key, everything else (lists too) replaces, with two exceptions.

    A mapping whose ``kind`` or ``method`` changes replaces the whole mapping. A list of methods or benchmarks selects
    and orders them, and those that ``base`` has options for keep them.
    """
    tree = dict(base)
    for key, value in changes.items():
        base_value = tree.get(key)
        if isinstance(base_value, Mapping) and isinstance(value, Mapping):
            # Options of another kind of judge would be unknown keys, those of another method may mean something else.
            names = [name for name in CHOOSING if name in value and name in base_value]
            replaces = any(value[name] != base_value[name] for name in names)
            tree[key] = dict(value) if replaces else merge(base_value, value)
        elif key in LISTABLE and isinstance(base_value, Mapping) and isinstance(value, list):
            # What is no name, or stands twice, stays for ``expand_name_lists`` to report.
            clean = all(isinstance(name, str) and value.count(name) == 1 for name in value)
            tree[key] = {name: base_value.get(name) for name in value} if clean else value
        else:
            tree[key] = value
    return tree


def expand_name_lists(tree: Tree, problems: list[Problem]) -> Tree:
    expanded_tree = dict(tree)
    for section in LISTABLE:
        names = expanded_tree.get(section)
        if not isinstance(names, list):
            continue
        for position, name in enumerate(names):
            if not isinstance(name, str):
                remedy = f"With options, write a mapping: `{section}: {{NAME: {{OPTION: VALUE}}, NAME: {{}}}}`."
                problems.append(Problem(f"{section}[{position}]", "must be a name", show(name), remedy=remedy))
            elif name in names[:position]:
                problems.append(Problem(f"{section}[{position}]", "stands twice in the list", show(name)))
        expanded_tree[section] = {name: None for name in names if isinstance(name, str)}
    return expanded_tree


def _read_chain(name_or_path: str, ancestors: tuple[str, ...], folder: Path | None) -> Source:
    """``ancestors``: the files that extend this one; ``folder``: that of the last of them."""
    path, text = _find(name_or_path, folder)
    if path in ancestors:
        chain = " -> ".join((*ancestors, path))
        raise RecipeError([Problem("extends", f"goes round in a circle ({chain})", remedy="Remove one.")], name_or_path)
    child = deepcopy(_parse(path, text))
    parent = child.tree.pop("extends", None)
    # Before the parent's name is merged in: a recipe that states none is named like its file.
    child.tree.setdefault("name", Path(path).stem)
    base = Source()
    if isinstance(parent, str):
        # A title says what its own recipe is: of the parent's models and settings, some are others here.
        child.tree.setdefault("title", f"extends {parent}")
        base = _read_chain(parent, (*ancestors, path), Path(path).parent)
    elif parent is not None:
        child.problems.append(Problem("extends", "must be a recipe's name or a path", show(parent)))
    for section in LISTABLE:
        rows, base_rows = as_mapping(child.tree.get(section)), as_mapping(base.tree.get(section))
        child.problems += [_no_removal(section, name) for name in rows if rows[name] is None and base_rows.get(name)]
    child.problems += [_no_change(key) for key, value in child.tree.items() if value == {} and base.tree.get(key)]
    tree = expand_name_lists(merge(base.tree, child.tree), child.problems)
    return Source(tree, {**base.places, **child.places}, base.problems + child.problems)


def _find(name_or_path: str, folder: Path | None) -> tuple[str, str]:
    """(path, text); a relative path is first looked for beside the extending file."""
    names = shipped_recipes()
    path = Path(name_or_path).expanduser()
    if name_or_path in names:
        path = Path(str(resources.files("recipes"))) / f"{name_or_path}.yaml"
    elif folder is not None and os.path.isfile(folder / path):  # noqa: PTH113, a Path's own raises for a long name
        path = folder / path
    if not os.path.isfile(path):  # noqa: PTH113
        rule, remedy = "is neither a shipped recipe nor a file", "Give a shipped recipe's name or a YAML file's path."
        problem = Problem("", rule, show(name_or_path), names, near(name_or_path, names), remedy)
        raise RecipeError([problem], name_or_path)
    try:
        return str(path.resolve()), path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([Problem("", f"cannot be read as UTF-8 text ({error})", str(path))], name_or_path) from error


@lru_cache(maxsize=16)  # each target of a command reads the recipe anew, and reading YAML takes longest
def _parse(path: str, text: str) -> Source:
    short = Path(path).name
    try:
        tree, node = _load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{short}:{mark.line + 1}, column {mark.column + 1}" if mark else short
        rule = f"is not valid YAML: {getattr(error, 'problem', None) or error}"
        problem = Problem("", rule, place, remedy="Check indentation, colons and quotes there.")
        raise RecipeError([problem], short) from error
    if not isinstance(tree, dict | None):
        raise RecipeError([Problem("", "must be a mapping (key: value lines)", f"{short}: {show(tree)}")], short)
    return Source(tree or {}, dict(_places(node, (), short)))


def _places(node: yaml.Node | None, path: tuple[object, ...], file: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield dotted_path((*path, key.value)), f"{file}:{key.start_mark.line + 1}"
            yield from _places(value, (*path, key.value), file)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield dotted_path((*path, position)), f"{file}:{item.start_mark.line + 1}"


def _override(source: Source, override: Override) -> list[Problem]:
    path, equals, text = override.partition("=") if isinstance(override, str) else (override[0], "=", "")
    if not equals or not _PATH.fullmatch(path.strip()):
        rule = "must look like path=value, for instance train.learning_rate=1e-6"
        return [Problem("--set", rule, show(override), remedy='A name that has dots stands in quotes: rows."a.b".')]
    *parents, leaf = keys = [key.strip('"') for key in _PATH_KEY.findall(path.strip())]
    path = ".".join(keys)
    if len(keys) > DEEPEST or max(map(len, keys)) > LONGEST_KEY:
        rule = f"must have at most {DEEPEST} keys of at most {LONGEST_KEY} characters"
        return [Problem("--set", rule, show(path))]
    try:
        value = _load(text)[0] if isinstance(override, str) else override[1]
    except yaml.YAMLError as error:
        rule = f"its value is not valid YAML ({getattr(error, 'problem', None) or error})"
        return [Problem(path, rule, show(text), place="--set")]
    node: Mapping[str, Any] = source.tree
    for depth, key in enumerate(parents, 1):
        child = node.get(key)
        if not isinstance(child, Mapping | None):
            parent = ".".join(keys[:depth])
            rule = f"cannot be set, because {parent} is {show(child)}"
            return [Problem(path, rule, remedy=f"Set {parent} whole.", place="--set")]
        node = child or {}
    old_value = node.get(leaf)
    # ``methods.NAME={}`` says "this row, too": it may be there already.
    if value == {} and old_value and isinstance(old_value, Mapping) and parents != ["methods"]:
        return [_no_change(path, "--set")]
    if value is None and old_value and len(parents) == 1 and parents[0] in LISTABLE:
        return [_no_removal(parents[0], leaf, "--set")]
    tree: Any = value
    for key in reversed(keys):
        tree = {key: tree}
    source.tree = expand_name_lists(merge(source.tree, tree), source.problems)
    _mark(source.places, path, value)
    if leaf in CHOOSING and value != old_value and parents:
        source.places[".".join(parents)] = "--set"  # replaced whole: see ``merge``
    return []


def _no_change(path: str, place: str = "") -> Problem:
    rule = "an empty mapping is merged into what stands there, so it changes nothing"
    remedy = "Leave it out, or say what changes."
    if path.partition(".")[0] not in LISTABLE or "." not in path:
        remedy += f" To take away all that stands there: `{path}` with nothing (null)."
    if path in LISTABLE:
        remedy += f" To choose some: `{path}` with a list of names."
    return Problem(path, rule, "{}", remedy=remedy, place=place)


def _no_removal(section: str, name: str, place: str = "") -> Problem:
    rule = "null would keep it and forget its options"
    remedy = f"To leave it out: `{section}` with a list of the names that stay. Else say what changes."
    return Problem(f"{section}.{name}", rule, place=place, remedy=remedy)


def _mark(places: dict[str, str], path: str, value: object) -> None:
    places[path] = "--set"
    if isinstance(value, Mapping):
        for key, child in value.items():
            _mark(places, f"{path}.{key}", child)
    else:  # it replaced what was there, of which nothing has a line any more; but a list of names keeps their options
        prefixes = (f"{path}[",) if path in LISTABLE and isinstance(value, list) else (f"{path}.", f"{path}[")
        for place_path in [place_path for place_path in places if place_path.startswith(prefixes)]:
            del places[place_path]


def _oversizes(value: object, path: tuple[object, ...]) -> Iterator[Problem]:
    """Texts, keys and numbers that no recipe needs: folders, keys of artifacts and columns of tables come from them."""
    if isinstance(value, Mapping | list):
        for key, child in value.items() if isinstance(value, Mapping) else enumerate(value):
            if isinstance(key, str) and len(key) > LONGEST_KEY:
                rule = f"has a key of {len(key):,} characters, and {LONGEST_KEY} are the most"
                yield Problem(dotted_path(path), rule, show(key))
            elif isinstance(key, str) and _CONTROL.search(key):
                yield Problem(dotted_path(path), "has a key with control characters", show(key))
            else:
                yield from _oversizes(child, (*path, key))
    elif isinstance(value, str) and len(value) > LONGEST_TEXT:
        yield Problem(dotted_path(path), f"must have at most {LONGEST_TEXT:,} characters", show(value))
    elif isinstance(value, str) and _CONTROL.search(value):
        yield Problem(dotted_path(path), "must have no control characters", show(value))
    elif isinstance(value, int) and abs(value) >= 2**63:
        yield Problem(dotted_path(path), "is beyond 64 bits", show(value))


def _secrets(value: object, path: tuple[object, ...]) -> list[Problem]:
    """Values that look like API keys: a recipe is copied into every report, so keys must not be in it."""
    if isinstance(value, Mapping | list):
        entries = value.items() if isinstance(value, Mapping) else enumerate(value)
        return [problem for key, child in entries for problem in _secrets(child, (*path, key))]
    if isinstance(value, str) and _KEY.search(value):
        remedy = "Put it into an environment variable and name that variable."
        return [
            Problem(dotted_path(path), "looks like an API key; a recipe must not hold one", "(hidden)", remedy=remedy)
        ]
    return []
