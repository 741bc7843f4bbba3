"""Which judge to trust, and which to pay for: agreement with the best yardstick at hand, and a choice within a budget.

Yardsticks, best first: human annotations, the truth (pocket), the other judges. The choice is the cheapest judge that
is not shown to agree less than the best affordable one, on the items that all of them gave a verdict on. A judge that
leaves too many items without one is not recommended, however well it does on the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.stats import Array, Interval, percentile_interval
from harness.text import counted
from reports.judge_comparison.agreement import BASELINE, MODEL, TIE, labels
from reports.judge_comparison.humans import HUMANS, human_agreement
from reports.judge_comparison.panel import ITEM, Facts, Panel, cluster_sums, draws
from reports.tables.summary import MIN_COVERAGE

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
    coverage: float = 1.0
    """Share of its calls with a verdict, over all items of the yardstick; one that it was not asked about is a 0."""
    questions: int | None = None
    """Behind the items; ``None``: not known."""


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
    """The best yardstick that there is; ``None`` where there is none (``nothing_to_measure`` says why)."""
    if humans is not None:
        benchmark = str(humans["benchmark"].iloc[0])
        found, drawn = human_agreement(humans, panel.of(benchmark), replicates, seed)
        people = humans.dropna(subset=["verdict"]).groupby(["benchmark", *ITEM]).size()
        seen = _seen(panel, people[people >= 2].index)
        standings = {
            name: Standing(name, each.value, each.interval, each.items, *seen[name])
            for name, each in found.items()
            if name != HUMANS
        }
        return Yardstick(HUMAN, standings, drawn)
    for basis, scores in ((TRUTH, _against_truth(panel)), (OTHERS, _against_others(panel))):
        if scores is not None and not scores.dropna(how="all").empty:
            return _summary(basis, scores, _seen(panel, scores.index), replicates, seed)
    return None


def _seen(panel: Panel, items: pd.Index[Any]) -> dict[str, tuple[float, int]]:
    """Judge to (share of verdicts among its calls, in the mean over ``items``; questions that it gave a verdict on).

    Index of ``items``: benchmark, ``ITEM``. An item that a judge was not asked about counts as 0.
    """
    given = panel.calls["verdict"].notna().groupby([panel.calls[name] for name in ("judge", "benchmark", *ITEM)]).mean()
    table = given.unstack("judge").reindex(items).fillna(0.0)
    names = table.index.to_frame()["benchmark"] + "\x1f" + table.index.to_frame()["question"]
    return {str(judge): (float(table[judge].mean()), names[table[judge] > 0].nunique()) for judge in table.columns}


def common_items(panel: Panel, names: Sequence[str], humans: pd.DataFrame | None) -> Panel:
    """The panel with only those items on which all of ``names`` gave a verdict; the other judges stay in it."""
    keys = ["benchmark", *ITEM]
    given = panel.calls[panel.calls["judge"].isin(list(names))].dropna(subset=["verdict"])
    if humans is not None:
        given = given.merge(humans[keys].drop_duplicates(), on=keys)
    judges = given.groupby(keys)["judge"].nunique()
    kept = judges[judges == len(set(names))].reset_index()[keys]
    return replace(panel, calls=panel.calls.merge(kept, on=keys))


def nothing_to_measure(panel: Panel, humans: pd.DataFrame | None) -> str:
    """Why no judge can be measured."""
    if panel.calls["verdict"].isna().all():
        return "no judge gave a verdict"
    if humans is not None:
        return "no judge gave a verdict on an answer that two people or more annotated"
    if not any(panel.paired[name] for name in panel.benchmarks):
        return "these judges gave grades, and only comparisons with a baseline's answer can be held against each other"
    if len(panel.judges) == 1:
        return "one judge, and neither humans nor the truth to compare it with"
    return "no two judges gave a verdict on the same item, and there are neither humans nor the truth"


def uneven(found: Yardstick | None) -> list[str]:
    """A line where judges were measured on different items, else none."""
    standings = found.standings if found else {}
    if len({each.items for each in standings.values()}) < 2:
        return []
    said = ", ".join(f"{name} {each.items:,}" for name, each in standings.items())
    return [f"Judges agree with the yardstick on different items ({said}); the recommendation compares the same ones."]


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


def _summary(
    basis: str, scores: pd.DataFrame, seen: Mapping[str, tuple[float, int]], replicates: int, seed: int
) -> Yardstick:
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
        known, several = drawn[str(judge)][~np.isnan(drawn[str(judge)])], seen[str(judge)][1]
        interval = percentile_interval(known, several) if len(known) and several > 1 else None
        value = float(values[here].mean())
        standings[str(judge)] = Standing(str(judge), value, interval, int(here.sum()), *seen[str(judge)])
    return Yardstick(basis, standings, drawn)


def choose(
    judges: Mapping[str, Facts], found: Yardstick | None, budget: float | None, calls: int,
    flags: Mapping[str, list[str]], alike: Callable[[Sequence[str]], Yardstick | None] | None = None,
) -> Choice:  # fmt: skip
    """A judge for ``budget`` dollars (``None``: whatever it costs) and ``calls`` calls, with the reason.

    Args:
        flags: biases that were found, by judge; one that is missing could not be measured.
        alike: the yardstick on the items that all of these judges gave a verdict on; left out: ``found`` is that.
    """
    if found is None or not found.standings:
        return Choice(None, "No recommendation: there is nothing to hold the judges against.")
    able, out = candidates(judges, found, budget, calls)
    left = f" Left out: {'; '.join(out)}." if out else ""
    if not able:
        within = "" if budget is None else f" for {counted(calls, 'call')} within ${budget:g}"
        return Choice(None, f"No judge can be recommended{within}.{left}")
    whole = all(found.standings[name].coverage == 1 for name in able)
    held = found if whole or alike is None or len(able) == 1 else alike(able)
    if held is None or not all(name in held.standings for name in able):
        return Choice(None, f"No recommendation: {' and '.join(able)} gave no verdict on the same items.{left}")
    best = max(able, key=lambda name: held.standings[name].value)
    cheaper = [name for name in able if _costs_less(judges[name], judges[best]) and not _worse(held, name, best)]
    chosen = min(cheaper, key=lambda name: (judges[name].dollars or 0.0, -held.standings[name].value), default=best)
    value = held.standings[chosen].value
    reason = f"{chosen}: agrees with {held.basis} on {value:.1%} of {counted(held.standings[chosen].items, 'item')}"
    if chosen != best:
        reason += f", not significantly less than {best} ({held.standings[best].value:.1%}), and costs less"
    elif len(able) > 1:
        reason += ", the most of those " + ("within the budget" if budget is not None else "compared")
    return Choice(chosen, reason + _terms(chosen, judges[chosen], calls, flags, held.basis) + left)


def candidates(
    judges: Mapping[str, Facts], found: Yardstick, budget: float | None, calls: int
) -> tuple[list[str], list[str]]:
    """Who may be recommended, and why each other one may not: too few verdicts, or outside of the budget."""
    able = []
    out = [f"{name}: no item to hold it against" for name in judges if name not in found.standings]
    for name, standing in found.standings.items():
        price = judges[name].dollars
        cost = None if price is None else price * calls / 1000
        if standing.coverage < MIN_COVERAGE:
            out.append(f"{name}: {standing.coverage:.1%} of the verdicts are there, {MIN_COVERAGE:.0%} are needed")
        elif budget is not None and cost is None:
            out.append(f"{name}: price not known")
        elif budget is not None and cost is not None and cost > budget:
            out.append(f"{name}: ${cost:,.2f}")
        else:
            able.append(name)
    return able, out


def _terms(chosen: str, facts: Facts, calls: int, flags: Mapping[str, list[str]], basis: str) -> str:
    """What it costs, what to mind."""
    price = facts.dollars
    reason = "; price not known" if price is None else f"; ${price * calls / 1000:,.2f} for {counted(calls, 'call')}"
    said = ", ".join(dict.fromkeys(flags.get(chosen, [])))
    unknown = ". Its biases could not be measured here." if chosen not in flags else ". No bias of it was found."
    reason += f". Mind its bias: {said}." if said else unknown
    if basis == OTHERS:
        reason += " Agreement with other judges is not correctness: they may err alike."
    return reason


def _costs_less(one: Facts, other: Facts) -> bool:
    """Whether it is known to: of both the price is."""
    return one.dollars is not None and other.dollars is not None and one.dollars < other.dollars


def _worse(found: Yardstick, name: str, best: str) -> bool:
    """Whether ``name`` agrees less than ``best``: the 95% interval of the paired difference excludes 0."""
    difference = found.replicates[name] - found.replicates[best]
    difference = difference[~np.isnan(difference)]
    counts = [each for one in (name, best) if (each := found.standings[one].questions) is not None]
    n = min(counts, default=None)
    if not len(difference) or n == 1:
        return False
    return percentile_interval(difference, n).high < 0
