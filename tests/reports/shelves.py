"""A store with answers, judgments and scores made up from seeds: what the page's tests and its measurement read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from harness.contracts.benchmark import Card, Metric, questions_hash
from harness.contracts.stage import Ref, Stage
from harness.records import write_records
from harness.types import Answer, Judgment, Question, Score
from results.run.record import Cell, RowSpec, Run, RunFamily
from results.run.results import Results, join
from results.store.store import ArtifactStore


@dataclass(frozen=True)
class Book:
    """One benchmark to make up: its questions, and what a row answers to them and is told of its answers."""

    metric: Metric
    questions: Sequence[Question]
    answer: Callable[[Question, str, int], Answer]
    judge: Callable[[Question, str, int], list[Judgment]]
    judges: Mapping[str, Callable[[Question, str, int], list[Judgment]]] = field(default_factory=dict)
    """Further judges' models that looked at the same answers, in the same store."""

    @property
    def name(self) -> str:
        """``alpaca_eval``."""
        return self.metric.id.partition(".")[0]


def make(store: ArtifactStore, books: Sequence[Book], rows: Sequence[str], seeds: Sequence[int]) -> Results:
    """Write every artifact, and return the run with its scores."""
    cells: list[Cell] = []
    for book in books:
        key = _scored(store, book, rows, seeds)
        cells += [Cell(row, book.metric.id, seed, key, f"{row}/{seed}") for row in rows for seed in seeds]
    specs = tuple(RowSpec(row, row.upper(), row in ("teacher", "student")) for row in rows)
    judges = {book.name: "judge-a" for book in books}
    cards = tuple(Card(book.name, "1", "0123456789ab", {"temperature": 0.0}, ("made up",)) for book in books)
    recipe = {"benchmarks": {book.name: {"judge": "main"} for book in books}, "statistics": {"min_coverage": 0.98}}
    run = Run(
        "made-up", recipe, "2026-01-01T00:00:00+00:00", True, RunFamily("pocket", "big", "small"), specs,
        tuple(book.metric for book in books), tuple(seeds), tuple(cells), cards, judges,
    )  # fmt: skip
    return join(run, store, Path("run.json"))


def _scored(store: ArtifactStore, book: Book, rows: Sequence[str], seeds: Sequence[int]) -> str:
    """The key of the score artifact."""
    inputs: dict[str, Ref] = {}
    made: dict[tuple[str, int], Score] = {}
    hashed = questions_hash(book.questions, whole=True)
    for row in rows:
        for seed in seeds:
            answers = Stage("answer", {"of": [book.name, row, seed]})
            found = [book.answer(question, row, seed) for question in book.questions]
            store.write(answers, lambda folder, found=found: {"n": write_records(folder / "answers.jsonl", found)})
            own = judged(store, book, answers, row, seed, "judge-a", book.judge)
            for model, judge in book.judges.items():
                judged(store, book, answers, row, seed, model, judge)
            inputs |= {f"answers:{row}/{seed}": answers.ref, f"judgments:{row}/{seed}": own.ref}
            made[row, seed] = score(book, row, seed)
    params = {"benchmark": book.name, "questions": hashed, "entrants": [f"{row}/{seed}" for row, seed in made]}
    stage = Stage("score", params, inputs)
    plain = {f"{row}/{seed}": [asdict(one)] for (row, seed), one in made.items()}
    store.write(stage, lambda folder: {"n": (folder / "scores.json").write_text(json.dumps(plain))})
    return stage.key


def judged(
    store: ArtifactStore,
    book: Book,
    answers: Stage,
    row: str,
    seed: int,
    model: str,
    judge: Callable[[Question, str, int], list[Judgment]],
) -> Stage:
    """The judge stage of one row."""
    params = {"benchmark": book.name, "judge": {"kind": "openai", "model": model}, "config": {"repeats": 1}}
    stage = Stage("judge", params, {"answers": answers.ref})
    found = [replace(each, judge_model=model) for question in book.questions for each in judge(question, row, seed)]

    def fill(folder: Path) -> Mapping[str, int]:
        write_records(folder / "judgments.jsonl", found)
        return {"calls": len(found), "prompt_tokens": 100 * len(found), "completion_tokens": 10 * len(found)}

    store.write(stage, fill)
    return stage


def score(book: Book, row: str, seed: int) -> Score:
    """The mean of the verdicts."""
    values = {}
    for question in book.questions:
        verdicts = [each.verdict for each in book.judge(question, row, seed) if each.verdict is not None]
        if verdicts:
            values[question.id] = float(np.mean(verdicts))
    mean = float(np.mean(list(values.values())))
    unscored = len(book.questions) - len(values)
    return Score(book.metric.id, mean, mean - 1, mean + 1, len(values), unscored, per_question=values)
