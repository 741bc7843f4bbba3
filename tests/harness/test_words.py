"""Counts in words."""

import pytest

from harness.text import counted


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "question", "0 questions"),
        (1, "question", "1 question"),
        (1319, "question", "1,319 questions"),
        (1, "reply", "1 reply"),
        (2, "reply", "2 replies"),
        (2, "day", "2 days"),
    ],
)
def test_one_and_many(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
