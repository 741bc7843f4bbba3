"""Checks of a method against its contract, on tiny random models: what ``distilbench check-method`` and the tests run.

    for finding in check_method(METHOD):
        print(finding.name, finding.problem or finding.detail)

Each check is a function (method, config, world) -> what it saw, which raises ``Failed`` with what is wrong. They know
no method by name. What they cannot see is whether the equation is right: that takes a test with arithmetic by hand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.checks.data_checks import World, check_config, check_needs, check_rows
from harness.checks.finding import Finding, run_checks
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


def check_method(method: Method, config: Any = None, world: World | None = None) -> Iterator[Finding]:
    """All checks, one after the other; a check that raises anything has failed.

    ``config``: of type ``method.config``; default, all defaults. ``world``: default, one in a temporary folder.
    """
    config = method.config() if config is None else config
    if world is not None:
        yield from run_checks(CHECKS, method, config, world)
        return
    with tempfile.TemporaryDirectory(prefix="distilbench-check-") as folder:
        yield from run_checks(CHECKS, method, config, World(Path(folder)))
