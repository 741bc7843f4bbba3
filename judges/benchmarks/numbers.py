"""Numbers in answers, as exact fractions: ``$1,200.50``, ``3/4``, ``1.8e1``."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

MINUS: Final = "\N{MINUS SIGN}"
_UNSIGNED = r"(?:\d+(?:\.\d+)?|(?<![\w.])\.\d+)(?:\s*/\s*\d+|[eE][+-]?\d+)?"
_NUMBER = re.compile(rf"-?{_UNSIGNED}")
_IN_TEXT = re.compile(rf"(?:(?<![\w)\]])-)?{_UNSIGNED}")  # the hyphen of 10-12 is no sign
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{2,3})*,\d{3}(?!,?\d)")  # 1,200 and 1,00,000; not the list 3,4
_MOST_DIGITS = 3  # of an exponent: 1e999999999 has a billion digits


def number_in(text: str) -> Fraction | None:
    """The first number of a short answer, without dollar signs and commas."""
    match = _NUMBER.search(text.replace(",", "").replace("$", "").replace(MINUS, "-"))
    return None if match is None else _fraction(match[0])


def last_number(text: str) -> Fraction | None:
    """The last number of a text that can be read as one."""
    plain = _GROUPED.sub(lambda match: match[0].replace(",", ""), text.replace("$", "").replace(MINUS, "-"))
    numbers = (_fraction(found) for found in reversed(_IN_TEXT.findall(plain)))
    return next((number for number in numbers if number is not None), None)


def _fraction(text: str) -> Fraction | None:
    if len(text.lower().partition("e")[2].lstrip("+-")) > _MOST_DIGITS:
        return None
    try:
        return Fraction("".join(text.split()))
    except (ValueError, ZeroDivisionError):
        return None
