"""Models, judges and a recipe from a few words: ``NAME@http://HOST/v1``, ``pocket:student``, ``answers:FOLDER``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar

from harness.contracts import options as option_classes
from harness.contracts.option_errors import RecipeError
from harness.contracts.registry import Registry
from harness.errors import UserError, unknown
from harness.models.server_model import ServerOptions
from harness.plan.evaluation import PLACEHOLDER, Candidate
from harness.recipe.recipe import Recipe, check_tree
from harness.recipe.yaml_source import Override, merge, named, read_overrides

T = TypeVar("T")
ANSWERS = "answers:"
"""Opens the folder of answers that were made elsewhere."""
IMPORT_NOTE = "import.json"
"""What ``import_answers`` says of itself, beside ``answers.jsonl`` and ``judgments.jsonl``."""
JUDGE = "main"
"""The judge's name in the recipe that is made."""
_SERVED = re.compile(r"(?P<model>[^@\s]+)@(?:(?P<url>https?://\S+)|openai)")
_ROW = re.compile(r"(?P<row>[A-Za-z0-9][\w.+-]*)=(?P<text>.+)", re.DOTALL)


class EvaluationOptions(TypedDict, total=False):
    benchmarks: Sequence[str]
    """Default: the paper's four."""
    baseline: str | None
    """Compare with this model's answers instead of the official baseline's."""
    questions: str | None
    """``pocket`` or ``official``; default: pocket's for pocket's models."""
    limit: int | None
    """At most so many questions of each benchmark."""
    repeats: int | None
    """Ask the judge this often about each answer."""
    seed: int
    """Seed of the answers' sampling."""
    name: str | None
    """Folder of the results under ``runs``."""
    max_cost: float | None
    """Dollars that judging may cost."""
    max_calls: int | None
    """Judge calls that may be made."""
    set: Mapping[str, Any] | Sequence[str]
    """Further changes of the recipe that the evaluation is described by."""
    plugins: Sequence[str]
    """Python files or modules."""
    runs: str | Path
    """Folder of runs and of the store that they share; default: ``runs``."""


def served(text: str) -> dict[str, Any] | None:
    match = _SERVED.fullmatch(text)
    if match is None:
        return None
    return {"model": match["model"]} | ({"base_url": match["url"]} if match["url"] else {})


def candidate(text: str, rows: Sequence[str] = ()) -> Candidate:
    """A model from ``[ROW=]MODEL``, where MODEL is a checkpoint or ``NAME@URL``. ``rows``: names that exist."""
    row = _ROW.fullmatch(text)
    if (row["text"] if row else text).startswith(ANSWERS):
        return read_answers(row["row"] if row else "", row["text"] if row else text, rows)
    name, model = (row["row"], row["text"]) if row else (None, text)
    config = served(model)
    short = (config["model"] if config else model).rstrip("/").rpartition("/")[2].partition(":")
    # Of a hub id the part after the last slash, of pocket:NAME the part after the colon; what is left names a folder.
    base = name or re.sub(r"[^\w.+-]+", "-", short[2] or short[0]).strip("-.") or "model"
    if name in rows:
        raise UserError(f"--model: the name {name!r} is given twice; names tell models apart in tables.")
    unique = next(entry for n in range(1, len(rows) + 2) if (entry := base if n == 1 else f"{base}-{n}") not in rows)
    return (
        Candidate(unique, endpoint=ServerOptions("openai", config)) if config else Candidate(unique, checkpoint=model)
    )


def read_answers(name: str, text: str, rows: Sequence[str]) -> Candidate:
    """Answers made elsewhere: ``NAME=answers:FOLDER[,FOLDER]``.

    A folder holds ``BENCHMARK.jsonl`` files, or ``answers.jsonl`` with an ``import.json`` that names its benchmark.
    """
    files: dict[str, Path] = {}
    for folder in (Path(entry).expanduser() for entry in text.removeprefix(ANSWERS).split(",")):
        if not folder.is_dir():
            raise UserError(f"--model {text}: {folder} is no folder of answers.")
        imported = folder / IMPORT_NOTE
        if imported.is_file() and (folder / "answers.jsonl").is_file():
            files[read_note(folder)["benchmark"]] = folder / "answers.jsonl"
        else:
            files |= {file.stem: file for file in sorted(folder.glob("*.jsonl"))}
    if not files:
        raise UserError(f"--model {text}: no BENCHMARK.jsonl there, and no answers.jsonl with its import.json.")
    if not name or name in rows:
        raise UserError(f"--model {text}: answers need a name of their own: NAME={text}.")
    return Candidate(name, answers=files)


