"""A damaged ledger made whole: every reply that can still be read is kept, and the rest is asked again.

SQLite reads a table up to the first damaged page. Beyond that the pages themselves are read, each on its own: a page
lists its rows (https://www.sqlite.org/fileformat2.html, sections 1.6 and 2.1), whatever became of the pages above it.
"""

from __future__ import annotations

import re
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.text import format_count
from judges.ledger.ledger import APPLICATION, SQLITE_ERRORS, VERSION, Ledger, make_tables, read_reply, read_request
from results.store.locks import file_lock

KEY = re.compile(r"[0-9a-f]{64}")
NAMES = ("replies", "failures", "wanted", "batches", "requests")
"""Tables whose rows are kept. Claims are of processes that have ended."""
INTERIOR_INDEX, LEAF_INDEX, LEAF_TABLE = 2, 10, 13  # kinds of pages that hold rows
DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")  # the last: a file format that it does not know
PAGE_SIZE = 4096  # SQLite's default, where the file's own header is damaged
Row = tuple[Any, ...]


@cache
def columns() -> dict[str, list[str]]:
    with closing(sqlite3.connect(":memory:")) as db:
        make_tables(db)
        return {name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in NAMES}


@cache
def sound_schema() -> set[Row]:
    with closing(sqlite3.connect(":memory:")) as db:
        make_tables(db)
        return schema(db)


def schema(db: sqlite3.Connection) -> set[Row]:
    """What was said to make each table, index and trigger; as bytes, since damaged text may be no UTF-8."""
    columns = ", ".join(f"CAST({column} AS BLOB)" for column in ("type", "name", "tbl_name", "sql"))
    return set(db.execute(f"SELECT {columns} FROM sqlite_master"))  # noqa: S608, our own names


def recover_ledger(path: Path) -> str | None:
    """Put a whole ledger in the place of a damaged one, which is kept beside it. Returns what to tell the user;
    ``None``: it is sound, or no ledger. Raises UserError where another process has it open."""
    if not path.is_file() or not is_damaged(path):
        return None
    lock = beside(path, ".recovery")
    try:
        with file_lock(lock, f"recovery of {path}"):
            return _recover(path) if is_damaged(path) else None  # or another process was quicker
    finally:
        lock.unlink(missing_ok=True)


def _recover(path: Path) -> str | None:
    refuse_open_ledger(path)
    with suppress(*SQLITE_ERRORS), closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    rows = {table: list(readable_rows(path, table)) for table in NAMES}
    for table, row in page_rows(path.read_bytes()):
        rows[table].append(row)
    rows["replies"] = [row for row in rows["replies"] if is_reply(row)]
    rows["requests"] = [row for row in rows["requests"] if is_request(row)]
    if not rows["replies"]:
        return None
    number = next(n for n in range(1, 10_000) if not beside(path, f".damaged-{n}").exists())
    damaged, fresh = beside(path, f".damaged-{number}"), beside(path, ".recovered")
    for end in ("", "-wal", "-shm"):
        beside(fresh, end).unlink(missing_ok=True)
    Ledger(fresh).close()
    with closing(sqlite3.connect(fresh)) as db, db:
        for table, found in rows.items():
            marks = ", ".join("?" * len(columns()[table]))
            # The first copy counts: it is what SQLite itself reads.
            statement = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"  # noqa: S608, one of our own names
            db.executemany(statement, list(dict.fromkeys(found)))
        ((count,),) = db.execute("SELECT COUNT(*) FROM replies").fetchall()
    # What was written last goes aside first: on another file it would be damage.
    for end in ("-wal", "-shm"):
        if beside(path, end).exists():
            beside(path, end).rename(beside(damaged, end))
    damaged.hardlink_to(path)
    fresh.replace(path)
    return (
        f"{path} was damaged: {format_count(count, 'reply')} could be read and are kept; what is missing is "
        f"asked again. The damaged file is {damaged.name}."
    )


def is_damaged(path: Path) -> bool:
    """Whether SQLite finds damage, or a table of a ledger is not as it was made; further ones (of ANALYZE) may be."""
    try:
        with closing(sqlite3.connect(path)) as db:
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                return True
            # Damage inside a statement can leave one that SQLite takes: with another name of a column.
            marks = db.execute("SELECT * FROM pragma_application_id, pragma_user_version").fetchone()
            return marks == (APPLICATION, VERSION) and not sound_schema() <= schema(db)
    except SQLITE_ERRORS as error:
        # The sqlite3 module's own errors, for text that is no UTF-8, have no name.
        return getattr(error, "sqlite_errorname", "SQLITE_CORRUPT").startswith(DAMAGE)


