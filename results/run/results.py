"""A run with its scores: what every table and figure is made from.

results = distilbench.load("runs/pocket").results()
results.frame()                                      # one line per row, metric and seed
results.scores["pad-ppd", "gsm8k.acc", 0].value
results.sources["pad-ppd", "gsm8k.acc", 0].judgments # the artifact with the judge's replies behind it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.contracts.stage import Store
from harness.errors import UserError
from harness.types import Score
from results.run.lineage import Lineage, Place, ScoreSource, StudentTraining
from results.run.record import Run, read_run, read_scores

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """``scores`` and ``missing`` together cover the run's cells: a place is in exactly one of them."""

    run: Run
    scores: Mapping[Place, Score]
    missing: Mapping[Place, str] = field(default_factory=dict)
    """Why there is no score here."""
    trained: Mapping[tuple[str, int], StudentTraining] = field(default_factory=dict)
    """By row and seed; no entry for an untrained row."""
    sources: Mapping[Place, ScoreSource] = field(default_factory=dict)
    newest: float = 0.0
    """When the newest of the scores was written (seconds since 1970): figures older than it are drawn again."""

    def frame(self) -> pd.DataFrame:
        """Tidy: one line per row, metric and seed; ``value`` in the metric's unit, ``coverage`` 0..1, missing as NaN.

        Columns: row title baseline metric seed value low high n unscored coverage note.
        """
        import pandas as pd

        lines = []
        for cell in self.run.cells:
            spec, place = self.run.row(cell.row), (cell.row, cell.metric, cell.seed)
            score = self.scores.get(place) or Score(cell.metric, None, None, None, 0, 0, self.missing.get(place, ""))
            total = score.n + score.unscored
            lines.append(
                (cell.row, spec.title, spec.baseline, cell.metric, cell.seed, score.value, score.low, score.high,
                 score.n, score.unscored, score.covered / total if total else None, score.note)
            )  # fmt: skip
        names = ["row", "title", "baseline", "metric", "seed"]
        names += ["value", "low", "high", "n", "unscored", "coverage", "note"]
        return pd.DataFrame(lines, columns=names).astype(dict.fromkeys(["value", "low", "high", "coverage"], float))


def read_results(path: Path, store: Store) -> Results:
    """``join`` for the run described in a ``run.json``."""
    return join(read_run(path), store, path)


def join(run: Run, store: Store, path: Path) -> Results:
    """Join a run with its scores in the store. ``path``: where it is described, for messages.

    In an unfinished run a score that is not in the store is ``missing`` ("not run yet"); in a finished one it is a
    UserError, as is an entrant or metric that the artifact does not have.
    """
    # each score artifact holds all entrants of a benchmark: read it once, not once per cell
    artifacts: dict[str, dict[str, dict[str, Score]]] = {}
    newest = 0.0
    scores: dict[Place, Score] = {}
    missing: dict[Place, str] = {}
    for cell in run.cells:
        place = (cell.row, cell.metric, cell.seed)
        if cell.unavailable is not None:
            missing[place] = cell.unavailable
            continue
        if cell.score not in artifacts:
            try:
                file = store.path("score", cell.score) / "scores.json"
            except KeyError as error:
                if run.finished:
                    raise UserError(
                        f"{path} names score {cell.score} ({cell.row}, {cell.metric}, seed {cell.seed}), which "
                        "is not in the store. Run the recipe again: only what is missing is made."
                    ) from error
                missing[place] = "not run yet"
                continue
            artifacts[cell.score] = read_scores(file)
            newest = max(newest, file.stat().st_mtime)
        entrants = artifacts[cell.score]
        if cell.entrant not in entrants:
            names = ", ".join(sorted(entrants))
            raise UserError(f"score {cell.score} has no entrant {cell.entrant!r}; it has: {names}")
        if cell.metric not in entrants[cell.entrant]:
            names = ", ".join(sorted(entrants[cell.entrant]))
            raise UserError(f"score {cell.score} of {cell.entrant!r} has no {cell.metric!r}; it has: {names}")
        scores[place] = entrants[cell.entrant][cell.metric]
    lineage = Lineage(store)
    sources = lineage.sources(run)
    return Results(run, scores, missing, lineage.trainings(sources), sources, newest)
