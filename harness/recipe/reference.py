"""Every option of a recipe in words, from its config class: the page ``docs/recipe.md``; ``recipe show --explain``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, get_args, get_type_hints

from harness.contracts.executor import StageOptions
from harness.contracts.judge import AskOptions
from harness.contracts.options import MOST, is_options
from harness.contracts.registry import Registry
from harness.recipe import sections
from harness.recipe.recipe import Heading, Recipe
from harness.recipe.schema import (
    EXTENDS,
    Schema,
    backend_properties,
    benchmark_properties,
    prompt_properties,
    properties,
)
from harness.recipe.yaml_source import Source, as_mapping
from harness.training.options import TrainOptions

NOUNS: Final = {
    "integer": "whole number", "number": "number", "string": "text", "boolean": "true or false",
    "array": "list", "object": "mapping", "null": "null",
}  # fmt: skip
PREFACE: Final = """\
# The recipe

Every option of a recipe: its type, its default, and what it does. This page is made from the
program, by `distilbench recipe reference`; a test keeps the two equal.

```sh
distilbench init mine.yaml                        # a recipe from six questions, or from options
distilbench recipe show gemma2 --explain          # each value of one recipe, and where it was set
distilbench recipe check mine.yaml                # all mistakes at once, each with its line
distilbench recipe reference --plugin my_method.py   # this page, with the options of a plug-in
distilbench recipe schema --out recipe.schema.json   # a JSON Schema, for editors
```

A recipe is a YAML file. It states a whole experiment, or what differs from another recipe that it
`extends`: mappings are merged key by key, and everything else (lists too) is replaced, with two
exceptions. A judge whose `kind` changes, and a row whose `method` changes, are replaced whole. A
list of `methods` or `benchmarks` chooses among those that are there, and they keep their options. A
section that is left out, or has nothing (null), has its defaults. Paths are relative to the folder
in which the command runs.

**Editors.** Shipped recipes begin with this line, which names the schema beside them:

```yaml
# yaml-language-server: $schema=recipe.schema.json
extends: pocket
```