def refuse_open_ledger(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")
            db.execute("ROLLBACK")
    except SQLITE_ERRORS as error:
        if "locked" in str(error):
            raise UserError(
                f"{path} is damaged, and another process has it open. Stop that one and run the same command again: "
                "what can be read of the ledger is recovered."
            ) from error


def beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def readable_rows(path: Path, table: str) -> Iterator[Row]:
    with suppress(*SQLITE_ERRORS), closing(sqlite3.connect(path)) as db:
        yield from db.execute(f"SELECT * FROM {table}")  # noqa: S608, one of our own names


def is_reply(row: Row) -> bool:
    try:
        read_reply(row)
    except (ValueError, TypeError, AttributeError):
        return False
    return KEY.fullmatch(str(row[0])) is not None and all(isinstance(text, str) for text in row[:4])


def is_request(row: Row) -> bool:
    try:
        return bool(read_request(*row))
    except (ValueError, TypeError):
        return False


def page_rows(content: bytes) -> Iterator[tuple[str, Row]]:
    """(table, row) of every row on every page that can be read."""
    size = struct.unpack(">H", content[16:18])[0] or PAGE_SIZE
    size = 65536 if size == 1 else size if size >= 512 and size & (size - 1) == 0 else PAGE_SIZE
    pages = [content[start : start + size] for start in range(0, len(content), size)]
    for page in pages:
        kind = page[0]
        if kind not in (INTERIOR_INDEX, LEAF_INDEX, LEAF_TABLE) or len(page) < size:
            continue
        (count,) = struct.unpack(">H", page[3:5])
        start = 12 if kind == INTERIOR_INDEX else 8
        for place in range(start, min(start + 2 * count, size - 1), 2):
            # Whatever a damaged page says is only tried.
            with suppress(IndexError, ValueError, struct.error):
                row = record(payload(pages, page, struct.unpack(">H", page[place : place + 2])[0]))
                if table := table_of(kind, row):
                    yield table, row


def table_of(kind: int, row: Row) -> str | None:
    """By its number of columns, and by what its first columns hold: an index has other values first."""
    names = ["failures"] if kind == LEAF_TABLE else [name for name in NAMES if name != "failures"]
    texts = all(isinstance(value, str | bytes) for value in row[:3])
    return next((name for name in names if texts and len(row) == len(columns()[name])), None)


def payload(pages: Sequence[bytes], page: bytes, place: int) -> bytes:
    """Of the cell at ``place``, with what did not fit on the page."""
    kind, size = page[0], len(page)
    if kind == INTERIOR_INDEX:
        place += 4  # the number of a page below
    length, place = varint(page, place)
    if kind == LEAF_TABLE:
        _, place = varint(page, place)  # the row's number
    most = size - 35 if kind == LEAF_TABLE else (size - 12) * 64 // 255 - 23
    least = (size - 12) * 32 // 255 - 23
    local = length
    if length > most:
        local = least + (length - least) % (size - 4)
        local = least if local > most else local
    content = page[place : place + local]
    following = page[place + local : place + local + 4]
    while len(content) < length:
        (number,) = struct.unpack(">I", following)
        if not number:
            raise ValueError("the chain of pages ends early")
        following, rest = pages[number - 1][:4], pages[number - 1][4:]
        content += rest[: length - len(content)]
    return content


def record(content: bytes) -> Row:
    """The values of a row. Raises ValueError or IndexError where it is none."""
    end, place = varint(content, 0)
    kinds = []
    while place < end:
        kind, place = varint(content, place)
        kinds.append(kind)
    values: list[Any] = []
    place = end
    for kind in kinds:
        length = (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind]
        raw = content[place : place + length]
        if len(raw) < length:
            raise ValueError("the row ends early")
        if kind >= 12:
            values.append(raw.decode() if kind % 2 else raw)
        elif kind == 7:
            values.append(struct.unpack(">d", raw)[0])
        else:
            values.append(None if kind == 0 else kind - 8 if kind >= 8 else int.from_bytes(raw, "big", signed=True))
        place += length
    return tuple(values)


def varint(content: bytes, place: int) -> tuple[int, int]:
    """(value, place behind it) of a number of 1 to 9 bytes, 7 bits in each but the ninth."""
    value = 0
    for count in range(1, 10):
        byte = content[place + count - 1]
        if count == 9:
            return value << 8 | byte, place + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + count
    raise AssertionError("a ninth byte ends every number")
