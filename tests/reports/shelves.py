"""A store with answers, judgments and scores made up from seeds, and a small page of them with everything that can go
wrong in it: hostile text, missing verdicts, two judges, two turns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts.benchmark import Card, Metric, questions_hash
from harness.contracts.stage import Ref, Stage
from harness.records import write_records
from harness.types import Answer, Judgment, Question, Request, Score
from reports.page.page import PageTarget, write_page
from reports.write import make_table
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
    scores: dict[tuple[str, int], Score] = {}
    digest = questions_hash(book.questions, all_fields=True)
    for row in rows:
        for seed in seeds:
            answers = Stage("answer", {"of": [book.name, row, seed]})
            records = [book.answer(question, row, seed) for question in book.questions]
            store.write(
                answers, lambda folder, records=records: {"n": write_records(folder / "answers.jsonl", records)}
            )
            run_judgments = write_judgments(store, book, answers, row, seed, "judge-a", book.judge)
            for model, judge in book.judges.items():
                write_judgments(store, book, answers, row, seed, model, judge)
            inputs |= {f"answers:{row}/{seed}": answers.ref, f"judgments:{row}/{seed}": run_judgments.ref}
            scores[row, seed] = score(book, row, seed)
    params = {"benchmark": book.name, "questions": digest, "entrants": [f"{row}/{seed}" for row, seed in scores]}
    stage = Stage("score", params, inputs)
    contents = {f"{row}/{seed}": [asdict(score)] for (row, seed), score in scores.items()}
    store.write(stage, lambda folder: {"n": (folder / "scores.json").write_text(json.dumps(contents))})
    return stage.key


def write_judgments(
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
    judgments = [
        replace(judgment, judge_model=model) for question in book.questions for judgment in judge(question, row, seed)
    ]

    def fill(folder: Path) -> Mapping[str, int]:
        write_records(folder / "judgments.jsonl", judgments)
        return {
            "calls": len(judgments),
            "prompt_tokens": 100 * len(judgments),
            "completion_tokens": 10 * len(judgments),
        }

    store.write(stage, fill)
    return stage


def score(book: Book, row: str, seed: int) -> Score:
    """The mean of the verdicts."""
    values = {}
    for question in book.questions:
        verdicts = [judgment.verdict for judgment in book.judge(question, row, seed) if judgment.verdict is not None]
        if verdicts:
            values[question.id] = float(np.mean(verdicts))
    mean = float(np.mean(list(values.values())))
    unscored_questions = len(book.questions) - len(values)
    return Score(book.metric.id, mean, mean - 1, mean + 1, len(values), unscored_questions, per_question=values)


HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'><!-- {{ 7 * 7 }} {% raw %} "
    "${window.hacked = 3} ]]> \x1b[31m\x00\u202edesrever\u2066\u2028 &lt;b&gt; \"'` <svg onload=alert(1)> 中 \U0001f600"
)
REFUSAL = "no verdict in the reply"


def rows() -> tuple[str, ...]:
    return ("teacher", "student", "dpo")


def books() -> list[Book]:
    """A pairwise benchmark with a second judge, and one of two turns; ``dpo`` is the better row of the first."""
    metrics = (Metric("arena_hard.wr", "WR", "Arena-Hard"), Metric("mt_bench.score", "Score", "MT-Bench", unit="1-10"))
    chat_questions = [
        Question(f"q{n}", (f"Name {n} fruits.",), ("lists", "facts")[n % 2], (f"Baseline answer {n}.",))
        for n in range(12)
    ]
    chat_questions[3] = replace(chat_questions[3], turns=(f"Question {HOSTILE}",), category=f"evil {HOSTILE}")
    two_turn_questions = [
        Question(f"m{n}", (f"Tell {n}.", "And now shorter."), reference=(f"ref {n}", "")) for n in range(4)
    ]
    return [
        Book(metrics[0], chat_questions, _answer, _judge, {"judge-b": _two_turn_judgments}),
        Book(metrics[1], two_turn_questions, _answer, _rate),
    ]


def _answer(question: Question, row: str, seed: int) -> Answer:
    text = f"The {row} names apple, pear and plum of question {question.id} with seed {seed}."
    if question.id == "q3":
        text = f"{HOSTILE} {row}"
    if question.id == "q4":
        text = "Exactly the same."
    if question.id == "q5":
        text = {"student": "alpha beta gamma", "dpo": "one two three"}.get(row, "")
    turns = tuple(text if turn == 0 else f"Shorter: {row}." for turn in range(len(question.turns)))
    finished, tokens = tuple(question.id != "q6" for _ in turns), tuple(len(t) // 4 for t in turns)
    return Answer(question.id, turns, finished, tokens, thinking=(f"{row} wonders {HOSTILE}",) * (question.id == "q1"))


def _judge(question: Question, row: str, seed: int) -> list[Judgment]:
    number = int(question.id[1:])
    value = {"teacher": 2.0, "student": 0.0, "dpo": 1.0}[row] - (2.0 if number % 3 == 2 and row == "dpo" else 0.0)
    reply = f"{HOSTILE} [[A>B]]" if number == 3 else f"Answer A of {row} is what it is. [[A>B]]"
    games = [
        Judgment(
            question.id, f"game{game}", value, reply=reply, flags=("swapped",) * (game - 1), meta={"first": game == 1}
        )
        for game in (1, 2)
    ]
    if number == 1:
        return [replace(game, thinking=f"Hm, {row}. {HOSTILE}", request="0123456789abcdef" * 4) for game in games]
    if number == 7 and row == "student":
        return [replace(game, verdict=None, reason=f"{REFUSAL} {HOSTILE}", reply="I cannot say.") for game in games]
    return games


def _two_turn_judgments(question: Question, row: str, seed: int) -> list[Judgment]:
    return [Judgment(question.id, "game1", -1.0, reply="long " * 400)]


def _rate(question: Question, row: str, seed: int) -> list[Judgment]:
    return [Judgment(question.id, f"turn{turn}", 5.0 + turn, reply=f"Rating: [[{5 + turn}]]") for turn in (1, 2)]


def the_page(folder: Path) -> tuple[Path, Results, ArtifactStore]:
    """The page, and what it was made from; the student's title is hostile too."""
    store = ArtifactStore(folder / "store")
    results = make(store, books(), rows(), (0, 1))
    return write(folder / "page.html", results, store), results, store


def write(
    path: Path, results: Results, store: ArtifactStore, questions: Mapping[str, Sequence[Question] | Any] | None = None
) -> Path:
    """The page with Table 1; a note of the run is hostile."""
    run = replace(results.run, notes=(HOSTILE,), name=f"made-up {HOSTILE}")
    texts = {book.name: book.questions for book in books()} if questions is None else questions
    page_results = replace(results, run=run)
    target = PageTarget(make_table(page_results, "table1", 0.0), page_results, texts, requests={"arena_hard": asked})
    return write_page(path, [target], store)


def asked(question: Question, answer: Answer) -> list[Request]:
    content = f"Compare <b>{question.baseline[0]}</b> with {answer.turns[0]}"
    return [Request(question.id, f"game{game}", ({"role": "user", "content": content},), 8) for game in (1, 2)]
