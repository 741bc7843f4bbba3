"""A training run that is killed goes on from its last checkpoint, to the same bytes as a run in one go."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.training.fit import MARKER, checkpoints, fit, newest
from harness.training.options import Lora
from methods import METHODS
from tests.tiny import tiny_groups, tiny_training


class KilledError(Exception):
    """Stands for the end of the process."""


def training(name: str, folder: Path, **changes: Any) -> Any:
    """10 prompts: two epochs of steps with 4, 4 and 2 prompts."""
    options = {"epochs": 2, "batch_size": 4, "micro_batch": 2, "warmup_ratio": 0.1, "checkpoint_minutes": 0.0}
    return tiny_training(METHODS[name], folder, folder, **{"groups": tiny_groups(10), **options, **changes})


def result(folder: Path) -> tuple[str, bytes]:
    """Hash of the weights, and the training curve."""
    weights = (folder / "model.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest(), (folder / "training.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("name", "step", "changes"),
    [
        ("dpo", 2, {}),
        ("pad-ppd", 3, {}),
        ("pad-vpd", 4, {"lora": Lora(r=2, dropout=0.3)}),
        ("minillm", 1, {}),
        ("minillm", 5, {}),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(
    name: str, step: int, changes: dict[str, Any], student: Path, tmp_path: Path
) -> None:
    """Killed while step ``step + 1`` is reported: the checkpoint of ``step`` is the last whole one. 6 steps in all."""
    run = training(name, student, **changes)

    def killer(done: int, total: int, logs: Any) -> None:
        if done == step + 1:
            raise KilledError

    fit(run, tmp_path / "whole", scratch=tmp_path / "other")
    torch.rand(11)  # a new process starts with random states of its own
    with pytest.raises(KilledError):
        fit(run, tmp_path / "killed", killer, tmp_path / "scratch")
    assert newest(tmp_path / "scratch") == tmp_path / "scratch" / f"checkpoint-{step}"
    torch.rand(5)
    seen: list[int] = []
    report = fit(run, tmp_path / "resumed", lambda done, total, logs: seen.append(done), tmp_path / "scratch")
    assert report.resumed_at == step and report.steps == 6
    assert seen == list(range(step + 1, 7))
    assert result(tmp_path / "resumed") == result(tmp_path / "whole")
    plain = fit(replace(run, options=replace(run.options, checkpoint_minutes=None)), tmp_path / "plain")
    assert result(tmp_path / "plain") == result(tmp_path / "whole"), "writing checkpoints changes nothing"
    assert (report.tokens, report.response_tokens) == (plain.tokens, plain.response_tokens)


def test_a_checkpoint_that_is_not_whole_is_not_used(tmp_path: Path) -> None:
    for step in (8, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert newest(tmp_path) is None
    for step in (8, 10):
        (tmp_path / f"checkpoint-{step}" / MARKER).write_text("{}")
    assert newest(tmp_path) == tmp_path / "checkpoint-10", "12 was being written; and 10 comes after 8"


def test_one_checkpoint_is_kept_and_rare_ones_are_rare(student: Path, tmp_path: Path) -> None:
    run = training("simpo", student)
    fit(run, tmp_path / "often", scratch=tmp_path / "a")
    assert [path.name for path in checkpoints(tmp_path / "a")] == ["checkpoint-5"], "none after the last step"
    rare = replace(run, options=replace(run.options, checkpoint_minutes=60.0))
    fit(rare, tmp_path / "rare", scratch=tmp_path / "b")
    assert checkpoints(tmp_path / "b") == []
