"""Which checkpoint a row and a seed of a finished run mean."""

from __future__ import annotations

from dataclasses import dataclass

from distilbench.workflows.finished_run import FinishedRun
from harness.contracts.stage import Ref
from harness.errors import UserError, unknown_choice
from results.run.lineage import ArtifactMarker
from results.run.record import RowSpec, Run
from results.run.students import student_name


@dataclass(frozen=True)
class TrainedStudent:
    finished: FinishedRun
    target: str
    """The table that its scores stand in."""
    spec: RowSpec
    seed: int
    stage: Ref
    """The training stage that left it; of several rounds, the last."""
    marker: ArtifactMarker

    @property
    def run(self) -> Run:
        return self.finished.records[self.target]

    @property
    def name(self) -> str:
        """``pad-ppd-seed0``, as its link under ``runs/NAME/students`` is called."""
        return student_name(self.spec.id, self.seed)

    @property
    def starts_from_family(self) -> bool:
        """Whether training began with the family's student: not with another row's, or an earlier round's."""
        return "student" not in self.finished.lineage.inputs(self.stage)

    @property
    def has_adapter(self) -> bool:
        return "model/adapter/adapter_config.json" in self.marker["files"]


def find_student(finished: FinishedRun, row: str, seed: int) -> TrainedStudent:
    """In the main table of the run, or the first of its other tables that has the row. Raises UserError where the run
    has no such student, and says which it has."""
    order = sorted(finished.score_tables, key=lambda name: name != "table1")
    target = next((name for name in order if row in finished.records[name].row_by_id), None)
    trained = {spec.id: None for name in order for spec in finished.records[name].rows if not spec.baseline}
    if target is None:
        raise unknown_choice("row", row, trained, f"They are the trained rows of {finished.folder}.")
    run = finished.records[target]
    spec = run.row_by_id[row]
    if spec.baseline:
        model = {"teacher": run.family.teacher, "student": run.family.student}.get(row, row)
        rows = ", ".join(trained) or "none"
        raise UserError(f"row {row!r} was not trained by this run: it is {model}. Its trained rows: {rows}.")
    if seed not in run.seeds:
        seeds = ", ".join(map(str, run.seeds))
        raise UserError(f"{finished.folder} has no seed {seed} of {row}: choose --seed of {seeds}.")
    sources = finished.lineage.sources(run)
    stage = next((each.student for (name, _, number), each in sources.items() if (name, number) == (row, seed)), None)
    marker = None if stage is None else finished.lineage.marker(stage)
    if stage is None or marker is None:
        cells = [cell for cell in run.cells if (cell.row, cell.seed) == (row, seed)]
        reason = next((cell.unavailable for cell in cells if cell.unavailable), "it is no longer in the store")
        raise UserError(
            f"{row}, seed {seed}, has no checkpoint: {reason}. Run the recipe again: what is missing is made."
        )
    return TrainedStudent(finished, target, spec, seed, stage, marker)
