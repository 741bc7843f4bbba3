"""Answers that try to reach the judge: how many hold verdict labels, delimiters, chat marks or orders to a judge.

Answers are put into prompts by cutting the template at its own names (``judges.benchmarks.base.fill``), and parsers
read the judge's reply only, so such text breaks nothing. It may still sway a judge (Zheng et al. 2024, arXiv
2410.07137: a null model with a crafted answer wins), so every score says how many answers hold it. A hit is a hint, not
a proof of intent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from harness.types import Answer

KINDS: Final = {
    "label": re.compile(r"\[\[\s*(?:[AB][<>=]{1,2}[AB]|[ABC]|\d{1,2}(?:\.\d+)?|rating)\s*\]\]"),
    "delimiter": re.compile(
        r"<\|The (?:Start|End) of |\[The (?:Start|End) of |<\|User Prompt\|>|## Best Model Identifier"
        r"|\"model_identifier\"\s*:|<<(?:end of )?(?:question|reference|answer|m|M|A|B) [12] :"
    ),
    "chat-token": re.compile(
        r"<\|(?:im_start|im_end|endoftext|eot_id|start_header_id|end_header_id|begin_of_text|user|assistant|system)\|>"
        r"|<(?:start_of_turn|end_of_turn|bos|eos|s|/s)>|\[/?INST\]|<</?SYS>>"
    ),
    "order": re.compile(
        r"\b(?:ignore|disregard|forget)\b.{0,40}\b(?:instruction|prompt|rule|above|previous)"
        r"|\b(?:as|you are|dear) (?:a |an |the )?(?:impartial )?(?:judge|grader|evaluator)\b"
        r"|\b(?:rate|score|grade|rank)\b.{0,30}\b(?:10|ten|highest|first)\b"
        r"|\b(?:choose|select|prefer|pick)\b.{0,20}\b(?:assistant [AB]|model [mM]|model_[12])\b",
        re.IGNORECASE,
    ),
}
"""Kind to the pattern that shows it: of all judge prompts here, of common chat templates, of plain language."""


def hostile_kinds(text: str) -> tuple[str, ...]:
    """Which kinds of judge-directed text an answer holds."""
    return tuple(kind for kind, pattern in KINDS.items() if pattern.search(text))


def hostile_counts(answers: Sequence[Answer]) -> dict[str, float | str]:
    """``injection``: answers with any of it, and by kind (``injection:label``); empty when there are none."""
    counts = dict.fromkeys(KINDS, 0)
    total = 0
    for answer in answers:
        kinds = {kind for turn in answer.turns for kind in hostile_kinds(turn)}
        total += bool(kinds)
        for kind in kinds:
            counts[kind] += 1
    shown: dict[str, float | str] = {f"injection:{kind}": float(count) for kind, count in counts.items() if count}
    return {"injection": float(total), **shown} if total else {}
