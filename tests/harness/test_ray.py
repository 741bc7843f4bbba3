"""Executor ``ray`` on a real cluster of two machines, which are groups of processes here: ``tox -e ray``."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pytest

from harness.contracts.engine import EngineHost, EngineSpec
from harness.contracts.executor import Copies, Resources, RunStage, StageOptions, StageResult
from harness.contracts.stage import RunListener, Stage
from harness.errors import UserError
from harness.run import EXECUTORS
from harness.run.ray_options import RayOptions
from results.store.store import MARKER
from tests.command import SMALL, command, distilbench, environment, settings
from tests.fakes.s3 import local_s3

pytest.importorskip("ray", reason="needs ray: tox -e ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("DISTILBENCH_RAY"), reason="minutes on two free cores: tox -e ray"),
    # Ray's own
    pytest.mark.filterwarnings("ignore"),
]

WORDS = ("reproduce", "table1", "--methods", "dpo", "--min-coverage", "0", *settings(*SMALL, "seeds=[0,1]"))


class Machines:
    """A cluster whose head has ``cores``, and a second machine."""

    def __init__(self, cores: int, gpus: int) -> None:
        from ray.cluster_utils import Cluster

        self.size = {"num_cpus": cores, "num_gpus": gpus, "object_store_memory": 80 * 2**20}
        head = {**self.size, "include_dashboard": False}
        try:
            self.cluster = Cluster(initialize_head=True, head_node_args=head)
        except Exception:  # noqa: BLE001, Ray waits for half a minute, which a busy machine may need
            self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self.cluster.address
        self.second = self.cluster.add_node(**self.size)

    def tasks(self, word: str) -> list[psutil.Process]:
        """Of the second machine, those whose names begin so."""
        raylet = psutil.Process(self.second.all_processes["raylet"][0].process.pid)
        return [child for child in raylet.children() if name_of(child).startswith(f"ray::{word}")]

    def kill_second(self) -> None:
        self.cluster.remove_node(self.second, allow_graceful=False)

    def replace_second(self) -> None:
        self.second = self.cluster.add_node(**self.size)


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()  # Ray pads a title to the length of the command
    except psutil.Error:
        return ""


@contextmanager
def machines(cores: int = 1, gpus: int = 0, **variables: str) -> Iterator[Machines]:
    before = dict(os.environ)
    # Workers that nobody asked for cost seconds each; they are found, and nothing is reported to Ray's makers.
    os.environ |= environment(
        RAY_prestart_worker_first_driver="0", RAY_worker_niceness="0", RAY_USAGE_STATS_ENABLED="0",
        RAY_health_check_failure_threshold="8", RAY_health_check_period_ms="1000", **variables,
    )  # fmt: skip
    both = Machines(cores, gpus)
    try:
        yield both
    finally:
        both.cluster.shutdown()
        os.environ.clear()
        os.environ |= before


def contents(store: Path) -> dict[str, str]:
    """File to sha256, the markers apart: they hold times."""
    files = [file for file in store.rglob("*") if file.is_file() and file.name != MARKER and "locks" not in file.parts]
    return {file.relative_to(store).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def wait_until(happens: Callable[[], Any], seconds: float = 200) -> Any:
    end = time.monotonic() + seconds
    while not (found := happens()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found


def start(folder: Path, **values: object) -> subprocess.Popen[bytes]:
    chosen = settings(*(f"compute.executor_options.{name}={value}" for name, value in values.items()))
    words = command("-v", *WORDS, "--executor", "ray", *chosen)
    with open(folder / "said.txt", "ab") as said, open(folder / "table.txt", "wb") as table:
        files = {"stdout": table, "stderr": said}
        return subprocess.Popen(words, cwd=folder, env=environment(), start_new_session=True, **files)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table by processes of this machine, with two seeds."""
    folder = tmp_path_factory.mktemp("here")
    done = distilbench(*WORDS, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "table.txt").write_text(done.stdout)
    return folder


def check_equal(folder: Path, here: Path) -> None:
    assert contents(folder / "runs" / "store") == contents(here / "runs" / "store")
    tables = [(place / "table.txt").read_text().partition("files:")[0] for place in (folder, here)]
    assert tables[0] == tables[1] and "\nDPO " in tables[0]


