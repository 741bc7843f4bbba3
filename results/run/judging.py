"""What lies behind a run's scores: the answers, every judge's judgments on them, and all stages with their costs.

    trails = read_trails(results, store)            # one per benchmark: whose answers, which judges
    stages = stages_behind(results, store)          # the markers of all artifacts that led to the scores

Everything is found from the score artifacts by following their inputs; nothing here knows a benchmark or a recipe.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.records import read_records
from harness.types import Answer, Judgment, Score
from results.run.record import read_scores
from results.run.results import Results
from results.store.store import ArtifactStore

Marker = Mapping[str, Any]
"""The ``meta.json`` of an artifact."""
BY_RULE = "by rule"


@dataclass(frozen=True)
class Judged:
    """One judge's judgments on one model's answers to one benchmark."""

    judge: str
    """For people, unique among the judges of a trail."""
    key: str
    own: bool
    """Whether the run's scores were made from these (others were judged in the same store by another judge)."""


@dataclass(frozen=True)
class Entry:
    """One row under one seed: its answers, and who judged them."""

    row: str
    title: str
    seed: int
    answers: str
    """Key of the ``answer`` artifact."""
    judged: tuple[Judged, ...]
    scores: Mapping[str, Score] = field(default_factory=dict)
    """By metric."""


@dataclass(frozen=True)
class Trail:
    """One benchmark of a run, as far as it was scored."""

    benchmark: str
    questions: str
    """Hash of the questions and all that a judge may see of them (``questions_hash(..., whole=True)``)."""
    entries: tuple[Entry, ...]
    store: ArtifactStore
    baseline: str | None = None
    """Key of the ``answer`` artifact that stands in for the questions' own baseline answers."""
    baseline_row: str = ""

    def answers(self, key: str) -> dict[str, Answer]:
        """Answers by question. Raises UserError where the artifact is gone or does not fit."""
        found = read_records(self._folder("answer", key) / "answers.jsonl", Answer)
        return {answer.question: answer for answer in found}

    def judgments(self, key: str) -> dict[str, list[Judgment]]:
        """Judgments by question, in the order in which they were asked for. Raises as ``answers`` does."""
        found: dict[str, list[Judgment]] = {}
        for judgment in read_records(self._folder("judge", key) / "judgments.jsonl", Judgment):
            found.setdefault(judgment.question, []).append(judgment)
        return found

    def _folder(self, kind: str, key: str) -> Path:
        try:
            return self.store.path(kind, key)
        except KeyError as error:
            raise UserError(
                f"{error.args[0]}, though a score was made from it. Run the recipe again: only what is missing is made."
            ) from error

    @cached_property
    def judges(self) -> tuple[str, ...]:
        """All judges, the run's own first."""
        judged = [each for entry in self.entries for each in entry.judged]
        return tuple(dict.fromkeys(each.judge for each in sorted(judged, key=lambda each: not each.own)))


def read_trails(results: Results, store: ArtifactStore, names: Mapping[str, str] | None = None) -> tuple[Trail, ...]:
    """One trail per benchmark that has a score, in the order of the run's columns.

    ``names``: key of a judge artifact to what somebody called that judge (``compare-judges`` did).
    """
    keys = _score_keys(results, store)
    markers = {key: store.meta("score", key) for key in keys}
    wanted = {name.split("/")[1] for marker in markers.values() for name in marker["inputs"].values()}
    others = _judgments_on(wanted, store)
    return tuple(_trail(results, store, key, markers[key], others, names or {}) for key in keys)


def stages_behind(results: Results, store: ArtifactStore) -> tuple[Marker, ...]:
    """Markers of every artifact that led to the run's scores, each once, in the order in which they were made."""
    found: dict[tuple[str, str], Marker] = {}
    left = [("score", key) for key in _score_keys(results, store)]
    while left:
        place = left.pop()
        if place in found:
            continue
        try:
            found[place] = store.meta(*place)
        except (KeyError, UserError):  # deleted or damaged by hand since; the scores themselves are whole
            continue
        left += [(kind, key) for kind, key in (name.split("/") for name in found[place]["inputs"].values())]
    return tuple(sorted(found.values(), key=lambda marker: (marker["started"], marker["kind"], marker["key"])))


def _score_keys(results: Results, store: ArtifactStore) -> list[str]:
    """Scores of the run that are in the store, by the order of its columns."""
    order = {metric.id: place for place, metric in enumerate(results.run.columns)}
    cells = sorted((cell for cell in results.run.cells if cell.score), key=lambda cell: order[cell.metric])
    there = {artifact.key for artifact in store.list("score")}
    return [key for key in dict.fromkeys(cell.score for cell in cells) if key in there]


