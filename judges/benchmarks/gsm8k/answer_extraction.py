"""What lm-eval's two filters of GSM8K take from a response, and whether that is the gold answer. Pure functions."""

from __future__ import annotations

import re
from typing import Final

FILTERS: Final = ("strict-match", "flexible-extract")
INVALID: Final = "[invalid]"
"""What the filters give when they find nothing; it is marked wrong, as lm-eval does."""
_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")


def extract(text: str, how: str) -> str:
    """What lm-eval's filter extracts from a response: the first ``#### N``, or the last number."""
    if how == "strict-match":
        found = _STRICT.findall(text)
        return found[0].strip() if found else INVALID
    groups = _FLEXIBLE.findall(text)
    return next((group for group in groups[-1] if group), INVALID).strip() if groups else INVALID


def plain_number(text: str) -> str:
    """Text as lm-eval compares it: without commas, dollar signs, what precedes ``#### `` and a final full stop."""
    for pattern in (",", r"\$", r"(?s).*#### ", r"\.$"):
        text = re.sub(pattern, "", text)
    return text.lower()


def marked(extracted: str, gold: str) -> float:
    """1.0 or 0.0: whether an extracted answer equals the gold answer's number, as strings."""
    return float(plain_number(extracted) == plain_number(gold))