def test_a_table_over_two_machines_one_of_which_dies_and_a_driver_that_is_killed(here: Path, tmp_path: Path) -> None:
    """The same bytes as from this machine's processes, and no stage made twice."""
    there = tmp_path / "there"
    there.mkdir()
    with machines() as both:
        process = start(there, address=both.address)
        wait_until(lambda: both.tasks("answer"))
        both.kill_second()
        said = there / "said.txt"
        wait_until(lambda: "Once more (1 of 1)" in said.read_text())
        both.replace_second()
        wait_until(lambda: both.tasks("train"))
        (victim,) = both.tasks("train")
        label = name_of(victim).removeprefix("ray::")
        process.kill()
        process.wait()
        offset = len(said.read_text())
        process = start(there, address=both.address)
        # What ran goes on, in its own process, and is found.
        wait_until(lambda: "still running in the cluster, of an earlier command" in said.read_text()[offset:])
        assert process.wait(timeout=300) == 0, said.read_text()
        text = said.read_text()
        assert not re.search(rf"failed [0-9a-f]+ {re.escape(label)}", text)
        assert len(re.findall(rf"begin [0-9a-f]+ {re.escape(label)}\n", text)) == 1
    check_equal(there, here)


def test_machines_that_share_no_disk_copy_through_s3(here: Path, tmp_path: Path) -> None:
    with local_s3() as variables, machines(cores=1, **variables) as both:
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
        there = tmp_path / "there"
        there.mkdir()
        process = start(there, address=both.address, storage="s3://bucket/runs", scratch=tmp_path / "copies")
        assert process.wait(timeout=400) == 0, (there / "said.txt").read_text()
        kept = {file.removeprefix("bucket/runs/") for file in fsspec.filesystem("s3").find("bucket/runs")}
    (there / "runs" / "store" / "storage").unlink()
    assert set(contents(there / "runs" / "store")) <= kept
    check_equal(there, here)


def stage_of(row: str, kind: str = "train", **params: object) -> Stage:
    return Stage(kind, params, row=row)


