"""From verdicts to scores: the question is the unit of every interval (Miller 2024, arXiv 2411.00640).

A score is the ratio of sums of one numerator and one denominator per question; the latter is 0 without a verdict.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, median
from typing import Final, Literal

import numpy as np

from harness.contracts.benchmark import MISSING, Entrant, pair_answers
from harness.stats import Array, percentile_interval, resamples
from harness.types import Answer, Judgment, Question, Score

Detail = dict[str, float | str]
HOSTILE: Final = {
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
"""Text that may sway a judge, by kind (Zheng et al. 2024, arXiv 2410.07137: a null model with a crafted answer wins).
It cannot break a prompt (``base.fill``); a match is a hint, no proof of intent."""
_MOST_REASONS: Final = 10  # of missing verdicts


def sigmoid(z: Array) -> Array:
    half_tanh: Array = 0.5 * (1.0 + np.tanh(0.5 * z))  # exp would overflow
    return half_tanh


def verdicts(judgments: Sequence[Judgment], combine: Literal["mean", "median"] = "mean") -> dict[str, dict[str, float]]:
    """Question to part to verdict, repeats combined; parts without a verdict are left out."""
    by_part: dict[str, dict[str, dict[int, float]]] = {}
    for judgment in judgments:
        if judgment.verdict is not None:
            parts = by_part.setdefault(judgment.question, {})
            parts.setdefault(judgment.part, {})[judgment.repeat] = judgment.verdict
    join = fmean if combine == "mean" else median
    return {
        question: {part: float(join(values.values())) for part, values in parts.items()}
        for question, parts in by_part.items()
    }


@dataclass(frozen=True)
class VerdictCount:
    """The verdicts [questions] received out of those expected, of which there are 0 where no judge was needed."""

    received: Array
    expected: Array

    @property
    def share(self) -> Array:
        # A half-judged question counts fully in a score's ``n``, as in the official scripts, but not in the coverage.
        return np.where(self.expected > 0, self.received / np.maximum(self.expected, 1.0), 1.0)

    def detail(self, covered: Array) -> dict[str, float]:
        """Details of a score; ``Score.covered_questions`` reads one. ``covered``: the share of verdicts used, 0..1."""
        return {
            "verdicts": float(self.expected.sum()),
            "verdicts_missing": float((self.expected - self.received).sum()),
            "questions_covered": float(covered.sum()),
        }


def count_verdicts(questions: Sequence[Question], judgments: Sequence[Judgment], parts: Sequence[str]) -> VerdictCount:
    """One verdict is expected per question, part and repeat; an answer that nobody judged lacks all of them."""
    repeats = 1 + max((judgment.repeat for judgment in judgments), default=0)
    # a set: a judgment that is there twice (imported beside our own) is still one verdict
    distinct = {
        (judgment.question, judgment.part, judgment.repeat) for judgment in judgments if judgment.verdict is not None
    }
    received = Counter(question for question, part, _ in distinct if part in parts)
    return VerdictCount(
        np.array([received[question.id] for question in questions], dtype=float),
        np.full(len(questions), float(len(parts) * repeats)),
    )


@dataclass(frozen=True)
class Ratio:
    """``scale`` times sum(numerator) / sum(denominator) over questions; both are 0 where there is no verdict."""

    ids: tuple[str, ...]
    numerator: Array
    denominator: Array
    scale: float = 100.0

    @classmethod
    def of_sums(cls, questions: Sequence[Question], values: Sequence[Sequence[float]], scale: float = 100.0) -> Ratio:
        """The mean over all values, some number of them per question."""
        sums, sizes = (np.array([measure(row) for row in values], dtype=float) for measure in (sum, len))
        return cls(tuple(question.id for question in questions), sums, sizes, scale)

    @property
    def value(self) -> float | None:
        """``None`` when no question counts."""
        total = float(self.denominator.sum())
        return None if total == 0 else self.scale * float(self.numerator.sum()) / total

    @property
    def scored_count(self) -> int:
        return int((self.denominator > 0).sum())

    def replicates(self, count: int, seed: int) -> tuple[float, ...]:
        """The estimate on resampled questions; empty when some resample would hold no scored question."""
        if count == 0 or not self.scored_count:
            return ()
        weights = resample_counts(len(self.ids), count, seed)
        denominators = weights @ self.denominator
        # A resample without any verdict has no ratio; leaving it out would bias the interval.
        if (denominators == 0).any():
            return ()
        return tuple((self.scale * (weights @ self.numerator) / denominators).tolist())

    def contributions(self) -> dict[str, float]:
        """Per scored question estimate + (num - estimate * den) / mean(den): their spread is the estimate's error."""
        value = self.value
        if value is None:
            return {}
        has_weight = self.denominator > 0
        centre = float(self.denominator[has_weight].mean())
        # First-order (delta method): what the estimate moves when one question weighs a little more.
        linear = value + self.scale * (self.numerator - value / self.scale * self.denominator) / centre
        return {name: float(value) for name, value, counts in zip(self.ids, linear, has_weight, strict=True) if counts}


