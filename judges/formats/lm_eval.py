"""lm-eval's ``samples_gsm8k_*.jsonl``: one line per problem and filter, with the response and what the filter took.

Problems are matched by their text. lm-eval's own extraction is kept (``filtered_resps``), and marked again by our rule.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.text import format_count
from harness.thinking import separate_answers
from harness.types import Answer, Question
from judges.benchmarks.answer_files import (
    Row,
    RowMatcher,
    Rows,
    dig,
    number_of,
    parse_rows,
    require_field,
    shorten,
)
from judges.benchmarks.gsm8k.benchmark import (
    FILTERS,
    FORMS,
    INVALID,
    JSON_PART,
    extract,
    extract_answer,
    filter_answer,
    mark_json,
    mark_of,
)
from judges.benchmarks.gsm8k.stops import cut_at_stop
from judges.formats.base import ExportedResults, Files, ImportedResults, file_name

FILTER_NAMES = (*FILTERS, JSON_PART, "none")  # none: ``--predict_only``, which marks nothing
_UNKNOWN = 0, ""


def read(rows: Rows, questions: Sequence[Question], model: str | None) -> ImportedResults:
    matcher: RowMatcher[tuple[str, str | None, float | None]] = RowMatcher(questions, "responses")
    filters: list[str] = []
    prompts: Counter[tuple[int, str]] = Counter()
    for location, row, name, response, number in parse_rows(rows, _sample, matcher.problems):
        filters += [] if name in filters else [name]
        problem = str(dig(row, "doc", "question"))
        mark = row.get("exact_match")
        mark_number = float(mark) if isinstance(mark, bool) else number_of(mark)
        matcher.offer(problem, location, (response, number, mark_number), name, source_row=row)
        prompts[_prompt_form(row)] += 1
    answers: dict[str, Answer] = {}
    problems = matcher.problems + matcher.missing_rows(filters)
    contents = [((q, name), content) for q, name, content in matcher.in_order(filters)]
    for (question, name), (response, number, _) in contents:
        answer = answers.setdefault(question.id, Answer(question.id, (response,), (), ()))
        if answer.turns != (response,):
            problems.append(f"question {question.id}: the filters' rows hold different responses; the first counts")
        elif number is not None:
            answers[question.id] = replace(answer, meta={**answer.meta, name: number})
    answers = dict(zip(answers, separate_answers(list(answers.values())), strict=True))  # before our marks
    for name in FILTERS:
        marks = [
            (q, answers[q.id], value) for (q, slot), (_, _, value) in contents if slot == name and value is not None
        ]
        problems += _other_marks(name, marks)
        problems += _other_extractions(name, list(answers.values()))
    options: Mapping[str, object] = {}
    notes: tuple[str, ...] = ()
    if len(prompts) > 1:
        counts = prompts.most_common(4)
        forms = "; ".join(
            f"{n} x {shots}-shot {FORMS[form]}" if form else f"{n} x unknown" for (shots, form), n in counts
        )
        problems.append(f"the prompts differ ({forms}); the card states one form for all")
    elif (only := next(iter(prompts), _UNKNOWN)) != _UNKNOWN:
        options = {"fewshot": only[0], "prompt_form": only[1]}
    else:
        notes = ("the files do not show their prompts: worked examples and prompt form are those of the options",)
    return ImportedResults(model or "", tuple(answers.values()), (), tuple(problems), options=options, notes=notes)


def _prompt_form(row: Row) -> tuple[int, str]:
    """(worked examples, ``prompt_form``) of a row; ``_UNKNOWN`` where its ``arguments`` hold no prompt of the task."""
    arguments = row.get("arguments")
    prompt = dig(arguments, "gen_args_0", "arg_0") or dig(arguments, 0, 0)
    problem = str(dig(row, "doc", "question"))
    parts = prompt.split("\nAnswer:") if isinstance(prompt, str) and problem.strip() in prompt else []
    if len(parts) < 2:
        return _UNKNOWN
    # What a chat template puts behind a user turn stands behind each of them.
    *examples, end = parts[1:]
    if not end.strip():
        return len(examples), "plain"
    is_turn = all(example.lstrip().startswith(end.split()[0]) for example in examples)
    return len(examples), "turns" if is_turn else "one-turn"


def _other_extractions(name: str, answers: Sequence[Answer]) -> list[str]:
    """One sentence where the file took other numbers from the responses than the task's rule takes: another task's."""
    numbers = [(a.question, a.meta[name], extract(cut_at_stop(a.turns[0]), name)) for a in answers if name in a.meta]
    different = [(question, taken, ours) for question, taken, ours in numbers if taken != ours]
    if not different:
        return []
    question, taken, ours = different[0]
    count = f"{len(different)} of {format_count(len(answers), 'response')}"
    example = f"question {question}: {shorten(taken)}, by the task's rule {shorten(ours)}"
    return [f"{name}: the file takes another number from {count} than lm-eval's gsm8k ({example}); the file's counts"]


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
    if isinstance(value, str) and value.startswith(("[[", "['", '["')):
        raise UserError(f"{location}: a list that was saved as text: {shorten(value)}; save it as JSON")
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
