"""Do two checkpoints share their vocabulary? Read from ``tokenizer.json`` alone, so that a plan needs no transformers.

Token-level methods need the same token under the same id in both. Where a tokenizer file is not here yet the answer is
what is stated of the models (``harness/models/published_sizes.py``), or unknown, and training checks again with the
loaded tokenizers (``harness/models/vocabulary.py``).
"""

from __future__ import annotations

from pathlib import Path

from harness.contracts.model import Checkpoint
from harness.models.checkpoint_files import token_ids
from harness.models.published_sizes import tokens_of


def difference(teacher: Checkpoint, student: Checkpoint) -> str | None:
    """What differs, in a few words; ``None`` when the vocabularies agree or cannot be compared yet."""
    files = tokenizer_file(teacher), tokenizer_file(student)
    if files[0] is None or files[1] is None:
        stated = tokens_of(teacher), tokens_of(student)
        if None in stated or stated[0] == stated[1]:
            return None
        return f"as stated, the teacher's is {stated[0]}, the student's {stated[1]}"
    ours, theirs = token_ids(files[0]), token_ids(files[1])
    if ours == theirs:
        return None
    if len(ours) != len(theirs):
        return f"the teacher's has {len(ours)} tokens, the student's {len(theirs)}"
    moved = sum(theirs.get(token) != number for token, number in ours.items())
    return f"{moved} of {len(ours)} tokens have another id in the student's"


def tokenizer_file(checkpoint: Checkpoint) -> Path | None:
    """The checkpoint's ``tokenizer.json``, in its folder or the local hub cache."""
    file = Path(checkpoint.location) / "tokenizer.json"
    if file.is_file():
        return file
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(checkpoint.location, "tokenizer.json", revision=checkpoint.revision)
    return Path(cached) if isinstance(cached, str) else None
