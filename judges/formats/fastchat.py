"""Files of FastChat ``llm_judge``: ``model_answer/MODEL.jsonl``, ``model_judgment/JUDGE_single.jsonl`` and ``_pair``.

A single judgment is a rating per turn, -1 for none; a pairwise one names the winner of two games per turn, in the
first of which ``model_1`` is assistant A. In a pairwise file of many models the baseline is the other model named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.types import Judgment, Question
from judges.benchmarks.answer_files import Row, RowMatcher, located, match_answers, need, short
from judges.benchmarks.arena_hard.protocol import GAMES
from judges.benchmarks.mt_bench.benchmark import TURNS, WITH_REFERENCE
from judges.benchmarks.mt_bench.pairwise import MTBenchPairwise
from judges.benchmarks.scoring import verdicts
from judges.formats.base import (
    Exported,
    Format,
    Imported,
    answered_questions,
    file_name,
    short_id,
    write_lines,
)

_PLACE = Path("data") / "mt_bench"
_SLOTS = {1: TURNS[0], 2: TURNS[1]}


def read(files: Sequence[Path], questions: Sequence[Question], model: str | None) -> Imported:
    """Answers and judgments of one model, single or pairwise."""
    rows = located(files)
    for where, row in rows:
        need(row, "question_id", int, where)
    judged = [(where, row) for where, row in rows if "choices" not in row]
    names = [str(row.get("model", row.get("model_1", ""))) for _, row in judged]
    if model is not None:  # a named model may be the second of its pairs; the one to read unasked is the first
        names += [str(row["model_2"]) for _, row in judged if "model_2" in row]
    form = MTBenchPairwise.answer_format
    chosen, answers = match_answers(rows, form, [name for name in names if name], model, files, questions)
    matched: RowMatcher[tuple[Row, str]] = RowMatcher(questions, "judgments")
    ids, opponents = form.ids(questions), set()
    for where, row in judged:
        if "g1_winner" in row:
            pair = need(row, "model_1", str, where), need(row, "model_2", str, where)
            if chosen not in pair:
                continue
            opponents.add(pair[1] if pair[0] == chosen else pair[0])
        elif row.get("model") != chosen:
            continue
        uid = str(row["question_id"])
        matched.offer(ids.get(uid), uid, where, (row, where), _turn(row, where))
    # A pairwise score needs one baseline: verdicts against two are two scores.
    if len(opponents) > 1:
        raise UserError(f"{chosen} is compared with several models ({', '.join(sorted(opponents))}): keep one's rows.")
    problems = answers.all_problems() + matched.all_problems(TURNS)
    judgments = []
    for question in questions:
        for turn in TURNS:
            if (located_row := matched.rows.get((question.id, turn))) is not None:
                row, where = located_row
                if "g1_winner" in row:
                    judgments += _games(question.id, turn, row, chosen, where)
                else:
                    judgments.append(_rating(question.id, turn, row, where))
    opponent = next(iter(opponents), "")
    return Imported(chosen, tuple(answers.in_order()), tuple(judgments), tuple(problems), opponent)


def _turn(row: Row, where: str) -> str:
    turn = need(row, "turn", int, where)
    if turn not in _SLOTS:
        raise UserError(f"{where}: turn must be 1 or 2, got {turn}")
    return _SLOTS[turn]


def _judge(row: Row) -> str:
    judge = row.get("judge", "")
    return str(judge[0]) if isinstance(judge, list | tuple) and judge else str(judge)


def _rating(question: str, turn: str, row: Row, where: str) -> Judgment:
    score = row.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise UserError(f"{where}: score must be a number, got {short(score)}")
    text = row.get("judgment")
    reply, judge = text if isinstance(text, str) else "", _judge(row)
    if not 1 <= score <= 10:
        reason = "no rating in the file" if score == -1 else f"rating {score}"
        return Judgment(question, turn, None, reason, reply=reply, judge_model=judge)
    return Judgment(question, turn, float(score), reply=reply, judge_model=judge)


def _games(question: str, turn: str, row: Row, model: str, where: str) -> list[Judgment]:
    first = row.get("model_1") == model
    judgments = []
    for number, game in enumerate(GAMES, 1):
        winner = row.get(f"g{number}_winner")
        text = row.get(f"g{number}_judgment")
        values = {"model_1": 1.0 if first else -1.0, "model_2": -1.0 if first else 1.0, "tie": 0.0}
        if not isinstance(winner, str) or (winner != "error" and winner not in values):
            raise UserError(f"{where}: g{number}_winner must be model_1, model_2, tie or error, got {short(winner)}")
        value = values.get(winner)
        reason = "no verdict in the file" if value is None else None
        reply = text if isinstance(text, str) else ""
        judgments.append(Judgment(question, f"{turn}:{game}", value, reason, reply=reply, judge_model=_judge(row)))
    return judgments


def write(folder: Path, exported: Exported, benchmark: str) -> list[Path]:
    """``data/mt_bench/model_answer/MODEL.jsonl``, with judgments also a file under ``model_judgment``."""
    rows = answered_questions(exported)
    stem = file_name(exported.model)
    lines = [
        {
            "question_id": _number(question),
            "answer_id": short_id(exported.model, question.id),
            "model_id": exported.model,
            "choices": [{"index": 0, "turns": list(answer.turns)}],
            "tstamp": 0.0,
        }
        for question, answer in rows
    ]
    written = [write_lines(folder / _PLACE / "model_answer" / f"{stem}.jsonl", lines)]
    if exported.judgments:
        judge = exported.judge or "gpt-4"
        pair = any(judgment.part not in TURNS for judgment in exported.judgments)  # a game of a turn
        make = _pairs if pair else _singles
        name = f"{file_name(judge)}_{'pair' if pair else 'single'}.jsonl"
        judged = [line for question, _ in rows for line in make(question, exported, judge)]
        written.append(write_lines(folder / _PLACE / "model_judgment" / name, judged))
    return written


def _number(question: Question) -> int:
    """FastChat's ids are numbers; those of other question sets have none."""
    try:
        return int(question.id)
    except ValueError:
        raise UserError(
            f"question {question.id!r} has no number: only the official MT-Bench questions can be exported to FastChat."
        ) from None


