"""Executor ``slurm``: what is handed to Slurm, dead jobs, a dead driver; with submitit's local jobs, and with commands
that act as Slurm's."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distilbench.plugins import load_registry
from harness.contracts.executor import Resources, RunStage, StageOptions, StageResult
from harness.contracts.options import RecipeError, json_data, options_from
from harness.contracts.stage import RunListener, Stage
from harness.errors import UserError
from harness.recipe.recipe import load_recipe
from harness.run.slurm import EXECUTOR, SlurmOptions
from tests.fakes.slurm import install

pytest.importorskip("submitit", reason="needs submitit: pip install 'distilbench[slurm]'")
MODEL = {"models": {}}


def jobs_of(folder: Path, engines: object = None) -> RunStage:
    """Stages write down what they saw. Those named "dies" kill their job at the first try, "always" at each;
    "waits" go on when the test says so, or fail after two minutes: jobs outlive a test that was killed."""

    def run_stage(stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
        with (folder / f"{stage.row}.tries").open("a") as file:
            file.write(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']} {os.environ.get('SLURM_ARRAY_TASK_ID')}\n")
        progress(1, 2, "half")
        if stage.row.startswith("always") or (stage.row.startswith("dies") and len(tries(folder, stage.row)) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if stage.row.startswith("waits"):
            wait_until((folder / "go on").exists)
        return StageResult(stage, 0.0, "no plug-in" if stage.row == "fails" else None)

    return run_stage


def wait_until(happens: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def tries(folder: Path, row: str) -> list[str]:
    file = folder / f"{row}.tries"
    return file.read_text().splitlines() if file.exists() else []


def make(kind: str, row: str, **local: Any) -> Stage:
    return Stage(kind, {"row": row}, row=row, local=local or MODEL)


def start(folder: Path, options: SlurmOptions, stages: dict[str, StageOptions] | None = None, workers: int = 4) -> Any:
    resources = Resources(workers, 1, (), stages or {}, frozenset({"train"}), folder=folder / "runs")
    return EXECUTOR.start(options, resources, partial(jobs_of, folder), RunListener())


def finish(executor: Any, count: int) -> dict[str, str | None]:
    results: list[StageResult] = []
    while len(results) < count:
        results += executor.results()
    return {result.stage.row: result.error for result in results}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of commands that act as Slurm's. What still runs after a test is ended."""
    folder = install(tmp_path / "slurm")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    yield folder
    for file in folder.glob("jobs/*.pid"):
        with suppress(ProcessLookupError):
            os.killpg(int(file.read_text()), signal.SIGKILL)


def test_an_array_for_each_kind_with_what_the_recipe_says(slurm: Path, tmp_path: Path) -> None:
    options = SlurmOptions(partition="all", gres="gpu:a100:{gpus}", setup=("export SEEN=1",), poll_seconds=0.1)
    own = {"partition": "big", "minutes": 90, "sbatch": {"account": "me"}}
    stages = {"train": StageOptions(gpus=2, threads=3, memory_gib=40, options=own)}
    with start(tmp_path, options, stages) as executor:
        for stage in (make("train", "a"), make("train", "b"), make("sample", "c"), make("judge", "d")):
            executor.submit(stage)
        assert finish(executor, 4) == dict.fromkeys("abcd")
    train, sample = (
        dict(re.findall(r"#SBATCH --([\w-]+)=(.+)", file.read_text())) for file in sorted(slurm.glob("jobs/*.sh"))
    )
    wanted = {"array": "0-1%2", "partition": "big", "time": "90", "mem": "40GB", "gres": "gpu:a100:2", "account": "me"}
    assert wanted.items() <= train.items() and train["cpus-per-task"] == "3" and "2@" in train["signal"]
    assert sample["partition"] == "all" and sample["time"] == "1440" and not {"gres", "array", "mem"} & set(sample)
    assert "export OMP_NUM_THREADS=3\n" in (slurm / "jobs" / "100.sh").read_text()
    assert [tries(tmp_path, row)[0].split()[1:] for row in "abc"] == [["3", "0"], ["3", "1"], ["1", "None"]]
    assert not list((tmp_path / "runs" / "slurm" / "jobs").iterdir())


