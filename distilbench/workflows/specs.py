"""Models, judges and options from a few words: ``NAME@http://HOST/v1``, ``pocket:student``, ``answers:FOLDER``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict, TypeVar

from harness.contracts.benchmark import AnyBenchmark
from harness.contracts.options import RecipeError, read_options
from harness.contracts.registry import Registry
from harness.errors import UserError, unknown_choice
from harness.models.server_model import ServerOptions
from harness.plan.plan import Candidate
from harness.recipe.yaml_source import Override, read_overrides
from harness.text import parse_json
from judges.kinds.openai.catalogue import MODELS, find

T = TypeVar("T")
ANSWERS = "answers:"  # opens the folder of answers that were made elsewhere
IMPORT_NOTE = "import.json"  # describes imported answers, beside answers.jsonl and judgments.jsonl
JUDGE = "main"  # the judge's name in a recipe that is made from options
# Names may hold an @ themselves (LM Studio's quants, Cloudflare's ids): the address tells where they end.
_SERVED = re.compile(r"\s*(?P<model>\S.*?)\s*@\s*(?:(?P<base_url>https?://\S+)|openai)\s*", re.IGNORECASE)
_ADDRESS = re.compile(r".+@([\w.-]+:\d+|[\w.-]+/v\d)(/\S*)?")  # what a server's lacks is http://
_ROW = re.compile(r"(?:(?P<row>[^\W_][\w.+-]*)=)?(?P<model>.+)", re.DOTALL)


class ImportNote(TypedDict):
    benchmark: str
    config: Mapping[str, object]
    model: str
    baseline: str
    files: Mapping[str, str]  # path to sha256
    problems: Sequence[str]


def server_options(text: str) -> dict[str, object] | None:
    """Options of a server from ``NAME@URL`` or ``NAME@openai``; ``None`` for other text."""
    match = _SERVED.fullmatch(text)
    return {key: value for key, value in match.groupdict().items() if value} if match else None


def candidate(text: str, rows: Sequence[str] = ()) -> Candidate:
    """A model from ``[ROW=]MODEL``: a checkpoint, ``NAME@URL``, ``{model: NAME, base_url: URL, ...}`` with all options
    of a server, or ``answers:FOLDER``. ``rows``: names in use."""
    match = _ROW.fullmatch(text)
    name, model = (match["row"], match["model"]) if match else (None, text)
    if model.startswith(ANSWERS):
        return read_answers(name or "", model, rows)
    if name in rows:
        raise UserError(f"--model: the name {name!r} is given twice; names tell models apart in tables.")
    config = mapping(model, "--model") if model.startswith("{") else server_options(model)
    kind = str(config.pop("kind", "openai")) if config else ""
    if config and not config.get("model"):
        raise UserError(f"--model {text}: name the model: {{model: NAME, base_url: URL}}.")
    if not config and _ADDRESS.fullmatch(model) and not Path(model).exists():
        raise UserError(
            f"--model {model}: the address of a server starts with http:// or https://: NAME@http://HOST/v1."
        )
    # Of an id the part after the last slash, with its tag (qwen2.5:8b), and the one before it where two would be the
    # same; of pocket:NAME the part after the colon: the name becomes a folder.
    parts = (str(config["model"]) if config else model.removeprefix("pocket:")).rstrip("/").split("/")
    short, longer = (re.sub(r"[^\w.+-]+", "-", "/".join(parts[-count:])).strip("-.") or "model" for count in (1, 2))
    names = [name or short, name or longer, *(f"{name or short}-{number}" for number in range(2, len(rows) + 2))]
    row = next(row for row in names if row not in rows)
    return Candidate(row, endpoint=ServerOptions(kind, config)) if config else Candidate(row, checkpoint=model)


def read_answers(name: str, text: str, rows: Sequence[str]) -> Candidate:
    """Answers made elsewhere: ``NAME=answers:FOLDER[,FOLDER]``.

    A folder holds ``BENCHMARK.jsonl`` files, or ``answers.jsonl`` with an ``import.json`` that names its benchmark.
    """
    files: dict[str, Path] = {}
    for folder in (Path(entry).expanduser() for entry in text.removeprefix(ANSWERS).split(",")):
        if not folder.is_dir():
            raise UserError(f"--model {text}: {folder} is no folder of answers.")
        if (folder / IMPORT_NOTE).is_file() and (folder / "answers.jsonl").is_file():
            files[read_note(folder)["benchmark"]] = folder / "answers.jsonl"
        else:
            files |= {file.stem: file for file in sorted(folder.glob("*.jsonl"))}
    if not files:
        raise UserError(f"--model {text}: no BENCHMARK.jsonl there, and no answers.jsonl with its import.json.")
    if not name or name in rows:
        raise UserError(f"--model {text}: answers need a name of their own: NAME={text}.")
    return Candidate(name, answers=files)


def read_note(folder: Path) -> ImportNote:
    """``import.json`` of a folder. Raises UserError where it does not name its benchmark."""
    try:
        note = parse_json((folder / IMPORT_NOTE).read_text(encoding="utf-8"))
        return {
            "benchmark": str(note["benchmark"]), "config": dict(note.get("config", {})),
            "model": str(note.get("model", folder.name)), "baseline": str(note.get("baseline", "")),
            "files": note.get("files", {}), "problems": note.get("problems", []),
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder} is no folder that `distilbench import` wrote ({error}): import it again.") from error


def mapping(text: str, option: str) -> dict[str, object]:
    """Options in the YAML of recipes."""
    tree, problems = read_overrides([f"entry={text}"])
    entry = tree.get("entry")
    if problems or not isinstance(entry, Mapping):
        rule = problems[0].rule if problems else "must be a mapping like {kind: openai, model: NAME}"
        raise UserError(f"{option}: {rule}: {text}")
    return dict(entry)


def judge_entry(text: str, registry: Registry) -> dict[str, object]:
    """A recipe's judge entry from ``NAME@URL``, a kind by its name, a known model, YAML or a checkpoint."""
    if text.startswith("{"):
        return mapping(text, "--judge")
    # From the most to the least explicit form: a folder may have the name of a model or a kind.
    config = server_options(text)
    if config:
        return {"kind": "openai", **config}
    if find(text):
        return {"kind": "openai", "model": text}
    if text in registry.judges:
        return {"kind": text}
    if "/" in text or Path(text).is_dir() or text.startswith("pocket:"):
        return {"kind": "transformers", "path": text}
    remedy = "Or NAME@URL for a server, a checkpoint, or {kind: ..., ...} with a kind's options."
    raise unknown_choice("judge", text, [*registry.judges, *MODELS], remedy)


def find_benchmark(name: str, registry: Registry) -> AnyBenchmark:
    if name not in registry.benchmarks:
        raise unknown_choice("benchmark", name, registry.benchmarks)
    return registry.benchmarks[name]


def overrides_of(changes: Mapping[str, object] | Sequence[str]) -> list[Override]:
    return list(changes.items()) if isinstance(changes, Mapping) else list(changes)


def parse_options(
    kind: type[T], changes: Mapping[str, object] | Sequence[str], defaults: Mapping[str, object] = MappingProxyType({})
) -> T:
    """A config with these options. Raises RecipeError that lists everything that is wrong."""
    values, problems = read_overrides(overrides_of(changes))
    config, option_problems = read_options(kind, {**defaults, **values}, ())
    if problems or config is None:
        raise RecipeError([*problems, *option_problems], "--set")
    return config
