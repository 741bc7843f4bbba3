"""Sums over a ledger's replies and requests, which SQLite itself keeps as rows are added: ``status`` reads a few rows.

They are counted again where they do not fit: after a damaged reply was deleted.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Any, Final

QUERIES: Final = {
    "served_totals": """
SELECT endpoint, model, served, COUNT(*), SUM(json_extract(reply, '$.prompt_tokens')),
    SUM(json_extract(reply, '$.completion_tokens')), MIN(time), MAX(time), TOTAL(dollars), COUNT(*) - COUNT(dollars),
    SUM(IFNULL(dollars > 0 AND 0 IN
        (json_extract(reply, '$.prompt_tokens'), json_extract(reply, '$.completion_tokens')), 0))
FROM replies WHERE json_valid(reply) GROUP BY endpoint, model, served""",
    "asked_totals": """
SELECT endpoint, model, SUM(key IN (SELECT key FROM replies)), COUNT(*) FROM wanted GROUP BY endpoint, model""",
}
"""By the table that keeps them."""
STATEMENTS: Final = (
    """
CREATE TABLE IF NOT EXISTS served_totals (
    endpoint TEXT, model TEXT, served TEXT, replies INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER,
    first REAL, last REAL, dollars REAL, unpriced INTEGER, estimated INTEGER,
    PRIMARY KEY (endpoint, model, served)) WITHOUT ROWID""",
    """
CREATE TABLE IF NOT EXISTS asked_totals (
    endpoint TEXT, model TEXT, replies INTEGER, requests INTEGER, PRIMARY KEY (endpoint, model)) WITHOUT ROWID""",
    # No upsert: on a conflict, a trigger does what the statement says that set it off.
    """
CREATE TRIGGER IF NOT EXISTS reply_added AFTER INSERT ON replies WHEN json_valid(NEW.reply) BEGIN
    INSERT OR IGNORE INTO served_totals
        VALUES (NEW.endpoint, NEW.model, NEW.served, 0, 0, 0, NEW.time, NEW.time, 0.0, 0, 0);
    UPDATE served_totals SET replies = replies + 1, first = MIN(first, NEW.time), last = MAX(last, NEW.time),
        prompt_tokens = prompt_tokens + json_extract(NEW.reply, '$.prompt_tokens'),
        completion_tokens = completion_tokens + json_extract(NEW.reply, '$.completion_tokens'),
        dollars = dollars + IFNULL(NEW.dollars, 0), unpriced = unpriced + (NEW.dollars IS NULL),
        estimated = estimated + IFNULL(NEW.dollars > 0 AND 0 IN
            (json_extract(NEW.reply, '$.prompt_tokens'), json_extract(NEW.reply, '$.completion_tokens')), 0)
    WHERE endpoint = NEW.endpoint AND model = NEW.model AND served = NEW.served;
    UPDATE asked_totals SET replies = replies + 1
    WHERE (endpoint, model) = (SELECT endpoint, model FROM wanted WHERE key = NEW.key);
END""",
    """
CREATE TRIGGER IF NOT EXISTS request_added AFTER INSERT ON wanted BEGIN
    INSERT OR IGNORE INTO asked_totals VALUES (NEW.endpoint, NEW.model, 0, 0);
    UPDATE asked_totals SET requests = requests + 1, replies = replies + (NEW.key IN (SELECT key FROM replies))
    WHERE endpoint = NEW.endpoint AND model = NEW.model;
END""",
)
# Only replies are ever deleted.
_FIT: Final = "SELECT (SELECT TOTAL(replies) FROM served_totals) = (SELECT COUNT(*) FROM replies)"


def read_totals(db: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """The rows of a table of QUERIES, in order. Raises sqlite3.Error where the ledger cannot be read."""
    source = table
    if not db.execute(_FIT).fetchone()[0]:
        source = f"({QUERIES[table]})"
        with suppress(sqlite3.OperationalError):  # the file may only be read
            _count_again(db)
            source = table
    return db.execute(f"SELECT * FROM {source} ORDER BY 1, 2, 3").fetchall()  # noqa: S608, our own names


def _count_again(db: sqlite3.Connection) -> None:
    with db:
        db.execute("BEGIN IMMEDIATE")
        for table, query in QUERIES.items():
            db.execute(f"DELETE FROM {table}")  # noqa: S608, our own names
            db.execute(f"INSERT INTO {table} {query}")
