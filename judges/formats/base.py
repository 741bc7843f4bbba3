"""What all formats share: what is imported and exported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.contracts.benchmark import answered
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


Files = Mapping[Path, Sequence[Row]]
"""Path below the folder of the export to rows: ``.json`` files hold an array, ``.jsonl`` files one row a line."""


class Format(NamedTuple):
    read: Callable[[Sequence[Path], Sequence[Question], str | None], Imported]
    """(files, questions, model or ``None`` for the only one in them) -> what they hold."""
    write: Callable[[Exported, str], Files]
    """(model on a benchmark, benchmark) -> the files that the tool accepts."""


def only(names: set[str]) -> str:
    """The one name, or an empty text where there are several or none."""
    return next(iter(names)) if len(names) == 1 else ""


def short_id(*parts: str) -> str:
    """An id for rows that need one: official tools draw them at random."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:22]


def text_or_empty(value: object) -> str:
    """A reply in a foreign row, where anything may stand."""
    return value if isinstance(value, str) else ""


def file_name(model: str) -> str:
    """A model's name as the stem of a file: hub ids hold slashes."""
    return "".join(char if char.isalnum() or char in "._+-" else "_" for char in model) or "model"