def read_note(folder: Path) -> dict[str, Any]:
    """``import.json`` of a folder. Raises UserError where it does not name its benchmark."""
    try:
        note = json.loads((folder / IMPORT_NOTE).read_text(encoding="utf-8"))
        benchmark, config = str(note["benchmark"]), dict(note.get("config", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no folder that `distilbench import` wrote ({error}): import it again.") from error
    return {"model": folder.name, "baseline": "", **note, "benchmark": benchmark, "config": config}


def judge_entry(text: str, registry: Registry) -> dict[str, Any]:
    """A recipe's judge entry from ``NAME@URL``, a kind by its name, a known model, YAML or a checkpoint."""
    import yaml

    from judges.kinds.openai.catalogue import MODELS, find

    if text.startswith("{"):
        try:
            entry = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--judge: not valid YAML ({getattr(error, 'problem', error)}): {text}") from error
        if not isinstance(entry, Mapping):
            raise UserError(f"--judge: must be a mapping like {{kind: openai, model: NAME}}, got {text}")
        return dict(entry)
    config = served(text)
    if config:
        return {"kind": "openai", **config}
    if find(text):
        return {"kind": "openai", "model": text}
    if text in registry.judges:
        return {"kind": text}
    if "/" in text or Path(text).is_dir() or text.startswith("pocket:"):
        return {"kind": "transformers", "path": text}
    remedy = "Or NAME@URL for a server, a checkpoint, or {kind: ..., ...} with a kind's options."
    raise unknown("judge", text, [*registry.judges, *MODELS], remedy)


def judge_problem(kind: str, config: Any, registry: Registry) -> str | None:
    """Why a judge cannot be asked (it is asked for one token); ``None``: it answers."""
    try:
        return registry.judges[kind].make(config).check()
    except UserError as error:
        return str(error)


def recipe_of(
    candidates: Sequence[Candidate], judge: str | None, options: EvaluationOptions, registry: Registry
) -> Recipe:
    """The recipe that an evaluation is described by. Raises UserError with everything that is wrong."""
    from judges import PAPER

    names = list(options.get("benchmarks") or PAPER)
    for name in names:
        if name not in registry.benchmarks:
            raise unknown("benchmark", name, registry.benchmarks)
    judged = [name for name in names if registry.benchmarks[name].judged]
    if judged and judge is None:
        raise UserError(
            f"{', '.join(judged)} need a judge: give --judge NAME@URL (any OpenAI-compatible server), "
            "--judge NAME@openai, a checkpoint, or pocket."
        )
    # 60 characters: the name becomes a folder, and file systems stop at 255 bytes of which rows and targets need some.
    tree: dict[str, Any] = {
        "name": options.get("name") or "eval-" + "-".join(entry.row for entry in candidates)[:60].strip("-."),
        "title": "Evaluation of " + ", ".join(entry.text for entry in candidates),
        "family": {"name": "evaluation", "teacher": PLACEHOLDER, "student": PLACEHOLDER},
        "benchmarks": {name: benchmark_entry(name, options, candidates, registry) for name in names},
        "seeds": [options.get("seed", 0)],
    }
    if judged:
        tree["judges"] = {JUDGE: judge_entry(str(judge), registry)}
    budget = {"ask.max_cost": options.get("max_cost"), "ask.max_calls": options.get("max_calls")}
    limits = [(path, value) for path, value in budget.items() if value is not None]
    changes, problems = read_overrides([*overrides_of(options.get("set", ())), *limits])
    tree = named(merge(tree, changes), problems)
    recipe, more = check_tree(tree, registry)
    if problems or more or recipe is None:
        raise RecipeError([*problems, *more], "eval")
    return recipe


def overrides_of(changes: Mapping[str, Any] | Sequence[str]) -> list[Override]:
    """The argument ``set`` of a workflow, as the recipe reader takes it."""
    return list(changes.items()) if isinstance(changes, Mapping) else list(changes)


def read_options(
    kind: type[T], changes: Mapping[str, Any] | Sequence[str], defaults: Mapping[str, Any] = MappingProxyType({})
) -> T:
    """A config with these options. Raises RecipeError that lists everything that is wrong."""
    values, problems = read_overrides(overrides_of(changes))
    config, more = option_classes.read_options(kind, {**defaults, **values}, ())
    if problems or config is None:
        raise RecipeError([*problems, *more], "--set")
    return config


def benchmark_entry(
    name: str, options: EvaluationOptions, candidates: Sequence[Candidate], registry: Registry
) -> dict[str, Any]:
    """One benchmark's section: those options of an evaluation that its config has a field for."""
    pocket = all(str(entry.checkpoint).startswith("pocket:") for entry in candidates)
    wanted: dict[str, Any] = {
        "questions": options.get("questions") or ("pocket" if pocket else "official"),
        "limit": options.get("limit"),
        "repeats": options.get("repeats"),
        "order": "both" if options.get("baseline") else None,
    }
    # GSM8K has no repeats and MT-Bench no order: an option applies to the benchmarks that know it.
    fields = registry.benchmarks[name].config.__dataclass_fields__
    section = {key: value for key, value in wanted.items() if value is not None and key in fields}
    return section | ({"judge": JUDGE} if registry.benchmarks[name].judged else {})
