"""What a stage has done so far, piece by piece, in a file that outlives its process: a stage that was stopped or killed
goes on from there, to the same bytes. It lies in the stage's scratch folder and goes with it."""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
FILE = "journal.jsonl"


class Line(NamedTuple):
    """Where a piece's result lies in the file, and how long it took."""

    start: int
    length: int
    seconds: float


class Journal:
    def __init__(self, folder: Callable[[], Path] | None = None) -> None:
        """``folder`` makes the folder of the file, at the first piece; ``None``: nothing is kept."""
        self._make_folder = folder
        self.seconds = 0.0  # that the pieces took which were there already

    @cached_property
    def folder(self) -> Path | None:
        return None if self._make_folder is None else self._make_folder()

    def once(self, content: object, make: Callable[[], T], is_valid: Callable[[T], bool] = lambda value: True) -> T:
        """What ``make`` returns (JSON), or returned in an earlier process for the same ``content``: plain JSON of
        everything that decides the result within the stage. ``is_valid``: whether what was kept may still be used."""
        found: T | None = self.find(content, is_valid)
        if found is not None:
            return found
        start = time.monotonic()
        result = make()
        self.keep(content, result, time.monotonic() - start)
        return result

    def find(self, content: object, is_valid: Callable[[Any], bool] = lambda value: True) -> Any | None:
        """What an earlier process kept for ``content``; ``None``: nothing."""
        if self.folder is None or not self._lines:
            return None
        line = self._lines.get(digest(content))
        if line is None:
            return None
        with (self.folder / FILE).open("rb") as file:
            file.seek(line.start)
            result = json.loads(file.read(line.length))
        if not is_valid(result):
            return None
        self.seconds += line.seconds
        return result

    def keep(self, content: object, result: object, seconds: float) -> None:
        """``result`` (JSON) for ``find`` in a later process; ``seconds`` that it took."""
        if self.folder is None:
            return
        text = f"{digest(content)} {seconds:.3f} {json.dumps(result, separators=(',', ':'))}".encode()
        # The end of a line that a kill cut short is left behind by the break that begins the next one.
        with (self.folder / FILE).open("ab") as file:
            file.write(b"\n%08x %s" % (zlib.crc32(text), text))

    @cached_property
    def _lines(self) -> dict[str, Line]:
        """By key, what earlier processes left; lines that are not whole are passed over."""
        lines: dict[str, Line] = {}
        path = Path(self.folder or "", FILE)
        if not path.is_file():
            return lines
        place = 0
        with path.open("rb") as file:
            for raw in file:
                checksum, _, text = raw.rstrip(b"\n").partition(b" ")
                if checksum == b"%08x" % zlib.crc32(text):
                    key, seconds, result = text.split(b" ", 2)
                    start = place + len(raw.rstrip(b"\n")) - len(result)
                    lines[key.decode()] = Line(start, len(result), float(seconds))
                place += len(raw)
        return lines


def digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:32]
