"""Text helpers: counts with their noun, and lone surrogates in text from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# JSON can hold half of a character ("\ud83d", of an emoji that was cut); UTF-8 cannot. Such a text can be read, paid
# for and stored, but never written to a file.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def counted(count: int, noun: str) -> str:
    """``1 question``, ``1,319 questions``, ``2 replies``."""
    if count == 1:
        return f"1 {noun}"
    plural = noun[:-1] + "ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else noun + "s"
    return f"{count:,} {plural}"


def replace_surrogates(text: str) -> str:
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def replace_in_json(value: Any) -> Any:
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, Mapping):
        return {replace_in_json(key): replace_in_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_in_json(item) for item in value]
    return value
