"""The ledger of judge calls: every complete reply, under the hash of all that decided it, in one SQLite file.

WAL mode: readers and a writer of two processes do not block each other. Commits do not wait for the disk
(``synchronous=NORMAL``): kill -9 loses nothing that was committed, a power cut may lose the last commits but never
the file. Each reply has a checksum; the key of a request, which is kept compressed, is its own. No API key is stored.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

import psutil

from harness.errors import UserError
from harness.text import format_count, replace_surrogates
from harness.types import Reply, Request
from judges.ledger.totals import STATEMENTS, read_totals

log = logging.getLogger(__name__)

BATCH: Final = 64  # rows that are buffered at most before they are committed
VERSION: Final = 4  # of the tables and of the key; a file of any other version is refused
APPLICATION: Final = 0x64626C67  # "dblg": tells our files from any other SQLite file
BUSY_SECONDS: Final = 30.0
SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite3 raises for a damaged file: an error that quotes a damaged name of a table may be no UTF-8."""

TABLES: Final = """
CREATE TABLE IF NOT EXISTS requests (key TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, served TEXT NOT NULL,
    time REAL NOT NULL, reply TEXT NOT NULL, dollars REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replies_time ON replies (time, dollars);
CREATE TABLE IF NOT EXISTS failures (
    key TEXT NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL,
    message TEXT NOT NULL, time REAL NOT NULL, dollars REAL);
CREATE INDEX IF NOT EXISTS failures_time ON failures (time);
CREATE TABLE IF NOT EXISTS wanted (
    key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    token TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, id TEXT, keys TEXT NOT NULL,
    dollars REAL, time REAL NOT NULL, closed TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
"""
_PUT_REPLY: Final = """
INSERT INTO replies (key, endpoint, model, served, time, reply, dollars) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) DO NOTHING"""
_FAIL: Final = """
INSERT INTO failures (key, endpoint, model, kind, message, time, dollars) VALUES (?, ?, ?, ?, ?, ?, ?)"""
_CLAIM: Final = """
INSERT INTO claims (key, owner, until) SELECT :key, :owner, :until
    WHERE NOT EXISTS (SELECT 1 FROM replies WHERE key = :key)
    ON CONFLICT (key) DO UPDATE SET owner = :owner, until = :until WHERE claims.until < :now OR claims.owner = :owner"""


@dataclass(frozen=True)
class ServedModel:
    """What the ledger holds of one judge: the ``model`` asked for and the one that the endpoint says it served.

    ``first`` and ``last`` are times of replies, seconds since 1970. ``dollars`` leave out the ``unpriced_replies``; the
    cost of ``estimated_replies`` is estimated from their texts, because the endpoint did not count tokens.
    """

    endpoint: str
    model: str
    served: str
    replies: int
    prompt_tokens: int
    completion_tokens: int
    first: float
    last: float
    dollars: float
    unpriced_replies: int
    estimated_replies: int


@dataclass(frozen=True)
class StoredBatch:
    """A batch job handed to an endpoint; ``dollars`` is an estimate.

    Our ``token`` is written into it: a job whose ``id``, the endpoint's, was never noted can be found again.
    """

    token: str
    endpoint: str
    model: str
    id: str | None
    keys: tuple[str, ...]
    dollars: float | None
    time: float


def request_content(endpoint: str, model: str, request: Request) -> bytes:
    """Canonical JSON of all that decides the reply. ``question``, ``part`` and ``meta`` do not."""
    content = {name: getattr(request, name) for name in ("messages", "max_tokens", "top_logprobs", "repeat")}
    content |= {"endpoint": endpoint, "model": model, "temperature": float(request.temperature)}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")


def request_key(endpoint: str, model: str, request: Request) -> str:
    """sha256 (hex) of ``request_content``."""
    return hashlib.sha256(request_content(endpoint, model, request)).hexdigest()


def read_reply(row: Sequence[Any]) -> Reply:
    """Of a row of ``replies``. Raises ValueError or TypeError where it is not what was stored."""
    content = json.loads(row[5])
    if content.pop("checksum", None) != row_checksum(row, content):
        raise ValueError("it is not what was stored")
    return Reply(**content | {"flags": tuple(content.get("flags", ()))})


def row_checksum(row: Sequence[Any], content: Mapping[str, object]) -> str:
    """Of a whole row, whose reply is ``content``, but for this checksum itself."""
    reply = {name: value for name, value in content.items() if name != "checksum"}
    # SQLite's pages hold 1.0 as the integer 1
    numbers = [None if number is None else float(number) for number in (row[4], row[6])]
    return hashlib.sha256(json.dumps([*row[:4], *numbers, reply], sort_keys=True).encode()).hexdigest()


