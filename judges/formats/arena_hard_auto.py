"""Files of arena-hard-auto: ``model_answer/MODEL.jsonl`` and ``model_judgment/JUDGE/MODEL.jsonl``.

Read in the layouts of 2025 (``uid``, ``messages``) and of v0.1's time (``question_id``, ``choices``), written in that
of 2025 with the style metadata that its scripts want.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.types import Answer, Judgment, Question
from judges.benchmarks.answer_files import (
    Row,
    RowMatcher,
    Rows,
    dig,
    has,
    is_no_verdict,
    match_answers,
    name_of,
    parse_rows,
    require_field,
    shorten,
)
from judges.benchmarks.arena_hard.benchmark import ArenaHard
from judges.benchmarks.arena_hard.score import GAMES, LABELS, MIRRORED_FLAG, MIRRORED_LABELS
from judges.benchmarks.arena_hard.style_control import markdown_breakdown
from judges.benchmarks.arena_hard.token_counts import token_counter
from judges.formats.base import ExportedResults, Files, ImportedResults, file_name, short_id, single_name, text_or_empty

PLACES = {
    "arena_hard": ("arena-hard-v0.1", "arena-hard-v0.1"),
    "arena_hard_v2": ("arena-hard-v2.0", "hard_prompt"),
    "arena_hard_v2_writing": ("arena-hard-v2.0", "creative_writing"),
}
"""Benchmark to the folder and the category that the official tool writes it under."""


def read(rows: Rows, questions: Sequence[Question], model: str | None) -> ImportedResults:
    games = [(location, row) for location, row in rows if has(row, "games")]
    matcher: RowMatcher[tuple[Row, str]] = RowMatcher(questions, "judgments")
    model_rows = parse_rows(
        games,
        lambda row, location: (
            location, row, require_field(row, "model" if "model" in row else "model_id", str, location)
        ),
        matcher.problems,
    )  # fmt: skip
    names = [name for *_, name in model_rows]
    chosen, answers = match_answers(rows, ArenaHard.read_answer, names, model, questions)
    for location, row, name in model_rows:
        if name == chosen:
            matcher.offer(name_of(row.get("uid", row.get("question_id"))), location, (row, location), source_row=row)
    problems = answers.all_problems() + matcher.all_problems()
    pairs = [(location, (question, row)) for question, _, (row, location) in matcher.in_order()]
    judgments = parse_rows(pairs, lambda pair, location: _judgments(*pair, location, problems), problems)
    baselines = {name_of(row["baseline"]) for _, row in games if has(row, "baseline")}
    complete_answers = tuple(answer for *_, answer in answers.in_order())
    all_judgments = tuple(judgment for game_pair in judgments for judgment in game_pair)
    return ImportedResults(chosen, complete_answers, all_judgments, tuple(problems), single_name(baselines))


def _judgments(question: Question, row: Row, location: str, problems: list[str]) -> list[Judgment]:
    games = require_field(row, "games", list, location)
    judgments = []
    if len(games) > len(GAMES):
        problems.append(f"{location}: {len(games)} games; the first {len(GAMES)} count")
    for number, part in enumerate(GAMES):
        label, text = dig(games, number, "score"), dig(games, number, "judgment")
        reply = dig(text, "answer") if isinstance(text, Mapping) else text
        blank = Judgment(
            question.id, part, None, "no verdict in the file", reply=text_or_empty(reply),
            judge_model=name_of(row.get("judge")), meta={"model_first": bool(number)},
            thinking=text_or_empty(dig(text, "thought")),
        )  # fmt: skip
        official_label = _label(label)
        if is_no_verdict(label):
            judgments.append(blank)
        elif official_label:
            margin = {**LABELS, **MIRRORED_LABELS}[official_label] * (1 if number else -1)
            flags = (MIRRORED_FLAG,) if official_label in MIRRORED_LABELS else ()
            judgments.append(replace(blank, verdict=margin + 0.0, reason=None, flags=flags))
            if label != official_label:
                problems.append(f"{location}: game {number + 1} has {shorten(label)}; it counts as {official_label}")
        else:  # the script of 2025 stores whatever letters stood in the brackets; it does not count them either
            reason = f"no such verdict label: {shorten(label)}"
            judgments.append(replace(blank, reason=reason))
            problems.append(f"{location}: game {number + 1} has {reason}; it counts as no verdict")
    return judgments


def _label(value: object) -> str:
    """The official label, in whatever case, brackets and white space it stands; empty where it is none."""
    text = "".join(value.split()).strip("[]").upper() if isinstance(value, str) else ""
    label = "A=B" if text == "TIE" else text
    return label if label in LABELS or label in MIRRORED_LABELS else ""


def write(results: ExportedResults, benchmark: str) -> Files:
    """``data/BENCH/model_answer/MODEL.jsonl``, with judgments also ``model_judgment/JUDGE/MODEL.jsonl``."""
    rows, count = results.answered_questions, _token_count
    if results.options.get("count_tokens"):
        tokens_in = token_counter(results.options["scorer"])
        count = lambda answer: tokens_in(answer.turns[0])  # noqa: E731
    subfolder, category = PLACES[benchmark]
    place, stem = Path("data") / subfolder, file_name(results.model)
    lines = [
        {
            "uid": question.id, "ans_id": short_id(results.model, question.id), "model": results.model,
            "messages": [
                {"role": "user", "content": question.turns[0]},
                {"role": "assistant", "content": {"answer": answer.turns[0]}},
            ],
            "tstamp": 0.0,
            # Only the official style control reads this.
            "metadata": {"token_len": count(answer), **markdown_breakdown(answer.turns[0])},
        }
        for question, answer in rows
    ]  # fmt: skip
    files: dict[Path, Sequence[Row]] = {place / "model_answer" / f"{stem}.jsonl": lines}
    if results.judgments:
        # Of repeated judgings the official layout holds one: the first.
        first = {(judgment.question, judgment.part): judgment for judgment in results.judgments if not judgment.repeat}
        judge = results.judge or "unnamed"
        files[place / "model_judgment" / file_name(judge) / f"{stem}.jsonl"] = [
            {
                "uid": question.id, "category": category, "judge": judge,
                "model": results.model, "baseline": results.baseline,
                "games": [_game(first.get((question.id, part)), bool(number)) for number, part in enumerate(GAMES)],
            }
            for question, _ in rows
        ]  # fmt: skip
    return files


def _token_count(answer: Answer) -> int:
    """That of the file it came from; else the model's own, unless that counts its thinking; else an estimate."""
    own_count = () if any(answer.thinking) else answer.tokens
    return int(answer.meta.get("token_len", [*own_count, len(answer.turns[0]) // 4][0]))


def _game(judgment: Judgment | None, model_first: bool) -> Row | None:
    if judgment is None:
        return None
    label = None
    if judgment.verdict is not None:
        # As that game's assistant A would read it; averages of repeats are rounded.
        margin = round(judgment.verdict) * (1 if model_first else -1)
        # A label that was written backwards is exported backwards: the script of v0.1 does not count it.
        labels = MIRRORED_LABELS if MIRRORED_FLAG in judgment.flags else LABELS
        label = next(label for label, value in labels.items() if value == margin)
    return {"score": label, "judgment": {"answer": judgment.reply}, "prompt": None}
