"""How checks are run and reported, and the check of options that all six contracts share."""

from __future__ import annotations

import dataclasses
import inspect
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts.options import explanations, is_options
from harness.text import counted


class Failed(Exception):
    """What is wrong with an entry, in one sentence."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    detail: str = ""
    """What was seen, where all is well."""
    problem: str | None = None
    """What is wrong."""


def run_checks(checks: Mapping[str, Callable[..., str]], entry: Any, *arguments: Any) -> Iterator[Finding]:
    """All checks, one after the other: each is called with the entry and ``arguments``, and returns what it saw.

    A check that raises anything has failed.
    """
    for name, check in checks.items():
        try:
            yield Finding(name, check(entry, *arguments))
        except Failed as problem:
            yield Finding(name, problem=str(problem))
        except Exception as error:  # noqa: BLE001 - whatever somebody else's code raises is to be reported
            yield Finding(name, problem=f"{type(error).__name__}: {error}{_place(error, entry)}")


def _place(error: Exception, entry: Any) -> str:
    """`` (my_method.py:31)``: the innermost line of the entry's own file, where the error went through it."""
    file = inspect.getsourcefile(entry.config) or ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(file).name}:{lines[-1]})" if lines else ""


def require(holds: object, problem: str) -> None:
    """Raise ``Failed`` unless ``holds``."""
    if not holds:
        raise Failed(problem)


def require_json(value: Any, what: str) -> None:
    """Raise ``Failed`` unless ``value`` is plain JSON that reads back as itself: it enters a key, or a file."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Failed(f"{what} is not plain JSON: {error}") from error
    require(json.loads(text) == value, f"{what} does not read back from JSON as itself (a tuple, or a key not a text?)")


def options_check(*reserved: str) -> Callable[..., str]:
    """The check of an entry's options. ``reserved``: keys that a recipe uses itself where they stand."""

    def check_options(entry: Any, *_: Any) -> str:
        """Made with ``@options``, which checks them, and a docstring under each."""
        kind = entry.config
        require(is_options(kind), f"the config {kind.__name__} must be made with @options (harness.contracts.options)")
        fields = {field.name for field in dataclasses.fields(kind)}
        taken = sorted(fields.intersection(reserved))
        require(not taken, f"options may not be called {', '.join(taken)}: recipes use these keys for themselves")
        bare = sorted(fields - explanations(kind).keys())
        require(not bare, f"no docstring under {', '.join(bare)}")
        return f"{counted(len(fields), 'option')}, each explained"

    return check_options
