"""Text helpers: counts with their noun, and text from outside (titles, names of models) made safe to print or store."""

from __future__ import annotations

import json
import re
import signal
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

# JSON can hold half of a character ("\ud83d", of an emoji that was cut); UTF-8 cannot. Such a text can be read, paid
# for and stored, but never written to a file.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

DEEPEST = 100
_DETAIL = re.compile(r"'.*'|\".*\"|\b\w*\d\w*\b", re.DOTALL)


def format_count(count: int, noun: str) -> str:
    """``1 question``, ``1,319 questions``, ``2 replies``."""
    if count == 1:
        return f"1 {noun}"
    plural = noun[:-1] + "ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else noun + "s"
    return f"{count:,} {plural}"


def times(number: object) -> str:
    return "once" if number == 1 else "twice" if number == 2 else f"{number} times"


def replace_surrogates(text: str) -> str:
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def parse_json(text: str | bytes) -> Any:
    """Raises ValueError for all that is not JSON, and for what is nested deeper than code can walk through."""
    with suppress(RecursionError):
        value = json.loads(text)
        level = [value]
        for _ in range(DEEPEST):
            lists = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list)))
            level = [*chain.from_iterable(lists)]
            if not level:
                return value
    raise ValueError(f"nested too deep, more than {DEEPEST} levels")


def replace_in_json(value: Any) -> Any:
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, Mapping):
        return {replace_in_json(key): replace_in_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_in_json(item) for item in value]
    return value


def clean(text: str) -> str:
    """``text`` on one line, with control and invisible formatting characters replaced by U+FFFD."""
    line = " ".join(text.split())
    if line.isascii() and line.isprintable():  # nearly all text: no look at every character
        return line
    return "".join("\ufffd" if unicodedata.category(char).startswith("C") else char for char in line)


def first_of_each_kind(sentences: Sequence[str], most: int = 3) -> list[str]:
    """At most so many of each kind, in their order, and after these how many more there are; one kind differs in
    numbers, ids and quoted text."""
    kinds = [_DETAIL.sub("", sentence) for sentence in sentences]
    counts, seen, lines = Counter(kinds), Counter[str](), list[str]()
    for sentence, kind in zip(sentences, kinds, strict=True):
        seen[kind] += 1
        shown = most if counts[kind] > most + 1 else counts[kind]
        if seen[kind] <= shown:
            lines.append(sentence)
        if seen[kind] == shown < counts[kind]:
            lines.append(f"  ... and {counts[kind] - shown:,} more like this")
    return lines


def percent(share: float) -> str:
    """``91%``, rounded down: 97.9% must not be printed as the 98% that it misses."""
    # 0.29 * 100 is 28.999999999999996: without the small addition it would be printed as 28%
    return f"{int(share * 100 + 1e-9)}%"


def escape_formula(text: str) -> str:
    """``text`` for a CSV field: a spreadsheet runs a cell that starts like a formula unless an apostrophe precedes."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def describe_exit(code: int) -> str:
    """Of a process, from its exit code: negative for a signal."""
    number = -code if code < 0 else code - 128  # a shell's way to write a signal
    try:
        name = f", {signal.Signals(number).name}"
    except ValueError:
        name = ""
    memory = ", most likely because memory ran out" if number == signal.SIGKILL else ""
    return (f"signal {number}" if code < 0 else f"exit code {code}") + name + memory
