"""``studies/training.py`` compares like with like: in each round, TRL and we multiply in the precision asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from studies.training import Sizes, Trainers

SMALL = Sizes(prompt=6, response=4, prompts=2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_ours_and_trl_train_in_the_same_precision_in_every_round(dtype: str, student: Path, tmp_path: Path) -> None:
    trainers = Trainers(str(student), SMALL, dtype, tmp_path)
    runs = {"ours": trainers.ours("dpo", 2, packed=True), "trl": trainers.trl()}
    found: dict[str, set[torch.dtype]] = {}

    def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, torch.nn.Linear) and torch.is_grad_enabled():
            found.setdefault(name, set()).add(output.dtype)

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        for turn in range(2):
            for side, run in runs.items():
                name = f"{side} {turn}"
                assert run() > 0
    finally:
        hook.remove()
    assert found == {f"{side} {turn}": {getattr(torch, dtype)} for side in runs for turn in range(2)}


@pytest.mark.parametrize("method", ["minillm", "gkd"])
def test_live_responses_are_timed_apart(method: str, student: Path, tmp_path: Path) -> None:
    times = Trainers(str(student), SMALL, "float32", tmp_path).live(method)()
    assert times["rollouts"] > 0 and times["passes"] > 0
    assert times["share"] == times["rollouts"] / (times["rollouts"] + times["passes"])
    assert 2 <= times["tokens"] <= 2 * 4
