"""Runs and stores that may only be read: what reads them works, tables are printed, and files go elsewhere."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import distilbench
from distilbench.cli import main
from harness.errors import UserError, system_error
from harness.records import write_records
from harness.types import Answer, Reply
from judges import BENCHMARKS
from judges.ledger.ledger import Ledger
from tests.command import environment

OPTIONS: dict[str, Any] = {
    "benchmarks": ["mt_bench"], "questions": "pocket", "limit": 4, "name": "mine", "min_coverage": 0.0,
    "set": {"statistics.replicates": 100, "compute.executor": "inline"},
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``runs``: four answers to MT-Bench (``mine``), made elsewhere and judged by the pocket judge."""
    folder = tmp_path_factory.mktemp("read-only")
    questions = BENCHMARKS["mt_bench"].questions(BENCHMARKS["mt_bench"].config(limit=4))
    rows = [Answer(question.id, ("mine", "mine too"), (True, True), (1, 2)) for question in questions]
    (folder / "mine").mkdir()
    write_records(folder / "mine/mt_bench.jsonl", rows)
    distilbench.evaluate([f"mine=answers:{folder / 'mine'}"], "pocket", runs=folder / "runs", **OPTIONS)
    return folder


@pytest.fixture
def read_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs, where the system refuses to make a file or folder: root may write where permissions say no."""
    runs = root / "runs"

    def refuse(name: str, owner: object, is_new: Any = lambda *_: True) -> None:
        original = getattr(owner, name)

        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if runs in Path(path).absolute().parents and is_new(path, *arguments):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return original(path, *arguments, **options)

        monkeypatch.setattr(owner, name, call)

    refuse("mkdir", os, lambda path, *_: not Path(path).exists())
    refuse("open", os, lambda path, flags, *_: bool(flags & os.O_CREAT))
    refuse("write_bytes", Path)
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and Path(path) == runs))
    return runs


def test_tables_are_printed_and_files_go_elsewhere(
    root: Path, read_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", "eval", "--recipe", "mine", "--runs", str(read_only), "--min-coverage", "0"]
    monkeypatch.setattr(sys, "argv", ["distilbench", *words])
    with pytest.raises(SystemExit) as left:
        main()
    shown = capsys.readouterr()
    assert not left.value.code and "MT-Bench" in shown.out
    assert f"no files: {read_only / 'mine/report'}: read-only file system. report --out FOLDER" in shown.err
    run = distilbench.report("eval", "mine", runs=read_only, min_coverage=0.0, html=True, out=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"eval.md", "eval.json", "eval.png", "report.html"}
    assert run.unwritten == []
    monkeypatch.setattr(sys, "argv", ["distilbench", *words, "--out", str(read_only / "out")])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"error: {read_only / 'out'}: read-only file system. Name a folder elsewhere" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"and 2 stages are still to be made.*with --runs; a copy of this one keeps"):
        distilbench.compare_judges("mine", ["n={kind: pocket, noise: 3}"], runs=read_only, out=tmp_path / "judges")
    # Nothing is left to be made, so the same evaluation prints its table again.
    run = distilbench.evaluate([f"mine=answers:{root / 'mine'}"], "pocket", runs=read_only, **OPTIONS)
    assert run.unwritten and run.outcome is not None and not run.outcome.completed_keys


def test_what_only_reads_works_on_a_real_read_only_mount(root: Path, tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root, to mount a folder read-only")
    shutil.copytree(root / "runs", tmp_path / "runs")
    code = """if True:
        import errno, sys
        from pathlib import Path
        from distilbench.cli.app import app
        from results.store.locks import write_atomic
        try: write_atomic(Path("runs/new"), b"")
        except OSError as error: assert (error.errno, error.filename) == (errno.EROFS, "runs/new"), error
        else: sys.exit("not read-only")
        for words in (["judge", "status"], ["verify", "runs/mine"], ["explain", "eval", "mine", "mt_bench.score",
                      "--recipe", "mine"], ["report", "eval", "--recipe", "mine", "--min-coverage", "0"],
                      ["plan", "table1", "--set", "prompts.n=32", "--methods", "dpo"]):
            app(words, standalone_mode=False)
    """
    mount = 'mount --bind runs runs && mount -o remount,ro,bind runs && exec "$0" -P -c "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, sys.executable, code], cwd=tmp_path, env=environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for text in ("pocket-judge-1", "equal to 1e-9", "checkpoint", "MT-Bench", "judge calls"):
        assert text in done.stdout, text
    assert "no files: runs/mine/report: read-only file system" in done.stderr


def test_a_ledger_without_its_index_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a folder whose writer was killed: the newest replies are in the ``-wal`` file."""
    (tmp_path / "copy").mkdir()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put("key", "endpoint", "model", Reply("text", "stop", "model", 1, 1, None))
        ledger.flush()
        for name in ("ledger.sqlite", "ledger.sqlite-wal"):
            shutil.copyfile(tmp_path / name, tmp_path / "copy" / name)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with Ledger(tmp_path / "copy/ledger.sqlite", create=False) as ledger:
        assert ledger.get(["key"])["key"].text == "text"
    assert len(list((tmp_path / "copy").iterdir())) == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EROFS, "/a: read-only file system. Name a folder elsewhere"),
        (errno.EACCES, "/a: permission denied. Name a folder elsewhere"),
        (errno.ENAMETOOLONG, "/a: file name too long. File systems take names of up to 255 bytes"),
        (errno.ENOTDIR, "/a: not a directory. A part of this path is a file"),
        (errno.ENOSPC, "no space left writing /a. What was finished is kept"),
        (errno.EBADF, None),
    ],
)
def test_what_the_system_refuses_is_a_message(code: int, message: str | None) -> None:
    text = system_error(OSError(code, os.strerror(code), "/a"))
    assert text is None if message is None else (text or "").startswith(message)
    assert len(system_error(OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000)) or "") < 400


@pytest.mark.parametrize("words", [["plan", "--recipe", "LONG"], ["report", "--runs", "LONG"], ["verify", "LONG"]])
def test_a_name_that_is_too_long_is_a_message(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["distilbench", *(word.replace("LONG", "x" * 300) for word in words)])
    with pytest.raises(SystemExit, match="2"):
        main()
    said = capsys.readouterr().err
    if "--recipe" in words:
        assert "is neither a shipped recipe nor a file" in said
    else:
        assert "file name too long. File systems take names of up to 255 bytes" in said
