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
from typing import Any

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
    """Whether the run's scores were made from these (others were judged in the same store by another judge)."""


@dataclass(frozen=True)
class JudgedEntrant:
    """One row under one seed: its answers, and who judged them."""

    row: str
    title: str
    seed: int
    answers: Ref
    judgments: tuple[JudgmentSet, ...]
    scores: Mapping[str, Score]
    """By metric."""


@dataclass(frozen=True)
class JudgedBenchmark:
    """One benchmark of a run, as far as it was scored."""

    benchmark: str
    questions: str
    """Hash of the questions and all that a judge may see of them (``questions_hash(..., whole=True)``)."""
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
    # by column, so that the page lists benchmarks as the table does
    order = [metric.id for metric in results.run.columns]
    by_score: dict[Ref, dict[tuple[str, int], ScoreSource]] = {}
    for (row, _, seed), source in sorted(results.sources.items(), key=lambda item: order.index(item[0][1])):
        by_score.setdefault(source.score, {})[row, seed] = source
    # one pass over the store for all benchmarks: it may hold thousands of judge artifacts
    others = _judgments_on({source.answers for source in results.sources.values()}, store)
    return tuple(_benchmark(results, Lineage(store), by_place, others, names or {}) for by_place in by_score.values())


def stages_behind(results: Results, store: ArtifactStore) -> tuple[Marker, ...]:
    """Markers of every artifact that led to the run's scores, each once, in the order in which they were made.

    Artifacts that were deleted or damaged by hand since are left out; the scores themselves are whole.
    """
    scores = dict.fromkeys(source.score for source in results.sources.values())
    markers = [marker for _, marker in Lineage(store).behind(*scores) if marker is not None]
    return tuple(sorted(markers, key=lambda marker: (marker["started"], marker["kind"], marker["key"])))


def _judgments_on(answers: set[Ref], store: ArtifactStore) -> dict[Ref, list[Marker]]:
    """Answers to the markers of all judge artifacts that read them, sorted by key."""
    by_answers: dict[Ref, list[Marker]] = {}
    for artifact in store.list("judge"):
        try:
            marker = store.meta("judge", artifact.key)
        except (KeyError, UserError):  # of any run in this store; one of ours is missed where it is read
            continue
        read = Ref.parse(str(marker["inputs"].get("answers", "")))
        if read in answers:
            by_answers.setdefault(read, []).append(marker)
    return by_answers


def _benchmark(
    results: Results,
    lineage: Lineage,
    sources: Mapping[tuple[str, int], ScoreSource],
    others: Mapping[Ref, list[Marker]],
    names: Mapping[str, str],
) -> JudgedBenchmark:
    first = next(iter(sources.values()))
    rows = [row.id for row in results.run.rows]
    name = results.run.judges.get(first.benchmark, "judge")
    ordered = sorted(sources.items(), key=lambda item: (rows.index(item[0][0]), item[0][1]))
    titles = _titles(name, [(source.judgments.key, others.get(source.answers, [])) for _, source in ordered], names)
    entrants = []
    for (row, seed), source in ordered:
        sets = _judgment_sets(name, source.judgments, others.get(source.answers, []), titles)
        scores = {
            metric: score
            for (own, metric, of), score in results.scores.items()
            if (own, of) == (row, seed) and results.sources.get((own, metric, of)) == source
        }
        title = results.run.row(row).title
        entrants.append(JudgedEntrant(row, title, seed, source.answers, sets, scores))
    return JudgedBenchmark(
        first.benchmark, first.questions, tuple(entrants), lineage, first.baseline, first.baseline_row
    )


def _judgment_sets(
    name: str, own: Ref, markers: Sequence[Marker], titles: Mapping[str, str]
) -> tuple[JudgmentSet, ...]:
    """The run's own judge by the name that its tables print, then the others in the order of ``titles``."""
    if all(marker["key"] != own.key for marker in markers):  # deleted by hand since
        return ()
    order = list(titles)
    others = [(order.index(_digest(marker)), marker["key"]) for marker in markers if marker["key"] != own.key]
    sets = [JudgmentSet(titles[order[place]], Ref(own.kind, key), False) for place, key in sorted(others)]
    return (JudgmentSet(name, own, True), *sets)


def _titles(name: str, groups: Sequence[tuple[str, Sequence[Marker]]], names: Mapping[str, str]) -> dict[str, str]:
    """Digest of every other judge of a benchmark to its name, in the order in which they are shown.

    Decided once for all entrants: a judge has one name and one place, whoever's answers are looked at.
    """
    titles: dict[str, str] = {}
    for own, markers in groups:
        ours = next((marker for marker in markers if marker["key"] == own), None)
        for marker in markers if ours is not None else ():
            digest = _digest(marker)
            if marker["key"] != own and (digest not in titles or marker["key"] in names):
                titles[digest] = _title(_settings(ours), _settings(marker), names.get(marker["key"], ""))
    often = Counter([name, *titles.values()])
    # keys of artifacts are hashes, so their order says nothing: sort by title
    ordered = sorted(titles.items(), key=lambda item: (item[1], item[0]))
    return {digest: f"{title} #{digest}" if often[title] > 1 else title for digest, title in ordered}


def _title(ours: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> str:
    """A judge's name, else its model, and in brackets what differs from our judge where the two are of one kind."""
    title = name or str(settings.get("model") or settings.get("kind", BY_RULE))
    if settings.get("kind") != ours.get("kind"):
        return title
    changed = [f"{key}={value}" for key, value in settings.items() if value not in (ours.get(key), title)]
    return f"{title} ({', '.join(changed)})" if changed else title


def _settings(marker: Marker | None) -> dict[str, Any]:
    """What decides a judge's verdicts, one level deep. The answers are the same for all that are compared."""
    params = dict(marker["params"]) if marker else {}
    judge, config = params.pop("judge", None), params.pop("config", None)
    inputs = {role: ref for role, ref in marker["inputs"].items() if role != "answers"} if marker else {}
    return {**params, **(judge or {}), **(config or {}), **inputs}


def _digest(marker: Marker) -> str:
    return hashlib.sha256(json.dumps(_settings(marker), sort_keys=True).encode()).hexdigest()[:6]
