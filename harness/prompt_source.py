"""Which training prompts a run really uses: the recipe's source, pinned, or its fallback where it cannot be reached."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.checkpoint import hub_commit
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.recipe_sections import Prompts

ULTRAFEEDBACK = "argilla/ultrafeedback-binarized-preferences-cleaned"
"""The dataset of PAD section 5.1."""
PAIRED = ("pocket", "ultrafeedback")
"""Sources whose prompts come with a chosen and a rejected answer."""


@dataclass(frozen=True)
class PromptSource:
    """A source that can be read, and what pins its content."""

    source: str
    revision: str | None
    """Commit of a hub dataset, sha256 of a file, ``None`` for what the package or the asset manifest pins."""
    note: str | None
    """What a reader of the table must know: that the fallback was used."""
    pairs: bool
    """Whether its prompts come with a chosen and a rejected answer (a file: whether at least one line has them)."""


def resolve_source(spec: Prompts) -> PromptSource:
    """Pin the source. Raises UserError when it cannot be reached and the recipe names no fallback."""
    if spec.source == "jsonl":
        file = Path(str(spec.path)).expanduser()
        if not file.is_file():
            raise UserError(f"prompts.path = {spec.path!r} is not a file. Give the path of a JSON-lines file.")
        content = file.read_bytes()
        return PromptSource("jsonl", hashlib.sha256(content).hexdigest(), None, has_pairs(content))
    if spec.source != "ultrafeedback":
        return PromptSource(spec.source, None, None, spec.source in PAIRED)
    try:
        return PromptSource("ultrafeedback", hub_commit(ULTRAFEEDBACK, "main", "dataset"), None, True)
    except UserError as error:
        if spec.fallback is None:
            raise UserError(f"{error} Or set prompts.fallback=gsm8k-train.") from error
        note = f"training prompts: {spec.fallback} instead of {spec.source}, which could not be reached"
        return PromptSource(spec.fallback, None, note, spec.fallback in PAIRED)


def has_pairs(content: bytes) -> bool:
    """Whether a line of a JSON-lines file has both answers; broken lines are the first stage's business."""
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("golden") and row.get("rejected"):
            return True
    return False
