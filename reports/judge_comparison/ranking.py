"""Do judges rank the rows alike, and do the run's conclusions hold under another judge, by the tests of the tables?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from harness.stats import FEW_QUESTIONS, Array, Draws, SeedNoise, contrast, holm, seed_noise, t_test
from harness.text import counted
from reports.judge_comparison.panel import Number, Pair, QuestionBootstrap, RowScore, Scores, Share, bounds
from reports.tables.summary import ALPHA, MIN_COVERAGE

_DIGITS = 9  # scores that differ by less differ by rounding errors alone


@dataclass(frozen=True)
class Conclusion:
    """What becomes of the first judge's significant differences under another judge. Pairs are (better, worse)."""

    metric: str
    judge: str
    first: str
    tested: int  # differences that the first judge could test; 0: too few questions, or too little scored
    confirmed: tuple[Pair, ...] = ()
    lost: tuple[Pair, ...] = ()  # no longer significant
    reversed: tuple[Pair, ...] = ()  # significant with the opposite sign
    best: Pair | None = None  # row under the first and the other judge; ``None`` where rows tie for it
    rows: int = 2  # in common

    @property
    def verdict(self) -> str:
        if not (self.confirmed or self.lost or self.reversed):
            return "nothing to check"
        return "does not hold" if self.reversed else "holds in part" if self.lost else "holds"

    def text(self, titles: Mapping[str, str]) -> str:
        if self.rows < 2:
            return f"{counted(self.rows, 'row')} in common with {self.judge}: too few to compare."
        if not self.tested:
            return f"{self.first} and {self.judge} scored no two rows well enough to test a difference."
        if self.verdict == "nothing to check":
            return f"{self.first} shows no significant difference, so there is no conclusion to check."

        def listed(pairs: Sequence[Pair]) -> str:
            return "; ".join(" > ".join(titles.get(row, row) for row in pair) for pair in pairs)

        total = len(self.confirmed) + len(self.lost) + len(self.reversed)
        parts = [f"{len(self.confirmed)} of {counted(total, 'significant difference')} confirmed"]
        parts += [f"not significant: {listed(self.lost)}"] if self.lost else []
        parts += [f"reversed: {listed(self.reversed)}"] if self.reversed else []
        if self.best:
            first, other = (titles.get(row, row) for row in self.best)
            parts.append(f"best row the same ({first})" if first == other else f"best row {other}, not {first}")
        return f"under {self.judge} the conclusion {self.verdict}: {', '.join(parts)}."


def mean_scores(table: pd.DataFrame, scale: float, bootstrap: QuestionBootstrap) -> Scores:
    """Mean verdict x ``scale``, from a ``Panel.matrix``; missing verdicts are left out."""
    scores: dict[str, dict[str, RowScore]] = {}
    for judge in table.columns:
        for row, verdicts in table[judge].groupby("row", sort=False):
            scored = verdicts.dropna()
            if len(scored):
                questions = list(scored.index.get_level_values("question"))
                share, drawn = bootstrap.ratio(scale * scored.to_numpy(float), np.ones(len(scored)), questions)
                draws = Draws(np.array([share.value]), drawn[None, :], trained=False)
                score = RowScore(draws, len(set(questions)), len(scored) / len(verdicts))
                scores.setdefault(str(judge), {})[str(row)] = score
    return scores


def ranking(metric: str, judge: str, scores: Mapping[str, RowScore]) -> list[Number]:
    """The rows, best first; intervals over questions, and over training seeds where there are several."""
    noise, values = noise_of(scores), {row: float(score.draws.values.mean()) for row, score in scores.items()}
    rounded = {row: round(value, _DIGITS) for row, value in values.items()}
    ranked = []
    for row in sorted(scores, key=lambda row: -rounded[row]):
        score, low, high = scores[row], None, None
        if score.questions > 1 and not np.isnan(score.draws.grid).any():  # NaN: a resample without a scored question
            estimate = contrast(score.draws, None, score.questions, noise)
            low, high = estimate.low, estimate.high
        rank = 1 + sum(value > rounded[row] for value in rounded.values())
        ranked.append(Number("score", metric, judge, "", row, values[row], low, high, score.questions, rank=rank))
    return ranked


def best_row(scores: Mapping[str, RowScore]) -> str | None:
    """``None`` where several rows tie, or there is no other row."""
    ranked = ranking("", "", scores)
    return ranked[0].row if len(ranked) > 1 and ranked[1].rank > 1 else None


