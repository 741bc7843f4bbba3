"""Runs every missing stage as soon as its inputs are there; a failure stops only the stages that need it."""

from __future__ import annotations

import logging
import time
import traceback
from asyncio import CancelledError
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from harness.contracts.engine import EngineHost
from harness.contracts.executor import Copies, Executor, RunStage, StageResult
from harness.contracts.options import options_from
from harness.contracts.registry import Registry
from harness.contracts.stage import RunListener, Stage, Store
from harness.errors import UserError, memory_error
from harness.journal import Journal
from harness.models.engines.local import LocalEngines
from harness.plan.plan import Plan
from harness.recipe.sections import Compute
from harness.stages import STAGES
from harness.stages.kind import Setup, StageContext

log = logging.getLogger(__name__)


@dataclass
class RunOutcome:
    """What became of a plan's stages: how many there are, and the keys of those that ran, failed or had to wait."""

    total: int
    cached: int
    completed_keys: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    """Key of a stage that failed to its error."""
    blocked_keys: list[str] = field(default_factory=list)
    elsewhere_keys: list[str] = field(default_factory=list)
    """Of stages that another command made in the meantime."""
    seconds: float = 0.0

    def of(self, plan: Plan) -> RunOutcome:
        """Of one plan, where several were run at once. Seconds are those of the whole."""
        plan_keys = set(plan.graph.stages)  # scores over the rows that did not fail among them
        completed_keys, blocked_keys, elsewhere_keys = (
            [key for key in keys if key in plan_keys]
            for keys in (self.completed_keys, self.blocked_keys, self.elsewhere_keys)
        )
        errors = {key: text for key, text in self.errors.items() if key in plan_keys}
        total = len(plan.stages)
        cached = max(0, total - len(completed_keys) - len(errors) - len(blocked_keys) - len(elsewhere_keys))
        return RunOutcome(total, cached, completed_keys, errors, blocked_keys, elsewhere_keys, self.seconds)


def all_stages(plans: Sequence[Plan]) -> list[Stage]:
    """All stages of the plans in the order of the plans, each once."""
    return list({stage.key: stage for plan in plans for stage in plan.stages}.values())


def pending_stages(plan: Plan, store: Store) -> list[Stage]:
    """The stages that must run for the plan's results: the results not in the store, and what they wait for."""
    # Not every missing stage: checkpoints are large, and whoever deletes them to make room does not want them back for
    # a finished table. What a result was made from (a score: answers and judgments) is small, and it is verified by it.
    missing_stages = {stage.key: stage for stage in plan.stages if not store.has(stage)}
    keys: set[str] = set()
    results = results_of(plan)
    stack = [*results, *(ref.key for stage in plan.stages if stage.key in results for ref in stage.inputs.values())]
    while stack:
        key = stack.pop()
        if key not in keys and key in missing_stages:
            keys.add(key)
            stack += prerequisites(missing_stages[key])
    return [stage for stage in plan.stages if stage.key in keys]


def results_of(plan: Plan) -> set[str]:
    """Keys of the stages that no other stage of the plan waits for."""
    keys = {stage.key for stage in plan.stages}
    return keys.difference(*map(prerequisites, plan.stages))


def prerequisites(stage: Stage) -> set[str]:
    return {ref.key for ref in stage.waits_for}


def run_plans(
    plans: Sequence[Plan], registry: Registry, store: Store, ledger: Path, setup: Setup, listener: RunListener
) -> RunOutcome:
    """Several plans at once, by one executor (of the first plan's ``compute``); a shared stage is done once."""
    stages = all_stages(plans)
    todo = {stage.key: stage for plan in plans for stage in pending_stages(plan, store)}
    for stage in stages if log.isEnabledFor(logging.INFO) else ():
        if stage.key not in todo:
            log.info("%s: %s %s", "in the store" if store.has(stage) else "not needed", stage.key[:8], stage.label)
    outcome = RunOutcome(total=len(stages), cached=len(stages) - len(todo))
    # A score reads all rows at once, so its stage depends on which of them did not fail: it is made when they are done.
    scores = set().union(*map(results_of, plans))
    before_scores = [stage for stage in todo.values() if stage.key not in scores]
    begin = time.monotonic()
    listener.on_plan(outcome.total, outcome.cached, Counter(stage.kind for stage in todo.values()))
    if todo:
        with start_executor(plans[0].recipe.compute, registry, ledger, setup, listener) as executor:
            run_ready(before_scores, executor, listener, outcome)
            scores_to_make = {stage.key: stage for plan in plans for stage in score_stages(plan, store)}
            run_ready(list(scores_to_make.values()), executor, listener, outcome)
    outcome.seconds = time.monotonic() - begin
    return outcome


