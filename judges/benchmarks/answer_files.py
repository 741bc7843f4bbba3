"""Answer files, our own and those of the official tools, matched to questions; nothing is dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.contracts.benchmark import against, pair_answers
from harness.errors import UserError
from harness.records import read_records
from harness.text import format_count, replace_in_json
from harness.types import Answer, Question

T = TypeVar("T")
Row = Mapping[str, object]

ReadAnswer = Callable[[Row, str], tuple[str, Answer] | None]
"""(row, its place for messages) -> the model, empty where the row names none, and its answer, whose ``question`` is an
id or a text; ``None`` for a row of another kind. Raises UserError."""


class RowMatcher(Generic[T]):
    """The first row offered for each (question id, slot), and a sentence in ``problems`` for all others.

    ``content``: what the rows hold, for messages (``answers``).
    """

    def __init__(self, questions: Sequence[Question], content: str) -> None:
        self.questions, self.content = questions, content
        self.rows: dict[tuple[str, str], T] = {}
        self.problems: list[str] = []
        # Some tools write ids, others the instruction itself.
        self.ids = {question.turns[0]: question.id for question in questions if question.turns}
        self.ids |= {question.id: question.id for question in questions}

    def offer(self, name: str, location: str, row: T, slot: str = "") -> None:
        """Take one row of the question that has this id or text; one per ``slot`` (a turn, a filter)."""
        question = self.ids.get(name)
        if question is None:
            self.problems.append(f"{location}: {self.content} for a question that is not asked here: {shorten(name)}")
        elif (question, slot) in self.rows:
            place = f"question {question}" + (f" ({slot})" if slot else "")
            self.problems.append(f"{location}: a second row of {self.content} for {place}; the first counts")
        else:
            self.rows[question, slot] = row

    def in_order(self, slots: Sequence[str] = ("",)) -> list[tuple[Question, str, T]]:
        places = [(question, slot) for question in self.questions for slot in slots]
        return [(q, slot, self.rows[q.id, slot]) for q, slot in places if (q.id, slot) in self.rows]

    def all_problems(self, slots: Sequence[str] = ("",)) -> list[str]:
        """``problems``, and what is missing; nothing where no row was offered: such files hold something else."""
        return [*self.problems, *self.missing_rows(slots)] if self.rows or self.problems else []

    def missing_rows(self, slots: Sequence[str] = ("",)) -> list[str]:
        problems = []
        for question in self.questions:
            lacking = [slot for slot in slots if (question.id, slot) not in self.rows]
            if lacking:
                slot_list = f" ({', '.join(lacking)})" if any(lacking) else ""
                problems.append(f"{self.content} missing for question {question.id}{slot_list}")
        return problems


def with_baseline(questions: Sequence[Question], path: str, benchmark: str, read: ReadAnswer) -> list[Question]:
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{benchmark}: baseline {path!r} is not a file of answers.")
    model, answers, problems = read_answers([file], questions, read)
    try:
        return against(questions, answers, model or file.stem)
    except UserError as error:
        raise UserError(f"{benchmark}: {error} {problems[0]}") from error


def read_answers(
    files: Sequence[Path], questions: Sequence[Question], read: ReadAnswer = lambda row, location: None
) -> tuple[str, list[Answer], list[str]]:
    """(model, answers in the order of the questions, problems) of files that hold answers. Raises UserError."""
    if is_own(files[0]):
        model, answers = "", RowMatcher[Answer](questions, "answers")
        for path in files:
            for number, answer in enumerate(read_records(path, Answer), 1):
                answers.offer(answer.question, f"{path.name}, row {number}", answer)
    else:
        model, answers = match_answers(locate_rows(files), read, (), None, files, questions)
    complete_answers, short_of_turns = whole_answers([answer for *_, answer in answers.in_order()], questions)
    return model, complete_answers, [*answers.problems, *answers.missing_rows(), *short_of_turns]


def match_answers(
    rows: Sequence[tuple[str, Row]], read: ReadAnswer, judged_models: Sequence[str], model: str | None,
    files: Sequence[Path], questions: Sequence[Question],
) -> tuple[str, RowMatcher[Answer]]:  # fmt: skip
    """(the model to read, its answers). Raises UserError: several models and none was named, or not the named one."""
    read_rows = [(location, pair[0], pair[1]) for location, row in rows if (pair := read(row, location)) is not None]
    models = list(dict.fromkeys([*(name for _, name, _ in read_rows if name), *judged_models]))
    model_list = ", ".join(models[:20])
    if model is None and len(models) > 1:
        raise UserError(f"{files[0]} and others hold several models: {model_list}. Name one with --model.")
    if model is not None and models and model not in models:
        raise UserError(f"no rows of model {model!r}; the files hold: {model_list}.")
    chosen = model or (models[0] if models else "")
    answers = RowMatcher[Answer](questions, "answers")
    for location, name, answer in read_rows:
        if name in ("", chosen):  # a row that names no model belongs to every one
            question = answers.ids.get(answer.question, "")
            answers.offer(answer.question, location, replace(answer, question=question))
    return chosen, answers


def whole_answers(answers: Sequence[Answer], questions: Sequence[Question]) -> tuple[list[Answer], list[str]]:
    """The answers with as many turns as their question, and a problem for each of the others."""
    rows = pair_answers(questions, answers)
    problems = [
        f"the answer to question {q.id} has {format_count(len(a.turns), 'turn')}, not {len(q.turns)}: it is left out"
        for q, a in rows
        if len(a.turns) != len(q.turns)
    ]
    return [answer for question, answer in rows if len(answer.turns) == len(question.turns)], problems


def is_own(path: Path) -> bool:
    """Whether a file's first line is one of our records: they name ``question`` and ``turns`` or ``part``."""
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(file.readline() or "null")
    except (OSError, ValueError, RecursionError):
        return False  # the reader of the tool's own format says what is wrong
    return isinstance(first, dict) and "question" in first and ("turns" in first or "part" in first)


