"""Answer files: our own and those of the official tools, matched to questions, every row that does not fit named.

Rows come from strangers: they are data here, never templates, paths or code. Nothing is dropped in silence: a row for
another question, a question that has two rows or none, each is one sentence in ``problems``. A benchmark uses this for
the answers of another baseline (``with_baseline``), ``judges.formats`` for everything that can be imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from harness.errors import UserError
from harness.records import read_records
from harness.text import counted, replace_in_json
from harness.types import Answer, Question

T = TypeVar("T")
Row = Mapping[str, Any]

_SHOWN = 60  # characters of a foreign value that a message repeats


class AnswerRow(NamedTuple):
    """One answer in a file of an official tool."""

    question: str
    """Id of the question; its text in files without ids."""
    turns: tuple[str, ...]
    model: str = ""
    """Empty where the row does not name it."""
    tokens: int | None = None
    """Length in the official tokeniser's tokens, where the file has it."""

    def answer(self, question: str) -> Answer:
        """As one of our records."""
        counts = () if self.tokens is None else (self.tokens,)
        return Answer(question, self.turns, (), counts, {} if self.tokens is None else {"token_len": self.tokens})


@dataclass(frozen=True)
class AnswerFormat:
    """How an official tool writes answers down."""

    read: Callable[[Row, str], AnswerRow | None]
    """(row, its place for messages) -> the answer; ``None`` for a row of another kind. Raises UserError."""
    by_text: bool = False
    """Rows name their question by the text of its first turn."""

    def ids(self, questions: Sequence[Question]) -> dict[str, str]:
        """What a row calls a question -> the id of that question."""
        return {question.turns[0] if self.by_text else question.id: question.id for question in questions}


class RowMatcher(Generic[T]):
    """Rows matched to questions. ``problems`` grows as rows are offered."""

    def __init__(self, questions: Sequence[Question], what: str) -> None:
        """``what`` the rows are, for messages: ``answers``."""
        self.questions, self.what = questions, what
        self.rows: dict[tuple[str, str], T] = {}
        """(question id, slot) to the first row offered for it."""
        self.problems: list[str] = []
        self._known = {question.id for question in questions}

    def offer(self, question: str | None, shown: object, where: str, row: T, slot: str = "") -> None:
        """Take one row of the question with this id (``None``: there is none), which the row calls ``shown``.

        ``slot`` is what there may be one of per question: a turn, a game.
        """
        if question is None or question not in self._known:
            self.problems.append(f"{where}: {self.what} for a question that is not asked here: {short(shown)}")
        elif (question, slot) in self.rows:
            what = f" ({slot})" if slot else ""
            self.problems.append(
                f"{where}: a second row of {self.what} for question {question}{what}; the first counts"
            )
        else:
            self.rows[question, slot] = row

    def in_order(self) -> list[T]:
        """The rows without a slot, in the order of the questions."""
        return [self.rows[question.id, ""] for question in self.questions if (question.id, "") in self.rows]

    def all_problems(self, slots: Sequence[str] = ("",)) -> list[str]:
        """``problems``, and what is missing; nothing where no row was offered: such files hold something else."""
        return [*self.problems, *self.missing(slots)] if self.rows or self.problems else []

    def missing(self, slots: Sequence[str] = ("",)) -> list[str]:
        """One problem for every question that lacks a row (in one of these slots)."""
        problems = []
        for question in self.questions:
            lacking = [slot for slot in slots if (question.id, slot) not in self.rows]
            if lacking:
                which = f" ({', '.join(lacking)})" if any(lacking) else ""
                problems.append(f"{self.what} missing for question {question.id}{which}")
        return problems


