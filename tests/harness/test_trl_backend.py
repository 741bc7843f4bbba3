"""TRL's trainers on the same rows, batches and hyperparameters as ours: whole runs of 20 steps, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harness.contracts.method import DroppedPrompt
from harness.errors import UserError
from harness.training import TrainOptions
from harness.training.fit import fit, place
from harness.training.options import Lora
from harness.training.trl_backend import fit_trl
from methods import METHODS
from tests.tiny import tiny_groups, tiny_training


def curve(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.trl])
def test_twenty_steps_agree(name: str, student: Path, tmp_path: Path) -> None:
    """Ours: float32 chunked log-softmax. TRL's: its own fused head, its own reference. Only rounding may differ."""
    torch.set_num_threads(1)
    method = METHODS[name]
    usable = [group for group in tiny_groups(120) if not isinstance(method.rows(group, method.config()), DroppedPrompt)]
    run = tiny_training(method, student, student, groups=usable[:80], epochs=2, warmup_ratio=0.1)
    ours, theirs = fit(run, tmp_path / "ours"), fit_trl(run, tmp_path / "theirs")
    assert ours.steps == theirs.steps == 20
    assert ours.response_tokens == theirs.response_tokens
    assert ours.tokens == theirs.tokens or ours.packing.startswith("packed"), "packed rows count a prompt once"
    for mine, other in zip(curve(tmp_path / "ours"), curve(tmp_path / "theirs"), strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert mine["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)
        assert mine["learning_rate"] == pytest.approx(other["learning_rate"])
    first, second = (load_file(tmp_path / side / "model.safetensors") for side in ("ours", "theirs"))
    assert first.keys() == second.keys()
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < 1e-5
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == sorted(
        path.name for path in (tmp_path / "theirs").iterdir()
    )


def test_four_methods_have_a_trl_trainer_and_others_are_refused(student: Path, tmp_path: Path) -> None:
    assert [name for name, method in METHODS.items() if method.trl] == ["seqkd", "dpo", "best-of-n", "ipo"]
    run = tiny_training(METHODS["pad-ppd"], student, student)
    with pytest.raises(UserError, match=r"backend trl cannot train 'pad-ppd': .*seqkd, best-of-n, dpo, ipo"):
        fit_trl(run, tmp_path / "out")
    with pytest.raises(ValueError, match="micro_batch = 3 must divide batch_size = 8"):
        TrainOptions(batch_size=8, micro_batch=3, backend="trl")


def test_several_processes_packing_and_adapters_are_refused(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process would take a whole batch: eight prompts a step would be sixteen."""
    for change in {"packing": "always"}, {"lora": Lora()}, {}:
        if not change:
            monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(UserError, match="all weights, on separate rows, in one process"):
            fit_trl(tiny_training(METHODS["dpo"], student, student, **change), tmp_path / "out")


def test_one_gpu_is_used_of_several() -> None:
    """Trainer would spread the batch over all of them, each with a whole one."""
    state = SimpleNamespace(distributed_type=SimpleNamespace(value="NO"))
    arguments: Any = SimpleNamespace(n_gpu=4, distributed_state=state)
    place(arguments, torch.device("cpu"))
    assert arguments._n_gpu == 1
