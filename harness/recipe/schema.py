"""The JSON Schema of a recipe file (draft 2020-12), for editors and other programs: made from the config classes, with
the sentence under each field.

It describes a file by itself, before ``extends`` and ``--set``. So it cannot know what an extended recipe states: what
must be there, and names of rows, are checked in files that extend nothing. ``recipe check`` knows the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, cast

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from harness.contracts.backend import STATED
from harness.contracts.benchmark import KIND
from harness.contracts.executor import StageOptions
from harness.contracts.judge import AskOptions
from harness.contracts.options import explanations, json_data
from harness.contracts.registry import Registry
from harness.recipe import sections
from harness.recipe.reader import ROW_OPTIONS, SECTION
from harness.recipe.recipe import Heading
from harness.recipe.yaml_source import shipped_recipes
from harness.records import adapter
from harness.training.options import TrainOptions

Schema = dict[str, Any]
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
FILE: Final = "recipe.schema.json"
"""Beside the shipped recipes: the schema of what ships, without plug-ins."""
ALONE: Final[Schema] = {"not": {"required": ["extends"]}}
EXTENDS: Final = "The recipe that this one changes: a shipped recipe's name, or the path of a YAML file."
BASELINE: Final = "A row (`student`) whose answers replace the official baseline's: head-to-head, and not official."
TITLE: Final = "A recipe of distilbench: models, data, methods, benchmarks and judges of an experiment."


class _Generator(GenerateJsonSchema):
    """Pydantic's schema of a class, with the docstring under each field as its description."""

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        result = super().dataclass_schema(schema)
        texts, fields = explanations(schema["cls"]), schema["cls"].__pydantic_fields__
        for name, option in result.get("properties", {}).items():
            if name in texts:
                option["description"] = texts[name].replace("``", "`")
            if not fields[name].is_required():  # pydantic leaves out what is made anew each time
                option["default"] = json_data(fields[name].get_default(call_default_factory=True))
        result.pop("description", None)
        return result


@cache
def _class_schema(kind: type) -> str:
    hashable: Any = kind
    schema: Schema = adapter(hashable).json_schema(schema_generator=_Generator)
    return json.dumps(_plain(schema, schema.get("$defs", {})))


