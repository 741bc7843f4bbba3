"""Lone surrogates: halves of a character that JSON can hold (``"\\ud83d"``, of an emoji that was cut), UTF-8 cannot.

They come in with replies and files of others. Left as they are, such a text can be read, paid for and stored, but
never written to a file. So each becomes U+FFFD, the sign for a character that was lost, where text comes in and again
where it is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LONE = re.compile("[\ud800-\udfff]")


def mend(text: str) -> str:
    """``text`` with U+FFFD in place of every lone surrogate."""
    return text if text.isascii() else _LONE.sub("\ufffd", text)


def mend_json(value: Any) -> Any:
    """A decoded JSON value with all its texts mended, keys too."""
    if isinstance(value, str):
        return mend(value)
    if isinstance(value, Mapping):
        return {mend_json(key): mend_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [mend_json(each) for each in value]
    return value
