"""A small page with everything that can go wrong in it: hostile text, missing verdicts, two judges, two turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.contracts.benchmark import Metric
from harness.types import Answer, Judgment, Question
from reports.page.page import PagePart, write_page
from reports.write import make_table
from results.run.results import Results
from results.store.store import ArtifactStore
from tests.reports import shelves

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'><!-- {{ 7 * 7 }} {% raw %} "
    "${window.hacked = 3} ]]> \x1b[31m\x00\u202edesrever\u2066\u2028 &lt;b&gt; \"'` <svg onload=alert(1)> 中 \U0001f600"
)
REFUSAL = "no verdict in the reply"


def rows() -> tuple[str, ...]:
    return ("teacher", "student", "dpo")


def books() -> list[shelves.Book]:
    """A pairwise benchmark with a second judge, and one of two turns; ``dpo`` is the better row of the first."""
    metrics = (Metric("arena_hard.wr", "WR", "Arena-Hard"), Metric("mt_bench.score", "Score", "MT-Bench", unit="1-10"))
    first = [
        Question(f"q{n}", (f"Name {n} fruits.",), ("lists", "facts")[n % 2], (f"Baseline answer {n}.",))
        for n in range(12)
    ]
    first[3] = replace(first[3], turns=(f"Question {HOSTILE}",), category=f"evil {HOSTILE}")
    second = [Question(f"m{n}", (f"Tell {n}.", "And now shorter."), reference=(f"ref {n}", "")) for n in range(4)]
    return [
        shelves.Book(metrics[0], first, _answer, _judge, {"judge-b": _second}),
        shelves.Book(metrics[1], second, _answer, _rate),
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
    return Answer(question.id, turns, tuple(question.id != "q6" for _ in turns), tuple(len(t) // 4 for t in turns))


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
    if number == 7 and row == "student":
        return [replace(each, verdict=None, reason=f"{REFUSAL} {HOSTILE}", reply="I cannot say.") for each in games]
    return games


def _second(question: Question, row: str, seed: int) -> list[Judgment]:
    return [Judgment(question.id, "game1", -1.0, reply="long " * 400)]


def _rate(question: Question, row: str, seed: int) -> list[Judgment]:
    return [Judgment(question.id, f"turn{turn}", 5.0 + turn, reply=f"Rating: [[{5 + turn}]]") for turn in (1, 2)]


def the_page(folder: Path) -> tuple[Path, Results, ArtifactStore]:
    """The page, and what it was made from; the student's title is hostile too."""
    store = ArtifactStore(folder / "store")
    results = shelves.make(store, books(), rows(), (0, 1))
    return write(folder / "page.html", results, store), results, store


def write(
    path: Path, results: Results, store: ArtifactStore, questions: Mapping[str, Sequence[Question] | Any] | None = None
) -> Path:
    """The page with Table 1; a note of the run is hostile."""
    run = replace(results.run, notes=(HOSTILE,), name=f"made-up {HOSTILE}")
    texts = {book.name: book.questions for book in books()} if questions is None else questions
    shown = replace(results, run=run)
    return write_page(path, [PagePart(make_table(shown, "table1", 0.0), shown, texts)], store)
