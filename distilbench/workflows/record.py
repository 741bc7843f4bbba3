"""From a plan to ``run.json``: which scores make up the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.contracts.benchmark import Card
    from harness.contracts.registry import Registry
    from harness.contracts.stage import Store
    from harness.plan.plan import Plan
    from harness.plan.stage_graph import Entrant
    from harness.recipe.recipe import Recipe
    from harness.run.scheduler import Outcome
    from results.run.record import Cell, RowSpec, Run

TITLES = {"teacher": "Teacher", "student": "Student"}


def describe(plan: Plan, registry: Registry, store: Store, outcome: Outcome | None = None) -> Run:
    """What ``runs/NAME/TARGET/run.json`` says of this plan. Without an outcome: a run that has only begun."""
    from results.run.record import Family, Run

    recipe = plan.recipe
    configs = {name: spec.config for name, spec in recipe.benchmarks.items()}
    errors = failures(plan, outcome) if outcome else {}
    return Run(
        name=recipe.name,
        recipe=recipe.resolved(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        finished=outcome is not None and not outcome.failed,
        family=Family(recipe.family.name, recipe.family.teacher, recipe.family.student),
        rows=tuple(_row(row, plan, registry) for row in plan.rows),
        columns=tuple(metric for name in configs for metric in registry.benchmarks[name].metrics),
        seeds=recipe.seeds,
        cells=tuple(_cells(plan, registry, store, errors)),
        cards=tuple(_card(plan, registry, name, config) for name, config in configs.items()),
        judges={name: _judge(plan, registry, name) for name in configs},
        wall_seconds=outcome.seconds if outcome else 0.0,
        stages_total=outcome.total if outcome else len(plan.stages),
        stages_cached=outcome.cached if outcome else 0,
        notes=tuple(notes(plan)),
        stages=tuple(stage.key for stage in plan.stages),
    )


def notes(plan: Plan) -> list[str]:
    """What a reader of the tables must know of the data: a fallback, overlap that was allowed, a control."""
    said = [plan.builder.source.note] if plan.builder.source.note else []
    if plan.recipe.prompts.allow_overlap:
        said.append("prompts.allow_overlap: training prompts may contain test questions")
    if plan.recipe.reward.shuffle:
        said.append("control: the teacher's rewards were dealt out to the responses at random")
    if plan.recipe.tuned_teacher and plan.builder.tuned_on:
        said.append(f"tuned teacher: {plan.recipe.tuned_teacher.training.method} on {plan.builder.tuned_on}")
    return said


def failures(plan: Plan, outcome: Outcome) -> dict[str, str]:
    """Key of every stage that failed, or waits for one that did, to the last line of the error."""
    errors = {key: text.strip().splitlines()[-1] for key, text in outcome.failed.items()}
    for stage in plan.stages:  # inputs come before readers
        needs = [ref.key for ref in stage.waits_for]
        cause = next((errors[key] for key in needs if key in errors), None)
        if cause and stage.key not in errors:
            errors[stage.key] = cause
    return errors


def _row(row: str, plan: Plan, registry: Registry) -> RowSpec:
    from results.run.record import RowSpec

    titles = {**TITLES, **plan.titles}
    return RowSpec(row, titles[row], True) if row in titles else RowSpec(row, title_of(row, plan.recipe, registry))


def title_of(row: str, recipe: Recipe, registry: Registry) -> str:
    """A row's own title, or its method's with what sets the row apart: rounds/responses as in the paper's Table 2."""
    entry = recipe.methods[row]
    method = registry.methods[entry.method]
    if entry.row_options.title:
        return entry.row_options.title
    if "samples" in method.needs.responses and (
        entry.row_options.rounds > 1 or entry.sampling.n != method.needs.sampling.get("n", recipe.sampling.n)
    ):
        pool = "" if entry.row_options.resample else ", one pool"
        return f"{method.title} {entry.row_options.rounds}/{entry.sampling.n}{pool}"
    return method.title if row == entry.method else f"{method.title} ({row})"


def _card(plan: Plan, registry: Registry, benchmark: str, config: Any) -> Card:
    """The protocol; with another baseline it says first that it is not the official one."""
    card = registry.benchmarks[benchmark].card(config)
    if not plan.builder.compares(benchmark):
        return card
    said = f"Not official: head-to-head against the answers of {plan.recipe.baseline}."
    return replace(card, deviations=(said, *card.deviations))


def _judge(plan: Plan, registry: Registry, benchmark: str) -> str:
    """What judged a benchmark, for people: the model's name, or that rules did."""
    name = plan.recipe.benchmarks[benchmark].judge
    if name is None:
        return "by rule"
    entry = plan.recipe.judges[name]
    identity: Mapping[str, Any] = registry.judges[entry.kind].identity(entry.config)
    return str(identity.get("model", entry.kind))


def _cells(plan: Plan, registry: Registry, store: Store, errors: Mapping[str, str]) -> list[Cell]:
    """One cell per row, metric and seed."""
    cells = []
    for benchmark in plan.recipe.benchmarks:
        judged = [e for e in plan.entrants if benchmark in e.judgments and store.done(e.judgments[benchmark])]
        able = [e for e in plan.entrants if benchmark in e.judgments and e.judgments[benchmark].key not in errors]
        scored = judged if errors else able
        score = plan.score_stage(benchmark, scored).key if scored else ""
        for entrant in plan.entrants:
            why = _unavailable(entrant, benchmark, errors, entrant in scored)
            cells += [_cell(entrant, metric.id, score, why) for metric in registry.benchmarks[benchmark].metrics]
    return cells


def _unavailable(entrant: Entrant, benchmark: str, errors: Mapping[str, str], scored: bool) -> str | None:
    """Why an entrant has no score, or ``None``."""
    if entrant.unavailable or scored:
        return entrant.unavailable
    if benchmark not in entrant.judgments:
        return "the baseline of this column" if benchmark in entrant.answers else "no answers given"
    return f"failed: {errors.get(entrant.judgments[benchmark].key, 'not judged')}"


def _cell(entrant: Entrant, metric: str, score: str, unavailable: str | None) -> Cell:
    from results.run.record import Cell

    if unavailable:
        return Cell(entrant.row, metric, entrant.seed, unavailable=unavailable)
    return Cell(entrant.row, metric, entrant.seed, score, entrant.name)
