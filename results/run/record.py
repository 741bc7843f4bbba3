"""What a run was: ``runs/<recipe>/<target>/run.json``, the one place that says which scores make up that table. The
scores stay in the store (kind ``score``, ``scores.json``: entrant to ``Score``s); ``results.join`` adds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from harness.contracts.benchmark import Card, Metric
from harness.errors import UserError
from harness.records import adapter, first_mistakes
from harness.text import parse_json
from harness.types import Score
from results.store.checksums import is_sound, marker_text
from results.store.locks import write_atomic

FORMAT = 1
BY_RULE = "by rule"  # judge of a benchmark that no model judges
JUDGES = "judges"  # under runs/NAME/TARGET: the files of a comparison of judges, and in JUDGE a run for each
FAILED = "failed: "  # opens the reason of a cell that waits for a stage that failed


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
    choices: tuple[str, ...] = ()  # how options were chosen: under every table, before the other notes
    notes: tuple[str, ...] = ()  # printed under every table, one line each
    training_notes: tuple[str, ...] = ()  # with --notes, on the page and in the JSON
    stages: tuple[str, ...] = ()
    format: int = FORMAT

    @cached_property
    def row_by_id(self) -> dict[str, RowSpec]:
        return {row.id: row for row in self.rows}


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


def recorded_targets(folder: Path) -> list[str]:
    return sorted(file.parent.name for file in folder.glob("*/run.json"))


def runs_of(folder: Path) -> Path:
    """Where a run's store and ledger are: above ``runs/NAME``, or above the run whose answers were judged again."""
    above = folder.absolute().parent
    # ``--runs judges`` is a folder of runs: nothing there is beside a run's record
    return above.parents[2] if above.name == JUDGES and (above.parent / "run.json").is_file() else folder.parent


def run_facts(records: Mapping[str, Run]) -> dict[str, str]:
    """What a run is, in words, by the records of its targets (at least one)."""
    runs = list(records.values())
    first = records.get("table1", runs[0])
    judges = dict.fromkeys(judge for run in runs for judge in run.judges.values() if judge != BY_RULE)
    teacher = f"{first.family.teacher} > " if first.family.teacher else ""
    return {
        "targets": ", ".join(records),
        "models": teacher + first.family.student,
        "rows": str(len(dict.fromkeys(row.id for run in runs for row in run.rows))),
        "seeds": ", ".join(map(str, sorted({seed for run in runs for seed in run.seeds}))),
        "judge": ", ".join(judges) or BY_RULE,
        "date": max(run.created for run in runs)[:10],
        "state": "finished" if all(run.finished for run in runs) else "not finished",
    }


def has_record(folder: Path) -> bool:
    """Whether it is that of a run, ``runs/NAME``."""
    return bool(recorded_targets(folder))


def write_run(path: Path, run: Run) -> Path:
    """Raises UserError where the run contradicts itself."""
    _check(path, run)
    return write_atomic(path, marker_text(adapter(Run).dump_python(run)).encode())


def read_run(path: Path) -> Run:
    """Raises UserError: not there, not this format, or contradicting itself."""
    try:
        content = path.read_bytes()
        raw = parse_json(content)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: run the recipe first (distilbench run).") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Run the recipe again; finished stages are kept.") from error
    if isinstance(raw, dict) and (not is_sound(content) or not raw.pop("checksum")):
        raise UserError(f"{path} was changed since the run wrote it. Run the recipe again; finished stages are kept.")
    version = raw.get("format") if isinstance(raw, dict) else None
    if version != FORMAT:
        raise UserError(f"{path} has format {version!r}, this distilbench reads {FORMAT}. Run the recipe again.")
    try:
        run: Run = adapter(Run).validate_python(raw)
    except ValidationError as error:
        raise UserError(f"{path} does not fit: {first_mistakes(error)}. Run the recipe again.") from error
    _check(path, run)
    return run


def _check(path: Path, run: Run) -> None:
    """What types cannot say: names are unique, and the cells are those of the rows, columns and seeds."""
    rows, metrics = [row.id for row in run.rows], [metric.id for metric in run.columns]
    keys = [(cell.row, cell.metric, cell.seed) for cell in run.cells]
    nouns: dict[str, list[object]] = {"row": [*rows], "column": [*metrics], "seed": [*run.seeds], "cell": [*keys]}
    names = Counter((noun, name) for noun, noun_names in nouns.items() for name in noun_names)
    problems = [f"{noun} {name!r} is there twice" for (noun, name), count in names.items() if count > 1]
    row_names, seeds = set(rows), set(run.seeds)
    row_seeds = {(row, seed) for row, _, seed in keys if row in row_names and seed in seeds}
    # An untrained row may have cells of one seed only.
    known_rows = {row for row, _ in row_seeds}
    row_seeds |= {
        (row.id, seed) for row in run.rows for seed in run.seeds if not row.baseline or row.id not in known_rows
    }
    grid = {(row, metric, seed) for row, seed in row_seeds for metric in metrics}
    problems += [f"cell {key!r} is missing" for key in sorted(grid - set(keys))]
    problems += [f"cell {key!r} is outside of rows, columns and seeds" for key in keys if key not in grid]
    problems += [
        f"cell {key!r} has neither a score nor a reason why it is unavailable"
        for key, cell in zip(keys, run.cells, strict=True)
        if cell.unavailable is None and not (cell.score and cell.entrant)
    ]
    if problems:
        remainder = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise UserError(f"{path} contradicts itself: {'; '.join(problems[:5])}{remainder}. Run the recipe again.")


def read_scores(path: Path) -> dict[str, dict[str, Score]]:
    """By entrant and metric. Raises UserError naming what does not fit, NaN included."""
    try:
        entrants = adapter(dict[str, tuple[Score, ...]]).validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}. Delete its folder and run again.") from error
    except ValidationError as error:
        raise UserError(f"{path} does not fit: {first_mistakes(error)}. Delete its folder and run again.") from error
    return {entrant: {score.metric: score for score in scores} for entrant, scores in entrants.items()}
