"""From a plan to ``run.json``: which scores make up the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from harness.contracts.benchmark import Card
from harness.contracts.registry import Registry
from harness.contracts.stage import Store
from harness.plan.plan import Plan
from harness.plan.planner import PlannedRow
from harness.recipe.recipe import Recipe
from harness.run.scheduler import Outcome
from results.run.record import Cell, RowSpec, Run, RunFamily

TITLES = {"teacher": "Teacher", "student": "Student"}


def describe(plan: Plan, store: Store, outcome: Outcome | None = None) -> Run:
    """The record of a plan: what ``runs/NAME/TARGET/run.json`` holds. No outcome: the run has only begun."""
    recipe, registry = plan.recipe, plan.graph.registry
    errors = failures(plan, outcome) if outcome else {}
    titles = {**TITLES, **plan.titles}
    return Run(
        name=recipe.name,
        recipe=recipe.resolved(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        finished=outcome is not None and not outcome.failed,
        family=RunFamily(recipe.family.name, recipe.family.teacher, recipe.family.student),
        rows=tuple(
            RowSpec(row, titles[row], True) if row in titles else RowSpec(row, title_of(row, recipe, registry))
            for row in plan.rows
        ),
        columns=tuple(metric for name in recipe.benchmarks for metric in registry.benchmarks[name].metrics),
        seeds=recipe.seeds,
        cells=tuple(cells(plan, store, errors)),
        cards=tuple(card(plan, name) for name in recipe.benchmarks),
        judges={name: judge_name(recipe, registry, spec.judge) for name, spec in recipe.benchmarks.items()},
        wall_seconds=outcome.seconds if outcome else 0.0,
        stages_total=outcome.total if outcome else len(plan.stages),
        stages_cached=outcome.cached if outcome else 0,
        notes=tuple(notes(plan)),
        stages=tuple(stage.key for stage in plan.stages),
    )


def notes(plan: Plan) -> list[str]:
    """What a reader of the tables must know of the data: a fallback, overlap that was allowed, a control."""
    recipe, source = plan.recipe, plan.graph.source
    texts = [source.note] if source.note else []
    if recipe.prompts.allow_overlap:
        texts.append("prompts.allow_overlap: training prompts may contain test questions")
    if recipe.reward.shuffle:
        texts.append("control: the teacher's rewards were shuffled over the responses")
    if plan.planner.tuned_on:
        texts.append(f"tuned teacher: {plan.planner.tuned_on}")
    return texts


def failures(plan: Plan, outcome: Outcome) -> dict[str, str]:
    """Key of every stage that failed, or waits for one that did, to the last line of the error."""
    errors = {key: text.strip().splitlines()[-1] for key, text in outcome.failed.items()}
    for stage in plan.stages:  # inputs come before readers, so one pass carries an error all the way down
        cause = next((errors[ref.key] for ref in stage.waits_for if ref.key in errors), None)
        if cause:
            errors.setdefault(stage.key, cause)
    return errors


def title_of(row: str, recipe: Recipe, registry: Registry) -> str:
    """A row's own title, or its method's with what sets the row apart: rounds/responses as in the paper's Table 2."""
    entry = recipe.methods[row]
    method, options = registry.methods[entry.method], entry.row_options
    if options.title:
        return options.title
    usual = method.needs.sampling.get("n", recipe.sampling.n)
    if "samples" in method.needs.responses and (options.rounds > 1 or entry.sampling.n != usual):
        return f"{method.title} {options.rounds}/{entry.sampling.n}{'' if options.resample else ', one pool'}"
    return method.title if row == entry.method else f"{method.title} ({row})"


def card(plan: Plan, benchmark: str) -> Card:
    """The protocol; with another baseline its first deviation is that it is not the official one."""
    official = plan.graph.registry.benchmarks[benchmark].card(plan.recipe.benchmarks[benchmark].config)
    if not plan.graph.compares(benchmark):
        return official
    text = f"Not official: head-to-head against the answers of {plan.recipe.baseline}."
    return replace(official, deviations=(text, *official.deviations))


def judge_name(recipe: Recipe, registry: Registry, name: str | None) -> str:
    """The judge's model, for people; or that a rule grades."""
    if name is None:
        return "by rule"
    entry = recipe.judges[name]
    return str(registry.judges[entry.kind].identity(entry.config).get("model", entry.kind))


def cells(plan: Plan, store: Store, errors: Mapping[str, str]) -> Iterator[Cell]:
    for benchmark in plan.recipe.benchmarks:
        judged = [entrant for entrant in plan.entrants if benchmark in entrant.judgments]
        # After failures the score is over what is in the store: a row that was blocked has no error of its own.
        scored = [entrant for entrant in judged if not errors or store.done(entrant.judgments[benchmark])]
        score = plan.planner.scores(benchmark, scored).key if scored else ""
        for entrant in plan.entrants:
            reason = unavailable(entrant, benchmark, errors, entrant in scored)
            place = (score, entrant.name) if reason is None else ("", "")
            for metric in plan.graph.registry.benchmarks[benchmark].metrics:
                yield Cell(entrant.row, metric.id, entrant.seed, *place, unavailable=reason)


def unavailable(entrant: PlannedRow, benchmark: str, errors: Mapping[str, str], scored: bool) -> str | None:
    """Why an entrant has no score, or ``None``."""
    if entrant.unavailable or scored:
        return entrant.unavailable
    if benchmark not in entrant.judgments:
        return "the baseline of this column" if benchmark in entrant.answers else "no answers given"
    return f"failed: {errors.get(entrant.judgments[benchmark].key, 'not judged')}"
