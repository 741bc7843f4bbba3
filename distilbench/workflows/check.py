"""Checks: an entry of one of the six tables against its contract, and a judge against its earlier replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distilbench.plugins import OURS, entries_of, load_registry
from distilbench.workflows.specs import JUDGE, judge_entry, parse_options
from harness.checks.finding import Finding, run_checks
from harness.checks.suites import SUITES
from harness.contracts.judge import AskOptions, ConfiguredJudge, Judge, JudgeError
from harness.contracts.options import RecipeError
from harness.errors import UserError, unknown
from harness.recipe.reader import SectionReader
from judges.client.canary import CanaryRound, ask_round, rounds


def check(
    table: str, name_or_file: str, options: Mapping[str, object] | Sequence[str] = (), plugins: Sequence[str] = ()
) -> Iterator[tuple[Any, Finding]]:
    """Each entry (of a name, or of a Python file that brings some) with the outcome of each check, as they are made.

    Raises UserError: there is no such table or entry, or it has no such options.
    """
    if table not in OURS:
        raise unknown("table", table, OURS)
    for entry in entries_of(table, name_or_file, plugins):
        config = parse_options(entry.config, options)
        if table in SUITES:
            findings = run_checks(SUITES[table], entry, config)
        else:
            from harness.checks.method import check_method  # imports torch, which the other checks do without

            findings = check_method(entry, config)
        for finding in findings:
            yield entry, finding


def ask_canary(
    judge: str, ledger: Path, *, timeout: float = 120.0, plugins: Sequence[str] = ()
) -> tuple[Judge, list[CanaryRound], list[JudgeError]]:
    """Ask a judge the canary's 16 questions again: the judge, all its rounds (the new one last), the calls that failed.

    ``timeout``: seconds per call. Raises UserError where the judge cannot be reached.
    """
    registry = load_registry(plugins)
    reader = SectionReader(registry)
    entries = reader.judges({JUDGE: judge_entry(judge, registry)})
    if reader.problems:
        raise RecipeError(reader.problems, "--judge")
    configured = ConfiguredJudge(registry.judges[entries[JUDGE].kind], entries[JUDGE].config)
    client = configured.kind.make(configured.config)
    if problem := client.check():
        raise UserError(problem)
    before = rounds(client, ledger)
    now, outcomes = ask_round(client, ledger, AskOptions(timeout=timeout), configured.billing())
    errors = [outcome for outcome in outcomes if isinstance(outcome, JudgeError)]
    return client, [*before, now], errors
