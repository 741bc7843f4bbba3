"""What a run was: ``runs/<recipe>/<target>/run.json``, the one place that says which scores make up that table.

``Run`` is the format. The scores themselves stay in the store (kind ``score``, file ``scores.json``: entrant to a
list of ``harness.types.Score``), so a re-scored run needs no second copy. ``results.run.results.join`` joins the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError

from harness.contracts.benchmark import Card, Metric
from harness.errors import UserError
from harness.records import adapter
from harness.types import Score
from results.store.locks import write_atomic

FORMAT = 1
BY_RULE = "by rule"
"""The judge of a benchmark that no model judges."""
T = TypeVar("T")


@dataclass(frozen=True)
class RunFamily:
    """A teacher and a student that go together: ``gemma2``, ``gemma-2-9b-it``, ``gemma-2-2b-it``."""

    name: str
    teacher: str
    student: str


@dataclass(frozen=True)
class RowSpec:
    """A row of the tables: a trained method, or one of the two untrained models."""

    id: str
    title: str
    baseline: bool = False
    """Not trained here: not compared with the student, never set in bold."""


@dataclass(frozen=True)
class Cell:
    """Where the score of one row, metric and seed is, or why there is none."""

    row: str
    metric: str
    seed: int
    score: str = ""
    """Key of the ``score`` stage."""
    entrant: str = ""
    """Name of the model inside that artifact's ``scores.json``."""
    unavailable: str | None = None
    """Why this cell cannot exist: the footnote of its ``n/a``."""


@dataclass(frozen=True)
class Run:
    """A run, finished or not. Times in seconds."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    recipe: Mapping[str, Any]
    """The resolved recipe, as plain values."""
    created: str
    finished: bool
    family: RunFamily
    rows: tuple[RowSpec, ...]
    columns: tuple[Metric, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    """A row of one seed (an untrained teacher) simply has cells for that seed only."""
    cards: tuple[Card, ...] = ()
    judges: Mapping[str, str] = field(default_factory=dict)
    """Benchmark to what judged it: ``pocket-judge``, ``by rule``."""
    wall_seconds: float = 0.0
    stages_total: int = 0
    stages_cached: int = 0
    notes: tuple[str, ...] = ()
    """Printed under every table of this run, one line each."""
    stages: tuple[str, ...] = ()
    format: int = FORMAT

    def row(self, name: str) -> RowSpec:
        return {row.id: row for row in self.rows}[name]


def section(tree: Mapping[str, object], *path: str) -> Mapping[str, object]:
    """The mapping at ``path`` of a resolved recipe; empty where there is none."""
    for name in path:
        inner = tree.get(name)
        if not isinstance(inner, Mapping):
            return {}
        tree = inner
    return tree


def check_runs(runs: Path) -> None:
    """Raise UserError when the folder of runs, the store in it, or a folder above it is not a folder."""
    for folder in (runs / "store", runs, *runs.parents):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--runs {str(runs)!r}: {str(folder)!r} is a file. Name a folder.")


def described(folder: Path) -> list[str]:
    """The targets whose runs lie under the folder of a recipe, by name."""
    return sorted(file.parent.name for file in folder.glob("*/run.json"))


def write_run(path: Path, run: Run) -> Path:
    text = json.dumps(asdict(run), indent=1, ensure_ascii=False, allow_nan=False)
    return write_atomic(path, (text + "\n").encode())


def read_run(path: Path) -> Run:
    """Read and check ``run.json``. Raises UserError: not there, or not this format."""
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: run the recipe first (distilbench run).") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Run the recipe again; finished stages are kept.") from error
    version = raw.get("format") if isinstance(raw, dict) else None
    if version != FORMAT:
        raise UserError(f"{path} has format {version!r}, this distilbench reads {FORMAT}. Run the recipe again.")
    return _validated(path, Run, raw)


def read_scores(path: Path) -> dict[str, dict[str, Score]]:
    """``scores.json``: entrant and metric to a score. Raises UserError naming what does not fit, NaN included."""
    try:
        raw = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Delete its folder and run again.") from error
    entrants = _validated(path, dict[str, tuple[Score, ...]], raw)
    return {entrant: {score.metric: score for score in scores} for entrant, scores in entrants.items()}


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not a score (a missing score is null)")


def _validated(path: Path, kind: type[T], raw: object) -> T:
    try:
        shape: object = kind
        record: T = adapter(shape).validate_python(raw)
    except ValidationError as error:
        wrong = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:5]]
        raise UserError(f"{path} does not fit: {'; '.join(wrong)}") from error
    return record
