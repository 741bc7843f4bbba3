"""``distilbench view``: what it shows of runs that go on, were killed or are finished, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from distilbench.cli import verify
from distilbench.viewing.comparison import comparison_page
from distilbench.viewing.library import Library
from distilbench.viewing.server import application, follow, open_socket
from harness.contracts.stage import RunListener, Stage
from harness.errors import UserError
from harness.types import Reply, Request
from judges.ledger.ledger import Ledger, request_key
from results.run.progress import recorded
from results.run.record import read_run, write_run
from results.store.store import ArtifactStore
from tests.browsers import SECONDS, browser
from tests.command import command, environment
from tests.reports.shelves import HOSTILE, books, make, rows

__all__ = ["browser"]

TRAIN = Stage("train", {"n": 1}, row="dpo", seed=0)
MESSAGES = ({"role": "user", "content": f"Which is better? {HOSTILE}"},)
ASKED = Request("q1", "game1", MESSAGES, 8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs of one store, ``made-up`` and ``again``, and a ledger with one reply."""
    folder = tmp_path_factory.mktemp("view") / "runs"
    results = make(ArtifactStore(folder / "store"), books(), rows(), (0, 1))
    for name in ("made-up", "again"):
        write_run(folder / name / "table1" / "run.json", replace(results.run, name=name))
    with Ledger(folder / "ledger.sqlite") as ledger:
        ledger.note_requests([ASKED], "http://judge/v1", "judge-a")
        ledger.put(key(), "http://judge/v1", "judge-a", Reply(f"[[A]] {HOSTILE}", "stop", "judge-a", 9, 3))
    return folder


def key() -> str:
    return request_key("http://judge/v1", "judge-a", ASKED)


