"""GSM8K, the zero-shot protocol of the PAD authors: the answer comes in a JSON object, and its number is compared.

Lin 2024, ZeroEval: the model is asked, without worked examples, for an object with its reasoning and its answer. The
prompt is in our own words, so numbers are close to ZeroEval's, not equal. Extraction: the first complete JSON object
that has an ``answer``; failing that the text behind an ``"answer":`` key (flagged). Numbers are compared as numbers.
As ``gsm8k_json`` this stands in a table of its own beside lm-eval's; ``gsm8k: {protocol: json}`` puts it into the
column that the paper's numbers stand in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from harness.contracts.benchmark import Benchmark, Metric
from harness.contracts.model import GeneratesText, Sampling
from harness.types import Answer, Judgment, Question
from judges.benchmarks.gsm8k.benchmark import GSM8K, JSON_PART, GSM8KConfig
from judges.benchmarks.shared import ask, text_hash

PROMPT = (
    "Solve the problem below. Work it out step by step, then reply with one JSON object and nothing else. It has two "
    'keys: "reasoning", a string with your steps, and "answer", the final number alone, without a unit.\n\n'
    "Problem:\n{question}"
)
PROMPT_HASH = text_hash((PROMPT,))
_BROKEN = re.compile(r'"answer"\s*:\s*"?([^"\n}]*)')
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?|(?<![\w.])\.\d+)(?:\s*/\s*\d+|[eE][+-]?\d+)?")
_MOST_DIGITS = 3  # of an exponent: 1e999999999 has a billion digits
_MOST_STARTS = 200  # opening braces tried in one reply: a reply of braces must not cost quadratic time


def answer_json(model: GeneratesText, questions: Sequence[Question], sampling: Sampling, seed: int) -> list[Answer]:
    """Ask every problem once, in the words of ``PROMPT``."""
    asked = [Question(each.id, (PROMPT.replace("{question}", each.turns[0]),)) for each in questions]
    return ask(model, asked, lambda question: sampling, seed)


def extract_answer(text: str) -> tuple[str | None, tuple[str, ...]]:
    """What a reply gives as its answer, and how it had to be read (``broken-json``); ``None`` when it gives none."""
    decoder = json.JSONDecoder()
    for start in [match.start() for match in re.finditer(r"\{", text)][:_MOST_STARTS]:
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, brackets without end
            continue
        if isinstance(found, dict) and isinstance(found.get("answer"), str | int | float):
            return str(found["answer"]), ()
    broken = _BROKEN.findall(text)
    return (broken[-1].strip(), ("broken-json",)) if broken else (None, ())


def number_in(text: str) -> Fraction | None:
    """The first number of a short answer, without dollar signs and commas: ``$1,200.50``, ``3/4``, ``1.8e1``."""
    found = _NUMBER.search(text.replace(",", "").replace("$", "").replace("\N{MINUS SIGN}", "-"))
    if found is None or len(found[0].lower().partition("e")[2].lstrip("+-")) > _MOST_DIGITS:
        return None
    try:
        return Fraction("".join(found[0].split()))
    except (ValueError, ZeroDivisionError):
        return None


def mark_json(question: Question, answer: Answer) -> Judgment:
    """One mark. A reply without an answer, or without a number in it, is wrong, and flagged."""
    found, flags = extract_answer(answer.turns[0])
    number = None if found is None else number_in(found)
    gold = number_in(question.reference[0].rsplit("####", 1)[-1])
    flags = flags if number is not None else (*flags, "no-number")
    mark = float(number is not None and number == gold)
    return Judgment(question.id, JSON_PART, mark, flags=flags, judge_model="rule")


@dataclass(frozen=True)
class GSM8KJsonConfig(GSM8KConfig):
    """Options of GSM8K with JSON answers in a recipe."""

    protocol: Literal["lm-eval", "json"] = "json"
    """Only ``json``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol != "json":
            raise ValueError("protocol must be json: the benchmark gsm8k has lm-eval's")


class GSM8KJson(GSM8K):
    """The benchmark; see the head of this file."""

    name: str = "gsm8k_json"
    metrics: tuple[Metric, ...] = (Metric("gsm8k_json.acc", "Acc. (%)", "GSM8K (JSON answer)", margin=2.0),)
    config: type[GSM8KConfig] = GSM8KJsonConfig


BENCHMARK: Benchmark = GSM8KJson()
