"""Artifacts copied through a place that fsspec knows, for machines that share no disk."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import fsspec
import pytest

from harness.contracts.stage import Stage
from harness.errors import UserError
from results.store import storage
from results.store.store import MARKER, ArtifactStore
from tests.fakes.s3 import local_s3


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with local_s3() as variables:
        yield variables


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/remote"
    for name, value in request.getfixturevalue("s3").items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}/runs"


def small(folder: Path) -> Mapping[str, object]:
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(b"w" * 1000)
    (folder / "notes.txt").write_text("one")
    return {"n": 1}


def again(folder: Path) -> Mapping[str, object]:
    raise AssertionError("it was made twice")


FIRST = Stage("train", {"n": 1})
SECOND = Stage("answer", {"n": 2}, {"model": FIRST.ref})


def test_an_artifact_travels_and_what_is_large_comes_when_it_is_read(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "LARGE", 100)
    worker = ArtifactStore(tmp_path / "driver").copied(url, tmp_path / "a")
    worker.write(FIRST, small)
    driver = ArtifactStore(tmp_path / "driver").copied(url)
    assert not driver.has(FIRST)
    driver.write(FIRST, again)
    folder = tmp_path / "driver" / "train" / FIRST.key[:2] / FIRST.key
    assert driver.has(FIRST) and sorted(file.name for file in folder.iterdir()) == [MARKER, "notes.txt"]
    # A later command knows where the rest lies.
    later = ArtifactStore(tmp_path / "driver")
    assert later.damage(FIRST.ref) == []
    assert (later.path("train", FIRST.key, "model") / "weights").read_bytes() == b"w" * 1000
    assert later.meta(*FIRST.ref) == worker.meta(*FIRST.ref)


def test_inputs_are_there_before_a_stage_and_those_of_the_driver_too(tmp_path: Path, url: str) -> None:
    ArtifactStore(tmp_path / "driver").write(FIRST, small)
    ArtifactStore(tmp_path / "driver").copied(url)
    node = ArtifactStore(tmp_path / "nowhere").copied(url, tmp_path / "b")

    def reads(folder: Path) -> Mapping[str, object]:
        assert (node.path(*FIRST.ref, "notes.txt")).read_text() == "one"
        (folder / "answers.jsonl").write_text("{}")
        return {}

    node.write(SECOND, reads)
    assert set(node.meta(*SECOND.ref)["input_files"]) == {"model"}
    assert ArtifactStore(tmp_path / "driver").copied(url).storage.finished() == {FIRST.ref, SECOND.ref}  # type: ignore[union-attr]


def test_what_is_half_there_does_not_count(tmp_path: Path, url: str) -> None:
    worker = ArtifactStore(tmp_path / "nowhere").copied(url, tmp_path / "a")
    put, count = storage.Storage._place.func(worker.storage), 0  # type: ignore[attr-defined, arg-type]

    class Dying:
        def __getattr__(self, name: str) -> object:
            return getattr(put[0], name)

        def put_file(self, local: str, remote: str) -> None:
            nonlocal count
            count += 1
            if count == 3:  # two files are there, the marker is not
                raise OSError("the machine died")
            put[0].put_file(local, remote)

    worker.storage.__dict__["_place"] = (Dying(), put[1])
    with pytest.raises(UserError, match="the machine died"):
        worker.write(FIRST, small)
    other = ArtifactStore(tmp_path / "nowhere").copied(url, tmp_path / "b")
    assert other.storage is not None and not other.storage.has(FIRST.ref)
    with pytest.raises(KeyError):
        other.path(*FIRST.ref)
    # Its own machine has it and copies it again; it is not made again.
    ArtifactStore(tmp_path / "nowhere").copied(url, tmp_path / "a").write(FIRST, again)
    assert other.path(*FIRST.ref, "notes.txt").read_text() == "one"


def test_a_marker_that_was_cut_short_does_not_count(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/remote"
    ArtifactStore(tmp_path / "x").copied(url, tmp_path / "a").write(FIRST, small)
    marker = tmp_path / "remote" / "train" / FIRST.key[:2] / FIRST.key / MARKER
    marker.write_text(marker.read_text()[:50])
    made: list[int] = []
    other = ArtifactStore(tmp_path / "x").copied(url, tmp_path / "b")
    other.write(FIRST, lambda folder: made.append(1) or small(folder))  # type: ignore[func-returns-value]
    assert made == [1] and other.storage is not None and other.storage.has(FIRST.ref)


def test_of_two_machines_that_made_other_bytes_each_keeps_its_own(tmp_path: Path, url: str) -> None:
    """As an engine may make them. The one that copied last counts, whole."""
    stores = {name: ArtifactStore(tmp_path / "x").copied(url, tmp_path / name) for name in ("one", "two")}

    def make_while_another_does(folder: Path) -> Mapping[str, object]:
        stores["two"].write(FIRST, lambda other: (other / "notes.txt").write_text("two") and {})
        (folder / "notes.txt").write_text("one")
        return {}

    stores["one"].write(FIRST, make_while_another_does)
    third = ArtifactStore(tmp_path / "x").copied(url, tmp_path / "three")
    texts = {
        name: store.path(*FIRST.ref, "notes.txt").read_text() for name, store in (*stores.items(), ("three", third))
    }
    assert texts == {"one": "one", "two": "two", "three": "one"} and third.damage(FIRST.ref) == []


def test_mistakes_say_what_to_do(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "s").copied(f"file://{tmp_path}/one")
    with pytest.raises(UserError, match=r"lie in file://.*/one, not in .*/two. Name another folder with --runs"):
        store.copied(f"file://{tmp_path}/two")
    with pytest.raises(UserError, match=r"storage nosuch://x: .*nosuch"):
        ArtifactStore(tmp_path / "t").copied("nosuch://x")
    (tmp_path / "file").touch()
    broken = ArtifactStore(tmp_path / "x").copied(f"file://{tmp_path}/file/inside", tmp_path / "a")
    with pytest.raises(UserError, match=r"failed .*credentials"):
        broken.write(FIRST, small)
    assert not (tmp_path / "a" / "train").exists()