def _judgments_on(answers: set[str], store: ArtifactStore) -> dict[str, list[Marker]]:
    """Answer key to the markers of all judge artifacts that read it, sorted by key."""
    found: dict[str, list[Marker]] = {}
    for artifact in store.list("judge"):
        try:
            marker = store.meta("judge", artifact.key)
        except (KeyError, UserError):  # of any run in this store; one of ours is missed where it is read
            continue
        read = str(marker["inputs"].get("answers", "")).rpartition("/")[2]
        if read in answers:
            found.setdefault(read, []).append(marker)
    return found


def _trail(
    results: Results,
    store: ArtifactStore,
    key: str,
    marker: Marker,
    others: Mapping[str, list[Marker]],
    names: Mapping[str, str],
) -> Trail:
    params, inputs = marker["params"], marker["inputs"]
    benchmark = str(params["benchmark"])
    scores = read_scores(store.path("score", key) / "scores.json")
    places = {(cell.entrant, cell.row, cell.seed) for cell in results.run.cells if cell.score == key}
    rows = [row.id for row in results.run.rows]
    name = results.run.judges.get(benchmark, "judge")
    found = [
        (entrant, row, seed, inputs[f"answers:{entrant}"].split("/")[1], inputs[f"judgments:{entrant}"].split("/")[1])
        for entrant, row, seed in sorted(places, key=lambda place: (rows.index(place[1]), place[2]))
    ]
    titles = _titles(name, [(own, others.get(answers, [])) for _, _, _, answers, own in found], names)
    entries = []
    for entrant, row, seed, answers, own in found:
        judged = _judged(name, own, others.get(answers, []), titles)
        by_metric = {score.metric: score for score in scores.get(entrant, ())}
        entries.append(Entry(row, results.run.row(row).title, seed, answers, judged, by_metric))
    baseline = inputs["baseline"].split("/")[1] if "baseline" in inputs else None
    return Trail(benchmark, str(params["questions"]), tuple(entries), store, baseline, str(params.get("baseline", "")))


def _judged(name: str, own: str, markers: Sequence[Marker], titles: Mapping[str, str]) -> tuple[Judged, ...]:
    """The run's own judge by the name that its tables print, then the others in the order of ``titles``."""
    if all(marker["key"] != own for marker in markers):  # deleted by hand since
        return ()
    order = {digest: place for place, digest in enumerate(titles)}
    rest = sorted((order[_digest(each)], each["key"], titles[_digest(each)]) for each in markers if each["key"] != own)
    return (Judged(name, own, True), *(Judged(title, key, False) for _, key, title in rest))


def _titles(name: str, groups: Sequence[tuple[str, Sequence[Marker]]], names: Mapping[str, str]) -> dict[str, str]:
    """Digest of every other judge of a benchmark to what it is called, in the order in which they are shown.

    Decided once for all entries: a judge has one name and one place, whoever's answers are looked at. Keys of artifacts
    are hashes, so their order says nothing.
    """
    found: dict[str, str] = {}
    for own, markers in groups:
        ours = next((marker for marker in markers if marker["key"] == own), None)
        for marker in markers:
            if ours is not None and marker["key"] != own:
                title = _other(ours, marker, names.get(marker["key"], ""))
                digest = _digest(marker)
                if digest not in found or marker["key"] in names:
                    found[digest] = title
    often = Counter([name, *found.values()])
    ordered = sorted(found.items(), key=lambda item: (item[1], item[0]))
    return {digest: f"{title} #{digest}" if often[title] > 1 else title for digest, title in ordered}


def _other(ours: Marker, marker: Marker, called: str) -> str:
    """A judge's name, else its model, and in brackets what differs from our judge where the two are of one kind."""
    identity = marker["params"].get("judge") or {"kind": BY_RULE}
    same = identity.get("kind") == (ours["params"].get("judge") or {}).get("kind")
    flat, base = _flat(marker), _flat(ours)
    title = called or str(identity.get("model") or identity["kind"])
    changed = [name for name in flat if flat[name] != base.get(name)] if same else []
    apart = ", ".join(f"{name}={flat[name]}" for name in changed if flat[name] != title)
    return f"{title} ({apart})" if apart else title


def _flat(marker: Marker) -> dict[str, Any]:
    """What decides a judge's verdicts, one level deep. The answers are the same for all that are compared."""
    params = marker["params"]
    inputs = {name: value for name, value in marker["inputs"].items() if name != "answers"}
    plain = {name: value for name, value in params.items() if name not in ("judge", "config")}
    return {**plain, **(params.get("judge") or {}), **(params.get("config") or {}), **inputs}


def _digest(marker: Marker) -> str:
    return hashlib.sha256(json.dumps(_flat(marker), sort_keys=True).encode()).hexdigest()[:6]
