"""Counts in words, for messages and footnotes: ``1 question``, ``1,319 questions``, ``2 replies``."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``count`` with ``noun`` (given as one of it) in the right number; thousands are separated by commas."""
    if count == 1:
        return f"1 {noun}"
    many = noun[:-1] + "ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else noun + "s"
    return f"{count:,} {many}"
