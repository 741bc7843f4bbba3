"""Import and export: answers and judgments made by the official tools, and ours in their files.

``FORMATS`` is the table of contents: one module per tool. Which tool a benchmark belongs to decides the format, and
what stands in a file (answers, judgments) is told from its rows, so that nobody has to say it. Our own
``answers.jsonl`` is read everywhere.

    found = import_files([Path("model_outputs.json")], "alpaca_eval", questions)
    found.problems                                  # every row that does not fit, and every question without one
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError, unknown
from harness.plural import counted
from harness.records import read_records
from harness.types import Answer, Judgment, Question
from judges.formats import alpaca_eval, fastchat, lm_eval
from judges.formats import arena_hard_auto as arena_hard
from judges.formats.base import Exported, Format, Imported, Matched, one_model

__all__ = [
    "FORMATS",
    "Exported",
    "Format",
    "Imported",
    "export_files",
    "format_of",
    "import_files",
    "with_baseline",
]

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
            questions are listed in ``problems``.
    """
    if not files:
        raise UserError("name at least one file to import")
    own = [path for path in files if _is_own(path)]
    if not own:
        return _whole(format_of(benchmark).read(files, questions, model), questions)
    foreign = [path for path in files if path not in own]
    if foreign:
        raise UserError(f"{own[0]} is distilbench's own, {foreign[0]} is not: import them one after the other.")
    return _whole(_read_own(own, questions, model), questions)


def _whole(found: Imported, questions: Sequence[Question]) -> Imported:
    """Without the answers that do not have a turn for each of their question's; each is a problem."""
    asked = {question.id: len(question.turns) for question in questions}
    short = [answer for answer in found.answers if len(answer.turns) != asked[answer.question]]
    problems = [
        f"the answer to question {answer.question} has {counted(len(answer.turns), 'turn')}, not "
        f"{asked[answer.question]}: it is left out"
        for answer in short
    ]
    kept = tuple(answer for answer in found.answers if answer not in short)
    return replace(found, answers=kept, problems=(*found.problems, *problems))


def _is_own(path: Path) -> bool:
    """Whether a file's first line is one of our records: they name ``question`` and ``turns`` or ``part``."""
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(file.readline() or "null")
    except (OSError, ValueError, RecursionError):
        return False  # its own reader says what is wrong with it
    return isinstance(first, dict) and "question" in first and ("turns" in first or "part" in first)


def _read_own(files: Sequence[Path], questions: Sequence[Question], model: str | None) -> Imported:
    answers, judgments = Matched(questions, "answers"), Matched(questions, "judgments")
    for path in files:
        with path.open(encoding="utf-8") as file:
            holds_answers = "turns" in json.loads(file.readline())
        if holds_answers:
            for number, answer in enumerate(read_records(path, Answer), 1):
                answers.offer(answer.question, answer.question, f"{path.name}, row {number}", answer)
        else:
            for number, judgment in enumerate(read_records(path, Judgment), 1):
                slot = f"{judgment.part} {judgment.repeat}"
                judgments.offer(judgment.question, judgment.question, f"{path.name}, row {number}", judgment, slot)
    problems = answers.problems + judgments.problems + (answers.miss() if answers.found else [])
    held = {judgment.question for judgment in judgments.found.values()}
    if held:
        problems += [f"judgments missing for question {each.id}" for each in questions if each.id not in held]
    found = tuple(answers.get(question.id) for question in questions if answers.get(question.id) is not None)
    place = {question.id: number for number, question in enumerate(questions)}
    given = tuple(sorted(judgments.found.values(), key=lambda each: place[each.question]))
    return Imported(one_model([], model, files), found, given, tuple(problems))


def export_files(folder: Path, exported: Exported, benchmark: str) -> list[Path]:
    """Write the official tool's files; the paths written. Raises UserError when a question has no answer."""
    return format_of(benchmark).write(folder, exported, benchmark)


def with_baseline(questions: Sequence[Question], path: str, benchmark: str) -> list[Question]:
    """The questions with another baseline: the answers in a file, of the official tool or our own.

    Raises:
        UserError: the file is not there, or does not answer exactly these questions.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise UserError(f"{benchmark}: baseline {path!r} is not a file of answers.")
    found = import_files([place], benchmark, [replace(question, baseline=()) for question in questions])
    answers = {answer.question: answer for answer in found.answers}
    missing = [question.id for question in questions if question.id not in answers]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise UserError(
            f"{benchmark}: baseline {path} has no answer to {len(missing)} of {counted(len(questions), 'question')} "
            f"({shown}). {found.problems[0] if found.problems else ''}".rstrip()
        )
    name = found.model or place.stem
    return [
        replace(
            question,
            baseline=answers[question.id].turns,
            meta={key: value for key, value in question.meta.items() if key != "baseline_token_len"}
            | {"baseline": name}
            | {f"baseline_{key}": value for key, value in answers[question.id].meta.items() if key == "token_len"},
        )
        for question in questions
    ]
