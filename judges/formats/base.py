"""What all formats share: what is imported and exported, and how files are written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.contracts.benchmark import answered
from harness.text import replace_in_json, replace_surrogates
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

    @property
    def answered(self) -> list[tuple[Question, Answer]]:
        """Each question with its answer. Raises UserError when one has none: official tools want whole files."""
        return answered(self.questions, self.answers, "there is")


class Format(NamedTuple):
    read: Callable[[Sequence[Path], Sequence[Question], str | None], Imported]
    """(files, questions, model or ``None`` for the only one in them) -> what they hold."""
    write: Callable[[Path, Exported, str], list[Path]]
    """(folder, model on a benchmark, benchmark) -> the files written."""


def only(names: set[str]) -> str:
    """The one name, or an empty text where there are several or none."""
    return next(iter(names)) if len(names) == 1 else ""


def short_id(*parts: str) -> str:
    """An id for rows that need one: official tools draw them at random."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:22]


def write_json(path: Path, rows: Sequence[Row]) -> Path:
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
