"""What all judges said about the same answers, as two frames: one line per judge call, one per judged answer.

A verdict of a comparison lies in 0..1 (1: the model's answer is better than the baseline's, 0.5: a tie); a grade keeps
its own scale. ``question`` is the cluster of every interval; ``item`` is what judges are compared on: one answer (one
turn of it, where turns are judged apart) of one model under one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.stats import Array, Draws, resamples

Codes = NDArray[np.int64]
"""Cluster numbers, one per line."""

ITEM = ["row", "seed", "question", "turn"]
"""Columns that name an item within a benchmark."""
CALLS = ["judge", "benchmark", *ITEM, "part", "repeat", "model_first", "verdict"]
"""``model_first``: 1.0 or 0.0 for comparisons, NaN for grades or where it is not known. ``verdict``: NaN: unparsed."""
FEATURES = ("length", "words", "lists", "markdown", "quality", "same")
"""Columns of ``items``: answer less baseline (grades: the answer's own), NaN where texts are not at hand. ``length`` in
characters; ``lists`` and ``markdown`` 1 where the answer has some; ``quality``: the truth, where it is known;
``same``: 1 where answer and baseline are word for word the same."""


@dataclass(frozen=True)
class Facts:
    """What is known of a judge besides its verdicts."""

    model: str = ""
    """The model that it says it is."""
    family: str = ""
    """Model family, lower case: ``llama``; empty where the name does not tell."""
    own: tuple[str, ...] = ()
    """Rows whose answers are by its own family (or taught by it)."""
    dollars: float | None = None
    """Price of a thousand calls; ``None``: not known."""
    seconds: float | None = None
    """Wall time of a thousand calls, asked as this run asks; ``None``: not measured (all replies were stored)."""
    length_words: float | None = None
    """Of a judge whose biases are stated: difference in words at which its length bias reaches tanh 1."""


@dataclass(frozen=True)
class Estimate:
    """A number per judge and row with its bootstrap replicates (replicate b: the same questions for all)."""

    value: float
    replicates: Array
    """[B]; NaN where a resample has nothing of this row."""
    questions: int | None = None
    """How many are behind it, in the seed that has fewest; ``None``: not known."""
    seeds: Draws | None = None
    """The same by training seed; ``None``: there is one, or none."""
    covered: float = 1.0
    """Share of the questions that are scored."""

    @property
    def draws(self) -> Draws:
        """As ``stats.contrast`` takes it."""
        return self.seeds or Draws(np.array([self.value]), self.replicates[None, :], trained=False)


@dataclass(frozen=True)
class Panel:
    """The verdicts of several judges on the same answers."""

    calls: pd.DataFrame
    items: pd.DataFrame
    paired: Mapping[str, bool]
    """Benchmark to whether its verdicts are comparisons with a baseline (else grades)."""
    judges: Mapping[str, Facts]
    """In the order in which they were named: conclusions are checked against the first."""
    rates: Mapping[str, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
    """Metric to judge to row: scores by the benchmark's own scorer. Empty: plain means are used."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Row id to what tables call it."""
    reference: str = ""
    """The row that conclusions compare with (the untrained student); empty: all pairs of rows."""
    baselines: tuple[str, ...] = ()
    """Rows that are not trained here: no conclusion is about them."""
    source: str = ""
    """For captions: ``run pocket``."""
    notes: tuple[str, ...] = ()
    """Printed under every table."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Id of a benchmark or metric to what tables call it (``AlpacaEval 2 LC``)."""
    focus: str = ""
    """The trained row that the run's tables compare with every other trained row; empty: none."""
    teacher: str = ""
    """The run's teacher, as its recipe names it: a judge may be the same model."""
    passes: Mapping[str, int] = field(default_factory=dict)
    """Benchmark to the calls that it makes by itself for these answers; where it is missing, one for each part."""

    @property
    def benchmarks(self) -> list[str]:
        """Benchmarks that somebody judged, in order."""
        return list(dict.fromkeys(self.calls["benchmark"]))

    def of(self, benchmark: str, judge: str | None = None) -> pd.DataFrame:
        """The calls of a benchmark, of one judge or all."""
        calls = self.calls[self.calls["benchmark"] == benchmark]
        return calls if judge is None else calls[calls["judge"] == judge]

    def matrix(self, benchmark: str) -> pd.DataFrame:
        """[items, judges] mean verdict over orders and repeats, NaN where a judge gave none. Index: ``ITEM``."""
        table = self.of(benchmark).groupby([*ITEM, "judge"])["verdict"].mean().unstack("judge")
        return table[[judge for judge in self.judges if judge in table.columns]]

    def asked(self, benchmark: str) -> pd.DataFrame:
        """[items, judges] whether a judge was asked, with a verdict or not; the lines and columns of ``matrix``."""
        table = self.of(benchmark).groupby([*ITEM, "judge"]).size().unstack("judge").notna()
        return table[[judge for judge in self.judges if judge in table.columns]]


def frame(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Calls from records with the columns of ``CALLS``."""
    made = pd.DataFrame(list(rows), columns=CALLS)
    return made.astype({"verdict": float, "model_first": float, "repeat": int, "seed": int})


def clusters(questions: Any) -> tuple[Codes, int]:
    """(cluster number of each line, number of clusters): lines with the same question belong together."""
    codes, names = pd.factorize(pd.Index(questions), sort=True)
    return np.asarray(codes, dtype=np.int64), len(names)


def cluster_sums(values: Array, codes: Codes, count: int) -> Array:
    """[lines, k] -> [clusters, k]: sums within each cluster."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def draws(count: int, replicates: int, seed: int) -> Array:
    """[replicates, clusters] how often each cluster is drawn in each bootstrap resample."""
    picks = resamples(count, replicates, seed) + count * np.arange(replicates)[:, None]
    return np.bincount(picks.ravel(), minlength=count * replicates).reshape(replicates, count).astype(float)
