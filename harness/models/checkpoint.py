"""Where a model is, and what it is: resolving a recipe's model names without importing torch.

A name is ``pocket:NAME`` (shipped with the package), a local folder, or a hub id (``owner/name`` or
``owner/name@revision``). A stage's key holds the *fingerprint* of the content, never the place it lies in.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from harness.contracts.model import Checkpoint
from harness.errors import UserError
from harness.models.checkpoint_files import check_folder

WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "*.model")
CODE = ("*.py",)
"""Fetched, and run, only under ``family.trust_remote_code``."""
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "*.jinja", "*.model")
HASH_WHOLE = 1 << 30
"""Files above this size are fingerprinted by size and their first and last MiB: hashing 18 GB takes minutes."""


def at(name: str, folder: Path) -> Checkpoint:
    """The checkpoint in a local folder."""
    return Checkpoint(name, str(folder), None, fingerprint(folder, (*WEIGHTS, *CODE)), fingerprint(folder, TOKENIZER))


def resolve(name: str) -> Checkpoint:
    """Find a model by its name in a recipe. Raises UserError naming the value, the choices and the remedy."""
    if name.startswith("pocket:"):
        from harness.pocket import checkpoint

        try:
            folder = checkpoint(name.removeprefix("pocket:"))
        except (ValueError, FileNotFoundError) as error:
            raise UserError(f"model {name!r}: {error}") from error
        return at(name, folder)
    path = Path(name).expanduser()
    if path.is_dir():
        check_folder(name, path)
        return at(name, path)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(
            f"model {name!r} is neither a folder, nor 'pocket:NAME', nor a hub id 'owner/name[@revision]'. "
            "Check the path, or make the checkpoint first."
        )
    hub_id, _, revision = name.partition("@")
    commit = hub_commit(hub_id, revision or "main")
    return Checkpoint(name, hub_id, commit, f"hub:{hub_id}@{commit}", f"hub:{hub_id}@{commit}")


def hub_folder(location: str, revision: str | None) -> Path:
    """Where a checkpoint's files lie: its folder, or its snapshot in the local hub cache (which may not exist)."""
    folder = Path(location)
    if folder.is_dir():
        return folder
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / ("models--" + location.replace("/", "--")) / "snapshots" / str(revision)


@lru_cache(maxsize=64)
def hub_commit(hub_id: str, revision: str, kind: Literal["model", "dataset"] = "model") -> str:
    """The commit that ``revision`` names now: asked of the hub, or read from the local cache when offline."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    error: object = "HF_HUB_OFFLINE is set"
    if not HF_HUB_OFFLINE:
        try:
            return str(HfApi().repo_info(hub_id, revision=revision, repo_type=kind, timeout=10).sha)
        except Exception as caught:  # noqa: BLE001, many kinds: no network, gated, unknown; the cache may still have it
            error = caught
    repo = Path(HF_HUB_CACHE) / (f"{kind}s--" + hub_id.replace("/", "--"))
    ref = repo / "refs" / revision
    if ref.is_file():
        return ref.read_text().strip()
    if (repo / "snapshots" / revision).is_dir():
        return revision
    raise UserError(
        f"{kind} {hub_id!r} (revision {revision!r}) is not in the local hub cache and the hub did not give it: "
        f"{error}. Log in for gated repositories (`hf auth login`), or give a local path instead."
    )


def fingerprint(folder: Path, patterns: Sequence[str]) -> str:
    """Hex digest over the names and contents of the files that match."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    stats = tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _fingerprint(str(folder.resolve()), stats)


@lru_cache(maxsize=256)
def _fingerprint(folder: str, stats: tuple[tuple[str, int, int], ...]) -> str:
    """Cached by name, size and time, so that a plan hashes each checkpoint once."""
    digest = hashlib.sha256()
    for name, size, _ in stats:
        digest.update(f"{name}\0{size}\0".encode())
        with (Path(folder) / name).open("rb") as file:
            if size <= HASH_WHOLE:
                while block := file.read(1 << 22):
                    digest.update(block)
            else:
                digest.update(file.read(1 << 20))
                file.seek(-(1 << 20), os.SEEK_END)
                digest.update(file.read())
    return digest.hexdigest()[:32]
