"""What a command does while it runs: ``runs/NAME/progress/*.jsonl``, one file per command, one line per event.

The command holds a lock on its file until it ends, and then writes a last line. The kernel frees the lock of a command
that was killed: its file has no last line, and nobody holds it. Nothing of a run depends on these files.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.contracts.stage import RunListener, Stage
from harness.errors import UserError
from harness.text import parse_json, replace_surrogates
from results.store.locks import hold_file, is_held

FOLDER = "progress"
EVERY = 1.0  # seconds between two lines about one stage
FRESH = 60.0  # seconds after its last line in which a command counts as alive where the file system has no locks
BEFORE, WAITING, RUNNING, DONE, ELSEWHERE, FAILED = "done before", "waiting", "running", "done", "by another", "failed"
SCORE = "score"  # the kind of stage whose progress tells scores
Clock = Callable[[], float]


class ProgressFile(RunListener):
    """Passes on what it hears, and appends it to a file. A full disk stops the file, not the run."""

    def __init__(self, handle: int, listener: RunListener, clock: Clock = time.time) -> None:
        self._handle, self._listener, self._clock = handle, listener, clock
        self._lock = threading.Lock()  # the executor's thread reports progress, the main one results
        self._written: dict[str, float] = {}

    def write(self, event: str, **values: object) -> None:
        line = json.dumps({"event": event, "time": round(self._clock(), 2), **values}, separators=(",", ":"))
        with self._lock, suppress(OSError):
            os.write(self._handle, f"{line}\n".encode())

    def on_plan(self, total: int, cached: int, kinds: Mapping[str, int] = MappingProxyType({})) -> None:
        self._listener.on_plan(total, cached, kinds)

    def on_start(self, label: str) -> None:
        self.write("start", label=label)
        self._listener.on_start(label)

    def on_progress(self, label: str, done: int, total: int, info: str) -> None:
        now = self._clock()
        if done >= total or now - self._written.get(label, 0.0) >= EVERY:
            self._written[label] = now
            self.write("progress", label=label, done=done, total=total, info=replace_surrogates(info[:200]))
        self._listener.on_progress(label, done, total, info)

    def on_finish(self, label: str, seconds: float) -> None:
        self.write("finish", label=label)
        self._listener.on_finish(label, seconds)

    def on_finish_elsewhere(self, label: str) -> None:
        self.write("elsewhere", label=label)
        self._listener.on_finish_elsewhere(label)

    def on_failure(self, label: str, error: str) -> None:
        self.write("failure", label=label, error=replace_surrogates(error[-2000:]))
        self._listener.on_failure(label, error)


@contextmanager
def recorded(
    folder: Path, stages: Sequence[Stage], todo: Collection[str], listener: RunListener, clock: Clock = time.time
) -> Iterator[RunListener]:
    """A listener that also writes a progress file of the run in ``folder``. ``todo``: keys of the stages that are to
    run; where there are none, or nothing may be written, there is no file. Files of commands that are gone are
    removed."""
    if not todo:
        yield listener
        return
    place = folder / FOLDER
    try:
        place.mkdir(parents=True, exist_ok=True)
        earlier = list(place.glob("*.jsonl"))
        handle = hold_file(place / f"{time.time_ns()}-{os.getpid()}.jsonl")
    except OSError:
        yield listener
        return
    for file in earlier:
        with suppress(OSError):
            if is_held(file) is False:
                file.unlink()
    recorder, problem = ProgressFile(handle, listener, clock), ""
    recorder.write("begin", pid=os.getpid(), host=socket.gethostname(), stages=[_line(one, todo) for one in stages])
    try:
        yield recorder
    except BaseException as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        problem = "stopped" if isinstance(error, KeyboardInterrupt) else f"{kind}{error}"
        raise
    finally:
        recorder.write("end", problem=replace_surrogates(problem[:2000]))
        os.close(handle)


def _line(stage: Stage, todo: Collection[str]) -> dict[str, object]:
    return {
        "key": stage.key, "kind": stage.kind, "label": stage.label, "row": stage.row, "seed": stage.seed,
        "benchmark": str(stage.params.get("benchmark", "")), "todo": stage.key in todo,
        "answers": str(stage.inputs.get("answers", "")),
    }  # fmt: skip


@dataclass
class StageProgress:
    """One stage of a command. Times in seconds since 1970."""

    key: str
    kind: str
    label: str
    row: str = ""
    seed: int | None = None
    benchmark: str = ""
    answers: str = ""  # of a judge stage: whose answers it judges, as ``Ref`` prints them
    state: str = WAITING
    began: float = 0.0
    ended: float = 0.0
    done: int = 0
    total: int = 0
    info: str = ""
    error: str = ""
    first: tuple[float, int] | None = None  # when it was first heard of, and what it had done then
    last: float = 0.0  # when it was last heard of

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.began)

    @property
    def rate(self) -> float | None:
        """Items per second, of this process alone: a stage that goes on after a kill begins with what was done."""
        if self.first is None or self.last <= self.first[0] or self.done <= self.first[1]:
            return None
        return (self.done - self.first[1]) / (self.last - self.first[0])

    @property
    def seconds_left(self) -> float | None:
        rate = self.rate
        return None if not rate or not self.total else (self.total - self.done) / rate


@dataclass
class CommandProgress:
    """A command as its file tells it. ``alive``: it runs now; else it ended, or (``ended`` is 0) was killed."""

    path: Path
    began: float = 0.0
    ended: float = 0.0
    heard: float = 0.0  # time of the newest line
    alive: bool = False
    problem: str = ""  # of a command that ended early: ``stopped``, or its error
    pid: int = 0
    host: str = ""
    stages: list[StageProgress] = field(default_factory=list)

    @property
    def was_killed(self) -> bool:
        return not self.alive and not self.ended

    def of(self, *states: str) -> list[StageProgress]:
        return [stage for stage in self.stages if stage.state in states]

    @property
    def last_score(self) -> str:
        """``dpo/0: mt_bench.score 6.52``; empty: none yet."""
        told = [stage for stage in self.stages if stage.kind == SCORE and stage.info]
        return max(told, key=lambda stage: stage.last).info if told else ""

    def time_left(self) -> tuple[float | None, list[str]]:
        """Seconds, about, from what finished stages of each kind took and how many ran at once, and the kinds that are
        not counted, because none has finished yet. ``None``: those are more than a fifth of what is to be done."""
        times: dict[str, list[float]] = {}
        for stage in self.of(DONE):
            times.setdefault(stage.kind, []).append(stage.seconds)
        work, unknown, ahead = 0.0, list[str](), self.of(RUNNING, WAITING)
        for stage in ahead:
            left = stage.seconds_left if stage.state == RUNNING else None
            if left is None and stage.kind in times:
                usual = sum(times[stage.kind]) / len(times[stage.kind])
                left = max(0.0, usual - (self.heard - stage.began if stage.state == RUNNING else 0.0))
            if left is None:
                unknown.append(stage.kind)
            else:
                work += left
        busy = sum(stage.seconds for stage in self.of(DONE, FAILED))
        busy += sum(self.heard - stage.began for stage in self.of(RUNNING))
        at_once = busy / (self.heard - self.began) if self.heard > self.began else 1.0
        is_known = 5 * len(unknown) <= len(ahead)
        return work / max(1.0, at_once) if is_known else None, list(dict.fromkeys(unknown))


class ProgressReader:
    """Follows one file; each ``read`` takes in the lines that are new."""

    def __init__(self, path: Path) -> None:
        self.progress = CommandProgress(path)
        self._place = 0
        self._by_label: dict[str, list[StageProgress]] = {}

    def read(self) -> CommandProgress:
        """Raises OSError where the file is gone."""
        path = self.progress.path
        held = is_held(path)  # first: a last line that is written now is read below
        with path.open("rb") as file:
            file.seek(self._place)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]  # a line may be half written
        self._place += len(whole)
        for line in whole.splitlines():
            with suppress(ValueError, KeyError, TypeError, OverflowError):  # a full disk cuts a line short
                self._take(parse_json(line))
        if held is None:
            held = time.time() - path.stat().st_mtime < FRESH
        self.progress.alive = held and not self.progress.ended
        return self.progress

    def _take(self, line: Mapping[str, Any]) -> None:
        event, now, progress = line["event"], float(line["time"]), self.progress
        progress.heard = now
        if event == "begin":
            progress.began, progress.pid, progress.host = now, int(line["pid"]), str(line["host"])
            for values in line["stages"]:
                state = WAITING if values["todo"] else BEFORE
                stage = StageProgress(**{name: value for name, value in values.items() if name != "todo"}, state=state)
                progress.stages.append(stage)
                self._by_label.setdefault(stage.label, []).append(stage)
        elif event == "end":
            progress.ended, progress.problem = now, str(line["problem"])
        elif (known := self._stage(str(line["label"]))) is not None:
            self._change(known, event, now, line)

    def _change(self, stage: StageProgress, event: str, now: float, line: Mapping[str, Any]) -> None:
        if event in ("start", "progress"):
            if stage.state != RUNNING:
                stage.state, stage.began, stage.first = RUNNING, now, None
            if event == "progress":
                stage.done, stage.total, stage.info = int(line["done"]), int(line["total"]), str(line["info"])
                stage.first, stage.last = stage.first or (now, stage.done), now
            return
        stage.began, stage.ended = stage.began or now, now
        stage.state = {"finish": DONE, "elsewhere": ELSEWHERE}.get(event, FAILED)
        stage.error = str(line.get("error", ""))

    def _stage(self, label: str) -> StageProgress | None:
        """Two tables may have stages of one label: the first that is not over is meant."""
        stages = self._by_label.get(label, [])
        return next((one for one in stages if one.state in (WAITING, RUNNING)), stages[0] if stages else None)


def newest_progress(folder: Path) -> Path | None:
    """The file of the command that runs, else of the one that ran last; ``None``: there is none."""
    files = sorted((folder / FOLDER).glob("*.jsonl"), reverse=True)
    held = []
    for file in files:
        with suppress(OSError):
            held += [file] if is_held(file) else []
    return next(iter(held or files), None)
