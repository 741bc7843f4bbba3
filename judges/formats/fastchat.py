"""Files of FastChat ``llm_judge``: ``model_answer/MODEL.jsonl``, ``model_judgment/JUDGE_single.jsonl`` and ``_pair``.

A single judgment is a rating per turn, -1 for none; a pairwise one names the winner of two games per turn, in the
first of which ``model_1`` is assistant A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.types import Judgment, Question
from judges.benchmarks.answer_files import (
    Row,
    RowMatcher,
    Rows,
    has,
    is_no_verdict,
    match_answers,
    name_of,
    number_of,
    parse_rows,
    require_field,
    shorten,
)
from judges.benchmarks.arena_hard.score import GAMES
from judges.benchmarks.mt_bench import PROMPTS, TURNS, WITH_REFERENCE, MTBenchPairwise
from judges.benchmarks.scoring import verdicts
from judges.formats.base import ExportedResults, Files, ImportedResults, file_name, short_id, text_or_empty

_SLOTS = {1: TURNS[0], 2: TURNS[1]}


def read(rows: Rows, questions: Sequence[Question], model: str | None) -> ImportedResults:
    judgment_rows = [(location, row) for location, row in rows if not has(row, "choices")]
    names = [name_of(row["model"] if has(row, "model") else row.get("model_1")) for _, row in judgment_rows]
    if model is not None:  # a named model may be the second of its pairs; the one to read unasked is the first
        names += [name_of(row.get("model_2")) for _, row in judgment_rows]
    names = [name for name in names if name]
    chosen, answers = match_answers(rows, MTBenchPairwise.read_answer, names, model, questions)
    matcher: RowMatcher[tuple[Row, str]] = RowMatcher(questions, "judgments")
    opponents = set()
    for location, row, opponent, turn in parse_rows(
        judgment_rows, lambda row, location: _game_turn(row, location, chosen), matcher.problems
    ):
        if turn:
            opponents.update(opponent)
            matcher.offer(
                str(require_field(row, "question_id", int, location)), location, (row, location), _SLOTS[turn]
            )
    # A pairwise score needs one baseline: verdicts against two are two scores.
    if len(opponents) > 1:
        raise UserError(f"{chosen} is compared with several models ({', '.join(sorted(opponents))}): keep one's rows.")
    problems = answers.all_problems() + matcher.all_problems(TURNS)
    problems += [
        f"{location}: {len(choices)} choices; the first counts"
        for location, row in rows
        if isinstance(choices := row.get("choices"), list) and len(choices) > 1
    ]
    turns = [(location, (q, turn, row)) for q, turn, (row, location) in matcher.in_order(TURNS)]
    judgments = parse_rows(turns, lambda turn, location: _judgments(*turn, chosen, location, problems), problems)
    complete_answers = tuple(answer for *_, answer in answers.in_order())
    all_judgments = tuple(judgment for group in judgments for judgment in group)
    return ImportedResults(chosen, complete_answers, all_judgments, tuple(problems), next(iter(opponents), ""))


def _game_turn(row: Row, location: str, model: str) -> tuple[str, Row, list[str], int]:
    """(location, row, whom the model is compared with, turn: 0 for a row of other models)."""
    require_field(row, "question_id", int, location)
    opponent = []
    if has(row, "model_1"):
        pair = require_field(row, "model_1", str, location), require_field(row, "model_2", str, location)
        if model not in pair:
            return location, row, [], 0
        opponent = [pair[1] if pair[0] == model else pair[0]]
    elif name_of(row.get("model")) not in ("", model):
        return location, row, [], 0
    turn = require_field(row, "turn", int, location)
    if turn not in _SLOTS:
        raise UserError(f"{location}: turn must be 1 or 2, got {turn}")
    return location, row, opponent, turn


def _judgments(
    question: Question, turn: str, row: Row, model: str, location: str, problems: list[str]
) -> list[Judgment]:  # fmt: skip
    prompt, turn_text = row.get("user_prompt", row.get("g1_user_prompt")), question.turns[TURNS.index(turn)]
    if isinstance(prompt, str) and prompt and turn_text.strip() not in prompt:
        problems.append(
            f"{location}: the judge's prompt does not hold {turn} of question {question.id}; the verdict counts"
        )
    if has(row, "model_1"):
        return _games(question.id, turn, row, model, location, problems)
    return [_rating(question.id, turn, row, location, problems)]


def _rating(question: str, turn: str, row: Row, location: str, problems: list[str]) -> Judgment:
    reply, judge = text_or_empty(row.get("judgment")), name_of(row.get("judge"))
    blank = Judgment(question, turn, None, "no rating in the file", reply=reply, judge_model=judge)
    if "score" in row and is_no_verdict(row["score"]):
        return blank
    score = number_of(row.get("score"))
    if score is None:
        raise UserError(f"{location}: score must be a number, got {shorten(row.get('score'))}")
    if score == -1:  # FastChat's sign of a missing rating
        return blank
    if not 1 <= score <= 10:
        problems.append(f"{location}: rating {score:g} is not 1 to 10; it counts as no verdict")
        return replace(blank, reason=f"rating {score:g}")
    return replace(blank, verdict=score, reason=None)


def _games(question: str, turn: str, row: Row, model: str, location: str, problems: list[str]) -> list[Judgment]:
    first = row.get("model_1") == model
    judgments = []
    for number, game in enumerate(GAMES, 1):
        winner, reply = row.get(f"g{number}_winner"), text_or_empty(row.get(f"g{number}_judgment"))
        values = {"model_1": 1.0 if first else -1.0, "model_2": -1.0 if first else 1.0, "tie": 0.0}
        word = winner.strip().lower() if isinstance(winner, str) else ""
        value, reason = values.get(word), "no verdict in the file"
        if value is None and word != "error" and not is_no_verdict(winner):
            reason = f"g{number}_winner must be model_1, model_2, tie or error, got {shorten(winner)}"
            problems.append(f"{location}: {reason}; it counts as no verdict")
        no_verdict = None if value is not None else reason
        judgments.append(
            Judgment(
                question, f"{turn}:{game}", value, no_verdict, reply=reply, judge_model=name_of(row.get("judge")),
                meta={"model_first": first == (number == 1)},
            )
        )  # fmt: skip
    return judgments


def write(results: ExportedResults, benchmark: str) -> Files:
    """``data/mt_bench/model_answer/MODEL.jsonl``, with judgments also a file under ``model_judgment``."""
    rows = results.answered_questions
    place, stem = Path("data/mt_bench"), file_name(results.model)
    lines = [
        {
            "question_id": _number(question), "answer_id": short_id(results.model, question.id),
            "model_id": results.model, "choices": [{"index": 0, "turns": list(answer.turns)}], "tstamp": 0.0,
        }
        for question, answer in rows
    ]  # fmt: skip
    files: dict[Path, Sequence[Row]] = {place / "model_answer" / f"{stem}.jsonl": lines}
    if results.judgments:
        judge = results.judge or "gpt-4"
        pair = any(judgment.part not in TURNS for judgment in results.judgments)  # a game of a turn
        name = f"{file_name(judge)}_{'pair' if pair else 'single'}.jsonl"
        judgment_lines = [line for question, _ in rows for line in _judged_turns(question, results, judge, pair)]
        files[place / "model_judgment" / name] = judgment_lines
    return files


def _number(question: Question) -> int:
    try:
        return int(question.id)
    except ValueError:
        raise UserError(
            f"question {question.id!r} has no number: only the official MT-Bench questions can be exported to FastChat."
        ) from None


def _judged_turns(question: Question, results: ExportedResults, judge: str, pair: bool) -> list[Row]:
    judgments = [judgment for judgment in results.judgments if judgment.question == question.id]
    values = verdicts(judgments, "median").get(question.id, {})
    replies = {judgment.part: judgment.reply for judgment in reversed(judgments)}
    prompt = PROMPTS["pair" if pair else "single"][question.category in WITH_REFERENCE]
    rows: list[Row] = []
    pair_of_models = {"model_1": results.model, "model_2": results.baseline or "baseline"}
    models = pair_of_models if pair else {"model": results.model}
    for turn, part in _SLOTS.items():
        judged_by = [judge, prompt + ("-multi-turn" if turn == 2 else "")]
        row: dict[str, object] = {"question_id": _number(question), **models, "judge": judged_by}
        place = {"turn": turn, "tstamp": 0.0}
        if pair:
            row |= place
            for number, game in enumerate(GAMES, 1):
                slot = f"{part}:{game}"
                row[f"g{number}_winner"] = _winner(values.get(slot))
                row |= {f"g{number}_user_prompt": "", f"g{number}_judgment": replies.get(slot, "")}
        else:
            # -1 is FastChat's own sign of a missing rating, which it leaves out of its mean.
            score = values.get(part, -1)
            row |= {"user_prompt": "", "judgment": replies.get(part, ""), "score": score, **place}
        rows.append(row)
    return rows


def _winner(value: float | None) -> str:
    if value is None:
        return "error"
    return "model_1" if value > 0 else "model_2" if value < 0 else "tie"