@lru_cache(maxsize=4)
def resample_counts(n: int, replicates: int, seed: int) -> Array:
    """[replicates, n] how often each question is drawn, the same for all models."""
    picks = resamples(n, replicates, seed) + n * np.arange(replicates)[:, None]
    counts: Array = np.bincount(picks.ravel(), minlength=n * replicates).reshape(replicates, n).astype(float)
    counts.setflags(write=False)  # the cached array is handed to every model
    return counts


def ratio_score(metric: str, ratio: Ratio, replicates: int, seed: int, note: str, detail: Detail) -> Score:
    draws = ratio.replicates(replicates, seed)
    low, high = percentile_interval(draws, ratio.scored_count) if draws else (None, None)
    notes = [note] if note else []
    if ratio.value is None:
        counts = {name.removeprefix(MISSING): count for name, count in detail.items() if name.startswith(MISSING)}
        reasons = [f"{count:.0f} x {reason}" for reason, count in counts.items()]
        notes.append("no question has a verdict" + (f": {', '.join(reasons)}" if reasons else ""))
    elif replicates and not draws:
        notes.append("no interval: so few questions have a verdict that some resamples hold none")
    return Score(
        metric, ratio.value, low, high, ratio.scored_count, len(ratio.ids) - ratio.scored_count, "; ".join(notes),
        ratio.contributions(), draws, detail,
    )  # fmt: skip


def hostile_counts(answers: Sequence[Answer]) -> Detail:
    """``injection``: answers that speak to the judge, and by kind (``injection:label``); empty when there are none."""
    kinds = [{kind for kind, pattern in HOSTILE.items() if any(map(pattern.search, a.turns))} for a in answers]
    counts: Detail = {"injection": float(sum(map(bool, kinds)))}
    counts |= {f"injection:{kind}": float(sum(kind in row for row in kinds)) for kind in HOSTILE}
    return {name: count for name, count in counts.items() if count}


def entrant_detail(questions: Sequence[Question], entrant: Entrant, needs_judge: bool = True) -> Detail:
    """Counts of answers and judgments, mean lengths over all turns, cut answers, weakly read verdicts by flag."""
    answers, judgments = [answer for _, answer in pair_answers(questions, entrant.answers)], entrant.judgments
    detail: Detail = {"answers": float(len(answers))}
    if answers:
        spoken = [answer for answer in answers if not answer.absence]
        detail["mean_length"] = fmean(sum(map(len, answer.turns)) for answer in spoken) if spoken else 0.0
        if all(answer.finished for answer in answers):  # imported answers come without
            detail["truncated"] = fmean(float(not all(answer.finished)) for answer in answers)
        detail |= hostile_counts(answers) if needs_judge else {}
    missing_count = sum(judgment.verdict is None for judgment in judgments)
    detail |= {"judgments": float(len(judgments)), "judgments_missing": float(missing_count)}
    reasons = Counter(judgment.reason for judgment in judgments if judgment.verdict is None)
    # the commonest: a reason may quote a reply, and then each is another
    detail |= {f"{MISSING}{reason}": float(count) for reason, count in reasons.most_common(_MOST_REASONS)}
    thinking_counts = {
        "thinking:answers": sum(any(answer.thinking) for answer in answers),
        "thinking:replies": sum(bool(judgment.thinking) for judgment in judgments),
    }
    detail |= {name: float(count) for name, count in thinking_counts.items() if count}
    masses = [float(judgment.meta["mass"]) for judgment in judgments if "mass" in judgment.meta]
    detail |= {"mean_mass": fmean(masses)} if masses else {}
    for flag in sorted({flag for judgment in judgments for flag in judgment.flags}):
        detail[f"flag:{flag}"] = float(sum(flag in judgment.flags for judgment in judgments))
    return detail
