"""Files of alpaca_eval 0.6.6: ``model_outputs.json`` (answers) and ``annotations.json`` (answers with verdicts).

Rows are matched by the instruction: the files carry no ids. ``preference`` lies between 1 (baseline) and 2 (model).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.contracts.benchmark import pair_answers
from harness.errors import UserError
from harness.types import Answer, Judgment, Question
from judges.benchmarks.alpaca_eval.benchmark import AlpacaEval, equals_baseline
from judges.benchmarks.answer_files import (
    Row,
    RowMatcher,
    Rows,
    compact,
    has,
    is_no_verdict,
    match_answers,
    name_of,
    number_of,
    parse_rows,
    require_field,
    shorten,
)
from judges.benchmarks.scoring import verdicts
from judges.formats.base import ExportedResults, Files, ImportedResults, file_name, single_name, text_or_empty

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"


def read(rows: Rows, questions: Sequence[Question], model: str | None) -> ImportedResults:
    annotations = [(location, row) for location, row in rows if "preference" in row and not has(row, "output")]
    names = [name for _, row in annotations if (name := name_of(row.get("generator_2")))]
    chosen, outputs = match_answers(rows, AlpacaEval.read_answer, names, model, questions)
    matcher: RowMatcher[tuple[Row, str]] = RowMatcher(questions, "annotations")
    model_rows = [(location, row) for location, row in annotations if name_of(row.get("generator_2")) in ("", chosen)]
    instructions = parse_rows(
        model_rows,
        lambda row, location: (require_field(row, "instruction", str, location), location, row),
        matcher.problems,
    )
    for text, location, row in instructions:
        matcher.offer(text, location, (row, location), source_row=row)
    problems = outputs.problems + matcher.problems
    problems += outputs.missing_rows() if len(annotations) < len(rows) else []
    problems += matcher.missing_rows() if annotations else []
    answers = {question.id: answer for question, _, answer in outputs.in_order()}

    def read_pair(pair: tuple[Question, Row], location: str) -> Judgment:
        question, row = pair
        # Annotations hold the answer that was judged; where outputs came along, both must be the same text.
        answer = Answer(question.id, (require_field(row, "output_2", str, location),), (), ())
        if compact(answers.get(question.id, answer).turns[0]) != compact(answer.turns[0]):
            raise UserError(
                f"{location}, question {question.id}: the annotations judge another answer than the outputs hold"
            )
        judgment = _judgment(row, question, location)
        if equals_baseline(question, answer) and judgment.verdict not in (None, 0.5):
            problems.append(
                f"{location}: preference is {row['preference']}, but output_2 is the baseline's answer word for word; "
                "it counts as a draw, as in alpaca_eval"
            )
        answers.setdefault(question.id, answer)
        return judgment

    judgments = parse_rows([(place, (q, row)) for q, _, (row, place) in matcher.in_order()], read_pair, problems)
    in_order = tuple(answer for _, answer in pair_answers(questions, list(answers.values())))
    baselines = {name_of(row.get("generator_1")) for _, row in annotations}
    return ImportedResults(chosen, in_order, tuple(judgments), tuple(problems), single_name(baselines))


def _judgment(row: Row, question: Question, location: str) -> Judgment:
    if question.baseline and compact(str(row.get("output_1", question.baseline[0]))) != compact(question.baseline[0]):
        raise UserError(
            f"{location}: output_1 is not the baseline's answer to question {question.id}. Annotations against another "
            "baseline need that baseline: --set baseline=ITS_OUTPUTS."
        )
    blank = Judgment(question.id, "preference", None, judge_model=name_of(row.get("annotator")))
    if is_no_verdict(row["preference"]):
        return replace(blank, reason="no preference in the annotations")
    preference = number_of(row["preference"])
    if preference is None:
        raise UserError(f"{location}: preference must be a number, got {shorten(row['preference'])}")
    if preference == -1:  # how alpaca_eval's own store of annotations writes that the annotator failed
        return replace(blank, reason="the annotator failed (preference -1)")
    if preference == 0:  # how alpaca_eval wrote a tie before 0.3
        return replace(blank, verdict=0.5)
    if not 1 <= preference <= 2:
        raise UserError(f"{location}: preference must lie between 1 and 2, got {shorten(preference)}")
    return replace(blank, verdict=preference - 1.0, reply=text_or_empty(row.get("raw_completion")))


def write(results: ExportedResults, benchmark: str) -> Files:
    """``model_outputs.json``, with judgments also ``annotations.json``, laid out as under ``results/MODEL``."""
    rows = results.answered_questions
    place = Path(file_name(results.model))
    outputs: list[Row] = [
        {"dataset": q.category, "instruction": q.turns[0], "output": answer.turns[0], "generator": results.model}
        for q, answer in rows
    ]
    files: dict[Path, Sequence[Row]] = {place / "model_outputs.json": outputs}
    if results.judgments:
        annotator = results.judge or ANNOTATOR
        by_question = verdicts(results.judgments)
        replies = {judgment.question: judgment.reply for judgment in reversed(results.judgments)}
        annotations: list[Row] = []
        for question, answer in rows:
            # Several verdicts (both orders, repeats) are averaged; a question without one has a null.
            parts = by_question.get(question.id)
            annotations.append(
                {
                    "instruction": question.turns[0],
                    "output_1": question.baseline[0], "generator_1": results.baseline, "dataset": question.category,
                    "output_2": answer.turns[0], "generator_2": results.model, "annotator": annotator,
                    "preference": 1.0 + sum(parts.values()) / len(parts) if parts else None,
                    "raw_completion": replies.get(question.id, ""),
                }
            )  # fmt: skip
        files[place / file_name(annotator) / "annotations.json"] = annotations
    return files
