"""Do judges rank the rows alike, and do the run's conclusions hold under another judge?

Differences between rows are tested as the run's own tables test them: the same planned comparisons, training seeds
included (``harness.stats.contrast``), with Holm's correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from harness.stats import (
    FEW_QUESTIONS,
    Array,
    Draws,
    Interval,
    SeedNoise,
    contrast,
    holm,
    seed_noise,
    t_test,
)
from reports.judge_comparison.panel import QuestionBootstrap, RowScore, Share, interval_of
from reports.tables.summary import ALPHA, MIN_COVERAGE

Pair = tuple[str, str]
Verdict = Literal["holds", "holds in part", "does not hold", "nothing to check"]
_DIGITS = 9
"""Scores that differ by less are equal: they differ by rounding errors alone."""


@dataclass(frozen=True)
class RankedRow:
    """A row under one judge."""

    row: str
    value: float
    interval: Interval | None
    rank: int
    """From 1; equal values share the best rank."""


@dataclass(frozen=True)
class RankCorrelation:
    """Two judges' values of the rows that both scored."""

    a: str
    b: str
    spearman: Share
    """Over ``n`` rows; no value where all rows tie under one judge."""


@dataclass(frozen=True)
class Difference:
    """A significant difference between two rows under the first judge."""

    row: str
    other: str
    sign: int


@dataclass(frozen=True)
class ConclusionCheck:
    """What becomes of the first judge's significant differences under another judge."""

    judge: str
    first: str
    tested: int
    """Differences that the first judge could test; 0: too few questions, or too little scored."""
    confirmed: tuple[Difference, ...] = ()
    lost: tuple[Difference, ...] = ()
    """No longer significant."""
    reversed: tuple[Difference, ...] = ()
    """Significant with the opposite sign."""
    best: tuple[str, str] | None = None
    """The best row under the first and the other judge; ``None`` where rows tie for it."""

    @property
    def verdict(self) -> Verdict:
        """The check in a word."""
        if not (self.confirmed or self.lost or self.reversed):
            return "nothing to check"
        return "does not hold" if self.reversed else "holds in part" if self.lost else "holds"


def mean_scores(table: pd.DataFrame, scale: float, bootstrap: QuestionBootstrap) -> dict[str, dict[str, RowScore]]:
    """Judge to row to mean verdict x ``scale``, from a ``Panel.matrix``; missing verdicts are left out."""
    found: dict[str, dict[str, RowScore]] = {}
    for judge in table.columns:
        for row, verdicts in table[judge].groupby("row", sort=False):
            scored = verdicts.dropna()
            if len(scored):
                questions = list(scored.index.get_level_values("question"))
                share, drawn = bootstrap.ratio(scale * scored.to_numpy(float), np.ones(len(scored)), questions)
                draws = Draws(np.array([share.value]), drawn[None, :], trained=False)
                score = RowScore(draws, len(set(questions)), len(scored) / len(verdicts))
                found.setdefault(str(judge), {})[str(row)] = score
    return found


def ranking(scores: Mapping[str, RowScore]) -> tuple[RankedRow, ...]:
    """The rows, best first."""
    values = {row: round(score.value, _DIGITS) for row, score in scores.items()}
    noise = noise_of(scores)
    ordered = sorted(scores, key=lambda row: -values[row])
    return tuple(
        RankedRow(
            row, scores[row].value, _interval(scores[row], noise), 1 + sum(v > values[row] for v in values.values())
        )
        for row in ordered
    )


def best_row(ranked: Sequence[RankedRow]) -> str | None:
    """The row with the highest value; ``None`` where several tie for it, or there is no other row."""
    return ranked[0].row if len(ranked) > 1 and ranked[1].rank > 1 else None


def rank_correlation(
    names: Pair, left: Mapping[str, RowScore], right: Mapping[str, RowScore]
) -> RankCorrelation | None:
    """Over the rows of both judges, on the same resamples of the questions; ``None`` with fewer than two rows."""
    rows = [row for row in left if row in right]
    if len(rows) < 2:
        return None
    x, y = (np.round([[scores[row].value for row in rows]], _DIGITS) for scores in (left, right))
    value = float(spearmans(x, y)[0])
    if np.isnan(value):
        return RankCorrelation(*names, Share(n=len(rows)))
    drawn = spearmans(*(np.column_stack([scores[row].draws.centre for row in rows]) for scores in (left, right)))
    questions = min(scores[row].questions for scores in (left, right) for row in rows)
    return RankCorrelation(*names, Share(value, interval_of(drawn, questions), len(rows)))


