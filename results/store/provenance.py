"""Where and with what an artifact was made, as plain JSON. No package is imported; no environment variable or command
line is kept (either may hold a key)."""

from __future__ import annotations

import math
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

from harness.types import Json

PACKAGES = (
    "distilbench", "torch", "transformers", "tokenizers", "safetensors", "accelerate", "peft", "trl", "datasets",
    "lm-eval", "openai", "numpy", "scikit-learn", "scipy", "vllm", "sglang", "llama-cpp-python", "ray",
)  # fmt: skip


def provenance() -> dict[str, object]:
    """What is known before the work starts; ``started`` is UTC in ISO format."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "git": git_state(),
    }


@cache
def package_versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@cache
def git_state() -> dict[str, object] | None:
    """``{"commit": hex, "dirty": bool}`` of the source that runs; ``None`` without git or a commit."""
    # without tags it is the whole hash, and "-dirty" after it where tracked files have changed
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = Path(__file__).resolve().parent
    try:
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    commit, _, dirty = process.stdout.strip().partition("-")
    return {"commit": commit, "dirty": bool(dirty)}


def json_value(value: object) -> Json:
    """``value`` as JSON can hold it: NaN and infinities as text (no training is lost over one), else ``str``."""
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(item) for item in value]
    if callable(item := getattr(value, "item", None)):  # numpy and torch scalars
        with suppress(TypeError, ValueError, RuntimeError):  # more than one element
            value = item()
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)
