"""Put the canary's fixed questions to a judge once more, and compare with its earlier replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from distilbench.plugins import load_registry
from distilbench.workflows.specs import JUDGE, judge_entry
from harness.contracts.judge import AskOptions, JudgeError
from harness.contracts.option_errors import RecipeError
from harness.errors import UserError
from harness.recipe.sections import read_judges
from judges.client.canary import CanaryRound, ask_round, rounds


@dataclass(frozen=True)
class CanaryReport:
    """One round of a judge and those before it."""

    model: str
    endpoint: str
    now: CanaryRound
    before: Sequence[CanaryRound]
    errors: Sequence[JudgeError]
    """Calls that failed."""


def ask_canary(judge: str, ledger: Path, *, timeout: float = 120.0, plugins: Sequence[str] = ()) -> CanaryReport:
    """Ask a judge the canary's 16 questions again. Raises UserError where it cannot be reached.

    Args:
        judge: as for ``evaluate``.
        timeout: seconds per call.
    """
    registry = load_registry(plugins)
    entries, problems = read_judges({JUDGE: judge_entry(judge, registry)}, registry)
    if problems:
        raise RecipeError(problems, "--judge")
    kind = registry.judges[entries[JUDGE].kind]
    config = entries[JUDGE].config
    asked = kind.make(config)
    if problem := asked.check():
        raise UserError(problem)
    before = rounds(asked, ledger) if ledger.is_file() else []
    options = AskOptions(timeout=timeout, price=partial(kind.price, config), thinking=kind.thinking(config))
    now, outcomes = ask_round(asked, ledger, options)
    errors = [outcome for outcome in outcomes if isinstance(outcome, JudgeError)]
    return CanaryReport(asked.model, asked.endpoint, now, before, errors)
