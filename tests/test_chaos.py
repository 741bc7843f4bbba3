"""kill -9 at random instants: in the end the same bytes, no answered call asked twice, and nothing left behind.

Three kills in every run of the tests. ``tox -e chaos`` makes 100 on a run with every kind of stage, each hit five
times or more.
``DISTILBENCH_CHAOS_SEED`` repeats what a failure printed, as far as the machine's own timing allows.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from distilbench.workflows.verify import verify
from harness.stages import STAGES
from harness.types import Reply, Request
from judges.kinds.pocket import MODEL, PocketJudge
from results.store.store import ArtifactStore
from tests.command import SMALL, command, environment, settings
from tests.fakes.server import FakeServer

KILLS = int(os.environ.get("DISTILBENCH_CHAOS", "0"))
CALLS = 4
"""That a stage may have under way."""
ASKED = ("ask.concurrency=2", f"ask.max_concurrency={CALLS}")
EVENT = re.compile(r": (begin|end|failed) ([0-9a-f]{8}) ")


@pytest.fixture
def rng() -> random.Random:
    seed = os.environ.get("DISTILBENCH_CHAOS_SEED") or str(random.SystemRandom().randrange(10**6))
    sys.stdout.write(f"DISTILBENCH_CHAOS_SEED={seed}\n")  # pytest shows it where the test fails
    return random.Random(seed)


@dataclass
class Place:
    """A folder in which one command runs, again and again."""

    folder: Path
    words: Sequence[str]

    def start(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(exist_ok=True)
        with open(self.folder / "said.txt", "wb") as said, open(self.folder / "table.txt", "wb") as table:
            words, files = command("-v", *self.words), {"stdout": table, "stderr": said}
            return subprocess.Popen(words, cwd=self.folder, env=environment(), start_new_session=True, **files)

    def said(self, offset: int = 0) -> str:
        return (self.folder / "said.txt").read_bytes()[offset:].decode()

    def under_way(self, offset: int) -> set[str]:
        """First letters of the keys of the stages that have begun and not ended, after ``offset`` of the log."""
        last = {key: event for event, key in EVENT.findall(self.said(offset))}
        return {key for key, event in last.items() if event == "begin"}

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def workers(self) -> list[psutil.Process]:
        return [process for process in self.processes() if "spawn_main" in " ".join(process.cmdline())]

    def replies(self) -> int:
        return len(self.rows("SELECT key FROM replies"))

    def rows(self, query: str) -> list[object]:
        """Of a copy of the ledger, so that the next command finds it as the killed one left it."""
        path = self.folder / "runs" / "ledger.sqlite"
        if not path.exists():
            return []
        with TemporaryDirectory() as folder:
            for file in path.parent.glob("ledger.sqlite*"):
                if not file.name.endswith("-shm"):
                    shutil.copy(file, folder)
            with closing(sqlite3.connect(Path(folder) / path.name)) as ledger:
                tables = ledger.execute("SELECT name FROM sqlite_master WHERE name = 'replies'").fetchall()
                return ledger.execute(query).fetchall() if tables else []

    def names(self) -> set[str]:
        """All files and folders of the runs. Figures are drawn from what stands under names with a dot."""
        runs = self.folder / "runs"
        # the folder of what a stage goes on from stays, empty, once a stage was long enough to need it
        paths = {path.relative_to(runs).as_posix() for path in runs.rglob("*") if "progress" not in path.parts}
        return paths - {"store/scratch"}

    def tables(self) -> dict[str, bytes]:
        files = [*self.folder.glob("runs/*/report/*"), self.folder / "table.txt"]
        return {file.name: file.read_bytes() for file in files if file.is_file() and not file.name.startswith(".")}


@dataclass
class Chaos:
    """Kills a command in ``place`` until it has been killed ``kills`` times, and finishes it."""

    rng: random.Random
    server: FakeServer
    whole: Place
    hits: Counter[str] = field(default_factory=Counter)
    """Kind of a stage that was under way to the kills that met it."""
    lost: int = 0
    """Replies that were sent and are in no ledger, over all kills in one place."""

    def __post_init__(self) -> None:
        start = time.monotonic()
        assert self.whole.start().wait(timeout=600) == 0, self.whole.said()
        self.seconds = time.monotonic() - start
        store = ArtifactStore(self.whole.folder / "runs" / "store")
        self.kinds = {ref.key[:8]: ref.kind for ref in store.list()}
        self.durations = {ref.key[:8]: store.meta(*ref)["wall_seconds"] for ref in store.list()}

    def torture(self, place: Place, kills: int) -> int:
        """Returns how many kills it took; fewer than ``kills`` where the command was quicker."""
        self.server.calls.clear()
        self.server.answered.clear()
        self.lost = done = 0
        try:
            while True:
                process, offset = place.start(), 0
                while done < kills and self.wait(place, process, offset):
                    done += 1
                    halted = halt(process.pid)  # so that the kill meets what is counted, however long looking takes
                    self.hits.update({self.kinds[key] for key in place.under_way(offset)})
                    victims = self.choose(place, process, may_survive=offset == 0)
                    offset = len(place.said().encode())
                    self.kill(victims)
                    send(signal.SIGCONT, halted)
                    if process.pid in [victim.pid for victim in victims]:
                        break
                code = process.wait(timeout=600)
                self.check_after(place, code, done)
                if code == 0:
                    return done
        finally:
            self.kill(place.processes())  # where a check failed

    def wait(self, place: Place, process: subprocess.Popen[bytes], offset: int) -> bool:
        """Until a random instant: of all that the command still takes, or of a stage of a kind that was hit least."""
        left = self.left(place)
        missing = [kind for kind in STAGES if kind in left.values()]
        aim, begun = "", place.under_way(offset)
        end = time.monotonic() + self.rng.uniform(0, self.seconds * max(1, len(left)) / len(self.kinds))
        if missing and self.rng.random() < 0.75:
            aim, end = min(missing, key=lambda kind: (self.hits[kind], self.rng.random())), float("inf")
        while process.poll() is None and time.monotonic() < end:
            keys = [key for key in place.under_way(offset) - begun if self.kinds[key] == aim] if aim else []
            if keys:
                aim, end = "", time.monotonic() + self.rng.uniform(0, self.durations[keys[0]])
            time.sleep(0.0005)
        return process.poll() is None

    def left(self, place: Place) -> dict[str, str]:
        """The stages that are to be done: first letters of the key to the kind."""
        store = place.folder / "runs" / "store"
        there = {path.name[:8] for path in store.glob("*/??/*") if (path / "meta.json").is_file()}
        return {key: kind for key, kind in self.kinds.items() if key not in there}

    def choose(self, place: Place, process: subprocess.Popen[bytes], may_survive: bool) -> list[psutil.Process]:
        """All processes at once; the command alone, whose workers must notice; or a worker, which it survives. Not
        twice: the second death over one stage makes it fail, and a score of the other rows is made."""
        workers = place.workers() if may_survive else []
        if workers and self.rng.random() < 0.2:
            return [self.rng.choice(workers)]
        return [psutil.Process(process.pid)] if self.rng.random() < 0.3 else place.processes()

    @staticmethod
    def kill(victims: Sequence[psutil.Process]) -> None:
        for victim in victims:
            try:
                victim.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue

    def check_after(self, place: Place, code: int, kills: int) -> None:
        end = time.monotonic() + 30
        while left := place.processes():
            assert time.monotonic() < end, f"left behind after {kills} kills: {left}"
            time.sleep(0.02)
        time.sleep(0.1)  # the server ends the calls of the dead
        said = place.said()
        assert "Traceback" not in said, said
        assert code in (0, -signal.SIGKILL), (code, said)
        store = place.folder / "runs" / "store"
        folders = [path for path in store.glob("*/??/*") if path.is_dir()]
        assert all((path / "meta.json").is_file() for path in folders), "half an artifact under its final name"
        now = self.server.answered.total() - place.replies()
        # Of two workers at most, and of those that began anew after a worker died, before the command itself did.
        assert 0 <= now - self.lost <= 2 * 2 * CALLS, (now, self.lost)
        self.lost = now

    def check_end(self, place: Place) -> None:
        assert place.tables() == self.whole.tables()
        assert place.names() == self.whole.names(), place.names() ^ self.whole.names()
        assert not list((place.folder / "runs" / "store" / "tmp").iterdir())
        assert place.rows("SELECT key FROM claims") == []
        twice = sum(count - 1 for count in self.server.answered.values())
        assert twice <= self.lost, "a call that was answered and kept was asked again"
        (run,) = [path.parent.parent for path in place.folder.glob("runs/*/*/run.json")]
        verification = verify(run)
        assert verification.problems == verification.missing == []
        assert verification.equal == verification.scores > 0


def halt(command: int) -> list[int]:
    """Stop a command and its workers where they are, within a millisecond; their ids."""
    # psutil looks through all processes of the machine, and a short stage would be over
    tasks = Path(f"/proc/{command}/task").glob("*/children")
    halted = [command, *(int(number) for file in tasks for number in file.read_text().split())]
    send(signal.SIGSTOP, halted)
    return halted


def send(number: signal.Signals, processes: Sequence[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def respond(request: Request) -> Reply:
    """Answers, and judges in every format."""
    text = request.messages[-1]["content"]
    if request.top_logprobs:
        return Reply("m", "stop", "fake", 100, 1, {"m": -0.2, "M": -1.7})
    return Reply(f"[[A>B]] [[{len(text) % 10 + 1}]] 42", "stop", "fake", 100, 10)


def test_three_kills_at_random_instants(tmp_path: Path, rng: random.Random) -> None:
    """Answers and judgments over HTTP, and scores: no model is loaded, which takes longer than all the rest."""
    with FakeServer(respond, latency=0.01) as server:
        place = f"fake@{server.base_url}"
        words = ["eval", "--model", f"mine={place}", "--judge", place, "--questions", "pocket", "--limit", "6"]
        words += [
            "--benchmarks",
            "alpaca_eval,mt_bench",
            *settings("compute.workers=1", "statistics.replicates=100", *ASKED),
        ]
        chaos = Chaos(rng, server, Place(tmp_path / "whole", words))
        kills = 0
        for number in range(10):
            killed = Place(tmp_path / f"killed-{number}", words)
            kills += chaos.torture(killed, 3 - kills)
            chaos.check_end(killed)
            if kills == 3:
                break
        assert kills == 3


@pytest.mark.skipif(not KILLS, reason="an hour: tox -e chaos")
def test_a_hundred_kills_of_a_run_with_every_kind_of_stage(tmp_path: Path, rng: random.Random) -> None:
    judge = PocketJudge()
    with FakeServer(judge.reply, models=(MODEL,), latency=0.01) as server:
        changes = (
            f"judges.main={{kind: openai, model: {MODEL}, base_url: '{server.base_url}'}}",
            # two rounds that share one pool, in place of its own row
            "methods.pool={method: pad-ppd, rounds: 2, resample: false, sampling: {n: 2}}",
            "compute.workers=2",
            *(f"benchmarks.{name}.limit=4" for name in ("alpaca_eval", "arena_hard", "mt_bench", "gsm8k")),
        )
        words = ["reproduce", "table1", "--methods", "dckd,pool", *settings(*SMALL, *changes, *ASKED)]
        chaos = Chaos(rng, server, Place(tmp_path / "whole", words))
        assert set(chaos.kinds.values()) == set(STAGES)
        kills, number = 0, 0
        while kills < KILLS or (KILLS >= 100 and min(chaos.hits[kind] for kind in STAGES) < 5):
            place = Place(tmp_path / f"killed-{number}", words)
            kills += chaos.torture(place, max(1, min(20, KILLS - kills)))
            chaos.check_end(place)
            number += 1
            sys.stdout.write(json.dumps({"kills": kills, "runs": number, **chaos.hits}) + "\n")
