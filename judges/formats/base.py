"""What all formats share: what is imported and exported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.contracts.benchmark import pair_answers
from harness.types import Answer, Judgment, Question
from judges.benchmarks.answer_files import Row


@dataclass(frozen=True)
class ImportedResults:
    """What was read, in the order of the questions; names of models are empty where the files do not say them."""

    model: str
    answers: tuple[Answer, ...] = ()
    judgments: tuple[Judgment, ...] = ()
    problems: tuple[str, ...] = ()
    """What does not fit, one sentence each: other questions, duplicates, missing rows."""
    baseline: str = ""


@dataclass(frozen=True)
class ExportedResults:
    """What is to be written: one model on one benchmark, with the names of its judge and baseline."""

    model: str
    questions: Sequence[Question]
    answers: Sequence[Answer]
    judgments: Sequence[Judgment] = ()
    judge: str = ""
    baseline: str = ""

    @property
    def answered_questions(self) -> list[tuple[Question, Answer]]:
        """Raises UserError when a question has no answer: official tools want whole files."""
        return pair_answers(self.questions, self.answers, "there is")


Files = Mapping[Path, Sequence[Row]]
"""Path below the folder of the export to rows: ``.json`` files hold an array, ``.jsonl`` files one row a line."""


class Format(NamedTuple):
    """``read`` takes files, questions and a model (``None``: the only one in them), ``write`` also the benchmark."""

    read: Callable[[Sequence[Path], Sequence[Question], str | None], ImportedResults]
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
