"""Executor ``ray`` on a real cluster of two machines, which are groups of processes here: ``tox -e ray``."""

from __future__ import annotations

import asyncio
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
from harness.contracts.executor import Copies, Resources, RunStage, StageOptions, StageResources, StageResult
from harness.contracts.stage import RunListener, Stage
from harness.errors import UserError
from harness.run import EXECUTORS
from harness.run.ray_options import RayOptions
from results.store.store import MARKER
from tests.command import SMALL, command, distilbench, environment, settings
from tests.fakes.s3 import local_s3

if not os.environ.get("DISTILBENCH_RAY"):
    pytest.skip("minutes on two free cores: tox -e ray", allow_module_level=True)
from ray.exceptions import TaskCancelledError

from harness.run.ray_cluster import Event, StageOrder, Supervisor

pytestmark = [
    pytest.mark.slow,
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

    def workers(self, word: str) -> list[psutil.Process]:
        """Those whose names begin so: stages by their labels, actors by their classes."""
        raylets = [one.all_processes["raylet"][0].process.pid for one in self.cluster.list_all_nodes()]
        found = [child for raylet in raylets for child in psutil.Process(raylet).children()]
        return [child for child in found if name_of(child).startswith(f"ray::{word}")]

    def tasks(self, word: str) -> list[psutil.Process]:
        """Stages of the second machine."""
        raylet = self.second.all_processes["raylet"][0].process.pid
        return [worker for worker in self.workers(word) if worker.ppid() == raylet]

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


def held(look: Callable[[], list[psutil.Process]]) -> psutil.Process:
    """The first process that ``look`` finds, stopped."""
    while True:
        process: psutil.Process = wait_until(look)[0]
        process.suspend()
        if process in look():
            return process
        process.resume()  # its stage had ended already


def start(folder: Path, seeds: Sequence[int] = (0, 1), **values: object) -> subprocess.Popen[bytes]:
    options = (f"compute.executor_options.{name}={value}" for name, value in values.items())
    chosen = settings(f"seeds={list(seeds)}", *options)
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
        # Stages may take less than a second: what is to be killed, or found again, is held.
        victim = held(lambda: both.tasks("answer"))
        both.kill_second()
        victim.kill()  # a process that is held does not see that its machine has died
        said = there / "said.txt"
        wait_until(lambda: "Once more (1 of 1)" in said.read_text())
        both.replace_second()
        found = held(lambda: both.workers("train"))
        label = name_of(found).removeprefix("ray::")
        process.kill()
        process.wait()
        offset = len(said.read_text())
        process = start(there, address=both.address)
        # What ran goes on, in its own process, and is found.
        wait_until(lambda: "still running in the cluster, of an earlier command" in said.read_text()[offset:])
        found.resume()
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
        files = fsspec.filesystem("s3").find("bucket/runs")
        # there between the key and the name: a folder for these bytes
        kept = {re.sub(r"/([0-9a-f]{32})/[0-9a-f]{16}/", r"/\1/", file.removeprefix("bucket/runs/")) for file in files}
    (there / "runs" / "store" / "storage").unlink()
    assert set(contents(there / "runs" / "store")) <= kept
    check_equal(there, here)


def test_after_ctrl_c_and_after_the_end_of_the_cluster_the_same_command_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "runs" / "store"
    with machines(RAY_gcs_rpc_server_reconnect_timeout_s="15") as both:  # a minute otherwise
        process = start(tmp_path, address=both.address, seeds=[0])
        stages = wait_until(lambda: both.workers("train"))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
        wait_until(lambda: not any(stage.is_running() for stage in stages), 30)
        assert not both.workers("train")
        process = start(tmp_path, address=both.address, seeds=[0])
        wait_until(lambda: both.workers("train"))
    # All its machines have died at once, the driver's too.
    assert process.wait(timeout=120) != 0
    finished = {marker: marker.stat().st_mtime_ns for marker in store.rglob(MARKER)}
    assert finished
    with machines() as both:
        process = start(tmp_path, address=both.address, seeds=[0])
        assert process.wait(timeout=300) == 0, (tmp_path / "said.txt").read_text()
    assert {marker: marker.stat().st_mtime_ns for marker in finished} == finished
    assert "\nDPO " in (tmp_path / "table.txt").read_text()


def test_a_cluster_that_the_command_started_ends_with_it(tmp_path: Path) -> None:
    process = start(tmp_path, address="local", seeds=[0])
    driver = psutil.Process(process.pid)
    wait_until(lambda: [one for one in driver.children(recursive=True) if name_of(one).startswith("ray::answer")])
    started = driver.children(recursive=True)
    process.kill()
    process.wait()
    # Ray's agents, who run nothing of ours, follow within a minute.
    wait_until(lambda: not [one for one in started if one.is_running() and "Agent" not in name_of(one)], 30)


def stage_of(row: str, kind: str = "train", **params: object) -> Stage:
    return Stage(kind, {"row": row, **params}, row=row)  # the row is no part of a key by itself


def make_run_stage(folder: Path, engines: EngineHost | None = None, copies: Copies | None = None) -> RunStage:
    """Of stages that do what their row says, and note when they began and ended."""

    def run_stage(stage: Stage, progress: Callable[[int, int, str], None]) -> StageResult:
        progress(1, 2, "half")
        with (folder / f"{stage.row}.tries").open("a") as file:
            file.write(f"{os.getpid()}\n")
        count = len(tries(folder, stage.row))
        if stage.row.startswith("dies") or (stage.row.startswith("once") and count == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if stage.row.startswith("asks"):
            assert engines is not None
            port = stage.params["port"]
            command = ("python", "-m", "http.server", "--bind", "{host}", "{port}", "--directory", str(folder))
            spec = EngineSpec(f"engine {port}", command, health="/", gpus=int(stage.params["gpus"]), start_seconds=60)
            (folder / f"{stage.row}.url").write_text(engines.address(spec, folder / "log" / "engine.log"))
            # An engine that nobody asks ends where another waits: it is held until the other stage has asked, too.
            wait_until((folder / f"{stage.params.get('beside', stage.row)}.url").exists, 100)
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
        stage_of("large", "reward"), stage_of("heavy", "answer"),
    ]  # fmt: skip
    errors = run(both, tmp_path, stages, heard, wishes=wishes)
    assert {row for row, error in errors.items() if error} == {"dies", "large", "heavy"}
    assert "its worker died, 1 time in all" in str(errors["dies"])
    assert "it needs 1 core, 3 GPUs on one machine, and no machine of the cluster has them" in str(errors["large"])
    assert "10000.0 GiB" in str(errors["heavy"])
    assert len(tries(tmp_path, "once")) == 2
    assert {row: (tmp_path / row).read_text() for row in ("two", "once")} == dict.fromkeys(("two", "once"), "3 0,1")
    assert (tmp_path / "none").read_text() == "1 "
    assert "start train two" in heard.lines and "half train two" in heard.lines


def test_stages_that_write_the_ledger_run_beside_the_driver(both: Machines, tmp_path: Path) -> None:
    asks = Stage("judge", {}, row="judged", local={"ask": {}})
    assert run(both, tmp_path, [asks, stage_of("other", "prompts")]) == {"judged": None, "other": None}
    raylets = [process.pid for process in psutil.process_iter() if "raylet" in name_of(process).split(" ")[0]]
    assert raylets
    # The worker has ended with the command, whose child it was.
    assert not psutil.pid_exists(*tries(tmp_path, "judged"))


def open_executor(both: Machines, folder: Path, listener: RunListener | None = None) -> Any:
    make = partial(make_run_stage, folder)
    granted = Resources(2, 1, folder=folder, model_kinds=frozenset({"sample"}))
    return EXECUTORS["ray"].start(RayOptions(address=both.address), granted, make, listener or Heard())


def tries(folder: Path, row: str) -> list[int]:
    """The processes in which it was begun."""
    file = folder / f"{row}.tries"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_stage_of_two_commands_runs_once_and_ends_with_the_last_of_them(both: Machines, tmp_path: Path) -> None:
    heard = Heard()
    with open_executor(both, tmp_path, heard) as one:
        other = open_executor(both, tmp_path)
        other.submit(stage_of("long", "prompts", sleep=6))
        wait_until(lambda: tries(tmp_path, "long"))
        one.submit(stage_of("long", "prompts", sleep=6))
        wait_until(lambda: one._listen(1.0) or heard.lines)
        other.shutdown(abort=True)
        assert [result.error for result in one.results()] == [None]
        assert heard.lines[0] == "start prompts long" and len(tries(tmp_path, "long")) == 1
        one.submit(stage_of("endless", "prompts", sleep=1000))
        (process,) = wait_until(lambda: tries(tmp_path, "endless"))
    wait_until(lambda: not psutil.pid_exists(process), 20)


def test_the_supervisor_dies_and_what_ran_begins_once_more(both: Machines, tmp_path: Path) -> None:
    wait_until(lambda: not both.workers("Supervisor"), 20)  # those of the tests before
    with open_executor(both, tmp_path) as executor:
        executor.submit(stage_of("a", "prompts", sleep=5))
        wait_until(lambda: tries(tmp_path, "a"))
        (supervisor,) = both.workers("Supervisor")
        supervisor.kill()
        assert [result.error for result in executor.results()] == [None]
    first, second = tries(tmp_path, "a")
    assert first != second and not psutil.pid_exists(first)


def test_an_engine_dies_with_its_worker_and_the_next_question_starts_it_again(both: Machines, tmp_path: Path) -> None:
    urls = []
    with open_executor(both, tmp_path) as executor:
        for row in ("asks 5a", "asks 5b"):
            executor.submit(
                Stage("sample", {"port": "5", "gpus": 2, "row": row}, row=row, local={"models": {}, "engine": True})
            )
            assert [result.error for result in executor.results()] == [None]
            urls.append((tmp_path / f"{row}.url").read_text())
            (worker,) = both.workers("EngineActor")
            worker.kill()
            wait_until(lambda: not [one for one in psutil.process_iter() if str(tmp_path) in name_of(one)], 30)
    assert urls[0] != urls[1]


def test_one_engine_serves_all_its_stages_and_ends_for_another(both: Machines, tmp_path: Path) -> None:
    """Two machines with two GPUs each: three engines that take two cannot stand at once."""
    rows = [f"asks {port}{letter}" for port in (1, 2, 3) for letter in "ab"]
    stages = [
        Stage(
            "sample",
            {"port": row[5], "gpus": 2, "row": row, "beside": row[:-1] + {"a": "b", "b": "a"}[row[-1]]},
            row=row,
            local={"models": {}, "engine": True},
        )
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


ORDER = StageOrder(StageResources(0, 1, None, 1), b"", {})


def test_a_stage_that_is_stopped_before_it_begins_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    monkeypatch.setattr(Supervisor, "_start", lambda self, job: begun.append(job))

    async def work() -> None:
        supervisor = Supervisor("s", 60)
        await supervisor.submit("a driver", stage_of("a"), ORDER)
        await supervisor.leave("a driver")
        assert not supervisor.jobs

    asyncio.run(work())
    assert begun == []


def test_of_a_driver_that_died_what_runs_goes_on_and_what_waits_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.ray_cluster.PATIENCE", 0.5)
    monkeypatch.setattr("ray.cancel", lambda task, force: task.set_exception(TaskCancelledError()))

    def start(self: Supervisor, job: Any) -> None:
        job.task = asyncio.get_running_loop().create_future()

    monkeypatch.setattr(Supervisor, "_start", start)

    async def work() -> None:
        supervisor = Supervisor("s", 60)
        runs, waits = stage_of("runs"), stage_of("waits")
        for stage in (runs, waits):
            await supervisor.submit("a driver", stage, ORDER)
        await asyncio.sleep(0)
        await supervisor.tell(Event("start", runs.key))
        await asyncio.sleep(2.5)
        assert list(supervisor.jobs) == [runs.key] and not supervisor.heard

    asyncio.run(work())


def test_no_cluster_is_a_users_mistake(tmp_path: Path) -> None:
    config = RayOptions(address="127.0.0.1:9")
    with pytest.raises(UserError, match=r"no Ray cluster at '127.0.0.1:9' .*ray start"):
        EXECUTORS["ray"].start(config, Resources(1, 1), partial(make_run_stage, tmp_path), RunListener())
