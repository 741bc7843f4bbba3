"""Import and export: answers and judgments made by the official tools, and ours in their files.

The benchmark decides the format; whether a row holds an answer or a judgment is read off it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError, unknown_choice
from harness.text import replace_in_json, replace_surrogates
from harness.thinking import separate_answers, separate_judgment
from harness.types import Judgment, Question
from judges.benchmarks.answer_files import (
    RowMatcher,
    Rows,
    failure_mark,
    has,
    is_own,
    locate_rows,
    match_answers,
    own_answer,
    own_record,
    parse_rows,
    whole_answers,
)
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
    files: Sequence[Path], benchmark: str, questions: Sequence[Question], model: str | None = None,
    keep_failed: bool = False,
) -> ImportedResults:  # fmt: skip
    """What files of the official tool, or our own JSON lines, hold of one model; ``problems`` list what does not fit.

    A row that cannot be read is a problem. ``keep_failed``: marks of failed generators are answers. Raises UserError:
    no row can be read, a file cannot, or there are several models, none named.
    """
    if not files:
        raise UserError("name at least one file to import")
    parts = {path: locate_rows([path]) for path in files}
    rows = [row for part in parts.values() for row in part]
    own_files = [path for path, part in parts.items() if is_own(part[0][1])]
    if own_files and len(own_files) < len(files):
        foreign = next(path for path in files if path not in own_files)
        raise UserError(f"{own_files[0]} is distilbench's own, {foreign} is not: import them one after the other.")
    results = (_read_own if own_files else _format(benchmark).read)(rows, questions, model)
    all_answers = separate_answers(results.answers)
    failed_questions = {answer.question for answer in all_answers if failure_mark(answer)}
    if keep_failed:
        all_answers = [
            replace(answer, meta={**answer.meta, "verbatim": True}) if answer.question in failed_questions else answer
            for answer in all_answers
        ]
        failed_questions = set()
    answers, problems = whole_answers(all_answers, questions)
    judgments = [
        replace(judgment, verdict=None, reason="the answer is the mark of a generator that failed")
        if judgment.question in failed_questions
        else separate_judgment(judgment)
        for judgment in results.judgments
    ]
    counts = Counter(judgment.judge_model for judgment in judgments if judgment.verdict is not None)
    if len(counts) > 1:
        shares = ", ".join(f"{count} of {name or 'no name'}" for name, count in counts.most_common(5))
        problems.append(f"the verdicts are of several judges ({shares}); all count")
    all_problems = (*results.problems, *problems)
    return replace(results, answers=tuple(answers), judgments=tuple(judgments), problems=all_problems)


def _read_own(rows: Rows, questions: Sequence[Question], model: str | None) -> ImportedResults:
    answer_rows = [(location, row) for location, row in rows if has(row, "turns")]
    _, answers = match_answers(answer_rows, own_answer, (), None, questions)
    matcher = RowMatcher[Judgment](questions, "judgments")
    judgment_rows = [(location, row) for location, row in rows if not has(row, "turns")]
    records = parse_rows(
        judgment_rows, lambda row, location: (location, own_record(row, Judgment, location)), matcher.problems
    )
    for location, judgment in records:
        matcher.offer(judgment.question, location, judgment, f"{judgment.part} {judgment.repeat}")
    judged_questions = {judgment.question for judgment in matcher.rows.values()}
    lacking = [question.id for question in questions if judged_questions and question.id not in judged_questions]
    problems = [*matcher.problems, *answers.all_problems()]
    problems += [f"judgments missing for question {name}" for name in lacking]
    place = {question.id: number for number, question in enumerate(questions)}
    judgments = sorted(matcher.rows.values(), key=lambda judgment: place[judgment.question])
    complete_answers = tuple(answer for *_, answer in answers.in_order())
    return ImportedResults(model or "", complete_answers, tuple(judgments), tuple(problems))


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
