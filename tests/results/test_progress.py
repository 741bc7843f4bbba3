"""What a command writes while it runs, read while it runs, after it ended, and after it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.contracts.stage import RunListener, Stage
from results.run.progress import (
    BEFORE,
    DONE,
    FAILED,
    RUNNING,
    WAITING,
    CommandProgress,
    ProgressReader,
    newest_progress,
    recorded,
)
from results.store import locks
from results.store.store import ArtifactStore
from tests.command import ROOT

STAGES = [Stage("train", {"n": number}, row=f"row{number}", seed=0) for number in range(4)]
LABELS = [stage.label for stage in STAGES]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def read(folder: Path) -> CommandProgress:
    path = newest_progress(folder)
    assert path is not None
    return ProgressReader(path).read()


def states(progress: CommandProgress) -> list[str]:
    return [stage.state for stage in progress.stages]


def test_a_stage_that_the_command_did_not_name_is_passed_over(tmp_path: Path) -> None:
    with recorded(tmp_path, STAGES, [STAGES[0].key], RunListener()) as listener:
        listener.on_start("train nobody seed 7")
        assert [stage.label for stage in read(tmp_path).stages] == LABELS


def test_nobody_finds_a_file_that_is_not_held_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has its lock, another command would take it for that of a command that is gone, and remove it."""
    path, found = tmp_path / "1.jsonl", list[bool]()

    def lock(handle: int, flags: int) -> None:
        found.append(path.exists())
        flock(handle, flags)

    flock = locks.fcntl.flock
    monkeypatch.setattr(locks.fcntl, "flock", lock)
    handle = locks.hold_file(path)
    assert found == [False] and locks.is_held(path) is True
    os.close(handle)
    assert locks.is_held(path) is False and [file.name for file in tmp_path.iterdir()] == ["1.jsonl"]


def test_of_the_folders_of_one_stage_the_newest_comes_first(tmp_path: Path) -> None:
    """Their names are random: a killed command's folder must not stand for the one that is written now."""
    store = ArtifactStore(tmp_path)
    for name, time in (("aa", 300.0), ("bb", 100.0), ("cc", 200.0)):
        folder = tmp_path / "tmp" / f"{STAGES[0].key}.{name}"
        folder.mkdir(parents=True)
        os.utime(folder, (time, time))
    assert [folder.suffix for folder in store.unfinished(STAGES[0].key)] == [".aa", ".cc", ".bb"]


def test_a_running_command_can_be_followed(tmp_path: Path) -> None:
    clock, todo = Clock(), [stage.key for stage in STAGES[1:]]
    with recorded(tmp_path, STAGES, todo, RunListener(), clock) as listener:
        reader = ProgressReader(next((tmp_path / "progress").iterdir()))
        assert states(reader.read()) == [BEFORE, WAITING, WAITING, WAITING]
        listener.on_start(LABELS[1])
        clock.now += 10  # loading
        listener.on_progress(LABELS[1], 100, 400, "steps, loss 0.7")
        clock.now += 0.5
        listener.on_progress(LABELS[1], 110, 400, "steps, loss 0.6")  # half a second later: not written
        clock.now += 19.5
        listener.on_progress(LABELS[1], 200, 400, "steps, loss 0.5")
        progress = reader.read()
        stage = progress.stages[1]
        assert progress.alive and not progress.was_killed
        assert (stage.state, stage.done, stage.info) == (RUNNING, 200, "steps, loss 0.5")
        # 200 - 100 steps in 20 s: 5 a second, and the 200 that are left take 40 s
        assert (stage.rate, stage.seconds_left) == (5.0, 40.0)
        assert progress.time_left() == (None, ["train"])  # of the two that wait nothing is known
        clock.now += 10
        listener.on_finish(LABELS[1], 40.0)
        listener.on_start(LABELS[2])
        # one training took 40 s, one at a time: 40 s for the one that begins and 40 s for the one that waits
        assert reader.read().time_left() == (80.0, [])
        listener.on_failure(LABELS[2], "no space left")
        assert reader.read().alive
    progress = reader.read()
    assert states(progress) == [BEFORE, DONE, FAILED, WAITING] and progress.stages[2].error == "no space left"
    assert not progress.alive and not progress.was_killed and progress.ended == clock.now


def test_the_last_score_is_that_of_the_stage_that_was_heard_of_last(tmp_path: Path) -> None:
    clock, stages = Clock(), [Stage("score", {"benchmark": name}) for name in ("gsm8k", "mt_bench")]
    with recorded(tmp_path, stages, [stage.key for stage in stages], RunListener(), clock) as listener:
        assert read(tmp_path).last_score == ""
        for stage, text in zip(stages, ("dpo/0: gsm8k.acc 33.50", "dpo/0: mt_bench.score 6.52"), strict=True):
            clock.now += 1
            listener.on_progress(stage.label, 1, 1, text)
            listener.on_finish(stage.label, 1.0)
            assert read(tmp_path).last_score == text


def test_a_command_that_was_stopped_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), recorded(tmp_path, STAGES, [STAGES[0].key], RunListener()):
        raise KeyboardInterrupt
    assert (read(tmp_path).problem, read(tmp_path).was_killed) == ("stopped", False)


def test_a_command_that_was_killed_left_its_stages_running(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom harness.contracts.stage import RunListener, Stage\n"
        "from results.run.progress import recorded\nstage = Stage('train', {}, row='dpo')\n"
        "with recorded(Path(sys.argv[1]), [stage], [stage.key], RunListener()) as listener:\n"
        "    listener.on_start(stage.label)\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -9
    progress = read(tmp_path)
    assert progress.was_killed and states(progress) == [RUNNING]
    with recorded(tmp_path, STAGES, [STAGES[0].key], RunListener()):  # the next command clears its file away
        assert len(list((tmp_path / "progress").iterdir())) == 1 and read(tmp_path).alive


def test_a_line_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    with recorded(tmp_path, STAGES, [STAGES[0].key], RunListener()) as listener:
        listener.on_start(LABELS[0])
    path = next((tmp_path / "progress").iterdir())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20] + b"\n" + lines[2][:-9])
    progress = read(tmp_path)
    assert states(progress) == [WAITING, BEFORE, BEFORE, BEFORE]
    assert progress.was_killed


def test_where_nothing_is_to_be_done_or_nothing_may_be_written_there_is_no_file(tmp_path: Path) -> None:
    with recorded(tmp_path, STAGES, [], RunListener()):
        pass
    (tmp_path / "file").write_text("")
    with recorded(tmp_path / "file", STAGES, [STAGES[0].key], RunListener()) as listener:
        listener.on_start(LABELS[0])
    assert newest_progress(tmp_path) is None and [path.name for path in tmp_path.iterdir()] == ["file"]
