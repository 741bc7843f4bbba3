"""The tables of the ledger: how they are made, told from other files, and brought up to this version."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

from harness.errors import UserError

VERSION: Final = 3
"""Of the tables and of the key. Version 2, which lacks nothing but room, is brought up to it; any other is refused."""
APPLICATION: Final = 0x64626C67  # "dblg": tells our files from any other SQLite file
BUSY_SECONDS: Final = 30.0

_CLAIMS: Final = """
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID"""
_TABLES: Final = f"""
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
{_CLAIMS};
"""
_FROM_2: Final = f"ALTER TABLE failures ADD COLUMN dollars REAL; {_CLAIMS}"


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a new file, or see that they are ours. Raises UserError where they are not."""
    db.execute("PRAGMA synchronous=NORMAL")
    found, version = _stamp(db)
    if (found, version) == (APPLICATION, VERSION):
        return
    if found == APPLICATION and version != 2:
        raise UserError(
            f"{path} is a judge ledger of version {version}, this distilbench reads version {VERSION}; "
            "use the distilbench that wrote it, or name another file (its replies would be asked again)."
        )
    if found != APPLICATION and db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
        raise UserError(f"{path} is an SQLite file of something else, not a judge ledger; name another file.")
    _wal(db)
    db.execute("BEGIN IMMEDIATE")
    found, version = _stamp(db)  # again: another process may have been quicker
    if (found, version) != (APPLICATION, VERSION):
        for statement in (_FROM_2 if found == APPLICATION else _TABLES).split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id={APPLICATION}")
        db.execute(f"PRAGMA user_version={VERSION}")
    db.execute("COMMIT")


def _stamp(db: sqlite3.Connection) -> tuple[int, int]:
    """(application, version) of a file."""
    found, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    return int(found), int(version)


def _wal(db: sqlite3.Connection) -> None:
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