def read_request(key: str, content: bytes) -> dict[str, Any]:
    """Raises ValueError where it is not what was stored."""
    try:
        text = zlib.decompress(content)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if hashlib.sha256(text).hexdigest() != key:
        raise ValueError("its key is not its hash")
    request: dict[str, Any] = json.loads(text)
    return request


class Ledger:
    """An open ledger, for one thread; several processes may each open the same file. Leaving ``with`` flushes.

    Each method raises UserError when the file is not a ledger or SQLite cannot read or write it.
    """

    def __init__(self, path: Path, create: bool = True) -> None:
        self.path, self._is_asked = path, create
        self._replies: dict[str, tuple[object, ...]] = {}
        self._failures: list[tuple[object, ...]] = []
        self._earlier_replies: dict[str, Reply] = {}
        self._owner = f"{os.getpid()} {uuid.uuid4().hex}"
        self._has_claims = False
        if not create and not path.is_file():
            raise UserError(f"there is no judge ledger at {path}; name the .sqlite file that an earlier run wrote.")
        with self._sqlite_errors(), ExitStack() as copies, ExitStack() as on_error:
            name = str(path)
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            elif not os.access(path.parent, os.W_OK):
                # SQLite makes files beside a ledger that it reads, unless it is told that nobody can change it.
                wal, index = (path.with_name(f"{path.name}-{ending}") for ending in ("wal", "shm"))
                immutability, file = "" if wal.exists() else "&immutable=1", path.absolute()
                if wal.exists() and not index.exists():  # the newest replies, which it can only read with an index
                    folder = Path(copies.enter_context(TemporaryDirectory()))
                    file = folder / path.name
                    for source in (path, wal):
                        shutil.copyfile(source, folder / source.name)
                name = f"{file.as_uri()}?mode=ro{immutability}"
            self._db = sqlite3.connect(name, timeout=BUSY_SECONDS, isolation_level=None, uri=name != str(path))
            on_error.callback(self._db.close)
            self._db.text_factory = partial(str, encoding="utf-8", errors="replace")
            _prepare(self._db, path)
            on_error.pop_all()

    def get(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The stored replies; keys that have none are left out."""
        # as bytes: a damaged text may be no UTF-8, and must count as unreadable
        query = (
            "SELECT key, endpoint, model, served, time, CAST(reply AS BLOB), dollars FROM replies "
            "WHERE key IN (SELECT value FROM json_each(?))"
        )
        with self._sqlite_errors():
            rows = self._db.execute(query, [json.dumps(list(keys))]).fetchall()
        replies, unreadable_keys = {}, []
        for key, *columns in rows:
            try:
                replies[key] = read_reply((key, *columns))
            except (ValueError, TypeError, AttributeError) as error:
                if not self._is_asked:
                    raise UserError(
                        f"{self.path}: the reply under {key} cannot be read ({error}). A run that needs it asks again."
                    ) from error
                unreadable_keys.append(key)
        if unreadable_keys:
            count = format_count(len(unreadable_keys), "reply")
            log.warning("%s: damaged, so that it is asked again: %s", self.path, count)
            query = "DELETE FROM replies WHERE key IN (SELECT value FROM json_each(?))"
            with self._sqlite_errors():
                self._db.execute(query, [json.dumps(unreadable_keys)])
        return replies

    def requests(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What was sent, as ``request_content`` holds it."""
        query, found = "SELECT key, content FROM requests WHERE key IN (SELECT value FROM json_each(?))", {}
        for key, content in self._run(query, json.dumps(list(keys))):
            try:
                found[key] = read_request(key, content)
            except (ValueError, TypeError) as error:
                raise UserError(f"{self.path}: the request under {key} is not what was sent ({error}).") from error
        return found

    def put(self, key: str, endpoint: str, model: str, reply: Reply, dollars: float | None = None) -> None:
        """Keep a complete reply. The first one under a key counts and stays."""
        # ``request`` is the key of the row itself; ``default``: first_token may be any Mapping.
        content = {name: value for name, value in vars(reply).items() if name != "request"}
        content = json.loads(json.dumps(content, default=dict))
        row = (key, endpoint, model, replace_surrogates(reply.model), time.time(), "", dollars)
        text = json.dumps({**content, "checksum": row_checksum(row, content)}, separators=(",", ":"))
        self._replies[key] = (*row[:5], text, dollars)
        if len(self._replies) >= BATCH:
            self._commit()

    def note_requests(self, requests: Iterable[Request], endpoint: str, model: str) -> None:
        """Keep what is about to be asked; ``coverage`` knows from it what an interrupted run still owes."""
        contents = [request_content(endpoint, model, request) for request in requests]
        rows = [(hashlib.sha256(content).hexdigest(), zlib.compress(content)) for content in contents]
        query = "INSERT OR IGNORE INTO wanted (key, endpoint, model) VALUES (?, ?, ?)"
        with self._transaction():
            self._db.executemany(query, [(key, endpoint, model) for key, _ in rows])
            self._db.executemany("INSERT OR REPLACE INTO requests (key, content) VALUES (?, ?)", rows)

    def coverage(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(endpoint, model) to (requests that have a reply, requests ever asked for)."""
        rows = self._totals("asked_totals")
        return {(endpoint, model): (int(reply_count), int(total)) for endpoint, model, reply_count, total in rows}

    def fail(self, key: str, endpoint: str, model: str, kind: str, message: str, dollars: float | None = None) -> None:
        """Note a failed call and what it cost, for ``status`` and budgets only: ``get`` never returns it."""
        self._failures.append((key, endpoint, model, kind, replace_surrogates(message[:500]), time.time(), dollars))
        if len(self._failures) >= BATCH:
            self._commit()

    def claim(self, key: str, seconds: float) -> bool:
        """Say that we are about to ask this, for ``seconds``. ``False``: it has a reply, or another process asks it."""
        self._has_claims = True
        now = time.time()
        values = {"key": key, "owner": self._owner, "until": now + seconds, "now": now}
        with self._sqlite_errors():
            if self._db.execute(_CLAIM, values).rowcount > 0:
                return True
            row = self._db.execute("SELECT owner FROM claims WHERE key = ?", [key]).fetchone()
            # A killed process cannot give its claims back; without this a rerun would wait for their time to end.
            if row is None or psutil.pid_exists(int(row[0].split()[0])):
                return False
            self._db.execute("DELETE FROM claims WHERE owner = ?", [row[0]])
            return self._db.execute(_CLAIM, values).rowcount > 0

    def claim_all(self, keys: Iterable[str], seconds: float) -> list[str]:
        with self._transaction():
            return [key for key in keys if self.claim(key, seconds)]

    def flush(self) -> dict[str, Reply]:
        """Commit. Returns the replies that another process stored first under our keys: they count, ours do not."""
        self._commit()
        earlier_replies, self._earlier_replies = self._earlier_replies, {}
        return earlier_replies

    def served_models(self) -> list[ServedModel]:
        return [ServedModel(*row) for row in self._totals("served_totals")]

    def spending(self, since: float) -> tuple[float, int, int]:
        """(dollars of known cost, calls, calls of known cost) by everyone since a time, failed calls among them."""
        ((dollars, calls, priced_calls),) = self._run(
            """
            SELECT TOTAL(dollars), COUNT(*), COUNT(dollars) FROM (SELECT dollars FROM replies WHERE time >= ?1
                UNION ALL SELECT dollars FROM failures WHERE time >= ?1)""",
            since,
        )
        return float(dollars), int(calls), int(priced_calls)

    def latest(self, count: int, since: float = 0.0) -> list[str]:
        """Keys of the newest replies, newest first."""
        query = "SELECT key FROM replies WHERE time >= ? ORDER BY time DESC LIMIT ?"
        return [str(key) for (key,) in self._run(query, since, count)]

    def keys(self, start: str) -> list[str]:
        """Up to two keys of requests that begin with ``start`` (hex digits): one is an answer, two are too many."""
        query = "SELECT key FROM requests WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 2"
        return [str(key) for (key,) in self._run(query, start, f"{start}g")]

    def failed_cost(self) -> tuple[float, int]:
        """(dollars, calls) that were charged for and gave nothing to read."""
        ((dollars, calls),) = self._run("SELECT TOTAL(dollars), COUNT(*) FROM failures WHERE dollars > 0")
        return float(dollars), int(calls)

    def failures(self) -> dict[str, int]:
        """Requests without a reply whose last call failed, counted by the kind of that last failure."""
        return dict(
            self._run("""
            SELECT kind, COUNT(*) FROM (SELECT kind, MAX(rowid) FROM failures
                WHERE key NOT IN (SELECT key FROM replies) GROUP BY key) GROUP BY kind ORDER BY kind""")
        )

    def open_batch(self, batch: StoredBatch) -> None:
        """Note, before it is made, that a batch job will be; or, with its id, that it was."""
        row = {**vars(batch), "keys": json.dumps(batch.keys)}
        statement = "INSERT OR REPLACE INTO batches (token, endpoint, model, id, keys, dollars, time)"
        self._run(statement + " VALUES (?, ?, ?, ?, ?, ?, ?)", *row.values())

    def close_batch(self, token: str, outcome: str) -> None:
        """``outcome``: ``collected``, or why not."""
        # what it brought is committed first: a kill in between must not leave its replies behind
        self._run("UPDATE batches SET closed = ? WHERE token = ?", outcome[:500], token)

    def batches(self) -> list[StoredBatch]:
        rows = self._run(
            "SELECT token, endpoint, model, id, keys, dollars, time FROM batches WHERE closed IS NULL ORDER BY time"
        )
        return [
            StoredBatch(token, endpoint, model, job, tuple(json.loads(keys)), *columns)
            for token, endpoint, model, job, keys, *columns in rows
        ]

    def close(self) -> None:
        try:
            self._commit()
            if self._has_claims:
                with self._sqlite_errors():
                    self._db.execute("DELETE FROM claims WHERE owner = ?", [self._owner])
        finally:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UserError):  # the disk is full, say: a second failure to flush would only hide the first
            self._db.close()
        else:
            self.close()

    def _commit(self) -> None:
        if not self._replies and not self._failures:
            return
        # Replies, failures and their claims in one transaction: no reader sees one without the other.
        with self._transaction():
            stored_count = self._db.executemany(_PUT_REPLY, self._replies.values()).rowcount if self._replies else 0
            self._db.executemany(_FAIL, self._failures)
            if self._has_claims:
                claims = [(key, self._owner) for key in {*self._replies, *(row[0] for row in self._failures)}]
                self._db.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", claims)
        replies, self._replies, self._failures = self._replies, {}, []
        # Fewer rows were stored than written: for some keys another process had a reply first, and that one counts.
        if stored_count < len(replies):
            counts = self.get(replies).items()
            self._earlier_replies |= {key: reply for key, reply in counts if reply != read_reply(replies[key])}

    def _run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        self._commit()  # what is buffered counts too
        with self._sqlite_errors():
            return self._db.execute(statement, values).fetchall()

    def _totals(self, name: str) -> list[tuple[Any, ...]]:
        self._commit()
        with self._sqlite_errors():
            return read_totals(self._db, name)

    @contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        try:
            yield
        except (*SQLITE_ERRORS, OSError) as error:
            message = "a name in it is no text" if isinstance(error, UnicodeDecodeError) else str(error)
            raise UserError(f"judge ledger {self.path}: {message}. {_remedy(error)}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # The connection's own context commits, or rolls back on an error.
        with self._sqlite_errors(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.execute("PRAGMA synchronous=NORMAL")
    if not _is_ledger(db, path):
        _enter_wal(db)
        with db:
            db.execute("BEGIN IMMEDIATE")
            if not _is_ledger(db, path):  # again: another process may have been quicker
                make_tables(db)


def make_tables(db: sqlite3.Connection) -> None:
    for statement in (*TABLES.split(";"), *STATEMENTS):
        db.execute(statement)
    db.execute(f"PRAGMA application_id={APPLICATION}")
    db.execute(f"PRAGMA user_version={VERSION}")


def _is_ledger(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is a ledger; ``False`` for a new file. Raises UserError for any other."""
    # One statement, so that all three are of one moment: another process may be making the tables.
    application, version, tables = db.execute(
        "SELECT application_id, user_version, (SELECT COUNT(*) FROM sqlite_master) "
        "FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if application == APPLICATION and version != VERSION:
        raise UserError(
            f"{path} is a judge ledger of version {version}, this distilbench reads version {VERSION}; name a new file."
        )
    if application != APPLICATION and (application or tables):
        raise UserError(f"{path} is an SQLite file of something else, not a judge ledger; name another file.")
    return bool(application == APPLICATION)


def _enter_wal(db: sqlite3.Connection) -> None:
    """Change to WAL, which SQLite refuses at once, without its busy timeout, while another process does it."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _remedy(error: Exception) -> str:
    message = str(error)
    if "full" in message or "No space" in message:
        return "Free some space and run the same command again: what was committed is kept."
    if "locked" in message:
        return "Another process holds it; wait for that one, or stop it, and run the same command again."
    if isinstance(error, OSError) or any(said in message for said in ("unable to open", "readonly", "disk I/O error")):
        return "Check that the folder exists and that you may write there."
    return "It is damaged or not a ledger. A run with stages to do recovers what can be read; else move it away."
