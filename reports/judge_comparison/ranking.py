"""Do judges rank the rows alike, and do the run's conclusions hold under another judge, by the tests of the tables?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from harness.stats import FEW_QUESTIONS, Array, Draws, SeedNoise, contrast, holm, seed_noise, t_test
from harness.text import format_count
from reports.judge_comparison.panel import Number, Pair, QuestionBootstrap, RowScore, Scores, Share, interval_bounds
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
            return f"{format_count(self.rows, 'row')} in common with {self.judge}: too few to compare."
        if not self.tested:
            return f"{self.first} and {self.judge} scored no two rows well enough to test a difference."
        if self.verdict == "nothing to check":
            return f"{self.first} shows no significant difference, so there is no conclusion to check."

        def pair_list(pairs: Sequence[Pair]) -> str:
            return "; ".join(" > ".join(titles.get(row, row) for row in pair) for pair in pairs)

        total = len(self.confirmed) + len(self.lost) + len(self.reversed)
        clauses = [f"{len(self.confirmed)} of {format_count(total, 'significant difference')} confirmed"]
        clauses += [f"not significant: {pair_list(self.lost)}"] if self.lost else []
        clauses += [f"reversed: {pair_list(self.reversed)}"] if self.reversed else []
        if self.best:
            first_best, best = (titles.get(row, row) for row in self.best)
            same = first_best == best
            clauses.append(f"best row the same ({best})" if same else f"best row {best}, not {first_best}")
        return f"under {self.judge} the conclusion {self.verdict}: {', '.join(clauses)}."


def mean_scores(table: pd.DataFrame, scale: float, bootstrap: QuestionBootstrap) -> Scores:
    """Mean verdict x ``scale``, from a ``Panel.matrix``; missing verdicts are left out."""
    scores: dict[str, dict[str, RowScore]] = {}
    for judge in table.columns:
        for row, verdicts in table[judge].groupby("row", sort=False):
            valid_verdicts = verdicts.dropna()
            if len(valid_verdicts):
                questions = list(valid_verdicts.index.get_level_values("question"))
                values = scale * valid_verdicts.to_numpy(float)
                share, replicates = bootstrap.ratio(values, np.ones(len(values)), questions)
                draws = Draws(np.array([share.value]), replicates[None, :], trained=False)
                score = RowScore(draws, len(set(questions)), len(valid_verdicts) / len(verdicts))
                scores.setdefault(str(judge), {})[str(row)] = score
    return scores


def ranking(metric: str, judge: str, scores: Mapping[str, RowScore]) -> list[Number]:
    """The rows, best first; intervals over questions, and over training seeds where there are several."""
    noise, values = noise_of(scores), {row: float(score.draws.values.mean()) for row, score in scores.items()}
    rounded_values = {row: round(value, _DIGITS) for row, value in values.items()}
    numbers = []
    for row in sorted(scores, key=lambda row: -rounded_values[row]):
        score, low, high = scores[row], None, None
        if score.questions > 1 and not np.isnan(score.draws.grid).any():  # NaN: a resample without a scored question
            estimate = contrast(score.draws, None, score.questions, noise)
            low, high = estimate.low, estimate.high
        rank = 1 + sum(value > rounded_values[row] for value in rounded_values.values())
        numbers.append(Number("score", metric, judge, "", row, values[row], low, high, score.questions, rank=rank))
    return numbers


def best_row(scores: Mapping[str, RowScore]) -> str | None:
    """``None`` where several rows tie, or there is no other row."""
    numbers = ranking("", "", scores)
    return numbers[0].row if len(numbers) > 1 and numbers[1].rank > 1 else None


def rank_correlation(metric: str, a: str, b: str, scores: Scores) -> list[Number]:
    """Spearman's over the rows of both judges; empty with fewer than two rows, no value where a judge
    has fewer than 3 distinct scores."""
    rows = [row for row in scores[a] if row in scores[b]]
    if len(rows) < 2:
        return []
    # Replicate b has the same questions in all rows of both judges, so its correlation is one of a possible world.
    judges = (scores[a], scores[b])
    grids = [np.column_stack([by_row[row].draws.centre for row in rows]) for by_row in judges]
    values = [np.round([[by_row[row].draws.values.mean() for row in rows]], _DIGITS) for by_row in judges]
    value, share = float(spearmans(*values)[0]), Share(n=len(rows))
    if all(len(np.unique(row_values)) > 2 for row_values in values):  # of two values, it is 1 or -1 by construction
        questions = min(by_row[row].questions for by_row in judges for row in rows)
        share = Share(value, *interval_bounds(spearmans(*grids), questions), len(rows))
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
    trained_rows = [row for row in rows if row != reference and row not in baselines]
    families = [[(row, reference) for row in trained_rows]]
    return families + ([[(focus, row) for row in trained_rows if row != focus]] if focus in trained_rows else [])


def significance_signs(scores: Mapping[str, RowScore], families: Sequence[Sequence[Pair]]) -> dict[Pair, int]:
    """Each comparison to +1, -1 or 0 (not significant at 5%). Rows with few or unscored questions are not tested."""
    noise = noise_of(scores)
    testable_rows = {
        row for row, score in scores.items() if score.questions >= FEW_QUESTIONS and score.coverage >= MIN_COVERAGE
    }
    signs: dict[Pair, int] = {}
    for family in families:
        pairs = [pair for pair in family if set(pair) <= testable_rows]
        tests = [_difference(scores[row], scores[other_row], noise) for row, other_row in pairs]
        adjusted_p = holm({str(place): p for place, (_, p) in enumerate(tests)})
        for place, (pair, (value, _)) in enumerate(zip(pairs, tests, strict=True)):
            signs[pair] = int(np.sign(round(value, _DIGITS))) if adjusted_p[str(place)] < ALPHA else 0
    return signs


def _difference(score: RowScore, other_score: RowScore, noise: SeedNoise | None) -> tuple[float, float]:
    """Difference of two rows, and p-value: Student's t of the bootstrap's error where the bootstrap is at its lowest,
    2 / (B + 1), which Holm's correction over many pairs never finds significant."""
    n = min(score.questions, other_score.questions)
    test = contrast(score.draws, other_score.draws, n, noise)
    lowest = 2 / (score.draws.grid.shape[1] + 1)
    if np.isinf(test.freedom) and test.p <= lowest and test.error > 0:
        return test.value, min(test.p, t_test(test.value / test.error, n - 1))
    return test.value, test.p


