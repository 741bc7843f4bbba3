"""Work grows as the plan does: counted, because times say little on a machine that does other things.

``studies/scale.py`` measures the times at full size.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest

from distilbench.cli.app import app
from distilbench.cli.plan import show_plan
from distilbench.workflows.execute import execute
from distilbench.workflows.plan import WorkPlan, plan
from harness.contracts.executor import StageResult
from harness.contracts.stage import RunListener, Stage
from harness.plan import plan as plans
from harness.run.scheduler import RunOutcome, run_ready
from harness.stages import STAGES
from harness.stages.kind import StageKind
from judges.ledger.ledger import Ledger
from results.run import results
from results.store import store
from studies.scale import write_artifacts, write_ledger, write_recipe

ROOT = str(Path(__file__).parents[1])
ROWS = (4, 8, 16)
SMALL = ("prompts.n=8", "statistics.replicates=100")


def lines(function: Callable[[], object]) -> Counter[str]:
    """Lines of our own code that run, each turn of a loop and of a comprehension among them, by where they stand."""
    counts = Counter[str]()

    def count_line(frame: FrameType, event: str, argument: Any) -> Any:
        counts[f"{frame.f_code.co_filename}:{frame.f_lineno}"] += event == "line"
        return count_line

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return count_line if frame.f_code.co_filename.startswith(ROOT) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        function()
    finally:
        sys.settrace(before)
    return counts


def steep_lines(functions: Iterable[Callable[[], object]]) -> dict[str, tuple[int, int, int]]:
    """Lines that do not grow with the plan, of which there are three, of 1, 2 and 4 times the rows: the second step is
    twice the first; four times, where the growth is quadratic."""
    counts = [lines(function) for function in functions]
    grown = {line: [count[line] for count in counts] for line in counts[-1]}
    return {line: (a, b, c) for line, (a, b, c) in grown.items() if c > 200 and c - b > 2.6 * (b - a) + 20}


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> list[WorkPlan]:
    """Finished runs of several numbers of rows."""
    works = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "sync_tree", lambda folder: None)  # nothing here has to survive a power cut
        patch.setattr(store, "sync", lambda folder: None)
        for rows in ROWS:
            folder = tmp_path_factory.getbasetemp() / str(rows)
            folder.mkdir()
            write_recipe(folder / "scale.yaml", rows, 2)
            works.append(plan_again(folder))
            write_artifacts(works[-1])
    return works


def plan_again(folder: Path) -> WorkPlan:
    rows = [f"dpo-{number:03d}" for number in range(int(folder.name))]
    return plan("table1", str(folder / "scale.yaml"), set=SMALL, methods=rows, runs=folder / "runs")


def test_plan_check_and_run_again_grow_with_the_stages(works: list[WorkPlan]) -> None:
    places = [work.runs.parent for work in works]
    plan_again(places[0]).findings, execute(plan_again(places[0])).table()  # what is imported then is not counted
    finished = [execute(plan_again(place)) for place in places]
    assert all(one.outcome is not None and not one.outcome.completed_keys for one in finished)
    assert steep_lines(lambda place=place: plan_again(place).findings for place in places) == {}
    assert steep_lines(lambda place=place: execute(plan_again(place)) for place in places) == {}
    assert steep_lines(lambda one=one: one.table("table1") for one in finished) == {}


def test_a_store_is_asked_a_few_times_for_each_stage(works: list[WorkPlan], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    has, read = store.ArtifactStore.has, store.read_marker
    monkeypatch.setattr(store.ArtifactStore, "has", lambda self, stage: asked.append(stage.key) or has(self, stage))
    monkeypatch.setattr(store, "read_marker", lambda file: asked.append(file.split("/")[-2]) or read(file))
    for work in works:
        asked.clear()
        execute(plan_again(work.runs.parent))
        assert max(map(asked.count, set(asked))) <= 4 * len(work.plans)
        assert len(asked) <= 4 * sum(len(one.stages) for one in work.plans.values())


def test_a_plan_reckons_each_stage_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reckoned = Counter[str]()

    def counted(kind: StageKind) -> StageKind:
        return replace(kind, cost=lambda stage, graph: reckoned.update([stage.key]) or kind.cost(stage, graph))

    monkeypatch.setattr(plans, "STAGES", {name: counted(kind) for name, kind in STAGES.items()})
    work = plan("table1,figure5", set=SMALL, runs=tmp_path)
    show_plan(work)
    assert capsys.readouterr().out
    # What two targets share, each of them reckons: they may be of different recipes.
    assert reckoned.keys() == {stage.key for stage in work.stages} and max(reckoned.values()) <= 2


def test_a_plan_of_a_finished_run_reads_no_scores(
    works: list[WorkPlan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = works[0].runs.parent
    finished = execute(plan_again(folder))
    rows = ",".join(f"dpo-{number:03d}" for number in range(int(folder.name)))
    words = ["plan", "table1", "--recipe", str(folder / "scale.yaml"), "--methods", rows, "--runs", str(works[0].runs)]
    words += [word for change in SMALL for word in ("--set", change)]
    read: list[Path] = []
    read_scores = results.read_scores
    monkeypatch.setattr(results, "read_scores", lambda file: read.append(file) or read_scores(file))
    app(words, standalone_mode=False)
    assert "nothing to do" in capsys.readouterr().out and not finished.is_unscored and not read
    app([*words, "--pilot", str(finished.folder)], standalone_mode=False)
    assert "with 80% power" in capsys.readouterr().out and len(read) == 4, "each benchmark's scores once"


class Instant:
    """An executor whose stages end as soon as they are submitted, one for each look."""

    def __init__(self) -> None:
        self.waiting: list[Stage] = []

    def submit(self, stage: Stage) -> None:
        self.waiting.append(stage)

    def results(self) -> list[StageResult]:
        return [StageResult(self.waiting.pop(), 0.0)]


def test_a_result_touches_its_own_readers_alone(works: list[WorkPlan]) -> None:
    def run(stages: list[Stage]) -> None:
        outcome, executor = RunOutcome(len(stages), 0), Instant()
        run_ready(stages, cast(Any, executor), RunListener(), outcome)
        assert len(outcome.completed_keys) == len(stages)

    assert steep_lines(lambda work=work: run(work.stages) for work in works) == {}


def test_a_ledger_of_many_calls_is_read_by_its_indexes(tmp_path: Path) -> None:
    """Steps of SQLite's own machine: a look-up needs no more of them in a ledger of many replies."""
    steps = []
    for calls in (300, 3000):
        write_ledger(tmp_path / f"{calls}.sqlite", calls)
        with Ledger(tmp_path / f"{calls}.sqlite") as ledger:
            count = 0

            def step() -> None:
                nonlocal count
                count += 1

            ledger._db.set_progress_handler(step, 1)
            assert ledger.get(["0" * 64]) == {}
            steps.append(count)
    assert steps[1] <= steps[0] + 5
