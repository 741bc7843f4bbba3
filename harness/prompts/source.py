"""Which training prompts a run really uses: the recipe's source, pinned, or its fallback where it cannot be reached."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.models.checkpoint import hub_commit
from harness.prompts.jsonl import parse, read_content

if TYPE_CHECKING:
    from harness.recipe.sections import Prompts

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
    absent: str = ""
    """Why it cannot be reached, where a plan goes on without it: nothing can run on it."""


def planned_source(spec: Prompts) -> PromptSource:
    """``resolve_source``, or a stand-in to plan with where the hub's data set cannot be reached now."""
    try:
        return resolve_source(spec)
    except UserError as error:
        if spec.source != "ultrafeedback":
            raise
        return PromptSource("ultrafeedback", None, None, True, absent=str(error))


def resolve_source(spec: Prompts) -> PromptSource:
    """Pin the source: the commit that ``prompts.revision`` names, the sha256 of a file.

    Raises UserError when it cannot be reached and the recipe names no fallback, and for a file that is not as it must
    be.
    """
    if spec.revision is not None and spec.source != "ultrafeedback":
        raise UserError(
            f"prompts.revision = {spec.revision!r} goes with prompts.source = 'ultrafeedback' only; the source here is "
            f"{spec.source!r}. Set prompts.revision=null."
        )
    if spec.source == "jsonl":
        content = read_content(str(spec.path))
        pairs = any(prompt.golden and prompt.rejected for prompt in parse(str(spec.path), content))
        return PromptSource("jsonl", hashlib.sha256(content).hexdigest(), None, pairs)
    if spec.source != "ultrafeedback":
        return PromptSource(spec.source, None, None, spec.source in PAIRED)
    try:
        commit = hub_commit(ULTRAFEEDBACK, spec.revision or "main", "dataset")
        return PromptSource("ultrafeedback", commit, None, True)
    except UserError as error:
        if spec.fallback is None:
            raise UserError(f"{error} Or set prompts.fallback=gsm8k-train.") from error
        note = f"training prompts: {spec.fallback} instead of {spec.source}, which could not be reached"
        if spec.revision:
            note += f" (revision {spec.revision})"
        return PromptSource(spec.fallback, None, note, spec.fallback in PAIRED)
