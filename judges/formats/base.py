"""What all formats share: what is imported and exported, and how files are written.

A format module reads the files of one official tool into ``Imported`` and writes ``Exported`` into files that the tool
accepts. Rows are matched to questions by ``judges.benchmarks.answer_files``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.text import counted, replace_in_json, replace_surrogates
from harness.types import Answer, Judgment, Question
from judges.benchmarks.answer_files import Row


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


def only(names: set[str]) -> str:
    """The one name, or an empty text where there are several or none."""
    return next(iter(names)) if len(names) == 1 else ""


def short_id(*parts: str) -> str:
    """An id for rows that need one: official tools draw them at random."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:22]


def write_json(path: Path, rows: Sequence[Row]) -> Path:
    """A JSON array, readable by people."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rows, ensure_ascii=False, indent=2, allow_nan=False)
    path.write_text(replace_surrogates(text) + "\n", encoding="utf-8")
    return path


def write_lines(path: Path, rows: Sequence[Row]) -> Path:
    """JSON lines, ASCII only: readers that split at U+2028 and its like read them too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(replace_in_json(row), allow_nan=False) + "\n" for row in rows), encoding="utf-8")
    return path


def file_name(model: str) -> str:
    """A model's name as the stem of a file: hub ids hold slashes."""
    return "".join(char if char.isalnum() or char in "._+-" else "_" for char in model) or "model"


def answered_questions(exported: Exported) -> list[tuple[Question, Answer]]:
    """Questions with their answer. Raises UserError when some have none: official tools want whole files."""
    answers = {answer.question: answer for answer in exported.answers}
    missing = [question.id for question in exported.questions if question.id not in answers]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise UserError(f"no answer to {len(missing)} of {counted(len(exported.questions), 'question')} ({shown}).")
    return [(question, answers[question.id]) for question in exported.questions]
