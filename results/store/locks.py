"""Locks and durable files: what lets two runs share a store and a power cut leave nothing half-written. A lock is
``flock`` on a file that is never deleted: the kernel frees it when its owner dies, so it is never stale."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import UserError

log = logging.getLogger(__name__)


@contextmanager
def file_lock(path: Path, label: str = "", wait: bool = True) -> Iterator[bool]:
    """Hold the lock at ``path`` (``label``: for the log); yields whether it is held: False without ``wait`` if taken.
    Raises UserError where the file system has no locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        free = _try_lock(handle, path)
        if not free and wait:
            start = time.monotonic()
            log.info("waiting: %s is being made by another process or thread", label)
            fcntl.flock(handle, fcntl.LOCK_EX)
            log.info("waited %.0f s for %s", time.monotonic() - start, label)
        yield free or wait
    finally:
        os.close(handle)  # lets go of the lock


def _try_lock(handle: int, path: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise UserError(
            f"{path.parent}: this file system has no file locks ({error.strerror}), which keep two runs in one store "
            "apart. Put the store on a local disk, or mount the share with locking."
        ) from error
    return True


def write_atomic(path: Path, content: bytes) -> Path:
    """Put ``content`` at ``path`` whole or not at all. Returns ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        # before the rename: after a power cut the name must not stand for an empty file
        sync(temporary)
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # the file that is meant, in a message
        raise
    finally:
        with suppress(OSError):  # where nothing may be written, nothing is left either
            temporary.unlink(missing_ok=True)
    return path


def sync_tree(folder: Path) -> None:
    """Force every file and folder under ``folder`` to the disk, so that a marker never outlives what it vouches for."""
    for parent, _, names in os.walk(folder):
        for file in (Path(parent) / name for name in names):
            if file.is_file() and not file.is_symlink():
                sync(file)
        sync(Path(parent))


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hold_file(path: Path) -> int:
    """Make a file and hold its lock until the returned handle is closed, or its owner dies. Raises OSError."""
    # It gets its name with the lock: nobody finds a file that is not held yet.
    draft = path.with_name(f"{path.name}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
    with suppress(OSError):  # a file system without locks: readers then go by the file's age
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    draft.rename(path)
    return handle


def is_held(path: Path) -> bool | None:
    """Whether somebody holds the lock of a file; ``None``: the file system does not say."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # shared: two who ask at once do not take each other for the owner
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False
