"""Which values a search tries, and the stages of its trials: ordinary rows with ordinary keys.

Trials are proposed in rounds of a stated size and a round waits for the one before, so that neither the number of
workers nor their pace decides what is tried: equal arguments give equal trials on any machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.plan.plan import PlannedRow, Planner
from harness.recipe.space import Choices, Range, Space
from harness.stats import seed_of

ROUND = 4
"""Trials that are proposed at once where proposals depend on results."""
STARTUP = 5
"""Trials of a row that TPE draws at random first; Optuna's default of 10 leaves little of a budget of 16."""


@dataclass(frozen=True)
class Trial:
    """One setting of a row. Number 0 is the recipe's own."""

    row: str
    number: int
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.row}-trial-{self.number:02d}"


class Sampler(Protocol):
    """Proposes the values of one row's trials."""

    def propose(self, numbers: Sequence[int]) -> list[dict[str, Any]]: ...

    def tell(self, number: int, values: Mapping[str, Any], score: float | None) -> None:
        """``None``: there is no score. Every trial of a round is told, in order, before the next is proposed."""


class RandomSampler:
    """Every trial is drawn by itself: more trials later hold the fewer of before, and rows that share a knob's range
    are tried at the same values."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed

    def propose(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {knob: domain.at(seed_of("search", self.seed, number, knob) / 2**31) for knob, domain in self.space.items()}
            for number in numbers
        ]

    def tell(self, number: int, values: Mapping[str, Any], score: float | None) -> None:
        pass


class TpeSampler:
    """The tree-structured Parzen estimator (Bergstra et al. 2011) of Optuna, maximising."""

    def __init__(self, space: Space, seed: int) -> None:
        try:
            import optuna
        except ImportError as error:
            raise UserError(
                "the sampler tpe needs Optuna: pip install 'distilbench[search]'. The sampler random needs nothing."
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        # The trials of a round that are not told yet count as bad, so that it does not propose one place four times.
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)
        self.study = optuna.create_study(sampler=sampler, direction="maximize")
        self.optuna = optuna
        self.distributions = {knob: self._distribution(domain) for knob, domain in space.items()}
        self.asked: dict[int, int] = {}

    def propose(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        proposals = []
        for number in numbers:
            trial = self.study.ask(self.distributions)
            self.asked[number] = trial.number
            proposals.append({knob: _value(domain, trial.params[knob]) for knob, domain in self.space.items()})
        return proposals

    def tell(self, number: int, values: Mapping[str, Any], score: float | None) -> None:
        trial_module = self.optuna.trial
        if number in self.asked:
            state = trial_module.TrialState.FAIL if score is None else trial_module.TrialState.COMPLETE
            self.study.tell(self.asked[number], score, state=state)
        elif score is not None and all(domain.place(values[knob]) is not None for knob, domain in self.space.items()):
            # The recipe's own setting; TPE cannot take one that lies outside of its space.
            params = {knob: _param(domain, values[knob]) for knob, domain in self.space.items()}
            trial = trial_module.create_trial(params=params, distributions=self.distributions, value=score)
            self.study.add_trial(trial)

    def _distribution(self, domain: Range | Choices) -> Any:
        """Optuna's."""
        kinds = self.optuna.distributions
        if isinstance(domain, Choices):
            return kinds.CategoricalDistribution(range(len(domain.values)))
        if domain.integer:
            return kinds.IntDistribution(int(domain.low), int(domain.high), log=domain.log)
        return kinds.FloatDistribution(domain.low, domain.high, log=domain.log)


def _value(domain: Range | Choices, param: Any) -> Any:
    return domain.values[param] if isinstance(domain, Choices) else domain.rounded(param)


def _param(domain: Range | Choices, value: Any) -> Any:
    return domain.values.index(value) if isinstance(domain, Choices) else value


class TrialPlanner(Planner):
    """Scores each row by itself: a trial's score must not depend on which others there are."""

    def scores(self, benchmark: str, rows: Sequence[PlannedRow]) -> dict[str, Stage]:
        by_row: dict[str, list[PlannedRow]] = {}
        for row in rows:
            by_row.setdefault(row.row, []).append(row)
        scores: dict[str, Stage] = {}
        for group in by_row.values():
            scores |= super().scores(benchmark, group)
        return scores
