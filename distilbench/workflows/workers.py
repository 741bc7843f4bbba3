"""What every process of a run needs first: its log, and in a worker the registry and the store.

Logs go to stderr, with everything that looks like a secret hidden.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from results.store.store import ArtifactStore

if TYPE_CHECKING:
    from harness.contracts.registry import Registry

SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)
SECRET_TEXT = re.compile(r"\b((?:sk|hf|gsk|xai)[-_][A-Za-z0-9_-]{8,}|Bearer\s+[^\s'\"]+)")
HIDDEN = "(hidden)"
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
"""Of no ``-v``, ``-v`` and ``-vv``."""
SHORTEST_SECRET = 8  # an environment variable PAGER_KEY=q must not blank every q


def redact(text: str) -> str:
    """``text`` without the values of secret environment variables, and without anything in the shape of a key."""
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    return SECRET_TEXT.sub(HIDDEN, text)


class Redaction(logging.Filter):
    """Hides secrets in a record's message and traceback before any handler formats them."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


def start_logging(verbose: int) -> None:
    """Log to stderr: warnings only; with ``-v`` information too, with ``-vv`` everything and where it comes from."""
    handler = logging.StreamHandler()
    handler.addFilter(Redaction())
    place = " (%(filename)s:%(lineno)d)" if verbose > 1 else ""
    form = f"%(asctime)s %(levelname)s %(name)s: %(message)s{place}"
    level = LEVELS[min(verbose, len(LEVELS) - 1)]
    logging.basicConfig(level=level, format=form, datefmt="%H:%M:%S", handlers=[handler], force=True)


def verbosity() -> int:
    """What ``start_logging`` was given in this process: how many ``-v``."""
    level = logging.getLogger().level
    return LEVELS.index(level) if level in LEVELS else 0


def set_up_worker(plugins: Sequence[str], store: Path, verbose: int = 0) -> tuple[Registry, ArtifactStore]:
    """Registry and store, as a worker process makes them for itself (a ``functools.partial`` of this is picklable).

    Args:
        verbose: how many ``-v`` the command was given; a worker logs as its command does.
    """
    # Every command starts its log with this module; only workers need numpy and pydantic, which the registry imports.
    from distilbench.plugins import load_registry

    start_logging(verbose)
    return load_registry(plugins), ArtifactStore(store)
