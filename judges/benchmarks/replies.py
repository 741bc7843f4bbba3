"""Verdicts in the replies of judges that a user's own prompt asks: labels, a pattern, JSON, first-token probabilities.

A reply that cannot be read, or says something that is no verdict, is ``None`` with the reason; it is never a number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from harness.types import Reply, Verdict

LEAST_MASS: Final = 0.01  # probability of all verdicts' tokens together below which there is no verdict
LITTLE_MASS: Final = 0.5  # below it a verdict is flagged
_SHOWN_TOKENS: Final = 5
_LONGEST: Final = 50_000  # characters of a reply that a pattern sees, its end: some patterns take quadratic time
_MOST_OBJECTS: Final = 200
LONGEST_LABEL: Final = 40
_BRACKETS: Final = re.compile(rf"\[\[\s*([^\[\]\n]{{1,{LONGEST_LABEL}}}?)\s*\]\]")
_NUMBER: Final = re.compile(
    r"([-+]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15}))(?:\s*(?:/|out of)\s*(\d{1,15}(?:\.\d{1,15})?))?", re.IGNORECASE
)
SEVERAL: Final = "last-label"
"""Flag of a verdict that is the last of several different ones."""

Read = Callable[[str], float | None]
"""What a text (a label, the value under a key) says, or ``None``."""


def shorten(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def last_of(texts: list[str], read: Read, noun: str) -> Verdict:
    """The last of the candidates that is a verdict; flagged where they differ."""
    values = [value for text in texts if (value := read(text)) is not None]
    if values:
        return Verdict(values[-1], None, (SEVERAL,) if len(set(values)) > 1 else ())
    return Verdict(None, f"no {noun} in the reply" if not texts else f"{shorten(texts[-1])} is no verdict")


def is_label(text: str) -> bool:
    """Whether it can be read in double brackets."""
    return _BRACKETS.fullmatch(f"[[{text}]]") is not None


def read_brackets(reply: Reply, read: Read) -> Verdict:
    return last_of(_BRACKETS.findall(reply.text[-_LONGEST:]), read, "[[label]]")


def find_pattern(text: str, pattern: str) -> list[str]:
    """Group ``verdict`` of each match, else its first group, else all of it."""
    compiled = re.compile(pattern)
    group: str | int = "verdict" if "verdict" in compiled.groupindex else min(compiled.groups, 1)
    found = (str(match[group] or "").strip() for match in compiled.finditer(text[-_LONGEST:]))
    return [text for text in found if text]  # a pattern such as [A-D]* matches nothing at the end of every text


def read_pattern(reply: Reply, pattern: str, read: Read) -> Verdict:
    return last_of(find_pattern(reply.text, pattern), read, "match of the pattern")


def find_json(text: str, key: str) -> list[str]:
    """The texts and numbers under ``key`` in the JSON objects of a text."""
    values = [value for found in _objects(text[-_LONGEST:]) if (value := _under(found, key)) is not None]
    return [plain_text(value) for value in values if not isinstance(value, bool | dict | list)]


def plain_text(value: object) -> str:
    """A text or number as text: 4 for 4.0, which some programs write for it."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read_json(reply: Reply, key: str, read: Read) -> Verdict:
    """The value under ``key`` in the last JSON object that has it."""
    return last_of(find_json(reply.text, key), read, f"text or number under {key!r} of a JSON object")


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, end, tries = json.JSONDecoder(), 0, 0
    for match in re.finditer(r"\{(?=\s*[\"}])", text):  # not the braces of code and of formulas
        if match.start() < end:
            continue
        tries += 1
        if tries > _MOST_OBJECTS:
            return
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):  # no JSON, numbers of thousands of digits, brackets without end
            continue
        if isinstance(value, dict):
            yield value


def _under(value: dict[str, Any], key: str) -> object:
    if key in value:
        return value[key]
    parts = key.split(".")
    found: object = value
    for part in parts:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def read_tokens(reply: Reply, values: Mapping[str, float]) -> Verdict:
    """The mean of ``values`` (of tokens) by the probabilities of the first token, or the reply's text where the
    endpoint gives none."""
    names = list(values)
    none = f"neither {' nor '.join(names)}" if len(names) == 2 else f"none of {', '.join(names)}"
    # Log-probabilities first: at temperature 1 the sampled token itself is only one draw from them.
    if not reply.first_token:
        text = reply.text.strip().strip("\"'`.*").strip()
        if text in values:
            return Verdict(values[text], None, ("no-logprobs",))
        return Verdict(None, f"the reply is {none}: {reply.text[:40]!r}", ("no-logprobs",))
    highest = 0.0
    # Exact tokens win over those with blanks: " m" may be listed beside "m" and is another token.
    for strip_blanks in (False, True):
        mass = dict.fromkeys(values, 0.0)
        for token, logp in reply.first_token.items():
            name = token.strip() if strip_blanks else token
            if name in mass and not math.isnan(logp):
                mass[name] += math.exp(min(logp, 0.0))
        highest = max(highest, total := sum(mass.values()))
        if total >= LEAST_MASS:
            flags = ("stripped-token",) * strip_blanks + ("little-mass",) * (total < LITTLE_MASS)
            mean = sum(values[name] * share for name, share in mass.items()) / total
            return Verdict(min(max(mean, min(values.values())), max(values.values())), None, flags, min(total, 1.0))
    tokens = ", ".join(repr(token) for token in list(reply.first_token)[:_SHOWN_TOKENS])
    finding = (
        f"{' and '.join(names)} have probability {highest:.1g} together, below {LEAST_MASS:g} (first tokens: "
        f"{tokens}): rounding would decide"
        if highest
        else f"{none} among the first tokens ({tokens})"
    )
    remedy = "set logprobs=false of this judge to read its text, and thinking_tokens if it thinks"
    return Verdict(None, f"{finding}; {remedy}", ("no-mass",))


def number_of_reply(text: str, top: float | None = None) -> float | None:
    """A number as judges write it: ``4``, ``4.5``, ``4/5``, ``4 out of 5``. ``top``: the only whole that it may be
    out of; 4/5 is no grade from 1 to 10."""
    match = _NUMBER.fullmatch(text.strip().strip("*_` ").removesuffix("."))
    if match is None or (match[2] and top is not None and float(match[2]) != top):
        return None
    return float(match[1])