def rank_correlation(metric: str, a: str, b: str, scores: Scores) -> list[Number]:
    """Spearman's over the rows of both judges; empty with fewer than two rows, no value where a judge
    has fewer than 3 distinct scores."""
    left, right = scores[a], scores[b]
    rows = [row for row in left if row in right]
    if len(rows) < 2:
        return []
    # Replicate b has the same questions in all rows of both judges, so its correlation is one of a possible world.
    grids = [np.column_stack([side[row].draws.centre for row in rows]) for side in (left, right)]
    values = [np.round([[side[row].draws.values.mean() for row in rows]], _DIGITS) for side in (left, right)]
    value, share = float(spearmans(*values)[0]), Share(n=len(rows))
    if all(len(np.unique(side)) > 2 for side in values):  # of two values, it is 1 or -1 by construction
        questions = min(side[row].questions for side in (left, right) for row in rows)
        share = Share(value, *bounds(spearmans(*grids), questions), len(rows))
    return [Number("rank correlation", metric, a, b, "", *share)]


def spearmans(x: Array, y: Array) -> Array:
    """Spearman's correlation of each line of two [lines, rows] grids; NaN where a line is constant."""
    from scipy.stats import rankdata

    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (rankdata(grid, axis=1) for grid in (x, y)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1)))


def planned_comparisons(rows: Sequence[str], reference: str, baselines: Sequence[str], focus: str) -> list[list[Pair]]:
    """Holm's families as in the run's tables: trained rows against the reference, the focus row against other trained
    ones. Without a reference row: all pairs."""
    if reference not in rows:
        return [list(combinations(rows, 2))]
    trained = [row for row in rows if row != reference and row not in baselines]
    families = [[(row, reference) for row in trained]]
    return families + ([[(focus, row) for row in trained if row != focus]] if focus in trained else [])


def significant(scores: Mapping[str, RowScore], families: Sequence[Sequence[Pair]]) -> dict[Pair, int]:
    """Each comparison to +1, -1 or 0 (not significant at 5%). Rows with few or unscored questions are not tested."""
    noise = noise_of(scores)
    enough = {
        row for row, score in scores.items() if score.questions >= FEW_QUESTIONS and score.coverage >= MIN_COVERAGE
    }
    signs: dict[Pair, int] = {}
    for family in families:
        pairs = [pair for pair in family if set(pair) <= enough]
        tests = [_difference(scores[row], scores[other], noise) for row, other in pairs]
        adjusted = holm({str(place): p for place, (_, p) in enumerate(tests)})
        for place, (pair, (value, _)) in enumerate(zip(pairs, tests, strict=True)):
            signs[pair] = int(np.sign(round(value, _DIGITS))) if adjusted[str(place)] < ALPHA else 0
    return signs


def _difference(one: RowScore, other: RowScore, noise: SeedNoise | None) -> tuple[float, float]:
    """Difference of two rows, and p-value: Student's t of the bootstrap's error where the bootstrap is at its lowest,
    2 / (B + 1), which Holm's correction over many pairs never finds significant."""
    n = min(one.questions, other.questions)
    test = contrast(one.draws, other.draws, n, noise)
    lowest = 2 / (one.draws.grid.shape[1] + 1)
    if np.isinf(test.freedom) and test.p <= lowest and test.error > 0:
        return test.value, min(test.p, t_test(test.value / test.error, n - 1))
    return test.value, test.p


def noise_of(scores: Mapping[str, RowScore]) -> SeedNoise | None:
    return seed_noise([score.draws for score in scores.values() if score.coverage >= MIN_COVERAGE])


def check_conclusion(
    metric: str, judge: str, first: str, scores: Scores, families: Sequence[Sequence[Pair]]
) -> Conclusion:
    before, now = (significant(scores[name], families) for name in (first, judge))
    common = [row for row in scores[first] if row in scores[judge]]
    before = {pair: sign for pair, sign in before.items() if set(pair) <= set(common)}
    # By the product of the two signs: confirmed, no longer significant (or not tested any more), reversed.
    groups: dict[int, list[Pair]] = {1: [], 0: [], -1: []}
    for (row, other), sign in before.items():
        if sign:
            groups[sign * now.get((row, other), 0)].append((row, other) if sign > 0 else (other, row))
    one, two = (best_row({row: scores[name][row] for row in common}) for name in (first, judge))
    best = None if one is None or two is None else (one, two)
    confirmed, lost, opposite = (tuple(groups[sign]) for sign in (1, 0, -1))
    return Conclusion(metric, judge, first, len(before), confirmed, lost, opposite, best, len(common))
