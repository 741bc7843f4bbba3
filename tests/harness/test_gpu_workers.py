"""Stages and GPUs of the executor ``processes``, with an inventory that does not exist: what each stage saw."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.contracts.engine import EngineSpec
from harness.contracts.executor import Resources, RunStage, StageOptions, StageResult
from harness.contracts.stage import RunListener, Stage
from harness.models.engines.local import LocalEngines
from harness.run import processes, scheduler
from harness.run.processes import EXECUTOR, Binding, WorkerPool
from results.store.store import ArtifactStore

AT_IMPORT = os.environ.get("CUDA_VISIBLE_DEVICES")
"""A worker imports this file before anything else of ours."""
KINDS = frozenset({"sample", "train"})


def watching(folder: Path, engines: object = None) -> RunStage:
    """Stages write down when they ran, and with what; those named "dies" end their first worker."""

    def run_stage(stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
        begin = time.time()
        mark = folder / f"{stage.row}.died"
        if stage.row.startswith("dies") and not mark.exists():
            mark.touch()
            os._exit(3)
        time.sleep(0.4)
        seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
        note = seen | {"begin": begin, "end": time.time(), "import": AT_IMPORT, "pid": os.getpid()}
        (folder / f"{stage.row}.json").write_text(json.dumps(note))
        return StageResult(stage, 0.0)

    return run_stage


def make(row: str) -> Stage:
    """``train-2``, ``sample-1`` run a model; ``judge-1`` does not."""
    return Stage(row.partition("-")[0].replace("dies", "sample"), {"row": row}, row=row, local={"models": {}})


def run(rows: list[str], resources: Resources, folder: Path) -> dict[str, Any]:
    with EXECUTOR.start(EXECUTOR.config(), resources, partial(watching, folder), RunListener()) as executor:
        for row in rows:
            executor.submit(make(row))
        results: list[StageResult] = []
        while len(results) < len(rows):
            results += executor.results()
    assert [result.error for result in results] == [None] * len(rows)
    return {row: json.loads((folder / f"{row}.json").read_text()) for row in rows}


def test_each_gpu_is_one_stages_at_a_time_and_there_before_anything_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5a,6")
    stages = {"train": StageOptions(gpus=2, threads=3)}
    resources = Resources(1, 1, (0, 1, 2), stages, KINDS)
    rows = ["sample-1", "sample-2", "sample-3", "train-1", "dies-1", "sample-4", "judge-1"]
    notes = run(rows, resources, tmp_path)
    devices = {row: set(filter(None, note["CUDA_VISIBLE_DEVICES"].split(","))) for row, note in notes.items()}
    assert {row: len(names) for row, names in devices.items()} == {
        "sample-1": 1, "sample-2": 1, "sample-3": 1, "train-1": 2, "dies-1": 1, "sample-4": 1, "judge-1": 0,
    }  # fmt: skip
    assert set().union(*devices.values()) == {"4", "GPU-5a", "6"}
    for first, note in notes.items():
        assert note["import"] == note["CUDA_VISIBLE_DEVICES"], "the worker had it from its start"
        assert note["OMP_NUM_THREADS"] == ("3" if first.startswith("train") else "1")
        for second, other in notes.items():
            if first < second and note["begin"] < other["end"] and other["begin"] < note["end"]:
                assert not devices[first] & devices[second], f"{first} and {second} had a GPU together"
    assert notes["judge-1"]["begin"] < notes["train-1"]["end"], "a stage without a GPU does not wait for one"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,GPU-5a,6", "ours is as it was"


def test_without_gpus_in_the_recipe_workers_see_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert run(["train-1"], Resources(1, 1, model_kinds=KINDS), tmp_path)["train-1"]["CUDA_VISIBLE_DEVICES"] == "4,5"


SERVER = (sys.executable, "-m", "http.server", "{port}", "--bind", "{host}")


def serving(folder: Path, engines: object = None) -> RunStage:
    """Stages "ask" have a server; the others note whether it still runs."""
    host = LocalEngines()
    note = folder / "server"

    def run_stage(stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
        if stage.row.startswith("ask"):
            host.address(EngineSpec("fake", SERVER, gpus=1, health="/"), folder / "log")
            server = psutil.Process().children(recursive=True)[-1]
            seen = [str(server.pid), server.environ()["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_VISIBLE_DEVICES"]]
            with note.open("a") as file:
                file.write(" ".join(seen) + "\n")
            host.release()
        else:
            pid = int(note.read_text().split()[0])
            (folder / "alive").write_text(str(psutil.pid_exists(pid)))
        return StageResult(stage, 0.0)

    return run_stage


def test_a_server_has_the_gpu_of_its_stage_and_ends_before_another_stage_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    resources = Resources(1, 1, (0, 1), {"train": StageOptions(gpus=2)}, KINDS)
    with EXECUTOR.start(EXECUTOR.config(), resources, partial(serving, tmp_path), RunListener()) as executor:
        for kind, row in (("sample", "ask-1"), ("sample", "ask-2"), ("train", "look")):
            executor.submit(Stage(kind, {"row": row}, row=row, local={"models": {}}))
            (result,) = executor.results()
            assert result.error is None
    first, second = (line.split() for line in (tmp_path / "server").read_text().splitlines())
    assert first == second and first[1:] == ["6", "6"], "the server stayed for the next stage of its kind"
    assert (tmp_path / "alive").read_text() == "False"


@pytest.mark.parametrize(
    ("kind", "local", "ends"),
    [
        ("judge", {}, False),
        ("judge", {"gpus": 1, "engine": False}, True),
        ("judge", {"gpus": 0, "engine": False}, False),
        ("judge", {"gpus": 1, "engine": True}, False),
        ("sample", {"models": {}}, True),
        ("sample", {"models": {}, "gpus": 1, "engine": True}, False),
    ],
)
def test_what_computes_in_its_own_process_ends_the_servers_on_its_gpu(
    kind: str, local: dict[str, Any], ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = LocalEngines()
    made: list[str] = []
    monkeypatch.setattr(host, "make_room", lambda: made.append(kind))
    idle = dataclasses.replace(scheduler.STAGES[kind], run=lambda stage, context: {})
    monkeypatch.setitem(scheduler.STAGES, kind, idle)
    setup: Any = lambda: (SimpleNamespace(refuse_other_code=lambda stage: None), ArtifactStore(tmp_path))  # noqa: E731
    run_stage = scheduler.stage_runner(setup, tmp_path / "ledger", 0.0, host)
    assert run_stage(Stage(kind, {}, local=local), lambda *_: None).error is None
    assert made == [kind] * ends


class FakeWorker:
    """Ends its stage when the test says so."""

    def __init__(self, binding: Binding, environment: dict[str, str], make_run_stage: object) -> None:
        self.binding, self.pipe, self.process = binding, object(), SimpleNamespace(sentinel=object())
        self.stage: Stage | None = None
        self.last_kind, self.is_ended = "", False
        assert len(environment["CUDA_VISIBLE_DEVICES"].split(",")) == max(1, len(binding.gpus))

    def send(self, stage: Stage) -> bool:
        assert not self.is_ended
        self.stage, self.last_kind = stage, stage.kind
        sent_kinds.setdefault(stage.kind)
        return True

    def hear(self, listener: RunListener) -> StageResult | str:
        """Whether it dies is in the name of the stage."""
        stage = self.stage
        assert stage is not None
        if stage.row.endswith("!") and stage.row not in dead_rows:
            dead_rows.add(stage.row)
            return "signal 11" if len(stage.row) % 2 else "signal 9, most likely because memory ran out"
        self.stage = None
        return StageResult(stage, 0.0)

    def end(self, patience: float = 0.0) -> None:
        self.is_ended = True


dead_rows: set[str] = set()
sent_kinds: dict[str, None] = {}
PLANS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, 10.0, 60.0, 300.0]), st.booleans()), max_size=25)


@settings(max_examples=60, deadline=None)
@given(PLANS, st.integers(0, 2**30), st.integers(1, 3))
def test_whatever_the_stages_need_all_run_and_no_gpu_is_given_twice(
    needs: list[tuple[int, float | None, bool]], seed: int, workers: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        choose = random.Random(seed)
        patch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
        patch.setattr(processes, "Worker", FakeWorker)
        patch.setattr(processes, "wait_for_any", lambda handles, timeout: [choose.choice(handles)] if handles else [])
        patch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=100 << 30))
        dead_rows.clear()
        sent_kinds.clear()
        options = {str(number): StageOptions(gpus, memory_gib=memory) for number, (gpus, memory, _) in enumerate(needs)}
        stages = [Stage(str(n), {}, row=f"row {n}{'!' * dies}") for n, (_, _, dies) in enumerate(needs)]
        pool = WorkerPool(Resources(workers, 1, (0, 1, 2), options), watching, RunListener())
        results: list[StageResult] = []
        for stage in stages:
            pool.submit(stage)
        while len(results) < len(stages):
            running = [(worker, worker.stage) for worker in pool.running if worker.stage is not None]
            gpus = [gpu for worker, _ in running for gpu in worker.binding.gpus]
            assert len(gpus) == len(set(gpus))
            assert sum(not worker.binding.gpus for worker, _ in running) <= workers
            memory = [options[stage.kind].memory_gib or 0.0 for _, stage in running]
            assert sum(memory) <= 100 or sum(map(bool, memory)) == 1
            idle_gpus = [gpu for worker in pool.workers if worker.stage is None for gpu in worker.binding.gpus]
            assert not set(gpus) & set(idle_gpus), "an idle worker keeps memory of its GPU"
            results += pool.results()
        assert all(result.error is None for result in results)
        assert not pool.is_busy
        # None that needs several GPUs is passed by those that need one.
        order = [kind for kind in sent_kinds if options[kind].gpus]
        assert order == sorted(order, key=int)
        pool.workers.clear()


def test_more_gpus_than_there_are_is_an_error_of_the_stage_and_not_a_wait_for_ever() -> None:
    pool = WorkerPool(Resources(1, 1, (0,), {"train": StageOptions(gpus=2)}), watching, RunListener())
    pool.submit(make("train-1"))
    assert pool.is_busy
    (result,) = pool.results()
    assert result.error == "it needs 2 GPUs, and compute.gpus grants 1: name more there"
    assert not pool.is_busy
