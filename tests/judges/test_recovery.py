"""A damaged ledger is recovered: replies on whole pages are kept, wherever the damage is."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.types import Reply, Request
from judges.ledger.ledger import Ledger, StoredBatch, request_key
from judges.ledger.recovery import page_rows, recover_ledger

PAGE = 4096
COUNT = 400


def question(number: int) -> Request:
    return Request("q", "turn1", ({"role": "user", "content": f"{number} µ"},), max_tokens=1)


def key(number: int) -> str:
    return request_key("there", "m", question(number))


def reply(number: int) -> Reply:
    # every tenth is longer than a page
    return Reply(f"{number} µ " * (3 if number % 10 else 2000), "stop", "served", number, 1, {"m": -0.5})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.note_requests([question(number) for number in range(COUNT + 5)], "there", "m")
        for number in range(COUNT):
            ledger.put(key(number), "there", "m", reply(number), number / 4)
        for number in range(COUNT, COUNT + 5):
            ledger.fail(key(number), "there", "m", "timeout", "late", 2.0)
        ledger.open_batch(StoredBatch("token", "there", "m", "job", (key(1),), None, 5.0))
    return path.read_bytes()


def kept(path: Path) -> int:
    """How many replies there are, each as it was."""
    with Ledger(path) as ledger:
        replies = ledger.get([key(number) for number in range(COUNT)])
        requests = ledger.requests([key(number) for number in range(COUNT)])
    assert len(requests) > COUNT - 200
    assert all(
        requests[key(number)]["messages"] == list(question(number).messages)
        for number in range(COUNT)
        if key(number) in requests
    )
    assert all(replies[key(number)] == reply(number) for number in range(COUNT) if key(number) in replies)
    return len(replies)


def test_a_sound_ledger_is_left_alone(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    assert recover_ledger(path) is None
    path.write_bytes(whole)
    assert recover_ledger(path) is None and path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_table_of_statistics_is_no_damage(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ANALYZE")
    assert recover_ledger(path) is None and kept(path) == COUNT


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("not a ledger " * 1000)
    assert recover_ledger(path) is None and path.read_text() == "not a ledger " * 1000
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_pages_alone_hold_every_row(whole: bytes) -> None:
    rows = list(page_rows(whole))
    tables = [table for table, _ in rows]
    assert {table: tables.count(table) for table in set(tables)} == {
        "replies": COUNT, "failures": 5, "wanted": COUNT + 5, "batches": 1, "requests": COUNT + 5
    }  # fmt: skip


@pytest.mark.parametrize("name", ["header", "first page", "root", "some leaves", "cut short", "zeros", "bits"])
def test_a_damaged_page_costs_only_its_own_replies(whole: bytes, tmp_path: Path, name: str) -> None:
    path, content, rng = tmp_path / "ledger.sqlite", bytearray(whole), random.Random(name)
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as db:
        ((root,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'replies'").fetchall()
    pages = len(whole) // PAGE
    leaves = [page for page in range(pages) if content[page * PAGE] == 10 and page + 1 != root]

    def spoil(start: int, length: int) -> None:
        content[start : start + length] = rng.randbytes(length)

    least = COUNT
    if name == "header":
        spoil(0, 16)
    elif name == "first page":
        spoil(0, PAGE)
    elif name == "root":  # its own rows are lost, those below it are not
        spoil((root - 1) * PAGE, PAGE)
        least = COUNT - 40
    elif name == "some leaves":
        for page in rng.sample(leaves, 3):
            spoil(page * PAGE, PAGE)
        least = COUNT - 80
    elif name == "cut short":
        del content[-5 * PAGE - 100 :]
        least = COUNT - 120
    elif name == "zeros":
        page = rng.choice(leaves)
        content[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
        least = COUNT - 40
    else:
        for page in rng.sample(leaves, 2):
            spoil(page * PAGE, 12)
        least = COUNT - 80
    path.write_bytes(content)
    said = recover_ledger(path)
    assert said and "was damaged" in said and "ledger.sqlite.damaged-1" in said
    assert least <= kept(path) <= COUNT and f"{kept(path)} replies" in said
    assert (tmp_path / "ledger.sqlite.damaged-1").read_bytes() == content, "nothing is thrown away"
    assert recover_ledger(path) is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ledger.sqlite", "ledger.sqlite.damaged-1"]
    with Ledger(path) as ledger:
        assert ledger.coverage().keys() <= {("there", "m")}
        assert ledger.served_models()[0].dollars <= sum(range(COUNT)) / 4
        ledger.put(key(-1), "there", "m", reply(1))


@pytest.mark.parametrize(
    ("old", "new", "reads"),
    [
        (b"replies_time", b"repl\xffes_time", False), (b"CREATE TABLE claims", b"CREATE TABL\x80 claims", False),
        (b"dollars REAL, time REAL NOT NULL, closed", b"dolla\xfes REAL, time REAL NOT NULL, closed", True),
        (b"message TEXT NOT NULL", b"massage TEXT NOT NULL", True),
        (b"prompt_tokens INTEGER", b"prompt_pokens INTEGER", True),
        (b"TRIGGER reply_added AFTER", b"TRIGGER reply_added BEFOR", False),
        (b"SQLite format 3\0\x10\0\x02\x02", b"SQLite format 3\0\x10\0\x09\x09", False),
    ],
)  # fmt: skip
def test_damaged_statements_of_the_tables_cost_no_reply(
    whole: bytes, tmp_path: Path, old: bytes, new: bytes, reads: bool
) -> None:
    """SQLite takes another name of a column; an error that quotes a name of no UTF-8 is a UnicodeDecodeError."""
    path = tmp_path / "ledger.sqlite"
    content = whole.replace(old, new, 1)
    assert content != whole and len(content) == len(whole)
    path.write_bytes(content)
    outcome = nullcontext() if reads else pytest.raises(UserError, match="It is damaged")
    with outcome, Ledger(path, create=False) as ledger:
        assert ledger.served_models()
    assert f"was damaged: {COUNT} replies could be read" in str(recover_ledger(path))
    assert kept(path) == COUNT and recover_ledger(path) is None


def test_random_damage_never_ends_in_a_traceback(whole: bytes, tmp_path: Path) -> None:
    rng = random.Random(5)
    for trial in range(8):
        path, content = tmp_path / f"{trial}.sqlite", bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            start, length = rng.randrange(len(content)), rng.choice((1, 40, 4000))
            content[start : start + length] = rng.randbytes(length)
        path.write_bytes(content)
        recover_ledger(path)
        with Ledger(path) as ledger:
            assert len(ledger.get([key(number) for number in range(COUNT)])) > COUNT - 150


def test_a_damaged_ledger_that_another_process_has_open_is_not_touched(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(whole[:-PAGE] + b"\xff" * PAGE)
    before = path.read_bytes()
    with Ledger(path), pytest.raises(UserError, match="another process has it open"):
        recover_ledger(path)
    assert path.read_bytes() == before
    assert recover_ledger(path)


def test_what_was_written_last_is_kept_too(whole: bytes, tmp_path: Path) -> None:
    """A kill leaves replies in the file beside the ledger (-wal)."""
    path, killed = tmp_path / "ledger.sqlite", tmp_path / "killed.sqlite"
    path.write_bytes(whole)
    with Ledger(path) as ledger:
        ledger.put(key(COUNT), "there", "m", reply(COUNT))
        ledger.flush()
        killed.write_bytes(path.read_bytes())
        killed.with_name("killed.sqlite-wal").write_bytes(path.with_name("ledger.sqlite-wal").read_bytes())
    content = bytearray(killed.read_bytes())
    page = next(page for page in range(2, len(content) // PAGE) if content[page * PAGE] == 10)
    content[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    killed.write_bytes(content)
    if recover_ledger(killed):
        with Ledger(killed) as ledger:
            assert ledger.get([key(COUNT)]) == {key(COUNT): reply(COUNT)}
    else:
        pytest.fail("the damage was not seen")
