"""Everything that is measured of a panel of judges, computed once: ``compare_panel(panel)``.

Tables, figures, files and page only lay a ``JudgeComparison`` out, and it is stored whole in ``judges.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import pandas as pd
from pydantic import TypeAdapter

from reports.judge_comparison.agreement import Consistency, PairAgreement, consistency, pair_agreement
from reports.judge_comparison.bias import BiasEffect, bias_effects
from reports.judge_comparison.model_families import leakage_warning
from reports.judge_comparison.panel import JudgeProfile, Panel, QuestionBootstrap, RowScore
from reports.judge_comparison.ranking import (
    ConclusionCheck,
    RankCorrelation,
    RankedRow,
    check_conclusion,
    mean_scores,
    planned_comparisons,
    rank_correlation,
    ranking,
)
from reports.judge_comparison.reference import Reference, judge_reference
from reports.text import clean

REPLICATES = 1000
FEW_ROWS = 8


@dataclass(frozen=True)
class BenchmarkComparison:
    """The judges on one benchmark."""

    benchmark: str
    paired: bool
    agreements: tuple[PairAgreement, ...]
    consistency: Mapping[str, Consistency]
    biases: Mapping[str, tuple[BiasEffect, ...]]


@dataclass(frozen=True)
class MetricComparison:
    """The rows ranked by one metric under every judge."""

    metric: str
    rankings: Mapping[str, tuple[RankedRow, ...]]
    correlations: tuple[RankCorrelation, ...]
    checks: tuple[ConclusionCheck, ...]


@dataclass(frozen=True)
class JudgeComparison:
    """The whole comparison: plain data, written to ``judges.json`` and read back from it."""

    source: str
    judges: Mapping[str, JudgeProfile]
    titles: Mapping[str, str]
    """Row id to title."""
    names: Mapping[str, str]
    """Benchmark or metric id to title."""
    benchmarks: tuple[BenchmarkComparison, ...]
    metrics: tuple[MetricComparison, ...]
    reference: Reference | None
    notes: tuple[str, ...] = ()


ADAPTER = TypeAdapter(JudgeComparison)
"""To and from plain JSON values."""


def compare_panel(
    panel: Panel,
    humans: pd.DataFrame | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    budget: float | None = None,
) -> JudgeComparison:
    """Compare the judges of a panel.

    Args:
        humans: annotations of items of one paired benchmark (``annotations.read_humans``).
        replicates: bootstrap resamples of the questions.
        budget: dollars that the recommended judge may cost for the calls of this comparison.
    """
    bootstraps = {
        name: QuestionBootstrap(list(panel.of(name)["question"]), replicates, seed) for name in panel.benchmarks
    }
    scores = panel.scores or _mean_scores(panel, bootstraps)
    benchmarks = tuple(_on_benchmark(panel, name, bootstrap) for name, bootstrap in bootstraps.items())
    flips: dict[str, float] = {}
    for part in benchmarks:
        for judge, steady in part.consistency.items():
            flips[judge] = max(flips.get(judge, 0.0), steady.flips.value or 0.0)
    return JudgeComparison(
        panel.source,
        panel.judges,
        panel.titles,
        panel.names,
        benchmarks,
        tuple(_on_metric(panel, metric, by_judge) for metric, by_judge in scores.items()),
        judge_reference(panel, humans, replicates, seed, flips, budget),
        (*panel.notes, *_warnings(panel, scores)),
    )


def _on_benchmark(panel: Panel, name: str, bootstrap: QuestionBootstrap) -> BenchmarkComparison:
    table, paired = panel.matrix(name), panel.paired[name]
    items = panel.items[panel.items["benchmark"] == name]
    judges = list(dict.fromkeys(panel.of(name)["judge"]))
    pairs = [pair_agreement(table[[a, b]], paired, bootstrap) for a, b in combinations(table.columns, 2)]
    return BenchmarkComparison(
        name,
        paired,
        tuple(pair for pair in pairs if pair is not None),
        {judge: consistency(panel.of(name, judge), items, paired, bootstrap) for judge in judges},
        {judge: bias_effects(panel, name, judge) for judge in judges},
    )


def _on_metric(panel: Panel, metric: str, scores: Mapping[str, Mapping[str, RowScore]]) -> MetricComparison:
    judges = [judge for judge in panel.judges if scores.get(judge)]
    correlations = [rank_correlation((a, b), scores[a], scores[b]) for a, b in combinations(judges, 2)]
    first = next(iter(panel.judges))  # a first judge without verdicts is not replaced by the second
    families = planned_comparisons(list(scores.get(first, ())), panel.reference, panel.baselines, panel.focus)
    others = [judge for judge in judges if judge != first] if first in judges else []
    return MetricComparison(
        metric,
        {judge: ranking(scores[judge]) for judge in judges},
        tuple(each for each in correlations if each is not None),
        tuple(check_conclusion((other, first), scores[first], scores[other], families) for other in others),
    )


def _mean_scores(
    panel: Panel, bootstraps: Mapping[str, QuestionBootstrap]
) -> Mapping[str, Mapping[str, Mapping[str, RowScore]]]:
    """Metric to judge to row where no scorer of a benchmark is at hand: mean verdicts, win rates in per cent.

    Win rates against different baselines are not comparable: each baseline that is named has a metric of its own.
    """
    found = {}
    for name, bootstrap in bootstraps.items():
        table, paired = panel.matrix(name), panel.paired[name]
        turns = table.index.get_level_values("turn")
        baselines = list(dict.fromkeys(turns)) if paired else []
        metric, scale = (f"{name}.wr", 100.0) if paired else (f"{name}.score", 1.0)
        if len(baselines) < 2:
            found[metric] = mean_scores(table, scale, bootstrap)
            continue
        for baseline in baselines:
            found[clean(f"{metric} against {baseline}")] = mean_scores(table[turns == baseline], scale, bootstrap)
    return found


def _warnings(panel: Panel, scores: Mapping[str, Mapping[str, Mapping[str, RowScore]]]) -> list[str]:
    """What a reader must know: judges of the teacher's family, metrics that the first judge did not score, few rows."""
    found = []
    for name, profile in panel.judges.items():
        warning = leakage_warning(name, profile.model, panel.teacher)
        found += [warning] if warning else []
    first = next(iter(panel.judges))
    absent = [clean(panel.names.get(metric, metric)) for metric, judges in scores.items() if not judges.get(first)]
    if absent and len(panel.judges) > 1:
        found.append(f"{first} gave no verdict on {', '.join(absent)}: none of its conclusions can be checked there.")
    if any(0 < len(rows) < FEW_ROWS for judges in scores.values() for rows in judges.values()):
        found.append(f"Rank correlations over fewer than {FEW_ROWS} rows say little, whatever their value.")
    return found
