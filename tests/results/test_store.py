"""The store: whole or nothing, once per key, two processes, kill -9, a full disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.contracts.stage import Ref, Stage
from harness.errors import UserError
from results.store.locks import file_lock
from results.store.store import ArtifactStore

STAGE = Stage("sample", {"n": 4, "seed": 0}, {"prompts": Ref("prompts", "ab" * 16)})
ROOT = Path(__file__).parents[2]
# A writer that signs on in LOG when it starts filling, then takes its time.
WRITER = """
import sys, time
from pathlib import Path
from harness.contracts.stage import Ref, Stage
from results.store.store import ArtifactStore
root, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
def fill(folder):
    (folder / "data.txt").write_text("part")
    with log.open("a") as file:
        file.write("filling\\n")
    time.sleep(seconds)
    (folder / "data.txt").write_text("whole")
    return {}
stage = Stage("sample", {"n": 4, "seed": 0}, {"prompts": Ref("prompts", "ab" * 16)})
ArtifactStore(root).write(stage, fill)
"""


def fill(folder: Path) -> dict[str, object]:
    (folder / "responses.jsonl").write_text("{}\n")
    return {"tokens": 12, "loss": float("nan")}


def start_writer(root: Path, log: Path, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(root), str(log), str(seconds)], cwd=ROOT)


def wait_for(log: Path) -> None:
    deadline = time.monotonic() + 20
    while not log.exists():
        assert time.monotonic() < deadline, "the writer did not start"
        time.sleep(0.02)


def test_an_artifact_has_its_files_and_its_provenance(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert not store.has(STAGE)
    folder = store.write(STAGE, fill)
    assert folder == tmp_path / "sample" / STAGE.key[:2] / STAGE.key == store.path("sample", STAGE.key)
    assert store.has(STAGE)
    meta = store.meta("sample", STAGE.key)
    assert meta["params"] == {"n": 4, "seed": 0}
    assert meta["inputs"] == {"prompts": "prompts/" + "ab" * 16}
    assert meta["measurements"] == {"tokens": 12, "loss": "nan"}  # kept as text: the work is not lost over a NaN
    assert meta["packages"]["numpy"]
    assert meta["pid"] == os.getpid()
    assert meta["peak_memory_bytes"] > 1_000_000
    assert [artifact.key for artifact in store.list()] == [STAGE.key]
    assert store.list("score") == ()
    assert not any((tmp_path / "tmp").iterdir())
    assert store.write(STAGE, lambda folder: pytest.fail("filled again")) == folder
    assert store.meta("sample", STAGE.key) == meta


def test_a_fill_that_raises_leaves_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)

    def fails(folder: Path) -> dict[str, object]:
        (folder / "half").write_text("half")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        store.write(STAGE, fails)
    assert not store.has(STAGE)
    assert not any((tmp_path / "tmp").iterdir())
    store.write(STAGE, fill)
    assert store.has(STAGE)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_is_free_and_what_to_do(tmp_path: Path, code: int) -> None:
    def fill_disk(folder: Path) -> dict[str, object]:
        (folder / "part").write_bytes(b"x" * 2_000_000)
        raise RuntimeError("the library's own words") from OSError(code, "disk")

    with pytest.raises(UserError, match=r"(GB|MB) free, and 2\.0 MB of this .* same command again"):
        ArtifactStore(tmp_path).write(STAGE, fill_disk)
    assert not ArtifactStore(tmp_path).has(STAGE)


def test_two_processes_make_one_artifact_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    writers = [start_writer(tmp_path / "store", log, 0.5) for _ in range(2)]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    assert log.read_text() == "filling\n"
    assert (ArtifactStore(tmp_path / "store").path("sample", STAGE.key) / "data.txt").read_text() == "whole"


def test_kill_9_while_filling_counts_for_nothing_and_the_next_run_does_it(tmp_path: Path) -> None:
    root, log = tmp_path / "store", tmp_path / "log"
    writer = start_writer(root, log, 60)
    wait_for(log)
    assert len(list((root / "tmp").iterdir())) == 1
    ArtifactStore(root)  # opening beside a living writer leaves its folder alone
    assert len(list((root / "tmp").iterdir())) == 1
    writer.send_signal(signal.SIGKILL)
    writer.wait(10)
    store = ArtifactStore(root)
    assert not any((root / "tmp").iterdir())
    assert not store.has(STAGE)
    store.write(STAGE, fill)
    assert store.has(STAGE)


def test_scratch_outlives_a_failure_and_goes_with_success(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)

    def dies(folder: Path) -> dict[str, object]:
        (store.scratch(STAGE) / "checkpoint").write_text("half way")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store.write(STAGE, dies)
    again = ArtifactStore(tmp_path)
    assert (again.scratch(STAGE) / "checkpoint").read_text() == "half way"
    assert again.list() == ()
    again.write(STAGE, fill)
    assert not (tmp_path / "scratch" / STAGE.key).exists()


def test_scratch_that_a_kill_left_beside_a_finished_artifact_is_swept(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.write(STAGE, fill)
    unfinished = Stage("sample", {"n": 5})
    for stage in (STAGE, unfinished):
        (store.scratch(stage) / "journal.jsonl").write_text("a batch")
    ArtifactStore(tmp_path)
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == [unfinished.key]


def test_an_artifact_without_its_marker_is_made_anew(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    folder = store.write(STAGE, fill)
    (folder / "meta.json").unlink()
    assert not store.has(STAGE)
    assert store.list() == ()
    with pytest.raises(KeyError):
        store.path("sample", STAGE.key)
    store.write(STAGE, fill)
    assert store.has(STAGE)


@pytest.mark.parametrize("text", ["{", "[]", "null"])
def test_damage_is_named_with_its_remedy(tmp_path: Path, text: str) -> None:
    store = ArtifactStore(tmp_path)
    folder = store.write(STAGE, fill)
    (folder / "meta.json").write_text(text)
    with pytest.raises(UserError, match=r"move the folder .* run again: what is still read"):
        store.meta("sample", STAGE.key)


@pytest.mark.parametrize("kind", ["..", "../../etc", "a/b", "", "tmp", "locks"])
def test_no_name_climbs_out_of_the_store(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="cannot name a folder"):
        ArtifactStore(tmp_path).path(kind, "ab" * 16)


def test_opening_creates_nothing_and_a_lock_is_exclusive(tmp_path: Path) -> None:
    ArtifactStore(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    code = (
        "import sys; from pathlib import Path; from results.store.locks import file_lock\n"
        "with file_lock(Path(sys.argv[1]), wait=False) as free: print(free)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with file_lock(tmp_path / "lock", "a test"):
        busy = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    free = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (busy.stdout.strip(), free.stdout.strip()) == ("False", "True")


def test_a_file_that_was_changed_is_refused_where_it_is_read_and_other_files_are_read(tmp_path: Path) -> None:
    def two(folder: Path) -> dict[str, object]:
        (folder / "model").mkdir()
        (folder / "model" / "weights.bin").write_bytes(b"weights")
        (folder / "scores.json").write_text("[1]")
        return {}

    folder = ArtifactStore(tmp_path).write(STAGE, two)
    whole = ArtifactStore(tmp_path)
    assert whole.path(*STAGE.ref, "model") == folder / "model"
    assert whole.damage(STAGE.ref) == []
    (folder / "scores.json").write_text("[2]")
    store = ArtifactStore(tmp_path)
    assert store.path(*STAGE.ref) == folder
    assert store.path(*STAGE.ref, "model") == folder / "model"
    for part in ("scores.json", "."):
        with pytest.raises(UserError, match=r"scores\.json is not what its stage wrote .* move the folder"):
            store.path(*STAGE.ref, part)
    (folder / "scores.json").unlink()
    with pytest.raises(UserError, match=r"scores\.json cannot be read"):
        store.path(*STAGE.ref, "scores.json")
    (folder / "model" / "weights.bin").write_bytes(b"Weights")
    with pytest.raises(UserError, match=r"weights\.bin"):
        ArtifactStore(tmp_path).path(*STAGE.ref, "model")
    # a file is hashed once per process: this store has compared it before
    assert whole.path(*STAGE.ref, "model") == folder / "model"


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: json.dumps({**meta, "params": {"n": 5, "seed": 0}}),
        lambda meta: json.dumps({**meta, "inputs": {"prompts": "prompts/" + "cd" * 16}}),
        lambda meta: json.dumps({**meta, "wall_seconds": 77.0}),
        lambda meta: json.dumps({**meta, "files": {}}),
        lambda meta: json.dumps(meta, indent=1, ensure_ascii=False),  # the newline at its end is gone
        lambda meta: json.dumps(meta).replace('"checksum"', '"checks9um"'),
        lambda meta: json.dumps({name: value for name, value in meta.items() if name != "checksum"}),
        lambda meta: json.dumps({name: value for name, value in meta.items() if name not in ("files", "checksum")}),
        lambda meta: json.dumps(meta)[:200],
        lambda meta: "[]",
        lambda meta: "{}",
        lambda meta: "",
    ],
)
def test_a_marker_that_was_changed_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], str]) -> None:
    store = ArtifactStore(tmp_path)
    marker = store.write(STAGE, fill) / "meta.json"
    marker.write_text(change(json.loads(marker.read_text())))
    with pytest.raises(UserError, match=r"meta\.json cannot be read: .* move the folder"):
        store.meta(*STAGE.ref)
    with pytest.raises(UserError, match=r"meta\.json cannot be read"):
        store.path(*STAGE.ref, "responses.jsonl")


def test_a_file_that_was_added_is_found(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    (store.write(STAGE, fill) / "adapter.bin").write_text("")
    assert [text.split()[0].rpartition("/")[2] for text in store.damage(STAGE.ref)] == ["adapter.bin"]


def test_a_store_on_a_read_only_disk_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ArtifactStore(tmp_path).write(STAGE, fill)
    (tmp_path / "tmp" / f"{STAGE.key}.left").mkdir()

    def refuse(*args: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    assert ArtifactStore(tmp_path).path(*STAGE.ref, "responses.jsonl") == folder / "responses.jsonl"
