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
from harness.text import format_count
from harness.thinking import separate_answers
from harness.types import Answer, Question
from judges.benchmarks.answer_files import Row, RowMatcher, Rows, dig, parse_rows, require_field, shorten
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

FILTER_NAMES = (*FILTERS, JSON_PART, "none")  # none: ``--predict_only``, which marks nothing


def read(rows: Rows, questions: Sequence[Question], model: str | None) -> ImportedResults:
    matcher: RowMatcher[tuple[str, str | None, object]] = RowMatcher(questions, "responses")
    filters: list[str] = []
    for location, row, name, response, number in parse_rows(rows, _sample, matcher.problems):
        filters += [] if name in filters else [name]
        problem = str(dig(row, "doc", "question"))
        matcher.offer(problem, location, (response, number, row.get("exact_match")), name, source_row=row)
    answers: dict[str, Answer] = {}
    contents = [((q, name), content) for q, name, content in matcher.in_order(filters)]
    for (question, name), (response, number, _) in contents:
        answer = answers.setdefault(question.id, Answer(question.id, (response,), (), ()))
        if answer.turns != (response,):
            raise UserError(f"question {question.id}: the filters' rows hold different responses.")
        if number is not None:
            answers[question.id] = replace(answer, meta={**answer.meta, name: number})
    answers = dict(zip(answers, separate_answers(list(answers.values())), strict=True))  # before our marks
    problems = matcher.problems + matcher.missing_rows(filters)
    for name in FILTERS:
        marks = [(q, answers[q.id], mark) for (q, slot), (*_, mark) in contents if slot == name]
        problems += _other_marks(name, [(q, a, float(mark)) for q, a, mark in marks if isinstance(mark, int | float)])
    return ImportedResults(model or "", tuple(answers.values()), (), tuple(problems))


def _sample(row: Row, location: str) -> tuple[str, Row, str, str, str | None]:
    """(location, row, filter, response, what the filter took: ``None`` where it is no filter of the task)."""
    require_field(require_field(row, "doc", dict, location), "question", str, location)
    name = str(row.get("filter", FILTERS[0]))
    if name not in FILTER_NAMES:
        raise UserError(f"{location}: filter {shorten(name)} is none of {', '.join(FILTER_NAMES)}")
    response = _first_text(row.get("resps"), location)
    return location, row, name, response, _first_text(row.get("filtered_resps"), location) if name in FILTERS else None


def _other_marks(name: str, rows: Sequence[tuple[Question, Answer, float]]) -> list[str]:
    """One sentence where the file's own marks are not ours."""
    ours = [mark_of(filter_answer(answer, name), question.reference[0]) for question, answer, _ in rows]
    differences = [question.id for (question, _, mark), our_mark in zip(rows, ours, strict=True) if mark != our_mark]
    if not differences:
        return []
    file_mean = 100 * sum(mark for *_, mark in rows) / len(rows)
    examples = ", ".join(differences[:5]) + (", ..." if len(differences) > 5 else "")
    mean = f"{file_mean:.2f} in the file, {100 * sum(ours) / len(rows):.2f} by our gold answers"
    count = format_count(len(differences), "question")
    return [f"{name}: exact_match is {mean}; different for {count} ({examples}); ours count"]


def _first_text(value: object, location: str) -> str:
    """``[["text"]]`` and ``["text"]`` alike."""
    while isinstance(value, list) and value:
        if len(value) > 1:
            raise UserError(f"{location}: {len(value)} responses to one problem; files with one each can be read")
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
