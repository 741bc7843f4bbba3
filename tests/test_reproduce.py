"""``distilbench reproduce`` end to end on the embedded world: a second run, a change of one thing, what a run survives.

One small run is made for the whole session; the tests work on copies of its store. What takes longer is marked slow.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.models.checkpoint import POCKET
from harness.types import Reply, Request
from judges.kinds.pocket import MODEL, PocketJudge
from results.store.store import ArtifactStore
from tests.command import SMALL, command, distilbench, environment, settings
from tests.fakes.server import FakeServer

WORDS = ["reproduce", "table1", "--methods", "dpo,seqkd", *settings(*SMALL)]
STAGES = {"prompts": 1, "contamination": 1, "sample": 2, "reward": 1, "reference_logps": 1, "train": 2}
STAGES |= {"answer": 16, "judge": 16, "score": 4}
"""4 rows on 4 benchmarks; SeqKD adds the teacher's answers (a second sample stage), DPO the reference."""
METRICS = ("alpaca_eval.lc", "alpaca_eval.wr", "arena_hard.wr", "mt_bench.score", "gsm8k.acc")
FORMATS = ("md", "tex", "csv", "json", "png", "pdf")
DOWN = "judges.main={kind: openai, model: some-model, base_url: 'http://127.0.0.1:9/v1'}"


