"""Run the missing stages of a plan, and record which scores make up its tables (``run.json``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from distilbench.workers import set_up_worker
from distilbench.workflows.finished_run import FinishedRun
from distilbench.workflows.plan import WorkPlan
from harness.contracts.benchmark import Card
from harness.contracts.registry import Registry
from harness.contracts.stage import RunListener
from harness.errors import UNWRITABLE, UserError
from harness.plan.plan import Plan, PlannedRow
from harness.recipe.recipe import Recipe
from harness.run.scheduler import RunOutcome, run_plans
from harness.stages.kind import PlanIssue, Setup
from harness.stages.kinds.score import entrant_name
from harness.text import format_count
from judges.ledger.recovery import recover_ledger
from results.run.progress import recorded
from results.run.record import BY_RULE, FAILED, Cell, RowSpec, Run, RunFamily, write_run
from results.run.search_notes import search_notes
from results.run.training_notes import Measured, training_notes
from results.store.store import ArtifactStore

log = logging.getLogger(__name__)


def execute(
    work: WorkPlan,
    *,
    force: bool = False,
    listener: RunListener | None = None,
    edit: Callable[[Run], Run] = lambda record: record,
) -> FinishedRun:
    """Run the missing stages of a plan, and record each of its runs, as ``edit`` changes it, in its ``run.json``.

    Raises UserError, before anything runs, when a check found a problem and ``force`` does not pass it over.
    """
    refuse(work.findings, force)
    for text in work.changed_code:
        log.warning(text)
    if work.pending_stages:
        # A run that is killed can be reported too: its record names the scores that it was to have.
        try:
            for target, plan in work.plans.items():
                write_run(work.record(target), edit(describe(plan, work.store)))
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            raise UserError(
                f"{work.runs}: {(error.strerror or '').lower()}, and {format_count(len(work.pending_stages), 'stage')} "
                "are still to be made. Name a folder that can be written with --runs; a copy of this one keeps what is "
                "done."
            ) from error
    with watched(work, listener) as recorder:
        outcome = run_plans(*ready_to_run(work), recorder)
    records: dict[str, Run] = {}
    # Recorded again after the run: scores are keyed by the rows that did not fail, which nobody knew before.
    for target, plan in work.plans.items():
        records[target] = edit(describe(plan, work.store, outcome.of(plan)))
        try:
            write_run(work.record(target), records[target])
        except OSError as error:  # where nothing was to be made, the record of the run before says the same
            if error.errno not in UNWRITABLE or work.pending_stages or not work.record(target).is_file():
                raise
    return FinishedRun(work.folder, work.store, records, outcome, work)


def watched(work: WorkPlan, listener: RunListener | None) -> AbstractContextManager[RunListener]:
    """A listener that writes down what happens too, for ``distilbench view``."""
    return recorded(work.folder, work.stages, {stage.key for stage in work.pending_stages}, listener or RunListener())


def ready_to_run(work: WorkPlan) -> tuple[list[Plan], Registry, ArtifactStore, Path, Setup]:
    """What ``run_plans`` takes, after the ledger was looked at."""
    ledger = work.runs / "ledger.sqlite"
    if work.pending_stages and (message := recover_ledger(ledger)):
        log.warning(message)
    setup = partial(set_up_worker, work.plugins, work.store.root, log.getEffectiveLevel())
    return list(work.plans.values()), work.first.graph.registry, work.store, ledger, setup


def refuse(findings: Iterable[PlanIssue], force: bool) -> None:
    """Raise UserError that lists the problems; with ``force`` only if one of them cannot be passed over."""
    stopping = [finding for finding in findings if finding.problem and not (force and finding.forceable)]
    if stopping:
        lines = "\n".join(f"  - {finding.text}" for finding in stopping)
        remedy = ", or run all the same with --force" if all(finding.forceable for finding in stopping) else ""
        raise UserError(f"nothing was started, because of:\n{lines}\nFix it{remedy}.")


def describe(plan: Plan, store: ArtifactStore, outcome: RunOutcome | None = None) -> Run:
    """The record of a plan. No outcome: the run has only begun."""
    recipe, registry = plan.recipe, plan.graph.registry
    titles = {"teacher": "Teacher", "student": "Student", **plan.titles}
    measured = measured_stages(plan, store) if outcome else []
    choices, is_low = letter_mass(measured)
    row_titles = {row: titles.get(row) or title_of(row, recipe, registry) for row in plan.rows}
    trained_titles = {row: title for row, title in row_titles.items() if row in recipe.methods and row not in titles}
    return Run(
        name=recipe.name,
        recipe=recipe.to_tree(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        finished=outcome is not None and not outcome.errors,
        family=RunFamily(recipe.family.name, recipe.family.teacher, recipe.family.student),
        rows=tuple(RowSpec(row, title, row in titles) for row, title in row_titles.items()),
        columns=tuple(metric for column in plan.graph.benchmarks.values() for metric in column.benchmark.metrics),
        seeds=recipe.seeds,
        cells=tuple(cells(plan, store, failures(plan, outcome) if outcome else {})),
        cards=tuple(card(plan, name) for name in recipe.benchmarks),
        judges={name: judge_name(plan, spec.judge) for name, spec in recipe.benchmarks.items()},
        wall_seconds=outcome.seconds if outcome else 0.0,
        stages_total=outcome.total if outcome else len(plan.stages),
        stages_cached=outcome.cached + len(outcome.elsewhere_keys) if outcome else 0,
        choices=tuple(search_notes(recipe, trained_titles, registry)),
        notes=(*notes(plan), *(choices if is_low else ())),
        training_notes=(*training_notes(measured), *(() if is_low else choices)),
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


def measured_stages(plan: Plan, store: ArtifactStore) -> list[Measured]:
    measured: list[Measured] = []
    for stage in plan.stages:
        with suppress(KeyError):  # not made, or cleared away
            measurements = store.meta(stage.kind, stage.key).get("measurements") or {}
            measured.append(Measured(stage.kind, stage.row or stage.kind, measurements))
    return measured


def letter_mass(stages: Sequence[Measured]) -> tuple[list[str], bool]:
    """What the teacher's letters have of its probability, and whether that is little in some questions: a teacher that
    hardly says a letter makes rewards of what is left."""
    choices = [stage.measurements for stage in stages if "low_coverage_groups" in stage.measurements]
    groups, low = (sum(choice[name] for choice in choices) for name in ("groups", "low_coverage_groups"))
    if not groups:
        return [], False
    mean = sum(choice["mean_coverage"] * choice["groups"] for choice in choices) / groups
    text = (
        f"the teacher's letters have {100 * mean:.3g}% of its probability on average, below 50% in {low:,} of "
        f"{format_count(groups, 'multiple-choice question')}"
    )
    remedy = "take a teacher that follows the question, without thinking, or a method without its choices"
    return [f"{text}: rewards of PAD rest on that share alone ({remedy})" if low else text], bool(low)


def failures(plan: Plan, outcome: RunOutcome) -> dict[str, str]:
    """Key of every stage that failed, or waits for one that did, to the last line of the error."""
    errors = {key: text.strip().splitlines()[-1] for key, text in outcome.errors.items()}
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
    column, baseline = plan.graph.benchmarks[benchmark], plan.graph.baseline_of(benchmark)
    official = column.benchmark.card(column.config)
    if baseline is None:
        return official
    if not column.benchmark.official:
        return replace(official, version=f"{official.version}, against the answers of {baseline}")
    text = f"Not official: head-to-head against the answers of {baseline}."
    return replace(official, deviations=(text, *official.deviations))


def judge_name(plan: Plan, name: str | None) -> str:
    if name is None:
        return BY_RULE
    entry = plan.recipe.judges[name]
    return plan.graph.registry.judges[entry.kind].title(entry.config)


def cells(plan: Plan, store: ArtifactStore, errors: Mapping[str, str]) -> Iterator[Cell]:
    for benchmark in plan.recipe.benchmarks:
        judged_rows = [entrant for entrant in plan.entrants if benchmark in entrant.judgments]
        # After failures the score is over what is in the store: a row that was blocked has no error of its own.
        scored_rows = [entrant for entrant in judged_rows if not errors or store.has(entrant.judgments[benchmark])]
        scores = plan.planner.scores(benchmark, scored_rows)
        for entrant in plan.entrants:
            reason, score_key = unavailable(entrant, benchmark, errors, entrant.name in scores), ("", "")
            if reason is None:
                score_key = (scores[entrant.name].key, entrant_name(entrant.judgments[benchmark]))
            for metric in plan.graph.benchmarks[benchmark].benchmark.metrics:
                yield Cell(entrant.row, metric.id, entrant.seed, *score_key, unavailable=reason)


def unavailable(entrant: PlannedRow, benchmark: str, errors: Mapping[str, str], is_scored: bool) -> str | None:
    if entrant.unavailable or is_scored:
        return entrant.unavailable
    if benchmark not in entrant.judgments:
        return "the baseline of this column" if benchmark in entrant.answers else "no answers given"
    return f"{FAILED}{errors.get(entrant.judgments[benchmark].key, 'not judged')}"
