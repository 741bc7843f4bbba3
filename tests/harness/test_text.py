"""Counts in words; and half characters, which JSON can hold and UTF-8 cannot, never stop a file from being written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records import read_records, write_records
from harness.text import format_count, replace_in_json, replace_surrogates
from harness.types import Answer

HALF = json.loads('"cut \\ud83d"')
"""The first half of an emoji, as a reply that ended at its token limit leaves it."""


def answer(text: str, **meta: object) -> Answer:
    return Answer("q", (text,), (True,), (1,), meta)


def test_half_characters_become_the_sign_for_a_lost_one_and_whole_ones_stay() -> None:
    assert replace_surrogates(HALF) == "cut \ufffd"
    assert replace_surrogates("\udc00 caf\u00e9 \U0001f600 \u2028") == "\ufffd caf\u00e9 \U0001f600 \u2028"
    assert replace_in_json({HALF: [HALF, {"a": (HALF, 1, None, 0.5)}]}) == {
        "cut \ufffd": ["cut \ufffd", {"a": ["cut \ufffd", 1, None, 0.5]}]
    }


def test_records_with_half_characters_are_written_and_read(tmp_path: Path) -> None:
    assert write_records(tmp_path / "a.jsonl", [answer(HALF), answer("whole")]) == 2
    assert [each.turns for each in read_records(tmp_path / "a.jsonl", Answer)] == [("cut \ufffd",), ("whole",)]


def test_records_of_others_may_hold_half_characters_as_escapes(tmp_path: Path) -> None:
    row = {"question": "q", "turns": ["cut \ud83d, \U0001f600, C:\\ud83d"], "finished": [True], "tokens": [1]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")  # ASCII: "\ud83d" stands there as an escape
    assert read_records(tmp_path / "a.jsonl", Answer)[0].turns == ("cut \ufffd, \U0001f600, C:\\ud83d",)


def test_records_that_are_no_utf_8_are_one_message(tmp_path: Path) -> None:
    write_records(tmp_path / "a.jsonl", [answer("x" * 20_000), answer("caf\u00e9")])
    content = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(content.replace("\u00e9".encode(), b"\xe9"))  # as Latin-1 has it
    with pytest.raises(UserError, match=r"a\.jsonl is not UTF-8 text behind line \d \(invalid continuation byte\)"):
        read_records(tmp_path / "a.jsonl", Answer)


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    """The second record holds NaN, which is no JSON: nothing is left of the first one either."""
    records = [answer("fine"), answer("bad", mark=float("nan"))]
    with pytest.raises(ValueError, match="JSON compliant"):
        write_records(tmp_path / "a.jsonl", records)
    assert list(tmp_path.iterdir()) == []
    write_records(tmp_path / "a.jsonl", [answer("before")])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_records(tmp_path / "a.jsonl", records)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    assert read_records(tmp_path / "a.jsonl", Answer)[0].turns == ("before",)


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
    assert format_count(count, noun) == text
