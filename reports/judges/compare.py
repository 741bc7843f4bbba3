"""All that is said of a panel of judges, computed once: ``compare(panel)``. Tables and figures only lay it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from harness.stats import Interval, percentile_interval
from reports.judges.agreement import Agreement, Alpha, agree, krippendorff
from reports.judges.bias import Effect, Setting, effects
from reports.judges.families import leakage_warning
from reports.judges.humans import HumanAgreement, human_agreement
from reports.judges.panel import Estimate, Facts, Panel
from reports.judges.ranking import (
    FEW,
    Conclusion,
    RankAgreement,
    Ranking,
    comparisons,
    conclusion,
    plain_rates,
    rank_agreement,
    ranking,
)
from reports.judges.reliability import Reliability, reliability
from reports.judges.standing import Choice, Yardstick, choose, without_itself, yardstick

REPLICATES = 1000


@dataclass(frozen=True)
class BenchmarkPart:
    """The judges on one benchmark."""

    benchmark: str
    paired: bool
    items: int
    agreements: tuple[Agreement, ...]
    alpha: Alpha
    reliability: Mapping[str, Reliability]
    effects: Mapping[str, tuple[Effect, ...]]


@dataclass(frozen=True)
class MetricPart:
    """The rows ranked by one metric under every judge."""

    metric: str
    intervals: Mapping[str, Mapping[str, Interval | None]]
    rankings: Mapping[str, Ranking]
    agreements: tuple[RankAgreement, ...]
    conclusions: tuple[Conclusion, ...]


@dataclass(frozen=True)
class Comparison:
    """All of it."""

    source: str
    judges: Mapping[str, Facts]
    titles: Mapping[str, str]
    benchmarks: tuple[BenchmarkPart, ...]
    metrics: tuple[MetricPart, ...]
    humans: Mapping[str, HumanAgreement]
    """Empty without human annotations."""
    yardstick: Yardstick | None
    choice: Choice
    calls: int
    """Calls of one pass of one judge over all answers: what ``choice`` prices."""
    notes: tuple[str, ...]


def compare(
    panel: Panel,
    humans: pd.DataFrame | None = None,
    *,
    budget: float | None = None,
    teacher: str = "",
    setting: Setting = Setting(),
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Comparison:
    """Compare the judges of a panel.

    Args:
        humans: annotations of items of one paired benchmark (``annotations.read_humans``).
        budget: dollars that judging these answers once may cost, for the recommendation.
        teacher: family of the run's teacher, for the leakage warning.
        replicates: bootstrap resamples of the questions.
    """
    parts = tuple(_benchmark(panel, name, setting, replicates, seed) for name in panel.benchmarks)
    metrics = tuple(_metric(panel, name, rates) for name, rates in _rates(panel, replicates, seed).items())
    found: Mapping[str, HumanAgreement] = {}
    if humans is not None:
        judged = panel.of(str(humans["benchmark"].iloc[0]))
        found, _ = human_agreement(humans, judged, replicates, seed)
    measure = yardstick(panel, humans, replicates, seed)
    flags = _flags(parts)
    first = panel.calls[panel.calls["repeat"] == 0]
    calls = int(first.groupby("judge").size().max())
    choice = choose(panel.judges, measure, budget, calls, flags)
    leaks = [leakage_warning(name, facts.family, teacher) for name, facts in panel.judges.items()]
    notes = [*panel.notes, *(text for text in leaks if text)]
    if any(len(each.rows) < FEW for part in metrics for each in part.agreements):
        notes.append(f"Rank correlations over fewer than {FEW} rows say little, whatever their value.")
    return Comparison(
        panel.source, panel.judges, panel.titles, parts, metrics, found, measure, choice, calls, tuple(notes)
    )


def _flags(parts: Sequence[BenchmarkPart]) -> dict[str, list[str]]:
    """Judge to the biases found; a judge whose biases could not be measured is not in it."""
    found: dict[str, list[str]] = {}
    for part in parts:
        for judge, each in part.effects.items():
            measured = [effect for effect in each if effect.sound]
            if measured:
                found.setdefault(judge, []).extend(effect.name for effect in measured if effect.flagged)
    return found


def _benchmark(panel: Panel, name: str, setting: Setting, replicates: int, seed: int) -> BenchmarkPart:
    table, asked, paired = without_itself(panel.matrix(name)), without_itself(panel.asked(name)), panel.paired[name]
    pairs = [(a, b) for a, b in combinations(table.columns, 2) if not table[[a, b]].dropna().empty]
    items = panel.items[panel.items["benchmark"] == name]
    present = [judge for judge in panel.judges if not panel.of(name, judge).empty]
    return BenchmarkPart(
        name, paired, len(table.dropna(how="all")),
        tuple(agree((table, asked), pair, paired, replicates, seed) for pair in pairs),
        krippendorff(table, paired, replicates, seed),
        {judge: reliability(panel.of(name, judge), items, paired, replicates, seed) for judge in present},
        {judge: tuple(effects(panel, name, judge, setting)) for judge in present},
    )  # fmt: skip


def _rates(panel: Panel, replicates: int, seed: int) -> Mapping[str, Mapping[str, Mapping[str, Estimate]]]:
    """Metric to judge to row: the scorers' own values, or plain means of the verdicts where there are none."""
    if panel.rates:
        return panel.rates
    plain = {}
    for name in panel.benchmarks:
        scale = 100.0 if panel.paired[name] else 1.0
        rates = plain_rates(panel.matrix(name), replicates, seed)
        plain[f"{name}.{'wr' if panel.paired[name] else 'score'}"] = {
            judge: {row: Estimate(scale * each.value, scale * each.replicates) for row, each in rows.items()}
            for judge, rows in rates.items()
        }
    return plain


def _metric(panel: Panel, metric: str, rates: Mapping[str, Mapping[str, Estimate]]) -> MetricPart:
    judges = [judge for judge in panel.judges if rates.get(judge)]
    pairs = [rank_agreement((a, b), rates[a], rates[b]) for a, b in combinations(judges, 2)]
    conclusions = []
    for other in judges[1:]:
        first = judges[0]
        planned = comparisons(list(rates[first]), panel.reference, panel.baselines)
        conclusions.append(conclusion((other, first), rates[first], rates[other], planned, panel.titles))
    return MetricPart(
        metric,
        {judge: {row: interval(each) for row, each in rates[judge].items()} for judge in judges},
        {judge: ranking(judge, rates[judge]) for judge in judges},
        tuple(each for each in pairs if each is not None),
        tuple(conclusions),
    )


def interval(estimate: Estimate) -> Interval | None:
    """Of the replicates that exist."""
    known = estimate.replicates[~np.isnan(estimate.replicates)]
    return percentile_interval(known) if len(known) else None
