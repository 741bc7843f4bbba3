"""Files of arena-hard-auto: ``model_answer/MODEL.jsonl`` and ``model_judgment/JUDGE/MODEL.jsonl``.

Both layouts are read: the one of 2025 (``uid``, ``messages``, games with ``score``) and the one of v0.1's time
(``question_id``, ``choices``, games with ``score``); the one of 2025 is written, with the style metadata that its
scripts want. Game 1 has the baseline as assistant A, game 2 the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.types import Answer, Judgment, Question
from judges.benchmarks.answer_files import Row, RowMatcher, located, match_answers, need, short
from judges.benchmarks.arena_hard.benchmark import ArenaHard
from judges.benchmarks.arena_hard.protocol import GAMES, LABELS, MIRRORED, MIRRORED_FLAG
from judges.benchmarks.arena_hard.style_control import markdown_breakdown
from judges.formats.base import (
    Exported,
    Format,
    Imported,
    answered_questions,
    file_name,
    only,
    short_id,
    write_lines,
)

PLACES = {
    "arena_hard": ("arena-hard-v0.1", "arena-hard-v0.1"),
    "arena_hard_v2": ("arena-hard-v2.0", "hard_prompt"),
    "arena_hard_v2_writing": ("arena-hard-v2.0", "creative_writing"),
}
"""Benchmark to the folder and the category that the official tool writes it under."""


def read(files: Sequence[Path], questions: Sequence[Question], model: str | None) -> Imported:
    """Answers and judgments of one model."""
    rows = located(files)
    games = [(where, row) for where, row in rows if "games" in row]
    models = [need(row, "model" if "model" in row else "model_id", str, where) for where, row in games]
    chosen, answers = match_answers(rows, ArenaHard.answer_format, models, model, files, questions)
    matched: RowMatcher[tuple[Row, str]] = RowMatcher(questions, "judgments")
    ids = ArenaHard.answer_format.ids(questions)
    for (where, row), name in zip(games, models, strict=True):
        if name == chosen:
            uid = str(row.get("uid", row.get("question_id")))
            matched.offer(ids.get(uid), uid, where, (row, where))
    problems = answers.all_problems() + matched.all_problems()
    judgments = [
        judgment
        for question in questions
        if (located_row := matched.rows.get((question.id, ""))) is not None
        for judgment in _judgments(question, *located_row)
    ]
    baselines = {str(row["baseline"]) for _, row in games if "baseline" in row}
    return Imported(chosen, tuple(answers.in_order()), tuple(judgments), tuple(problems), only(baselines))


def _judgments(question: Question, row: Row, where: str) -> list[Judgment]:
    games: Any = need(row, "games", list, where)
    judge = str(row.get("judge", ""))
    judgments = []
    for number, part in enumerate(GAMES):
        game = games[number] if number < len(games) else None
        label = game.get("score") if isinstance(game, Mapping) else None
        reply = game.get("judgment", "") if isinstance(game, Mapping) else ""
        text = reply.get("answer", "") if isinstance(reply, Mapping) else reply
        blank = Judgment(
            question.id, part, None, "no verdict in the file", reply=text if isinstance(text, str) else "",
            judge_model=judge, meta={"model_first": bool(number)},
        )  # fmt: skip
        if label is None:
            judgments.append(blank)
        elif isinstance(label, str) and (label in LABELS or label in MIRRORED):
            margin = {**LABELS, **MIRRORED}[label] * (1 if number else -1)
            flags = (MIRRORED_FLAG,) if label in MIRRORED else ()
            judgments.append(replace(blank, verdict=margin + 0.0, reason=None, flags=flags))
        else:
            raise UserError(f"{where}: game {number + 1} has no such verdict label: {short(label)}")
    return judgments


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


def write(folder: Path, exported: Exported, benchmark: str) -> list[Path]:
    """``data/BENCH/model_answer/MODEL.jsonl``, with judgments also ``model_judgment/JUDGE/MODEL.jsonl``.

    ``token_len`` is what the answer came with in the official tokeniser, else the model's own count, else a quarter of
    its characters; only the official style control reads it.
    """
    rows = answered_questions(exported)
    subfolder, category = PLACES[benchmark]
    place, stem = folder / "data" / subfolder, file_name(exported.model)
    lines = [
        {
            "uid": question.id,
            "ans_id": short_id(exported.model, question.id),
            "model": exported.model,
            "messages": [
                {"role": "user", "content": question.turns[0]},
                {"role": "assistant", "content": {"answer": answer.turns[0]}},
            ],
            "tstamp": 0.0,
            "metadata": {"token_len": _tokens(answer), **markdown_breakdown(answer.turns[0])},
        }
        for question, answer in rows
    ]
    written = [write_lines(place / "model_answer" / f"{stem}.jsonl", lines)]
    if exported.judgments:
        # Of repeated judgings the official layout holds one: the first.
        first = {(judgment.question, judgment.part): judgment for judgment in exported.judgments if not judgment.repeat}
        judge = exported.judge or "unnamed"
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
    """One game; ``null`` when it was never judged."""
    if judgment is None:
        return None
    mirrored = MIRRORED_FLAG in judgment.flags
    # A label that was written backwards is exported backwards: the script of v0.1 does not count it.
    label = None if judgment.verdict is None else _label(judgment.verdict, model_first, mirrored)
    return {"score": label, "judgment": {"answer": judgment.reply}, "prompt": None}


FORMAT = Format("arena_hard", tuple(PLACES), "model_answer and model_judgment JSONL of arena-hard-auto", read, write)
