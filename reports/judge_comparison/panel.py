"""The judgments of several judges on the same answers, as one frame, and the bootstrap that all their numbers share.
Verdicts of comparisons lie in 0..1 (1: the model's answer is better, 0.5: a tie); grades keep their scale. An *item* is
one answer (or turn) of one row under one training seed. The question is the unit of every interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.stats import Array, Draws, percentile_interval, resamples
from harness.text import times
from reports.tables.summary import Comparison

Pair = tuple[str, str]
ONE_ORDER, BOTH_ORDERS, ONCE = "one order", "both orders", "once"  # how judges can be asked (``Panel.askings``)
ITEM = ["benchmark", "row", "seed", "question", "turn"]  # names an item; ``turn``: the baseline if annotations name one
FEATURES = ["length", "words", "quality", "same"]
"""Answer minus baseline (grades: the answer alone), NaN if missing: characters, words, true score (pocket), same."""
JUDGMENT = ["judge", *ITEM, "part", "repeat", "model_first", "verdict", *FEATURES]
"""``model_first``: 1.0 or 0.0 for comparisons, NaN for grades or where unknown; ``verdict``: NaN if unparsed."""


def judgment_frame(lines: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(lines), columns=JUDGMENT)
    return frame.astype({"repeat": int, "seed": int, **dict.fromkeys(["model_first", "verdict", *FEATURES], float)})


@dataclass(frozen=True)
class JudgeProfile:
    model: str = ""
    own_rows: tuple[str, ...] = ()  # rows whose answers are by the judge's own family, or distilled from it
    dollars: float | None = None  # price of a thousand calls; ``None``: unknown
    tokens: float | None = None  # tokens read and written per call; ``None``: unknown
    length_words: float | None = None  # words at which a stated length bias reaches tanh(1)

    def cost(self, calls: int) -> float | None:
        return None if self.dollars is None else self.dollars * calls / 1000


@dataclass(frozen=True)
class RowScore:
    draws: Draws  # per training seed; replicate b has the same questions in all rows and judges
    questions: int  # scored, in the seed that has fewest
    coverage: float = 1.0  # share of the questions


Scores = Mapping[str, Mapping[str, RowScore]]  # judge to row to score, by one metric


@dataclass(frozen=True)
class Panel:
    judgments: pd.DataFrame
    paired: Mapping[str, bool]  # benchmark: compares with a baseline; else grades
    judges: Mapping[str, JudgeProfile]  # in the user's order: the first one's conclusions are checked with the others
    scores: Mapping[str, Scores] = field(default_factory=dict)  # by metric, the benchmark's own; empty: mean verdicts
    comparisons: Sequence[Sequence[Pair]] = ()  # families of Holm's correction; empty: all pairs of rows
    own: Mapping[str, Mapping[Pair, Comparison]] = field(default_factory=dict)  # tests of the run's table
    titles: Mapping[str, str] = field(default_factory=dict)  # of rows, benchmarks, metrics
    teacher: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()
    one_order: frozenset[str] = frozenset()  # benchmarks that can be asked in one order alone

    @cached_property
    def askings(self) -> dict[str, int]:
        """How a judge can be asked about these answers, without repeats, and the calls that it takes."""
        lines = self.judgments[self.judgments["repeat"] == 0]
        has_one_order = lines["benchmark"].isin(self.one_order)
        in_one_order = [lines[~has_one_order], lines[has_one_order].drop_duplicates(["judge", *ITEM])]
        single, both = (
            int(calls.groupby(["benchmark", "judge"]).size().groupby("benchmark").max().sum())
            for calls in (pd.concat(in_one_order), lines)
        )
        if single < both:
            return {ONE_ORDER: single, BOTH_ORDERS: both}
        return {BOTH_ORDERS if lines["model_first"].notna().any() else ONCE: both}

    def asked(self, benchmark: str) -> str:
        """How the judges were asked here: ``in both orders twice``."""
        lines = self.judgments_of(benchmark)
        orders = "in both orders " if lines["model_first"].nunique() > 1 else ""
        return orders + times(int(lines["repeat"].max()) + 1)

    @property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(self.judgments["benchmark"]))

    def judgments_of(self, benchmark: str, judge: str | None = None) -> pd.DataFrame:
        mask = self.judgments["benchmark"] == benchmark
        return self.judgments[mask if judge is None else mask & (self.judgments["judge"] == judge)]

    def matrix(self, benchmark: str, asking: str = "") -> pd.DataFrame:
        """[items, judges] mean verdicts, NaN for none; without rows compared with themselves (ties by construction).
        ``asking``: each time that an item was asked in this way is a line, numbered by the index level ``call``."""
        lines, index = self.judgments_of(benchmark), [*ITEM, "call"] if asking else ITEM
        is_in_one_order = asking == ONE_ORDER and benchmark in self.one_order
        call = lines["repeat"] + (0.5 * lines["model_first"].fillna(0.0) if is_in_one_order else 0.0)
        table = lines.assign(call=call).groupby([*index, "judge"])["verdict"].mean().unstack("judge")
        table = table[table.index.get_level_values("row") != table.index.get_level_values("turn")]
        return table[[judge for judge in self.judges if judge in table.columns]]


class Share(NamedTuple):
    """A share (or ratio) of ``n`` things with its 95% interval; ``None`` where nothing was counted."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


