"""Searches learning rates on pocket for the methods that need a tuned teacher, and for that teacher.

    python -m studies.pocket_search_tuned --out studies/pocket_search_tuned.csv

The same budget, prompts, seed and score as ``studies/pocket_search.py``: four learning rates each, scored by the
rule of the world on development questions. First the teacher is tuned (the score is its own), then DCKD and ADPA learn
from the best one, then ADPA+ starts from the best DCKD. The stages are those of a plan: what is searched is what a
table does.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from distilbench.plugins import load_registry
from harness.contracts.stage import Stage
from harness.plan.plan import TUNED, Planner
from harness.recipe.recipe import load_recipe
from harness.stages import STAGES
from harness.stages.kind import StageContext
from results.store.store import ArtifactStore
from studies.pocket_search import RATES, SEED, _one_thread, dev_scores

TEACHER_RATES = (1e-5, 3e-5, 1e-4, 3e-4)
"""Lower than the students': the teacher is good already, and the pairs can only move it a little."""


class Trials:
    """One store for all trials: what they share is computed once."""

    def __init__(self, place: Path) -> None:
        self.place, self.store, self.registry = place, ArtifactStore(place / "store"), load_registry()
        self.rows: list[dict[str, Any]] = []

    def planner(self, *changes: str) -> Planner:
        """The pocket recipe on the search's prompts and seed."""
        common = [f"prompts.seed={SEED}", f"seeds=[{SEED}]", "methods.dckd={}", "methods.adpa={}", "methods.adpa+={}"]
        return Planner(load_recipe("pocket", [*common, *changes], self.registry), self.registry)

    def run(self, planner: Planner, final_stage: Stage) -> Path:
        """Do what ``final_stage`` needs; the folder of its checkpoint."""
        for stage in list(planner.graph.stages.values()):

            def fill(folder: Path, stage: Stage = stage) -> Any:
                context = StageContext(self.registry, self.store, self.place / "ledger", folder, lambda *_: None)
                return STAGES[stage.kind].run(stage, context)

            self.store.write(stage, fill)
        return self.store.path(*final_stage.ref) / "model"

    def trial(self, name: str, rate: float, *changes: str) -> float:
        """Train and score one trial."""
        from harness.models.backends import load_model

        planner = self.planner(*changes)
        final_stage = planner.tuned_teacher if name == TUNED else planner.student(name, SEED)
        start = time.monotonic()
        folder = self.run(planner, final_stage)
        seconds = time.monotonic() - start
        scores = dev_scores(load_model(str(folder)))
        mean = statistics.mean(scores.values())
        rounded_scores = {key: round(value, 4) for key, value in {"score": mean, **scores}.items()}
        self.rows.append({"method": name, "learning_rate": rate, **rounded_scores, "seconds": round(seconds, 1)})
        print(self.rows[-1], flush=True)
        return mean

    def best(self, name: str, rates: tuple[float, ...], path: str, *changes: str) -> str:
        """All rates of one name; the change that sets the best."""
        scores = {rate: self.trial(name, rate, *changes, f"{path}={rate}") for rate in rates}
        return f"{path}={max(scores, key=lambda rate: scores[rate])}"


def main() -> None:
    """Run all trials and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("studies/pocket_search_tuned.csv"))
    options = parser.parse_args()
    _one_thread()
    with tempfile.TemporaryDirectory() as place:
        trials = Trials(Path(place))
        teacher_change = trials.best("tuned teacher", TEACHER_RATES, "tuned_teacher.train.learning_rate")
        dckd = trials.best("dckd", RATES, "methods.dckd.train.learning_rate", teacher_change)
        adpa = trials.best("adpa", RATES, "methods.adpa.train.learning_rate", teacher_change)
        adpa_plus = trials.best("adpa+", RATES, "methods.adpa+.train.learning_rate", teacher_change, dckd)
        print("best:", teacher_change, dckd, adpa, adpa_plus)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(trials.rows[0]))
        writer.writeheader()
        writer.writerows(trials.rows)


if __name__ == "__main__":
    main()