def with_baseline(questions: Sequence[Question], path: str, benchmark: str, form: AnswerFormat) -> list[Question]:
    """The questions with the answers in a file (the official tool's, or ours) as their baseline.

    Raises UserError where it cannot be read or lacks an answer to one of these questions.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{benchmark}: baseline {path!r} is not a file of answers.")
    model, answers, problems = read_answers([file], questions, form)
    by_question = {answer.question: answer for answer in answers}
    missing = [question.id for question in questions if question.id not in by_question]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise UserError(
            f"{benchmark}: baseline {path} has no answer to {len(missing)} of {counted(len(questions), 'question')} "
            f"({shown}). {problems[0] if problems else ''}".rstrip()
        )
    changed = []
    for question in questions:
        answer = by_question[question.id]
        # the official baseline's token count must not stay beside another answer: style control would use it
        meta = {key: value for key, value in question.meta.items() if key != "baseline_token_len"}
        meta |= {"baseline": model or file.stem}
        if "token_len" in answer.meta:
            meta["baseline_token_len"] = answer.meta["token_len"]
        changed.append(replace(question, baseline=answer.turns, meta=meta))
    return changed


def read_answers(
    files: Sequence[Path], questions: Sequence[Question], form: AnswerFormat, model: str | None = None
) -> tuple[str, list[Answer], list[str]]:
    """(model, answers in the order of the questions, problems) of files that hold answers. Raises UserError."""
    if is_own(files[0]):
        chosen, answers = model or "", RowMatcher[Answer](questions, "answers")
        for path in files:
            for number, answer in enumerate(read_records(path, Answer), 1):
                answers.offer(answer.question, answer.question, f"{path.name}, row {number}", answer)
    else:
        chosen, answers = match_answers(located(files), form, (), model, files, questions)
    kept, short_of_turns = whole_answers(answers.in_order(), questions)
    return chosen, kept, [*answers.problems, *answers.missing(), *short_of_turns]


def match_answers(
    rows: Sequence[tuple[str, Row]],
    form: AnswerFormat,
    judged_models: Sequence[str],
    model: str | None,
    files: Sequence[Path],
    questions: Sequence[Question],
) -> tuple[str, RowMatcher[Answer]]:
    """(the model to read, its answers) of located rows; rows that hold no answer are passed over.

    ``judged_models`` are those that rows with judgments name. A row that names no model belongs to every one.
    """
    read = [(where, answer) for where, row in rows if (answer := form.read(row, where)) is not None]
    chosen = one_model([*(answer.model for _, answer in read if answer.model), *judged_models], model, files)
    answers, ids = RowMatcher[Answer](questions, "answers"), form.ids(questions)
    for where, row in read:
        if row.model in ("", chosen):
            question = ids.get(row.question)
            answers.offer(question, row.question, where, row.answer(question or ""))
    return chosen, answers


def whole_answers(answers: Sequence[Answer], questions: Sequence[Question]) -> tuple[list[Answer], list[str]]:
    """The answers with as many turns as their question, and a problem for each of the others."""
    turns = {question.id: len(question.turns) for question in questions}
    kept = [answer for answer in answers if len(answer.turns) == turns[answer.question]]
    problems = [
        f"the answer to question {answer.question} has {counted(len(answer.turns), 'turn')}, not "
        f"{turns[answer.question]}: it is left out"
        for answer in answers
        if len(answer.turns) != turns[answer.question]
    ]
    return kept, problems


def is_own(path: Path) -> bool:
    """Whether a file's first line is one of our records: they name ``question`` and ``turns`` or ``part``."""
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(file.readline() or "null")
    except (OSError, ValueError, RecursionError):
        return False  # the reader of the tool's own format says what is wrong
    return isinstance(first, dict) and "question" in first and ("turns" in first or "part" in first)


def short(value: object) -> str:
    """A foreign value for a message: quoted, on one line, cut."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


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


def read_rows(path: Path) -> list[Row]:
    """The objects of a JSON array or JSON lines file, lone surrogates as U+FFFD. Raises UserError with the place."""
    rows: Any
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = json.loads(text) if text.lstrip().startswith("[") else read_jsonl(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is neither a JSON array nor JSON lines: {error}") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise UserError(f"{path}, row {number}: an object was expected, found {short(row)}")
    if not rows:
        raise UserError(f"{path} holds no rows")
    # the walk through every text is slow: only where an escaped surrogate occurs at all
    return [replace_in_json(row) for row in rows] if "\\ud" in text.lower() else list(rows)


def located(files: Sequence[Path]) -> list[tuple[str, Row]]:
    """The rows of several files, each with its place for messages: ``answers.jsonl, row 3``."""
    return [(f"{path.name}, row {number}", row) for path in files for number, row in enumerate(read_rows(path), 1)]


def need(row: Row, key: str, kind: type[T], where: str) -> T:
    """A field of a row. Raises UserError when it is missing or of another type."""
    if key not in row:
        raise UserError(f"{where}: no field {key!r} (there are: {', '.join(sorted(map(str, row))) or 'none'})")
    value = row[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{where}: {key} must be a {kind.__name__}, got {short(value)}")
    return value


def need_texts(value: object, what: str, where: str) -> tuple[str, ...]:
    """A list of texts. Raises UserError otherwise."""
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        raise UserError(f"{where}: {what} must be a list of texts, got {short(value)}")
    return tuple(value)


def one_model(names: Iterable[str], wanted: str | None, files: Sequence[Path]) -> str:
    """The model to read. Raises UserError when the files hold several and none was named, or not the named one."""
    models = list(dict.fromkeys(names))
    if wanted is None and len(models) > 1:
        raise UserError(f"{files[0]} and others hold several models: {', '.join(models[:20])}. Name one with --model.")
    if wanted is not None and models and wanted not in models:
        raise UserError(f"no rows of model {wanted!r}; the files hold: {', '.join(models[:20])}.")
    return wanted or (models[0] if models else "")
