"""What the chat benchmarks share: picking questions, asking all turns, collecting verdicts, resampling questions.

The question is the unit of every interval (Miller 2024, arXiv 2411.00640): a benchmark turns its verdicts into one
numerator and one denominator per question, and everything here is the ratio of their sums. A question without a
verdict has denominator 0: it is counted, and neither 0 nor 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Literal

from harness.contracts.benchmark import Entrant, QuestionSetSize
from harness.contracts.model import GeneratesText, Sampling
from harness.errors import UserError
from harness.types import Answer, Judgment, Message, Question, Request, Response, Score
from judges.benchmarks.injection import hostile_counts

if TYPE_CHECKING:
    from harness.stats import Array

QuestionSet = Literal["pocket", "official"]
Split = Literal["test", "dev"]

ANSWER_FIELDS: tuple[str, ...] = ("questions", "split", "limit", "max_new_tokens", "temperature", "top_p")
"""Config fields that decide the answers of a chat benchmark."""
POCKET_TEMPERATURE = 1.0
"""Answers are draws from the model's own distribution: a greedy student shows little of what preferences change."""
POCKET_NEW_TOKENS = 64


def check_common(config: Any) -> None:
    """Rules that the configs of all benchmarks share. Raises ValueError with the field, the value and the rule."""
    if config.questions not in ("pocket", "official"):
        raise ValueError(f"questions must be pocket or official, got {config.questions!r}")
    if config.split not in ("test", "dev"):
        raise ValueError(f"split must be test or dev, got {config.split!r}")
    if config.questions == "official" and config.split == "dev":
        raise ValueError("split: dev is for pocket questions; the official sets have no development split")
    if config.limit is not None and config.limit < 1:
        raise ValueError(f"limit must be at least 1 (or null for all questions), got {config.limit}")
    for name in ("temperature", "judge_temperature"):
        heat = getattr(config, name, None)
        if heat is not None and not 0 <= heat < float("inf"):  # not of nan either
            raise ValueError(f"{name} must be a number of at least 0 (0 is greedy), got {heat}")
    if config.max_new_tokens is not None and config.max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {config.max_new_tokens}")
    if not 0 < config.top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {config.top_p}")
    for name in ("judge_max_tokens", "repeats"):
        if getattr(config, name, 1) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")


def sampling_of(config: Any, official: Sampling) -> Sampling:
    """How to sample answers: the config's own values, else pocket's, else the protocol's."""
    default = official if config.questions == "official" else Sampling(POCKET_NEW_TOKENS, POCKET_TEMPERATURE)
    return Sampling(
        default.max_new_tokens if config.max_new_tokens is None else config.max_new_tokens,
        default.temperature if config.temperature is None else config.temperature,
        config.top_p,
    )


def pocket_questions(benchmark: str, split: Split) -> list[Question]:
    """The questions of the embedded world, always the same ones."""
    return list(_pocket_questions(benchmark, split))


@cache
def _pocket_questions(benchmark: str, split: Split) -> tuple[Question, ...]:
    from harness.pocket import world

    source = world.test_questions if split == "test" else world.dev_questions
    return tuple(
        Question(
            each.id, each.turns, each.category, each.baseline, each.reference,
            {} if each.number is None else {"number": each.number},
        )
        for each in source(benchmark)
    )  # fmt: skip


def official_size(config: Any, size: QuestionSetSize | None) -> QuestionSetSize | None:
    """``size`` of the official questions, up to the limit; ``None`` for pocket's, and with a baseline of the user's."""
    if size is None or config.questions != "official" or getattr(config, "baseline", None) is not None:
        return None
    return size if config.limit is None else replace(size, questions=min(config.limit, size.questions))


def take(questions: Sequence[Question], benchmark: str, limit: int | None) -> list[Question]:
    """``limit`` questions in their own order: those whose ids hash lowest, so a larger limit holds a smaller one."""
    if limit is None or limit >= len(questions):
        return list(questions)

    def rank(question: Question) -> str:
        return hashlib.sha256(f"{benchmark}/{question.id}".encode()).hexdigest()

    kept = {question.id for question in sorted(questions, key=rank)[:limit]}
    return [question for question in questions if question.id in kept]


