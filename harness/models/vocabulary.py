"""Whether two models give every token the same id: what token-level distillation needs.

The width of the embedding matrix does not matter (some families pad it); the map from token to id does. A plan compares
``tokenizer.json`` files, so that it needs no transformers; training compares the loaded tokenizers once more.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    kind = f"{len(missing)} tokens exist in one only" if missing else f"{len(moved)} tokens have other ids"
    return f"teacher's {len(teacher)} and student's {len(student)} tokens differ: {kind}, {examples}"


def checkpoint_difference(student: Checkpoint, teacher: Checkpoint) -> str | None:
    """``vocabulary_difference`` of two checkpoints, from their files or as published; ``None`` also where it is not
    known yet."""
    ours, theirs = (hub_folder(checkpoint) / "tokenizer.json" for checkpoint in (student, teacher))
    if ours.is_file() and theirs.is_file():
        return vocabulary_difference(token_ids(ours), token_ids(theirs))
    ours_stated, theirs_stated = published_model(student.location), published_model(teacher.location)
    if ours_stated is None or theirs_stated is None or ours_stated.tokens == theirs_stated.tokens:
        return None
    return f"as published, the teacher's tokenizer is {theirs_stated.tokens}, the student's {ours_stated.tokens}"


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
