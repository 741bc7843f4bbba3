"""Do judges rank the methods alike, and does the run's conclusion survive another judge?

With some eight methods the intervals of rank correlations are wide; they are printed, not hidden. Correlations,
best rows and comparisons are all taken on the same resamples of the questions. Differences are tested as the run's own
tables do (``reports/tables/summary.py``): the same planned comparisons in the same families, training seeds included.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness import stats
from harness.stats import (
    FEW_QUESTIONS,
    Array,
    Draws,
    Interval,
    SeedNoise,
    contrast,
    holm,
    percentile_interval,
    seed_noise,
    t_test,
)
from harness.text import counted
from reports.judge_comparison.panel import Estimate, cluster_sums, clusters, draws
from reports.tables.cell import ALPHA
from reports.tables.summary import MIN_COVERAGE

Pair = tuple[str, str]
EXACT = 9
"""Digits after the point to which two values are the same."""
FEW = 8
"""Rows below which a rank correlation says little; said in a note."""


@dataclass(frozen=True)
class Ranking:
    """One judge's values of the rows, best first."""

    judge: str
    values: Mapping[str, float]
    ranks: Mapping[str, int]
    """From 1; equal values have the same rank, the best that one of them could have."""
    top: str
    """The best row; empty where several share the first rank, or there is no other row."""
    top_stability: float | None
    """Share of the resamples in which it is the best one too (tied with k - 1 others: 1 / k); ``None`` without it."""


@dataclass(frozen=True)
class RankAgreement:
    """Two judges' rankings of the rows that both have."""

    a: str
    b: str
    rows: tuple[str, ...]
    spearman: float | None
    """``None`` where all rows tie under one judge; so are the next three."""
    spearman_interval: Interval | None
    kendall: float | None
    kendall_interval: Interval | None
    same_top: float | None
    """Share of the resamples in which both have the same best row; where rows tie for it, one of them is drawn."""


@dataclass(frozen=True)
class Conclusion:
    """What becomes of the first judge's significant differences under another judge."""

    judge: str
    against: str
    """The first judge."""
    kept: tuple[str, ...]
    """Significant again, the same sign."""
    lost: tuple[str, ...]
    """The same sign or none, but no longer significant."""
    reversed: tuple[str, ...]
    """Significant the other way."""
    same_top: bool | None
    """``None`` where several rows share the first place, or there are no two rows."""
    verdict: str
    """``survives``, ``survives in part``, ``does not survive`` or ``nothing to survive``."""
    line: str
    """The same for all judges where the first one shows nothing."""


def plain_rates(table: pd.DataFrame, replicates: int, seed: int) -> dict[str, dict[str, Estimate]]:
    """Judge to row to mean verdict (x 100 is a win rate), from a ``Panel.matrix``; missing verdicts left out."""
    codes, count = clusters(table.index.get_level_values("question"))
    weights = draws(count, replicates, seed)
    rows = table.index.get_level_values("row")
    found: dict[str, dict[str, Estimate]] = {}
    for judge in table.columns:
        given = table[judge].to_numpy(float)
        for row in dict.fromkeys(rows):
            here = (rows == row) & ~np.isnan(given)
            if here.any():
                pairs = np.column_stack([given[here], np.ones(int(here.sum()))])
                above, below = (weights @ cluster_sums(pairs, codes[here], count)).T
                with np.errstate(invalid="ignore", divide="ignore"):  # a resample may miss a row of few questions
                    drawn = above / below
                several = len(set(codes[here]))
                found.setdefault(str(judge), {})[str(row)] = Estimate(float(given[here].mean()), drawn, several)
    return found


def ranking(judge: str, rates: Mapping[str, Estimate]) -> Ranking:
    """Rows from best to worst."""
    values = {row: round(each.value, EXACT) for row, each in rates.items()}
    ordered = sorted(rates, key=lambda row: -values[row])
    ranks = {row: 1 + sum(value > values[row] for value in values.values()) for row in ordered}
    alone = len(ordered) > 1 and ranks[ordered[1]] > 1
    grid = _grid(rates, ordered)
    stable = float(_tops(grid)[:, 0].mean()) if alone and grid.size else None
    return Ranking(judge, {row: rates[row].value for row in ordered}, ranks, ordered[0] if alone else "", stable)


def _tops(grid: Array) -> Array:
    """[replicates, rows]: 1 for the best row of each replicate, 1 / k for each of k that share the first place."""
    rounded = np.round(grid, EXACT)
    best = (rounded == rounded.max(axis=1, keepdims=True)).astype(float)
    shares: Array = best / best.sum(axis=1, keepdims=True)
    return shares


