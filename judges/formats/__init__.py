"""Import and export: answers and judgments made by the official tools, and ours in their files.

The benchmark decides the format; whether a row holds an answer or a judgment is read off it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError, unknown_choice
from harness.records import read_records
from harness.text import replace_in_json, replace_surrogates
from harness.types import Judgment, Question
from judges.benchmarks.answer_files import RowMatcher, is_own, read_answers, whole_answers
from judges.formats import alpaca_eval, arena_hard_auto, fastchat, lm_eval
from judges.formats.base import ExportedResults, Format, ImportedResults

__all__ = ["FORMATS", "ExportedResults", "Format", "ImportedResults", "export_files", "import_files"]

FORMATS: dict[str, Format] = {
    "alpaca_eval": Format(alpaca_eval.read, alpaca_eval.write),
    **dict.fromkeys(arena_hard_auto.PLACES, Format(arena_hard_auto.read, arena_hard_auto.write)),
    "mt_bench": Format(fastchat.read, fastchat.write),
    "mt_bench_pairwise": Format(fastchat.read, fastchat.write),
    **dict.fromkeys(lm_eval.EXTRACTIONS, Format(lm_eval.read, lm_eval.write)),
}


def _format(benchmark: str) -> Format:
    if benchmark not in FORMATS:
        raise unknown_choice("benchmark with files to import or export", benchmark, FORMATS, "")
    return FORMATS[benchmark]


def import_files(
    files: Sequence[Path], benchmark: str, questions: Sequence[Question], model: str | None = None
) -> ImportedResults:
    """What files of the official tool, or our own JSON lines, hold of one model; ``problems`` list what does not fit.

    Raises UserError: a file cannot be read, a row is not what its tool writes, or there are several models, none named.
    """
    if not files:
        raise UserError("name at least one file to import")
    own_files = [path for path in files if is_own(path)]
    if own_files and len(own_files) < len(files):
        foreign = next(path for path in files if path not in own_files)
        raise UserError(f"{own_files[0]} is distilbench's own, {foreign} is not: import them one after the other.")
    if own_files:
        return _read_own(own_files, questions, model or "")
    results = _format(benchmark).read(files, questions, model)
    answers, problems = whole_answers(results.answers, questions)
    return replace(results, answers=tuple(answers), problems=(*results.problems, *problems))


def _read_own(files: Sequence[Path], questions: Sequence[Question], model: str) -> ImportedResults:
    answer_files, matcher = [], RowMatcher[Judgment](questions, "judgments")
    for path in files:
        with path.open(encoding="utf-8") as file:
            holds_answers = "turns" in json.loads(file.readline())
        if holds_answers:
            answer_files.append(path)
            continue
        for number, judgment in enumerate(read_records(path, Judgment), 1):
            slot = f"{judgment.part} {judgment.repeat}"
            matcher.offer(judgment.question, f"{path.name}, row {number}", judgment, slot)
    _, answers, problems = read_answers(answer_files, questions) if answer_files else ("", [], [])
    judged_questions = {judgment.question for judgment in matcher.rows.values()}
    lacking = [question.id for question in questions if judged_questions and question.id not in judged_questions]
    problems = [*matcher.problems, *problems, *(f"judgments missing for question {name}" for name in lacking)]
    place = {question.id: number for number, question in enumerate(questions)}
    judgments = sorted(matcher.rows.values(), key=lambda judgment: place[judgment.question])
    return ImportedResults(model, tuple(answers), tuple(judgments), tuple(problems))


def export_files(folder: Path, results: ExportedResults, benchmark: str) -> list[Path]:
    """Write the official tool's files; the paths written. Raises UserError when a question has no answer."""
    files = _format(benchmark).write(results, benchmark)
    for path, rows in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            text = replace_surrogates(json.dumps(rows, ensure_ascii=False, indent=2, allow_nan=False)) + "\n"
        else:
            # ASCII only: readers that split at U+2028 and its like read such lines too.
            text = "".join(json.dumps(replace_in_json(row), allow_nan=False) + "\n" for row in rows)
        (folder / path).write_text(text, encoding="utf-8")
    return [folder / path for path in files]
