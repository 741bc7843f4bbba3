"""Import and export: answers and judgments made by the official tools, and ours in their files.

``FORMATS`` is the table of contents: one module per tool. Which tool a benchmark belongs to decides the format, and
what stands in a file (answers, judgments) is read off its rows. Our own ``answers.jsonl`` is read everywhere.

    imported = import_files([Path("model_outputs.json")], "alpaca_eval", questions)
    imported.problems                               # every row that does not fit, and every question without one
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError, unknown
from harness.records import read_records
from harness.types import Answer, Judgment, Question
from judges.benchmarks.answer_files import AnswerFormat, RowMatcher, is_own, read_answers, whole_answers
from judges.formats import alpaca_eval, fastchat, lm_eval
from judges.formats import arena_hard_auto as arena_hard
from judges.formats.base import Exported, Format, Imported

__all__ = ["FORMATS", "Exported", "Format", "Imported", "export_files", "format_of", "import_files"]

FORMATS: dict[str, Format] = {
    each.name: each for each in (alpaca_eval.FORMAT, arena_hard.FORMAT, fastchat.FORMAT, lm_eval.FORMAT)
}


def format_of(benchmark: str) -> Format:
    """The files of the official tool of a benchmark. Raises UserError when it has none here."""
    of = {name: each for each in FORMATS.values() for name in each.benchmarks}
    if benchmark not in of:
        raise unknown("benchmark with files to import or export", benchmark, of, "")
    return of[benchmark]


def import_files(
    files: Sequence[Path], benchmark: str, questions: Sequence[Question], model: str | None = None
) -> Imported:
    """What files of the official tool, or our own JSON lines, hold of one model.

    Args:
        model: which model, where the files hold several.

    Raises:
        UserError: a file cannot be read, or a row is not what its tool writes. Rows that merely do not fit the
            questions are listed in ``problems``, and so are answers that lack a turn, which are left out.
    """
    if not files:
        raise UserError("name at least one file to import")
    own = [path for path in files if is_own(path)]
    if own and len(own) < len(files):
        foreign = next(path for path in files if path not in own)
        raise UserError(f"{own[0]} is distilbench's own, {foreign} is not: import them one after the other.")
    if own:
        return _read_own(own, questions, model)
    imported = format_of(benchmark).read(files, questions, model)
    answers, problems = whole_answers(imported.answers, questions)
    return replace(imported, answers=tuple(answers), problems=(*imported.problems, *problems))


def _read_own(files: Sequence[Path], questions: Sequence[Question], model: str | None) -> Imported:
    answer_files, judgments = [], RowMatcher[Judgment](questions, "judgments")
    for path in files:
        with path.open(encoding="utf-8") as file:
            holds_answers = "turns" in json.loads(file.readline())
        if holds_answers:
            answer_files.append(path)
            continue
        for number, judgment in enumerate(read_records(path, Judgment), 1):
            where, slot = f"{path.name}, row {number}", f"{judgment.part} {judgment.repeat}"
            judgments.offer(judgment.question, judgment.question, where, judgment, slot)
    answers: list[Answer] = []
    problems = list(judgments.problems)
    if answer_files:
        _, answers, more = read_answers(answer_files, questions, AnswerFormat(lambda row, where: None))
        problems += more
    judged = {judgment.question for judgment in judgments.rows.values()}
    if judged:
        problems += [f"judgments missing for question {each.id}" for each in questions if each.id not in judged]
    place = {question.id: number for number, question in enumerate(questions)}
    in_order = tuple(sorted(judgments.rows.values(), key=lambda judgment: place[judgment.question]))
    return Imported(model or "", tuple(answers), in_order, tuple(problems))


def export_files(folder: Path, exported: Exported, benchmark: str) -> list[Path]:
    """Write the official tool's files; the paths written. Raises UserError when a question has no answer."""
    return format_of(benchmark).write(folder, exported, benchmark)
