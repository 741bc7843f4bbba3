"""The store of artifacts: ``root/<kind>/<first two of key>/<key>/``, written whole or not at all.

    store = ArtifactStore(Path("runs/store"))
    folder = store.write(stage, fill)       # fill(folder) -> what it measured; runs once per key, ever
    store.load("score", key, "scores.json")

An artifact is made in ``root/tmp`` and renamed into its place, its marker ``meta.json`` (parameters, inputs,
provenance, measurements) written last. A lock per key lets any number of processes share one store; whatever a killed
process left in ``tmp`` is swept when the store is next opened.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.hardware import peak, reset_peak
from results.store.locks import locked, locked_if_free, sync_tree
from results.store.provenance import plain, provenance

MARKER = "meta.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # one path component that cannot climb out of the store
_OUR_FOLDERS = ("tmp", "locks", "scratch")
_NOTHING = 1_000_000  # bytes; torch.save on a full disk fails with words that do not mention the disk


@dataclass(frozen=True)
class Artifact:
    """A finished artifact, as ``ArtifactStore.list`` finds it."""

    kind: str
    key: str
    path: Path


class ArtifactStore:
    """``harness.contracts.stage.Store`` on a POSIX disk. Opening sweeps what dead writers left; it creates nothing."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        self._sweep()

    def done(self, stage: Stage) -> bool:
        """Whether the artifact is there, whole."""
        return (self._place(stage.kind, stage.key) / MARKER).is_file()

    def path(self, kind: str, key: str) -> Path:
        """Folder of a finished artifact. Raises KeyError when it is not there."""
        folder = self._place(kind, key)
        if not (folder / MARKER).is_file():
            raise KeyError(f"no finished {kind} artifact {key} in {self.root}")
        return folder

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        """The marker: stage, provenance and measurements. Raises KeyError (not there) or UserError (unreadable)."""
        meta = self.load(kind, key, MARKER)
        if not isinstance(meta, dict):
            raise UserError(_damaged(self.path(kind, key) / MARKER, "not a JSON object"))
        return meta

    def load(self, kind: str, key: str, name: str) -> Any:
        """The JSON file ``name`` of an artifact. Raises KeyError (no artifact), UserError (no file, not JSON)."""
        file = self.path(kind, key) / name
        try:
            return json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(_damaged(file, str(error))) from error

    def scratch(self, stage: Stage) -> Path:
        """A folder that survives a killed writer of this stage; removed once the artifact is in its place."""
        folder = self.root / "scratch" / stage.key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def list(self, kind: str | None = None) -> tuple[Artifact, ...]:
        """Finished artifacts, of one kind or all, sorted by kind and key."""
        return tuple(sorted(self._artifacts(kind), key=lambda artifact: (artifact.kind, artifact.key)))

    def write(self, stage: Stage, fill: Callable[[Path], Mapping[str, Any]]) -> Path:
        """Run ``fill(folder)`` in a folder beside the artifact's place and move it in whole, its marker last.

        ``fill`` returns what it measured; it is stored with the provenance. Concurrent writers of one key wait for
        each other, and the second finds the work done. When ``fill`` raises, nothing is left and the error goes on;
        a full disk becomes a UserError that says what is free and what to do.
        """
        place = self._place(stage.kind, stage.key)
        if self.done(stage):
            return place
        work = self.root / "tmp" / f"{stage.key}.{uuid.uuid4().hex}"
        try:
            with locked(self._lock(stage.key), stage.label):
                if not self.done(stage):  # or it was made while we waited
                    work.mkdir(parents=True)
                    self._make(stage, fill, work)
                    self._move_in(work, place)
                    shutil.rmtree(self.root / "scratch" / stage.key, ignore_errors=True)
        except Exception as error:
            if _is_full(error) or (isinstance(error, OSError | RuntimeError) and self._free() < _NOTHING):
                raise self._full(stage, work) from error
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return place

    def _make(self, stage: Stage, fill: Callable[[Path], Mapping[str, Any]], work: Path) -> None:
        origin = provenance()
        reset_peak()
        began = time.monotonic()
        measured = fill(work)
        meta = {
            "kind": stage.kind,
            "key": stage.key,
            "label": stage.label,
            "row": stage.row,
            "round": stage.round,
            "seed": stage.seed,
            "version": stage.version,
            "params": plain(stage.params),
            "inputs": {role: str(ref) for role, ref in stage.inputs.items()},
            **origin,
            "wall_seconds": round(time.monotonic() - began, 3),
            "peak_memory_bytes": peak(),
            "measurements": plain(measured),
        }
        text = json.dumps(meta, indent=1, ensure_ascii=False, allow_nan=False)
        (work / MARKER).write_text(text + "\n", encoding="utf-8")
        sync_tree(work)

    def _move_in(self, work: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():  # no marker in it: somebody deleted parts of the artifact by hand
            shutil.rmtree(place)
        work.rename(place)
        handle = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _full(self, stage: Stage, work: Path) -> UserError:
        taken = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
        return UserError(
            f"no space left in {self.root} while making {stage.label!r}: {_size(self._free())} free, and "
            f"{_size(taken)} of this artifact were written (and are removed now). Everything finished before is kept. "
            "Free some space, or name a store on a larger disk, and give the same command again: it goes on from here."
        )

    def _free(self) -> int:
        there = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        return shutil.disk_usage(there).free

    def _sweep(self) -> None:
        """Remove temp folders whose writer is gone: exactly those whose key's lock is free."""
        try:
            left = list(os.scandir(self.root / "tmp"))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in left:
            try:
                with locked_if_free(self._lock(entry.name.split(".")[0])) as free:
                    if free:
                        shutil.rmtree(entry.path, ignore_errors=True)
            except PermissionError:  # a store that we may only read is not ours to sweep
                return

    def _artifacts(self, kind: str | None) -> Iterator[Artifact]:
        kinds = [self.root / kind] if kind else sorted(self.root.glob("*"))
        for folder in kinds:
            if folder.name in _OUR_FOLDERS:
                continue
            for marker in folder.glob(f"??/*/{MARKER}"):
                yield Artifact(folder.name, marker.parent.name, marker.parent)

    def _lock(self, key: str) -> Path:
        return self.root / "locks" / key

    def _place(self, kind: str, key: str) -> Path:
        for part in (kind, key):
            if not _NAME.fullmatch(part) or ".." in part or part in _OUR_FOLDERS:
                raise ValueError(f"{part!r} cannot name a folder of the store (letters, digits, '_', '-', '.')")
        return self.root / kind / key[:2] / key


def _is_full(error: BaseException) -> bool:
    """Whether a full disk (or quota) is behind ``error``: libraries wrap it in errors of their own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "no space left on device" in str(seen).lower():
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _size(count: int) -> str:
    giga = 1e9
    return f"{count / giga:.1f} GB" if count >= giga else f"{count / 1e6:.1f} MB"


def _damaged(file: Path, why: str) -> str:
    return f"{file} cannot be read: {why}. Delete the folder {file.parent} and run again: it will be made anew."
