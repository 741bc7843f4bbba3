"""How accurate is a judge: its agreement with human annotations, else with the truth (pocket), else with other judges.

Human agreement is AlpacaEval's (``analyze.py`` of alpaca_eval 0.6; paper, Appendix B.2): one annotation against the
mode of all human annotations but one, averaged over the one that is left out. Tied modes count in equal parts
(AlpacaEval draws one at random); a tie against a decision counts one half. A judge is compared with the same modes, so
that its number stands beside the humans' own; alpaca_eval compares a judge with the mode of all k annotations, which
is the same number for k = 4 without ties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.stats import Array
from reports.judge_comparison.agreement import LABELS, label_kappa, won
from reports.judge_comparison.panel import ITEM, Panel, QuestionBootstrap, Share

HUMANS = "humans"
"""The line of the humans themselves."""
HUMAN, TRUTH, OTHERS = "the human majority", "the truth", "the other judges"
RULES = {
    HUMAN: "one annotation against the mode of the human annotations but one (AlpacaEval's definition); a tie counts "
    "one half.",
    TRUTH: "how often a judge picks the truly better answer, over all comparisons with a baseline in which the truth "
    "is not a tie; a judge's tie counts one half.",
    OTHERS: "how close a judge's label (model, tie, baseline) is to each other judge's, averaged over comparisons with "
    "a baseline; a tie against a decision counts one half. Judges that agree may err alike.",
}
LEAST_KAPPA = 0.2
"""Landis & Koch (1977) call agreement up to here slight: hardly more than two judges that guess alike."""
MOST_FLIPS = 0.3
"""A judge that sees no difference between any two answers flips in half of the pairs."""


@dataclass(frozen=True)
class Recommendation:
    """Which judge to use."""

    judge: str | None
    """``None``: none can be trusted, or none of those is within the budget."""
    reason: str
    """One line for people."""


@dataclass(frozen=True)
class Reference:
    """All judges against one reference; grades compare nothing and take no part."""

    basis: str
    """A key of ``RULES``."""
    accuracies: Mapping[str, Share]
    """Judge (and ``HUMANS``, against human annotations) to its agreement with the reference."""
    kappas: Mapping[str, Share]
    """Judge to Cohen's kappa with the reference's label; against other judges, the one that it agrees with most."""
    recommendation: Recommendation


def judge_reference(
    panel: Panel,
    humans: pd.DataFrame | None,
    replicates: int,
    seed: int,
    flips: Mapping[str, float] | None = None,
    budget: float | None = None,
) -> Reference | None:
    """The best reference at hand; ``None`` where there is none.

    Args:
        humans: columns ``benchmark``, ``ITEM``, ``annotator``, ``verdict`` (0..1), one line per person and item.
        flips: judge to the share of its pairs that flip with the order (0..1), on its worst benchmark.
        budget: dollars that the recommended judge may cost for the calls of this comparison.
    """
    if not any(panel.paired[name] for name in panel.benchmarks):
        return None
    basis, labels, scores, witnesses = _measure(panel, humans)
    # Question ids repeat between benchmarks, so the cluster is the pair.
    questions = list(zip(*(scores.index.get_level_values(name) for name in ("benchmark", "question")), strict=True))
    bootstrap, accuracies = QuestionBootstrap(questions, replicates, seed), {}
    for judge in scores.columns:
        values = scores[judge].to_numpy(float)
        known = ~np.isnan(values)
        share, _ = bootstrap.ratio(np.where(known, values, 0.0), known.astype(float), questions)
        if share.value is not None:
            accuracies[str(judge)] = share
    if not accuracies:
        return None
    judges = [judge for judge in panel.judges if judge in accuracies]
    kappas = {judge: _best_kappa(labels, judge, witnesses, questions, bootstrap) for judge in judges}
    trusted = [judge for judge in judges if _trusted(kappas[judge], (flips or {}).get(judge, 0.0))]
    costs = {judge: _cost(panel, judge) for judge in trusted}
    if budget is not None:
        costs = {judge: cost for judge, cost in costs.items() if cost is not None and cost <= budget}
    if costs:
        recommendation = _cheapest(scores, accuracies, costs, questions, bootstrap, basis)
    elif trusted:
        why = f"no judge that can be trusted is known to cost at most ${budget:g} for these calls."
        recommendation = Recommendation(None, why)
    else:
        limits = f"kappa may be below {LEAST_KAPPA:g}, or more than {MOST_FLIPS:.0%} of pairs flip with order"
        recommendation = Recommendation(None, f"none of these judges can be trusted ({limits}).")
    return Reference(basis, accuracies, kappas, recommendation)


def _measure(panel: Panel, humans: pd.DataFrame | None) -> tuple[str, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The basis; the judges' labels; their closeness to the reference (0..1); the labels of its witnesses.

    All [items, judges], the last one [items, witnesses]: against other judges, each of these is one.
    """
    tables = {name: panel.matrix(name) for name in panel.benchmarks if panel.paired[name]}
    verdicts = pd.concat(tables, names=["benchmark"]).apply(lambda column: won(column.to_numpy(float)))
    truth = panel.items.set_index(["benchmark", *ITEM])["quality"].reindex(verdicts.index)
    if humans is not None:
        basis, scores = HUMAN, _against_humans(verdicts, humans)
        votes = humans.groupby(["benchmark", *ITEM])["verdict"].mean().reindex(scores.index)
        witnesses = pd.DataFrame({basis: won(votes.to_numpy(float))}, index=scores.index)
    elif truth.notna().all():
        better = (truth[truth != 0] > 0).to_numpy(float)
        basis, scores = TRUTH, verdicts[truth != 0].apply(lambda column: 1 - np.abs(column - better))
        witnesses = pd.DataFrame({basis: better}, index=scores.index)
    else:
        others = {
            judge: 1 - verdicts.drop(columns=judge).sub(verdicts[judge], axis=0).abs().mean(axis=1)
            for judge in verdicts
        }
        basis, scores, witnesses = OTHERS, pd.DataFrame(others), verdicts
    return basis, verdicts.reindex(scores.index), scores, witnesses


