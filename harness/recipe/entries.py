"""Benchmarks and judges of a recipe: names looked up in the registry, options read into their own configs.

The rows are read in ``harness/recipe/rows.py``, with the same helpers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from harness.contracts.benchmark import Benchmark
from harness.contracts.option_errors import Problem, dotted, near, show, unknown_name
from harness.contracts.options import plain, read_options
from harness.contracts.registry import Registry
from harness.contracts.source import PromptSource
from harness.recipe.sections import Compute, Prompts

T = TypeVar("T")


@dataclass(frozen=True)
class BenchmarkEntry:
    """A benchmark and who judges it."""

    judge: str | None
    """A name in ``judges``; ``None`` for a benchmark that is graded by rule."""
    config: Any
    """Of the type ``Benchmark.config``."""


@dataclass(frozen=True)
class JudgeEntry:
    """A judge."""

    kind: str
    """A name in the registry's ``judges``."""
    config: Any
    """Of the type ``JudgeKind.config``."""


def read_benchmarks(tree: Any, registry: Registry, judges: Any) -> tuple[dict[str, BenchmarkEntry], list[Problem]]:
    """What is measured. ``judges`` is the recipe's section of that name, for the names that ``judge:`` may give."""
    entries: dict[str, BenchmarkEntry] = {}
    names = [str(name) for name in judges] if isinstance(judges, Mapping) else []
    options_of, problems = sections(tree, "benchmarks")
    for name, options in options_of.items():
        path = ("benchmarks", name)
        benchmark = registry.benchmarks.get(name)
        if benchmark is None:
            remedy = PLUGIN.format("benchmark")
            problems.append(unknown_name(f"benchmarks.{name}", "benchmark", name, registry.benchmarks, remedy))
            continue
        judge, wrong = _judge_of(benchmark, options.pop("judge", None), names)
        config, more = read_options(benchmark.config, options, path)
        problems += [*([wrong] if wrong else []), *more]
        if not wrong and not more:
            entries[name] = BenchmarkEntry(judge=judge, config=config)
    return entries, problems


def read_judges(tree: Any, registry: Registry) -> tuple[dict[str, JudgeEntry], list[Problem]]:
    """The judges, by the recipe's own names for them."""
    entries: dict[str, JudgeEntry] = {}
    options_of, problems = sections(tree, "judges")
    for name, options in options_of.items():
        path = f"judges.{name}.kind"
        if "kind" not in options:
            kinds = tuple(sorted(registry.judges))
            problems.append(Problem(path, "is required and missing", choices=kinds))
            continue
        kind = options.pop("kind")
        known = registry.judges.get(kind) if isinstance(kind, str) else None
        if known is None:
            problems.append(unknown_name(path, "kind of judge", kind, registry.judges, PLUGIN.format("judge")))
            continue
        config, wrong = read_options(known.config, options, ("judges", name))
        problems += wrong
        if not wrong:
            entries[name] = JudgeEntry(kind=kind, config=config)
    return entries, problems


PROMPT_KEYS = tuple(field.name for field in dataclasses.fields(Prompts) if field.name != "config")


def read_prompts(tree: Any, registry: Registry) -> tuple[Prompts | None, list[Problem]]:
    """The training prompts: the section's own fields, and beside them the options of the source that it names."""
    if not isinstance(tree, Mapping | None):
        return read_section(Prompts, tree, ("prompts",))
    own = {key: value for key, value in (tree or {}).items() if key in PROMPT_KEYS}
    section, problems = read_section(Prompts, own, ("prompts",))
    name = own.get("source", Prompts().source)
    source = registry.sources.get(name) if isinstance(name, str) else None
    if source is None:
        remedy = PLUGIN.format("source")
        return None, [*problems, unknown_name("prompts.source", "source of prompts", name, registry.sources, remedy)]
    problems += _fallback(own.get("fallback"), registry.sources)
    others = {option for each in registry.sources.values() for option in each.config.__dataclass_fields__}
    options = {
        key: value
        for key, value in (tree or {}).items()
        # An option of another source at null undoes one that the recipe inherits.
        if key not in PROMPT_KEYS and not (value is None and key in others - source.config.__dataclass_fields__.keys())
    }
    config, wrong = read_options(source.config, options, ("prompts",), PROMPT_KEYS)
    if section is None or config is None or problems:
        return None, problems + wrong
    return replace(section, config=config), []


