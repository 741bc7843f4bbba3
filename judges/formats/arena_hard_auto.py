"""Files of arena-hard-auto: ``model_answer/MODEL.jsonl`` and ``model_judgment/JUDGE/MODEL.jsonl``.

Both layouts are read: the one of 2025 (``uid``, ``messages``, games with ``score``) and the one of v0.1's time
(``question_id``, ``choices``, games with ``score``); the one of 2025 is written, with the style metadata that its
scripts want. Game 1 has the baseline as assistant A, game 2 the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.types import Answer, Judgment, Question
from judges.benchmarks.arena_hard.labels import GAMES, LABELS, MIRRORED, MIRRORED_FLAG
from judges.benchmarks.arena_hard.style_control import markdown_breakdown
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
    write_lines,
)

FOLDERS = {
    "arena_hard": "arena-hard-v0.1",
    "arena_hard_v2": "arena-hard-v2.0",
    "arena_hard_v2_writing": "arena-hard-v2.0",
}
CATEGORIES = {
    "arena_hard": "arena-hard-v0.1",
    "arena_hard_v2": "hard_prompt",
    "arena_hard_v2_writing": "creative_writing",
}


def read(files: Sequence[Path], questions: Sequence[Question], model: str | None) -> Imported:
    """Answers and judgments of one model."""
    rows = located(files)
    chosen = one_model([_model(row, where) for where, row in rows], model, files)
    answers, judgments = Matched(questions, "answers"), Matched(questions, "judgments")
    known = {question.id for question in questions}
    for where, row in rows:
        if _model(row, where) != chosen:
            continue
        uid = str(row.get("uid", row.get("question_id")))
        target, item = (judgments, (row, where)) if "games" in row else (answers, _answer(uid, row, where))
        target.offer(uid if uid in known else None, uid, where, item)
    problems = answers.problems + judgments.problems
    for matched in (answers, judgments):
        problems += matched.miss() if matched.found or matched.problems else []
    found = [answers.get(question.id) for question in questions if answers.get(question.id) is not None]
    given = [
        judgment
        for question in questions
        if (held := judgments.get(question.id)) is not None
        for judgment in _judgments(question, *held)
    ]
    baselines = {str(row["baseline"]) for _, row in rows if "games" in row and "baseline" in row}
    return Imported(chosen, tuple(found), tuple(given), tuple(problems), baselines.pop() if len(baselines) == 1 else "")


def _model(row: Row, where: str) -> str:
    return need(row, "model" if "model" in row else "model_id", str, where)


def _answer(uid: str, row: Row, where: str) -> Answer:
    tokens: Any
    if "messages" in row:
        last: Any = need(row, "messages", list, where)[-1:]
        content: Any = last[0].get("content") if last and isinstance(last[0], Mapping) else None
        text: Any = content.get("answer") if isinstance(content, Mapping) else content
        tokens = _metadata(row, where).get("token_len")
    else:
        choices: Any = need(row, "choices", list, where)
        turns: Any = choices[0].get("turns") if choices and isinstance(choices[0], Mapping) else None
        turn: Any = turns[0] if turns and isinstance(turns, list) else None
        text, tokens = (turn.get("content"), turn.get("token_len")) if isinstance(turn, Mapping) else (None, None)
    if not isinstance(text, str):
        raise UserError(f"{where}: no answer text in this row")
    counted = isinstance(tokens, int) and not isinstance(tokens, bool)
    return Answer(uid, (text,), (), (tokens,) if counted else (), {"token_len": tokens} if counted else {})


def _metadata(row: Row, where: str) -> Mapping[str, Any]:
    """What the tool measured of an answer; older files call it ``conv_metadata``, some leave it out."""
    found = row.get("metadata") or row.get("conv_metadata") or {}
    if not isinstance(found, Mapping):
        raise UserError(f"{where}: metadata must be an object, got {short(found)}")
    return found


def _judgments(question: Question, row: Row, where: str) -> list[Judgment]:
    games: Any = need(row, "games", list, where)
    judge = str(row.get("judge", ""))
    found = []
    for number, part in enumerate(GAMES):
        game = games[number] if number < len(games) else None
        label = game.get("score") if isinstance(game, Mapping) else None
        said = game.get("judgment", "") if isinstance(game, Mapping) else ""
        text = said.get("answer", "") if isinstance(said, Mapping) else said
        blank = Judgment(
            question.id, part, None, "no verdict in the file", reply=text if isinstance(text, str) else "",
            judge_model=judge, meta={"model_first": bool(number)},
        )  # fmt: skip
        if label is None:
            found.append(blank)
        elif isinstance(label, str) and (label in LABELS or label in MIRRORED):
            margin = {**LABELS, **MIRRORED}[label] * (1 if number else -1)
            flags = (MIRRORED_FLAG,) if label in MIRRORED else ()
            found.append(replace(blank, verdict=margin + 0.0, reason=None, flags=flags))
        else:
            raise UserError(f"{where}: game {number + 1} has no such verdict label: {short(label)}")
    return found


def _label(margin: float, model_first: bool, mirrored: bool) -> str:
    """The label of a margin of the model's, as that game's assistant A would read it; averages are rounded.

    A label that was written backwards stays so: the script of v0.1 does not count it.
    """
    own = round(margin) * (1 if model_first else -1)
    return next(label for label, value in (MIRRORED if mirrored else LABELS).items() if value == own)


def _tokens(answer: Answer) -> int:
    """Length in tokens, as well as it is known."""
    own = answer.tokens[0] if answer.tokens else len(answer.turns[0]) // 4
    return int(answer.meta.get("token_len", own))


def _id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:22]


def write(folder: Path, exported: Exported, benchmark: str) -> list[Path]:
    """``data/BENCH/model_answer/MODEL.jsonl``, with judgments also ``model_judgment/JUDGE/MODEL.jsonl``.

    ``token_len`` is what the answer came with in the official tokeniser, else the model's own count, else a quarter of
    its characters; only the official style control reads it.
    """
    rows = answered(exported)
    place, stem = folder / "data" / FOLDERS[benchmark], file_name(exported.model)
    lines = [
        {
            "uid": question.id,
            "ans_id": _id(exported.model, question.id),
            "model": exported.model,
            "messages": [
                {"role": "user", "content": question.turns[0]},
                {"role": "assistant", "content": {"answer": answer.turns[0]}},
            ],
            "tstamp": 0.0,
            "metadata": {
                "token_len": _tokens(answer),
                **markdown_breakdown(answer.turns[0]),
            },
        }
        for question, answer in rows
    ]
    written = [write_lines(place / "model_answer" / f"{stem}.jsonl", lines)]
    if exported.judgments:
        first: dict[tuple[str, str], Judgment] = {}
        for judgment in exported.judgments:
            if judgment.repeat == 0:
                first[judgment.question, judgment.part] = judgment
        judge = exported.judge or "unnamed"
        category = CATEGORIES[benchmark]
        judged = [
            {
                "uid": question.id,
                "category": category,
                "judge": judge,
                "model": exported.model,
                "baseline": exported.baseline,
                "games": [_game(first.get((question.id, part)), bool(number)) for number, part in enumerate(GAMES)],
            }
            for question, _ in rows
        ]
        written.append(write_lines(place / "model_judgment" / file_name(judge) / f"{stem}.jsonl", judged))
    return written


def _game(judgment: Judgment | None, model_first: bool) -> dict[str, Any] | None:
    """One game; ``null`` when it was never judged. Of repeated judgings the official layout holds the first."""
    if judgment is None:
        return None
    mirrored = MIRRORED_FLAG in judgment.flags
    label = None if judgment.verdict is None else _label(judgment.verdict, model_first, mirrored)
    return {"score": label, "judgment": {"answer": judgment.reply}, "prompt": None}


FORMAT = Format("arena_hard", tuple(FOLDERS), "model_answer and model_judgment JSONL of arena-hard-auto", read, write)
