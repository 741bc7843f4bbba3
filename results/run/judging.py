"""Whose answers a run's benchmarks were judged on, and by which judges: what the page's question browser shows.

judged = judged_benchmarks(results, store)      # one per benchmark
stages = stages_behind(results, store)          # the markers of all artifacts that led to the scores
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.contracts.stage import Ref
from harness.errors import UserError
from harness.types import Score
from results.run.lineage import Lineage, Marker, ScoreSource
from results.run.record import BY_RULE
from results.run.results import Results
from results.store.store import ArtifactStore


@dataclass(frozen=True)
class JudgmentSet:
    """One judge's judgments on one model's answers to one benchmark."""

    judge: str
    """For people, unique among the judges of a benchmark."""
    ref: Ref
    own: bool
    """Whether the run's scores were made from these, and not by another judge in the same store."""


@dataclass(frozen=True)
class JudgedEntrant:
    row: str
    title: str
    seed: int
    answers: Ref
    judgments: tuple[JudgmentSet, ...]
    scores: Mapping[str, Score]
    """By metric."""


@dataclass(frozen=True)
class JudgedBenchmark:
    benchmark: str
    questions: str
    """``ScoreSource.questions``."""
    entrants: tuple[JudgedEntrant, ...]
    lineage: Lineage
    baseline: Ref | None = None
    """The answers that stand in for the questions' own baseline answers."""
    baseline_row: str = ""


def judged_benchmarks(
    results: Results, store: ArtifactStore, names: Mapping[str, str] | None = None
) -> tuple[JudgedBenchmark, ...]:
    """One per benchmark that has a score, in the order of the run's columns.

    ``names``: key of a judge artifact to what somebody called that judge (``compare-judges`` did).
    """
    # by column, so that the page lists benchmarks as the table does; rows and seeds as the table has them
    columns = [metric.id for metric in results.run.columns]
    rows = [row.id for row in results.run.rows]
    places = sorted(results.sources, key=lambda place: (columns.index(place[1]), rows.index(place[0]), place[2]))
    by_score: dict[Ref, dict[tuple[str, int], ScoreSource]] = {}
    for row, metric, seed in places:
        source = results.sources[row, metric, seed]
        by_score.setdefault(source.score, {})[row, seed] = source
    lineage = Lineage(store)
    # one pass over the store for all benchmarks: it may hold thousands of judge artifacts
    by_answers: dict[Ref, list[Marker]] = {source.answers: [] for source in results.sources.values()}
    for artifact in store.list("judge"):
        try:
            marker = store.meta("judge", artifact.key)
        except (KeyError, UserError):  # of any run in this store; one of ours is missed where it is read
            continue
        by_answers.get(Ref.parse(str(marker["inputs"].get("answers", ""))), []).append(marker)
    return tuple(_benchmark(results, lineage, sources, by_answers, names or {}) for sources in by_score.values())


def stages_behind(results: Results, store: ArtifactStore) -> tuple[Marker, ...]:
    """Markers of every artifact that led to the run's scores, each once, in the order in which they were made.

    Artifacts that were deleted or damaged by hand since are left out; the scores themselves are whole.
    """
    scores = dict.fromkeys(source.score for source in results.sources.values())
    markers = [marker for _, marker in Lineage(store).behind(*scores) if marker is not None]
    return tuple(sorted(markers, key=lambda marker: (marker["started"], marker["kind"], marker["key"])))


def _benchmark(
    results: Results,
    lineage: Lineage,
    sources: Mapping[tuple[str, int], ScoreSource],
    by_answers: Mapping[Ref, Sequence[Marker]],
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
            others = [(list(titles).index(_digest(one)), one["key"]) for one in markers if one["key"] != key]
            further = [JudgmentSet(list(titles.values())[at], Ref("judge", of), False) for at, of in sorted(others)]
            sets = [JudgmentSet(name, source.judgments, True), *further]
        scores = {
            metric: results.scores[row, metric, seed]
            for metric in (column.id for column in results.run.columns)
            if results.sources.get((row, metric, seed)) == source
        }
        title = results.run.row(row).title
        entrants.append(JudgedEntrant(row, title, seed, source.answers, tuple(sets), scores))
    return JudgedBenchmark(
        first.benchmark, first.questions, tuple(entrants), lineage, first.baseline, first.baseline_row
    )


def _titles(own: str, groups: Mapping[str, Sequence[Marker]], names: Mapping[str, str]) -> dict[str, str]:
    """Digest of every other judge of a benchmark to its name, in the order in which they are shown.

    Its own name or else its model, and in brackets what differs from our judge where the two are of one kind.
    ``groups``: key of our judgments to all judgments on the same answers.
    """
    titles: dict[str, str] = {}
    for key, markers in groups.items():
        ours = next((_settings(marker) for marker in markers if marker["key"] == key), None)
        if ours is None:
            continue
        for marker in markers:
            digest, settings = _digest(marker), _settings(marker)
            if marker["key"] == key or (digest in titles and marker["key"] not in names):
                continue
            title = names.get(marker["key"]) or str(settings.get("model") or settings.get("kind", BY_RULE))
            if settings.get("kind") == ours.get("kind"):
                changed = [
                    f"{name}={value}" for name, value in settings.items() if value not in (ours.get(name), title)
                ]
                title += f" ({', '.join(changed)})" if changed else ""
            titles[digest] = title
    often = Counter([own, *titles.values()])
    # keys of artifacts are hashes, so their order says nothing: sort by title
    ordered = sorted(titles.items(), key=lambda item: (item[1], item[0]))
    return {digest: f"{title} #{digest}" if often[title] > 1 else title for digest, title in ordered}


def _settings(marker: Marker) -> dict[str, object]:
    """What decides a judge's verdicts, one level deep. The answers are the same for all that are compared."""
    params = dict(marker["params"])
    judge, config = params.pop("judge", None), params.pop("config", None)
    inputs = {role: ref for role, ref in marker["inputs"].items() if role != "answers"}
    return {**params, **(judge or {}), **(config or {}), **inputs}


def _digest(marker: Marker) -> str:
    return hashlib.sha256(json.dumps(_settings(marker), sort_keys=True).encode()).hexdigest()[:6]
