"""The frame of all checks. A check is a function (entry, config) -> what it saw, or raises ``CheckFailed``."""

import dataclasses
import inspect
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from harness.contracts.options import explanations, field_tree, is_options
from harness.text import format_count

T = TypeVar("T")
Checks = Mapping[str, Callable[..., str]]


class Entry(Protocol):
    @property
    def config(self) -> type[object]: ...


class CheckFailed(Exception):
    """What is wrong with an entry, in one sentence."""


@dataclass(frozen=True)
class Finding:
    name: str
    detail: str = ""
    problem: str | None = None


def run_checks(checks: Checks, entry: Entry, *arguments: object) -> Iterator[Finding]:
    for name, check in checks.items():
        try:
            yield Finding(name, check(entry, *arguments))
        except CheckFailed as problem:
            yield Finding(name, problem=str(problem))
        except Exception as error:  # noqa: BLE001 - whatever somebody else's code raises is to be reported
            yield Finding(name, problem=f"{type(error).__name__}: {error}{_place(error, entry)}")


def _place(error: Exception, entry: Entry) -> str:
    """`` (my_method.py:31)``: the innermost line of the entry's own file, where the error went through it."""
    file = inspect.getsourcefile(entry.config) or ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(file).name}:{lines[-1]})" if lines else ""


def require(holds: object, problem: str) -> None:
    if not holds:
        raise CheckFailed(problem)


def repeatable(call: Callable[[], T], name: str) -> T:
    value = call()
    require(value == call(), f"{name} gives something else when it is called again")
    return value


def require_json(value: object, subject: str) -> None:
    try:
        text = json.dumps(_lists(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"{subject} is not plain JSON: {error}") from error
    require(json.loads(text) == _lists(value), f"{subject} does not read back from JSON as itself: a key is not a text")


def _lists(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def options_check(*reserved_names: str) -> Callable[..., str]:
    """``reserved_names``: keys that a recipe uses itself where the options stand."""

    def check_options(entry: Entry, *_: object) -> str:
        kind = entry.config
        require(is_options(kind), f"the config {kind.__name__} must be made with @options (harness.contracts.options)")
        names = set(field_tree(kind))
        clashes = sorted(names.intersection(reserved_names))
        require(not clashes, f"options may not be called {', '.join(clashes)}: recipes use these keys for themselves")
        undocumented = sorted(names - explanations(kind).keys())
        require(not undocumented, f"no docstring under {', '.join(undocumented)}")
        return f"{format_count(len(names), 'option')}, each explained"

    return check_options
