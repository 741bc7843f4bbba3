"""Before a run: the smallest change from the reference row that each column will detect, by target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distilbench.workflows.finished_run import load
from distilbench.workflows.plan import WorkPlan
from harness.contracts.benchmark import Metric
from harness.errors import UserError, unknown_choice
from harness.plan.plan import Plan
from harness.recipe.sections import MODELS
from reports.tables.power import Variances, pilot_variances
from reports.tables.summary import scale, summarise
from reports.targets import find_target

_STATED = re.compile(r"([\w.]+)=([0-9]+(?:\.[0-9]+)?)(?:/([0-9]+(?:\.[0-9]+)?))?")


@dataclass(frozen=True)
class ColumnPower:
    """``change``: at 80% power, in the metric's unit; ``None``: none of its scale, or no variance is known."""

    metric: Metric
    questions: int
    change: float | None
    basis: str
    """Where the variances come from, in words."""
    knows_seeds: bool
    """Whether the variance of training seeds is in it."""


def smallest_changes(
    work: WorkPlan, pilot: str | Path | None = None, spreads: Sequence[str] = ()
) -> dict[str, list[ColumnPower]]:
    """By target, of the columns whose reference row is judged. Variances: those stated in ``spreads``
    (``METRIC=SPREAD_OF_QUESTIONS[/SPREAD_OF_SEEDS]``, standard deviations), else of the ``pilot`` (a finished run's
    folder; by default this recipe's own run, where it is there), else the benchmark's.

    Raises UserError for a pilot that cannot be read and for a spread that is none.
    """
    stated = _read_spreads(spreads, work)
    return {
        name: list(_columns(plan, name, stated, *_pilot(work, name, pilot)))
        for name, plan in work.plans.items()
        if not find_target(name).compares_judges
    }


def _read_spreads(spreads: Iterable[str], work: WorkPlan) -> dict[str, Variances]:
    metrics = {metric.id for plan in work.plans.values() for metric, _ in _metrics(plan)}
    stated: dict[str, Variances] = {}
    for text in spreads:
        match = _STATED.fullmatch(text.strip())
        if match is None:
            raise UserError(f"--spread {text}: write METRIC=SD or METRIC=SD/SD_OF_SEEDS, as in mt_bench.score=3/0.2.")
        metric, question, seed = match.groups()
        if metric not in metrics:
            raise unknown_choice("metric in --spread", metric, metrics)
        stated[metric] = Variances(float(question) ** 2, seed=float(seed) ** 2 if seed else None)
    return stated


def _pilot(work: WorkPlan, target: str, pilot: str | Path | None) -> tuple[Mapping[str, list[Variances]], str]:
    """Variances by metric, and the run's name."""
    folder = work.folder if pilot is None else Path(pilot)
    try:
        run = load(folder)
        name = target if target in run.targets else run.choose()
        return pilot_variances(summarise(run.results(name), find_target(name), 0.0)), str(folder)
    except UserError:
        if pilot is not None:
            raise
        return {}, ""  # the usual case: nothing has run


def _metrics(plan: Plan) -> Iterable[tuple[Metric, float | None]]:
    """Metrics with the benchmark's own spread."""
    for name in plan.recipe.benchmarks:
        benchmark = plan.graph.registry.benchmarks[name]
        yield from zip(benchmark.metrics, benchmark.spreads or [None] * len(benchmark.metrics), strict=True)


def _columns(
    plan: Plan, target_name: str, stated: Mapping[str, Variances], pilot: Mapping[str, list[Variances]], pilot_name: str
) -> Iterable[ColumnPower]:
    target, seeds = find_target(target_name), len(plan.recipe.seeds)
    for metric, spread in _metrics(plan):
        name = metric.id.partition(".")[0]
        judged = {entrant.row for entrant in plan.entrants if name in entrant.judgments}
        trained = judged - {*MODELS, target.reference}
        if target.reference not in judged or not trained or not (target.open or metric.id in target.columns):
            continue
        if metric.id in stated:
            variances, basis = [stated[metric.id]], "stated"
        elif metric.id in pilot:
            variances, basis = pilot[metric.id], f"as in {pilot_name}"
        else:
            variances, basis = [] if spread is None else [Variances(spread**2)], "assumed" if spread else "not known"
        if basis in ("stated", "assumed"):
            basis += f": {variances[0].question ** 0.5:g} per question"
            basis += "" if variances[0].seed is None else f", {variances[0].seed ** 0.5:g} per seed"
        questions, sides = len(plan.graph.benchmarks[name].questions), 1 if target.reference in MODELS else 2
        # In the row with the largest error, as under a table.
        change = max((row.detectable(questions, seeds, len(trained), sides) for row in variances), default=None)
        limits = scale(metric)
        if change is not None and limits is not None and change > limits[1] - limits[0]:
            change = None
        yield ColumnPower(metric, questions, change, basis, all(row.seed is not None for row in variances))
