"""Text from outside (titles, notes, names of models) made safe to print in any format."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    """``text`` on one line, with control and invisible formatting characters replaced by U+FFFD."""
    spaced = " ".join(text.split())
    if spaced.isascii() and spaced.isprintable():  # nearly all text: no look at every character
        return spaced
    return "".join("\ufffd" if unicodedata.category(char).startswith("C") else char for char in spaced)


def percent(share: float) -> str:
    """``91%``, rounded down: 97.9% must not be printed as the 98% that it misses."""
    # 0.29 * 100 is 28.999999999999996: without the small addition it would be printed as 28%
    return f"{int(share * 100 + 1e-9)}%"


def inert(text: str) -> str:
    """``text`` for a CSV field: a spreadsheet runs a cell that starts like a formula unless an apostrophe precedes."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
