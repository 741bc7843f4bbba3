"""What is stated about public models and question sets (``facts.json``), for plans made where the files are not.

A plan must say what an experiment needs before anything of it is downloaded. What comes from here is marked "stated" in
what ``distilbench plan`` prints, and nothing is ever run on it: the files themselves are checked first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from harness.contracts.model import Checkpoint
from harness.errors import UserError
from harness.hardware.gpu import Size
from harness.models.checkpoint import hub_folder, resolve
from harness.models.checkpoint_files import read_object
from harness.types import Question


@dataclass(frozen=True)
class ModelFacts:
    """A public checkpoint."""

    parameters: int
    layers: int
    hidden: int
    """Width."""
    vocabulary: int
    """Rows of the embedding, padding included."""
    tokens: str
    """Name of the tokenizer that models share: the same name, the same token ids."""
    context: int
    """Longest input, tokens."""
    licence: str
    gated: bool
    """Whether its licence must be accepted on the hub before it can be fetched."""


@dataclass(frozen=True)
class QuestionFacts:
    """An official question set."""

    questions: int
    turns: int
    """User turns of each question."""
    characters: int
    """Mean length of a turn."""
    requests: int
    """Judge calls for each answered question."""
    request_characters: int
    """Mean length of a judge prompt with a blank answer."""
    reply_tokens: int
    """Most that a verdict is counted with."""


@cache
def _facts() -> Mapping[str, Any]:
    return dict(json.loads(Path(__file__).with_name("published_sizes.json").read_text(encoding="utf-8")))


def model_facts(hub_id: str) -> ModelFacts | None:
    """What is stated of a model; ``None`` for one that is not listed."""
    found = _facts()["models"].get(hub_id)
    return None if found is None else ModelFacts(**found)


def question_facts(benchmark: str) -> QuestionFacts | None:
    """What is stated of a benchmark's official questions."""
    found = _facts()["benchmarks"].get(benchmark)
    return None if found is None else QuestionFacts(**found)


def planned(name: str) -> Checkpoint:
    """``resolve``, or for a listed model that cannot be had now a stand-in to plan with (``Checkpoint.absent``).

    Raises UserError for any other model that is not there.
    """
    try:
        return resolve(name)
    except UserError as error:
        hub_id = name.partition("@")[0]
        facts = model_facts(hub_id)
        if facts is None:
            raise
        licence = f" It is gated: accept its licence ({facts.licence}) on the hub first." if facts.gated else ""
        stated = f"stated:{name}"
        return Checkpoint(name, hub_id, None, stated, f"stated:{facts.tokens}", absent=f"{error}{licence}")


def stand_ins(benchmark: str, limit: int | None) -> list[Question] | None:
    """As many blank questions of the stated length as the official set has; ``None`` where nothing is stated."""
    facts = question_facts(benchmark)
    if facts is None:
        return None
    count = facts.questions if limit is None else min(limit, facts.questions)
    turns = (" " * facts.characters,) * facts.turns
    return [Question(f"stated/{number}", turns, meta={"stated": True}) for number in range(count)]


def tokens_of(checkpoint: Checkpoint) -> str | None:
    """The stated name of a checkpoint's tokenizer."""
    facts = model_facts(checkpoint.location)
    return None if facts is None else facts.tokens


def size(checkpoint: Checkpoint) -> Size | None:
    """How large a model is: from its files where they are here, else as stated, else ``None``."""
    return _size(checkpoint.location, checkpoint.revision)


@lru_cache(maxsize=64)
def _size(location: str, revision: str | None) -> Size | None:
    folder = hub_folder(location, revision)
    files = list(folder.glob("*.safetensors"))
    if files:
        config = _config(folder)
        shape = (config.get("num_hidden_layers"), config.get("hidden_size"))
        count = sum(map(_parameters, files))
        if count:
            return Size(count, *shape, stated=False)
    facts = model_facts(location)
    return None if facts is None else Size(facts.parameters, facts.layers, facts.hidden, stated=True)


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        return read_object(folder / "config.json")
    except UserError:  # a size without a shape is still a size
        return {}


def _parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header (8 bytes of length, then JSON); 0 for anything else."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length < min(100_000_000, file.stat().st_size):
            return 0
        try:
            header = json.loads(opened.read(length))
        except ValueError:
            return 0
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    total = 0
    for shape in shapes:
        count = 1
        for side in shape:
            count *= side
        total += count
    return total
