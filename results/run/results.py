"""A run with its scores: what every table and figure is made from. Row, metric and seed: ``CellKey``."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.contracts.benchmark import Metric
from harness.contracts.stage import Ref
from harness.errors import UserError
from harness.types import Score
from results.run.lineage import ArtifactMarker, CellKey, Lineage, ScoreSource, StudentTraining
from results.run.record import BY_RULE, Run, read_run, read_scores
from results.store.store import ArtifactStore

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """``scores`` and ``missing_scores`` together cover the run's cells: each cell is in exactly one of them."""

    run: Run
    scores: Mapping[CellKey, Score]
    missing_scores: Mapping[CellKey, str] = field(default_factory=dict)  # why there is no score
    trainings: Mapping[tuple[str, int], StudentTraining] = field(default_factory=dict)  # by row and seed; not untrained
    sources: Mapping[CellKey, ScoreSource] = field(default_factory=dict)
    newest: float = 0.0  # seconds since 1970 of the newest score: older figures are drawn again

    def frame(self) -> pd.DataFrame:
        """One line per row, metric and seed; values in the metric's unit, ``coverage`` 0..1, missing as NaN."""
        import pandas as pd

        lines = []
        for cell in self.run.cells:
            spec, key = self.run.row_by_id[cell.row], (cell.row, cell.metric, cell.seed)
            score = self.scores.get(key) or Score(cell.metric, None, None, None, 0, 0, self.missing_scores.get(key, ""))
            total = score.n + score.unscored
            lines.append(
                (cell.row, spec.title, spec.baseline, cell.metric, cell.seed, score.value, score.low, score.high,
                 score.n, score.unscored, score.covered_questions / total if total else None, score.note)
            )  # fmt: skip
        names = ["row", "title", "baseline", "metric", "seed"]
        names += ["value", "low", "high", "n", "unscored", "coverage", "note"]
        return pd.DataFrame(lines, columns=names).astype(dict.fromkeys(["value", "low", "high", "coverage"], float))


def read_results(path: Path, store: ArtifactStore) -> Results:
    return join(read_run(path), store, path)


def join(run: Run, store: ArtifactStore, path: Path) -> Results:
    """The run with its scores and what they were made from. Raises as ``read_scored`` does."""
    lineage = Lineage(store)
    sources = lineage.sources(run)
    return replace(read_scored(run, store, path), sources=sources, trainings=lineage.trainings(sources))


def read_scored(run: Run, store: ArtifactStore, path: Path) -> Results:
    """The run with its scores alone. A score that is not in the store is among ``missing_scores`` of an unfinished run;
    in a finished one it is a UserError, as is an absent entrant or metric. ``path``: of the run, for messages."""
    # each score artifact holds all entrants of a benchmark: read it once, not once per cell
    artifacts: dict[str, dict[str, dict[str, Score]]] = {}
    newest = 0.0
    scores: dict[CellKey, Score] = {}
    reasons: dict[CellKey, str] = {}
    for cell in run.cells:
        key = (cell.row, cell.metric, cell.seed)
        if cell.unavailable is not None:
            reasons[key] = cell.unavailable
            continue
        if cell.score not in artifacts:
            try:
                file = store.path("score", cell.score, "scores.json")
            except KeyError as error:
                if run.finished:
                    raise UserError(
                        f"{path} names score {cell.score} ({cell.row}, {cell.metric}, seed {cell.seed}), which "
                        "is not in the store. Run the recipe again: only what is missing is made."
                    ) from error
                reasons[key] = "not run yet"
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
        scores[key] = entrants[cell.entrant][cell.metric]
    return Results(run, scores, reasons, newest=newest)


HOURS = 2 * 3600.0  # seconds from which on times are printed in hours
GIB = float(1 << 30)
NO_TRAINING = "not trained, or a stage of it is no longer in the store"


def with_costs(results: Results) -> Results:
    """``results`` with the columns ``cost.time`` (s or h) and ``cost.memory`` (GiB), one score per row and seed."""
    run = results.run
    costs = {key: cost for key, cost in results.trainings.items() if cost.complete}
    # one unit for the whole column: seconds beside hours could not be compared at a glance
    hours = max((cost.hours * 3600 for cost in costs.values()), default=0.0) >= HOURS
    time = Metric("cost.time", "Time", "Training", "h" if hours else "s", digits=2 if hours else 1, measured=True)
    memory = Metric("cost.memory", "Memory", "Training", "GiB", digits=2, measured=True)
    scores, reasons = dict(results.scores), dict(results.missing_scores)
    for row, seed in dict.fromkeys((cell.row, cell.seed) for cell in run.cells):
        cost = costs.get((row, seed))
        if cost is None:
            reasons |= {(row, metric.id, seed): NO_TRAINING for metric in (time, memory)}
            continue
        for metric, value in ((time, cost.hours * (1 if hours else 3600)), (memory, cost.peak_memory / GIB)):
            scores[row, metric.id, seed] = Score(metric.id, value, None, None, 0, 0)
    kinds = ", ".join(dict.fromkeys(kind for cost in costs.values() for kind in cost.seconds))
    note = (
        f"Training time: wall-clock time of the stages that the row comes from ({kinds}), measured where they ran; "
        "shared stages count for every row. Memory: the largest peak of one of them."
    )
    notes = (*run.notes, note) if costs else run.notes
    run = replace(run, columns=(*run.columns, time, memory), notes=notes)
    return replace(results, run=run, scores=scores, missing_scores=reasons)


@dataclass(frozen=True)
class JudgmentSet:
    judge: str  # unique in a benchmark, for people
    ref: Ref
    used_in_scores: bool  # or are another judge's, that is in the store too


