"""Which judge to trust, and which to pay for: agreement with the best yardstick at hand, and a choice within a budget.

Yardsticks, best first: human annotations, the truth (pocket), the other judges. The choice is the cheapest judge that
is not shown to agree less than the best affordable one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.stats import Array, Interval, percentile_interval
from reports.judges.agreement import BASELINE, MODEL, TIE, labels
from reports.judges.humans import HUMANS, human_agreement
from reports.judges.panel import ITEM, Facts, Panel, cluster_sums, draws

POINT = np.array([0.5, 0.0, 1.0])
HUMAN, TRUTH, OTHERS = "the human majority", "the truth", "the other judges"
RULES = {
    HUMAN: "one annotation against the mode of the human annotations but one; a tie counts one half.",
    TRUTH: "how often a judge picks the answer that is truly better, over all comparisons with a baseline's answer in "
    "which the truth is not a tie; a judge's tie counts one half. Grades (one answer alone) are not among these items.",
    OTHERS: "how near a judge's label (model, tie, baseline) is to each other judge's, in the mean over comparisons "
    "with a baseline's answer that two judges gave; a tie against a decision counts one half. Grades are not among "
    "these items.",
}
"""What agreement with each yardstick is."""


@dataclass(frozen=True)
class Standing:
    """Agreement of one judge with the yardstick, 0..1."""

    judge: str
    value: float
    interval: Interval | None
    items: int


@dataclass(frozen=True)
class Yardstick:
    """All judges against one yardstick."""

    basis: str
    """``the human majority``, ``the truth`` or ``the other judges``."""
    standings: Mapping[str, Standing]
    replicates: Mapping[str, Array]

    @property
    def rule(self) -> str:
        """What is counted, and on which items."""
        return RULES[self.basis]


@dataclass(frozen=True)
class Choice:
    """A recommendation."""

    judge: str | None
    """``None``: no judge fits."""
    reason: str


def yardstick(panel: Panel, humans: pd.DataFrame | None, replicates: int, seed: int) -> Yardstick | None:
    """The best yardstick that there is; ``None`` for a single judge without humans or truth."""
    if humans is not None:
        benchmark = str(humans["benchmark"].iloc[0])
        found, drawn = human_agreement(humans, panel.of(benchmark), replicates, seed)
        standings = {
            name: Standing(name, each.value, each.interval, each.items)
            for name, each in found.items()
            if name != HUMANS
        }
        return Yardstick(HUMAN, standings, drawn)
    for basis, scores in ((TRUTH, _against_truth(panel)), (OTHERS, _against_others(panel))):
        if scores is not None and not scores.empty:
            return _summary(basis, scores, replicates, seed)
    return None


def _paired(panel: Panel) -> pd.DataFrame:
    """[items of all paired benchmarks, judges] verdicts, with the benchmark as first index level."""
    tables = {name: panel.matrix(name) for name in panel.benchmarks if panel.paired[name]}
    tables = {name: without_itself(table) for name, table in tables.items()}
    return pd.concat(tables, names=["benchmark"]) if tables else pd.DataFrame()


def without_itself(table: pd.DataFrame) -> pd.DataFrame:
    """Items of a matrix without those in which a model is compared with itself (all ties, by construction)."""
    return table[table.index.get_level_values("row") != table.index.get_level_values("turn")]


def _against_truth(panel: Panel) -> pd.DataFrame | None:
    """Whether each judge's label is the truth's, on items where the truth is not a tie; a judge's tie counts half."""
    table = _paired(panel)
    if table.empty:
        return None
    truth = panel.items.set_index(["benchmark", *ITEM])["quality"].reindex(table.index)
    if truth.isna().any():
        return None
    decided = table[truth != 0]
    better = (truth[truth != 0] > 0).to_numpy(float)
    return decided.apply(lambda column: 1 - np.abs(_points(column.to_numpy(float)) - better))


def _against_others(panel: Panel) -> pd.DataFrame | None:
    """How near each judge's label is to the other judges' labels (mean over them), on items that two judged."""
    table = _paired(panel)
    if table.shape[1] < 2:
        return None
    points = table.apply(lambda column: _points(column.to_numpy(float)))
    near: dict[str, pd.Series[float]] = {}
    for judge in points.columns:
        others = points.drop(columns=judge)
        near[str(judge)] = (1 - others.sub(points[judge], axis=0).abs()).mean(axis=1)
    return pd.DataFrame(near).dropna(how="all")


