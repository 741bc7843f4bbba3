"""Checksums: the sha256 of every file of an artifact, kept in its marker, and what differs from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MARKER = "meta.json"
CHECKSUM = ',\n "checksum": "'
"""What stands before the checksum in a marker."""


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """By path in ``folder``, the marker left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): checksum(path) for path in files if path != folder / MARKER}


def files_checksum(meta: Mapping[str, Any]) -> str:
    """Of all files of an artifact at once, by its marker."""
    return hashlib.sha256(json.dumps(meta["files"], sort_keys=True).encode()).hexdigest()


def marker_text(content: Mapping[str, Any]) -> str:
    """The file of a marker: this content, and as its last entry the sha256 of the text before that entry."""
    own = {name: value for name, value in content.items() if name != "checksum"}
    text = json.dumps(own, indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    return f'{text}{CHECKSUM}{hashlib.sha256(text.encode()).hexdigest()}"\n}}\n'


def is_sound(raw: bytes) -> bool:
    """Whether a marker's file is byte for byte what ``marker_text`` made."""
    # The text itself, not what it says: a plan's end reads thousands of markers, and JSON takes longer to write than
    # to read.
    text, _, end = raw.rpartition(CHECKSUM.encode())
    return end == f'{hashlib.sha256(text).hexdigest()}"\n}}\n'.encode()


def damaged_files(folder: Path, meta: Mapping[str, Any], part: str = ".") -> Iterator[str]:
    """What is wrong with ``part`` of an artifact (a file, a folder, or "." for all of it), a sentence per file."""
    for name, digest in meta["files"].items():
        if part in (".", name) or name.startswith(f"{part}/"):
            path = folder / name
            try:
                if checksum(path) != digest:
                    yield f"{path} is not what its stage wrote (its sha256 is not that in {MARKER})"
            except OSError as error:
                yield f"{path} cannot be read ({error.strerror})"


def read_marker(file: str) -> dict[str, Any]:
    """An artifact's marker. Raises OSError, and ValueError where it is not what its stage wrote."""
    with open(file, "rb") as stream:  # of thousands of files: a Path takes several times as long to make
        raw = stream.read()
    # A marker without a checksum is one that was changed, too; one of another artifact has its key.
    meta: dict[str, Any] = json.loads(raw) if is_sound(raw) else {}
    if not file.endswith(f"/{meta.get('key')}/{MARKER}"):
        raise ValueError("it is not what its stage wrote")
    return meta


def foreign_files(folder: Path, meta: Mapping[str, Any]) -> Iterator[str]:
    """Files that were put beside those of the artifact, a sentence for each."""
    names_on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in sorted(names_on_disk - {MARKER, *meta["files"]}):
        yield f"{folder / name} was not there when the artifact was made"
