"""What training cost: summed over the stages that a row comes from, whoever shares them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.benchmark import Metric
from harness.contracts.stage import Stage
from harness.hardware import peak, reset_peak
from harness.types import Score
from reports.tables.summary import summarise
from reports.targets import TARGETS
from results.run.lineage import Lineage
from results.run.record import Cell, RowSpec, Run, RunFamily
from results.run.results import GIB, Results, with_costs
from results.store.checksums import marker_text
from results.store.store import ArtifactStore

SECONDS = {
    "prompts": 100.0,
    "sample": 1.0,
    "reward": 20.0,
    "train": 300.0,
    "answer": 5000.0,
    "judge": 6000.0,
    "score": 7000.0,
}


def write_artifact(store: ArtifactStore, kind: str, name: str, *reads: Stage, **roles: Stage) -> Stage:
    """An artifact whose provenance has the seconds of its kind, and a peak of 2 GiB (training: 3)."""
    inputs = {f"in{number}": stage.ref for number, stage in enumerate(reads)} | {r: s.ref for r, s in roles.items()}
    stage = Stage(kind, {"name": name}, inputs, row=name)
    folder = store.write(stage, lambda _: {"peak_memory": int(3 * GIB)} if kind == "train" else {})
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
    meta |= {"wall_seconds": SECONDS[kind], "peak_memory_bytes": int(2 * GIB)}
    (folder / "meta.json").write_text(marker_text(meta))
    return stage


@pytest.fixture
def run_in_store(tmp_path: Path) -> tuple[ArtifactStore, Results]:
    """Two rounds: prompts, sample 1, reward 1, train 1 -> sample 2, reward 2, train 2; and the untrained student."""
    store = ArtifactStore(tmp_path)
    prompts = write_artifact(store, "prompts", "p")
    first_reward = write_artifact(store, "reward", "r1", write_artifact(store, "sample", "s1", prompts))
    first_training = write_artifact(store, "train", "t1", prompts, first_reward)
    second_samples = write_artifact(store, "sample", "s2", prompts, model=first_training)
    second_reward = write_artifact(store, "reward", "r2", second_samples)
    last_training = write_artifact(store, "train", "t2", prompts, second_reward, student=first_training)
    two = write_artifact(store, "answer", "a2", model=last_training)
    student_answers = write_artifact(store, "answer", "a0")
    judgments = {f"judgments:{name}/0": write_artifact(store, "judge", name) for name in ("two", "student")}
    inputs = {"answers:two/0": two, "answers:student/0": student_answers, **judgments}
    score = write_artifact(store, "score", "sc", **inputs)
    metric = Metric("alpaca_eval.lc", "LC", "AlpacaEval 2")
    cells = tuple(Cell(row, metric.id, 0, score.key, f"{row}/0") for row in ("two", "student"))
    rows = (RowSpec("student", "Student", True), RowSpec("two", "Two rounds"))
    run = Run("r", {}, "2026-01-01", True, RunFamily("f", "t", "s"), rows, (metric,), (0,), cells)
    scores = {(row, metric.id, 0): Score(metric.id, 50.0, 40.0, 60.0, 100, 0) for row in ("two", "student")}
    lineage = Lineage(store)
    sources = lineage.sources(run)
    return store, Results(run, scores, trainings=lineage.trainings(sources), sources=sources)


def test_every_round_counts_and_what_follows_does_not(run_in_store: tuple[ArtifactStore, Results]) -> None:
    """2 x (1 + 20 + 300) = 642 s; prompts, answers and scores are left out."""
    _, results = run_in_store
    assert list(results.trainings) == [("two", 0)]
    cost = results.trainings["two", 0]
    assert cost.seconds == {"train": 600.0, "reward": 40.0, "sample": 2.0}
    assert cost.hours * 3600 == pytest.approx(642.0)
    assert cost.peak_memory == 3 * GIB, "the train stage's own measurement"


def test_costs_become_columns_that_are_neither_tested_nor_best(run_in_store: tuple[ArtifactStore, Results]) -> None:
    _, results = run_in_store
    result = with_costs(results)
    assert [metric.id for metric in result.run.columns] == ["alpaca_eval.lc", "cost.time", "cost.memory"]
    assert result.run.columns[1].unit == "s"
    summary = summarise(result, TARGETS["table2"])
    cell = summary.cells["two", "cost.time"]
    assert cell.value == pytest.approx(642.0)
    assert (cell.low, cell.change.p, cell.refused) == (None, None, False)
    assert summary.cells["two", "cost.memory"].value == 3.0
    assert all(column.best == () and column.warnings == () for column in summary.columns if column.metric.measured)
    assert summary.cells["student", "cost.time"].notes == ("not trained, or a stage of it is no longer in the store",)
    assert "sample, reward, train" in result.run.notes[-1]


@pytest.mark.parametrize(
    ("seconds", "unit", "value", "digits"), [(7199.0, "s", 7199.0, 1), (7200.0, "h", 2.0, 2), (44_352.0, "h", 12.32, 2)]
)
def test_from_two_hours_on_times_are_in_hours(
    run_in_store: tuple[ArtifactStore, Results], seconds: float, unit: str, value: float, digits: int
) -> None:
    """44,352 s are 12.32 h, as the paper prints its times."""
    _, results = run_in_store
    cost = replace(results.trainings["two", 0], seconds={"train": seconds})
    result = with_costs(replace(results, trainings={("two", 0): cost}))
    metric = result.run.columns[1]
    assert (metric.unit, metric.digits) == (unit, digits)
    assert result.scores["two", "cost.time", 0].value == pytest.approx(value)


def test_a_deleted_stage_leaves_no_half_sum(run_in_store: tuple[ArtifactStore, Results]) -> None:
    store, results = run_in_store
    (store.path(*store.list("reward")[0]) / "meta.json").unlink()
    result = replace(results, trainings=Lineage(store).trainings(results.sources))
    assert not result.trainings["two", 0].complete
    assert ("two", "cost.time", 0) in with_costs(result).missing_scores


def test_the_peak_can_be_counted_anew() -> None:
    """64 MiB are touched and given back: the peak remembers them, until it is reset (on Linux)."""
    reset_peak()
    before = peak()
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * (len(block) >> 12)
    high = peak()
    assert high >= before + (48 << 20)
    del block
    reset_peak()
    if Path("/proc/self/clear_refs").exists():
        assert peak() < high - (32 << 20)
