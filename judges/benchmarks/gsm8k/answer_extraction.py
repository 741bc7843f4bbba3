"""What a response to GSM8K gives as its answer, and whether that is the gold answer. Pure functions.

Two protocols. lm-eval: its two filters take a text, compared as text. JSON (Lin 2024, ZeroEval): the first complete
JSON object that has an ``answer``, failing that the text behind an ``"answer":`` key (flagged), compared as a number.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Final

from harness.types import Answer, Judgment, Question

FILTERS: Final = ("strict-match", "flexible-extract")
INVALID: Final = "[invalid]"
"""What the filters give when they find nothing; it is marked wrong, as lm-eval does."""
JSON_PART: Final = "json-answer"
_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_BROKEN = re.compile(r'"answer"\s*:\s*"?([^"\n}]*)')
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?|(?<![\w.])\.\d+)(?:\s*/\s*\d+|[eE][+-]?\d+)?")
_MOST_DIGITS = 3  # of an exponent: 1e999999999 has a billion digits
_MOST_STARTS = 200  # opening braces tried in one reply: a reply of braces must not cost quadratic time


def extract(text: str, how: str) -> str:
    """What lm-eval's filter extracts from a response: the first ``#### N``, or the last number."""
    if how == "strict-match":
        numbers = _STRICT.findall(text)
        return numbers[0].strip() if numbers else INVALID
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


def extract_answer(text: str) -> tuple[str | None, tuple[str, ...]]:
    """What a reply gives as its answer, and how it had to be read (``broken-json``); ``None`` when it gives none."""
    decoder = json.JSONDecoder()
    # The first object that has the key, not the first object: models like to show the schema before they answer.
    for start in [match.start() for match in re.finditer(r"\{", text)][:_MOST_STARTS]:
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, brackets without end
            continue
        if isinstance(value, dict) and isinstance(value.get("answer"), str | int | float):
            return str(value["answer"]), ()
    broken = _BROKEN.findall(text)
    return (broken[-1].strip(), ("broken-json",)) if broken else (None, ())


def number_in(text: str) -> Fraction | None:
    """The first number of a short answer, without dollar signs and commas: ``$1,200.50``, ``3/4``, ``1.8e1``."""
    match = _NUMBER.search(text.replace(",", "").replace("$", "").replace("\N{MINUS SIGN}", "-"))
    if match is None or len(match[0].lower().partition("e")[2].lstrip("+-")) > _MOST_DIGITS:
        return None
    try:
        return Fraction("".join(match[0].split()))
    except (ValueError, ZeroDivisionError):
        return None


def mark_json(question: Question, answer: Answer) -> Judgment:
    """One mark. A reply without an answer, or without a number in it, is wrong, and flagged."""
    text, flags = extract_answer(answer.turns[0])
    number = None if text is None else number_in(text)
    gold = number_in(question.reference[0].rsplit("####", 1)[-1])
    flags = flags if number is not None else (*flags, "no-number")
    mark = float(number is not None and number == gold)
    return Judgment(question.id, JSON_PART, mark, flags=flags, judge_model="rule")
