"""What a run was: ``runs/<recipe>/<target>/run.json``, the one place that says which scores make up that table. The
scores stay in the store (kind ``score``, ``scores.json``: entrant to ``Score``s); ``results.join`` adds them."""

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
BY_RULE = "by rule"  # judge of a benchmark that no model judges
T = TypeVar("T")


@dataclass(frozen=True)
class RunFamily:
    name: str
    teacher: str
    student: str


@dataclass(frozen=True)
class RowSpec:
    id: str
    title: str
    baseline: bool = False  # not trained here: not compared with the student, never bold


@dataclass(frozen=True)
class Cell:
    """Where the score of one row, metric and seed is, or why there is none."""

    row: str
    metric: str
    seed: int
    score: str = ""  # key of the stage
    entrant: str = ""  # in that artifact's ``scores.json``
    unavailable: str | None = None  # why this cell cannot exist: the footnote of its ``n/a``


@dataclass(frozen=True)
class Run:
    """A run, finished or not. Times in seconds."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    recipe: Mapping[str, Any]  # resolved, as plain values
    created: str
    finished: bool
    family: RunFamily
    rows: tuple[RowSpec, ...]
    columns: tuple[Metric, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]  # a row of one seed (an untrained teacher) has cells for it only
    cards: tuple[Card, ...] = ()
    judges: Mapping[str, str] = field(default_factory=dict)  # by benchmark: ``pocket-judge``, ``by rule``
    wall_seconds: float = 0.0
    stages_total: int = 0
    stages_cached: int = 0
    notes: tuple[str, ...] = ()  # printed under every table, one line each
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
    for folder in (runs / "store", runs, *runs.parents):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--runs {str(runs)!r}: {str(folder)!r} is a file. Name a folder.")


def described(folder: Path) -> list[str]:
    return sorted(file.parent.name for file in folder.glob("*/run.json"))


def write_run(path: Path, run: Run) -> Path:
    text = json.dumps(asdict(run), indent=1, ensure_ascii=False, allow_nan=False)
    return write_atomic(path, (text + "\n").encode())


def read_run(path: Path) -> Run:
    """Raises UserError: not there, or not this format."""
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
    """By entrant and metric. Raises UserError naming what does not fit, NaN included."""
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