@pytest.fixture
def client(runs: Path) -> TestClient:
    return TestClient(application(Library(runs)), base_url="http://127.0.0.1")


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """What lies there, and when it was last changed; SQLite's own files beside a ledger that is read left out."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def test_all_runs_and_the_page_of_one(client: TestClient, runs: Path) -> None:
    before = files(runs)
    index = client.get("/").text
    assert 'href="/runs/made-up"' in index and 'href="/runs/again"' in index
    page = client.get("/runs/made-up").text
    assert "TEACHER is 1.7 points above DPO" in page and 'id="table-1"' in page
    assert 'data-ledger="/runs/made-up/requests/"' in page and "<script>window.hacked" not in page
    assert files(runs) == before, "nothing is written"


def test_one_run_needs_no_list(runs: Path) -> None:
    client = TestClient(application(Library(runs, ["again"])), base_url="http://localhost", follow_redirects=False)
    assert client.get("/").headers["location"] == "/runs/again"


def test_a_request_and_its_reply_are_shown_as_they_were_sent(client: TestClient) -> None:
    page = client.get(f"/runs/made-up/requests/{key()[:16]}").text
    assert key() in page and "http://judge/v1" in page and "Which is better?" in page and "[[A]]" in page
    assert "<script>window.hacked" not in page and "&lt;script&gt;window.hacked" in page
    for start in ("f" * 16, "%27%20OR%201=1", "", "..%2f..%2fetc%2fpasswd"):
        assert client.get(f"/runs/made-up/requests/{start}").status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "evil.example:8377"])
def test_other_names_of_this_machine_are_refused(client: TestClient, host: str) -> None:
    """DNS rebinding: a page of others that points its own name at 127.0.0.1 still sends that name."""
    assert client.get("/", headers={"host": host}).status_code == 400
    assert client.get("/runs/made-up/events", headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    "address",
    [
        "/runs/..%2f..%2fetc%2fpasswd", "/runs/%2e%2e/report", "/../../etc/passwd", "/runs/store",
        "/runs/nothing/events", "/compare?first=../..", "/static/page.css", "/runs/made-up/../../store",
    ],
)  # fmt: skip
def test_an_address_is_no_path(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404 and "root:" not in answer.text


def test_it_can_only_be_read_and_by_this_site_alone(client: TestClient) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/runs/made-up").status_code == 405
    headers = client.get("/").headers
    assert headers["x-frame-options"] == "DENY" and headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in headers
    assert "default-src 'none'" in client.get("/").text


def test_it_listens_on_this_machine_alone() -> None:
    with open_socket(0) as server:
        host, port = server.getsockname()
        assert host == "127.0.0.1"
        server.listen()
        with pytest.raises(UserError, match=f"--port {port}: address already in use"):
            open_socket(port)


def test_two_runs_side_by_side(client: TestClient) -> None:
    """Both names stand for the same scores: nothing differs, and nothing is tested."""
    page = client.get("/compare").text
    assert "made-up against again: all cells are the same artifacts." in page
    assert "The recipes are the same." in page
    assert 'href="/runs/made-up/report#benchmark=Arena-Hard' in page
    assert "again against made-up" in client.get("/compare?first=made-up").text


def test_a_damaged_run_and_one_without_tables_leave_the_others(runs: Path, tmp_path: Path) -> None:
    for name in ("store", "again", "made-up", "ledger.sqlite"):
        (tmp_path / name).symlink_to(runs / name)
    (tmp_path / "broken" / "table1").mkdir(parents=True)
    (tmp_path / "broken" / "table1" / "run.json").write_text("{", encoding="utf-8")
    with going_on(tmp_path):
        client = TestClient(application(Library(tmp_path)), base_url="http://127.0.0.1")
        index = client.get("/")
        assert index.status_code == 200 and "broken" in index.text and "cannot be read" in index.text
        assert 'href="/runs/again"' in index.text
        page = client.get("/compare").text
    assert "broken: not compared" in page and "new has no table of scores yet" in page
    assert "made-up against again: all cells are the same artifacts." in page


def test_names_that_differ_in_a_sign_are_different_runs(runs: Path, tmp_path: Path) -> None:
    """Sections of a page are called after runs: ids of two must not be one."""
    (tmp_path / "store").symlink_to(runs / "store")
    for name in ("a.b", "a-b", "\u4e00", "\u4e8c"):
        (tmp_path / name).symlink_to(runs / "again")
    library = Library(tmp_path)
    assert list(library.all()) == ["a-b", "a.b-2", "\u4e00", "\u4e8c"]
    assert "a.b-2 against a-b: all cells" in comparison_page(list(library.all().values()), [])


def test_a_run_is_named_as_elsewhere(runs: Path, tmp_path: Path) -> None:
    for word in ("made-up", str(runs / "made-up"), str(runs / "made-up" / "table1")):
        assert list(Library(runs, [word]).all()) == ["made-up"]
    with pytest.raises(UserError, match="again, made-up"):
        Library(runs, ["mistyped"])
    with pytest.raises(UserError, match="holds no run"):
        Library(tmp_path / "none")
    copy = tmp_path / "made-up" / "table1"
    copy.mkdir(parents=True)
    (copy / "run.json").write_bytes((runs / "made-up" / "table1" / "run.json").read_bytes())
    assert list(Library(runs, ["made-up", str(copy.parent)]).all()) == ["made-up", "made-up-2"]


# Runs that go on


@contextmanager
def going_on(runs: Path) -> Iterator[tuple[RunListener, Path]]:
    """A command whose training has begun, and the training log that it writes."""
    with recorded(runs / "new", [TRAIN], [TRAIN.key], RunListener()) as listener:
        listener.on_start(TRAIN.label)
        log = runs / "store" / "tmp" / f"{TRAIN.key}.abc" / "model" / "training.jsonl"
        log.parent.mkdir(parents=True)
        log.write_text('{"step": 1, "loss": 0.75}\n{"step": 2, "loss": 0.5}\n{"step": 3, "lo')
        listener.on_progress(TRAIN.label, 2, 10, "steps, loss 0.500")
        yield listener, log


async def first_events(library: Library, count: int) -> list[tuple[str, Any]]:
    """Of the stream that a live page follows."""
    found: list[tuple[str, Any]] = []
    async for text in follow(library.run("new"), 0.0):
        if match := re.fullmatch(r"event: (\w+)\ndata: (.*)\n\n", text):
            found.append((match[1], json.loads(match[2])))
        if len(found) == count:
            break
    return found


def test_a_run_that_goes_on_is_live(tmp_path: Path) -> None:
    with going_on(tmp_path) as (listener, log):
        library = Library(tmp_path)
        page = TestClient(application(library), base_url="http://127.0.0.1").get("/runs/new").text
        assert 'data-events="/runs/new/events"' in page and "connect-src 'self'" in page
        assert "2 of 10 steps, loss 0.500" in page and "step 2 of 10, loss 0.5 (first 0.75)" in page
        parts = {event["id"]: event["html"] for _, event in asyncio.run(first_events(library, 5))}
        assert "Running." in parts["live-state"] and "0 of 1 stage done, 1 running" in parts["live-state"]
        assert "polyline" in parts["live-training"]
        listener.on_failure(TRAIN.label, f"boom {HOSTILE}")
        failed = library.run("new").parts()["live-stages"]
        assert "boom &lt;/script&gt;" in failed and "<img" not in failed
    assert "Finished with failures." in library.run("new").parts()["live-state"]
    assert log.is_file(), "what a run leaves behind is not ours to clear away"


def test_the_newest_replies_of_judges_are_shown_with_what_they_were_asked(tmp_path: Path) -> None:
    """While a judge is asked no judgment is in the store; the question and the answer stand in its request."""
    with going_on(tmp_path):
        page = library_page(tmp_path)
        assert "No answers yet: they come when" in page and "What it was asked" not in page
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            ledger.note_requests([ASKED], "http://judge/v1", "judge-a")
            ledger.put(key(), "http://judge/v1", "judge-a", Reply(f"[[A]] {HOSTILE}", "stop", "judge-a", 9, 3))
        page = library_page(tmp_path)
    assert "Which is better? &lt;" in page and "[[A]]" in page and "<script>window.hacked" not in page
    assert f'href="/runs/new/requests/{key()}"' in page


def library_page(runs: Path) -> str:
    return TestClient(application(Library(runs)), base_url="http://127.0.0.1").get("/runs/new").text


def test_a_killed_run_says_so_and_what_it_was_doing(tmp_path: Path) -> None:
    code = (
        "import os\nfrom pathlib import Path\nfrom harness.contracts.stage import RunListener, Stage\n"
        "from results.run.progress import recorded\nstage = Stage('train', {'n': 1}, row='dpo', seed=0)\n"
        "with recorded(Path(os.environ['RUNS'], 'new'), [stage], [stage.key], RunListener()) as listener:\n"
        "    listener.on_start(stage.label)\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(RUNS=str(tmp_path)), check=False)
    assert done.returncode == -signal.SIGKILL
    log = tmp_path / "store" / "tmp" / f"{TRAIN.key}.abc" / "model" / "training.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"step": 1, "loss": 0.75}\n{"step": 2, "loss": 0.5}\n')
    page = TestClient(application(Library(tmp_path)), base_url="http://127.0.0.1").get("/runs/new").text
    assert "Killed." in page and "Running when it was killed: train dpo seed 0." in page
    assert "the same command goes on from here" in page and "Was running" in page
    assert "step 2, loss 0.5 (first 0.75)" in page  # as far as it came
    assert log.is_file()


def test_the_stream_ends_where_the_run_does(runs: Path, tmp_path: Path) -> None:
    """A finished run has its table: the page goes there."""
    (tmp_path / "new" / "table1").mkdir(parents=True)
    (tmp_path / "new" / "table1" / "run.json").write_bytes((runs / "again" / "table1" / "run.json").read_bytes())
    with going_on(tmp_path) as (listener, _):
        library = Library(tmp_path)
        listener.on_finish(TRAIN.label, 1.0)
    assert asyncio.run(first_events(library, 6))[-1] == ("finished", {})


@contextmanager
def served(library: Library) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(application(library, 0.05), log_level="error", lifespan="off"))
    with open_socket(0) as place:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
        server.should_exit = server.force_exit = True
        thread.join(10)


def test_a_browser_follows_a_run_to_its_table(browser: Any, runs: Path, tmp_path: Path) -> None:
    """State, curve and failures change without a reload; what was opened stays open; then the table takes over."""
    copy = tmp_path / "runs"
    (copy / "new" / "table1").mkdir(parents=True)
    (copy / "new" / "table1" / "run.json").write_bytes((runs / "again" / "table1" / "run.json").read_bytes())
    (copy / "store").symlink_to(runs / "store")
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.set_default_timeout(SECONDS)
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    stages = [TRAIN, Stage("score", {"benchmark": "x"})]
    with served(Library(copy, ["new"])) as address:
        with recorded(copy / "new", stages, [stage.key for stage in stages], RunListener()) as listener:
            listener.on_start(TRAIN.label)
            page.goto(address)
            assert page.inner_text("#live-state strong") == "Running."
            page.locator("summary", has_text="Waiting: 1").click()
            listener.on_progress(TRAIN.label, 5, 10, f"steps {HOSTILE}")
            page.wait_for_selector(".running small:has-text('5 of 10 steps')")
            assert page.locator("details[data-key=waiting]").get_attribute("open") is not None
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            listener.on_finish(TRAIN.label, 1.0)
            page.wait_for_selector("#live-state:has-text('1 of 2 stages done')")
            listener.on_finish(stages[1].label, 1.0)
        page.wait_for_selector("#table-1")
        assert page.url == f"{address}/runs/new/report"
        assert page.evaluate("window.hacked") is None and messages == []
        page.close()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("uvicorn", "starlette")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "distilbench.viewing.server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"pip install 'distilbench\[view\]'"):
        verify.view(["made-up"], runs)


def test_a_target_that_cannot_be_shown_leaves_the_others(runs: Path, tmp_path: Path) -> None:
    """Its score is gone: the page of the other table says so in a section of its own."""
    record = read_run(runs / "again" / "table1" / "run.json")
    cells = tuple(replace(cell, score="0" * 32) for cell in record.cells)
    (tmp_path / "store").symlink_to(runs / "store")
    write_run(tmp_path / "new" / "table1" / "run.json", record)
    write_run(tmp_path / "new" / "figure4" / "run.json", replace(record, cells=cells))
    page = TestClient(application(Library(tmp_path)), base_url="http://127.0.0.1").get("/runs/new")
    assert page.status_code == 200 and 'id="table-1"' in page.text
    assert "figure4: not shown" in page.text and "which is not in the store" in page.text


def test_the_command_serves_until_it_is_stopped(runs: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = command("view", "made-up", "--runs", str(runs), "--port", str(port))
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line == f"made-up: http://127.0.0.1:{port}/ (this machine only; Ctrl-C ends it)\n"
            # a reply, not an open port: only a server that replies has its handler of Ctrl-C (where a parent ignores
            # that signal, a child does too until it says otherwise)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as reply:
                assert reply.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(20) in (0, 130)
        finally:
            process.kill()
        assert "Traceback" not in process.stderr.read()