OTHER_BASELINE = "The baseline is a given answer file, not the protocol's: a head-to-head comparison, not official."


def against(questions: list[Question], baseline: str | None, benchmark: str) -> list[Question]:
    """The questions with the answers of another baseline, where one is named (a path). Raises UserError."""
    if baseline is None:
        return questions
    from judges.formats import with_baseline

    return with_baseline(questions, baseline, benchmark)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON lines file. Raises UserError naming the line that is not JSON."""
    rows = []
    # not str.splitlines: some answers hold U+2028, which is no line end in JSON lines
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
                raise UserError(f"{path}, line {number}: not JSON ({error})") from error
    return rows


def fill(template: str, values: Mapping[str, str]) -> str:
    """``template`` with each ``{name}`` replaced by its value. Values are never read as templates.

    An official template holds other braces, and an answer may hold ``{answer_2}``: the template is cut at its own
    names and joined once, so no value is looked at again.
    """
    import re

    pieces = re.split("(" + "|".join(re.escape("{" + name + "}") for name in values) + ")", template)
    return "".join(values[piece[1:-1]] if index % 2 else piece for index, piece in enumerate(pieces))


def ask(
    model: GeneratesText, questions: Sequence[Question], sampling: Callable[[Question], Sampling], seed: int
) -> list[Answer]:
    """Ask all turns of all questions, one call per turn and sampling; later turns see the model's earlier answers."""
    said: list[list[Response]] = [[] for _ in questions]
    talks: list[list[Message]] = [[] for _ in questions]
    for turn in range(max((len(question.turns) for question in questions), default=0)):
        groups: dict[Sampling, list[int]] = {}
        for index, question in enumerate(questions):
            if turn < len(question.turns):
                groups.setdefault(sampling(question), []).append(index)
                talks[index].append({"role": "user", "content": question.turns[turn]})
        for number, (how, members) in enumerate(groups.items()):
            replies = model.generate([talks[index] for index in members], how, seed + 1000 * turn + number)
            for index, reply in zip(members, replies, strict=True):
                said[index].append(reply[0])
                talks[index].append({"role": "assistant", "content": reply[0].text})
    return [
        Answer(
            question.id,
            tuple(response.text for response in responses),
            tuple(response.finished for response in responses),
            tuple(response.tokens for response in responses),
        )
        for question, responses in zip(questions, said, strict=True)
    ]


def repeated(requests: Sequence[Request], repeats: int) -> list[Request]:
    """Each request ``repeats`` times, keyed apart by its repeat index."""
    return [replace(request, repeat=number) for request in requests for number in range(repeats)]


