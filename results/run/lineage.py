"""From a number back to what made it: score, judgments, answers, student, training. One walk over the store. An
artifact's marker (``meta.json``) names its inputs; everything here follows them. No benchmark or recipe is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.contracts.stage import Ref
from harness.errors import UserError
from harness.records import read_records
from harness.types import Answer, Judgment
from results.run.record import Run
from results.store.store import ArtifactStore

ArtifactMarker = Mapping[str, Any]  # ``meta.json`` of an artifact
NO_MODEL = frozenset({"prompts", "contamination", "dataset_pairs", "split_pool"})
"""Kinds of stages behind a student that run no model: loading and copying, not training cost."""
CellKey = tuple[str, str, int]  # row, metric, seed


@dataclass(frozen=True)
class ScoreSource:
    score: Ref
    entrant: str
    benchmark: str
    answers: Ref
    judgments: Ref
    student: Ref | None  # ``None``: an untrained model answered
    baseline: Ref | None  # answers that stand in for the questions' own baseline answers
    baseline_row: str
    questions: str  # ``questions_hash``, whole: of all that a judge may see of them


@dataclass(frozen=True)
class StudentTraining:
    seconds: Mapping[str, float]
    """Wall time by kind of stage that ran a model. A stage that several rows share counts in full for each."""
    peak_memory: int  # bytes, of the stage that needed most: the GPU's, else resident memory
    curve: tuple[Mapping[str, object], ...]  # a record per optimiser step, counted on over rounds
    torch: str = ""
    complete: bool = True  # False: a stage is gone, and ``seconds`` less than it took

    @property
    def hours(self) -> float:
        return sum(self.seconds.values()) / 3600


class Lineage:
    """Walks from a score back to the stages, answers and judgments that it was made from, by the store's markers."""

    def __init__(self, store: ArtifactStore) -> None:
        self.store = store
        # rows share most of their stages: each marker is read, and its inputs are parsed, once
        self.marker = cache(self._marker)
        self.inputs = cache(self._inputs)

    def _marker(self, ref: Ref) -> ArtifactMarker | None:
        """``None`` where it was cleared away or is damaged."""
        try:
            return self.store.meta(*ref)
        except (KeyError, UserError):
            return None

    def _inputs(self, ref: Ref) -> dict[str, Ref]:
        """By role; empty where nothing is known of it."""
        return {role: Ref.parse(text) for role, text in (self.marker(ref) or {}).get("inputs", {}).items()}

    def artifacts_behind(self, *refs: Ref) -> Iterator[tuple[Ref, ArtifactMarker | None]]:
        """These artifacts and all that they were made from, without repeats, inputs first."""
        # stages share inputs: without this a prompt pool would be walked once per row and round
        visited: set[Ref] = set()

        def walk(ref: Ref) -> Iterator[tuple[Ref, ArtifactMarker | None]]:
            if ref not in visited:
                visited.add(ref)
                for input_ref in self.inputs(ref).values():
                    yield from walk(input_ref)
                yield ref, self.marker(ref)

        for ref in refs:
            yield from walk(ref)

    def source(self, score: str, entrant: str) -> ScoreSource | None:
        """``None`` where that is not known."""
        ref = Ref("score", score)
        marker, inputs = self.marker(ref), self.inputs(ref)
        answers, judgments = inputs.get(f"answers:{entrant}"), inputs.get(f"judgments:{entrant}")
        if marker is None or answers is None or judgments is None:
            return None
        # an untrained model's answers have no model artifact; a student whose stage is gone is not traced further
        student, params = self.inputs(answers).get("model"), marker["params"]
        return ScoreSource(
            ref, entrant, str(params.get("benchmark", "")), answers, judgments,
            student if student is not None and self.marker(student) is not None else None,
            inputs.get("baseline"), str(params.get("baseline", "")), str(params.get("questions", "")),
        )  # fmt: skip

    def sources(self, run: Run) -> dict[CellKey, ScoreSource]:
        """Scores that are gone have no entry."""
        return {
            (cell.row, cell.metric, cell.seed): source
            for cell in run.cells
            if cell.unavailable is None and (source := self.source(cell.score, cell.entrant)) is not None
        }

    def trainings(self, sources: Mapping[CellKey, ScoreSource]) -> dict[tuple[str, int], StudentTraining]:
        # the metrics of a row and seed are of one student
        students = {(row, seed): source.student for (row, _, seed), source in sources.items() if source.student}
        return {key: self.training(student) for key, student in students.items()}

    def answers(self, ref: Ref) -> dict[str, Answer]:
        """By question. Raises UserError where they are gone or damaged."""
        return {answer.question: answer for answer in read_records(self.file(ref, "answers.jsonl"), Answer)}

    def judgments(self, ref: Ref) -> dict[str, list[Judgment]]:
        """By question, in the order of asking. Raises as ``answers`` does."""
        by_question: dict[str, list[Judgment]] = {}
        for judgment in read_records(self.file(ref, "judgments.jsonl"), Judgment):
            by_question.setdefault(judgment.question, []).append(judgment)
        return by_question

    def file(self, ref: Ref, name: str = "") -> Path:
        """Of an artifact; no name: its folder. Raises UserError where it was cleared away or is damaged."""
        try:
            return self.store.path(*ref, name)
        except KeyError as error:
            raise UserError(
                f"{error.args[0]}, though a score was made from it. Run the recipe again: only what is missing is made."
            ) from error

    def training(self, student: Ref) -> StudentTraining:
        seconds: dict[str, float] = {}
        peak, torch, complete = 0, "", True
        for ref, marker in self.artifacts_behind(student):
            if ref.kind in NO_MODEL:
                continue
            if marker is None:
                complete = False
                continue
            measurements = marker.get("measurements") or {}
            # of a stage that was stopped, what it had done before is in its journal
            work_seconds = float(marker["wall_seconds"]) + float(measurements.get("journal_seconds", 0))
            seconds[ref.kind] = seconds.get(ref.kind, 0.0) + work_seconds
            # a stage on a GPU measures its own peak; else the process's memory is all that is known
            peak = max(peak, int(measurements.get("peak_memory") or marker["peak_memory_bytes"]))
            torch = str(marker.get("packages", {}).get("torch", ""))
        return StudentTraining(seconds, peak, tuple(self._curve(student)), torch, complete)

    def _curve(self, student: Ref) -> list[dict[str, object]]:
        if self.marker(student) is None:
            return []
        previous = self.inputs(student).get("student")
        curve = self._curve(previous) if previous else []
        # else trained elsewhere, by a backend that keeps no curve
        if (self.file(student) / "model/training.jsonl").is_file():
            # rounds count their steps from 1; a curve of several rounds must not run back
            earlier_steps = int(str(curve[-1]["step"])) if curve else 0
            path = self.file(student, "model/training.jsonl")
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            curve += [{**line, "step": earlier_steps + int(line["step"])} for line in lines]
        return curve
