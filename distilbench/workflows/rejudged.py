"""Which answers a comparison of judges is about, and what bias measurements need to know of each: ``items.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from distilbench.workflows.rejudging import answers_in
from harness.types import Answer, Question

if TYPE_CHECKING:
    from distilbench.workflows.rejudging import Judged, Task
    from results.store.store import ArtifactStore


def features(tasks: Sequence[Task], store: ArtifactStore) -> str:
    """``items.csv``: what bias measurements need to know of every answer."""
    from reports.judge_comparison.answer_features import differences
    from reports.judge_comparison.panel import FEATURES, ITEM

    out = io.StringIO()
    writer = csv.DictWriter(out, ["benchmark", *ITEM, *FEATURES], lineterminator="\n")
    writer.writeheader()
    for judged in {made.judged.benchmark: made.judged for made in tasks}.values():
        for item, question, answer, number in items(judged, store):
            found = differences(question, answer, number, judged.paired)
            plain = {name: "" if value != value else repr(value) for name, value in found.items()}  # noqa: PLR0124
            writer.writerow({"benchmark": judged.benchmark, **item, **plain})
    return out.getvalue()


def items(judged: Judged, store: ArtifactStore) -> Iterator[tuple[dict[str, Any], Question, Answer, int | None]]:
    """Every judged answer: its ``ITEM`` columns, question, answer, and which turn (from 0; ``None``: all of them)."""
    parts: dict[str, list[tuple[int | None, str]]] = {}  # which turns are judged is the question's, not the answer's
    for entrant, meta in judged.judges.items():
        row, _, seed = entrant.rpartition("/")
        given = {answer.question: answer for answer in answers_in(store, meta["inputs"]["answers"])}
        for question in judged.questions:
            answer = given[question.id]
            if question.id not in parts:
                parts[question.id] = turns(judged, question, answer)
            for number, turn in parts[question.id]:
                item = {"row": row, "seed": int(seed), "question": question.id, "turn": turn}
                yield item, question, answer, number


def turns(judged: Judged, question: Question, answer: Answer) -> list[tuple[int | None, str]]:
    """The items of one answer: (turn from 0, its name) where turns are judged apart, else one with ``None``."""
    from reports.judge_comparison.load_run import turn_of

    names = list(dict.fromkeys(
        turn_of(request.part, judged.paired) for request in judged.adapter.requests(question, answer, judged.config)
    )) or [""]  # fmt: skip
    apart = len(names) == len(answer.turns) and names != [""]
    return [(number if apart else None, name) for number, name in enumerate(names)]