def noise_of(scores: Mapping[str, RowScore]) -> SeedNoise | None:
    return seed_noise([score.draws for score in scores.values() if score.coverage >= MIN_COVERAGE])


def check_conclusion(
    metric: str, judge: str, first_judge: str, scores: Scores, families: Sequence[Sequence[Pair]]
) -> Conclusion:
    first_signs, other_signs = (significance_signs(scores[name], families) for name in (first_judge, judge))
    common = [row for row in scores[first_judge] if row in scores[judge]]
    first_signs = {pair: sign for pair, sign in first_signs.items() if set(pair) <= set(common)}
    # By the product of the two signs: confirmed, no longer significant (or not tested any more), reversed.
    groups: dict[int, list[Pair]] = {1: [], 0: [], -1: []}
    for (row, other_row), sign in first_signs.items():
        if sign:
            pair = (row, other_row) if sign > 0 else (other_row, row)
            groups[sign * other_signs.get((row, other_row), 0)].append(pair)
    first_best, other_best = (best_row({row: scores[name][row] for row in common}) for name in (first_judge, judge))
    best = None if first_best is None or other_best is None else (first_best, other_best)
    confirmed, lost, opposite = (tuple(groups[sign]) for sign in (1, 0, -1))
    return Conclusion(metric, judge, first_judge, len(first_signs), confirmed, lost, opposite, best, len(common))
