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
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from harness.errors import UserError
from harness.text import mend
from harness.types import Reply, Request
from judges.ledger.records import Served, StoredBatch
from judges.ledger.schema import BUSY_SECONDS, prepare

BATCH: Final = 64
"""Rows that are buffered at most before they are committed."""

_PUT: Final = """
INSERT INTO replies (key, endpoint, model, served, time, reply, dollars) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) DO NOTHING"""
_FAIL: Final = """
INSERT INTO failures (key, endpoint, model, kind, message, time, dollars) VALUES (?, ?, ?, ?, ?, ?, ?)"""
_CLAIM: Final = """
INSERT INTO claims (key, owner, until) SELECT :key, :owner, :until
    WHERE NOT EXISTS (SELECT 1 FROM replies WHERE key = :key)
    ON CONFLICT (key) DO UPDATE SET owner = :owner, until = :until WHERE claims.until < :now OR claims.owner = :owner"""


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
        self._failures: list[tuple[str, str, str, str, str, float, float | None]] = []
        self._raced: dict[str, Reply] = {}
        self._owner = f"{os.getpid()} {uuid.uuid4().hex}"
        self._claimed = False
        if not create and not path.is_file():
            raise UserError(f"there is no judge ledger at {path}; name the .sqlite file that an earlier run wrote.")
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                prepare(self._db, path)
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
        self._replies[key] = (key, endpoint, model, mend(reply.model), time.time(), _text(reply), dollars)
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

    def fail(self, key: str, endpoint: str, model: str, kind: str, message: str, dollars: float | None = None) -> None:
        """Note a failed call and what it cost, for ``status`` and budgets only: ``get`` never returns it."""
        self._failures.append((key, endpoint, model, kind, mend(message[:500]), time.time(), dollars))
        if len(self._failures) >= BATCH:
            self._commit()

    def claim(self, key: str, seconds: float) -> bool:
        """Say that we are about to ask this. ``False`` where it has a reply, or another process is asking it.

        A claim ends with our reply or failure under the key, with ``close``, with the process, or after ``seconds``.
        """
        self._claimed = True
        now = time.time()
        values = {"key": key, "owner": self._owner, "until": now + seconds, "now": now}
        with self._told():
            if self._db.execute(_CLAIM, values).rowcount > 0:
                return True
            held = self._db.execute("SELECT owner FROM claims WHERE key = ?", [key]).fetchone()
            if held is None or _alive(int(held[0].split()[0])):
                return False
            self._db.execute("DELETE FROM claims WHERE owner = ?", [held[0]])
            return self._db.execute(_CLAIM, values).rowcount > 0

    def claim_all(self, keys: Iterable[str], seconds: float) -> list[str]:
        """Those of the keys that we may ask: each one claimed, in one transaction."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            claimed = [key for key in keys if self.claim(key, seconds)]
            self._db.execute("COMMIT")
        return claimed

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
                TOTAL(dollars), COUNT(*) - COUNT(dollars), SUM(dollars > 0 AND
                    (json_extract(reply, '$.prompt_tokens') = 0 OR json_extract(reply, '$.completion_tokens') = 0))
            FROM replies GROUP BY endpoint, model, served ORDER BY endpoint, model, served"""
        with self._told():
            return [Served(*row) for row in self._db.execute(query)]

    def spent(self, since: float) -> tuple[float, int, int]:
        """(dollars of known cost, calls, calls of known cost) by everyone since a time, failed calls among them."""
        self._commit()
        query = """
            SELECT TOTAL(dollars), COUNT(*), COUNT(dollars) FROM (SELECT dollars FROM replies WHERE time >= :since
                UNION ALL SELECT dollars FROM failures WHERE time >= :since)"""
        with self._told():
            dollars, calls, priced = self._db.execute(query, {"since": since}).fetchone()
        return float(dollars), int(calls), int(priced)

    def lost(self) -> tuple[float, int]:
        """(dollars, calls) that were charged for and gave nothing to read."""
        self._commit()
        with self._told():
            query = "SELECT TOTAL(dollars), COUNT(dollars) FROM failures WHERE dollars > 0"
            dollars, calls = self._db.execute(query).fetchone()
        return float(dollars), int(calls)

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
        """Flush, give back all claims, and close."""
        try:
            self._commit()
            if self._claimed:
                with self._told():
                    self._db.execute("DELETE FROM claims WHERE owner = ?", [self._owner])
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

    def _commit(self) -> None:
        if not self._replies and not self._failures:
            return
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                stored = self._db.executemany(_PUT, self._replies.values()).rowcount if self._replies else 0
                if self._failures:
                    self._db.executemany(_FAIL, self._failures)
                if self._claimed:
                    ended = [(key, self._owner) for key in {*self._replies, *(row[0] for row in self._failures)}]
                    self._db.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", ended)
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


def _alive(process: int) -> bool:
    """Whether a process of this machine (on which everyone who shares a ledger is) still runs."""
    if os.name != "posix":
        return True  # signal 0 is no question elsewhere; the claim's time ends it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _text(reply: Reply) -> str:
    # ``request`` is the key of the row itself.
    content = {name: value for name, value in vars(reply).items() if name != "request"}
    return json.dumps(content, separators=(",", ":"), default=dict)  # ``default``: first_token may be any Mapping


def _remedy(message: str) -> str:
    if "full" in message or "No space" in message:
        return "Free some space and run the same command again: what was committed is kept."
    if "locked" in message:
        return "Another process holds it; wait for that one, or stop it, and run the same command again."
    if "not a database" in message or "malformed" in message:
        return "The file is damaged or not a ledger; move it away (its replies will be asked again)."
    return "Check that the folder exists and that you may write there."
