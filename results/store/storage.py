"""Artifacts in a place that fsspec knows (``s3://bucket/folder``), for machines that share no file system.

The same folders as in a store: the marker of an artifact comes last there too, so what is half there does not count.
Its files lie in a folder that is named after their checksums. So of two machines that made the same artifact with other
bytes, as an engine may, neither overwrites files that the marker of the other names; the last marker counts.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.contracts.stage import Ref
from harness.errors import UserError
from harness.text import parse_json
from results.store.checksums import MARKER, files_checksum, read_marker
from results.store.locks import sync

LARGE = 16 * 2**20
"""Bytes: larger files (weights, distributions) are brought when they are read, all others with the artifact."""


class Storage:
    """``url``: of a folder. Raises UserError where fsspec does not know it, or it cannot be reached."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """File system and path."""
        import fsspec

        try:
            # Other machines write there too.
            file_system, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise UserError(f"storage {self.url}: {error}") from error
        return file_system, path.rstrip("/")

    def _marker(self, ref: Ref) -> str:
        return f"{self._place[1]}/{ref.kind}/{ref.key[:2]}/{ref.key}/{MARKER}"

    def _file(self, ref: Ref, meta: Mapping[str, Any], name: str = "") -> str:
        return f"{self._marker(ref).removesuffix(MARKER)}{files_checksum(meta)[:16]}/{name}".rstrip("/")

    def finished(self) -> set[Ref]:
        """All artifacts that have a marker."""
        file_system, path = self._place
        try:
            files = file_system.find(path)
        except FileNotFoundError:
            return set()
        except Exception as error:
            raise self._error(error) from error
        parts = [file.split("/") for file in files if file.endswith(f"/{MARKER}")]
        return {Ref(words[-4], words[-2]) for words in parts if len(words) > 3}

    def has(self, ref: Ref) -> bool:
        """Whether its marker is there, and not cut short as where a file system writes files piece by piece."""
        try:
            return bool(parse_json(self._place[0].cat_file(self._marker(ref))))
        except (FileNotFoundError, ValueError):
            return False
        except Exception as error:
            raise self._error(error) from error

    def pull(self, ref: Ref, work: Path) -> bool:
        """Bring an artifact, but for its large files, into the new folder ``work``, which has the key's name; false
        where it is not there as a whole."""
        file_system = self._place[0]
        try:
            text = file_system.cat_file(self._marker(ref))
            work.mkdir(parents=True)
            (work / MARKER).write_bytes(text)
            meta = read_marker(str(work / MARKER))
            listing = file_system.find(self._file(ref, meta), detail=True)
        except (FileNotFoundError, ValueError):
            return False
        except Exception as error:
            raise self._error(error) from error
        folder = self._file(ref, meta).rpartition("/")[2]
        sizes = {path.rpartition(f"/{ref.key}/{folder}/")[2]: entry["size"] for path, entry in listing.items()}
        if not sizes.keys() >= meta["files"].keys():
            return False
        self._get(ref, meta, work, (name for name in meta["files"] if sizes[name] <= LARGE))
        return True

    def bring(self, ref: Ref, folder: Path, meta: Mapping[str, Any], part: str) -> None:
        """Bring what ``part`` (a file, a folder, or "." for all) of an artifact lacks into its ``folder``."""
        names = [name for name in meta["files"] if part in (".", name) or name.startswith(f"{part}/")]
        self._get(ref, meta, folder, (name for name in names if not (folder / name).exists()))

    def _get(self, ref: Ref, meta: Mapping[str, Any], folder: Path, names: Iterable[str]) -> None:
        for name in names:
            # Another process may be reading, or bringing, the same file.
            new = folder / f".{uuid.uuid4().hex}"
            try:
                self._place[0].get_file(self._file(ref, meta, name), str(new))
                sync(new)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                new.replace(folder / name)
            except FileNotFoundError as error:
                raise UserError(f"{self.url} has {ref} no longer whole: {name} is missing. Make it again.") from error
            except Exception as error:
                raise self._error(error) from error
            finally:
                new.unlink(missing_ok=True)

    def push(self, ref: Ref, folder: Path, meta: Mapping[str, Any]) -> None:
        """Copy a finished artifact there, the marker last."""
        try:
            for name in [*meta["files"], MARKER]:
                file = self._marker(ref) if name == MARKER else self._file(ref, meta, name)
                self._place[0].makedirs(os.path.dirname(file), exist_ok=True)  # noqa: PTH120, of a URL
                self._place[0].put_file(str(folder / name), file)
        except Exception as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> UserError:
        """Of a library that is not known here: S3's has errors of its own, that of a disk others."""
        text = str(error).strip().splitlines() or [""]
        return UserError(
            f"storage {self.url} failed ({type(error).__name__}: {text[0][:300]}). Is it reachable from each machine, "
            "with credentials in its environment? Run the same command again: what is finished is kept."
        )
