"""The store of artifacts: ``root/<kind>/<first two of key>/<key>/``, written whole or not at all. Made in ``root/tmp``,
renamed into place; the marker ``meta.json`` last. A lock per key lets processes share a store."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.contracts.stage import Ref, Stage
from harness.errors import UserError
from harness.hardware import peak, reset_peak
from results.store.checksums import (
    MARKER,
    checksums,
    damaged_files,
    files_checksum,
    foreign_files,
    marker_text,
    read_marker,
)  # fmt: skip
from results.store.locks import file_lock, sync, sync_tree, write_atomic
from results.store.provenance import json_value, provenance
from results.store.storage import Storage

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # one path component that cannot climb out of the store
_OUR_FOLDERS = ("tmp", "locks", "scratch")
_STORAGE = "storage"  # the file that names the URL where the files lie that are not here
_NO_SPACE = 1_000_000  # bytes; torch.save on a full disk fails with words that do not mention the disk


class ArtifactStore:
    """``harness.contracts.stage.Store`` on a POSIX disk. Opening sweeps what dead writers left; it creates nothing."""

    storage: Storage | None = None
    is_copied = False
    """Whether ``write`` looks for artifacts in ``storage`` and copies them there; large files come from it anyway."""

    def __init__(self, root: Path | str, sweep: bool = True) -> None:
        """``sweep``: whether what dead writers left behind is removed; a watcher leaves it."""
        self.root = Path(root).absolute()
        self._root = str(self.root)
        self._verified_paths: set[Path] = set()  # files and folders whose checksums this process has compared
        with suppress(FileNotFoundError, NotADirectoryError):
            self.storage = Storage((self.root / _STORAGE).read_text(encoding="utf-8"))
        if sweep:
            self._sweep()

    def copied(self, url: str, folder: Path | None = None) -> ArtifactStore:
        """The store in ``folder``, or this one, whose artifacts are copied from and to ``url``. What is here already is
        copied there now. Raises UserError where its files lie in another place already."""
        root = folder or self.root
        if (known := ArtifactStore(root).storage) and known.url != Storage(url).url:
            raise UserError(
                f"the artifacts of {root} lie in {known.url}, not in {url}. Name another folder with --runs; or copy "
                f"them there and write that into {root / _STORAGE}."
            )
        write_atomic(root / _STORAGE, url.encode())
        store = ArtifactStore(root)
        store.is_copied = True
        finished = store.storage.finished() if store.storage and folder is None else set()
        for ref in store.list() if folder is None else ():
            if ref not in finished:
                store._push(ref)
        return store

    def has(self, stage: Stage) -> bool:
        # Asked of every stage of a plan, of which there may be thousands: a Path takes several times as long to make.
        return os.path.isfile(f"{self._root}/{relative_folder(stage.kind, stage.key)}/{MARKER}")  # noqa: PTH113

    def path(self, kind: str, key: str, part: str = "") -> Path:
        """The folder, or the file or folder in it that is to be read, its checksums compared once per process. Raises
        KeyError where there is no finished artifact, UserError where ``part`` is not what its stage wrote."""
        folder = self._folder(kind, key)
        if self.is_copied and not (folder / MARKER).is_file():
            with file_lock(self._lock(key), f"{kind} {key[:8]}"):
                self._pull(Ref(kind, key))
        if not (folder / MARKER).is_file():
            raise KeyError(f"no finished {kind} artifact {key} in {self.root}")
        path = folder / part
        if part and path not in self._verified_paths:
            if self.storage:
                self.storage.bring(Ref(kind, key), folder, self.meta(kind, key), part)
            for problem in damaged_files(folder, self.meta(kind, key), part):
                raise UserError(f"{problem}. {_remedy(folder)}")
            self._verified_paths.add(path)
        return path

    def damage(self, ref: Ref) -> list[str]:
        """All that is wrong with a finished artifact; raises as ``meta`` does."""
        folder, meta = self.path(*ref), self.meta(*ref)
        if self.storage:  # what is not here lies there
            meta["files"] = {name: digest for name, digest in meta["files"].items() if (folder / name).exists()}
        return [*foreign_files(folder, meta), *damaged_files(folder, meta), *self._other_origins(ref, self.meta(*ref))]

    def _other_origins(self, ref: Ref, meta: Mapping[str, Any]) -> Iterator[str]:
        """Parameters and inputs that are not those with which the artifact was made."""
        stage = Stage.of(meta)
        if stage.ref != ref:
            yield f"{self.path(*ref) / MARKER}: its parameters and inputs are not those of its key"
        for role, digest in meta.get("input_files", {}).items():
            with suppress(KeyError, UserError):  # cleared away, or named where its own damage is
                if files_checksum(self.meta(*stage.inputs[role])) != digest:
                    yield f"{stage.inputs[role]} is not the one that {ref} was made from: changed, or made anew"

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        """The marker. Raises KeyError (not there) or UserError (unreadable, or not what its stage wrote)."""
        folder = f"{self._root}/{relative_folder(kind, key)}"
        try:
            return read_marker(f"{folder}/{MARKER}")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise KeyError(f"no finished {kind} artifact {key} in {self.root}") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}/{MARKER} cannot be read: {error}. {_remedy(folder)}") from error

    def scratch(self, stage: Stage) -> Path:
        """Survives a killed writer of this stage; removed once the artifact is in its place."""
        folder = self.root / "scratch" / stage.key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def unfinished(self, key: str) -> list[Path]:
        """Folders in which a stage is being made, or was when its process was killed; the newest first."""
        times: dict[Path, float] = {}
        for folder in (self.root / "tmp").glob(f"{key}.*"):
            with suppress(FileNotFoundError):  # moved into its place at this moment
                times[folder] = folder.stat().st_mtime
        return sorted(times, key=lambda folder: -times[folder])

    def list(self, kind: str = "*") -> tuple[Ref, ...]:
        """Finished artifacts, of one kind or all, sorted by kind and key."""
        markers = self.root.glob(f"{kind}/??/*/{MARKER}")
        refs = [Ref(file.parents[2].name, file.parent.name) for file in markers]
        return tuple(sorted(ref for ref in refs if ref.kind not in _OUR_FOLDERS))

    def write(self, stage: Stage, fill: Callable[[Path], Mapping[str, Any]]) -> Path:
        """When ``fill`` raises, nothing is left and the error goes on; a full disk becomes a UserError that helps."""
        folder = self._folder(stage.kind, stage.key)
        if self.has(stage) and not self.is_copied:
            return folder
        work = self.root / "tmp" / f"{stage.key}.{uuid.uuid4().hex}"
        try:
            with file_lock(self._lock(stage.key), stage.label):
                is_there = self.is_copied and self._pull(stage.ref)
                if not self.has(stage):  # or it was made while we waited
                    work.mkdir(parents=True)
                    self._make(stage, fill, work)
                    self._move_in(work, folder)
                    shutil.rmtree(self.root / "scratch" / stage.key, ignore_errors=True)
                if self.is_copied and not is_there:
                    self._push(stage.ref)
        except Exception as error:
            if _is_full(error) or (isinstance(error, OSError | RuntimeError) and self._free_bytes() < _NO_SPACE):
                raise self._full_disk_error(stage, work) from error
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return folder

    def _pull(self, ref: Ref) -> bool:
        """Whether ``storage`` has the artifact; where it has, it is here afterwards. The lock of its key is ours."""
        folder, work = self._folder(*ref), self.root / "tmp" / f"{ref.key}.{uuid.uuid4().hex}"
        try:
            if (folder / MARKER).is_file():
                return self.storage is not None and self.storage.has(ref)
            if self.storage is None or not self.storage.pull(ref, work / ref.key):
                return False
            sync_tree(work / ref.key)
            self._move_in(work / ref.key, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return True

    def _push(self, ref: Ref) -> None:
        if self.storage:
            folder, meta = self._folder(*ref), self.meta(*ref)
            self.storage.bring(ref, folder, meta, ".")
            self.storage.push(ref, folder, meta)

    def _make(self, stage: Stage, fill: Callable[[Path], Mapping[str, Any]], work: Path) -> None:
        if self.is_copied:
            for ref in stage.inputs.values():
                self.path(*ref)
        origin = provenance()
        reset_peak()
        start = time.monotonic()
        measurements = fill(work)
        finished_inputs = {role: ref for role, ref in stage.inputs.items() if (self._folder(*ref) / MARKER).is_file()}
        input_files = {role: files_checksum(self.meta(*ref)) for role, ref in finished_inputs.items()}
        meta = {
            "kind": stage.kind,
            "key": stage.key,
            "label": stage.label,
            "row": stage.row,
            "round": stage.round,
            "seed": stage.seed,
            "version": stage.version,
            "params": json_value(stage.params),
            "inputs": {role: str(ref) for role, ref in stage.inputs.items()},
            "input_files": input_files,
            **origin,
            "wall_seconds": round(time.monotonic() - start, 3),
            "peak_memory_bytes": peak(),
            "measurements": json_value(measurements),
            "files": checksums(work),
        }
        (work / MARKER).write_text(marker_text(meta), encoding="utf-8")
        sync_tree(work)

    def _move_in(self, work: Path, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():  # no marker in it: somebody deleted parts of the artifact by hand
            shutil.rmtree(folder)
        work.rename(folder)
        sync(folder.parent)

    def _full_disk_error(self, stage: Stage, work: Path) -> UserError:
        byte_count = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
        return UserError(
            f"no space left in {self.root} while making {stage.label!r}: {_size(self._free_bytes())} free, and "
            f"{_size(byte_count)} of this artifact were written (and are removed now). Everything finished before is "
            "kept. Free some space, or name a store on a larger disk, and give the same command again: it goes on "
            "from here."
        )

    def _free_bytes(self) -> int:
        return shutil.disk_usage(next(folder for folder in (self.root, *self.root.parents) if folder.exists())).free

    def _sweep(self) -> None:
        """Remove temp folders whose writer is gone, exactly those whose key's lock is free, and scratch folders whose
        artifact is there."""
        entries: list[os.DirEntry[str]] = []
        for name in ("tmp", "scratch"):
            with suppress(FileNotFoundError, NotADirectoryError):
                entries += os.scandir(self.root / name)
        for entry in entries:
            if Path(entry.path).parent.name == "scratch" and not self._is_finished(entry.name):
                continue
            try:
                with file_lock(self._lock(entry.name.split(".")[0]), wait=False) as free:
                    if free:
                        shutil.rmtree(entry.path, ignore_errors=True)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                return  # a store that we may only read is not ours to sweep

    def _is_finished(self, key: str) -> bool:
        return any(self.root.glob(f"*/{key[:2]}/{key}/{MARKER}"))

    def _lock(self, key: str) -> Path:
        return self.root / "locks" / key

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / relative_folder(kind, key)


def relative_folder(kind: str, key: str) -> str:
    for name in (kind, key):
        if not _NAME.fullmatch(name) or ".." in name or name in _OUR_FOLDERS:
            raise ValueError(f"{name!r} cannot name a folder of the store (letters, digits, '_', '-', '.')")
    return f"{kind}/{key[:2]}/{key}"


def _remedy(folder: Path | str) -> str:
    """What can be done about a damaged artifact: ``pending_stages`` says what a run makes again."""
    return (
        "It may be evidence: `distilbench verify RUN` shows what differs. To have it made again, move the folder "
        f"{folder} out of the store and run again: what is still read is made anew."
    )


def _is_full(error: BaseException) -> bool:
    """Whether a full disk (or quota) is behind ``error``: libraries wrap it in errors of their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    cause = error.__cause__ or error.__context__
    return "no space left on device" in str(error).lower() or (cause is not None and _is_full(cause))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
