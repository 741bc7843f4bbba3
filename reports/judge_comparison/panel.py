"""The verdicts of several judges on the same answers, and the bootstrap over questions that all their numbers share.

A verdict of a comparison lies in 0..1 (1: the model's answer is better than the baseline's, 0.5: a tie); a grade keeps
its own scale. An *item* is what judges are compared on: one answer (one turn of it, where turns are judged apart) of
one row under one training seed. The question is the unit of every interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from harness.stats import Array, Draws, Interval, percentile_interval, resamples

ITEM = ["row", "seed", "question", "turn"]
"""Columns that name an item within a benchmark."""
CALLS = ["judge", "benchmark", *ITEM, "part", "repeat", "model_first", "verdict"]
"""``model_first``: 1.0 or 0.0 for comparisons, NaN for grades or where it is unknown. ``verdict``: NaN if unparsed."""
FEATURES = ("length", "words", "quality", "same")
"""Columns of ``items``: answer minus baseline (grades: the answer's own value), NaN where the texts are missing.
``length`` in characters; ``quality``: the true score, where it is known (pocket); ``same``: 1 where answer and baseline
are identical."""


@dataclass(frozen=True)
class JudgeProfile:
    """What is known of a judge besides its verdicts."""

    model: str = ""
    family: str = ""
    """Model family in lower case (``llama``); empty where the name does not tell."""
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

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(self.draws.values.mean())


@dataclass(frozen=True)
class Panel:
    """The verdicts of several judges on the same answers."""

    calls: pd.DataFrame
    """Columns ``CALLS``."""
    items: pd.DataFrame
    """Columns ``benchmark``, ``ITEM``, ``FEATURES``."""
    paired: Mapping[str, bool]
    """Benchmark to whether its verdicts are comparisons with a baseline; otherwise they are grades."""
    judges: Mapping[str, JudgeProfile]
    """In the user's order: conclusions of the first judge are checked with the others."""
    scores: Mapping[str, Mapping[str, Mapping[str, RowScore]]] = field(default_factory=dict)
    """Metric to judge to row, by the benchmark's own scorer. Empty: mean verdicts are used."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Row id to title."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Benchmark or metric id to title (``AlpacaEval 2 LC``)."""
    reference: str = ""
    """The row that trained rows are compared with (the untrained student); empty: all pairs of rows are compared."""
    baselines: tuple[str, ...] = ()
    """Rows that are not trained; no conclusion is about them."""
    focus: str = ""
    """The trained row that the run's tables compare with all others; empty: none."""
    teacher: str = ""
    """The run's teacher, as its recipe names it."""
    source: str = ""
    """For captions: ``run pocket``."""
    notes: tuple[str, ...] = ()

    @property
    def benchmarks(self) -> list[str]:
        """Benchmarks with calls, in order."""
        return list(dict.fromkeys(self.calls["benchmark"]))

    def of(self, benchmark: str, judge: str | None = None) -> pd.DataFrame:
        """The calls on a benchmark, by one judge or all."""
        calls = self.calls[self.calls["benchmark"] == benchmark]
        return calls if judge is None else calls[calls["judge"] == judge]

    def matrix(self, benchmark: str) -> pd.DataFrame:
        """[items, judges] mean verdict over orders and repeats, NaN where there is none. Index: ``ITEM``.

        A row that is compared with itself is left out: every verdict is a tie by construction.
        """
        table = self.of(benchmark).groupby([*ITEM, "judge"])["verdict"].mean().unstack("judge")
        table = table[table.index.get_level_values("row") != table.index.get_level_values("turn")]
        return table[[judge for judge in self.judges if judge in table.columns]]


def calls_frame(records: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Calls from records with the columns of ``CALLS``."""
    frame = pd.DataFrame(list(records), columns=CALLS)
    return frame.astype({"verdict": float, "model_first": float, "repeat": int, "seed": int})


@dataclass(frozen=True)
class Share:
    """A share in 0..1 of ``n`` things with its 95% interval; ``None`` where nothing could be counted."""

    value: float | None = None
    interval: Interval | None = None
    n: int = 0


class QuestionBootstrap:
    """Resamples of one set of questions. All statistics use the same resamples, so their differences are paired."""

    def __init__(self, questions: Sequence[Any], replicates: int, seed: int) -> None:
        self.places = {name: place for place, name in enumerate(sorted(set(questions)))}
        count = len(self.places)
        # One bincount over shifted indices counts the draws of every question in every replicate at once.
        picks = (
            resamples(count, replicates, seed) + count * np.arange(replicates)[:, None] if count else np.empty(0, int)
        )
        counts = np.bincount(picks.ravel(), minlength=count * replicates)
        self.weights: Array = counts.reshape(replicates, count).astype(float)

    def sums(self, values: Array, questions: Sequence[Any]) -> Array:
        """[lines, k] values with the question of each line -> [replicates, k] sums in each resample."""
        grid = np.zeros((len(self.places), values.shape[1]))
        np.add.at(grid, [self.places[name] for name in questions], values)
        return np.asarray(self.weights @ grid)

    def ratio(self, above: Array, below: Array, questions: Sequence[Any]) -> tuple[Share, Array]:
        """The ratio of two sums over lines, and its replicates [B] (NaN in a resample without any line)."""
        total = float(below.sum())
        if total == 0:
            return Share(), np.full(len(self.weights), np.nan)
        top, bottom = self.sums(np.column_stack([above, below]).astype(float), questions).T
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = top / bottom
        several = len({name for name, weight in zip(questions, below, strict=True) if weight})
        return Share(float(above.sum()) / total, interval_of(drawn, several), int(total)), drawn


def interval_of(drawn: Array, questions: int) -> Interval | None:
    """The interval of replicates, NaN left out; ``None`` from one question, which says nothing about others."""
    known = drawn[~np.isnan(drawn)]
    return percentile_interval(known, questions) if questions > 1 and len(known) > len(drawn) / 2 else None