def read_compute(tree: Any, registry: Registry) -> tuple[Compute, list[Problem]]:
    """The section ``compute``, the options of its executor filled in; all defaults where something is wrong."""
    compute, problems = read_section(Compute, tree, ("compute",))
    if compute is None:
        return Compute(), problems
    kind = registry.executors.get(compute.executor)
    if kind is None:
        remedy = PLUGIN.format("executor")
        wrong = unknown_name("compute.executor", "executor", compute.executor, registry.executors, remedy)
        return Compute(), [wrong]
    config, problems = read_options(kind.config, compute.executor_options, ("compute", "executor_options"))
    return (compute if config is None else replace(compute, executor_options=plain(config))), problems


def _fallback(name: object, sources: Mapping[str, PromptSource[Any]]) -> list[Problem]:
    """A fallback must be there when the network is not, with its default options."""
    able = {other: source for other, source in sources.items() if source.hub is None and not _required(source.config)}
    if name is None or (isinstance(name, str) and name in able):
        return []
    return [unknown_name("prompts.fallback", "source that needs no network and no options", name, able)]


def _required(kind: type[Any]) -> list[str]:
    """Options without a default."""
    nothing = dataclasses.MISSING
    return [each.name for each in dataclasses.fields(kind) if each.default is nothing is each.default_factory]


def read_section(kind: type[T], values: Any, path: Sequence[object]) -> tuple[T | None, list[Problem]]:
    """One section of a recipe; nothing (``null``) means all defaults."""
    if values is not None and not isinstance(values, Mapping):
        return None, [Problem(dotted(path), "must be a mapping (key: value lines)", show(values))]
    return read_options(kind, values or {}, path)


PLUGIN = "To use a {} of your own, add --plugin my_file.py."
"""The remedy for an unknown name of a method, a benchmark or a judge."""


def sections(tree: Any, section: str) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Name to a copy of its options; an entry without any (``dpo:``) has all defaults."""
    if tree is None:
        return {}, []
    if not isinstance(tree, Mapping):
        return {}, [Problem(section, "must be a mapping from names to options, or a list of names", show(tree))]
    problems: list[Problem] = []
    found: dict[str, dict[str, Any]] = {}
    for name, options in tree.items():
        if options is not None and not isinstance(options, Mapping):
            rule = "must be a mapping of options (or nothing, for all defaults)"
            problems.append(Problem(f"{section}.{name}", rule, show(options)))
        elif not all(isinstance(key, str) for key in (name, *(options or {}))):
            problems.append(Problem(f"{section}.{name}", "must have texts as keys", show(options)))
        else:
            found[name] = dict(options or {})
    return found, problems


def _judge_of(benchmark: Benchmark, judge: object, names: Sequence[str]) -> tuple[str | None, Problem | None]:
    """Who judges a benchmark: as stated, or the only judge there is."""
    path = f"benchmarks.{benchmark.name}.judge"
    if not benchmark.judged:
        if judge is None:
            return None, None
        return None, Problem(
            path, f"{benchmark.name} is graded by rule and takes no judge", show(judge), remedy="Remove it."
        )
    if judge is None and len(names) == 1:
        return names[0], None
    if not isinstance(judge, str) or judge not in names:
        remedy = "" if names else "Add a section `judges:` with one."
        value = None if judge is None else show(judge)
        meant = near(str(judge), names)
        return None, Problem(path, "must name one of the recipe's judges", value, tuple(names), meant, remedy)
    return judge, None
