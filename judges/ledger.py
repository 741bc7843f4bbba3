"""The ledger of judge calls: every complete reply, under the hash of all that decided it, in one SQLite file.

Where it comes from: judge caches of other tools are keyed on names and keep failures as verdicts, so an edited prompt
reuses old verdicts and a failed call is never asked again. Here the key is the content and only a reply is a reply.

    with Ledger(Path("runs/x/judge.sqlite")) as ledger:
        stored = ledger.get([request_key(judge.endpoint, judge.model, request)])

WAL mode: readers and a writer of two processes do not block each other. Commits do not wait for the disk
(``synchronous=NORMAL``): kill -9 loses nothing that was committed, a power cut may lose the last commits but never
the file. No request text and no API key is stored.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from harness.errors import UserError
from harness.types import Reply, Request
from judges.stored import Served, StoredBatch

VERSION: Final = 2
"""Of the tables and of the key. A file of another version is refused, not guessed at."""
APPLICATION: Final = 0x64626C67  # "dblg": tells our files from any other SQLite file
BATCH: Final = 64
"""Rows that are buffered at most before they are committed."""
_BUSY_SECONDS: Final = 30.0

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, served TEXT NOT NULL,
    time REAL NOT NULL, reply TEXT NOT NULL, dollars REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replies_time ON replies (time, dollars);
CREATE TABLE IF NOT EXISTS failures (
    key TEXT NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL,
    message TEXT NOT NULL, time REAL NOT NULL);
CREATE INDEX IF NOT EXISTS failures_time ON failures (time);
CREATE TABLE IF NOT EXISTS wanted (
    key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    token TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, id TEXT, keys TEXT NOT NULL,
    dollars REAL, time REAL NOT NULL, closed TEXT) WITHOUT ROWID;
"""
_PUT: Final = """
INSERT INTO replies (key, endpoint, model, served, time, reply, dollars) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) DO NOTHING"""
_FAIL: Final = "INSERT INTO failures (key, endpoint, model, kind, message, time) VALUES (?, ?, ?, ?, ?, ?)"


