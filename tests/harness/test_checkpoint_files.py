"""A plan passes no model folder that cannot be loaded, and says everything that is missing at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.models.checkpoint import resolve, token_ids
from tests.harness.test_plan import checkpoint, plan

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(checkpoint(tmp_path / "model", ("a", "b")))


def refusal(folder: Path) -> str:
    """What a plan says of this student."""
    with pytest.raises(UserError) as told:
        plan(f"family.student={folder}")
    assert f"model folder '{folder}' cannot be loaded: " in str(told.value)
    return str(told.value)


def test_a_whole_folder_is_taken(folder: Path) -> None:
    assert resolve(str(folder)).location == str(folder)


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = refusal(tmp_path / "empty")
    assert "no config.json; no weights (model.safetensors, or " in said and "; no tokenizer.json." in said


@pytest.mark.parametrize(
    ("file", "content", "part"),
    [
        ("tokenizer.json", "{", "tokenizer.json cannot be read as JSON"),
        ("tokenizer.json", "{}", "tokenizer.json holds no vocabulary"),
        ("tokenizer.json", "[]", "tokenizer.json is not a JSON object"),
        ("tokenizer.json", '{"model": {"vocab": 5}}', "tokenizer.json holds no vocabulary"),
        ("config.json", "{", "config.json cannot be read as JSON"),
        ("config.json", "{}", "config.json names no model_type"),
    ],
)
def test_broken_files_are_named(folder: Path, file: str, content: str, part: str) -> None:
    (folder / file).write_text(content)
    said = refusal(folder)
    assert part in said and "no weights" not in said


def test_pickles_are_refused_with_the_reason(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "training_args.bin").write_bytes(b"")
    said = refusal(folder)
    assert "no model.safetensors; pytorch_model.bin is in a format that can run code when it is loaded" in said


def test_every_shard_must_be_there(folder: Path) -> None:
    shards = [f"model-{n}-of-2.safetensors" for n in (1, 2)]
    (folder / "model.safetensors").rename(folder / shards[0])
    (folder / INDEX).write_text(json.dumps({"weight_map": dict(zip("xyz", [*shards, shards[0]], strict=True))}))
    assert f"{INDEX} names {shards[1]}, not there" in refusal(folder)
    (folder / shards[1]).write_bytes(b"")
    assert resolve(str(folder)).location == str(folder)
    (folder / INDEX).write_text("{}")
    assert "has no weight_map" in refusal(folder)


def test_a_tokenizer_that_changed_is_read_again(folder: Path) -> None:
    file = folder / "tokenizer.json"
    assert token_ids(file) == {"a": 0, "b": 1}
    file.write_text('{"model": {"vocab": {"other": 0}}}')
    assert token_ids(file) == {"other": 0}
