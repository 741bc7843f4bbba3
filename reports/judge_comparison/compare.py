"""All that is said of a panel of judges, computed once: ``compare(panel)``. Tables and figures only lay it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import pandas as pd

from harness.stats import Interval
from reports.judge_comparison.agreement import Agreement, Alpha, agree, krippendorff
from reports.judge_comparison.bias import Effect, Setting, effects
from reports.judge_comparison.humans import HumanAgreement, human_agreement
from reports.judge_comparison.model_families import leakage_warning
from reports.judge_comparison.panel import Estimate, Facts, Panel
from reports.judge_comparison.ranking import (
    FEW,
    Conclusion,
    RankAgreement,
    Ranking,
    comparisons,
    conclusion,
    interval,
    noise_of,
    plain_rates,
    rank_agreement,
    ranking,
)
from reports.judge_comparison.recommendation import (
    Choice,
    Yardstick,
    choose,
    common_items,
    nothing_to_measure,
    uneven,
    without_itself,
    yardstick,
)
from reports.judge_comparison.reliability import Reliability, reliability
from reports.tables.published import plain_name
from reports.text import clean

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
    names: Mapping[str, str]
    """Id of a benchmark or metric to its title; one that is not there is called by its id."""


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
    calls = pass_calls(panel)

    def alike(names: Sequence[str]) -> Yardstick | None:
        return yardstick(common_items(panel, names, humans), humans, replicates, seed)

    choice = choose(panel.judges, measure, budget, calls, _flags(parts), alike)
    if measure is None or not measure.standings:
        choice = Choice(None, f"No recommendation: {nothing_to_measure(panel, humans)}.")
    notes = [*panel.notes, *_leaks(panel, teacher), *_unchecked(panel, metrics), *uneven(measure)]
    if any(len(each.rows) < FEW for part in metrics for each in part.agreements):
        notes.append(f"Rank correlations over fewer than {FEW} rows say little, whatever their value.")
    return Comparison(
        panel.source,
        panel.judges,
        panel.titles,
        parts,
        metrics,
        found,
        measure,
        choice,
        calls,
        tuple(notes),
        panel.names,
    )


def pass_calls(panel: Panel) -> int:
    """Calls that judging these answers once takes, asked as the benchmarks ask by themselves: one order, if they do."""
    once = panel.calls[panel.calls["repeat"] == 0]
    counts = [once[once["benchmark"] == name]["judge"].value_counts().max() for name in panel.benchmarks]
    return sum(panel.passes.get(name, int(most)) for name, most in zip(panel.benchmarks, counts, strict=True))


def _leaks(panel: Panel, teacher: str) -> list[str]:
    """Warnings of judges that are the teacher or of its family."""
    found = []
    for name, facts in panel.judges.items():
        itself = bool(panel.teacher and facts.model) and plain_name(facts.model) == plain_name(panel.teacher)
        found.append(leakage_warning(name, facts.family, teacher, itself))
    return [text for text in found if text]


def _unchecked(panel: Panel, metrics: Sequence[MetricPart]) -> list[str]:
    """The metrics under which the first judge gave nothing that others could be checked against."""
    first = next(iter(panel.judges))
    absent = [clean(panel.names.get(each.metric, each.metric)) for each in metrics if first not in each.rankings]
    if not absent or len(panel.judges) < 2:
        return []
    return [f"{first} gave no verdict on {', '.join(absent)}: no conclusion of it can be checked there."]


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
        metric = f"{name}.{'wr' if panel.paired[name] else 'score'}"
        whole = without_itself(panel.matrix(name))
        for baseline, table in by_baseline(whole) if panel.paired[name] else [("", whole)]:
            rates = plain_rates(table, replicates, seed)
            plain[clean(f"{metric} against {baseline}") if baseline else metric] = {
                judge: {
                    row: replace(e, value=scale * e.value, replicates=scale * e.replicates) for row, e in rows.items()
                }
                for judge, rows in rates.items()
            }
    return plain


def by_baseline(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Parts of a ``Panel.matrix`` whose win rates are against one baseline, and its name where there are several.

    Where baselines are not named each question has one of its own (``annotations``): those are one part.
    """
    turns = table.index.get_level_values("turn")
    names = list(dict.fromkeys(turns))
    if len(names) < 2 or len(names) > table.index.get_level_values("question").nunique() / 2:
        return [("", table)]
    return [(str(name), table[turns == name]) for name in names]


def _metric(panel: Panel, metric: str, rates: Mapping[str, Mapping[str, Estimate]]) -> MetricPart:
    judges = [judge for judge in panel.judges if rates.get(judge)]
    pairs = [rank_agreement((a, b), rates[a], rates[b]) for a, b in combinations(judges, 2)]
    first, conclusions = next(iter(panel.judges)), []
    for other in judges if first in judges else ():
        if other != first:
            planned = comparisons(list(rates[first]), panel.reference, panel.baselines, panel.focus)
            conclusions.append(conclusion((other, first), rates[first], rates[other], planned, panel.titles))
    noise = {judge: noise_of(rates[judge]) for judge in judges}
    return MetricPart(
        metric,
        {judge: {row: interval(each, noise[judge]) for row, each in rates[judge].items()} for judge in judges},
        {judge: ranking(judge, rates[judge]) for judge in judges},
        tuple(each for each in pairs if each is not None),
        tuple(conclusions),
    )
