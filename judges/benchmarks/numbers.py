"""Numbers in answers, as exact fractions: ``$1,200.50``, ``3/4``, ``1.8e1``."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

MINUS: Final = "\N{MINUS SIGN}"
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?|(?<![\w.])\.\d+)(?:\s*/\s*\d+|[eE][+-]?\d+)?")
_MOST_DIGITS = 3  # of an exponent: 1e999999999 has a billion digits


def number_in(text: str) -> Fraction | None:
    """The first number of a short answer, without dollar signs and commas."""
    match = _NUMBER.search(_plain(text))
    return None if match is None else _fraction(match[0])


def last_number(text: str) -> Fraction | None:
    """The last number of a text that can be read as one."""
    numbers = [number for match in _NUMBER.findall(_plain(text)) if (number := _fraction(match)) is not None]
    return numbers[-1] if numbers else None


def _plain(text: str) -> str:
    return text.replace(",", "").replace("$", "").replace(MINUS, "-")


def _fraction(text: str) -> Fraction | None:
    if len(text.lower().partition("e")[2].lstrip("+-")) > _MOST_DIGITS:
        return None
    try:
        return Fraction("".join(text.split()))
    except (ValueError, ZeroDivisionError):
        return None