def make_run_stage(folder: Path, engines: EngineHost | None = None, copies: Copies | None = None) -> RunStage:
    """Of stages that do what their row says, and note when they began and ended."""

    def run_stage(stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
        progress(1, 2, "half")
        tries = folder / f"{stage.row}.tries"
        with tries.open("a") as file:
            file.write(f"{os.getpid()}\n")
        count = len(tries.read_text().splitlines())
        if stage.row.startswith("dies") or (stage.row.startswith("once") and count == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if stage.row.startswith("asks"):
            assert engines is not None
            port = stage.params["port"]
            command = ("python", "-m", "http.server", "--bind", "{host}", "{port}", "--directory", str(folder))
            spec = EngineSpec(f"engine {port}", command, health="/", gpus=int(stage.params["gpus"]), start_seconds=60)
            (folder / f"{stage.row}.url").write_text(engines.address(spec, folder / "log" / "engine.log"))
            engines.release()
        threads = os.environ["OMP_NUM_THREADS"]
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        time.sleep(float(str(stage.params.get("sleep", 0))))
        (folder / stage.row).write_text(f"{threads} {gpus}")
        return StageResult(stage, 0.1)

    return run_stage


class Heard(RunListener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_start(self, label: str) -> None:
        self.lines.append(f"start {label}")

    def on_progress(self, label: str, done: int, total: int, info: str) -> None:
        self.lines.append(f"{info} {label}")


@pytest.fixture(scope="module")
def both() -> Iterator[Machines]:
    with machines(cores=4, gpus=2) as found:
        yield found


def run(
    both: Machines, folder: Path, stages: Sequence[Stage], listener: RunListener | None = None, **options: Any
) -> dict[str, str | None]:
    """Row to its error."""
    granted = Resources(
        2, 1, folder=folder, model_kinds=frozenset({"train", "sample"}), stages=options.pop("wishes", {})
    )
    config = RayOptions(address=both.address, **options)
    make = partial(make_run_stage, folder)
    results: list[StageResult] = []
    with EXECUTORS["ray"].start(config, granted, make, listener or Heard()) as executor:
        for stage in stages:
            executor.submit(stage)
        while len(results) < len(stages):
            results += executor.results()
    assert sorted(result.stage.row for result in results) == sorted(stage.row for stage in stages)
    return {result.stage.row: result.error for result in results}


def test_stages_get_their_resources_and_a_dead_worker_is_replaced(both: Machines, tmp_path: Path) -> None:
    heard = Heard()
    wishes = {
        "train": StageOptions(gpus=2, threads=3, retries=1),
        "sample": StageOptions(retries=0),
        "reward": StageOptions(gpus=3),
        "answer": StageOptions(memory_gib=10_000),
    }
    stages = [
        stage_of("two"), stage_of("once"), stage_of("dies", "sample"), stage_of("none", "prompts"),
        stage_of("large", "reward"), stage_of("heavy", "answer"), Stage("train", {}, row="one", local={"models": {}}),
    ]  # fmt: skip
    errors = run(both, tmp_path, stages, heard, wishes=wishes)
    assert {row for row, error in errors.items() if error} == {"dies", "large", "heavy"}
    assert "its worker died, 1 times in all" in str(errors["dies"])
    assert "it needs 1 core, 3 GPUs on one machine, and no machine of the cluster has them" in str(errors["large"])
    assert "10000.0 GiB" in str(errors["heavy"])
    assert len((tmp_path / "once.tries").read_text().splitlines()) == 2
    assert {row: (tmp_path / row).read_text() for row in ("two", "once")} == dict.fromkeys(("two", "once"), "3 0,1")
    assert (tmp_path / "none").read_text() == "1 "
    assert "start train two" in heard.lines and "half train two" in heard.lines


def test_stages_that_write_the_ledger_run_beside_the_driver(both: Machines, tmp_path: Path) -> None:
    asks = Stage("judge", {}, row="judged", local={"ask": {}})
    assert run(both, tmp_path, [asks, stage_of("other", "prompts")]) == {"judged": None, "other": None}
    raylets = [process.pid for process in psutil.process_iter() if "raylet" in name_of(process).split(" ")[0]]
    assert raylets
    # The worker has ended with the command, whose child it was.
    assert not psutil.pid_exists(int((tmp_path / "judged.tries").read_text()))


def test_a_driver_that_died_is_forgotten_and_what_it_left_is_found(both: Machines, tmp_path: Path) -> None:
    """The second driver waits for the stage of the first."""
    granted = Resources(2, 1, folder=tmp_path)
    config, make = RayOptions(address=both.address), partial(make_run_stage, tmp_path)
    long = stage_of("long", "prompts", sleep=8)
    first = EXECUTORS["ray"].start(config, granted, make, Heard())
    first.submit(long)
    wait_until((tmp_path / "long.tries").exists)
    heard = Heard()
    second = EXECUTORS["ray"].start(config, granted, make, heard)
    second.submit(long)
    assert [result.error for result in second.results()] == [None]
    assert heard.lines[0] == "start prompts long"
    assert len((tmp_path / "long.tries").read_text().splitlines()) == 1
    second.shutdown(abort=False)
    first.shutdown(abort=False)


def test_one_engine_serves_all_its_stages_and_ends_for_another(both: Machines, tmp_path: Path) -> None:
    """Two machines with two GPUs each: three engines that take two cannot stand at once."""
    rows = [f"asks {port}{letter}" for port in (1, 2, 3) for letter in "ab"]
    stages = [
        Stage("sample", {"port": row[5], "gpus": 2, "row": row}, row=row, local={"models": {}, "engine": True})
        for row in rows
    ]
    errors = run(both, tmp_path, stages)
    assert errors == dict.fromkeys(rows)
    urls = {row: (tmp_path / f"{row}.url").read_text() for row in rows}
    for port in (1, 2, 3):
        assert urls[f"asks {port}a"].startswith("http://") and urls[f"asks {port}a"] == urls[f"asks {port}b"]
    wait_until(lambda: not [process for process in psutil.process_iter() if str(tmp_path) in name_of(process)], 30)
    too_large = Stage("sample", {"port": "4", "gpus": 9}, row="asks 4", local={"models": {}, "engine": True})
    (error,) = run(both, tmp_path, [too_large]).values()
    assert "engine 4 needs 9 GPUs on one machine, and the largest of the cluster has 2" in str(error)


def test_a_folder_that_a_machine_does_not_see_is_named(both: Machines, tmp_path: Path) -> None:
    from harness.run import ray_driver

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_driver, "token_of", lambda folder: "another")
        (error,) = run(both, tmp_path, [stage_of("a", "prompts")]).values()
    assert re.search(r"the machine [\d.]+ does not see .*--runs.*executor_options.storage", str(error))


def test_no_cluster_is_a_users_mistake(tmp_path: Path) -> None:
    config = RayOptions(address="127.0.0.1:9")
    with pytest.raises(UserError, match=r"no Ray cluster at '127.0.0.1:9' .*ray start"):
        EXECUTORS["ray"].start(config, Resources(1, 1), partial(make_run_stage, tmp_path), RunListener())