def _plain(value: Any, definitions: Mapping[str, Any]) -> Any:
    """Without references, made-up titles and ``required``: a file may leave to another recipe what it does not say."""
    if isinstance(value, list):
        return [_plain(item, definitions) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "$ref" in value:
        target = definitions[value["$ref"].rpartition("/")[2]]
        value = {**target, **{key: item for key, item in value.items() if key != "$ref"}}
    result = {}
    for key, item in value.items():
        if key == "properties":
            result[key] = {name: _plain(schema, definitions) for name, schema in item.items()}
        elif key in ("default", "enum", "const"):
            result[key] = item
        elif key not in ("$defs", "title", "required"):
            result[key] = _plain(item, definitions)
    return result


def properties(kind: type) -> dict[str, Schema]:
    """Option to its schema: type, limits, choices, ``default``, and the sentence as ``description``."""
    return cast("dict[str, Schema]", json.loads(_class_schema(kind)).get("properties", {}))


def required(kind: type) -> list[str]:
    fields = cast("Any", kind).__pydantic_fields__
    return [name for name, field in fields.items() if field.is_required()]


def mapping(options: Mapping[str, Schema], **more: Any) -> Schema:
    """Options, or nothing (null): all defaults."""
    return {"type": ["object", "null"], "properties": dict(options), "additionalProperties": False, **more}


def reference(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def union(schemas: Iterable[Mapping[str, Schema]]) -> dict[str, Schema]:
    """Every option of several classes; where they differ in one of a name, either will do."""
    found: dict[str, list[Schema]] = {}
    for options in schemas:
        for name, schema in options.items():
            if schema not in found.setdefault(name, []):
                found[name].append(schema)
    return {name: few[0] if len(few) == 1 else {"anyOf": few} for name, few in found.items()}


def by_name(key: str, choices: Mapping[str, Mapping[str, Schema]], common: Mapping[str, Schema]) -> Schema:
    """``common`` options and those of the choice that ``key`` names; without it, those of any choice."""
    shown = {key: {"description": f"Which one: {', '.join(choices)}.", **common.get(key, {}), "enum": [*choices]}}
    others = {name: schema for name, schema in common.items() if name != key}
    branches = [
        {
            "if": {"type": "object", "required": [key], "properties": {key: {"const": name}}},
            "then": mapping({**shown, **others, **options}),
        }
        for name, options in choices.items()
    ]
    free = {"if": {"type": "object", "not": {"required": [key]}}, "then": mapping(union([others, *choices.values()]))}
    return {"type": ["object", "null"], "properties": shown, "allOf": [*branches, free]}


def recipe_schema(registry: Registry) -> Schema:
    """Raises UserError where an entry's options cannot be read."""
    definitions = _sections(registry)
    references = {name: reference(name) for name in definitions}
    definitions |= {"backend": by_name("backend", backend_properties(registry), {})}
    definitions |= {"judge": by_name("kind", judge_properties(registry), {})}
    definitions |= {f"row.{name}": mapping(row_properties(registry, name)) for name in registry.methods}
    definitions["row"] = _any_row(registry)
    heading = properties(Heading)
    targets = {
        "type": ["object", "null"],
        "description": "What differs for a table or figure: sections of the recipe, `rows` and `skip`.",
        "properties": {name: reference(f"target.{name}") for name in registry.targets},
        "additionalProperties": False,
    }
    changing = {name: schema for name, schema in heading.items() if name != "name"}
    for name, target in registry.targets.items():
        options = properties(sections.TargetOptions)
        rows = [row for row in target.rows if row not in sections.MODELS]
        options["rows"]["anyOf"][0]["items"] = {"enum": rows} if rows else {"type": "string"}
        definitions[f"target.{name}"] = {
            **mapping({**options, **changing, **references}),
            "type": "object",
            "description": target.title,
        }
    shipped = [*shipped_recipes()]
    extends = {"description": EXTENDS, "anyOf": [{"enum": shipped}, {"type": "string"}]}
    return {
        "$schema": DRAFT,
        "title": TITLE,
        "type": "object",
        "properties": {"extends": extends, **heading, **references, SECTION: targets},
        "additionalProperties": False,
        "if": ALONE,
        "then": _alone(registry),
        "$defs": definitions,
    }


def schema_text(schema: Schema) -> str:
    """As a file holds it."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _sections(registry: Registry) -> dict[str, Schema]:
    train, sampling = (mapping(properties(kind)) for kind in (TrainOptions, sections.SamplingOptions))
    return {
        "family": _family(registry),
        "prompts": _prompts(registry),
        "sampling": sampling,
        "reward": mapping(properties(sections.RewardOptions)),
        "train": train,
        "tuned_teacher": by_name("method", _tuned(registry), tuned_properties()),
        "methods": _methods(registry),
        "benchmarks": _benchmarks(registry),
        "judges": {
            "type": ["object", "null"],
            "description": "Judges by a name of your own.",
            "additionalProperties": reference("judge"),
        },
        "statistics": mapping(properties(sections.Statistics)),
        "compute": _compute(registry),
        "ask": mapping(properties(AskOptions)),
    }


def backend_properties(registry: Registry) -> dict[str, dict[str, Schema]]:
    """Of the backends that a family may name."""
    return {
        name: {option: schema for option, schema in properties(entry.config).items() if option not in STATED}
        for name, entry in registry.backends.items()
        if not entry.by_name
    }


def _family(registry: Registry) -> Schema:
    options, backends = properties(sections.Family), backend_properties(registry)
    kinds = [kind for kind, runs_model in registry.stages.items() if runs_model]
    options["backend"] |= {"enum": [*backends]}
    options["backend_options"] |= mapping(union(backends.values()))
    options["backends"] |= mapping(dict.fromkeys([*sections.MODELS, *kinds], reference("backend")))
    branches = [
        {
            "if": {"type": "object", "required": ["backend"], "properties": {"backend": {"const": name}}},
            "then": {"properties": {"backend_options": mapping(values)}},
        }
        for name, values in backends.items()
    ]
    return mapping(options, allOf=branches)


def prompt_properties(registry: Registry) -> tuple[dict[str, Schema], dict[str, dict[str, Schema]]]:
    """Those of every source, and of each one's own."""
    common = properties(sections.Prompts)
    common.pop("config")
    common["source"] |= {"enum": [*registry.sources]}
    return common, {name: properties(source.config) for name, source in registry.sources.items()}


def _prompts(registry: Registry) -> Schema:
    common, sources = prompt_properties(registry)
    # Null undoes an option of another source that the recipe inherits.
    foreign = {option: {"type": "null"} for options in sources.values() for option in options}
    return by_name("source", {name: {**foreign, **options} for name, options in sources.items()}, common)


def row_properties(registry: Registry, method: str) -> dict[str, Schema]:
    options = properties(sections.RowOptions)
    options["method"] = {**options["method"], "anyOf": [{"enum": [*registry.methods]}, {"type": "null"}]}
    return {**options, **_overrides("row"), **properties(registry.methods[method].config)}


def _overrides(noun: str) -> dict[str, Schema]:
    texts = {name: f"What differs from the section `{name}` for this {noun}." for name in ("train", "sampling")}
    return {name: {**reference(name), "description": text} for name, text in texts.items()}


def _any_row(registry: Registry) -> Schema:
    names = [*registry.methods]
    every = union(row_properties(registry, name) for name in names)
    branches = [
        {
            "if": {"type": "object", "required": ["method"], "properties": {"method": {"const": name}}},
            "then": reference(f"row.{name}"),
        }
        for name in names
    ]
    return mapping(every, allOf=branches)


def _methods(registry: Registry) -> Schema:
    named = {
        name: {
            "description": method.title,
            "if": {"type": "object", "required": ["method"]},
            "then": reference("row"),
            "else": reference(f"row.{name}"),
        }
        for name, method in registry.methods.items()
    }
    return {
        "type": ["object", "array", "null"],
        "description": "The rows, in order: a method's name, or a name of your own with `method`; or a list of names.",
        "properties": named,
        "additionalProperties": reference("row"),
        "items": {"type": "string"},
        "uniqueItems": True,
    }


def tuned_properties() -> dict[str, Schema]:
    return {**properties(sections.TunedPairs), **_overrides("training")}


def _tuned(registry: Registry) -> dict[str, dict[str, Schema]]:
    return {
        name: {key: schema for key, schema in properties(method.config).items() if key not in ROW_OPTIONS}
        for name, method in registry.methods.items()
        if method.needs.signal == "response" and method.needs.responses == ("samples",)
    }


def benchmark_properties(registry: Registry, name: str) -> dict[str, Schema]:
    entry = registry.benchmarks[name]
    text = "Which of the recipe's judges; default: the only one."
    judge = {sections.JUDGE: {"type": ["string", "null"], "default": None, "description": text}}
    row = {sections.BASELINE: {"type": ["string", "null"], "default": None, "description": BASELINE}}
    return {
        **(judge if entry.needs_judge else {}),
        **(row if entry.pairwise else {}),
        **properties(entry.config),
    }


def _benchmarks(registry: Registry) -> Schema:
    names = [*registry.benchmarks]
    options = {name: benchmark_properties(registry, name) for name in names}
    return {
        "type": ["object", "array", "null"],
        "description": "The columns: benchmarks with their options, or names of your own with `kind`; or a list.",
        "properties": {name: mapping({KIND: {"const": name}, **values}) for name, values in options.items()},
        "additionalProperties": by_name(KIND, options, {}),
        "propertyNames": {"pattern": f"^{sections.COLUMN_NAME.pattern}$"},
        "items": {"type": "string"},
        "uniqueItems": True,
    }


def judge_properties(registry: Registry) -> dict[str, dict[str, Schema]]:
    return {name: properties(kind.config) for name, kind in registry.judges.items()}


def _compute(registry: Registry) -> Schema:
    options, executors = properties(sections.Compute), registry.executors
    options["executor"] |= {"enum": [*executors]}

    def stages(values: Mapping[str, Schema]) -> Schema:
        """Of one executor: kinds of stages beside each other, each with the options that it may have."""
        stage = mapping({**properties(StageOptions), "options": mapping(values)})
        return {
            "type": ["object", "null"],
            "propertyNames": {"enum": [*registry.stages]},
            "additionalProperties": stage,
        }

    every = [properties(kind.config) for kind in executors.values()]
    options["executor_options"] |= mapping(union(every))
    options["stages"] |= stages(union(properties(kind.stage_config) for kind in executors.values()))
    branches = [
        {
            "if": {"type": "object", "required": ["executor"], "properties": {"executor": {"const": name}}},
            "then": {
                "properties": {
                    "executor_options": mapping(properties(kind.config)),
                    "stages": stages(properties(kind.stage_config)),
                }
            },
        }
        for name, kind in executors.items()
    ]
    return mapping(options, allOf=branches)


def _alone(registry: Registry) -> Schema:
    """What a recipe that extends nothing must say."""

    def needs(key: str, kinds: Mapping[str, type]) -> list[Schema]:
        return [
            {"if": {"properties": {key: {"const": name}}, "required": [key]}, "then": {"required": required(kind)}}
            for name, kind in kinds.items()
            if required(kind)
        ]

    says_method = {"type": "object", "anyOf": [{"required": ["method"]}, {"required": ["like"]}]}
    says_kind = {"type": "object", "required": [KIND]}
    judge = {"type": "object", "required": ["kind"]}
    judges = {name: kind.config for name, kind in registry.judges.items()}
    sources = {name: source.config for name, source in registry.sources.items()}
    return {
        "required": ["family", "benchmarks"],
        "properties": {
            "family": {"type": "object", "required": required(sections.Family)},
            "benchmarks": {
                "type": ["object", "array"],
                "properties": dict.fromkeys(registry.benchmarks, True),
                "additionalProperties": says_kind,
                "items": {"enum": [*registry.benchmarks]},
            },
            "prompts": {"allOf": needs("source", sources)},
            "judges": {"additionalProperties": {**judge, "allOf": needs("kind", judges)}},
            "methods": {
                "properties": dict.fromkeys(registry.methods, True),
                "additionalProperties": says_method,
                "items": {"enum": [*registry.methods]},
            },
        },
    }
