"""Do judges rank the rows alike, and do the run's conclusions hold under another judge, by the tests of the tables?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from harness.stats import FEW_QUESTIONS, Array, Draws, SeedNoise, contrast, holm, seed_noise, t_test
from reports.judge_comparison.panel import Number, Pair, QuestionBootstrap, RowScore, Scores, Share, interval_bounds
from reports.tables.summary import MIN_COVERAGE, Comparison

OWN_TABLE = "own table"  # in place of a judge: the run's own verdicts, tested as in its table
SIGNIFICANT, CONFIRMED, LOST, REVERSED = "significant", "confirmed", "not significant", "reversed"
_DIGITS = 9  # scores that differ by less differ by rounding errors alone


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
    ones. Without a reference row, or without trained rows: all pairs."""
    trained_rows = [row for row in rows if row != reference and row not in baselines]
    if reference not in rows or not trained_rows:
        return [list(combinations(rows, 2))]
    families = [[(row, reference) for row in trained_rows]]
    return families + ([[(focus, row) for row in trained_rows if row != focus]] if focus in trained_rows else [])


def pair_tests(scores: Mapping[str, RowScore], families: Sequence[Sequence[Pair]]) -> dict[Pair, Comparison]:
    """The first row of each pair minus the second. Rows with few or unscored questions are not tested."""
    noise = noise_of(scores)
    testable_rows = {
        row for row, score in scores.items() if score.questions >= FEW_QUESTIONS and score.coverage >= MIN_COVERAGE
    }
    tests: dict[Pair, Comparison] = {}
    for family in families:
        pairs = [pair for pair in family if set(pair) <= testable_rows]
        family_tests = [_difference(scores[row], scores[other_row], noise) for row, other_row in pairs]
        adjusted_p = holm({str(place): test.p or 0.0 for place, test in enumerate(family_tests)})
        for place, (pair, test) in enumerate(zip(pairs, family_tests, strict=True)):
            tests[pair] = replace(test, p_holm=adjusted_p[str(place)])
    return tests


def _difference(score: RowScore, other_score: RowScore, noise: SeedNoise | None) -> Comparison:
    """Difference of two rows. Its p-value is Student's t of the bootstrap's error where the bootstrap is at its lowest,
    2 / (B + 1), which Holm's correction over many pairs never finds significant."""
    n = min(score.questions, other_score.questions)
    test = contrast(score.draws, other_score.draws, n, noise)
    lowest, p = 2 / (score.draws.grid.shape[1] + 1), test.p
    if np.isinf(test.freedom) and test.p <= lowest and test.error > 0:
        p = min(test.p, t_test(test.value / test.error, n - 1))
    return Comparison(test.value, test.low, test.high, p)


def noise_of(scores: Mapping[str, RowScore]) -> SeedNoise | None:
    return seed_noise([score.draws for score in scores.values() if score.coverage >= MIN_COVERAGE])


def differences(
    metric: str,
    scores: Scores,
    families: Sequence[Sequence[Pair]],
    first_judge: str,
    own: Mapping[Pair, Comparison],
) -> list[Number]:
    """Every planned pair under every judge that could test it, and in the run's own table. A *conclusion* is a pair
    that is significant in that table, or else under the first judge: its numbers have a ``verdict``, its better row is
    the first."""
    # without a reference row the plan has all pairs in the order of the rows, the table the focus row first
    families = [[pair[::-1] if pair[::-1] in own else pair for pair in family] for family in families]
    tests = {OWN_TABLE: own, **{judge: pair_tests(rows, families) for judge, rows in scores.items()}}
    numbers: list[Number] = []
    for pair in dict.fromkeys([*own, *(pair for family in families for pair in family)]):
        found = {judge: by_pair[pair] for judge, by_pair in tests.items() if pair in by_pair}
        sources = (found[judge] for judge in (OWN_TABLE, first_judge) if judge in found and found[judge].significant)
        source = next(sources, None)
        sign = -1 if source is not None and (source.delta or 0.0) < 0 else 1
        row, other_row = pair[::sign]
        for judge, test in found.items():
            change, *ends = (None if value is None else sign * value for value in (test.delta, test.low, test.high))
            low, high = ends[::sign]
            verdict = "" if source is None else SIGNIFICANT if test is source else _verdict(test.significant, change)
            score = scores.get(judge, {}).get(row)
            n = min(score.questions, scores[judge][other_row].questions) if score else 0
            numbers.append(
                Number("difference", metric, judge, "", row, change, low, high, n, p=test.p_holm, against=other_row,
                       verdict=verdict)
            )  # fmt: skip
    return numbers


def _verdict(is_significant: bool, change: float | None) -> str:
    if not is_significant or not change:
        return LOST
    return CONFIRMED if change > 0 else REVERSED