def test_dead_jobs_are_run_again_and_errors_are_not(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("submitit.SlurmJob._results_timeout_s", 0)  # the patience for a slow file system
    rows = ("dies", "always", "fails", "fine")
    with start(tmp_path, SlurmOptions(poll_seconds=0.1)) as executor:
        for row in rows:
            executor.submit(make("train", row))
        errors = finish(executor, 4)
    assert errors["dies"] is errors["fine"] is None and errors["fails"] == "no plug-in"
    assert "its job died 2 times, the last time: job" in str(errors["always"]) and "NODE_FAIL" in str(errors["always"])
    assert [len(tries(tmp_path, row)) for row in rows] == [2, 2, 1, 1]


def test_a_second_driver_waits_for_the_jobs_of_the_first(slurm: Path, tmp_path: Path) -> None:
    first = start(tmp_path, SlurmOptions(poll_seconds=0.1))
    for row in ("waits-1", "waits-2"):
        first.submit(make("train", row))
    first._fill()
    wait_until(lambda: tries(tmp_path, "waits-1") and tries(tmp_path, "waits-2"))
    # As after a kill: nobody shuts the first down.
    with start(tmp_path, SlurmOptions(poll_seconds=0.1)) as second:
        for row in ("waits-1", "waits-2", "new"):
            second.submit(make("train", row))
        second._fill()
        (tmp_path / "go on").touch()
        assert finish(second, 3) == dict.fromkeys(["waits-1", "waits-2", "new"])
    assert [len(tries(tmp_path, row)) for row in ("waits-1", "waits-2", "new")] == [1, 1, 1]


def test_jobs_end_with_the_command(slurm: Path, tmp_path: Path) -> None:
    executor = start(tmp_path, SlurmOptions(poll_seconds=0.1))
    executor.submit(make("train", "waits"))
    executor._fill()
    wait_until(lambda: tries(tmp_path, "waits"))
    executor.shutdown(abort=True)
    pid = tries(tmp_path, "waits")[0].split()[0]
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10)


