"""Students by name: ``runs/NAME/students/ROW-seed0`` leads to the checkpoint in the store: nothing is there twice.

A link is relative: it holds where the folder of runs is moved or mounted. Where the file system has no links, a text
file of this name (``ROW-seed0.txt``) says where the checkpoint is. What somebody else put there is left alone.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from harness.contracts.stage import Ref
from harness.errors import UNWRITABLE
from results.store.locks import write_atomic
from results.store.store import ArtifactStore, relative_folder

FOLDER = "students"
_INTO = "../../store/"
"""How every link begins; a link elsewhere is not ours."""


def student_name(row: str, seed: int) -> str:
    return f"{row}-seed{seed}"


def link_students(folder: Path, students: Mapping[str, Ref], store: ArtifactStore) -> None:
    """Make ``folder/students`` name exactly these, as far as they are in the store; it need not be writable."""
    place = folder / FOLDER
    wanted = {
        name: f"{_INTO}{relative_folder(*ref)}/model"
        for name, ref in students.items()
        if (store.root / relative_folder(*ref) / "model").is_dir()
    }
    if not wanted and not place.is_dir():
        return
    try:
        place.mkdir(exist_ok=True)
        for path in ours(place):
            if path.name.removesuffix(".txt") not in wanted:
                path.unlink(missing_ok=True)
        for name, target in wanted.items():
            _link(place / name, target)
        with suppress(OSError):  # not empty
            place.rmdir()
    except OSError as error:  # of use, but nothing depends on it
        if error.errno not in UNWRITABLE:
            raise


def ours(place: Path) -> Iterator[Path]:
    """The links and files that ``link_students`` made."""
    for path in sorted(place.iterdir()):
        if path.is_symlink():
            if str(path.readlink()).startswith(_INTO):
                yield path
        elif path.suffix == ".txt" and path.is_file() and path.read_bytes()[: len(_INTO)] == _INTO.encode():
            yield path


def _link(path: Path, target: str) -> None:
    if path.is_symlink() and str(path.readlink()) == target:
        return
    if os.path.lexists(path) and path not in ours(path.parent):
        return
    draft = path.with_name(f".{uuid.uuid4().hex}")
    try:
        draft.symlink_to(target, target_is_directory=True)
    except (OSError, NotImplementedError):  # FAT, some network shares, Windows without the right to make links
        write_atomic(path.with_name(f"{path.name}.txt"), f"{target}\n".encode())
    else:
        draft.replace(path)  # another run of this recipe may do the same at this moment
