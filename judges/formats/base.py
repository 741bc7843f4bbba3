"""What all foreign formats share: rows matched to questions, mistakes listed one by one, files read with care.

A format module reads the files of one official tool into ``Imported`` and writes ``Exported`` into files that the tool
accepts. Nothing is dropped in silence: a row for another question, a question that has two rows or none, each is a
line of ``problems``. Answers are text of strangers: they are data here, never templates, paths or code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import UserError
from harness.plural import counted
from harness.text import mend, mend_json
from harness.types import Answer, Judgment, Question
from judges.benchmarks.shared import read_jsonl

T = TypeVar("T")
Row = Mapping[str, Any]

_SHOWN = 60
"""Longest piece of a foreign value that a message repeats."""


@dataclass(frozen=True)
class Imported:
    """What was read, in the order of the questions."""

    model: str
    """The name that the files give the model; empty when they give none."""
    answers: tuple[Answer, ...] = ()
    judgments: tuple[Judgment, ...] = ()
    problems: tuple[str, ...] = ()
    """What does not fit, one sentence each: other questions, duplicates, missing rows."""
    baseline: str = ""
    """The name of the model that it was compared with, where the files say it."""


@dataclass(frozen=True)
class Exported:
    """What is to be written: one model on one benchmark."""

    model: str
    questions: Sequence[Question]
    answers: Sequence[Answer]
    judgments: Sequence[Judgment] = ()
    judge: str = ""
    """Name of the judge, for the tools that keep it beside each verdict."""
    baseline: str = ""
    """Name of the baseline, where the protocol has one."""


@dataclass(frozen=True)
class Format:
    """The files of one official tool."""

    name: str
    benchmarks: tuple[str, ...]
    """Benchmarks of ours whose data these files hold."""
    summary: str
    """Which files are read and written."""
    read: Callable[[Sequence[Path], Sequence[Question], str | None], Imported]
    """(files, questions, model or ``None`` for the only one in them) -> what they hold."""
    write: Callable[[Path, Exported, str], list[Path]]
    """(folder, what, benchmark) -> the files written."""


@dataclass
class Matched:
    """Rows found for questions; ``problems`` grows as rows are offered."""

    questions: Sequence[Question]
    what: str
    """What the rows are, for messages: ``answers``."""
    found: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._known = {question.id for question in self.questions}

    def offer(self, question: str | None, shown: object, where: str, item: object, slot: str = "") -> None:
        """Take one row.

        Args:
            question: id of the question that it belongs to; ``None`` when there is none.
            shown: how the row names its question.
            where: file and line.
            item: what is kept.
            slot: what there may be one of per question (a turn, a game); one row per question when left out.
        """
        if question is None or question not in self._known:
            self.problems.append(f"{where}: {self.what} for a question that is not asked here: {short(shown)}")
            return
        key = f"{question}\0{slot}"
        if key in self.found:
            what = f" ({slot})" if slot else ""
            self.problems.append(
                f"{where}: a second row of {self.what} for question {question}{what}; the first counts"
            )
            return
        self.found[key] = item

    def get(self, question: str, slot: str = "") -> Any:
        """What was kept for a question, or ``None``."""
        return self.found.get(f"{question}\0{slot}")

    def miss(self, slots: Sequence[str] = ("",)) -> list[str]:
        """One problem for every question (and slot) without a row."""
        lacking = []
        for question in self.questions:
            gone = [slot for slot in slots if self.get(question.id, slot) is None]
            if gone:
                which = f" ({', '.join(gone)})" if any(gone) else ""
                lacking.append(f"{self.what} missing for question {question.id}{which}")
        return lacking


def short(value: object) -> str:
    """A foreign value for a message: quoted, on one line, cut."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def read_rows(path: Path) -> list[Row]:
    """The objects of a JSON array or of a JSON lines file, lone surrogates in their texts as U+FFFD.

    Raises UserError naming file and place.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    rows: Any
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is neither a JSON array nor JSON lines: {error}") from error
    else:
        rows = read_jsonl(path)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise UserError(f"{path}, row {number}: an object was expected, found {short(row)}")
    if not rows:
        raise UserError(f"{path} holds no rows")
    return [mend_json(row) for row in rows] if "\\ud" in text.lower() else list(rows)


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
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise UserError(f"{where}: {what} must be a list of texts, got {short(value)}")
    return tuple(value)


def one_model(names: Iterable[str], wanted: str | None, files: Sequence[Path]) -> str:
    """The model to read. Raises UserError when the files hold several and none was named, or not the named one."""
    held = list(dict.fromkeys(names))
    if wanted is None and len(held) > 1:
        shown = ", ".join(held[:20])
        raise UserError(f"{files[0]} and others hold several models: {shown}. Name one with --model.")
    if wanted is not None and held and wanted not in held:
        raise UserError(f"no rows of model {wanted!r}; the files hold: {', '.join(held[:20])}.")
    return wanted or (held[0] if held else "")


def write_json(path: Path, rows: Sequence[Row]) -> Path:
    """A JSON array, readable by people."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rows, ensure_ascii=False, indent=2, allow_nan=False)
    path.write_text(mend(text) + "\n", encoding="utf-8")
    return path


def write_lines(path: Path, rows: Sequence[Row]) -> Path:
    """JSON lines, ASCII only: readers that split at U+2028 and its like read them too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(mend_json(row), allow_nan=False) + "\n" for row in rows), encoding="utf-8")
    return path


def file_name(model: str) -> str:
    """A model's name as the stem of a file: hub ids hold slashes."""
    return "".join(each if each.isalnum() or each in "._+-" else "_" for each in model) or "model"


def answered(exported: Exported) -> list[tuple[Question, Answer]]:
    """Questions with their answer. Raises UserError when some have none: official tools want whole files."""
    answers = {answer.question: answer for answer in exported.answers}
    missing = [question.id for question in exported.questions if question.id not in answers]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise UserError(f"no answer to {len(missing)} of {counted(len(exported.questions), 'question')} ({shown}).")
    return [(question, answers[question.id]) for question in exported.questions]