def test_a_partition_that_is_not_there_is_said(slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpuu' >&2\nexit 1\n")
    with start(tmp_path, SlurmOptions(partition="gpuu")) as executor:
        executor.submit(make("train", "a"))
        with pytest.raises(UserError, match=r"(?s)does not take train jobs: .*gpuu.*compute.stages.train.options"):
            executor.results()


def test_local_jobs_go_on_after_the_end_of_their_time(tmp_path: Path) -> None:
    """Slurm's signal before the end of a job's time, or before its preemption."""
    with start(tmp_path, SlurmOptions(cluster="local")) as executor:
        executor.submit(make("train", "waits"))
        executor._fill()
        wait_until(lambda: tries(tmp_path, "waits"))
        os.kill(int(tries(tmp_path, "waits")[0].split()[0]), signal.SIGUSR2)
        wait_until(lambda: len(tries(tmp_path, "waits")) == 2)
        (tmp_path / "go on").touch()
        assert finish(executor, 1) == {"waits": None}
    assert len(tries(tmp_path, "waits")) == 2


@pytest.mark.parametrize(
    ("options", "stages", "text"),
    [
        (SlurmOptions(), {}, "hands jobs over with sbatch, srun, scancel, not found on this machine"),
        (SlurmOptions(cluster="local"), {"train": StageOptions(gpus=1)}, "local hands out no GPUs; leave it out, or"),
        (SlurmOptions(cluster="local"), {"judge": StageOptions(gpus=1)}, "compute.stages.judge.gpus = 1: compute.gpus"),
    ],
)
def test_what_cannot_be_had_is_said(
    options: SlurmOptions, stages: dict[str, StageOptions], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    work = [make("train", "a"), make("judge", "b", ask={})]
    problems = list(EXECUTOR.check(options, Resources(1, 1, (), stages), work))
    assert len(problems) == 1 and text in problems[0]


@pytest.mark.parametrize(
    ("local", "gpus", "text"),
    [
        ({"gpus": 2, "engine": True}, None, "no GPU, and 2 GPUs would be needed for a checkpoint that judges: start a"),
        ({"gpus": 1, "engine": False}, None, r"kind: openai with base_url \(docs/clusters.md\), or .* device: cpu$"),
        ({"gpus": 1, "engine": True}, 4, r"and 4 GPUs would be needed for .* base_url \(docs/clusters.md\)$"),
        ({}, 1, r"and 1 GPU would be needed \(compute.stages.judge.gpus\): leave that out$"),
        ({"gpus": 0, "engine": True}, None, None),
        ({}, None, None),
    ],
)
def test_a_judge_has_no_gpu_on_a_login_node(
    slurm: Path, local: dict[str, Any], gpus: int | None, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``gres``, because the GPUs of jobs are no help to a stage that runs here; one line for both stages."""
    monkeypatch.setattr("harness.run.slurm.visible_gpus", list)
    options, stages = SlurmOptions(gres="gpu:{gpus}"), {"judge": StageOptions(gpus=gpus)}
    judging = [make("judge", row, ask={}, **local) for row in ("a", "b")]
    problems = list(EXECUTOR.check(options, Resources(1, 1, (), stages), judging))
    assert len(problems) == (text is not None)
    if text is not None:
        assert problems[0].startswith("under slurm judge stages that ask run on this machine, which has")
        assert re.search(text, problems[0])
    monkeypatch.setattr("harness.run.slurm.visible_gpus", lambda: ["0", "1", "2", "3"])
    assert not [text for text in EXECUTOR.check(options, Resources(1, 1), judging) if "has no GPU" in text]


def test_a_recipe_with_gres_can_be_tried_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    options = SlurmOptions(cluster="local", gres="gpu:{gpus}", partition="gpu")
    own = {"train": StageOptions(options={"gres": "gpu:a100:{gpus}"})}
    resources = Resources(1, 1, (), own, frozenset({"train", "answer"}))
    assert list(EXECUTOR.check(options, resources, [make("train", "a"), make("answer", "b")])) == []


def test_gpus_may_be_asked_for_by_one_kind_alone(slurm: Path, tmp_path: Path) -> None:
    stages = {"train": StageOptions(options={"gres": "gpu:{gpus}"})}
    with start(tmp_path, SlurmOptions(poll_seconds=0.1), stages) as executor:
        executor.submit(make("train", "a"))
        assert finish(executor, 1) == {"a": None}
    assert "#SBATCH --gres=gpu:1\n" in (slurm / "jobs" / "100.sh").read_text()
    engine = make("train", "b", models={}, engine=True, gpus=4)
    for gpus, texts in ((None, []), (4, []), (2, ["compute.stages.train.gpus = 2, and the stage's engine takes 4"])):
        stages = {"train": StageOptions(gpus=gpus, options={"gres": "gpu:{gpus}"})}
        resources = Resources(1, 1, (), stages, frozenset({"train"}))
        problems = list(EXECUTOR.check(SlurmOptions(), resources, [engine]))
        assert [problem.partition(" (")[0] for problem in problems] == texts


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("executor_options={gres: 'gpu:{n}'}", "gres.*the placeholder {gpus} and no other"),
        ("executor_options={gres: 'gpu:{}{'}", "gres.*the placeholder {gpus} and no other"),
        ("stages={train: {options: {gres: 'gpu:{gpu}'}}}", "stages.train.options.gres.*the placeholder {gpus}"),
        ("executor_options={here: [score, sampel]}", "here.*must be kinds of stages, and sampel is none: prompts, "),
    ],
)
def test_mistakes_are_said_when_the_recipe_is_read(change: str, text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        load_recipe("pocket", ["compute.executor=slurm", f"compute.{change}"], load_registry())


def test_options_go_through_a_recipe() -> None:
    options = SlurmOptions(partition="a", sbatch={"qos": "high"}, here=("prompts",))
    assert options_from(SlurmOptions, json_data(options)) == options
