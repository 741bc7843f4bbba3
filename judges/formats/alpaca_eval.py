"""Files of alpaca_eval 0.6.6: ``model_outputs.json`` (answers) and ``annotations.json`` (answers with verdicts).

Rows are matched by the text of the instruction: the files carry no ids. ``preference`` is 1 for the baseline, 2 for the
model and anything between for a weighted judge, so the verdict is preference - 1; null or NaN is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from harness.errors import UserError
from harness.types import Answer, Judgment, Question
from judges.benchmarks.shared import verdicts
from judges.formats.base import (
    Exported,
    Format,
    Imported,
    Matched,
    Row,
    answered,
    file_name,
    located,
    need,
    one_model,
    short,
    write_json,
)

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"


def read(files: Sequence[Path], questions: Sequence[Question], model: str | None) -> Imported:
    """Outputs and annotations of one model. Annotations hold the answers too."""
    ids = {question.turns[0]: question.id for question in questions}
    rows = located(files)
    outputs = [each for each in rows if "preference" not in each[1]]
    annotations = [each for each in rows if "preference" in each[1]]
    names = [str(row["generator"]) for _, row in outputs if "generator" in row]
    names += [str(row["generator_2"]) for _, row in annotations if "generator_2" in row]
    chosen = one_model(names, model, files)
    answers, judgments = Matched(questions, "answers"), Matched(questions, "annotations")
    for where, row in outputs:
        if row.get("generator", chosen) == chosen:
            asked = need(row, "instruction", str, where)
            answers.offer(ids.get(asked), asked, where, need(row, "output", str, where))
    for where, row in annotations:
        if row.get("generator_2", chosen) == chosen:
            asked = need(row, "instruction", str, where)
            judgments.offer(ids.get(asked), asked, where, (row, where))
    problems = answers.problems + judgments.problems
    if outputs:
        problems += answers.miss()
    if annotations:
        problems += judgments.miss()
    found, given = [], []
    for question in questions:
        text = answers.get(question.id)
        if held := judgments.get(question.id):
            row, where = held
            text = _agreed(text, need(row, "output_2", str, where), question.id)
            given.append(_judgment(row, question, where))
        if text is not None:
            found.append(Answer(question.id, (text,), (), ()))
    baselines = {str(row.get("generator_1", "")) for _, row in annotations}
    return Imported(chosen, tuple(found), tuple(given), tuple(problems), baselines.pop() if len(baselines) == 1 else "")


def _agreed(output: str | None, annotated: str, question: str) -> str:
    if output is not None and output != annotated:
        raise UserError(f"question {question}: the annotations judge another answer than the outputs hold.")
    return annotated


def _judgment(row: Row, question: Question, where: str) -> Judgment:
    if question.baseline and row.get("output_1", question.baseline[0]) != question.baseline[0]:
        raise UserError(
            f"{where}: output_1 is not the baseline's answer to question {question.id}. Annotations against another "
            "baseline need that baseline: --set baseline=ITS_OUTPUTS."
        )
    preference, judge = row["preference"], str(row.get("annotator", ""))
    if preference is None or (isinstance(preference, float) and math.isnan(preference)):
        return Judgment(question.id, "preference", None, "no preference in the annotations", judge_model=judge)
    if isinstance(preference, bool) or not isinstance(preference, int | float):
        raise UserError(f"{where}: preference must be a number, got {short(preference)}")
    if preference == 0:  # how alpaca_eval wrote a tie before 0.3
        return Judgment(question.id, "preference", 0.5, judge_model=judge)
    if not 1 <= preference <= 2:
        raise UserError(f"{where}: preference must lie between 1 and 2, got {short(preference)}")
    return Judgment(question.id, "preference", float(preference) - 1.0, reply=_raw(row), judge_model=judge)


def _raw(row: Row) -> str:
    raw = row.get("raw_completion")
    return raw if isinstance(raw, str) else ""


def write(folder: Path, exported: Exported, benchmark: str) -> list[Path]:
    """``model_outputs.json``, with judgments also ``annotations.json``, laid out as under ``results/MODEL``.

    Several verdicts on one answer (both orders, repeats) are averaged; questions without a verdict have a null.
    """
    rows = answered(exported)
    place = folder / file_name(exported.model)
    outputs = [
        {
            "dataset": question.category,
            "instruction": question.turns[0],
            "output": answer.turns[0],
            "generator": exported.model,
        }
        for question, answer in rows
    ]
    written = [write_json(place / "model_outputs.json", outputs)]
    if exported.judgments:
        annotator = exported.judge or ANNOTATOR
        read_back = verdicts(exported.judgments)
        replies = {judgment.question: judgment.reply for judgment in reversed(exported.judgments)}
        annotations = []
        for question, answer in rows:
            parts = read_back.get(question.id)
            annotations.append(
                {
                    "instruction": question.turns[0],
                    "output_1": question.baseline[0],
                    "generator_1": exported.baseline,
                    "dataset": question.category,
                    "output_2": answer.turns[0],
                    "generator_2": exported.model,
                    "annotator": annotator,
                    "preference": 1.0 + sum(parts.values()) / len(parts) if parts else None,
                    "raw_completion": replies.get(question.id, ""),
                }
            )
        written.append(write_json(place / file_name(annotator) / "annotations.json", annotations))
    return written


FORMAT = Format("alpaca_eval", ("alpaca_eval",), "model_outputs.json, annotations.json of alpaca_eval", read, write)
