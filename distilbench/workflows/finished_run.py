"""A finished run: its tables, its scores, and the answers and judgments behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError, unknown
from reports.targets import find_target
from results.run.costs import with_costs
from results.run.record import Run
from results.run.results import Results, join
from results.store.store import ArtifactStore

if TYPE_CHECKING:
    import pandas as pd

    from distilbench.workflows.plan import WorkPlan
    from harness.run.scheduler import Outcome
    from reports.tables.view import TableView


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """One recipe's folder ``runs/NAME``, with one or more targets.

    Methods take the name of a target; without one they mean ``table1``, or the only target that there is.
    """

    folder: Path
    store: ArtifactStore
    records: Mapping[str, Run]
    """Target to its record."""
    outcome: Outcome | None = None
    """What ran and what failed; ``None`` for a run that was loaded."""
    work: WorkPlan | None = None
    """The plan that was run; ``None`` for a run that was loaded."""
    _results: dict[str, Results] = field(default_factory=dict, repr=False)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, in the order in which they were asked for."""
        return tuple(self.records)

    def results(self, target: str | None = None) -> Results:
        """Scores of a target joined with its record. Raises UserError for a score that is gone from the store."""
        name = self._choose(target)
        if name not in self._results:
            results = join(self.records[name], self.store, self.folder / name / "run.json")
            self._results[name] = with_costs(results) if find_target(name).measured else results
        return self._results[name]

    def frame(self, target: str | None = None) -> pd.DataFrame:
        """Tidy scores: one line per row, metric and seed, with its 95% interval, n and coverage."""
        return self.results(target).frame()

    def table(self, target: str | None = None, min_coverage: float | None = None) -> TableView:
        """The table as its files print it."""
        from reports.write import view_of

        name = self._choose(target)
        return view_of(self.results(name), name, self.coverage(name, min_coverage))

    def answers(self, target: str | None = None) -> pd.DataFrame:
        """One line per row, seed, benchmark, question and turn (from 0), with the text that the model wrote."""
        import pandas as pd

        from results.run.judging import read_trails

        lines = [
            (entry.row, entry.seed, trail.benchmark, answer.question, turn, text)
            for trail in read_trails(self.results(target), self.store)
            for entry in trail.entries
            for answer in trail.answers(entry.answers).values()
            for turn, text in enumerate(answer.turns)
        ]
        return pd.DataFrame(lines, columns=["row", "seed", "benchmark", "question", "turn", "answer"])

    def judgments(self, target: str | None = None) -> pd.DataFrame:
        """One line per verdict of the run's own judges: row seed benchmark question part repeat verdict reason reply.

        ``part`` says which of the benchmark's questions about an answer it is (``game1``, ``turn2``); ``reason`` says
        why there is no verdict.
        """
        import pandas as pd

        from results.run.judging import read_trails

        lines = [
            (entry.row, entry.seed, trail.benchmark, judgment.question, judgment.part, judgment.repeat,
             judgment.verdict, judgment.reason, judgment.reply)
            for trail in read_trails(self.results(target), self.store)
            for entry in trail.entries
            for judge in entry.judged if judge.own
            for judgments in trail.judgments(judge.key).values()
            for judgment in judgments
        ]  # fmt: skip
        names = ["row", "seed", "benchmark", "question", "part", "repeat", "verdict", "reason", "reply"]
        return pd.DataFrame(lines, columns=names)

    def write(self, min_coverage: float | None = None) -> list[Path]:
        """Write every target's table and figures under ``folder/report``; their paths."""
        from reports.write import write_report

        return [
            path
            for name in self.targets
            if find_target(name).layout != "judges"
            for path in write_report(
                self.results(name), name, self.folder / "report", self.coverage(name, min_coverage)
            )
        ]

    def coverage(self, target: str, min_coverage: float | None = None) -> float:
        """The smallest share of scored questions that a cell may have: ``min_coverage``, or the recipe's."""
        if min_coverage is not None:
            return min_coverage
        return float(self.records[target].recipe["statistics"]["min_coverage"])

    def _choose(self, target: str | None) -> str:
        if target is not None and target not in self.records:
            raise unknown("target", target, self.records, f"Run it first: distilbench reproduce {target}.")
        if target is not None:
            return target
        if "table1" in self.records:
            return "table1"
        if len(self.records) > 1:
            raise UserError(f"{self.folder} holds several targets ({', '.join(self.records)}): name one.")
        return self.targets[0]
