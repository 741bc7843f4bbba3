"""Checks of a method against its contract, on tiny random models: what ``distilbench check-method`` and the tests run.

    for finding in check_method(METHOD):
        print(finding.name, finding.problem or finding.detail)

Each check is a function (method, config, world) -> what it saw, which raises ``Failed`` with what is wrong. They know
no method by name. What they cannot see is whether the equation is right: that takes a test with arithmetic by hand.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.checks.data_checks import Failed, World, check_config, check_needs, check_rows
from harness.checks.training_checks import check_micro_batches, check_resume, check_seed, check_trains
from harness.contracts.method import Method

CHECKS: Mapping[str, Callable[[Method, Any, World], str]] = {
    "config": check_config,
    "rows": check_rows,
    "needs": check_needs,
    "trains": check_trains,
    "micro-batches": check_micro_batches,
    "seed": check_seed,
    "resume": check_resume,
}
"""In the order in which they run, cheap ones first."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    detail: str = ""
    """What was seen, where all is well."""
    problem: str | None = None
    """What is wrong."""


def check_method(method: Method, config: Any = None, world: World | None = None) -> Iterator[Finding]:
    """All checks, one after the other; a check that raises anything has failed.

    ``config``: of type ``method.config``; default, all defaults. ``world``: default, one in a temporary folder.
    """
    if world is None:
        with tempfile.TemporaryDirectory(prefix="distilbench-check-") as folder:
            yield from check_method(method, config, World(Path(folder)))
        return
    for name, check in CHECKS.items():
        try:
            yield Finding(name, check(method, method.config() if config is None else config, world))
        except Failed as problem:
            yield Finding(name, problem=str(problem))
        except Exception as error:  # noqa: BLE001 - whatever a method of somebody else's raises is to be reported
            yield Finding(name, problem=f"{type(error).__name__}: {error}{_place(error, method)}")


def _place(error: Exception, method: Method) -> str:
    """`` (my_method.py:31)``: the innermost line of the method's own file, where the error went through it."""
    file = inspect.getsourcefile(method.config) or ""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f" ({Path(file).name}:{lines[-1]})" if lines else ""
