"""Lengths of answers in tokens, as the official scripts count them: with tiktoken, whatever the model's own tokenizer.

``token_counts.json`` holds those of v0.1's baseline, in the order of its pinned file, which has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from harness.errors import UserError
from judges.benchmarks.arena_hard.style_control import Scorer

_ENCODINGS: dict[Scorer, str] = {"v0.1": "cl100k_base", "2025-06": "o200k_base"}


@cache
def baseline_counts() -> dict[str, list[int]]:
    """By the baseline's name."""
    counts: dict[str, list[int]] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return counts


@cache
def token_counter(scorer: Scorer) -> Callable[[str], int]:
    """Counts the tokens of a text as this script does. Raises UserError without tiktoken or its vocabulary."""
    name = _ENCODINGS[scorer]
    try:
        import tiktoken

        encoding = tiktoken.get_encoding(name)
    except ImportError as error:
        raise UserError(
            "count_tokens needs tiktoken: pip install 'distilbench[tiktoken]', or leave count_tokens out."
        ) from error
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        raise UserError(
            f"count_tokens: tiktoken cannot load its vocabulary {name}, which it downloads once ({error}). "
            "TIKTOKEN_CACHE_DIR names the folder where it looks first."
        ) from error
    return lambda text: len(encoding.encode(text, disallowed_special=()))