@dataclass(frozen=True)
class JudgedEntrant:
    row: str
    title: str
    seed: int
    answers: Ref
    judgments: tuple[JudgmentSet, ...]
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class JudgedBenchmark:
    benchmark: str
    questions: str
    entrants: tuple[JudgedEntrant, ...]
    lineage: Lineage
    baseline: Ref | None = None  # answers in the place of the questions' own baseline
    baseline_row: str = ""


def judged_benchmarks(
    results: Results, store: ArtifactStore, names: Mapping[str, str] | None = None
) -> tuple[JudgedBenchmark, ...]:
    """One per benchmark that has a score, by column. ``names``: judge artifact to ``compare-judges``' name for it."""
    # by column, so that the page lists benchmarks as the table does; rows and seeds as the table has them
    columns = [metric.id for metric in results.run.columns]
    rows = [row.id for row in results.run.rows]
    cells = sorted(results.sources, key=lambda cell: (columns.index(cell[1]), rows.index(cell[0]), cell[2]))
    by_score: dict[Ref, dict[tuple[str, int], ScoreSource]] = {}
    for row, metric, seed in cells:
        source = results.sources[row, metric, seed]
        by_score.setdefault(source.score, {})[row, seed] = source
    lineage = Lineage(store)
    # one pass over the store for all benchmarks: it may hold thousands of judge artifacts
    by_answers: dict[Ref, list[ArtifactMarker]] = {source.answers: [] for source in results.sources.values()}
    for artifact in store.list("judge"):
        try:
            marker = store.meta("judge", artifact.key)
        except (KeyError, UserError):  # of any run in this store; one of ours is missed where it is read
            continue
        by_answers.get(Ref.parse(str(marker["inputs"].get("answers", ""))), []).append(marker)
    return tuple(_benchmark(results, lineage, sources, by_answers, names or {}) for sources in by_score.values())


def stages_behind(results: Results, store: ArtifactStore) -> tuple[ArtifactMarker, ...]:
    """Markers of all behind the run's scores, in the order of making; deleted or damaged artifacts are left out."""
    scores = dict.fromkeys(source.score for source in results.sources.values())
    markers = [marker for _, marker in Lineage(store).artifacts_behind(*scores) if marker is not None]
    return tuple(sorted(markers, key=lambda marker: (marker["started"], marker["kind"], marker["key"])))


def _benchmark(
    results: Results,
    lineage: Lineage,
    sources: Mapping[tuple[str, int], ScoreSource],
    by_answers: Mapping[Ref, Sequence[ArtifactMarker]],
    names: Mapping[str, str],
) -> JudgedBenchmark:
    first = next(iter(sources.values()))
    name = results.run.judges.get(first.benchmark, "judge")
    # decided once for all entrants: a judge has one name and one place, whoever's answers are looked at
    titles = _titles(name, {source.judgments.key: by_answers[source.answers] for source in sources.values()}, names)
    entrants = []
    for (row, seed), source in sources.items():
        markers, key = by_answers[source.answers], source.judgments.key
        sets: list[JudgmentSet] = []
        if any(marker["key"] == key for marker in markers):  # else deleted by hand since
            keys = [(list(titles).index(_digest(marker)), marker["key"]) for marker in markers if marker["key"] != key]
            other_sets = [
                JudgmentSet(list(titles.values())[place], Ref("judge", other_key), False)
                for place, other_key in sorted(keys)
            ]
            sets = [JudgmentSet(name, source.judgments, True), *other_sets]
        scores = {
            metric: results.scores[row, metric, seed]
            for metric in (column.id for column in results.run.columns)
            if results.sources.get((row, metric, seed)) == source
        }
        title = results.run.row_by_id[row].title
        entrants.append(JudgedEntrant(row, title, seed, source.answers, tuple(sets), scores))
    return JudgedBenchmark(
        first.benchmark, first.questions, tuple(entrants), lineage, first.baseline, first.baseline_row
    )


def _titles(
    judge_name: str, groups: Mapping[str, Sequence[ArtifactMarker]], names: Mapping[str, str]
) -> dict[str, str]:
    """Digest of every other judge to its name (given, else its model's), and what differs from ours of the same kind.
    ``groups``: key of our judgments to all judgments on the same answers."""
    titles: dict[str, str] = {}
    for key, markers in groups.items():
        our_settings = next((_settings(marker) for marker in markers if marker["key"] == key), None)
        if our_settings is None:
            continue
        for marker in markers:
            digest, settings = _digest(marker), _settings(marker)
            if marker["key"] == key or (digest in titles and marker["key"] not in names):
                continue
            title = names.get(marker["key"]) or str(settings.get("model") or settings.get("kind", BY_RULE))
            if settings.get("kind") == our_settings.get("kind"):
                differences = [
                    f"{name}={value}"
                    for name, value in settings.items()
                    if value not in (our_settings.get(name), title)
                ]
                title += f" ({', '.join(differences)})" if differences else ""
            titles[digest] = title
    counts = Counter([judge_name, *titles.values()])
    # keys of artifacts are hashes, so their order says nothing: sort by title
    sorted_titles = sorted(titles.items(), key=lambda item: (item[1], item[0]))
    return {digest: f"{title} #{digest}" if counts[title] > 1 else title for digest, title in sorted_titles}


def _settings(marker: ArtifactMarker) -> dict[str, object]:
    """What decides a judge's verdicts, one level deep, but for the answers."""
    params = dict(marker["params"])
    judge, config = params.pop("judge", None), params.pop("config", None)
    inputs = {role: ref for role, ref in marker["inputs"].items() if role != "answers"}
    return {**params, **(judge or {}), **(config or {}), **inputs}


def _digest(marker: ArtifactMarker) -> str:
    return hashlib.sha256(json.dumps(_settings(marker), sort_keys=True).encode()).hexdigest()[:6]