def score_stages(plan: Plan, store: Store) -> list[Stage]:
    stages: dict[str, Stage] = {}
    for name in plan.recipe.benchmarks:
        rows = [row for row in plan.entrants if name in row.judgments and store.has(row.judgments[name])]
        stages |= {stage.key: stage for stage in plan.planner.scores(name, rows).values()}
    return [stage for stage in stages.values() if not store.has(stage)]


def start_executor(compute: Compute, registry: Registry, ledger: Path, setup: Setup, listener: RunListener) -> Executor:
    kind = registry.executors[compute.executor]
    make_run_stage = partial(stage_runner, setup, ledger, time.time())
    config, resources = options_from(kind.config, compute.executor_options), compute.resources(registry.stages)
    return kind.start(config, replace(resources, folder=ledger.parent.absolute()), make_run_stage, listener)


def run_ready(stages: Sequence[Stage], executor: Executor, listener: RunListener, outcome: RunOutcome) -> None:
    """Run stages as their inputs become ready. An input that is not among them is in the store already."""
    waiting = {stage.key: stage for stage in stages}
    # A stage that failed among the first blocks its readers among the last.
    unfinished_keys = {*waiting, *outcome.errors}
    missing_keys = {stage.key: prerequisites(stage) & unfinished_keys for stage in stages}
    # A result touches its own readers alone: of thousands of stages, a look through all that wait would take longer.
    readers: dict[str, list[str]] = {}
    for reader, keys in missing_keys.items():
        for key in keys:
            readers.setdefault(key, []).append(reader)
    ready_keys = [key for key, keys in missing_keys.items() if not keys]
    running = 0
    while True:
        for key in ready_keys:
            executor.submit(waiting.pop(key))
            running += 1
        if not running:
            outcome.blocked_keys += list(waiting)
            return
        ready_keys = []
        for result in executor.results():
            running -= 1
            key, label = result.stage.key, result.stage.label
            if result.error is None:
                for reader in readers.get(key, ()):
                    missing_keys[reader].remove(key)
                    if not missing_keys[reader]:
                        ready_keys.append(reader)
                if result.elsewhere:
                    outcome.elsewhere_keys.append(key)
                    listener.on_finish_elsewhere(label)
                else:
                    outcome.completed_keys.append(key)
                    listener.on_finish(label, result.seconds)
            else:
                outcome.errors[key] = result.error
                listener.on_failure(label, result.error)


def copied_setup(setup: Setup, copies: Copies) -> tuple[Registry, Store]:
    registry, store = setup()
    return registry, store.copied(copies.url, copies.folder)


def stage_runner(
    setup: Setup,
    ledger: Path,
    start_time: float,
    engines: EngineHost | None = None,
    copies: Copies | None = None,
) -> RunStage:
    """A function that runs a stage and stores its artifact; ``partial(stage_runner, ...)`` can be sent to a process.
    ``start_time`` (Unix seconds): budgets for judging count from there. The rest: as of ``MakeRunStage``."""
    setup = partial(copied_setup, setup, copies) if copies else setup
    registry, store = setup()
    host = engines or LocalEngines()

    def run(stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
        begin, name, error = time.monotonic(), f"{stage.key[:8]} {stage.label}", None
        elsewhere = True
        log.info("begin %s", name)

        def fill(folder: Path) -> Mapping[str, object]:
            nonlocal elsewhere
            elsewhere = False
            journal = Journal(partial(store.scratch, stage))
            context = StageContext(registry, store, ledger, folder, progress, setup, start_time, journal, host)
            computes = STAGES[stage.kind].runs_model or stage.local.get("gpus")
            if computes and not stage.local.get("engine"):
                host.make_room()
            try:
                registry.refuse_other_code(stage)
                measurements = STAGES[stage.kind].run(stage, context)
            finally:
                engine_notes = host.release()
            further = {"journal_seconds": journal.seconds, "engine_deaths": engine_notes}
            return {**measurements, **context.notes, **{name: value for name, value in further.items() if value}}

        # Any error is a result: one stage must not take the others with it.
        try:
            store.write(stage, fill)
        except UserError as problem:
            error = str(problem)
        # a fault of ours, whose traceback the report needs; or a plug-in's ``sys.exit()``
        except (Exception, SystemExit, GeneratorExit, CancelledError) as problem:  # noqa: BLE001
            error = memory_error(problem) or traceback.format_exc()
        seconds = time.monotonic() - begin
        log.info("failed %s after %.1f s" if error else "end %s: %.1f s", name, seconds)
        return StageResult(stage, seconds, error, elsewhere)

    return run
