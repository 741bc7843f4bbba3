"""Everything that is measured of a panel of judges, computed once; written to files, and read back for the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations

import pandas as pd
from pydantic import TypeAdapter

from harness.text import clean
from reports.judge_comparison.agreement import consistency, pair_agreement
from reports.judge_comparison.bias import bias_effects
from reports.judge_comparison.panel import JudgeProfile, Number, Panel, QuestionBootstrap, Scores
from reports.judge_comparison.ranking import differences, mean_scores, rank_correlation, ranking
from reports.judge_comparison.reference import Reference, judge_reference
from reports.tables.judge_family import leakage_warning

REPLICATES = 1000
FEW_ROWS = 8


@dataclass(frozen=True)
class JudgeComparison:
    source: str
    judges: Mapping[str, JudgeProfile]
    titles: Mapping[str, str]  # row, benchmark or metric to its title
    paired: Mapping[str, bool]  # benchmark to whether its verdicts are comparisons
    numbers: tuple[Number, ...]
    asked: Mapping[str, str]  # benchmark to how the judges were asked: ``in both orders twice``
    reference: Reference | None
    askings: Mapping[str, int]  # how judges can be asked, and the calls of one pass
    notes: tuple[str, ...] = ()

    def select(self, *measures: str, on: str | None = None, judge: str | None = None) -> list[Number]:
        numbers = [number for number in self.numbers if on in (None, number.on) and judge in (None, number.judge)]
        return [number for number in numbers if number.measure in measures or not measures]

    def accuracies(self, asking: str = "") -> dict[str, Number]:
        """By judge, of all calls together or asked in one way."""
        return {number.judge: number for number in self.select("accuracy") if number.asking == asking}

    @property
    def conclusions(self) -> list[dict[str, Number]]:
        """The differences that are significant in the run's own table, or else under the first judge: each with its
        tests by judge, and in that table."""
        found: dict[tuple[str, str, str], dict[str, Number]] = {}
        for number in self.select("difference"):
            if number.verdict:
                found.setdefault((number.on, number.row, number.against), {})[number.judge] = number
        return list(found.values())

    def title(self, name: str) -> str:
        return clean(self.titles.get(name, name))

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(map(asdict, self.numbers))


ADAPTER = TypeAdapter(JudgeComparison)


def compare_panel(
    panel: Panel,
    humans: pd.DataFrame | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    budget: float | None = None,
) -> JudgeComparison:
    """Compare the judges of a panel. ``humans``: votes on items of one paired benchmark (``read_humans``,
    ``simulated_humans``). ``replicates``: of the bootstrap over questions. ``budget``: dollars that the recommended
    judge may cost for one pass over these answers."""
    questions = {name: panel.judgments_of(name)["question"] for name in panel.benchmarks}
    bootstraps = {name: QuestionBootstrap(questions[name], replicates, seed) for name in panel.benchmarks}
    numbers = [number for name, bootstrap in bootstraps.items() for number in _on_benchmark(panel, name, bootstrap)]
    reference, reference_numbers = judge_reference(panel, humans, replicates, seed, numbers, budget)
    scores = panel.scores or _mean_scores(panel, bootstraps)
    first_judge = next(iter(panel.judges))  # a first judge without verdicts is not replaced by the second
    for metric, by_judge in scores.items():
        judges = [judge for judge in panel.judges if by_judge.get(judge)]
        numbers += [number for judge in judges for number in ranking(metric, judge, by_judge[judge])]
        numbers += [n for a, b in combinations(judges, 2) for n in rank_correlation(metric, a, b, by_judge)]
        families = panel.comparisons or [list(combinations(by_judge.get(first_judge, ()), 2))]
        scored = {judge: by_judge[judge] for judge in judges}
        numbers += differences(metric, scored, families, first_judge, panel.own.get(metric, {}))
    return JudgeComparison(
        panel.source, panel.judges, panel.titles, panel.paired, (*numbers, *reference_numbers),
        {name: panel.asked(name) for name in panel.benchmarks}, reference, panel.askings,
        (*panel.notes, *_warnings(panel, scores)),
    )  # fmt: skip


def _on_benchmark(panel: Panel, name: str, bootstrap: QuestionBootstrap) -> Iterable[Number]:
    table, paired = panel.matrix(name), panel.paired[name]
    for a, b in combinations(table.columns, 2):
        yield from pair_agreement(table[[a, b]], name, paired, bootstrap)
    for judge in dict.fromkeys(panel.judgments_of(name)["judge"]):
        yield from consistency(panel.judgments_of(name, judge), paired, bootstrap)
        yield from bias_effects(panel, name, judge)


def _mean_scores(panel: Panel, bootstraps: Mapping[str, QuestionBootstrap]) -> dict[str, Scores]:
    """Metric to scores without a benchmark's scorer: mean grades, and win rates in per cent per named baseline."""
    scores: dict[str, Scores] = {}
    for name, bootstrap in bootstraps.items():
        table, paired = panel.matrix(name), panel.paired[name]
        turns = table.index.get_level_values("turn")
        baselines = list(dict.fromkeys(turns)) if paired else []
        metric, scale = (f"{name}.wr", 100.0) if paired else (f"{name}.score", 1.0)
        tables = {clean(f"{metric} against {baseline}"): table[turns == baseline] for baseline in baselines}
        tables = tables if len(baselines) > 1 else {metric: table}
        scores |= {title: mean_scores(metric_table, scale, bootstrap) for title, metric_table in tables.items()}
    return scores


def _warnings(panel: Panel, scores: Mapping[str, Scores]) -> list[str]:
    warnings = [leakage_warning(name, profile.model, panel.teacher) for name, profile in panel.judges.items()]
    first_judge = next(iter(panel.judges))
    absent = [
        clean(panel.titles.get(metric, metric)) for metric, judges in scores.items() if not judges.get(first_judge)
    ]
    if absent and len(panel.judges) > 1:
        warnings.append(
            f"{first_judge} gave no verdict on {', '.join(absent)}: no conclusion can be checked with it there."
        )
    if any(0 < len(rows) < FEW_ROWS for judges in scores.values() for rows in judges.values()):
        warnings.append(f"Rank correlations over fewer than {FEW_ROWS} rows say little, whatever their value.")
    return [text for text in warnings if text]
