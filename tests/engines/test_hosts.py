"""Servers that a worker starts: one for equal specs, restarted once, ended with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from harness.contracts.engine import EngineFailure, EngineSpec
from harness.models.engines.local import LocalEngines

SERVER = Path(__file__).parents[1] / "fakes" / "engine.py"


def spec(*flags: str, **fields: object) -> EngineSpec:
    command = (sys.executable, str(SERVER), "--host", "{host}", "--port", "{port}", *flags)
    return EngineSpec("fake", command, **fields)  # type: ignore[arg-type]


@pytest.fixture
def engines() -> Iterator[LocalEngines]:
    host = LocalEngines()
    yield host
    host.close()


def answers(url: str) -> bool:
    with closing(HTTPConnection(url.removeprefix("http://"), timeout=20)) as connection:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200


def pids(log: Path) -> list[int]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(line.split()[-1]) for line in lines if line.startswith("started as")]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(pid: int) -> None:
    end = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < end, "the server outlives its worker"
        time.sleep(0.05)


def test_equal_specs_are_one_server_and_each_stage_has_its_log(engines: LocalEngines, tmp_path: Path) -> None:
    first = engines.address(spec(), tmp_path / "first.log")
    assert first.startswith("http://127.0.0.1:") and answers(first)
    assert engines.release() == []
    assert engines.address(spec(), tmp_path / "second.log") == first
    assert len(pids(tmp_path / "first.log")) == 1 and not (tmp_path / "second.log").exists()


def test_the_oldest_ends_beyond_keep_but_none_that_the_stage_uses(engines: LocalEngines, tmp_path: Path) -> None:
    specs = [spec("--slow", str(n / 1000), keep=2) for n in range(3)]
    urls = [engines.address(specs[n], tmp_path / f"{n}.log") for n in range(2)]
    engines.release()
    assert engines.address(specs[0], tmp_path / "0.log") == urls[0]  # now the one that was used last
    engines.address(specs[2], tmp_path / "2.log")
    assert engines.address(specs[0], tmp_path / "0.log") == urls[0]
    assert not is_alive(pids(tmp_path / "1.log")[0]) and len(pids(tmp_path / "0.log")) == 1
    engines.address(specs[1], tmp_path / "1.log")  # both others are in use
    assert all(is_alive(pids(tmp_path / f"{n}.log")[-1]) for n in range(3))


def test_one_that_died_is_started_once_more_and_the_second_death_is_an_error(
    engines: LocalEngines, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    engines.address(spec(), log)
    os.kill(pids(log)[-1], signal.SIGKILL)
    time.sleep(0.2)
    assert answers(engines.address(spec(), log))
    os.kill(pids(log)[-1], signal.SIGKILL)
    time.sleep(0.2)
    with pytest.raises(EngineFailure, match=r"(?s)died twice in this stage \(exit code 137, SIGKILL.*started as"):
        engines.address(spec(), log)
    (note,) = engines.release()
    assert "SIGKILL" in note and "started once more" in note and f"started as {pids(log)[0]}" in note
    engines.address(spec(), log)  # another stage counts anew
    assert len(pids(log)) == 3


def test_one_that_cannot_start_is_an_error_with_its_last_lines(engines: LocalEngines, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=r"(?s)fake did not start \(exit code 1\).*no such flag"):
        engines.address(spec("--fail", "no such flag"), tmp_path / "log")
    reason = "RuntimeError: heads of 24" + "\n  at another place" * 60
    with pytest.raises(EngineFailure, match=r"(?s)Its errors:\nRuntimeError: heads of 24\nIts last lines:"):
        engines.address(spec("--fail", reason), tmp_path / "log")
    with pytest.raises(EngineFailure, match=r"(?s)exit code 127.*/nowhere/vllm: No such file"):
        engines.address(EngineSpec("vllm", ("/nowhere/vllm",)), tmp_path / "log")
    with pytest.raises(EngineFailure, match=r"(?s)could not be asked .*start_minutes"):
        engines.address(spec("--slow", "60", start_seconds=1.0), tmp_path / "log")
    assert not any(map(is_alive, pids(tmp_path / "log")))


def test_servers_on_gpus_make_room_and_follow_the_visible_devices(
    engines: LocalEngines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    engines.address(spec(gpus=1, keep=4), tmp_path / "0.log")
    engines.address(spec(keep=4), tmp_path / "cpu.log")
    engines.release()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    engines.address(spec(gpus=1, keep=4), tmp_path / "1.log")
    assert not is_alive(pids(tmp_path / "0.log")[0])
    engines.make_room()
    assert not is_alive(pids(tmp_path / "1.log")[0]) and is_alive(pids(tmp_path / "cpu.log")[0])


def test_servers_end_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from harness.contracts.engine import EngineSpec;"
        "from harness.models.engines.local import LocalEngines;"
        f"host = LocalEngines(); host.address({spec()!r}, Path({str(tmp_path / 'log')!r})); print('up', flush=True);"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == b"up\n"
        (pid,) = pids(tmp_path / "log")
        assert is_alive(pid)
        worker.kill()
    wait_for_end(pid)


def test_an_engine_does_not_inherit_our_packages(engines: LocalEngines, tmp_path: Path) -> None:
    show = "import os; print('ours', os.environ.get('PYTHONPATH'), os.environ['MINE']); raise SystemExit(3)"
    command = (sys.executable, "-c", show, "{port}")
    with pytest.raises(EngineFailure, match=r"(?s)exit code 3.*ours None yes"):
        engines.address(EngineSpec("fake", command, environment=(("MINE", "yes"),)), tmp_path / "log")
