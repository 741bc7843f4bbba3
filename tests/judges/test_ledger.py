"""The ledger: what its key holds, that failures are never replies, two processes, kill -9, damaged files."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.types import Reply, Request
from judges.ledger.ledger import BATCH, Ledger, request_key
from judges.ledger.totals import QUERIES, read_totals

REQUEST = Request("q1", "game1", ({"role": "user", "content": "m or M?"},), max_tokens=1, top_logprobs=5)
REPLY = Reply("m", "stop", "served-1", 12, 1, {"m": -0.1, "M": -2.4})
KEY = request_key("http://x/v1", "model", REQUEST)


@pytest.mark.parametrize(
    ("endpoint", "model", "request_"),
    [
        ("http://y/v1", "model", REQUEST),
        ("http://x/v1", "other", REQUEST),
        ("http://x/v1", "model", replace(REQUEST, messages=({"role": "user", "content": "m or M!"},))),
        ("http://x/v1", "model", replace(REQUEST, messages=({"role": "system", "content": "m or M?"},))),
        ("http://x/v1", "model", replace(REQUEST, messages=REQUEST.messages * 2)),
        ("http://x/v1", "model", replace(REQUEST, max_tokens=2)),
        ("http://x/v1", "model", replace(REQUEST, temperature=0.5)),
        ("http://x/v1", "model", replace(REQUEST, top_logprobs=4)),
        ("http://x/v1", "model", replace(REQUEST, repeat=1)),
    ],
    ids=["endpoint", "model", "content", "role", "turns", "max_tokens", "temperature", "top_logprobs", "repeat"],
)
def test_the_key_changes_with_each_thing_that_decides_the_reply(endpoint, model, request_):
    assert request_key(endpoint, model, request_) != KEY


def test_the_key_ignores_labels_key_order_and_the_type_of_zero():
    same = replace(REQUEST, question="q2", part="game2", meta={"swapped": True}, temperature=0)
    same = replace(same, messages=({"content": "m or M?", "role": "user"},))
    assert request_key("http://x/v1", "model", same) == KEY


def test_a_reply_comes_back_equal_also_with_hostile_text(tmp_path):
    hostile = Reply("\ud800 \x00 [[A>B]] '; DROP TABLE replies; --", "length", "m", 1, 2, None)
    with Ledger(tmp_path / "deep" / "l.sqlite") as ledger:
        ledger.put("a", "e", "m", REPLY)
        ledger.put("b", "e", "m", hostile)
    with Ledger(tmp_path / "deep" / "l.sqlite") as ledger:
        assert ledger.get(["b", "a", "missing"]) == {"a": REPLY, "b": hostile}


def test_reads_are_batched_beyond_any_limit_of_variables(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        for number in range(3000):
            ledger.put(f"{number}", "e", "m", REPLY)
        ledger.flush()
        assert len(ledger.get(str(number) for number in range(40_000))) == 3000


def test_at_most_one_batch_is_not_yet_committed(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as writer, Ledger(tmp_path / "l.sqlite") as reader:
        for number in range(BATCH + 1):
            writer.put(f"{number}", "e", "m", REPLY)
        assert len(reader.get(str(number) for number in range(BATCH + 1))) == BATCH


def test_a_failure_is_counted_but_never_returned(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.fail("a", "e", "m", "timeout", "no reply within 1 s")
        ledger.fail("a", "e", "m", "server", "HTTP 500")
        ledger.fail("b", "e", "m", "refused", "filter")
        assert ledger.get(["a", "b"]) == {}
        assert ledger.failures() == {"refused": 1, "server": 1}  # one per request: how its last call ended
        ledger.put("a", "e", "m", REPLY)
        assert ledger.failures() == {"refused": 1}


def test_served_sums_replies_and_tokens_by_model(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.put("a", "e", "m", REPLY)
        ledger.put("b", "e", "m", REPLY)
        ledger.put("c", "e", "m", replace(REPLY, model="served-2"))
        lines = [
            (line.served, line.replies, line.prompt_tokens, line.completion_tokens) for line in ledger.served_models()
        ]
    assert lines == [("served-1", 2, 24, 2), ("served-2", 1, 12, 1)]


def test_the_first_of_two_replies_counts_and_the_second_writer_is_told(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as first, Ledger(tmp_path / "l.sqlite") as two:
        first.put("a", "e", "m", REPLY)
        assert first.flush() == {}
        two.put("a", "e", "m", replace(REPLY, text="M"))
        assert two.flush() == {"a": REPLY}
        assert two.flush() == {}


WRITER = """
import sys, time
from pathlib import Path
from harness.types import Reply
from judges.ledger.ledger import Ledger
with Ledger(Path(sys.argv[1])) as ledger:
    for number in range(int(sys.argv[3])):
        ledger.put(f"{sys.argv[2]}-{number}", "e", "m", Reply("m", "stop", "m", 1, 1))
        ledger.flush()
        if number == 20:
            print("20", flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_write_one_ledger(tmp_path):
    path = tmp_path / "l.sqlite"
    writers = [writer(path, name, 300) for name in ("a", "b")]
    for process in writers:
        process.communicate(timeout=60)
        assert process.returncode == 0
    with Ledger(path) as ledger:
        assert ledger.served_models()[0].replies == 600


def test_kill_9_loses_nothing_that_was_flushed(tmp_path):
    path = tmp_path / "l.sqlite"
    process = writer(path, "a", 10_000_000)
    assert process.stdout is not None
    assert process.stdout.readline() == "20\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    with Ledger(path) as ledger:
        assert len(ledger.get(f"a-{number}" for number in range(21))) == 21


def test_files_that_are_no_ledger_are_named(tmp_path):
    text = tmp_path / "text.sqlite"
    text.write_text("not a database, but long enough to be looked at as one " * 40)
    with pytest.raises(UserError, match=r"text\.sqlite: file is not a database\. .*move it away"):
        Ledger(text)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (a)")
    db.close()
    with pytest.raises(UserError, match="something else"):
        Ledger(other)
    with pytest.raises(UserError, match="no judge ledger"):
        Ledger(tmp_path / "absent.sqlite", create=False)
    assert not (tmp_path / "absent.sqlite").exists()


CLAIMER = """
import sys, time
from pathlib import Path
from judges.ledger.ledger import Ledger
with Ledger(Path(sys.argv[1])) as ledger:
    print(ledger.claim("a", 600), ledger.claim("b", 600), flush=True)
    time.sleep(600)
"""


def test_a_claim_holds_until_its_reply_its_failure_its_time_or_close(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as other:
        with Ledger(tmp_path / "l.sqlite") as first:
            assert first.claim_all("abcde", 600) == list("abcde")
            assert first.claim("a", 600)  # ours already
            assert other.claim_all("abcdef", 600) == ["f"]
            first.put("a", "e", "m", REPLY)
            first.fail("b", "e", "m", "server", "HTTP 500")
            assert not other.claim("b", 600)  # noted, but nobody can see it yet
            first.flush()
            assert not other.claim("a", 600) and other.get(["a"]) == {"a": REPLY}  # it has a reply: nothing to ask
            assert other.claim("b", 600) and not first.claim("b", 600)
            assert first.claim("c", -1) and other.claim("c", 600)  # its time is over
            assert not other.claim("d", 600)
        assert other.claim("d", 600)


def test_the_claims_of_a_killed_process_are_void(tmp_path):
    command = [sys.executable, "-c", CLAIMER, str(tmp_path / "l.sqlite")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "True True\n"
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.claim_all("abc", 600) == ["c"]
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert ledger.claim_all("ab", 600) == ["a", "b"]


def test_another_version_is_refused(tmp_path):
    path = tmp_path / "l.sqlite"
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=9")
    db.close()
    with pytest.raises(UserError, match="version 9, this distilbench reads version 4"):
        Ledger(path)


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_committed(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.put("a", "e", "m", REPLY)
    with pytest.raises(UserError, match=r"full.*Free some space"), Ledger(path) as ledger:  # noqa: PT012
        # SQLite reports a file that may not grow exactly as it reports a full disk.
        ledger._db.execute("PRAGMA max_page_count=1")
        ledger.put("b", "e", "m", replace(REPLY, text="x" * 100_000))
        ledger.flush()
    with Ledger(path) as ledger:
        assert ledger.get(["a", "b"]) == {"a": REPLY}


def test_a_damaged_row_is_asked_again_by_a_run_and_named_by_a_reader(tmp_path, caplog):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.put("a", "e", "m", REPLY)
        ledger.put("b", "e", "m", REPLY)
        ledger.flush()
        ledger._db.execute("UPDATE replies SET reply = '{\"text\":' WHERE key = 'a'")
    with (
        Ledger(tmp_path / "l.sqlite", create=False) as reader,
        pytest.raises(UserError, match="reply under a cannot be read"),
    ):
        reader.get(["a"])
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.get(["a", "b"]) == {"b": REPLY}
        assert "1 reply" in caplog.text
        assert ledger.claim("a", 5)
        ledger.put("a", "e", "m", REPLY)
        ledger.flush()
        assert ledger.get(["a"]) == {"a": REPLY}


@pytest.mark.parametrize(
    "change",
    [
        "reply = replace(reply, '\"m\",\"finish', '\"M\",\"finish')", "reply = replace(reply, '-0.1', '-9.1')",
        "endpoint = 'http://y/v1'", "dollars = 0", "time = 5.0", "served = 'other'",
    ],
)  # fmt: skip
def test_a_reply_that_was_changed_inside_valid_json_is_no_reply(change, tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.put(KEY, "http://x/v1", "model", REPLY, 0.5)
        ledger.flush()
        assert ledger.get([KEY]) == {KEY: REPLY}
        assert ledger._db.execute(f"UPDATE replies SET {change}").rowcount == 1  # noqa: S608
    with Ledger(path, create=False) as reader, pytest.raises(UserError, match="it is not what was stored"):
        reader.get([KEY])
    with Ledger(path) as ledger:
        assert ledger.get([KEY]) == {}


def test_a_reply_without_a_checksum_is_refused(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.put(KEY, "http://x/v1", "model", REPLY)
        ledger.flush()
        ledger._db.execute("UPDATE replies SET reply = json_remove(reply, '$.checksum')")
    with Ledger(path, create=False) as ledger, pytest.raises(UserError, match=f"the reply under {KEY} cannot be read"):
        ledger.get([KEY])
    with Ledger(path) as ledger:
        assert ledger.get([KEY]) == {}, "it is asked for again"


def test_requests_are_kept_whole_and_a_changed_one_is_named(tmp_path):
    hostile = replace(REQUEST, messages=({"role": "user", "content": "\ud800 \x00 é" * 3000},))
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.note_requests([REQUEST, hostile], "http://x/v1", "model")
        assert tuple(ledger.requests([KEY])[KEY]["messages"]) == REQUEST.messages
        other = request_key("http://x/v1", "model", hostile)
        assert tuple(ledger.requests([other])[other]["messages"]) == hostile.messages
        sizes = [size for (size,) in ledger._db.execute("SELECT LENGTH(content) FROM requests")]
        assert max(sizes) < 1000
        ledger._db.execute("UPDATE requests SET content = (SELECT content FROM requests WHERE key = ?)", [other])
        with pytest.raises(UserError, match=f"the request under {KEY} is not what was sent"):
            ledger.requests([KEY])


def test_a_ledger_in_a_folder_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite would make its files beside the ledger."""
    path = tmp_path / "ledger #1.sqlite"
    with Ledger(path) as ledger:
        ledger.put("k", "there", "m", Reply("[[7]]", "stop", "m", 1, 1))
    monkeypatch.setattr(os, "access", lambda *args: False)
    with Ledger(path, create=False) as ledger:
        assert ledger.get(["k"])["k"].text == "[[7]]"
        assert ledger.requests(["k"]) == {}
        assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_totals_are_what_counting_gives(tmp_path: Path) -> None:
    """Kept as rows are added, whoever adds them; counted again where a reply was deleted."""
    path = tmp_path / "l.sqlite"

    def check(name: str, replies: int, requests: int) -> None:
        with Ledger(path, create=False) as ledger:
            kept = {table: read_totals(ledger._db, table) for table in QUERIES}
            counted = {
                table: ledger._db.execute(f"{query} ORDER BY 1, 2, 3").fetchall() for table, query in QUERIES.items()
            }
            assert kept == counted, name
            assert sum(line.replies for line in ledger.served_models()) == replies, name
            assert ledger.coverage()["http://x/v1", "m"] == (replies - 1, requests), name

    requests = [replace(REQUEST, question=f"q{number}", repeat=number) for number in range(8)]
    keys = [request_key("http://x/v1", "m", request) for request in requests]
    with Ledger(path) as ledger:
        ledger.note_requests(requests, "http://x/v1", "m")
        for number, key in enumerate(keys[:5]):
            served, tokens, dollars = f"m-{number % 2}", 7 * (number % 3), None if number == 4 else 0.25 * number
            ledger.put(key, "http://x/v1", "m", replace(REPLY, model=served, prompt_tokens=tokens), dollars)
        ledger.put("never noted", "http://x/v1", "m", REPLY, 1.0)
        ledger.fail(keys[6], "http://x/v1", "m", "server", "", 1.0)
    check("new", 6, 8)
    with Ledger(path) as ledger:  # a reply that is there, a request that is there, and one whose reply is there
        ledger.put(keys[0], "http://x/v1", "m", REPLY, 9.0)
        ledger.note_requests(requests, "http://x/v1", "m")
    check("twice", 6, 8)
    with Ledger(path) as ledger:
        ledger._db.execute("UPDATE replies SET served = 'another' WHERE key = ?", [keys[0]])
        assert ledger.get(keys[:1]) == {}
        ledger.put(keys[0], "http://x/v1", "m", REPLY, 2.0)
    check("deleted and asked again", 6, 8)
    with Ledger(path) as ledger:
        ledger._db.execute("DELETE FROM replies WHERE key = ?", [keys[1]])
    with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True) as db:
        assert sum(row[3] for row in read_totals(db, "served_totals")) == 5, "counted where they cannot be kept"
    check("deleted", 5, 8)
