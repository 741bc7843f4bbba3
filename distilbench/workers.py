"""The log of every process, with secrets hidden, and the registry and store of a worker process."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distilbench.installation import FOLDERS
from results.store.store import ArtifactStore

if TYPE_CHECKING:
    from harness.contracts.registry import Registry

SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)
SECRET_TEXT = re.compile(r"\b((?:sk|hf|gsk|xai)[-_][A-Za-z0-9_-]{8,}|Bearer\s+[^\s'\"]+)")
HIDDEN = "(hidden)"
SHORTEST_SECRET = 8  # an environment variable PAGER_KEY=q must not blank every q


class RedactingFormatter(logging.Formatter):
    """Hides the values of secret environment variables and everything in the shape of a key, in tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for name, value in os.environ.items():
            if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET:
                text = text.replace(value, HIDDEN)
        return SECRET_TEXT.sub(HIDDEN, text)


def start_logging(level: int) -> None:
    """Log what we do to stderr, from a level of ``logging`` on; for debugging with the place of each message.

    Libraries (HTTP, fonts, figures) only warn: a user who wants to see what happens does not mean their glyphs.
    """
    location = " (%(filename)s:%(lineno)d)" if level <= logging.DEBUG else ""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter(f"%(asctime)s %(levelname)s %(name)s: %(message)s{location}", "%H:%M:%S"))
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    for name in ("distilbench", "harness", *FOLDERS):
        logging.getLogger(name).setLevel(level if level < logging.WARNING else logging.NOTSET)


def set_up_worker(plugins: Sequence[str], store: Path, level: int = logging.WARNING) -> tuple[Registry, ArtifactStore]:
    """Registry and store, as a worker process makes them for itself (a ``functools.partial`` of this is picklable)."""
    # Every command starts its log with this module; only workers need numpy and pydantic, which the registry imports.
    from distilbench.plugins import load_registry

    start_logging(level)
    return load_registry(plugins), ArtifactStore(store)