def rank_agreement(names: Pair, left: Mapping[str, Estimate], right: Mapping[str, Estimate]) -> RankAgreement | None:
    """Spearman's and Kendall's (tau-b) correlation over the rows; ``None`` with fewer than two rows in common."""
    from scipy.stats import kendalltau, spearmanr

    rows = [row for row in left if row in right]
    if len(rows) < 2:
        return None
    x, y = (np.round([each[row].value for row in rows], EXACT) for each in (left, right))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankAgreement(*names, tuple(rows), None, None, None, None, None)
    one, two = paired_grids(left, right, rows)
    rho, tau = spearmans(one, two), kendalls(one, two)
    counts = [each[row].questions for each in (left, right) for row in rows]
    alone = any(count is not None and count < 2 for count in counts)  # one question says nothing of others
    return RankAgreement(
        *names, tuple(rows),
        float(spearmanr(x, y).statistic), None if alone else _interval(rho),
        float(kendalltau(x, y).statistic), None if alone else _interval(tau),
        float((_tops(one) * _tops(two)).sum(axis=1).mean()) if one.size else None,
    )  # fmt: skip


def _interval(values: Array) -> Interval | None:
    values = values[~np.isnan(values)]
    return percentile_interval(values) if len(values) else None


def _grid(rates: Mapping[str, Estimate], rows: Sequence[str]) -> Array:
    """[replicates, rows], without resamples that lack a row."""
    lengths = [len(rates[row].replicates) for row in rows]
    if not lengths or min(lengths) == 0:
        return np.empty((0, len(rows)))
    grid = np.column_stack([rates[row].replicates[: min(lengths)] for row in rows])
    return grid[~np.isnan(grid).any(axis=1)]


def paired_grids(
    left: Mapping[str, Estimate], right: Mapping[str, Estimate], rows: Sequence[str]
) -> tuple[Array, Array]:
    """Two [replicates, rows] grids of the same resamples; empty where one judge has no replicates."""
    both = {f"0{row}": left[row] for row in rows} | {f"1{row}": right[row] for row in rows}
    grid = _grid(both, list(both))
    return grid[:, : len(rows)], grid[:, len(rows) :]


def spearmans(x: Array, y: Array) -> Array:
    """Spearman's correlation of each line of two [replicates, rows] grids; NaN where a line is constant."""
    from scipy.stats import rankdata

    if not x.size:
        return np.empty(0)
    a, b = (rankdata(each, axis=1) for each in (x, y))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return found


