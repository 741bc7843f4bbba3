"""Figures that need not be drawn again: drawing takes longer than everything else that a report does.

Beside the figures lies ``.<target>.figures.json``: a hash of all that they were drawn from, and of each file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from results.run.results import Results
from results.store.locks import write_atomic


def drawn_from(table: str, results: Results) -> str:
    """Hash of the table's numbers (its JSON), the students' costs and curves, and of what draws them."""
    digest = hashlib.sha256(table.encode())
    for place, one in sorted(results.trained.items()):
        told = [place, one.seconds, one.complete, one.torch, one.curve]
        digest.update(json.dumps(told, sort_keys=True, default=dict).encode())
    for file in drawn_by():
        digest.update(file.read_bytes())
    digest.update(version("matplotlib").encode())
    return digest.hexdigest()


def drawn_by() -> list[Path]:
    """The files that decide how numbers are drawn: figures, what a target puts where, looks, and words."""
    reports = Path(__file__).parents[1]
    folders = [file for name in ("figures", "targets", "tables") for file in (reports / name).glob("*.py")]
    return sorted(folders)


def kept(folder: Path, target: str, source: str) -> list[Path] | None:
    """The figures that were drawn from the same before, in order; ``None`` where one is missing or was changed."""
    try:
        record = json.loads(_record(folder, target).read_bytes())
        files = {folder / name: known for name, known in record["files"].items()}
        whole = all(hashlib.sha256(file.read_bytes()).hexdigest() == known for file, known in files.items())
    except (OSError, ValueError, KeyError, AttributeError):  # none yet, or not ours: then draw
        return None
    return list(files) if whole and record.get("source") == source else None


def keep(folder: Path, target: str, source: str, figures: Mapping[str, bytes]) -> list[Path]:
    """Write figures (file name to content), and then the record of them."""
    paths = [write_atomic(folder / name, content) for name, content in figures.items()]
    files = {name: hashlib.sha256(content).hexdigest() for name, content in figures.items()}
    text = json.dumps({"source": source, "files": files}, indent=1)
    write_atomic(_record(folder, target), (text + "\n").encode())
    return paths


def _record(folder: Path, target: str) -> Path:
    return folder / f".{target}.figures.json"
