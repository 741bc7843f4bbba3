"""The judgments of several judges on the same answers, as one frame, and the bootstrap that all their numbers share.

A verdict of a comparison lies in 0..1 (1: the model's answer is better than the baseline's, 0.5: a tie); a grade keeps
its own scale. An *item* is what judges are compared on: one answer (one turn of it, where turns are judged apart) of
one row under one training seed. The question is the unit of every interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.stats import Array, Draws, percentile_interval, resamples

Pair = tuple[str, str]
ITEM = ["benchmark", "row", "seed", "question", "turn"]
"""Columns that name an item. ``turn`` is the baseline where annotations name one."""
FEATURES = ["length", "words", "quality", "same"]
"""Of an item: answer minus baseline (grades: the answer's own value), NaN where the texts are missing. ``length`` in
characters; ``quality``: the true score, where it is known (pocket); ``same``: 1 where answer and baseline are
identical."""
JUDGMENT = ["judge", *ITEM, "part", "repeat", "model_first", "verdict", *FEATURES]
"""Columns of a judgment. ``model_first``: 1.0 or 0.0 for comparisons, NaN for grades or where it is unknown.
``verdict``: NaN if unparsed."""


def judgment_frame(lines: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """One line per judgment, columns ``JUDGMENT``."""
    frame = pd.DataFrame(list(lines), columns=JUDGMENT)
    return frame.astype({"repeat": int, "seed": int, **dict.fromkeys(["model_first", "verdict", *FEATURES], float)})


@dataclass(frozen=True)
class JudgeProfile:
    """What is known of a judge besides its verdicts."""

    model: str = ""
    own_rows: tuple[str, ...] = ()
    """Rows whose answers are by the judge's own family, or distilled from it."""
    dollars: float | None = None
    """Price of a thousand calls; ``None``: unknown."""
    tokens: float | None = None
    """Tokens read and written per call; ``None``: unknown."""
    length_words: float | None = None
    """For a judge with a stated length bias: the difference in words at which the bias reaches tanh(1)."""


@dataclass(frozen=True)
class RowScore:
    """A row's score by one judge."""

    draws: Draws
    """Scores per training seed with bootstrap replicates; replicate b has the same questions in all rows and judges."""
    questions: int
    """Scored questions, in the seed that has fewest."""
    coverage: float = 1.0
    """Share of the questions that are scored."""


Scores = Mapping[str, Mapping[str, RowScore]]
"""Judge to row to score, by one metric."""


@dataclass(frozen=True)
class Panel:
    """The judgments of several judges on the same answers, and what is known of judges and rows."""

    judgments: pd.DataFrame
    paired: Mapping[str, bool]
    """Benchmark to whether its verdicts are comparisons with a baseline; otherwise they are grades."""
    judges: Mapping[str, JudgeProfile]
    """In the user's order: conclusions of the first judge are checked with the others."""
    scores: Mapping[str, Scores] = field(default_factory=dict)
    """Metric to scores by the benchmark's own scorer. Empty: mean verdicts are used."""
    comparisons: Sequence[Sequence[Pair]] = ()
    """Rows that the run's tables compare, a family of Holm's correction each; empty: all pairs of rows."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Row, benchmark or metric to its title (``AlpacaEval 2 LC``)."""
    teacher: str = ""
    """The run's teacher, as its recipe names it."""
    source: str = ""
    """For captions: ``run pocket``."""
    notes: tuple[str, ...] = ()

    @property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(self.judgments["benchmark"]))

    def of(self, benchmark: str, judge: str | None = None) -> pd.DataFrame:
        chosen = self.judgments["benchmark"] == benchmark
        return self.judgments[chosen if judge is None else chosen & (self.judgments["judge"] == judge)]

    def matrix(self, benchmark: str) -> pd.DataFrame:
        """[items, judges] mean verdict over orders and repeats, NaN where there is none. Index: ``ITEM``.

        A row that is compared with itself is left out: every verdict is a tie by construction.
        """
        table = self.of(benchmark).groupby([*ITEM, "judge"])["verdict"].mean().unstack("judge")
        table = table[table.index.get_level_values("row") != table.index.get_level_values("turn")]
        return table[[judge for judge in self.judges if judge in table.columns]]


class Share(NamedTuple):
    """A share (or another ratio) of ``n`` things with its 95% interval; ``None`` where nothing was counted."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


@dataclass(frozen=True)
class Number:
    """One number of a comparison: a line of ``judges.csv``."""

    measure: str
    """``agreement``, ``kappa``, ``unparsed``, ``repeats differ``, ``flips``, ``flips beyond noise``, ``position``,
    ``length``, ``own``, ``score``, ``rank correlation``, ``accuracy`` or ``reference kappa``."""
    on: str
    """Benchmark or metric id; empty: all that compare answers."""
    judge: str
    other: str = ""
    """The second judge of a pair."""
    row: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """95% interval; ``None`` from one question, which tells nothing about others."""
    n: int = 0
    rank: int = 0
    """From 1; equal scores share the best rank."""
    unit: str = ""
    given: str = ""
    """What quality is in a bias."""
    per: str = ""
    """What ``length`` is the effect of: ``tanh(words / 10)``."""
    p: float | None = None
    """Of a bias, after Holm's correction over this judge's biases on this benchmark."""


class QuestionBootstrap:
    """Resamples of one set of questions. All statistics use the same resamples, so their differences are paired."""

    def __init__(self, questions: Iterable[str], replicates: int, seed: int) -> None:
        # Sorted, so that the order of the judgments changes no interval.
        self.places = {name: place for place, name in enumerate(sorted(set(questions)))}
        count = len(self.places)
        # One bincount over shifted indices counts the draws of every question in every replicate at once.
        picks = resamples(max(count, 1), replicates, seed)[:, :count] + count * np.arange(replicates)[:, None]
        counts = np.bincount(picks.ravel(), minlength=count * replicates)
        self.weights: Array = counts.reshape(replicates, count).astype(float)

    def sums(self, values: Array, questions: Iterable[str]) -> Array:
        """[lines, k] values with the question of each line -> [replicates, k] sums in each resample."""
        grid = np.zeros((len(self.places), values.shape[1]))
        np.add.at(grid, [self.places[name] for name in questions], values)
        return np.asarray(self.weights @ grid)

    def ratio(self, above: Array, below: Array, questions: Sequence[str]) -> tuple[Share, Array]:
        """The ratio of two sums over lines, and its replicates [B] (NaN in a resample without any line)."""
        total = float(below.sum())
        if total == 0:
            return Share(), np.full(len(self.weights), np.nan)
        top, bottom = self.sums(np.column_stack([above, below]).astype(float), questions).T
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = top / bottom
        several = len({name for name, weight in zip(questions, below, strict=True) if weight})
        return Share(float(above.sum()) / total, *bounds(drawn, several), int(total)), drawn

    def mean(self, values: Array, questions: Sequence[str]) -> Share:
        """The mean of the values that are not NaN."""
        known = ~np.isnan(values)
        return self.ratio(np.where(known, values, 0.0), known.astype(float), questions)[0]


def bounds(drawn: Array, questions: int) -> tuple[float | None, float | None]:
    """The interval of replicates, NaN left out; none from one question, which says nothing about others."""
    known = drawn[~np.isnan(drawn)]
    return percentile_interval(known, questions) if questions > 1 and len(known) > len(drawn) / 2 else (None, None)
