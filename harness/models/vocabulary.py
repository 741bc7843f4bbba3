"""Whether two tokenizers give every token the same id: what token-level distillation needs.

The width of the embedding matrix does not matter (some families pad it); the map from token to id does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.models.chat import end_of_turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def same_vocabulary(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> str | None:
    """``None`` where both map every token to the same id and end a turn alike; else the reason, for a person."""
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    if ours != theirs:
        missing = sorted(ours.keys() ^ theirs.keys())
        moved = sorted(token for token in ours.keys() & theirs.keys() if ours[token] != theirs[token])
        examples = ", ".join(repr(token) for token in (missing or moved)[:3])
        what = f"{len(missing)} tokens exist in one only" if missing else f"{len(moved)} tokens have other ids"
        sizes = f"{len(theirs)} and {len(ours)} tokens"
        return f"teacher and student have different vocabularies ({sizes}; {what}: {examples})"
    if end_of_turn(student) != end_of_turn(teacher):
        return f"chat templates end a turn differently ({end_of_turn(teacher)!r} and {end_of_turn(student)!r})"
    for name in ("bos_token_id", "eos_token_id"):
        if getattr(student, name) != getattr(teacher, name):
            return f"teacher and student differ in {name} ({getattr(teacher, name)} and {getattr(student, name)})"
    return None
