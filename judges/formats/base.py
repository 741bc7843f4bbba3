"""What all formats share: what is imported and exported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from harness.contracts.benchmark import pair_answers
from harness.errors import UserError
from harness.types import Answer, Judgment, Question
from judges.benchmarks.answer_files import Row, Rows


@dataclass(frozen=True)
class ImportedResults:
    """What was read, in the order of the questions; names of models are empty where the files do not say them."""

    model: str
    answers: tuple[Answer, ...] = ()
    judgments: tuple[Judgment, ...] = ()
    problems: tuple[str, ...] = ()
    """What does not fit, one sentence each: other questions, duplicates, missing rows."""
    baseline: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    """Of the benchmark, as the files show them: how their answers were asked for."""
    notes: tuple[str, ...] = ()
    """What the files leave open."""


@dataclass(frozen=True)
class ExportedResults:
    """What is to be written: one model on one benchmark, with the names of its judge and baseline."""

    model: str
    questions: Sequence[Question]
    answers: Sequence[Answer]
    judgments: Sequence[Judgment] = ()
    judge: str = ""
    baseline: str = ""
    partial: bool = False
    """Whether questions without an answer are left out."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the benchmark."""

    @property
    def answered_questions(self) -> list[tuple[Question, Answer]]:
        """Raises UserError when a question has no answer, unless ``partial``: official tools want whole files."""
        try:
            return pair_answers(self.questions, self.answers, "" if self.partial else "there is")
        except UserError as error:
            raise UserError(f"{error} --partial writes the others.") from error


Files = Mapping[Path, Sequence[Row]]
"""Path below the folder of the export to rows: ``.json`` files hold an array, ``.jsonl`` files one row a line."""


class Format(NamedTuple):
    """``read`` takes rows, questions and a model (``None``: the only one in them), ``write`` also the benchmark."""

    read: Callable[[Rows, Sequence[Question], str | None], ImportedResults]
    write: Callable[[ExportedResults, str], Files]


def single_name(names: set[str]) -> str:
    """The one name; empty where there are several or none."""
    return next(iter(names)) if len(names) == 1 else ""


def short_id(*parts: str) -> str:
    # Official tools draw ids at random; ours are the same in every export.
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:22]


def text_or_empty(value: object) -> str:
    return value if isinstance(value, str) else ""


def file_name(model: str) -> str:
    """A model's name as the stem of a file: hub ids hold slashes."""
    return "".join(char if char.isalnum() or char in "._+-" else "_" for char in model) or "model"