def _points(verdicts: Array) -> Array:
    """0, 0.5 or 1 by label; NaN stays."""
    coded = labels(verdicts)
    found = np.full(len(coded), np.nan)
    for code in (TIE, BASELINE, MODEL):
        found[coded == code] = POINT[code]
    return found


def _summary(basis: str, scores: pd.DataFrame, replicates: int, seed: int) -> Yardstick:
    names = [f"{b}\x1f{q}" for b, q in zip(*(scores.index.get_level_values(n) for n in ("benchmark", "question")))]  # noqa: B905
    codes, every = pd.factorize(pd.Index(names), sort=True)
    weights = draws(len(every), replicates, seed)
    standings, drawn = {}, {}
    for judge in scores.columns:
        values = scores[judge].to_numpy(float)
        here = ~np.isnan(values)
        if not here.any():
            continue
        sums = cluster_sums(np.column_stack([values[here], np.ones(int(here.sum()))]), codes[here], len(every))
        above, below = (weights @ sums).T
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn[str(judge)] = above / below
        known = drawn[str(judge)][~np.isnan(drawn[str(judge)])]
        interval = percentile_interval(known) if len(known) else None
        standings[str(judge)] = Standing(str(judge), float(values[here].mean()), interval, int(here.sum()))
    return Yardstick(basis, standings, drawn)


def choose(
    judges: Mapping[str, Facts],
    found: Yardstick | None,
    budget: float | None,
    calls: int,
    flags: Mapping[str, list[str]],
) -> Choice:
    """A judge for ``budget`` dollars (``None``: whatever it costs) and ``calls`` calls, with the reason.

    ``flags``: biases that were found, by judge; one that is missing could not be measured.
    """
    if found is None or not found.standings:
        return Choice(None, "No recommendation: one judge, and neither humans nor the truth to compare it with.")
    able, out = [], []
    for name in found.standings:
        price = judges[name].dollars
        cost = None if price is None else price * calls / 1000
        if budget is not None and cost is None:
            out.append(f"{name}: price not known")
        elif budget is not None and cost is not None and cost > budget:
            out.append(f"{name}: ${cost:,.2f}")
        else:
            able.append(name)
    left = f" Left out: {'; '.join(out)}." if out else ""
    if not able:
        return Choice(None, f"No judge is known to do {calls:,} calls for ${budget:g}.{left}")
    best = max(able, key=lambda name: found.standings[name].value)
    alike = [name for name in able if not _worse(found, name, best)]
    chosen = min(alike, key=lambda name: (_price(judges[name]), -found.standings[name].value))
    value = found.standings[chosen].value
    reason = f"{chosen}: agrees with {found.basis} on {value:.1%} of {found.standings[chosen].items:,} items"
    if chosen != best:
        reason += f", not significantly less than {best} ({found.standings[best].value:.1%}), and costs less"
    elif len(able) > 1:
        reason += ", the most of those " + ("within the budget" if budget is not None else "compared")
    price = judges[chosen].dollars
    reason += "; price not known" if price is None else f"; ${price * calls / 1000:,.2f} for {calls:,} calls"
    said = ", ".join(dict.fromkeys(flags.get(chosen, [])))
    unknown = ". Its biases could not be measured here." if chosen not in flags else ". No bias of it was found."
    reason += f". Mind its bias: {said}." if said else unknown
    if found.basis == OTHERS:
        reason += " Agreement with other judges is not correctness: they may err alike."
    return Choice(chosen, reason + left)


def _price(facts: Facts) -> float:
    return float("inf") if facts.dollars is None else facts.dollars


def _worse(found: Yardstick, name: str, best: str) -> bool:
    """Whether ``name`` agrees less than ``best``: the 95% interval of the paired difference excludes 0."""
    if name == best:
        return False
    one, two = found.replicates[name], found.replicates[best]
    difference = one - two if len(one) == len(two) else np.empty(0)
    difference = difference[~np.isnan(difference)]
    return bool(len(difference)) and percentile_interval(difference).high < 0
