"""lm-eval's ``samples_gsm8k_*.jsonl``: one line per problem and filter, with the response and what the filter took.

Problems are matched by their text. lm-eval's own extraction is kept (``filtered_resps``), and marked again by our rule.
Files of both protocols are written, those of JSON answers with the filter ``json-answer``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.types import Answer, Question
from judges.benchmarks.gsm8k.answer_extraction import FILTERS, INVALID, extract, marked
from judges.benchmarks.gsm8k.benchmark import JSON_PART
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
    short,
    write_lines,
)

KNOWN = (*FILTERS, JSON_PART)


def read(files: Sequence[Path], questions: Sequence[Question], model: str | None) -> Imported:
    """Responses of one run of lm-eval; the file does not name its model."""
    ids = {question.turns[0]: question.id for question in questions}
    responses, matched = Matched(questions, "responses"), Matched(questions, "responses")
    filters: list[str] = []
    for where, row in located(files):
        doc: Any = need(row, "doc", dict, where)
        asked = need(doc, "question", str, where)
        name = str(row.get("filter", FILTERS[0]))
        if name not in KNOWN:
            raise UserError(f"{where}: filter {short(name)} is none of {', '.join(KNOWN)}")
        filters += [] if name in filters else [name]
        text, taken = _first(row.get("resps"), where), _first(row.get("filtered_resps"), where)
        matched.offer(ids.get(asked), asked, where, (text, taken), name)
    for question in questions:
        for name in filters:
            held = matched.get(question.id, name)
            if held is not None:
                before = responses.get(question.id)
                if before is not None and before[0] != held[0]:
                    raise UserError(f"question {question.id}: the filters' rows hold different responses.")
                values = {**(before[1] if before else {}), **({name: held[1]} if name in FILTERS else {})}
                responses.found[f"{question.id}\0"] = (held[0], values)
    answers = [
        Answer(question.id, (held[0],), (), (), held[1])
        for question in questions
        if (held := responses.get(question.id)) is not None
    ]
    return Imported(model or "", tuple(answers), (), tuple(matched.problems + matched.miss(filters)))


def _first(value: object, where: str) -> str:
    """``[["text"]]`` and ``["text"]`` alike."""
    while isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str):
        raise UserError(f"{where}: resps and filtered_resps must hold a text, got {short(value)}")
    return value


def _hash(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write(folder: Path, exported: Exported, benchmark: str) -> list[Path]:
    """``MODEL/samples_gsm8k_distilbench.jsonl``: the rows of all filters, as ``--log_samples`` writes them."""
    from judges.benchmarks.gsm8k.json_protocol import extract_answer, mark_json

    lines: list[Row] = []
    for number, (question, answer) in enumerate(answered(exported)):
        text, gold = answer.turns[0], question.reference[0]
        doc = {"question": question.turns[0], "answer": gold}
        parts: Mapping[str, tuple[str, float]]
        if benchmark == "gsm8k_json":
            parts = {JSON_PART: (extract_answer(text)[0] or INVALID, float(mark_json(question, answer).verdict or 0.0))}
        else:
            taken = {name: str(answer.meta.get(name, "")) or extract(text, name) for name in FILTERS}
            parts = {name: (found, marked(found, gold)) for name, found in taken.items()}
        lines += [
            {
                "doc_id": number,
                "doc": doc,
                "target": gold,
                "arguments": {"gen_args_0": {"arg_0": question.turns[0], "arg_1": {}}},
                "resps": [[text]],
                "filtered_resps": [found],
                "filter": name,
                "metrics": ["exact_match"],
                "doc_hash": _hash(doc),
                "prompt_hash": _hash(question.turns[0]),
                "target_hash": _hash(gold),
                "exact_match": mark,
            }
            for name, (found, mark) in parts.items()
        ]
    return [write_lines(folder / file_name(exported.model) / "samples_gsm8k_distilbench.jsonl", lines)]


FORMAT = Format("lm_eval", ("gsm8k", "gsm8k_json"), "samples_gsm8k_*.jsonl of lm-eval --log_samples", read, write)
