"""The scheduler: what must run, in which order, what a failure stops. Stages here are names; nothing is computed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest

from harness.contracts.executor import Executor, StageResult
from harness.contracts.stage import RunListener, Stage
from harness.plan.plan import Planner
from harness.run import scheduler
from harness.run.scheduler import RunOutcome, pending_stages, run_ready
from tests.command import ROOT


def stage(kind: str, name: str, *inputs: Stage, gates: tuple[Stage, ...] = ()) -> Stage:
    places = {str(number): one.ref for number, one in enumerate(inputs)}
    return Stage(kind, {"name": name}, places, row=name.partition(" ")[2], gates=tuple(gate.ref for gate in gates))


@dataclass
class Done:
    """A store that only knows what is done."""

    keys: set[str] = field(default_factory=set)

    def has(self, one: Stage) -> bool:
        return one.key in self.keys


@dataclass
class Fake(Executor):
    """Runs at once, in the order of submission; stages named in ``broken`` fail."""

    broken: set[str] = field(default_factory=set)
    ran: list[str] = field(default_factory=list)
    waiting: deque[Stage] = field(default_factory=deque)

    def submit(self, stage: Stage) -> None:
        self.ran.append(stage.label)
        self.waiting.append(stage)

    def results(self) -> list[StageResult]:
        stage = self.waiting.popleft()
        return [StageResult(stage, 0.1, "boom" if stage.label in self.broken else None)]

    def shutdown(self, abort: bool) -> None:
        pass


class Counts(RunListener):
    """A listener that remembers how much there was."""

    counts: tuple[int, int] = (0, 0)

    def on_plan(self, total: int, cached: int, kinds: Mapping[str, int] = MappingProxyType({})) -> None:
        self.counts = total, cached


PROMPTS = stage("prompts", "prompts")
GATE = stage("contamination", "gate", PROMPTS)
SAMPLES = stage("sample", "samples", PROMPTS, gates=(GATE,))
TRAIN = {name: stage("train", f"train {name}", SAMPLES, gates=(GATE,)) for name in ("dpo", "kd")}
ANSWERS = {name: stage("answer", f"answer {name}", model) for name, model in TRAIN.items()}
JUDGED = {name: stage("judge", f"judge {name}", model) for name, model in ANSWERS.items()}
SCORE = stage("score", "score", *JUDGED.values())
ALL = (PROMPTS, GATE, SAMPLES, *TRAIN.values(), *ANSWERS.values(), *JUDGED.values(), SCORE)


def labels(stages: list[Stage]) -> list[str]:
    return [one.label for one in stages]


def plan() -> Any:
    return SimpleNamespace(stages=ALL, scores=(SCORE,))


def test_an_empty_store_needs_everything() -> None:
    assert pending_stages(plan(), Done()) == list(ALL)  # type: ignore[arg-type]


def test_a_finished_table_needs_nothing_even_without_its_checkpoints() -> None:
    """Checkpoints are large; whoever deletes them to make room does not want them back for a finished table."""
    done = {one.key for one in ALL if one.kind != "train"}
    assert pending_stages(plan(), Done(done)) == []  # type: ignore[arg-type]


def test_a_lost_judgment_needs_its_judge_and_the_score_only() -> None:
    done = {one.key for one in ALL} - {JUDGED["kd"].key, SCORE.key}
    assert labels(pending_stages(plan(), Done(done))) == ["judge kd", "score"]  # type: ignore[arg-type]


def test_a_lost_judgment_is_made_again_though_its_score_is_there() -> None:
    done = {one.key for one in ALL} - {JUDGED["kd"].key, TRAIN["dpo"].key}
    assert labels(pending_stages(plan(), Done(done))) == ["judge kd"]  # type: ignore[arg-type]


def test_a_lost_judgment_whose_model_is_gone_too_needs_the_training_again() -> None:
    gone = {JUDGED["kd"].key, ANSWERS["kd"].key, TRAIN["kd"].key, SCORE.key}
    done = {one.key for one in ALL} - gone
    assert labels(pending_stages(plan(), Done(done))) == ["train kd", "answer kd", "judge kd", "score"]  # type: ignore[arg-type]


def test_every_stage_runs_after_what_it_reads_and_waits_for() -> None:
    executor, outcome = Fake(), RunOutcome(0, 0)
    run_ready(list(reversed(ALL)), executor, RunListener(), outcome)
    place = {label: number for number, label in enumerate(executor.ran)}
    assert len(executor.ran) == len(ALL)
    assert (
        place["prompts"]
        < place["contamination"]
        < place["sample"]
        < place["train dpo"]
        < place["answer dpo"]
        < place["score"]
    )
    assert not outcome.errors and not outcome.blocked_keys


def test_a_failure_stops_what_needs_it_and_nothing_else() -> None:
    executor, outcome = Fake(broken={"train kd"}), RunOutcome(0, 0)
    run_ready(list(ALL), executor, RunListener(), outcome)
    assert "judge dpo" in executor.ran and "answer kd" not in executor.ran
    assert outcome.errors == {TRAIN["kd"].key: "boom"}
    assert set(outcome.blocked_keys) == {ANSWERS["kd"].key, JUDGED["kd"].key, SCORE.key}


def test_a_failed_gate_stops_sampling_though_nothing_of_it_is_read() -> None:
    executor, outcome = Fake(broken={"contamination"}), RunOutcome(0, 0)
    run_ready(list(ALL), executor, RunListener(), outcome)
    assert executor.ran == ["prompts", "contamination"]
    assert len(outcome.blocked_keys) == len(ALL) - 2


def test_plans_that_share_stages_are_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables over two students; the second has a row and a score of its own, which its failed training stops."""
    third = stage("train", "train pro", SAMPLES)
    more = stage("judge", "judge pro", third)
    other = stage("score", "score other", *JUDGED.values(), more)
    one = SimpleNamespace(compute=None)
    graph = SimpleNamespace(stages={one.key: one for one in ALL})
    first = SimpleNamespace(recipe=one, stages=ALL, scores=(SCORE,), graph=graph, planner=Planner)
    second_stages = (*ALL[:-1], third, more, other)
    graph = SimpleNamespace(stages={one.key: one for one in second_stages})
    second = SimpleNamespace(recipe=one, stages=second_stages, scores=(), graph=graph, planner=Planner)
    plans: Any = [first, second]
    assert labels(scheduler.all_stages(plans)) == [*labels(list(ALL)), "train pro", "judge pro", "score other"]
    executor = Fake(broken={"train pro"})
    monkeypatch.setattr(scheduler, "start_executor", lambda *_: executor)
    missing = {id(first): [SCORE], id(second): []}
    monkeypatch.setattr(scheduler, "score_stages", lambda plan, store: missing[id(plan)])
    listener, nothing = Counts(), cast(Any, None)
    outcome = scheduler.run_plans(plans, nothing, cast(Any, Done()), Path("l"), nothing, listener)
    assert listener.counts == (len(ALL) + 3, 0)
    assert sorted(executor.ran) == sorted(set(executor.ran)), "a shared stage runs once"
    ours, theirs = outcome.of(plans[0]), outcome.of(plans[1])
    assert not ours.errors and not ours.blocked_keys and len(ours.completed_keys) == len(ALL)
    assert list(theirs.errors) == [third.key] and theirs.blocked_keys == [more.key]


TRACKER = """
import multiprocessing.resource_tracker as tracker
from harness.contracts.executor import Resources
from harness.contracts.stage import Stage
from harness.run.processes import WorkerPool
pool = WorkerPool(Resources(1, 1), None, None)
pool.submit(Stage("prompts", {}))
print(open(f"/proc/{tracker._resource_tracker._pid}/status").read())
pool.shutdown(abort=True)
"""


def test_a_closed_terminal_does_not_kill_pythons_tracker() -> None:
    """It would end in a traceback for each lock that it no longer knows."""
    done = subprocess.run([sys.executable, "-c", TRACKER], cwd=ROOT, capture_output=True, text=True, check=True)
    (mask,) = re.findall(r"SigBlk:\s*([0-9a-f]+)", done.stdout)
    assert int(mask, 16) >> (signal.SIGHUP - 1) & 1
    assert not done.stderr
