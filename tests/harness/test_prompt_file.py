"""A user's own prompts: every mistake names the file and the line, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.prompts import load_prompts
from harness.prompts.jsonl import SOURCE, JsonlOptions, read_file
from tests.harness.test_plan import checkpoint, plan

GOOD = b'{"prompt": "a", "golden": "b"}\n'


def test_lines_become_prompts(tmp_path: Path) -> None:
    talk = b'{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u\xe2\x80\xa8v"}], "id": "t"}'
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\n" + talk)
    _, (first, second) = read_file(str(file))
    assert (first.id, first.messages, first.golden) == ("line-1", ({"role": "user", "content": "a"},), "b")
    assert second.id == "t" and second.rejected is None
    assert second.messages[1]["content"] == "u\u2028v", "a line separator inside of a text ends no line"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (b'{"prompt": "caf\xe9"}', "not UTF-8 (byte 16 of the line is 0xe9)"),
        (b'{"prompt": "a", "golden": 5}', '"golden" is 5, not text'),
        (b'{"prompt": "a", "rejected": ["b"]}', "\"rejected\" is ['b'], not text"),
        (b'{"prompt": "a", "id": "line-1"}', "id 'line-1' is that of line 1 too"),
        (b'{"prompt": 5}', "neither text nor a list"),
        (b'{"promt": "a"}', 'there is no "prompt"'),
        (b'{"prompt": "a"', "Expecting ',' delimiter"),
        (b'["a"]', "a list, not an object"),
        (b'{"prompt": []}', "neither text nor a list"),
        (b'{"prompt": " "}', "the prompt is empty"),
        (b'{"prompt": ["a"]}', "a message is 'a'"),
        (b'{"prompt": [{"role": "user", "content": 5}]}', '"content" of a message is 5'),
        (b'{"prompt": [{"role": "assistant", "content": "a"}]}', "not a user turn"),
    ],
)
def test_a_mistake_names_file_and_line_when_the_plan_is_made(line: bytes, part: str, tmp_path: Path) -> None:
    """Line 2 is blank, so the mistake is in line 3."""
    file = tmp_path / "mine.jsonl"
    file.write_bytes(GOOD + b"\n" + line + b"\n")
    with pytest.raises(UserError) as told:
        plan(f"prompts={{source: jsonl, path: {file}}}", rows=("student",))
    assert f"{file}, line 3: " in str(told.value) and part in str(told.value)


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.jsonl").write_bytes(GOOD)
    options = JsonlOptions("~/mine.jsonl")
    identity = SOURCE.pin(options).identity
    (prompt,) = load_prompts(SOURCE, options, identity, seed=0, n=1)
    assert prompt.golden == "b"
    (tmp_path / "mine.jsonl").write_bytes(GOOD + b"\n")
    with pytest.raises(UserError, match="has changed since this run was planned"):
        load_prompts(SOURCE, options, identity, seed=0, n=1)
    family = [f"family.{name}={checkpoint(tmp_path / name, ('a', 'b'))}" for name in ("teacher", "student")]
    made = plan("prompts={source: jsonl, path: ~/mine.jsonl, n: 1}", *family, rows=("student", "dpo"))
    assert made.graph.source.pin.identity["sha256"]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        read_file(str(tmp_path))
