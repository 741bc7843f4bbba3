"""A run with its scores: what every table and figure is made from.

results = load_results(Path("runs/pocket"))          # its main table; or load_results(..., target="table2")
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
from results.run.lineage import Lineage, ScoreSource, StudentTraining, sources_of, trainings
from results.run.record import Cell, Run, read_run, read_scores, run_folder
from results.store.store import ArtifactStore

if TYPE_CHECKING:
    import pandas as pd

Place = tuple[str, str, int]
"""Row, metric, seed."""


@dataclass(frozen=True)
class Results:
    """``scores`` and ``missing`` together cover the run's cells: a place is in exactly one of them."""

    run: Run
    scores: Mapping[Place, Score]
    missing: Mapping[Place, str] = field(default_factory=dict)
    """Why there is no score here: ``needs a shared vocabulary``, ``not run yet``."""
    trained: Mapping[tuple[str, int], StudentTraining] = field(default_factory=dict)
    """By row and seed: what training the student took, and its curves; no entry for an untrained row."""
    sources: Mapping[Place, ScoreSource] = field(default_factory=dict)
    """What each score was made from."""
    newest: float = 0.0
    """When the newest of the scores was written (seconds since 1970); 0: not from a store."""

    def frame(self) -> pd.DataFrame:
        """Tidy: one line per row, metric and seed; ``value`` in the metric's unit, ``coverage`` 0..1, missing as NaN.

        Columns: row title baseline metric seed value low high n unscored coverage note.
        """
        import pandas as pd

        lines = [self._line(cell) for cell in self.run.cells]
        names = ["row", "title", "baseline", "metric", "seed"]
        names += ["value", "low", "high", "n", "unscored", "coverage", "note"]
        return pd.DataFrame(lines, columns=names)

    def _line(self, cell: Cell) -> dict[str, object]:
        spec = self.run.row(cell.row)
        line: dict[str, object] = {"row": cell.row, "title": spec.title, "baseline": spec.baseline}
        line |= {"metric": cell.metric, "seed": cell.seed}
        score = self.scores.get((cell.row, cell.metric, cell.seed))
        if score is None:
            return line | {"n": 0, "unscored": 0, "note": self.missing.get((cell.row, cell.metric, cell.seed), "")}
        asked = score.n + score.unscored
        line |= {"value": score.value, "low": score.low, "high": score.high, "n": score.n, "unscored": score.unscored}
        return line | {"coverage": score.covered / asked if asked else None, "note": score.note}


def load_results(folder: Path, store: Store | None = None, target: str | None = None) -> Results:
    """``join`` for a run that was made before.

    Args:
        folder: of one target (``runs/pocket/table1``), or of a run (``runs/pocket``): then ``target`` says which of its
            targets; by default the main table, or the only target that there is.
        store: by default the one beside the run, ``runs/store``.
    """
    place = run_folder(folder, target)
    path = place / "run.json"
    return join(read_run(path), store or ArtifactStore(place.parent.parent / "store"), path)


def join(run: Run, store: Store, path: Path) -> Results:
    """Join a run with its scores in the store. ``path``: where it is described, for messages.

    In an unfinished run a score that is not in the store is ``missing`` ("not run yet"); in a finished one it is a
    UserError, as is an entrant or metric that the artifact does not have.
    """
    lineage = Lineage(store)
    # each score artifact holds all entrants of a benchmark: read it once, not once per cell
    artifacts = {
        key: _artifact(store, key)
        for key in dict.fromkeys(cell.score for cell in run.cells if cell.unavailable is None)
    }
    scores: dict[Place, Score] = {}
    missing: dict[Place, str] = {}
    for cell in run.cells:
        place = (cell.row, cell.metric, cell.seed)
        if cell.unavailable is not None:
            missing[place] = cell.unavailable
            continue
        artifact = artifacts[cell.score]
        if artifact is None and run.finished:
            raise UserError(
                f"{path} names score {cell.score} ({cell.row}, {cell.metric}, seed {cell.seed}), which "
                "is not in the store. Run the recipe again: only what is missing is made."
            )
        if artifact is None:
            missing[place] = "not run yet"
        else:
            scores[place] = _pick(artifact, cell)
    sources = sources_of(run, lineage)
    # figures older than this are drawn again
    newest = max((_written(store, key) for key, artifact in artifacts.items() if artifact), default=0.0)
    return Results(run, scores, missing, trainings(sources, lineage), sources, newest)


def _artifact(store: Store, key: str) -> dict[str, dict[str, Score]] | None:
    try:
        folder = store.path("score", key)
    except KeyError:
        return None
    entrants = read_scores(folder / "scores.json")
    return {entrant: {score.metric: score for score in scores} for entrant, scores in entrants.items()}


def _written(store: Store, key: str) -> float:
    return (store.path("score", key) / "scores.json").stat().st_mtime


def _pick(artifact: Mapping[str, Mapping[str, Score]], cell: Cell) -> Score:
    if cell.entrant not in artifact:
        raise UserError(f"score {cell.score} has no entrant {cell.entrant!r}; it has: {', '.join(sorted(artifact))}")
    scores = artifact[cell.entrant]
    if cell.metric not in scores:
        have = ", ".join(sorted(scores))
        raise UserError(f"score {cell.score} of {cell.entrant!r} has no {cell.metric!r}; it has: {have}")
    return scores[cell.metric]
