"""Files of the official question sets, pinned by sha256 in ``manifest.json``; some licences forbid to ship them.

Looked for in ``DISTILBENCH_ASSETS``, then in the user's cache.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Literal

from harness.errors import UserError, unknown_choice

Progress = Callable[[str, int, int | None], None]
"""(file, bytes so far, bytes in all or ``None``)"""


@dataclass(frozen=True)
class Asset:
    """``url``: ``None`` for what is computed; ``sha256``: empty where only the revision in ``url`` pins the file."""

    file: str
    kind: Literal["verbatim", "hub", "source", "recovered", "check"]
    url: str | None
    sha256: str
    bytes: int | None
    licence: str
    note: str = ""
    commit: str | None = None
    made_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class AssetStatus:
    file: str
    state: Literal["ok", "missing", "wrong"]
    path: Path | None
    message: str = ""


@cache
def manifest() -> Mapping[str, Asset]:
    text = Path(__file__).with_name("manifest.json").read_text(encoding="utf-8")
    rows = json.loads(text)["files"]
    return {row["file"]: Asset(**{**row, "made_from": tuple(row.get("made_from", ()))}) for row in rows}


def asset(name: str) -> Asset:
    if name not in manifest():
        raise unknown_choice("asset", name, manifest(), "`distilbench assets status` lists them.")
    return manifest()[name]


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "distilbench" / "assets"


def folders() -> list[Path]:
    folder = os.environ.get("DISTILBENCH_ASSETS")
    return [*([Path(folder).expanduser()] if folder else []), cache_folder()]


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remedy(pin: Asset) -> str:
    digest = f"sha256 {pin.sha256}" if pin.sha256 else "its sha256 is not known: it is taken as it is"
    manual_remedy = f"or place it by hand at {folders()[0] / pin.file} ({digest})"
    if pin.kind == "recovered":
        origin_file, count = pin.made_from[0], len(pin.made_from) - 1
        origin = f"computed from {origin_file} and {count} more pinned sources"
        return f"run `python -m scripts.recover_length_difficulties --fetch` in a clone ({origin}), {manual_remedy}."
    if pin.url is None:
        return f"it has no public source; {manual_remedy[3:]}."
    return (
        f"run `distilbench assets pull` (source: {pin.url}; licence: {pin.licence}), {manual_remedy}; "
        "DISTILBENCH_ASSETS names the folder to look in."
    )


_records: list[dict[str, AssetStatus]] = []


@contextmanager
def asked_for() -> Iterator[dict[str, AssetStatus]]:
    """The files that are looked for meanwhile, in this order."""
    record: dict[str, AssetStatus] = {}
    _records.append(record)
    try:
        yield record
    finally:
        _records.remove(record)


def check_asset(name: str) -> AssetStatus:
    """Whether it is there and is the pinned one. The first folder that has it decides."""
    status = _check(name)
    for record in _records:
        record[name] = status
    return status


def _check(name: str) -> AssetStatus:
    pin = asset(name)
    for folder in folders():
        path = folder / pin.file
        if path.is_file():
            digest = digest_of(path) if pin.sha256 else ""
            if digest == pin.sha256:
                return AssetStatus(name, "ok", path)
            wrong = f"{path} is not the pinned file: its sha256 is {digest}, expected {pin.sha256}. Remove it and "
            return AssetStatus(name, "wrong", path, wrong + _remedy(pin))
    folder_names = ", ".join(map(str, folders()))
    return AssetStatus(name, "missing", None, f"asset {name!r} is missing (looked in {folder_names}): {_remedy(pin)}")


def locate(name: str) -> Path:
    """A verified file. Raises UserError, with the remedy, when it is missing or not the pinned one."""
    check = check_asset(name)
    if check.state != "ok" or check.path is None:
        raise UserError(check.message)
    return check.path


def is_present(name: str) -> bool:
    check = check_asset(name)
    if check.state == "wrong":
        raise UserError(check.message)
    return check.state == "ok"


def status(names: Iterable[str] | None = None) -> list[AssetStatus]:
    return [check_asset(name) for name in (manifest() if names is None else names)]


def _download(pin: Asset, path: Path, progress: Progress | None) -> None:
    import urllib.request

    if pin.url is None:
        raise UserError(f"asset {pin.file!r} cannot be pulled: {_remedy(pin)}")
    if not pin.url.startswith(("https://", "http://127.0.0.1:")):  # the second for a mirror on this machine
        raise UserError(f"asset {pin.file!r}: {pin.url} is not an HTTPS address.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and moved there whole: a download that was broken off never counts as the file.
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    digest, byte_count = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(pin.url, timeout=60) as source, partial.open("wb") as sink:  # noqa: S310 - HTTPS only
            while block := source.read(1 << 18):
                sink.write(block)
                digest.update(block)
                byte_count += len(block)
                if progress is not None:
                    progress(pin.file, byte_count, pin.bytes)
        if pin.sha256 and digest.hexdigest() != pin.sha256:
            raise UserError(f"{pin.url} gave sha256 {digest.hexdigest()}, pinned is {pin.sha256}: nothing was stored.")
        partial.replace(path)
    except (OSError, ValueError, HTTPException) as error:  # urllib's own error is an OSError
        place = f"Try again, or place it by hand at {path}."
        raise UserError(f"cannot pull {pin.file!r} from {pin.url}: {error}. {place}") from error
    finally:
        partial.unlink(missing_ok=True)


def pull(names: Iterable[str] | None = None, progress: Progress | None = None) -> list[AssetStatus]:
    """Download what is not there yet, checked by sha256, whatever fails. ``None``: all that a benchmark may read."""
    if names is None:
        names = [name for name, pin in manifest().items() if pin.kind in ("verbatim", "hub")]
    preferred = folders()[0]
    target = preferred if preferred.is_dir() and os.access(preferred, os.W_OK) else cache_folder()
    results = []
    for name in names:
        pin = asset(name)
        try:
            if check_asset(name).state != "ok":
                _download(pin, target / pin.file, progress)
            results.append(check_asset(name))
        except UserError as error:
            results.append(AssetStatus(name, "missing", None, str(error)))
    return results
