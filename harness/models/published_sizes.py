"""Published sizes of public models (``published_sizes.json``), to plan with before files are here.

``distilbench plan`` marks them "stated"; nothing runs on them, because the files themselves are checked first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.contracts.model import Checkpoint
from harness.errors import UserError
from harness.hardware import Size
from harness.models.chat import vocabulary_difference
from harness.models.checkpoint import context_of, hub_folder, resolve, stored_weights, text_config, token_ids
from harness.types import Json


@dataclass(frozen=True)
class PublishedModel:
    parameters: int
    layers: int
    hidden: int
    vocabulary: int  # rows of the embedding, padding included
    tokens: str  # name of the tokenizer that models share: the same name, the same token ids
    context: int  # longest input, tokens
    licence: str
    gated: bool  # whether its licence must be accepted on the hub before it can be fetched


_MODELS: Mapping[str, PublishedModel] = {
    hub_id: PublishedModel(**entry)
    for hub_id, entry in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))["models"].items()
}


def published_model(hub_id: str) -> PublishedModel | None:
    return _MODELS.get(hub_id)


def resolve_or_placeholder(name: str) -> Checkpoint:
    """``resolve``, or a placeholder to plan with where a listed model is not here. Raises UserError for any other."""
    try:
        return resolve(name)
    except UserError as error:
        hub_id = name.partition("@")[0]
        model = published_model(hub_id)
        if model is None:
            raise
        licence = f" It is gated: accept its licence ({model.licence}) on the hub first." if model.gated else ""
        fingerprint = f"stated:{name}"
        return Checkpoint(name, hub_id, None, fingerprint, f"stated:{model.tokens}", absence=f"{error}{licence}")


def context_length(checkpoint: Checkpoint) -> int | None:
    """Tokens that the model reads; ``None`` where its configuration does not say, or is neither here nor published."""
    config = _text_config(checkpoint)
    if not config:
        published = published_model(checkpoint.location)
        return None if published is None else published.context
    return context_of(config)


def checkpoint_difference(student: Checkpoint, teacher: Checkpoint) -> str | None:
    """``vocabulary_difference`` from the files or as published; ``None`` also where it is not known yet."""
    ours, theirs = (hub_folder(checkpoint) / "tokenizer.json" for checkpoint in (student, teacher))
    if ours.is_file() and theirs.is_file():
        return vocabulary_difference(token_ids(ours), token_ids(theirs))
    of_student, of_teacher = published_model(student.location), published_model(teacher.location)
    if of_student is None or of_teacher is None or of_student.tokens == of_teacher.tokens:
        return None
    return f"as published, the teacher's tokenizer is {of_teacher.tokens}, the student's {of_student.tokens}"


@lru_cache(maxsize=64)
def size(checkpoint: Checkpoint) -> Size | None:
    """From the headers of the checkpoint's files where they are here, else as published, else ``None``."""
    try:
        tensors = stored_weights(hub_folder(checkpoint))
    except UserError:
        tensors = {}
    count = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if count:
        config = _text_config(checkpoint)
        layers, hidden = (
            value if isinstance(value := config.get(name), int) else None
            for name in ("num_hidden_layers", "hidden_size")
        )
        return Size(count, layers, hidden, stated=False)
    published = published_model(checkpoint.location)
    return None if published is None else Size(published.parameters, published.layers, published.hidden, True)


def _text_config(checkpoint: Checkpoint) -> Mapping[str, Json]:
    """``text_config`` of its files; empty where they are not here."""
    try:
        return text_config(hub_folder(checkpoint))
    except UserError:
        return {}