Editors with a YAML language server (VS Code with the YAML extension, Neovim, Helix, Emacs) then
complete names, show the sentences of this page, and mark mistakes while you type. The path is
relative to the recipe, so it holds in a clone and in an installed package. For your own recipes,
write the schema beside them with the last command above, and copy the line; `distilbench init` does
both. With `--plugin`, the schema knows your methods, benchmarks and judges. It sees one file,
without the recipe that it extends; `recipe check` sees all.
"""
METHODS: Final = """\
The rows of the tables. A row is a method's name, or a name of your own with `method`. Every row has
these options, `train` and `sampling` (what differs from those sections), and those of its method.
[Methods](methods.md) says what each computes."""
TUNED_TEACHER: Final = """\
How the teacher is tuned first, for the methods that need a tuned one (DCKD, ADPA). It takes
`method`, `train`, `sampling`, and the options of its method."""
BENCHMARKS: Final = """\
The columns of the tables. A column is a benchmark's name, or a name of your own with `kind`. See
also [Benchmarks](benchmarks.md)."""
JUDGES: Final = """\
Judges by a name of your own, as in `judges: {main: {kind: openai, model: NAME}}`. See also
[Judging](judging.md)."""
TARGETS: Final = """\
What differs for one table or figure, as in `targets: {table2: {seeds: [0]}}`. Any section may stand
there, and these. [Tables and figures](targets.md) lists the targets."""
SAMPLING: Final = "How models answer training prompts. A row overrides any of them: `methods.NAME.sampling`."
TRAIN: Final = "How students are trained. A row overrides any of them: `methods.NAME.train`."


@dataclass(frozen=True)
class Option:
    name: str
    type: str
    default: str | None
    """As YAML writes it; ``None``: it must be there."""
    sentence: str


def options_of(schemas: Mapping[str, Schema], head: str = "") -> Iterator[Option]:
    """Options and, under the dotted name, those of a class that is nested in one."""
    for name, schema in schemas.items():
        default = yaml_text(schema["default"]) if "default" in schema else None
        yield Option(head + name, type_text(schema), default, schema.get("description", ""))
        for branch in (schema, *schema.get("anyOf", ())):
            yield from options_of(branch.get("properties", {}), f"{head}{name}.")


def class_options(kind: type) -> list[Option]:
    return list(options_of(properties(kind)))


def yaml_text(value: object) -> str:
    """A value in one line, as YAML takes it; small numbers with an exponent."""
    if isinstance(value, float):
        return f"{value:g}" if value < 1e16 else repr(value)
    if isinstance(value, str) and value and value.isprintable() and not set(value) & set(":#{}[]&*,'\"|>%@`"):
        return value
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(yaml_text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {yaml_text(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)


def type_text(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words: ``whole number from 1 to 10,000, or null``."""
    if "enum" in schema:
        return "one of " + ", ".join(f"`{yaml_text(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{yaml_text(schema['const'])}`"
    if "anyOf" in schema:
        texts = [type_text(branch) for branch in schema["anyOf"]]
        return " or ".join(sorted(dict.fromkeys(texts), key=lambda text: text == "null"))
    kinds = schema.get("type", [])
    if isinstance(kinds, list):
        return " or ".join(type_text({**schema, "type": kind}) for kind in kinds) or "anything"
    if kinds in ("integer", "number"):
        return f"{NOUNS[kinds]}{limits(schema)}"
    items = schema.get("items" if kinds == "array" else "additionalProperties")
    if isinstance(items, Mapping) and items:
        of = plural(type_text(items))
        return f"{NOUNS[kinds]} of {of}" if kinds == "array" else f"mapping from names to {of}"
    return NOUNS[kinds]


def plural(text: str) -> str:
    for noun in ("whole number", "number", "list", "mapping"):
        if text.startswith(noun):
            return f"{noun}s{text.removeprefix(noun)}"
    return text.replace("one of", "any of")


def limits(schema: Mapping[str, Any]) -> str:
    """Bounds that keep nonsense out (a billion, 64 bits) say nothing."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    high = None if high is None or high >= MOST else high
    below = None if below is None or below >= MOST else below
    low = None if low is None or low <= -MOST else low
    if low is not None and high is not None:
        return f" from {number(low)} to {number(high)}"
    parts = [
        f"above {number(above)}" if above is not None else "",
        f"at least {number(low)}" if low is not None else "",
        f"at most {number(high)}" if high is not None else "",
        f"below {number(below)}" if below is not None else "",
    ]
    return "".join(f"{', ' if place else ' '}{part}" for place, part in enumerate(filter(None, parts)))


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or value == int(value) >= 1000 else f"{value:g}"


# The page


def markdown(registry: Registry) -> str:
    """``docs/recipe.md``."""
    parts = [PREFACE]
    for title, sentence, options in chapters(registry):
        level = "###" if title.startswith("`") else "##"
        parts.append(f"{level} {title}\n")
        parts += [f"{sentence}\n"] if sentence else []
        parts += [table(options)] if options else []
    return "\n".join(parts)


def table(options: list[Option]) -> str:
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for option in options:
        default = "required" if option.default is None else f"`{option.default}`"
        cells = (f"`{option.name}`", option.type, default, option.sentence)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


Chapter = tuple[str, str, list[Option]]
"""Title, text, options; a title in code is of one entry of the chapter before it."""


def chapters(registry: Registry) -> Iterator[Chapter]:
    name, *heading = class_options(Heading)
    extends = Option("extends", "text", "null", EXTENDS)
    yield "Top of the file", "", [extends, replace(name, default="the file's name"), *heading]
    yield "family", "The teacher and the student.", class_options(sections.Family)
    for choice, options in backend_properties(registry).items():
        yield f"`family.backend: {choice}`", sentence_of(registry.backends[choice].summary), [*options_of(options)]
    common, sources = prompt_properties(registry)
    yield "prompts", "The training prompts. The options of a source stand beside these.", [*options_of(common)]
    for choice, options in sources.items():
        yield f"`prompts.source: {choice}`", sentence_of(registry.sources[choice].summary), [*options_of(options)]
    yield "sampling", SAMPLING, class_options(sections.SamplingOptions)
    yield "reward", "How the teacher rewards responses.", class_options(sections.RewardOptions)
    yield "train", TRAIN, class_options(TrainOptions)
    yield "methods", METHODS, class_options(sections.RowOptions)
    for choice, method in registry.methods.items():
        yield f"`method: {choice}`", sentence_of(method.title), class_options(method.config)
    yield "tuned_teacher", TUNED_TEACHER, class_options(sections.TunedPairs)
    yield "benchmarks", BENCHMARKS, []
    for choice in registry.benchmarks:
        yield f"`benchmarks.{choice}`", "", [*options_of(benchmark_properties(registry, choice))]
    yield "judges", JUDGES, []
    for choice, kind in registry.judges.items():
        yield f"`kind: {choice}`", sentence_of(kind.summary), class_options(kind.config)
    yield "statistics", "", class_options(sections.Statistics)
    yield "compute", "What to compute on. Changes no result.", class_options(sections.Compute)
    yield "`compute.stages.KIND`", f"Kinds: {wrapped_names(registry.stages)}.", class_options(StageOptions)
    for choice, executor in registry.executors.items():
        yield f"`compute.executor: {choice}`", sentence_of(executor.summary), class_options(executor.config)
        if per_stage := class_options(executor.stage_config):
            yield f"`compute.stages.KIND.options` of {choice}", "", per_stage
    yield "ask", "How judges are asked. Changes no result, except `accept_failures`.", class_options(AskOptions)
    yield "targets", TARGETS, class_options(sections.TargetOptions)


def sentence_of(text: str) -> str:
    """A summary as a sentence of lines up to 100 characters."""
    first = text[:1] if text[1:2].isupper() else text[:1].upper()  # vLLM
    sentence = first + text[1:] + ("" if text.endswith(".") else ".")
    return textwrap.fill(sentence, 100, break_long_words=False, break_on_hyphens=False)


def wrapped_names(names: Mapping[str, object]) -> str:
    return textwrap.fill(", ".join(f"`{name}`" for name in names), 92, break_on_hyphens=False)


# One recipe, explained


@dataclass(frozen=True)
class Explained:
    path: str
    value: str
    option: Option
    place: str
    """File and line, or ``--set``; empty: the default."""


def explain(recipe: Recipe, source: Source, registry: Registry) -> Iterator[Explained]:
    """Every value of a recipe that was read from ``source``; of a row, and of what overrides a section, those that
    differ."""
    for path, kind, values in config_parts(recipe, recipe.to_tree(), registry):
        for option in class_options(kind):
            if option.name in values:  # others are of a nested class, or of another part
                keys = (*path, option.name)
                yield Explained(".".join(keys), yaml_text(values[option.name]), option, place_of(keys, source))


Part = tuple[tuple[str, ...], type, Mapping[str, Any]]
"""Where in the recipe, the class of the options there, and their values."""


def config_parts(recipe: Recipe, tree: Mapping[str, Any], registry: Registry) -> Iterator[Part]:
    """In the order of a recipe."""
    yield (), Heading, tree
    yield ("family",), sections.Family, tree["family"]
    backend = registry.backends[recipe.family.backend]
    yield ("family", "backend_options"), backend.config, tree["family"]["backend_options"]
    yield ("prompts",), sections.Prompts, tree["prompts"]
    yield ("prompts",), registry.sources[recipe.prompts.source].config, tree["prompts"]
    for name in ("sampling", "reward", "train"):
        yield from nested((name,), type(getattr(recipe, name)), tree[name])
    for name, entry in recipe.methods.items():
        yield ("methods", name), sections.RowOptions, tree["methods"][name]
        yield from row_parts(("methods", name), entry, tree["methods"][name])
    if recipe.tuned_teacher is not None:
        values = dict(tree["tuned_teacher"])
        yield ("tuned_teacher",), sections.TunedPairs, values
        values["train"] = {key: value for key, value in values["train"].items() if value != tree["train"][key]}
        yield from row_parts(("tuned_teacher",), recipe.tuned_teacher.training, values)
    for name, benchmark in recipe.benchmarks.items():
        yield from nested(("benchmarks", name), type(benchmark.config), tree["benchmarks"][name])
    for name, judge in recipe.judges.items():
        yield from nested(("judges", name), type(judge.config), tree["judges"][name])
    yield ("statistics",), sections.Statistics, tree["statistics"]
    yield ("compute",), sections.Compute, tree["compute"]
    executor = registry.executors[recipe.compute.executor]
    yield ("compute", "executor_options"), executor.config, tree["compute"]["executor_options"]
    for name, stage in tree["compute"]["stages"].items():
        yield ("compute", "stages", name), StageOptions, stage
        yield ("compute", "stages", name, "options"), executor.stage_config, stage["options"]
    yield ("ask",), AskOptions, tree["ask"]


def row_parts(path: tuple[str, ...], entry: sections.MethodEntry, values: Mapping[str, Any]) -> Iterator[Part]:
    yield from nested(path, type(entry.config), values)
    for name, kind in (("train", TrainOptions), ("sampling", sections.SamplingOptions)):
        yield from nested((*path, name), kind, as_mapping(values.get(name)))


def nested(path: tuple[str, ...], kind: type, values: Mapping[str, Any]) -> Iterator[Part]:
    """The options of a class, then those of a class in one of them (``train.lora``)."""
    yield path, kind, values
    for name, hint in get_type_hints(kind).items():
        for inner in (hint, *get_args(hint)):
            if is_options(inner) and isinstance(values.get(name), Mapping):
                yield (*path, name), inner, values[name]


def place_of(keys: tuple[str, ...], source: Source) -> str:
    """Where the value was set; empty where the default holds, whatever an extended recipe said before."""
    node: object = source.tree
    for key in keys:
        if not isinstance(node, Mapping) or key not in node:
            return ""
        node = node[key]
    places = (source.places.get(".".join(keys[:length])) for length in range(len(keys), 0, -1))
    return next((place for place in places if place), "")
