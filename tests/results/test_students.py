"""Students by name: links into the store, made anew with each run, and nothing else touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contracts.stage import Ref
from results.run.students import link_students
from results.store.store import ArtifactStore

A, B = Ref("train", "aa" * 16), Ref("train", "bb" * 16)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """``runs/NAME`` over a store with the checkpoints of A and B."""
    for ref in (A, B):
        model = tmp_path / "store" / ref.kind / ref.key[:2] / ref.key / "model"
        model.mkdir(parents=True)
        (model / "config.json").write_text(ref.key, encoding="utf-8")
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def names(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "students").iterdir())


def test_links_lead_to_the_checkpoints_and_hold_where_the_runs_are_moved(place: Path) -> None:
    link_students(place, {"dpo-seed0": A, "gone-seed0": Ref("train", "cc" * 16)}, ArtifactStore(place.parent / "store"))
    assert names(place) == ["dpo-seed0"], "a checkpoint that is not here has no name"
    moved = place.parent.rename(place.parent.with_name("moved")) / "mine" / "students" / "dpo-seed0"
    assert (moved / "config.json").read_text(encoding="utf-8") == A.key
    assert moved.is_symlink() and not moved.readlink().is_absolute()


def test_stale_names_go_and_what_is_not_ours_stays(place: Path) -> None:
    store = ArtifactStore(place.parent / "store")
    link_students(place, {"dpo-seed0": A, "kd-seed0": A}, store)
    (place / "students" / "mine").symlink_to("/etc")
    (place / "students" / "simpo-seed0").mkdir()
    (place / "students" / "notes.txt").write_text("../notes", encoding="utf-8")
    link_students(place, {"dpo-seed0": B, "simpo-seed0": B}, store)
    assert names(place) == ["dpo-seed0", "mine", "notes.txt", "simpo-seed0"]
    assert (place / "students" / "dpo-seed0" / "config.json").read_text(encoding="utf-8") == B.key
    assert not (place / "students" / "simpo-seed0").is_symlink()
    link_students(place, {}, store)
    assert names(place) == ["mine", "notes.txt", "simpo-seed0"]


def test_a_text_file_where_there_are_no_links(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: str, target_is_directory: bool = False) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    store = ArtifactStore(place.parent / "store")
    link_students(place, {"dpo-seed0": A, "kd-seed0": B}, store)
    link_students(place, {"dpo-seed0": A}, store)
    assert names(place) == ["dpo-seed0.txt"]
    target = (place / "students" / "dpo-seed0.txt").read_text(encoding="utf-8").strip()
    assert (place / "students" / target / "config.json").read_text(encoding="utf-8") == A.key


def test_a_folder_that_may_not_be_written_is_no_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(Path, "mkdir", refuse)
    link_students(place, {"dpo-seed0": A}, ArtifactStore(place.parent / "store"))
    assert not (place / "students").exists()