def _trusted(kappa: Share, flips: float) -> bool:
    # without an interval (one question, one label) nothing shows that the judge does better than chance
    return kappa.interval is not None and kappa.interval.low >= LEAST_KAPPA and flips <= MOST_FLIPS


def _best_kappa(
    labels: pd.DataFrame, judge: str, witnesses: pd.DataFrame, questions: Sequence[Any], bootstrap: QuestionBootstrap
) -> Share:
    """With the witness that the judge agrees with most: a poor judge must not make a good one look poor."""
    shares = []
    for witness in witnesses:
        if witness != judge:
            pair = np.column_stack([labels[judge], witnesses[witness]]).astype(np.float64)
            known = np.asarray(~np.isnan(pair).any(axis=1), dtype=bool).reshape(-1)
            places = [place for place, whole in zip(questions, known, strict=True) if whole]
            shares.append(label_kappa(pair[known, 0], pair[known, 1], LABELS, places, bootstrap))
    return max(shares, key=lambda share: share.interval.low if share.interval else -1.0, default=Share())


def _cost(panel: Panel, judge: str) -> float | None:
    """Dollars for the calls of this comparison; ``None``: unknown."""
    dollars = panel.judges[judge].dollars
    return None if dollars is None else dollars * int((panel.calls["judge"] == judge).sum()) / 1000


def _cheapest(
    scores: pd.DataFrame, accuracies: Mapping[str, Share], costs: Mapping[str, float | None],
    questions: Sequence[Any], bootstrap: QuestionBootstrap, basis: str,
) -> Recommendation:  # fmt: skip
    """The cheapest of these judges that is not significantly less accurate than the best of them."""
    values = {judge: accuracies[judge].value or 0.0 for judge in costs}
    best = max(costs, key=lambda judge: values[judge])

    def as_good(judge: str) -> bool:
        # paired, on the items of both: two judges' own intervals overlap long after their difference is significant
        change = (scores[judge] - scores[best]).to_numpy(float)
        known = ~np.isnan(change)
        share, _ = bootstrap.ratio(np.where(known, change, 0.0), known.astype(float), questions)
        return share.interval is None or share.interval.high >= 0

    # an unknown price cannot be the lowest; among equal prices the more accurate judge
    infinite = float("inf")
    price = {judge: infinite if cost is None else cost for judge, cost in costs.items()}
    chosen = min(filter(as_good, costs), key=lambda judge: (price[judge], -values[judge]))
    reason = f"{chosen}: agrees with {basis} on {values[chosen]:.1%}"
    if chosen != best:
        reason += f", not significantly less than {best} ({values[best]:.1%})"
    cost = costs[chosen]
    return Recommendation(chosen, f"{reason}; {'price unknown' if cost is None else f'${cost:,.2f}'} for these calls.")


def _against_humans(verdicts: pd.DataFrame, humans: pd.DataFrame) -> pd.DataFrame:
    """[items, judges and humans] closeness to the mode of all human annotations but one, 0..1."""
    lines = {}
    for item, group in humans.dropna(subset=["verdict"]).groupby(["benchmark", *ITEM]):
        votes = won(group["verdict"].to_numpy(float))
        if len(votes) > 1 and item in verdicts.index:  # one vote leaves nothing to compare with
            modes = leave_one_out(votes)
            own = np.mean([closeness(vote, mode) for vote, mode in zip(votes, modes, strict=True)])
            values = verdicts.to_numpy(float)[verdicts.index.get_loc(item)]
            judged = {
                judge: closeness(value, modes.mean(axis=0)) for judge, value in zip(verdicts, values, strict=True)
            }
            lines[item] = {**judged, HUMANS: own}
    frame = pd.DataFrame.from_dict(lines, orient="index")
    frame.index = pd.MultiIndex.from_tuples(list(lines), names=["benchmark", *ITEM])
    return frame


def leave_one_out(votes: Array) -> Array:
    """[k, 3] for votes [k] of 0, 0.5 or 1: the distribution of the mode of the votes without the i-th."""
    cast = votes[:, None] == LABELS[None, :]
    counts = cast.sum(axis=0) - cast
    modes = (counts == counts.max(axis=1, keepdims=True)).astype(float)
    return np.asarray(modes / modes.sum(axis=1, keepdims=True))


def closeness(verdict: float, shares: Array) -> float:
    """1 - |verdict - label|, in expectation over a label drawn from shares [3]."""
    return float(1.0 - np.abs(verdict - LABELS) @ shares)