def request_key(endpoint: str, model: str, request: Request) -> str:
    """sha256 (hex) of the canonical JSON of all that decides the reply. ``question``, ``part`` and ``meta`` do not."""
    content = {
        "endpoint": endpoint,
        "model": model,
        "messages": request.messages,
        "max_tokens": request.max_tokens,
        "temperature": float(request.temperature),
        "top_logprobs": request.top_logprobs,
        "repeat": request.repeat,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


class Ledger:
    """An open ledger. Not for use by several threads; several processes may each open the same file.

    Writes are buffered up to ``BATCH`` rows and until ``flush``; leaving the ``with`` block always flushes.

    Raises:
        UserError: from every method, when the file is not a ledger or SQLite cannot read or write it.
    """

    def __init__(self, path: Path, create: bool = True) -> None:
        self.path = path
        self._replies: dict[str, tuple[str, str, str, str, float, str, float | None]] = {}
        self._failures: list[tuple[str, str, str, str, str, float]] = []
        self._raced: dict[str, Reply] = {}
        if not create and not path.is_file():
            raise UserError(f"there is no judge ledger at {path}; name the .sqlite file that an earlier run wrote.")
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def get(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The stored replies of these keys; keys that have none are left out."""
        query = "SELECT key, reply FROM replies WHERE key IN (SELECT value FROM json_each(?))"
        with self._told():
            rows = self._db.execute(query, [json.dumps(list(keys))]).fetchall()
        return {key: self._read(key, text) for key, text in rows}

    def put(self, key: str, endpoint: str, model: str, reply: Reply, dollars: float | None = None) -> None:
        """Keep a complete reply and what it cost, if that is known. The first reply under a key counts and stays."""
        self._replies[key] = (key, endpoint, model, reply.model, time.time(), _text(reply), dollars)
        if len(self._replies) >= BATCH:
            self._commit()

    def want(self, keys: Iterable[str], endpoint: str, model: str) -> None:
        """Note what is about to be asked, so that ``coverage`` knows what an interrupted run still owes."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            query = "INSERT OR IGNORE INTO wanted (key, endpoint, model) VALUES (?, ?, ?)"
            self._db.executemany(query, [(key, endpoint, model) for key in keys])
            self._db.execute("COMMIT")

    def coverage(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(endpoint, model) to (requests that have a reply, requests ever asked for)."""
        self._commit()
        query = """
            SELECT endpoint, model, SUM(key IN (SELECT key FROM replies)), COUNT(*) FROM wanted
            GROUP BY endpoint, model ORDER BY endpoint, model"""
        with self._told():
            return {(row[0], row[1]): (int(row[2]), int(row[3])) for row in self._db.execute(query)}

    def fail(self, key: str, endpoint: str, model: str, kind: str, message: str) -> None:
        """Note a failed call, for ``status`` only: ``get`` never returns it."""
        self._failures.append((key, endpoint, model, kind, message[:500], time.time()))
        if len(self._failures) >= BATCH:
            self._commit()

    def flush(self) -> dict[str, Reply]:
        """Commit what is buffered.

        Returns:
            The replies that another process stored first under keys that were put here: they count, ours do not.
        """
        self._commit()
        raced, self._raced = self._raced, {}
        return raced

    def served(self) -> list[Served]:
        """What is stored, per endpoint, model and served model id."""
        self._commit()
        query = """
            SELECT endpoint, model, served, COUNT(*), SUM(json_extract(reply, '$.prompt_tokens')),
                SUM(json_extract(reply, '$.completion_tokens')), MIN(time), MAX(time),
                TOTAL(dollars), COUNT(*) - COUNT(dollars)
            FROM replies GROUP BY endpoint, model, served ORDER BY endpoint, model, served"""
        with self._told():
            return [Served(*row) for row in self._db.execute(query)]

    def spent(self, since: float) -> tuple[float, int, int]:
        """(dollars of known cost, calls, replies) by everyone since a time; failed calls are calls too."""
        self._commit()
        with self._told():
            dollars, replies = self._db.execute(
                "SELECT TOTAL(dollars), COUNT(*) FROM replies WHERE time >= ?", [since]
            ).fetchone()
            failed = self._db.execute("SELECT COUNT(*) FROM failures WHERE time >= ?", [since]).fetchone()[0]
        return float(dollars), int(replies) + int(failed), int(replies)

    def failures(self) -> dict[str, int]:
        """Requests without a reply whose last call failed, counted by the kind of that last failure."""
        self._commit()
        query = """
            SELECT kind, COUNT(*) FROM (SELECT kind, MAX(rowid) FROM failures
                WHERE key NOT IN (SELECT key FROM replies) GROUP BY key) GROUP BY kind ORDER BY kind"""
        with self._told():
            return dict(self._db.execute(query).fetchall())

    def open_batch(self, batch: StoredBatch) -> None:
        """Note, before it is made, that a batch job will be; or, with its id, that it was."""
        row = (batch.token, batch.endpoint, batch.model, batch.id, json.dumps(batch.keys), batch.dollars, batch.time)
        with self._told():
            self._db.execute(
                "INSERT OR REPLACE INTO batches (token, endpoint, model, id, keys, dollars, time) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )

    def close_batch(self, token: str, how: str) -> None:
        """A batch job has nothing more to give: ``collected``, or why not."""
        self._commit()
        with self._told():
            self._db.execute("UPDATE batches SET closed = ? WHERE token = ?", [how[:500], token])

    def batches(self) -> list[StoredBatch]:
        """The batch jobs that are not closed, oldest first."""
        query = "SELECT token, endpoint, model, id, keys, dollars, time FROM batches WHERE closed IS NULL ORDER BY time"
        with self._told():
            rows = self._db.execute(query).fetchall()
        return [
            StoredBatch(token, endpoint, model, job, tuple(json.loads(keys)), dollars, made)
            for token, endpoint, model, job, keys, dollars, made in rows
        ]

    def close(self) -> None:
        """Flush and close."""
        try:
            self._commit()
        finally:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UserError):  # the disk is full, say: a second failure to flush would only hide the first
            self._db.close()
        else:
            self.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA synchronous=NORMAL")
        found, version = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        tables = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if (found, version) == (APPLICATION, VERSION):
            return
        if found == APPLICATION:
            raise UserError(
                f"{self.path} is a judge ledger of version {version}, this distilbench reads version {VERSION}; "
                "use the distilbench that wrote it, or name another file (its replies would be asked again)."
            )
        if tables:
            raise UserError(f"{self.path} is an SQLite file of something else, not a judge ledger; name another file.")
        self._wal()
        self._db.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id={APPLICATION}")
        self._db.execute(f"PRAGMA user_version={VERSION}")
        self._db.execute("COMMIT")

    def _wal(self) -> None:
        """Change to WAL, which SQLite refuses at once, without its busy timeout, while another process does it."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _commit(self) -> None:
        if not self._replies and not self._failures:
            return
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                stored = self._db.executemany(_PUT, self._replies.values()).rowcount if self._replies else 0
                if self._failures:
                    self._db.executemany(_FAIL, self._failures)
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        written, self._replies = self._replies, {}
        self._failures = []
        if stored < len(written):
            for key, reply in self.get(written).items():
                if _text(reply) != written[key][5]:
                    self._raced[key] = reply

    def _read(self, key: str, text: str) -> Reply:
        try:
            return Reply(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{self.path}: the reply under {key} cannot be read ({error}); delete that row to have it asked again."
            ) from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"judge ledger {self.path}: {error}. {_remedy(str(error))}") from error


def _text(reply: Reply) -> str:
    return json.dumps(vars(reply), separators=(",", ":"), default=dict)  # ``default``: first_token may be any Mapping


def _remedy(message: str) -> str:
    if "full" in message or "No space" in message:
        return "Free some space and run the same command again: what was committed is kept."
    if "locked" in message:
        return "Another process holds it; wait for that one, or stop it, and run the same command again."
    if "not a database" in message or "malformed" in message:
        return "The file is damaged or not a ledger; move it away (its replies will be asked again)."
    return "Check that the folder exists and that you may write there."