def verdicts(judgments: Sequence[Judgment], combine: Literal["mean", "median"] = "mean") -> dict[str, dict[str, float]]:
    """Question to part to verdict, repeats combined; parts without a verdict are left out."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for judgment in judgments:
        if judgment.verdict is not None:
            parts = found.setdefault(judgment.question, {})
            parts.setdefault(judgment.part, {})[judgment.repeat] = judgment.verdict
    join = fmean if combine == "mean" else median
    return {
        question: {part: float(join(values.values())) for part, values in parts.items()}
        for question, parts in found.items()
    }


@dataclass(frozen=True)
class Ratio:
    """``scale`` times sum(numerator) / sum(denominator) over questions, ready to be resampled."""

    ids: tuple[str, ...]
    numerator: Array
    """One per question; 0 where there is no verdict."""
    denominator: Array
    """Weight of the question; 0 where there is no verdict."""
    scale: float = 100.0

    @property
    def value(self) -> float | None:
        """The estimate; ``None`` when no question counts."""
        total = float(self.denominator.sum())
        return None if total == 0 else self.scale * float(self.numerator.sum()) / total

    @property
    def scored(self) -> int:
        """Questions that count."""
        return int((self.denominator > 0).sum())

    def replicates(self, count: int, seed: int) -> tuple[float, ...]:
        """The estimate on resampled questions; empty when some resample would hold no scored question."""
        if count == 0 or not self.scored:
            return ()
        weights = resample_counts(len(self.ids), count, seed)
        below = weights @ self.denominator
        if (below == 0).any():
            return ()
        return tuple((self.scale * (weights @ self.numerator) / below).tolist())

    def contributions(self) -> dict[str, float]:
        """Per scored question its linearised contribution: their mean is the estimate, their spread its error.

        For equal weights this is the question's own score; else estimate + (num - estimate * den) / mean(den).
        """
        value = self.value
        if value is None:
            return {}
        counted = self.denominator > 0
        centre = float(self.denominator[counted].mean())
        ratio = value / self.scale
        linear = value + self.scale * (self.numerator - ratio * self.denominator) / centre
        return {name: float(each) for name, each, here in zip(self.ids, linear, counted, strict=True) if here}


@lru_cache(maxsize=4)
def resample_counts(n: int, replicates: int, seed: int) -> Array:
    """[replicates, n] how often each question is drawn: ``stats.resamples`` as weights, shared by all models."""
    import numpy as np

    from harness.stats import resamples

    picks = resamples(n, replicates, seed) + n * np.arange(replicates)[:, None]
    counts: Array = np.bincount(picks.ravel(), minlength=n * replicates).reshape(replicates, n).astype(float)
    counts.setflags(write=False)
    return counts


def ratio_score(
    metric: str, ratio: Ratio, replicates: int, seed: int, note: str, detail: Mapping[str, float | str]
) -> Score:
    """A Score of a ratio with its percentile interval over questions."""
    from harness.stats import percentile_interval

    draws = ratio.replicates(replicates, seed)
    low, high = percentile_interval(draws, ratio.scored) if draws else (None, None)
    notes = [note] if note else []
    if ratio.value is None:
        notes.append("no question has a verdict")
    elif replicates and not draws:
        notes.append("no interval: so few questions have a verdict that some resamples hold none")
    return Score(
        metric, ratio.value, low, high, ratio.scored, len(ratio.ids) - ratio.scored, "; ".join(notes),
        ratio.contributions(), draws, dict(detail),
    )  # fmt: skip


def answer_detail(questions: Sequence[Question], entrant: Entrant, judged: bool = True) -> dict[str, float | str]:
    """Mean answer length (characters, all turns), truncation rate (share of answers cut at the limit), answers.

    Where a model judges, also how many answers speak to it (``judges.benchmarks.injection``).
    """
    asked = {question.id for question in questions}
    answers = [answer for answer in entrant.answers if answer.question in asked]
    if not answers:
        return {"answers": 0.0}
    detail: dict[str, float | str] = {
        "answers": float(len(answers)),
        "mean_length": fmean(sum(map(len, answer.turns)) for answer in answers),
    }
    if all(answer.tokens for answer in answers):  # answers made elsewhere come without
        detail["mean_tokens"] = fmean(sum(answer.tokens) for answer in answers)
    if all(answer.finished for answer in answers):
        detail["truncated"] = fmean(float(not all(answer.finished)) for answer in answers)
    return detail | (hostile_counts(answers) if judged else {})


def reasons(judgments: Sequence[Judgment]) -> dict[str, float | str]:
    """How many judgments gave no verdict, and how many were read in a weaker way, by flag."""
    missing = [judgment for judgment in judgments if judgment.verdict is None]
    found: dict[str, float | str] = {"judgments": float(len(judgments)), "judgments_missing": float(len(missing))}
    for flag in sorted({flag for judgment in judgments for flag in judgment.flags}):
        found[f"flag:{flag}"] = float(sum(flag in judgment.flags for judgment in judgments))
    return found


def text_hash(texts: Sequence[str]) -> str:
    """First 12 hex digits of the sha256 over texts, each closed by a zero byte."""
    return hashlib.sha256("".join(text + "\0" for text in texts).encode()).hexdigest()[:12]


def pairs(questions: Sequence[Question], entrant: Entrant) -> Iterator[tuple[Question, Answer]]:
    """Questions with this entrant's answer, for those that have one."""
    answers = {answer.question: answer for answer in entrant.answers}
    return ((question, answers[question.id]) for question in questions if question.id in answers)