@dataclass(frozen=True)
class Number:
    """One number of a comparison: a line of ``judges.csv``."""

    measure: str  # ``agreement``, ``kappa``, ``unparsed``, ``flips``, ``length``, ``score``, ``accuracy``, ...
    on: str  # benchmark or metric; empty: all that compare answers
    judge: str
    other: str = ""  # the second judge of a pair
    row: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None  # 95% interval; ``None`` from one question
    n: int = 0
    rank: int = 0  # from 1; equal scores share the best rank
    unit: str = ""
    asking: str = ""  # of an accuracy: of one such asking (``Panel.askings``); empty: of all calls together
    given: str = ""  # what quality is in a bias
    per: str = ""  # what ``length`` is the effect of: ``tanh(words / 10)``
    p: float | None = None  # after Holm: of a bias over the judge's on this benchmark, of a difference as in the tables
    against: str = ""  # of a difference: the row that is subtracted
    verdict: str = ""  # of a difference that is a conclusion: significant (its source), confirmed, ...


class QuestionBootstrap:
    """Resamples of one set of questions, the same for all statistics, so that their differences are paired."""

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

    def ratio(self, numerators: Array, denominators: Array, questions: Sequence[str]) -> tuple[Share, Array]:
        """The ratio of two sums over lines, and its replicates [B] (NaN in a resample without any line)."""
        total = float(denominators.sum())
        if total == 0:
            return Share(), np.full(len(self.weights), np.nan)
        top, bottom = self.sums(np.column_stack([numerators, denominators]).astype(float), questions).T
        with np.errstate(invalid="ignore", divide="ignore"):
            replicates = top / bottom
        used_questions = len({name for name, weight in zip(questions, denominators, strict=True) if weight})
        interval = interval_bounds(replicates, used_questions)
        return Share(float(numerators.sum()) / total, *interval, int(total)), replicates

    def mean(self, values: Array, questions: Sequence[str]) -> Share:
        is_valid = ~np.isnan(values)
        return self.ratio(np.where(is_valid, values, 0.0), is_valid.astype(float), questions)[0]


def interval_bounds(replicates: Array, questions: int) -> tuple[float | None, float | None]:
    """The interval of replicates, NaN left out; none from one question, which says nothing about others."""
    values = replicates[~np.isnan(replicates)]
    return (
        percentile_interval(values, questions) if questions > 1 and 2 * len(values) > len(replicates) else (None, None)
    )