def listen_to_interrupts() -> None:
    """Ctrl-C at its default: the handler of Python is installed only where it is not ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Place:
    """A folder in which the command is run; results are under ``runs``."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def report(self) -> Path:
        return self.runs / "pocket" / "report"

    def run(self, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The small run, with further words."""
        return distilbench(*WORDS, *more, cwd=self.folder, **environment)

    def start(self, *more: str) -> subprocess.Popen[str]:
        """The same, in a process group of its own; what it says goes to a file."""
        with open(self.folder / "said.txt", "w", encoding="utf-8") as said:
            return subprocess.Popen(
                command(*WORDS, *more),
                stdout=said,
                stderr=said,
                text=True,
                cwd=self.folder,
                env=environment(),
                start_new_session=True,
                # a suite that was itself started in the background has Ctrl-C ignored, and hands that down
                preexec_fn=listen_to_interrupts,  # noqa: PLW1509, no threads here
            )

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text(encoding="utf-8")

    def artifacts(self) -> set[tuple[str, str]]:
        """(kind, key) of what is finished."""
        return {(each.kind, each.key) for each in ArtifactStore(self.runs / "store").list()}

    def rows(self) -> list[dict[str, str]]:
        """``table1.csv``."""
        with open(self.report / "table1.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def ran(self) -> tuple[int, int]:
        """(stages in all, stages that were there already) of the last run, as ``run.json`` says."""
        run = json.loads((self.runs / "pocket" / "table1" / "run.json").read_text(encoding="utf-8"))
        return run["stages_total"], run["stages_cached"]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The small run, made once: by the first of pytest's worker processes that asks for it."""
    root = tmp_path_factory.getbasetemp()
    place = Place((root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "small-run")
    place.folder.mkdir(exist_ok=True)
    finished = place.folder / "finished.json"
    with open(place.folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            done = place.run()
            finished.write_text(json.dumps([done.returncode, done.stdout, done.stderr]), encoding="utf-8")
    code, out, errors = json.loads(finished.read_text(encoding="utf-8"))
    assert code == 0, errors
    assert "Teacher" in out and "SeqKD" in out
    return place


@pytest.fixture
def copy(base: Place, tmp_path: Path) -> Place:
    """The finished small run, to change."""
    shutil.copytree(base.runs, tmp_path / "runs")
    return Place(tmp_path)


def kinds(artifacts: set[tuple[str, str]]) -> Counter[str]:
    return Counter(kind for kind, _ in artifacts)


def labels(place: Place, artifacts: set[tuple[str, str]], kind: str) -> set[str]:
    store = ArtifactStore(place.runs / "store")
    return {store.meta(kind, key)["label"] for each, key in artifacts if each == kind}


def say(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of the command, in this process: for what ends before any work begins."""
    from distilbench.cli import main

    monkeypatch.setattr(sys, "argv", ["distilbench", *words])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as left:
        main()
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


# What comes of a run


def test_every_stage_is_in_the_store_and_every_format_is_written(base: Place) -> None:
    assert kinds(base.artifacts()) == STAGES
    assert base.ran() == (44, 0)
    sizes = {form: (base.report / f"table1.{form}").stat().st_size for form in FORMATS}
    assert min(sizes.values()) > 500, sizes
    assert (base.report / "table1.png").read_bytes().startswith(b"\x89PNG")


def test_the_csv_has_every_row_and_metric_with_its_n(base: Place) -> None:
    rows = base.rows()
    assert [(row["row"], row["metric"]) for row in rows] == [
        (row, metric) for row in ("teacher", "student", "seqkd", "dpo") for metric in METRICS
    ]
    for row in rows:
        if row["metric"] == "alpaca_eval.lc":
            assert row["value"] == "" and "below 100 scored questions" in row["note"]
        else:
            assert (row["n"], row["unscored"]) == ("8", "0")
            assert float(row["low"]) <= float(row["value"]) <= float(row["high"])


# The same again, and a change of one thing


WATCHED = """
import json, os, sys
from distilbench.cli import main
try:
    main()
finally:
    with open(os.environ["LOADED"], "w") as file:
        json.dump(sorted(sys.modules), file)
"""


def watched(place: Place, *words: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run the command and see which modules it loaded."""
    loaded = place.folder / "loaded.json"
    done = subprocess.run(
        [sys.executable, "-P", "-c", WATCHED, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=place.folder,
        env=environment(LOADED=str(loaded)),
    )
    assert done.returncode == 0, done.stderr
    return done, set(json.loads(loaded.read_text(encoding="utf-8")))


def cpu_of_children() -> float:
    """CPU seconds of all processes that this one has waited for so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a report, but for the record of what its figures were drawn from, which holds measured times."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(".")}


def test_a_second_run_computes_nothing(copy: Place) -> None:
    before, files = copy.artifacts(), contents(copy.report)
    start = cpu_of_children()
    done, loaded = watched(copy, *WORDS)
    assert cpu_of_children() - start < 5, "seconds of CPU: no matter how busy the machine is"
    assert "44 stages: 44 were done already, 0 ran now" in done.stderr
    assert copy.ran() == (44, 44)
    assert copy.artifacts() == before
    assert contents(copy.report) == files
    assert not loaded & {"torch", "transformers", "lm_eval", "trl", "datasets"}


def test_v_says_what_is_in_the_store_what_runs_and_no_secret(copy: Place) -> None:
    """``-v`` on a run that judges again: the parent's lines and the workers'."""
    # a key that happens to be a word of the stages' labels: the parent and its workers must blank it
    done = distilbench("-v", *WORDS, *settings("judges.main.noise=1.25"), cwd=copy.folder, SOME_API_KEY="mt_bench")
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stderr.splitlines() if "harness.run." in line]
    stored = [line for line in lines if "harness.run.scheduler: in the store: " in line]
    runner = "harness.run.scheduler: "
    begun = {line.split("begin ")[1] for line in lines if runner + "begin " in line}
    ended = {line.split("end ")[1].rsplit(":", 1)[0]: line for line in lines if runner + "end " in line}
    # 12 = 4 rows on the 3 benchmarks that have a judge, and a score for each of these; the other 29 of 44 are there
    assert (len(stored), len(begun)) == (29, 15)
    assert begun == set(ended)
    assert all(re.search(r"end [0-9a-f]{8} (judge|score) .*: \d+\.\d s$", line) for line in ended.values())
    assert not [line for line in lines if "mt_bench" in line]
    assert sum("(hidden)" in line for line in lines if "begin " in line) == 5, "4 judgments and a score"


def test_a_report_is_made_from_the_store_alone(copy: Place) -> None:
    files = contents(copy.report)
    shutil.rmtree(copy.report)
    done, loaded = watched(copy, "report", "table1")
    assert contents(copy.report) == files
    assert "DPO" in done.stdout
    assert not loaded & {"torch", "transformers", "lm_eval", "trl", "datasets"}


def test_another_judge_only_judges_and_scores(copy: Place) -> None:
    """12 = 4 rows on the 3 benchmarks that have a judge; GSM8K is graded by rule and stays."""
    before = copy.artifacts()
    done = copy.run(*settings("judges.main.noise=1.5"))
    assert done.returncode == 0, done.stderr
    assert kinds(copy.artifacts() - before) == {"judge": 12, "score": 3}
    assert copy.ran() == (44, 29)


@pytest.mark.slow
def test_several_targets_share_their_stages_and_have_runs_of_their_own(tmp_path: Path) -> None:
    """Table 2 has 26 stages (4 rows), Figure 6 20 (student, n = 2, 4, 8). In both: prompts, overlap, samples and
    rewards of n = 2, 4 and 8 (6), the students of 1/4 and 1/8 and the first round of 2/2 (3), answers and judgments of
    the first two (4): 15."""
    words = ["reproduce", "table2,figure6,table4", *settings(*SMALL)]
    place = Place(tmp_path)
    done = distilbench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 targets: 31 stages (46 if they shared none)" in done.stderr
    assert "31 stages: 0 were done already, 31 ran now" in done.stderr
    assert len(place.artifacts()) == 31
    names = {path.name for path in place.report.iterdir()}
    assert {"table2.md", "figure6.png", "figure6.pdf", "table4.csv"} <= names
    with open(place.report / "table2.csv", encoding="utf-8", newline="") as file:
        rows = {(row["row"], row["metric"]): row for row in csv.DictReader(file)}
    took = {row: float(rows[f"pad-ppd-{row}", "cost.time"]["value"]) for row in ("1x4", "2x2", "1x8", "2x4")}
    assert min(took.values()) > 0 and took["2x4"] > took["1x4"], "its first round is the whole of 1/4"
    written = contents(place.report)
    again = distilbench(*words, cwd=tmp_path)
    assert "31 stages: 31 were done already, 0 ran now" in again.stderr
    assert contents(place.report) == written
    report = distilbench("report", "all", cwd=tmp_path)
    assert report.returncode == 0 and "Figure 6" in report.stdout and "Table 1:" not in report.stdout


# Mistakes, before anything is run


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["reproduce", "tabel1"], "Did you mean 'table1'"),
        (["reproduce", "--recipe", "gone.yaml"], "gone.yaml"),
        (["reproduce", "--methods", "dop"], "--methods: the recipe has no dop"),
        (["reproduce", "--seeds", "one"], "seeds"),
        (["reproduce", "--set", "methods.dpo.beta=-1"], "methods.dpo.beta = -1: must be greater than 0. [--set]"),
        (["reproduce", "--set", "family.student=./gone"], "./gone"),
        (["reproduce", "--set", "family.student=pocket:pupil"], "pupil"),
        (["reproduce", "--set", "prompts={source: jsonl, path: gone.jsonl}"], "gone.jsonl"),
        (["plan", "--set", "train.batch_size"], "train.batch_size"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_message_and_exit_code_2(
    words: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, errors = say(words, monkeypatch, capsys)
    assert code == 2
    assert part in errors and "Traceback" not in errors
    assert out == ""
    assert not (tmp_path / "runs").exists()


def test_a_judge_that_is_down_is_known_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["table1", "--methods", "dpo", *settings(*SMALL, DOWN)]
    code, out, _ = say(["plan", *words], monkeypatch, capsys)
    assert code == 1, "the plan was made, and says that it cannot be carried out"
    assert "problem: judge 'main' (openai)" in out and "cannot be reached" in out
    code, _, errors = say(["reproduce", *words], monkeypatch, capsys)
    assert code == 2
    assert "nothing was started" in errors and "http://127.0.0.1:9/v1 cannot be reached" in errors
    assert not (tmp_path / "runs").exists()


# What a run survives


def until(holds: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240) -> None:
    """Wait for something while a process runs."""
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, f"the run ended too early, with code {process.returncode}"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def has(place: Place, kind: str) -> Callable[[], bool]:
    """Whether a folder of this kind is in the store (looked at from outside: opening the store would sweep it)."""
    return lambda: any((place.runs / "store" / kind).glob("*/*"))


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


def half_artifacts(place: Place) -> list[Path]:
    """Folders under their final name without a marker."""
    store = place.runs / "store"
    folders = [each for each in store.glob("*/*/*") if each.is_dir() and each.parts[-3] not in ("tmp", "locks")]
    assert folders
    return [each for each in folders if not (each / "meta.json").is_file()]


@pytest.mark.slow
def test_killed_thrice_the_same_command_finishes(base: Place, tmp_path: Path) -> None:
    """kill -9 while the student is sampled, trained, judged; in the end the table is that of an undisturbed run."""
    place = Place(tmp_path)
    for kind in ("prompts", "reward", "answer"):
        process = place.start()
        until(has(place, kind), process)
        workers = children(process.pid)
        process.kill()
        process.wait(timeout=30)
        end = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < end, "workers outlive their parent"
            time.sleep(0.05)
        assert not half_artifacts(place)
    before = place.artifacts()
    done = place.run()
    assert done.returncode == 0, done.stderr
    assert before < place.artifacts() == base.artifacts()
    assert not list((place.runs / "store" / "tmp").iterdir())
    assert contents(place.report) == contents(base.report)


@pytest.mark.slow
def test_ctrl_c_stops_at_once_and_the_same_command_goes_on(base: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    process = place.start()
    until(has(place, "sample"), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    start = time.monotonic()
    assert process.wait(timeout=30) == 130
    assert time.monotonic() - start < 10
    assert "what is done is kept" in place.said and "Traceback" not in place.said
    assert not half_artifacts(place)
    done = place.run()
    assert done.returncode == 0, done.stderr
    assert place.ran()[1] > 0, "what was finished is not done again"
    assert contents(place.report) == contents(base.report)


@pytest.mark.slow
def test_two_runs_at_once_in_one_store(base: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    first, second = place.start(), place.start()
    assert (first.wait(timeout=300), second.wait(timeout=300)) == (0, 0), place.said
    assert place.artifacts() == base.artifacts()
    assert contents(place.report) == contents(base.report)


@pytest.mark.slow
def test_a_judge_that_dies_midway_is_asked_only_for_the_rest(copy: Place) -> None:
    """The server gives 30 replies and then resets every connection; after it is back, no request is paid twice."""
    judge, replies = PocketJudge(), 30
    down = True

    def respond(request: Request) -> Reply:
        return judge.reply(request)

    def choose(content: str, visit: int) -> str | None:
        return "reset" if down and server.answered.total() >= replies else None

    with FakeServer(respond, choose, models=(MODEL,)) as server:
        openai = f"judges.main={{kind: openai, model: {MODEL}, base_url: '{server.base_url}'}}"
        words = settings(openai, "ask.retries=0", "ask.concurrency=2")
        before = copy.artifacts()
        done = copy.run(*words, OPENAI_API_KEY="correct-horse-battery")
        assert done.returncode == 1
        assert "replies are kept" in done.stderr and "Traceback" not in done.stderr
        assert "train" not in kinds(copy.artifacts() - before)
        kept = server.answered.total()
        assert kept >= replies

        down = False
        done = copy.run(*words, OPENAI_API_KEY="correct-horse-battery")
        assert done.returncode == 0, done.stderr
        assert server.answered.total() > kept
        assert set(server.answered.values()) == {1}, "a reply was paid for twice"
        calls = server.calls.total()
        assert copy.run(*words).returncode == 0
        assert server.calls.total() == calls, "a finished run asks nothing"
    assert kinds(copy.artifacts() - before)["judge"] == 12
    secrets = [file for file in copy.folder.rglob("*") if file.is_file() and b"correct-horse" in file.read_bytes()]
    assert not secrets, "a key reached a file"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for one student and a half, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = (POCKET / "student" / "model.safetensors").stat().st_size * 3 // 2
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_loses_nothing(base: Place, small_disk: Path) -> None:
    """The checks before the run see it coming; a run that goes on all the same stops with a message, and can go on."""
    place = Place(small_disk)
    done = place.run()
    assert done.returncode == 2
    assert "disk:" in done.stderr and "free space" in done.stderr
    assert not place.runs.exists()

    done = place.run("--force")
    assert done.returncode in (1, 2)
    assert "no space left" in done.stderr and "Traceback" not in done.stderr
    assert not half_artifacts(place)
    before = place.artifacts()

    subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
    done = place.run()
    assert done.returncode == 0, done.stderr
    assert before | base.artifacts() <= place.artifacts()  # those finished before, and scores of the rows that were
    assert contents(place.report) == contents(base.report)
