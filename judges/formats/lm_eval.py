"""lm-eval's ``samples_gsm8k_*.jsonl``: one line per problem and filter, with the response and what the filter took.

Problems are matched by their text. lm-eval's own extraction is kept (``filtered_resps``), and marked again by our rule.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.types import Answer, Question
from judges.benchmarks.answer_files import Row, RowMatcher, locate_rows, require_field, shorten
from judges.benchmarks.gsm8k.benchmark import (
    FILTERS,
    INVALID,
    JSON_PART,
    extract_answer,
    filter_answer,
    mark_json,
    mark_of,
)
from judges.formats.base import ExportedResults, Files, ImportedResults, file_name

FILTER_NAMES = (*FILTERS, JSON_PART)


def read(files: Sequence[Path], questions: Sequence[Question], model: str | None) -> ImportedResults:
    matcher: RowMatcher[tuple[str, str]] = RowMatcher(questions, "responses")
    filters: list[str] = []
    for location, row in locate_rows(files):
        problem = require_field(require_field(row, "doc", dict, location), "question", str, location)
        name = str(row.get("filter", FILTERS[0]))
        if name not in FILTER_NAMES:
            raise UserError(f"{location}: filter {shorten(name)} is none of {', '.join(FILTER_NAMES)}")
        filters += [] if name in filters else [name]
        response, number = _first_text(row.get("resps"), location), _first_text(row.get("filtered_resps"), location)
        matcher.offer(problem, location, (response, number), name)
    answers: dict[str, Answer] = {}
    for question, name, (response, number) in matcher.in_order(filters):
        answer = answers.setdefault(question.id, Answer(question.id, (response,), (), ()))
        if answer.turns != (response,):
            raise UserError(f"question {question.id}: the filters' rows hold different responses.")
        if name in FILTERS:
            answers[question.id] = replace(answer, meta={**answer.meta, name: number})
    problems = matcher.problems + matcher.missing_rows(filters)
    return ImportedResults(model or "", tuple(answers.values()), (), tuple(problems))


def _first_text(value: object, location: str) -> str:
    """``[["text"]]`` and ``["text"]`` alike."""
    while isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str):
        raise UserError(f"{location}: resps and filtered_resps must hold a text, got {shorten(value)}")
    return value


def _hash(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _filter_answers(question: Question, answer: Answer) -> Extraction:
    numbers = {name: filter_answer(answer, name) for name in FILTERS}
    return {name: (number, mark_of(number, question.reference[0])) for name, number in numbers.items()}


def _json_answer(question: Question, answer: Answer) -> Extraction:
    number, _ = extract_answer(answer.turns[0])
    return {JSON_PART: (number or INVALID, float(mark_json(question, answer).verdict or 0.0))}


Extraction = Mapping[str, tuple[str, float]]  # filter to what it took from a response, and its mark
EXTRACTIONS: Mapping[str, Callable[[Question, Answer], Extraction]] = {
    "gsm8k": _filter_answers,
    "gsm8k_json": _json_answer,
}


def write(results: ExportedResults, benchmark: str) -> Files:
    """``MODEL/samples_gsm8k_distilbench.jsonl``: the rows of all filters, as ``--log_samples`` writes them."""
    lines: list[Row] = []
    for place, (question, answer) in enumerate(results.answered_questions):
        text, gold = answer.turns[0], question.reference[0]
        doc = {"question": question.turns[0], "answer": gold}
        lines += [
            {
                "doc_id": place, "doc": doc, "target": gold,
                "arguments": {"gen_args_0": {"arg_0": question.turns[0], "arg_1": {}}},
                "resps": [[text]], "filtered_resps": [number], "filter": name, "metrics": ["exact_match"],
                "doc_hash": _hash(doc), "prompt_hash": _hash(question.turns[0]), "target_hash": _hash(gold),
                "exact_match": mark,
            }
            for name, (number, mark) in EXTRACTIONS[benchmark](question, answer).items()
        ]  # fmt: skip
    return {Path(file_name(results.model)) / "samples_gsm8k_distilbench.jsonl": lines}