def _singles(question: Question, exported: Exported, judge: str) -> list[Row]:
    own = [judgment for judgment in exported.judgments if judgment.question == question.id]
    ratings = verdicts(own, "median").get(question.id, {})
    replies = {judgment.part: judgment.reply for judgment in reversed(own)}
    name = "single-math-v1" if question.category in WITH_REFERENCE else "single-v1"
    return [
        {
            "question_id": _number(question),
            "model": exported.model,
            "judge": [judge, name + ("-multi-turn" if turn == 2 else "")],
            "user_prompt": "",
            "judgment": replies.get(part, ""),
            "score": ratings.get(part, -1),
            "turn": turn,
            "tstamp": 0.0,
        }
        for turn, part in _SLOTS.items()
    ]


def _pairs(question: Question, exported: Exported, judge: str) -> list[Row]:
    own = [judgment for judgment in exported.judgments if judgment.question == question.id]
    by_part = verdicts(own, "median").get(question.id, {})
    replies = {judgment.part: judgment.reply for judgment in reversed(own)}
    name = "pair-math-v1" if question.category in WITH_REFERENCE else "pair-v2"
    lines: list[Row] = []
    for turn, part in _SLOTS.items():
        line: dict[str, Any] = {
            "question_id": _number(question),
            "model_1": exported.model,
            "model_2": exported.baseline or "baseline",
            "judge": [judge, name + ("-multi-turn" if turn == 2 else "")],
            "turn": turn,
            "tstamp": 0.0,
        }
        for number, game in enumerate(GAMES, 1):
            value = by_part.get(f"{part}:{game}")
            line[f"g{number}_winner"] = _winner(value)
            line[f"g{number}_user_prompt"] = ""
            line[f"g{number}_judgment"] = replies.get(f"{part}:{game}", "")
        lines.append(line)
    return lines


def _winner(value: float | None) -> str:
    if value is None:
        return "error"
    return "model_1" if value > 0 else "model_2" if value < 0 else "tie"


FORMAT = Format(
    "fastchat", ("mt_bench", "mt_bench_pairwise"), "model_answer and model_judgment JSONL of FastChat", read, write
)
