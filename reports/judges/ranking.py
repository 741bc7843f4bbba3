"""Do judges rank the methods alike, and does the run's conclusion survive another judge?

With some eight methods the intervals of rank correlations are wide; they are printed, not hidden. Correlations,
best rows and comparisons are all taken on the same resamples of the questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from harness.stats import Array, Interval, holm, percentile_interval, two_sided_p
from reports.judges.panel import Estimate, cluster_sums, clusters, draws

ALPHA = 0.05
FEW = 8
"""Rows below which a rank correlation says little; said in a note."""


@dataclass(frozen=True)
class Ranking:
    """One judge's values of the rows, best first."""

    judge: str
    values: Mapping[str, float]
    top: str
    top_stability: float
    """Share of the resamples in which the same row is best."""


@dataclass(frozen=True)
class RankAgreement:
    """Two judges' rankings of the rows that both have."""

    a: str
    b: str
    rows: tuple[str, ...]
    spearman: float
    spearman_interval: Interval | None
    kendall: float
    kendall_interval: Interval | None
    same_top: float
    """Share of the resamples in which both have the same best row."""


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
    same_top: bool
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
                found.setdefault(str(judge), {})[str(row)] = Estimate(float(given[here].mean()), drawn)
    return found


def ranking(judge: str, rates: Mapping[str, Estimate]) -> Ranking:
    """Rows from best to worst."""
    ordered = sorted(rates, key=lambda row: -rates[row].value)
    grid = _grid(rates, ordered)
    stable = float((grid.argmax(axis=1) == 0).mean()) if grid.size else float("nan")
    return Ranking(judge, {row: rates[row].value for row in ordered}, ordered[0], stable)


def rank_agreement(
    names: tuple[str, str], left: Mapping[str, Estimate], right: Mapping[str, Estimate]
) -> RankAgreement | None:
    """Spearman's and Kendall's (tau-b) correlation over the rows; ``None`` with fewer than two rows in common."""
    from scipy.stats import kendalltau, spearmanr

    rows = [row for row in left if row in right]
    if len(rows) < 2:
        return None
    x, y = ([each[row].value for row in rows] for each in (left, right))
    one, two = paired_grids(left, right, rows)
    rho, tau = spearmans(one, two), kendalls(one, two)
    same = float((one.argmax(axis=1) == two.argmax(axis=1)).mean()) if one.size else float("nan")
    return RankAgreement(
        *names, tuple(rows),
        float(spearmanr(x, y).statistic), _interval(rho),
        float(kendalltau(x, y).statistic), _interval(tau),
        same,
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


def comparisons(rows: Sequence[str], reference: str, baselines: Sequence[str]) -> list[tuple[str, str]]:
    """The planned comparisons: every trained row with the reference row, or all pairs where there is none."""
    if reference in rows:
        return [(row, reference) for row in rows if row != reference and row not in baselines]
    return list(combinations(rows, 2))


def significant(rates: Mapping[str, Estimate], planned: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Each comparison to +1, -1 or 0 (not significant at 5% after Holm's correction over the planned ones)."""
    p: dict[str, float] = {}
    signs: dict[str, int] = {}
    names = {f"{number}": pair for number, pair in enumerate(planned)}
    for name, (row, other) in names.items():
        difference = rates[row].replicates - rates[other].replicates
        difference = difference[~np.isnan(difference)]
        p[name] = two_sided_p(difference) if len(difference) else 1.0
        signs[name] = int(np.sign(rates[row].value - rates[other].value))
    adjusted = holm(p)
    return {pair: signs[name] if adjusted[name] < ALPHA else 0 for name, pair in names.items()}


def conclusion(
    names: tuple[str, str], first: Mapping[str, Estimate], other: Mapping[str, Estimate],
    planned: Sequence[tuple[str, str]], titles: Mapping[str, str],
) -> Conclusion:  # fmt: skip
    """Whether what the first judge shows is shown by another one too. ``names``: (other, first)."""
    planned = [(a, b) for a, b in planned if all(row in rates for row in (a, b) for rates in (first, other))]
    before, now = significant(first, planned), significant(other, planned)
    found = {pair: sign for pair, sign in before.items() if sign}

    def said(pairs: list[tuple[str, str]]) -> tuple[str, ...]:
        return tuple(f"{titles.get(a, a)} {'>' if before[a, b] > 0 else '<'} {titles.get(b, b)}" for a, b in pairs)

    kept = said([pair for pair, sign in found.items() if now[pair] == sign])
    lost = said([pair for pair in found if now[pair] == 0])
    turned = said([pair for pair, sign in found.items() if now[pair] == -sign])
    common = [row for row in first if row in other]
    tops = [max(common, key=lambda row: rates[row].value) for rates in (first, other)]
    same_top = tops[0] == tops[1]
    judged, against = names
    if not found:
        verdict = "nothing to survive"
        line = f"{against} {_nothing(planned, titles)}: there is no conclusion to test."
    else:
        verdict = "does not survive" if turned else "survives in part" if lost else "survives"
        line = f"{len(kept)} of {len(found)} significant differences are found again"
        line += f", not significant: {'; '.join(lost)}" if lost else ""
        line += f", turned round: {'; '.join(turned)}" if turned else ""
        best = [titles.get(top, top) for top in tops]
        line += f"; best row the same: {best[0]}." if same_top else f"; best row {best[1]}, not {best[0]}."
    return Conclusion(judged, against, kept, lost, turned, same_top, verdict, f"Under {judged} it {verdict}: {line}"
                      if found else line)  # fmt: skip


def _nothing(planned: Sequence[tuple[str, str]], titles: Mapping[str, str]) -> str:
    """That a judge shows no difference, in words that fit what was compared."""
    references = {other for _, other in planned}
    if not planned:
        return "has no two rows to compare"
    row, other = (titles.get(name, name) for name in planned[0])
    if len(planned) == 1:
        return f"does not find {row} different from {other}"
    return f"finds no trained row different from {other}" if len(references) == 1 else "finds no two rows different"