def spearmans(x: Array, y: Array) -> Array:
    """Spearman's correlation of each line of two [lines, rows] grids; NaN where a line is constant."""
    from scipy.stats import rankdata

    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (rankdata(each, axis=1) for each in (x, y)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1)))


def planned_comparisons(rows: Sequence[str], reference: str, baselines: Sequence[str], focus: str) -> list[list[Pair]]:
    """The families of Holm's correction, as in the run's tables: each trained row against the reference, and the focus
    row against each other trained row. Without a reference row: all pairs."""
    if reference not in rows:
        return [list(combinations(rows, 2))]
    trained = [row for row in rows if row != reference and row not in baselines]
    families = [[(row, reference) for row in trained]]
    return families + ([[(focus, row) for row in trained if row != focus]] if focus in trained else [])


def significant(scores: Mapping[str, RowScore], families: Sequence[Sequence[Pair]]) -> dict[Pair, int]:
    """Each comparison to +1, -1 or 0 (not significant at 5%). Rows with few or unscored questions are not tested."""
    noise = noise_of(scores)
    enough = {row for row, each in scores.items() if each.questions >= FEW_QUESTIONS and each.coverage >= MIN_COVERAGE}
    signs: dict[Pair, int] = {}
    for family in families:
        p: dict[str, float] = {}
        tested: dict[str, tuple[Pair, int]] = {}
        for number, (row, other) in enumerate(family):
            if {row, other} <= enough:
                value, probability = _difference(scores[row], scores[other], noise)
                p[str(number)] = probability
                tested[str(number)] = (row, other), int(np.sign(round(value, _DIGITS)))
        adjusted = holm(p)
        signs |= {pair: sign if adjusted[name] < ALPHA else 0 for name, (pair, sign) in tested.items()}
    return signs


def _difference(one: RowScore, other: RowScore, noise: SeedNoise | None) -> tuple[float, float]:
    """The difference of two rows, and its p-value.

    A bootstrap's p-value goes no lower than 2 / (B + 1), which Holm's correction over many pairs never finds
    significant. Where it is that low, Student's t of the bootstrap's error stands in for it.
    """
    n = min(one.questions, other.questions)
    found = contrast(one.draws, other.draws, n, noise)
    lowest = 2 / (one.draws.grid.shape[1] + 1)
    if np.isinf(found.freedom) and found.p <= lowest and found.error > 0:
        return found.value, min(found.p, t_test(found.value / found.error, n - 1))
    return found.value, found.p


def noise_of(scores: Mapping[str, RowScore]) -> SeedNoise | None:
    """What training seeds do to one judge's values, pooled over the rows."""
    return seed_noise([each.draws for each in scores.values() if each.coverage >= MIN_COVERAGE])


def _interval(score: RowScore, noise: SeedNoise | None) -> Interval | None:
    """Over questions, and over training seeds where there are several."""
    if score.questions < 2 or np.isnan(score.draws.grid).any():  # a resample without any scored question
        return None
    found = contrast(score.draws, None, score.questions, noise)
    return Interval(found.low, found.high)


def check_conclusion(
    names: Pair, first: Mapping[str, RowScore], other: Mapping[str, RowScore], families: Sequence[Sequence[Pair]]
) -> ConclusionCheck:
    """Whether another judge confirms what the first one shows, on the rows of both. ``names``: (other, first)."""
    common = [row for row in first if row in other]
    before, now = significant(first, families), significant(other, families)
    before = {pair: sign for pair, sign in before.items() if set(pair) <= set(common)}
    groups: dict[int, list[Difference]] = {1: [], 0: [], -1: []}
    for pair, sign in before.items():
        if sign:
            groups[sign * now.get(pair, 0)].append(Difference(*pair, sign))
    tops = [best_row(ranking({row: scores[row] for row in common})) for scores in (first, other)]
    best = (tops[0], tops[1]) if tops[0] is not None and tops[1] is not None else None
    return ConclusionCheck(*names, len(before), tuple(groups[1]), tuple(groups[0]), tuple(groups[-1]), best)
