"""Whether two models give every token the same id: what token-level distillation needs.

The width of the embedding matrix does not matter (some families pad it); the map from token to id does. A plan compares
``tokenizer.json`` files, so that it needs no transformers; training compares the loaded tokenizers once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.contracts.model import Checkpoint
from harness.models.chat import end_of_turn
from harness.models.checkpoint import hub_folder, token_ids
from harness.models.published_sizes import published_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def vocabulary_difference(student: Mapping[str, int], teacher: Mapping[str, int]) -> str | None:
    """What differs between two maps from token to id, for a person; ``None`` where they are equal."""
    if student == teacher:
        return None
    missing = sorted(student.keys() ^ teacher.keys())
    moved = sorted(token for token in student.keys() & teacher.keys() if student[token] != teacher[token])
    examples = ", ".join(repr(token) for token in (missing or moved)[:3])
    what = f"{len(missing)} tokens exist in one only" if missing else f"{len(moved)} tokens have other ids"
    return f"teacher's {len(teacher)} and student's {len(student)} tokens differ: {what}, {examples}"


def checkpoint_difference(student: Checkpoint, teacher: Checkpoint) -> str | None:
    """``vocabulary_difference`` of two checkpoints, from their files or as published; ``None`` also where it is not
    known yet."""
    files = tokenizer_file(student), tokenizer_file(teacher)
    if files[0] is not None and files[1] is not None:
        return vocabulary_difference(token_ids(files[0]), token_ids(files[1]))
    published = published_model(student.location), published_model(teacher.location)
    if published[0] is None or published[1] is None or published[0].tokens == published[1].tokens:
        return None
    return f"as published, the teacher's tokenizer is {published[1].tokens}, the student's {published[0].tokens}"


def tokenizer_difference(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> str | None:
    """Like ``vocabulary_difference``; the end of a turn and the special ids must agree too."""
    difference = vocabulary_difference(student.get_vocab(), teacher.get_vocab())
    if difference:
        return difference
    if end_of_turn(student) != end_of_turn(teacher):
        return f"chat templates end a turn differently ({end_of_turn(teacher)!r} and {end_of_turn(student)!r})"
    for name in ("bos_token_id", "eos_token_id"):
        if getattr(student, name) != getattr(teacher, name):
            return f"teacher and student differ in {name} ({getattr(teacher, name)} and {getattr(student, name)})"
    return None


def tokenizer_file(checkpoint: Checkpoint) -> Path | None:
    """The checkpoint's ``tokenizer.json``, where it is here (in its folder or the local hub cache)."""
    file = hub_folder(checkpoint) / "tokenizer.json"
    return file if file.is_file() else None