def shorten(value: object) -> str:
    """A foreign value for a message: quoted, on one line, cut."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON lines file. Raises UserError naming the line that is not JSON."""
    rows = []
    # not str.splitlines: some answers hold U+2028, which ends no line in JSON lines
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
                raise UserError(f"{path}, line {number}: not JSON ({error})") from error
    return rows


def locate_rows(files: Sequence[Path]) -> list[tuple[str, Row]]:
    """The objects of JSON arrays or JSON lines files, each with its place for messages: ``answers.jsonl, row 3``."""
    rows_with_places: list[tuple[str, Row]] = []
    for path in files:
        rows: list[Any]
        try:
            text = path.read_text(encoding="utf-8-sig")
            rows = json.loads(text) if text.lstrip().startswith("[") else read_jsonl(path)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is neither a JSON array nor JSON lines: {error}") from error
        if not rows:
            raise UserError(f"{path} holds no rows")
        # UTF-8 cannot hold a lone surrogate. The walk through every text is slow: only where one occurs at all.
        has_surrogates = "\\ud" in text.lower()
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise UserError(f"{path}, row {number}: an object was expected, found {shorten(row)}")
            rows_with_places.append((f"{path.name}, row {number}", replace_in_json(row) if has_surrogates else row))
    return rows_with_places


def require_field(row: Row, key: str, kind: type[T], location: str) -> T:
    """A field of a row. Raises UserError when it is missing or of another type."""
    if key not in row:
        raise UserError(f"{location}: no field {key!r} (there are: {', '.join(sorted(map(str, row))) or 'none'})")
    value = row[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{location}: {key} must be a {kind.__name__}, got {shorten(value)}")
    return value


def dig(value: object, *path: str | int) -> object:
    """``None`` where the path ends early."""
    for step in path:
        if isinstance(value, Mapping) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
