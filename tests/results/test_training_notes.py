"""What changed how a row was trained, in sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.contracts.judge import JudgeError, count_cut_prompts, is_prompt_cut
from harness.types import Reply, Request
from reports.tables.notes import detail_lines
from results.run.training_notes import Measured, training_notes

STAGES = [
    Measured("prompts", "prompts", {"refused": {"odd": "the template refused it"}, "too_long": 2}),
    Measured("prompts", "prompts", {"templates": ["teacher: x"]}),
    Measured("sample", "student", {"without_room": ["p1", "p2"]}),
    Measured("reward", "student", {"too_long": {"p3": "of prompts p3"}, "truncated": 1}),
    Measured("reward", "student", {"too_long": {"p3": "of prompts p3"}}),
    Measured("train", "dpo", {"prompts": 6, "dropped": {"fewer than two responses": 1, "identical": 1}}),
    Measured("train", "dpo", {"prompts": 7, "dropped": {"fewer than two responses": 1}}),
    Measured("train", "kd", {"prompts": 8, "dropped": {}}),
    Measured("train", "seqkd", {"prompts": 8, "dropped": {}, "foreign_rows": 8}),
    Measured("sample", "student", {"cut_by_context": 2}),
    Measured("answer", "lm", {"without_room": [f"q{number}" for number in range(7)], "cut_prompts": 3}),
    Measured("answer", "lm", {"cut_by_context": 1, "empty": 2}),
    Measured("judge", "lm", {"cut_prompts": 4}),
    Measured("answer", "teacher", {"templates": ["x"]}),
    Measured("answer", "hub-model", {"templates": ["y"]}),
    Measured("answer", "hub-model", {"templates": ["y"]}),
]


def test_everything_is_told_once_with_names_and_counts() -> None:
    assert list(training_notes(STAGES)) == [
        "1 training prompt left out (odd): the template refused it",
        "2 training prompts left out as longer than prompts.max_prompt_tokens",
        "teacher: x",
        "hub-model: y",
        "1 training prompt without rewards (p3): of prompts p3",
        "student: 2 training prompts left no room in the model's context (p1, p2)",
        "lm: 7 questions left no room in the model's context (q0, q1, q2, q3, q4 and 2 more)",
        "lm: the server seems to have cut 3 prompts: serve it with a larger window",
        "lm: the judge's server seems to have cut 4 prompts: serve it with a larger window",
        "student: 2 responses cut before max_new_tokens, where the model's context (or its server's limit) ended",
        "lm: 1 answer cut before max_new_tokens, where the model's context (or its server's limit) ended",
        "lm: 2 empty answers, judged as they are",
        "1 response cut to reward.max_response_tokens in multiple-choice questions",
        "seqkd: 8 responses trained on other tokens than were drawn (by a model of another vocabulary or end of turn)",
        "dpo: not trained on 3 of 16 prompts: 2 x fewer than two responses, 1 x identical",
    ]
    assert list(training_notes([])) == []


def test_they_stand_among_the_notes_of_a_table() -> None:
    run: Any = type("Run", (), {"training_notes": ("teacher: x", "dpo: y."), "cards": (), "seeds": (0,)})()
    summary: Any = type("Summary", (), {"benchmarks": {}, "cells": {}, "columns": (), "absent": (), "rows": ()})()
    summary.target = type("Target", (), {"focus": None})()
    assert {"Teacher: x.", "Dpo: y."} <= set(detail_lines(summary, run))
    summary.rows = (type("Row", (), {"id": "dpo", "title": "DPO"})(),)
    assert {"Teacher: x.", "DPO: y."} <= set(detail_lines(summary, run))


def test_a_prompt_that_was_cut_shows_in_the_servers_count() -> None:
    """12,000 characters are 3,000 tokens of English: a count of 2,048 is not yet suspicious, 1,024 is."""
    request = Request("q", "turn1", ({"role": "user", "content": "some word " * 1200},), 8)
    reply = Reply("[[8]]", "stop", "m", 1024, 3)
    assert is_prompt_cut(request, reply)
    assert not is_prompt_cut(request, replace(reply, prompt_tokens=2048))
    assert not is_prompt_cut(request, replace(reply, prompt_tokens=0)), "not counted"
    assert not is_prompt_cut(replace(request, messages=({"role": "user", "content": "word " * 400},)), reply)


def test_prompts_of_all_lengths_with_one_count_were_cut_at_the_servers_window() -> None:
    """2,000 tokens of 7,000 to 12,000 characters are no few; that four prompts have exactly so many is."""
    lengths = [400, 7000, 9000, 11_000, 12_000]
    requests = [Request("q", "answer", ({"role": "user", "content": "x" * length},), 8) for length in lengths]

    def count(*tokens: int) -> int:
        replies = [Reply("", "stop", "m", number, 3) for number in tokens]
        return count_cut_prompts([*requests, requests[0]], [*replies, JudgeError("context", "too long")])

    assert count(100, 2000, 2000, 2000, 2000) == 4
    assert count(100, 1750, 2000, 2000, 2000) == 3
    assert count(100, 1750, 2250, 2750, 3000) == count(0, 0, 0, 0, 0) == 0
    assert count(700, 700, 700, 700, 2750) == 3, "far fewer than were sent"
    assert count(2000, 2000, 2000, 2000, 2000) == 0, "not counted: one number for everything"
