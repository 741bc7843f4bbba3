"""Published sizes of public models (``published_sizes.json``), to plan with before files are here.

A plan must say what an experiment needs before anything of it is downloaded. Numbers from here are marked "stated" in
what ``distilbench plan`` prints, and nothing ever runs on them: the files themselves are checked first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from harness.contracts.model import Checkpoint
from harness.errors import UserError
from harness.hardware.gpu import Size
from harness.models.checkpoint import resolve, text_config, weight_shapes

CONTEXT_FIELDS = ("max_position_embeddings", "n_positions")
"""The context in ``config.json``; the second: GPT-2 and its relatives."""


@dataclass(frozen=True)
class PublishedModel:
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


@cache
def _published() -> Mapping[str, Any]:
    return dict(json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")))


def published_model(hub_id: str) -> PublishedModel | None:
    """``None`` for a model that is not listed."""
    entry = _published()["models"].get(hub_id)
    return None if entry is None else PublishedModel(**entry)


def resolve_or_placeholder(name: str) -> Checkpoint:
    """``resolve``, or for a listed model that is not here a placeholder to plan with (``Checkpoint.absent``).

    Raises UserError for any other model that is not here.
    """
    try:
        return resolve(name)
    except UserError as error:
        hub_id = name.partition("@")[0]
        model = published_model(hub_id)
        if model is None:
            raise
        licence = f" It is gated: accept its licence ({model.licence}) on the hub first." if model.gated else ""
        stated = f"stated:{name}"
        return Checkpoint(name, hub_id, None, stated, f"stated:{model.tokens}", absent=f"{error}{licence}")


def context_length(checkpoint: Checkpoint) -> int | None:
    """Tokens that the model reads; ``None`` where its configuration does not say, or is neither here nor published."""
    config = text_config(checkpoint)
    if not config:
        published = published_model(checkpoint.location)
        return None if published is None else published.context
    return next((config[name] for name in CONTEXT_FIELDS if isinstance(config.get(name), int)), None)


@lru_cache(maxsize=64)
def size(checkpoint: Checkpoint) -> Size | None:
    """From the checkpoint's files where they are here, else as published, else ``None``."""
    shapes = weight_shapes(checkpoint)
    if shapes:
        config = text_config(checkpoint)
        count = sum(math.prod(shape) for shape in shapes.values())
        return Size(count, config.get("num_hidden_layers"), config.get("hidden_size"), stated=False)
    published = published_model(checkpoint.location)
    return None if published is None else Size(published.parameters, published.layers, published.hidden, True)
