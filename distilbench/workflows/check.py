"""Check an entry of one of the six tables against its contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distilbench.plugins import OURS, entries_of
from distilbench.workflows.specs import read_options
from harness.checks import backend, benchmark, executor, judge, source
from harness.checks.finding import Finding, run_checks
from harness.errors import unknown


def check(
    table: str, name_or_file: str, options: Mapping[str, Any] | Sequence[str] = (), plugins: Sequence[str] = ()
) -> Iterator[tuple[Any, Finding]]:
    """Each entry with the outcome of each check, as they are made.

    Args:
        table: ``methods``, ``benchmarks``, ``judges``, ``sources``, ``backends`` or ``executors``.
        name_or_file: an entry's name, or a Python file that brings one or several.
        options: of the entry; default, its defaults.

    Raises:
        UserError: there is no such entry, or it has no such options.
    """
    from harness.checks import method  # imports torch

    if table not in OURS:
        raise unknown("table", table, OURS)
    modules = {"benchmarks": benchmark, "judges": judge, "sources": source, "backends": backend, "executors": executor}
    for entry in entries_of(table, name_or_file, plugins):
        config = read_options(entry.config, options)
        module = modules.get(table)
        findings = run_checks(module.CHECKS, entry, config) if module else method.check_method(entry, config)
        for finding in findings:
            yield entry, finding