def kendalls(x: Array, y: Array) -> Array:
    """Kendall's tau-b of each line of two [replicates, rows] grids; NaN where a line is constant."""
    if not x.size:
        return np.empty(0)
    left, right = np.array(list(combinations(range(x.shape[1]), 2))).T
    a, b = (np.sign(each[:, left] - each[:, right]) for each in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = (a * b).sum(axis=1) / np.sqrt((a != 0).sum(axis=1) * (b != 0).sum(axis=1))
    return found


def interval(estimate: Estimate, noise: SeedNoise | None) -> Interval | None:
    """As the run's tables have it: over questions, and over seeds where there are several. From one question: none."""
    known = ~np.isnan(estimate.replicates)
    if not known.any() or (estimate.questions is not None and estimate.questions < 2):
        return None
    if estimate.questions is None:
        return percentile_interval(estimate.replicates[known])
    found = contrast(_known(estimate.draws, known), None, estimate.questions, noise)
    return Interval(found.low, found.high)


def noise_of(rates: Mapping[str, Estimate]) -> SeedNoise | None:
    """What training seeds do to one judge's values, over all rows together."""
    return seed_noise([each.draws for each in rates.values() if each.covered >= MIN_COVERAGE])


def _known(draws: Draws, known: NDArray[np.bool_]) -> Draws:
    return Draws(draws.values, draws.grid[:, known], draws.trained)


def comparisons(rows: Sequence[str], reference: str, baselines: Sequence[str], focus: str = "") -> list[list[Pair]]:
    """The planned comparisons, a list for each family of Holm's correction.

    Every trained row with the reference row, and the focus row with every other trained row, as the run's tables have
    it; all pairs where there is no reference row.
    """
    if reference not in rows:
        return [list(combinations(rows, 2))]
    trained = [row for row in rows if row != reference and row not in baselines]
    families = [[(row, reference) for row in trained]]
    if focus in trained:
        families.append([(focus, row) for row in trained if row != focus])
    return families


def significant(rates: Mapping[str, Estimate], families: Sequence[Sequence[Pair]]) -> dict[Pair, int]:
    """Each comparison to +1, -1 or 0 (not significant at 5% after Holm's correction over its family).

    As in the tables, what is from few questions or scored in part is not tested, and is left out.
    """
    noise = noise_of(rates)
    found: dict[Pair, int] = {}
    for family in families:
        p: dict[str, float] = {}
        signs: dict[str, tuple[Pair, int]] = {}
        for number, (row, other) in enumerate(family):
            if row in rates and other in rates and (made := difference(rates[row], rates[other], noise)) is not None:
                p[f"{number}"] = made.p
                signs[f"{number}"] = ((row, other), int(np.sign(round(made.value, EXACT))))
        adjusted = holm(p)
        found |= {pair: sign if adjusted[name] < ALPHA else 0 for name, (pair, sign) in signs.items()}
    return found


def difference(one: Estimate, other: Estimate, noise: SeedNoise | None) -> stats.Estimate | None:
    """``stats.contrast`` of two rows, ``None`` where it must not be tested.

    The bootstrap's p-value goes no lower than 2 / (B + 1), which Holm's correction over many pairs never finds
    significant. Where it stands there, it is Student's t of the bootstrap's error if that is less; and where every
    question says the same, the sign test's.
    """
    counts = [each.questions for each in (one, other) if each.questions is not None]
    n = min(counts, default=None)
    few = n is not None and n < FEW_QUESTIONS
    if few or min(one.covered, other.covered) < MIN_COVERAGE or len(one.replicates) != len(other.replicates):
        return None
    known = ~np.isnan(one.replicates) & ~np.isnan(other.replicates)
    if not known.any():
        return None
    made = contrast(_known(one.draws, known), _known(other.draws, known), FEW_QUESTIONS if n is None else n, noise)
    lowest = 2 / (int(known.sum()) + 1)
    if np.isinf(made.freedom) and made.p <= lowest and made.value:
        freedom = np.inf if n is None else n - 1
        smooth = t_test(made.value / made.error, freedom) if made.error else 0.5 ** ((n or FEW_QUESTIONS) - 1)
        return replace(made, p=min(made.p, smooth))
    return made


def conclusion(
    names: Pair, first: Mapping[str, Estimate], other: Mapping[str, Estimate],
    families: Sequence[Sequence[Pair]], titles: Mapping[str, str],
) -> Conclusion:  # fmt: skip
    """Whether what the first judge shows is shown by another one too, on rows of both. ``names``: (other, first)."""
    judged, against = names
    common = [row for row in first if row in other]
    if len(common) < 2:
        line = f"Under {judged}: {counted(len(common), 'row')} in common with {against}, too few to compare."
        return Conclusion(judged, against, (), (), (), None, "nothing to survive", line)
    planned = [[pair for pair in family if set(pair) <= set(common)] for family in families]
    before, now = significant(first, families), significant(other, families)
    before = {pair: sign for pair, sign in before.items() if set(pair) <= set(common)}
    found = {pair: sign for pair, sign in before.items() if sign}

    def said(pairs: list[Pair]) -> tuple[str, ...]:
        return tuple(f"{titles.get(a, a)} {'>' if before[a, b] > 0 else '<'} {titles.get(b, b)}" for a, b in pairs)

    kept = said([pair for pair, sign in found.items() if now.get(pair, 0) == sign])
    lost = said([pair for pair in found if now.get(pair, 0) == 0])
    turned = said([pair for pair, sign in found.items() if now.get(pair, 0) == -sign])
    tops = [ranking("", {row: rates[row] for row in common}).top for rates in (first, other)]
    same_top = tops[0] == tops[1] if all(tops) else None
    if not found:
        verdict = "nothing to survive"
        line = f"{against} {_nothing([p for f in planned for p in f], before, titles)}: there is no conclusion to test."
    else:
        verdict = "does not survive" if turned else "survives in part" if lost else "survives"
        line = f"Under {judged} it {verdict}: {len(kept)} of {counted(len(found), 'significant difference')}"
        line += f" {'is' if len(found) == 1 else 'are'} found again"
        line += f", not significant: {'; '.join(lost)}" if lost else ""
        line += f", turned round: {'; '.join(turned)}" if turned else ""
        best = [titles.get(top, top) for top in tops]
        differ = "; several rows tie for the best." if same_top is None else f"; best row {best[1]}, not {best[0]}."
        line += f"; best row the same: {best[0]}." if same_top else differ
    return Conclusion(judged, against, kept, lost, turned, same_top, verdict, line)


def _nothing(planned: Sequence[Pair], tested: Collection[Pair], titles: Mapping[str, str]) -> str:
    """That a judge shows no difference, in words that fit what was compared."""
    references = {other for _, other in planned}
    if not planned:
        return "has no two rows to compare"
    if not tested:
        return f"scores too little to test a difference ({FEW_QUESTIONS} questions and {MIN_COVERAGE:.0%} are needed)"
    row, other = (titles.get(name, name) for name in planned[0])
    if len(planned) == 1:
        return f"does not find {row} different from {other}"
    return f"finds no trained row different from {other}" if len(references) == 1 else "finds no two rows different"
